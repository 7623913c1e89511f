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


NONE = {"zeros": (np.zeros_like, "has only zeros"), "probabilities": (softmax, "has probabilities")}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("case", NONE)
def test_logits__that_are_none_are_refused_in_memory_and_in_ensembles(tmp_path, case, dtype):
    change, message = NONE[case]
    values = logits(dtype=dtype)
    values[1] = change(values[1])
    ensemble = inpca.create_ensemble(
        tmp_path / "e", sample_sets={"train": np.zeros(N, int)}, n_classes=C
    )
    for use in (
        lambda: to_log_probs(values, "logits"),
        lambda: ArrayPredictions(values, "logits"),
        lambda: inpca.pairwise_distances(values, kind="logits"),
        lambda: ensemble.add_run("a", {"train": values}, kind="logits"),
    ):
        with pytest.raises(InputError, match=rf"{message} in model 1"):
            use()
    assert ensemble.runs == []
    with ensemble.start_run("b") as writer, pytest.raises(InputError, match=message):
        writer.append({"train": values[1]}, kind="logits", step=0, epoch=0)


def test_logits__some_zeros_some_positive_rows_are_no_reason(tmp_path):
    values = logits()
    values[0, 0], values[1, :-1] = 0, softmax(values[1, :-1])
    values[2] = np.abs(values[2])
    to_log_probs(values, "logits")
    source = ArrayPredictions(values, "logits")
    source.read(slice(0, 2), slice(0, 1))  # of which all are zeros, or probabilities


def test_logits__meant_as_such_go_in_as_log_probabilities():
    to_log_probs(np.full((1, N, C), -np.log(C)), "log_probs")
    to_log_probs(np.zeros((1, N, C)), "logits", known_logits=True)
