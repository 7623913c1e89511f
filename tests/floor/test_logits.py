"""Logits that are none: refused wherever predictions come in."""

import numpy as np
import pytest

import inpca
from inpca import InputError
from inpca.predictions import ArrayPredictions, to_log_probs

N, C = 6, 4


def logits(n_models=3, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(n_models, N, C)).astype(dtype)


def softmax(values):
    p = np.exp(values.astype(np.float64))
    return (p / p.sum(-1, keepdims=True)).astype(values.dtype)


@pytest.fixture
def ensemble(tmp_path):
    return inpca.create_ensemble(
        tmp_path / "e", sample_sets={"train": np.zeros(N, int)}, n_classes=C
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits__that_are_probabilities_are_refused_in_memory_and_in_ensembles(ensemble, dtype):
    values = logits(dtype=dtype)
    values[1] = softmax(values[1])
    for use in (
        lambda: to_log_probs(values, "logits"),
        lambda: ArrayPredictions(values, "logits"),
        lambda: inpca.pairwise_distances(values, kind="logits"),
        lambda: ensemble.add_run("a", {"train": values}, kind="logits"),
    ):
        with pytest.raises(InputError, match="has probabilities in model 1"):
            use()
    assert ensemble.runs == []
    with ensemble.start_run("b") as writer, pytest.raises(InputError, match="has probabilities"):
        writer.append({"train": values[1]}, kind="logits", step=0, epoch=0)


def test_run__that_was_not_filled_to_its_end_is_refused(ensemble):
    values = logits(4)
    values[2:] = 0
    with pytest.raises(InputError, match=r"only zeros in model 2 \(2 models of 4"):
        ensemble.add_run("a", {"train": values}, kind="logits")
    assert ensemble.runs == []


def test_checkpoint__of_zeros_after_one_that_is_none_is_refused(ensemble):
    values = logits(1)[0]
    with ensemble.start_run("a") as writer:
        for step in range(2):
            writer.append({"train": values * 0}, kind="logits", step=step, epoch=0)
        writer.append({"train": values}, kind="logits", step=2, epoch=1)
        with pytest.raises(InputError, match="only zeros in model 3"):
            writer.append({"train": values * 0}, kind="logits", step=3, epoch=1)


def test_run__may_begin_with_zeros_as_a_network_does(ensemble):
    values = logits(4)
    values[:2] = 0
    ensemble.add_run("a", {"train": values}, kind="logits")
    np.testing.assert_allclose(ensemble.models["train_loss"][:2], np.log(C), rtol=1e-6)
    inpca.pairwise_distances(values[::-1], kind="logits")  # models of an array have no order


def test_logits__some_zeros_some_positive_rows_are_no_reason(tmp_path):
    values = logits()
    values[0, 0], values[1, :-1] = 0, softmax(values[1, :-1])
    values[2] = np.abs(values[2])
    to_log_probs(values, "logits")
    source = ArrayPredictions(values, "logits")
    source.read(slice(0, 2), slice(0, 1))  # of which all are zeros, or probabilities


def test_logits__meant_as_such_go_in_as_log_probabilities():
    to_log_probs(np.full((1, N, C), -np.log(C)), "log_probs")
    to_log_probs(np.full((1, N, C), 1 / C), "logits", known_logits=True)
