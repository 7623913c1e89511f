"""What launches the kernels, with a cupy made of NumPy and the emulator: order, sizes, errors."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from emulator import missing_tools
from fake_cupy import Array, array

from inpca.distance import gpu_layout, gpu_upload, kernels_cupy
from inpca.distance.kernels_cupy import KINDS, TriangleAccumulator, find_gpu
from inpca.errors import InputError, ResourceError

needs_emulator = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))
SHARP = 30  # logits whose softmax leaves affinities that the tensor kernel gives up


def predictions(n_models, n_samples, n_classes=10, *, sharpness=2.0, seed=0):
    logits = sharpness * np.random.default_rng(seed).normal(size=(n_models, n_samples, n_classes))
    return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float32)


def distances(log_prob):
    root = np.exp(log_prob.astype(float) / 2)
    root = np.maximum(root / np.sqrt((root**2).sum(-1, keepdims=True)), 2.0**-62)
    return -np.log(np.einsum("unc,vnc->uvn", root, root)).mean(-1)


def whole(tiles, tile_ij, n_models):
    size = tiles.shape[1]
    full = np.full((size * (1 + max(max(ij) for ij in tile_ij)),) * 2, np.nan)
    for (i, j), tile in zip(tile_ij, np.asarray(tiles), strict=True):
        full[i * size : (i + 1) * size, j * size : (j + 1) * size] = tile
        full[j * size : (j + 1) * size, i * size : (i + 1) * size] = tile.T
    return full[:n_models, :n_models]


def assert_close(got, expected):
    assert np.max(np.abs(got - expected) / np.maximum(1, expected)) <= 3e-7


TRIANGLE = [(0, 0), (0, 1), (1, 1)]


@needs_emulator
@pytest.mark.parametrize("kind", KINDS)
def test_accumulator__agrees_with_float64(use, kind):
    use()
    log_prob = predictions(140, 21)
    total = TriangleAccumulator(TRIANGLE, 128, 21, 10, kind=kind)
    for part in (slice(0, 8), slice(8, 21)):
        total.add_log_prob(array(log_prob[:, part]))
    assert_close(whole(total.finish(), TRIANGLE, 140), distances(log_prob))
    assert (total.floored, total.redone) == (0, 0)


@needs_emulator
def test_accumulator__redoes_what_the_tensor_kernel_gives_up(use, monkeypatch):
    use()
    monkeypatch.setattr(kernels_cupy, "PATCHES_PER_LAUNCH", 1)  # each tile a launch of its own
    log_prob = predictions(140, 16, sharpness=SHARP)
    total = TriangleAccumulator(TRIANGLE, 128, 16, 10)
    total.add_log_prob(array(log_prob))
    assert_close(whole(total.finish(), TRIANGLE, 140), distances(log_prob))
    assert total.redone == 3


@needs_emulator
def test_accumulator__takes_rows_and_columns_from_different_slabs(use):
    use()
    log_prob = predictions(384, 8, 3)
    total = TriangleAccumulator([(0, 2), (1, 2)], 128, 8, 3)
    rows = total.prepare(array(log_prob[:256]))
    total.add(rows, total.prepare(array(log_prob[256:]), first_model=256))
    got = np.concatenate(np.asarray(total.finish()))
    assert_close(got, distances(log_prob)[:256, 256:])


@needs_emulator
def test_accumulator__refuses_what_is_no_distribution(use):
    use()
    log_prob = predictions(10, 8)
    log_prob[3, 2, 1] = np.nan
    total = TriangleAccumulator([(0, 0)], 128, 8, 10)
    total.add_log_prob(array(log_prob))
    with pytest.raises(InputError, match="1 predictions hold NaN"):
        total.finish()


@needs_emulator
def test_uploader__brings_every_slab_once(use):
    use()
    log_prob = predictions(130, 27)
    seen = []

    def read(start, stop, out):
        seen.append((start, stop))
        out[...] = log_prob[:, start:stop]

    total = TriangleAccumulator(TRIANGLE, 128, 27, 10, kind="ffma")
    for slab in gpu_upload.SlabUploader(read, [0, 8, 16, 24, 27], 130, 10):
        assert isinstance(slab, Array)
        total.add_log_prob(slab)
    assert seen == [(0, 8), (8, 16), (16, 24), (24, 27)]
    assert_close(whole(total.finish(), TRIANGLE, 130), distances(log_prob))


def test_uploader__passes_on_what_the_reader_raises(use):
    use()

    def read(start, stop, out):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(iter(gpu_upload.SlabUploader(read, [0, 4], 3, 10)))


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"count": 0}, "sees no GPU"),
        ({"error": "cudaErrorNoDevice"}, "choose backend='numba'"),
        ({"error": "cudaErrorInsufficientDriver", "driver": 12020}, "offers CUDA 12.2 but cupy"),
        ({"error": "cudaErrorInsufficientDriver", "driver": 0}, "No NVIDIA driver is installed"),
        ({"major": 7, "minor": 5}, "need 8.0"),
    ],
)
def test_gpu__is_refused_with_the_cure(use, machine, message):
    use(**machine)
    with pytest.raises(ResourceError, match=message):
        find_gpu()


def test_gpu__number_must_exist(use):
    use(count=2)
    assert find_gpu(1).index == 1
    with pytest.raises(InputError, match="`device` must be 0 to 1, not 2"):
        find_gpu(2)


def test_accumulator__says_what_does_not_fit(use):
    use(free=2**16)
    with pytest.raises(ResourceError, match="compute fewer tiles at a time"):
        TriangleAccumulator([(0, 0)], 1024, 8, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_size": 100}, "multiple of 128"),
        ({"n_samples": 0}, "at least 1"),
        ({"kind": "fast"}, "tensor, ffma, batched"),
    ],
)
def test_accumulator__checks_its_arguments(use, change, message):
    use()
    arguments = {"tile_size": 128, "n_samples": 8, "n_classes": 10} | change
    with pytest.raises(InputError, match=message):
        TriangleAccumulator([(0, 0)], **arguments)


def test_largest_slab__fits_and_is_longest():
    job = {"n_models": 151_407, "n_classes": 10}
    how = {"tile_size": 1024, "n_tiles": 11_026}
    free = 80 * 10**9
    samples = gpu_layout.largest_slab(free, job["n_models"], 50_000, 10, **how)
    assert gpu_layout.memory_needed(slab_samples=samples, **job, **how).total <= free
    assert gpu_layout.memory_needed(slab_samples=samples + 8, **job, **how).total > free
    with pytest.raises(ResourceError, match="compute fewer tiles"):
        gpu_layout.largest_slab(46 * 10**9, job["n_models"], 50_000, 10, **how)


def test_gpu__that_is_busy_is_named_with_the_cure(use, monkeypatch):
    fake = use(count=2)

    def held():
        raise fake.cuda.runtime.CUDARuntimeError("cudaErrorDevicesUnavailable: busy")

    monkeypatch.setattr(fake.cuda.runtime, "memGetInfo", held)
    with pytest.raises(ResourceError, match=r"GPU 1 cannot be used .*choose another one with `de"):
        find_gpu(1)


def test_gpu__has_the_memory_that_its_own_pool_keeps(use, monkeypatch):
    fake = use(count=2, free=1000)
    current = [0]

    @contextmanager
    def device(index):
        current.append(index)
        yield
        current.pop()

    kept = {0: 5, 1: 70}
    pool = SimpleNamespace(free_bytes=lambda: kept[current[-1]])
    monkeypatch.setattr(fake.cuda, "Device", device)
    monkeypatch.setattr(fake, "get_default_memory_pool", lambda: pool)
    assert [find_gpu(index).memory_free for index in (0, 1)] == [1005, 1070]


@pytest.mark.parametrize("kind", ["ffma", "tensor"])
def test_accumulator__names_a_gpu_with_too_little_shared_memory(use, kind):
    use(sharedMemPerBlockOptin=101_376)
    with pytest.raises(ResourceError, match=r"18 classes need 110592 bytes .* has 101376"):
        TriangleAccumulator([(0, 0)], 128, 8, 18, kind=kind)
