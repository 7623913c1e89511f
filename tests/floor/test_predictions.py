"""Predictions of every kind become the same log-probabilities; what is none is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca import InputError
from inpca.predictions import ArrayPredictions, to_log_probs


def models(seed=0, shape=(4, 6, 5)):
    return np.random.default_rng(seed).dirichlet(np.ones(shape[2]), shape[:2])


def as_kind(p, kind):
    return {"probs": p, "log_probs": np.log(p), "logits": np.log(p) - 7, "sqrt_probs": np.sqrt(p)}[
        kind
    ]


KINDS = ["probs", "log_probs", "logits", "sqrt_probs"]


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
def test_to_log_probs__of_every_kind_are_the_same(kind, seed):
    p = models(seed)
    np.testing.assert_allclose(np.exp(to_log_probs(as_kind(p, kind), kind)), p, atol=1e-14)


@pytest.mark.parametrize(("dtype", "expected"), [("f2", "f4"), ("f4", "f4"), ("f8", "f8")])
def test_to_log_probs__keep_the_precision_but_widen_half(dtype, expected):
    log_p = to_log_probs(np.log(models()).astype(dtype), "log_probs")
    assert log_p.dtype == np.dtype(expected)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=-1), 1, atol=1e-6)


def test_to_log_probs__renormalise_small_errors():
    p = models() * (1 + 5e-5)
    np.testing.assert_allclose(np.exp(to_log_probs(p)).sum(axis=-1), 1, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_log_probs__take_one_hot_rows_and_integers(dtype):
    one_hot = np.eye(3)[[0, 2, 1]][None]
    expected = np.where(one_hot > 0, 0, -np.inf)
    assert (to_log_probs(one_hot.astype(dtype)) == expected).all()
    assert (to_log_probs(expected.astype(dtype), "log_probs") == expected).all()
    assert (to_log_probs(one_hot.astype(int)) == expected).all()


def test_to_log_probs__keep_what_float32_probabilities_lose():
    logits = np.array([[[0.0, -200.0]]], np.float32)
    assert to_log_probs(logits, "logits")[0, 0, 1] == -200


def change(value, where=(2, 3, 1)):
    p = models()
    p[where] = value
    return p


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        (change(np.nan), "probs", "NaN or infinite values in model 2, sample 3"),
        (change(np.inf), "log_probs", "NaN or infinite values in model 2, sample 3"),
        (change(-np.inf), "logits", "NaN or infinite values in model 2, sample 3"),
        (change(-0.1), "probs", "negative probabilities in model 2, sample 3; pass kind='logits'"),
        (change(0.9), "probs", "model 2, sample 3 sums to"),
        (np.full((1, 1, 2), -np.inf), "log_probs", "model 0, sample 0 sums to 0"),
        (np.full((1, 1, 2), 800.0), "log_probs", "model 0, sample 0 sums to inf"),
        (np.ones((2, 3, 1)), "probs", "n_classes ≥ 2"),
        (np.ones((2, 0, 3)), "probs", "n_samples ≥ 1"),
        (np.ones(3), "probs", "must have shape"),
        (np.array([["a", "b"]]), "probs", "must hold real numbers"),
        (np.ones((2, 3, 2), complex), "probs", "must hold real numbers"),
        (models(), "odds", "`kind` must be one of probs, log_probs, logits, sqrt_probs"),
    ],
)
def test_to_log_probs__refuse_bad_input_and_say_where(values, kind, message):
    with pytest.raises(InputError, match=message):
        to_log_probs(values, kind)


def test_array_predictions__read_the_block_that_is_asked_for():
    p = models(shape=(7, 9, 3))
    source = ArrayPredictions(p)
    assert source.shape == (7, 9, 3)
    assert source.dtype == np.float64
    block = source.read(slice(2, 5), slice(4, 8))
    np.testing.assert_allclose(np.exp(block), p[2:5, 4:8], atol=1e-14)


def test_array_predictions__are_checked_when_they_are_made():
    with pytest.raises(InputError, match=r"`Y` has NaN .* model 2, sample 3"):
        ArrayPredictions(change(np.nan), name="Y")
    with pytest.raises(InputError, match=r"one model .* goes in as X\[None\]"):
        ArrayPredictions(models()[0])


def test_fingerprint__changes_with_order_values_kind_and_precision():
    p = models()
    prints = [
        ArrayPredictions(values, kind).fingerprint()
        for values, kind in [
            (p, "probs"),
            (p[::-1], "probs"),
            (p[:, ::-1], "probs"),
            (p.astype(np.float32), "probs"),
            (np.log(p), "log_probs"),
            (np.log(p), "logits"),
        ]
    ]
    assert len(set(prints)) == len(prints)
    assert ArrayPredictions(p.copy()).fingerprint() == prints[0]
