"""The engine and the eigensolver on a real device, against the CPU's.

Skipped without a GPU; with INPCA_REQUIRE_GPU=1 that is a failure.
"""

import os

import numpy as np
import pytest

import inpca
from inpca.distance.gpu_device import find_gpu
from inpca.errors import ResourceError

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device():
    """cupy with a usable device, or the end of the test."""
    try:
        find_gpu()
    except ResourceError as error:
        if os.environ.get("INPCA_REQUIRE_GPU") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
    return pytest.importorskip("cupy")


def predictions(n_models, n_samples, n_classes=10, *, sharpness=2.0, seed=0):
    """(m, N, C) float32 log-probabilities of a softmax of normal logits."""
    logits = sharpness * np.random.default_rng(seed).normal(size=(n_models, n_samples, n_classes))
    return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float32)


def tiles_of(path):
    return {file.name: file.read_bytes() for file in (path / "distance").glob("c.*")}


@pytest.mark.parametrize("sharpness", [2, 30, 100])
@pytest.mark.parametrize("n_classes", [3, 10, 100])
def test_engine__gives_the_distances_of_the_cpu(n_classes, sharpness):
    log_p = predictions(700, 1300, n_classes, sharpness=sharpness)
    log_p[650] = log_p[3]
    got, info = inpca.pairwise_distances(log_p, kind="log_probs", backend="cupy", return_info=True)
    expected, there = inpca.pairwise_distances(log_p, kind="log_probs", return_info=True)
    np.testing.assert_allclose(got, expected, rtol=4e-7, atol=4e-7)
    assert got[650, 3] == 0
    # An entry so close to the floor that its last bit decides may be counted by one alone.
    assert info.floored == pytest.approx(there.floored, rel=1e-3)


def test_tiles__do_not_depend_on_the_memory(tmp_path):
    log_p = predictions(1500, 3000)
    job = {"kind": "log_probs", "backend": "cupy", "tile_size": 256}
    inpca.pairwise_distances(log_p, out=tmp_path / "whole", **job)
    inpca.pairwise_distances(log_p, out=tmp_path / "little", memory="130MB", **job)
    assert tiles_of(tmp_path / "whole") == tiles_of(tmp_path / "little")


def test_two_sets__are_compared(device):
    log_p = predictions(500, 600)
    for backend in ("cupy", "numba"):
        D = inpca.pairwise_distances(log_p[:20], log_p[20:], kind="log_probs", backend=backend)
        if backend == "cupy":
            got = D
    np.testing.assert_allclose(got, D, rtol=4e-7, atol=4e-7)


@pytest.mark.parametrize("resident", [False, True])
def test_solver__gives_the_eigenpairs_of_the_cpu(device, resident):
    D = inpca.pairwise_distances(predictions(900, 200), kind="log_probs")
    given = {"n_components": 8, "metric": "precomputed", "solver": "lanczos"}
    expected = inpca.InPCA(**given).fit(D)
    if resident:
        got = inpca.InPCA(**given).fit(device.asarray(D))
    else:
        got = inpca.InPCA(backend="cupy", **given).fit(D)
    np.testing.assert_allclose(got.eigenvalues_, expected.eigenvalues_, rtol=1e-8)
    np.testing.assert_allclose(got.embedding_, expected.embedding_, atol=1e-5)
