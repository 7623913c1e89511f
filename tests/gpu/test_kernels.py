"""The kernels on a real device, against float64 and against the CPU.

Skipped without a GPU; with INPCA_REQUIRE_GPU=1 that is a failure. Small enough for
compute-sanitizer: ``compute-sanitizer --tool racecheck python -m pytest -m gpu -k sanitized``.
"""

import os

import numpy as np
import pytest

from inpca.distance.gpu_device import find_gpu
from inpca.distance.gpu_upload import SlabUploader
from inpca.distance.kernels_cupy import KINDS, TriangleAccumulator
from inpca.errors import ResourceError

pytestmark = pytest.mark.gpu
TRIANGLE = [(0, 0), (0, 1), (1, 1)]


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


def distances(log_prob, others=None):
    """Raw D in float64, a sample at a time."""

    def roots(x):
        root = np.exp(x.astype(float) / 2)
        return np.maximum(root / np.sqrt((root**2).sum(-1, keepdims=True)), 2.0**-62)

    rows = roots(log_prob)
    cols = rows if others is None else roots(others)
    total = np.zeros((len(rows), len(cols)))
    for n in range(rows.shape[1]):
        total -= np.log(rows[:, n] @ cols[:, n].T)
    return total / rows.shape[1]


def triangle(n_models, tile_size):
    across = -(-n_models // tile_size)
    return [(i, j) for i in range(across) for j in range(i, across)]


def whole(tiles, tile_ij, n_models):
    size = tiles.shape[1]
    full = np.full((size * (1 + max(j for _, j in tile_ij)),) * 2, np.nan)
    for (i, j), tile in zip(tile_ij, tiles.get(), strict=True):
        full[i * size : (i + 1) * size, j * size : (j + 1) * size] = tile
        full[j * size : (j + 1) * size, i * size : (i + 1) * size] = tile.T
    return full[:n_models, :n_models]


def measured(cupy, log_prob, kind, *, tile_size=128, slab=None):
    """(raw D, accumulator) of slabs of `slab` samples."""
    m, n, n_classes = log_prob.shape
    tile_ij = triangle(m, tile_size)
    total = TriangleAccumulator(tile_ij, tile_size, n, n_classes, kind=kind)
    for start in range(0, n, slab or n):
        total.add_log_prob(cupy.asarray(log_prob[:, start : start + (slab or n)]))
    return whole(total.finish(), tile_ij, m), total


def assert_close(got, expected):
    """To 3e-7 nats, and where distances are larger than 1, to as much of them."""
    assert np.max(np.abs(got - expected) / np.maximum(1, expected)) <= 3e-7


@pytest.mark.parametrize("n_classes", [2, 3, 10, 17, 20, 21, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_kernel__agrees_with_float64(device, kind, n_classes):
    log_prob = predictions(300, 257, n_classes)
    got, total = measured(device, log_prob, kind)
    assert_close(got, distances(log_prob))
    assert (total.floored, total.redone) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile_size", [256, 1024])
def test_kernel__fills_large_tiles_from_many_slabs(device, kind, tile_size):
    log_prob = predictions(1500, 100)
    got, _ = measured(device, log_prob, kind, tile_size=tile_size, slab=24)
    assert_close(got, distances(log_prob))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sharpness", [10, 30, 100])
def test_kernel__is_right_where_predictions_are_saturated(device, kind, sharpness):
    log_prob = predictions(200, 333, sharpness=sharpness)
    got, total = measured(device, log_prob, kind)
    assert_close(got, distances(log_prob))
    assert (total.redone > 0) == (kind == "tensor")


def test_tensor_kernel__takes_the_longest_slab(device):
    log_prob = predictions(130, 5000)
    got, _ = measured(device, log_prob, "tensor")
    assert_close(got, distances(log_prob))


# A library's matrix product may round one place of a matrix otherwise than another.
@pytest.mark.parametrize("kind", ["ffma", "tensor"])
def test_kernel__puts_equal_models_at_distance_zero(device, kind):
    log_prob = predictions(150, 64, sharpness=30)
    got, _ = measured(device, np.concatenate([log_prob, log_prob]), kind)
    own = np.diag(got)
    normalised = got - ((own[:, None] + own) / 2)
    assert (np.diag(normalised[:150, 150:]) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_kernel__gives_the_same_bytes_twice(device, kind):
    log_prob = predictions(256, 100, sharpness=10)
    first, _ = measured(device, log_prob, kind, tile_size=256)
    second, _ = measured(device, log_prob, kind, tile_size=256)
    assert first.tobytes() == second.tobytes()
    assert_close(first, first.T)


@pytest.mark.parametrize("kind", ["ffma", "tensor"])
def test_kernel__agrees_with_the_cpu(device, kind):
    pytest.importorskip("zarr", reason="the CPU engine needs zarr")
    import inpca

    log_prob = predictions(300, 200)
    got, _ = measured(device, log_prob, kind)
    own = np.diag(got)
    got = got - (own[:, None] + own) / 2
    assert np.abs(got - inpca.pairwise_distances(log_prob, kind="log_probs")).max() <= 3e-7


def test_uploader__overlaps_without_mixing_slabs(device):
    log_prob = predictions(700, 400)

    def read(start, stop, out):
        out[...] = log_prob[:, start:stop]

    tile_ij = triangle(700, 256)
    total = TriangleAccumulator(tile_ij, 256, 400, 10)
    for slab in SlabUploader(read, [*range(0, 400, 48), 400], 700, 10):
        total.add_log_prob(slab)
    assert_close(whole(total.finish(), tile_ij, 700), distances(log_prob))


@pytest.mark.parametrize("n_classes", [3, 10, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_kernel__is_clean_when_sanitized(device, kind, n_classes):
    """One tile of everything, lost pairs included, for memcheck and racecheck."""
    log_prob = predictions(140, 24, n_classes, sharpness=25)
    got, _ = measured(device, log_prob, kind, slab=16)
    assert_close(got, distances(log_prob))
