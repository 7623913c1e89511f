"""The engine with backend="cupy": the CPU's distances, its tiles. Kernels are emulated."""

import logging

import numpy as np
import pytest
from emulator import missing_tools
from emulator.oracle import predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from tight import least_memory

from inpca import InputError, ResourceError, TiledMatrix, pairwise_distances
from inpca.distance import gpu_layout
from inpca.distance.block_cupy import CupyBlock
from inpca.distance.choice import choose_backend
from inpca.distance.gpu_device import find_gpu, on_device
from inpca.distance.gpu_layout import Gpu
from inpca.distance.planner import make_plan, plan_distances
from inpca.predictions import ArrayPredictions

emulated = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))
GPU = {"kind": "log_probs", "backend": "cupy", "executor": "serial"}
CPU = {"kind": "log_probs", "executor": "serial"}


@pytest.fixture
def short_launches(monkeypatch):
    """So that few samples are several launches."""
    monkeypatch.setattr(gpu_layout, "LAUNCH", 32)


class Interrupted(Exception):
    """Stands for a kill."""


class Counted(ArrayPredictions):
    """Predictions that count how often each is read, and give up after so many reads."""

    def __init__(self, log_p, most=10**9):
        super().__init__(log_p, "log_probs")
        self.reads = np.zeros(self.shape[:2], int)
        self.most = most
        self.n_reads = 0

    def read(self, models, samples):
        if hasattr(self, "n_reads"):
            self.n_reads += 1
            self.reads[models, samples] += 1
            if self.n_reads > self.most:
                raise Interrupted
        return super().read(models, samples)


def tiles_of(path):
    return {file.name: file.read_bytes() for file in (path / "distance").glob("c.*")}


# ------------------------------------------------------------------------------------ the numbers


@emulated
@pytest.mark.parametrize("n_classes", [3, 10])
def test_engine__gives_the_distances_of_the_cpu(use, short_launches, n_classes):
    use()
    log_p = predictions(150, 40, n_classes)
    log_p[140] = log_p[3]
    got, info = pairwise_distances(log_p, **GPU, return_info=True)
    assert np.abs(got - pairwise_distances(log_p, **CPU)).max() <= 3e-7
    assert got[140, 3] == got[3, 140] == 0
    assert (np.diag(got) == 0).all()
    np.testing.assert_array_equal(got, got.T)
    assert (info.backend, info.redone, info.floored) == ("cupy", 0, 0)
    assert "GPU 0 (Emulated)" in info.plan.where


@emulated
def test_engine__counts_what_the_floor_decides_as_the_cpu_does(use, short_launches):
    use()
    log_p = predictions(140, 40, 5, sharpness=60)
    got, info = pairwise_distances(log_p, **GPU, return_info=True)
    expected, there = pairwise_distances(log_p, **CPU, return_info=True)
    assert info.floored == there.floored > 0
    assert info.redone > 0
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=3e-7)


@emulated
def test_engine__compares_two_sets_of_models(use, short_launches):
    use()
    log_p = predictions(160, 40, 3, sharpness=40)
    rows, columns = log_p[:20], log_p[20:]
    columns[5] = rows[7]
    got, info = pairwise_distances(rows, columns, **GPU, return_info=True)
    expected, there = pairwise_distances(rows, columns, **CPU, return_info=True)
    np.testing.assert_allclose(got, expected, rtol=3e-7, atol=3e-7)
    assert got[7, 5] == 0
    assert info.floored == there.floored > 0


@emulated
def test_engine__takes_each_prediction_once_a_block(use, short_launches):
    use()
    source = Counted(predictions(150, 70, 3))
    _, info = pairwise_distances(source, **GPU, return_info=True)
    assert len(info.plan.blocks) == 1
    assert (source.reads == 1).all()


@emulated
def test_engine__starts_the_gpu_before_it_reads_the_next_slab(use, short_launches, monkeypatch):
    use()
    order = []

    class Noted(Counted):
        def read(self, models, samples):
            order.append("read")
            return super().read(models, samples)

    def add(block, buffer, n_samples):
        order.append("add")
        real(block, buffer, n_samples)

    real = CupyBlock._add
    monkeypatch.setattr(CupyBlock, "_add", add)
    source = Noted(predictions(10, 70, 3))
    memory = least_memory(source.shape, gpu=find_gpu())
    order.clear()
    _, info = pairwise_distances(source, **GPU, memory=memory, return_info=True)
    assert len(info.plan.slabs) == order.count("add") > 2
    # One worker takes the tasks in turn: the last slab is read once the GPU has begun another.
    assert order[-2:] == ["read", "add"]


@emulated
def test_engine__refuses_what_is_no_distribution(use):
    class Broken(Counted):
        def read(self, models, samples):
            return np.full_like(super().read(models, samples), np.nan)

    use()
    with pytest.raises(InputError, match="predictions hold NaN"):
        pairwise_distances(Broken(predictions(10, 8, 3)), **GPU)


# ---------------------------------------------------------------------------------------- the store


@emulated
def test_tiles__are_the_same_bytes_whatever_the_memory_and_after_a_kill(
    use, short_launches, tmp_path
):
    use()
    log_p = predictions(300, 130, 3)
    job = GPU | {"tile_size": 128}
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    pairwise_distances(log_p, out=whole, **job)
    little = 960_000  # for a block of one tile and slabs of one launch
    with pytest.raises(Interrupted):
        pairwise_distances(Counted(log_p, 100), out=killed, memory=little, **job)
    _, info = pairwise_distances(log_p, out=killed, memory=little, return_info=True, **job)
    assert 0 < info.plan.n_tiles < 6
    assert len(info.plan.blocks) > 1
    assert len(info.plan.slabs) > 1
    assert tiles_of(whole) == tiles_of(killed)
    got = TiledMatrix.open(killed).to_array()
    assert np.abs(got - pairwise_distances(log_p, **CPU)).max() <= 4e-7


@emulated
def test_tiles__of_any_size_are_those_of_the_cpu(use, short_launches, tmp_path):
    use()
    log_p = predictions(130, 40, 3)
    for name, job in (("gpu", GPU), ("cpu", CPU)):
        pairwise_distances(log_p, out=tmp_path / name, tile_size=50, **job)
    got, expected = (TiledMatrix.open(tmp_path / name) for name in ("gpu", "cpu"))
    assert tiles_of(got.path).keys() == tiles_of(expected.path).keys()
    assert np.abs(got.to_array() - expected.to_array()).max() <= 4e-7
    assert got.verify() == []


@emulated
def test_parts__are_computed_one_process_a_gpu(use, short_launches, tmp_path):
    use(count=2)
    log_p = predictions(140, 40, 3)
    job = GPU | {"tile_size": 100}
    pairwise_distances(log_p, out=tmp_path / "whole", **job)
    for i in (1, 2):
        pairwise_distances(log_p, out=tmp_path / "parts", part=(i, 2), device=i - 1, **job)
    assert tiles_of(tmp_path / "parts") == tiles_of(tmp_path / "whole")


@emulated
def test_matrix__of_another_backend_or_gpu_is_not_mixed(use, tmp_path):
    log_p = predictions(40, 8, 3)
    pairwise_distances(log_p, out=tmp_path / "cpu", **CPU)
    use()
    with pytest.raises(InputError, match="backend numba instead of cupy"):
        pairwise_distances(log_p, out=tmp_path / "cpu", **GPU)
    _, info = pairwise_distances(
        log_p, out=tmp_path / "cpu", **(GPU | {"backend": "auto"}), return_info=True
    )
    assert info.backend == "numba"
    pairwise_distances(log_p, out=tmp_path / "gpu", **GPU)
    use(major=8)
    with pytest.raises(InputError, match="kernel 1 tensor sm_90 instead of 1 tensor sm_80"):
        pairwise_distances(log_p, out=tmp_path / "gpu", **GPU)


# --------------------------------------------------------------------------------------- the choice


def chosen(backend, device=None, dtype="float32"):
    return choose_backend(backend, device, np.dtype(dtype))


@emulated
def test_auto__takes_the_gpu_and_says_so(use, caplog):
    use()
    with caplog.at_level(logging.INFO, "inpca.distance"):
        assert chosen("auto").backend == "cupy"
    assert "computes on GPU 0 (Emulated" in caplog.text


@pytest.mark.parametrize("machine", [{"count": 0}, {"major": 7}, {"error": "no device"}])
def test_auto__takes_the_cpu_where_no_gpu_can_and_says_why(use, caplog, machine):
    use(**machine)
    with caplog.at_level(logging.INFO, "inpca.distance"):
        assert chosen("auto").backend == "numba"
    assert "computes on the CPU: " in caplog.text
    for asked in ({"backend": "cupy"}, {"backend": "auto", "device": 0}):
        with pytest.raises(ResourceError):
            chosen(**asked)


def test_auto__computes_float64_on_the_cpu(use):
    use()
    assert chosen("auto", dtype="float64").backend == "numba"
    with pytest.raises(InputError, match="must be float32 with backend='cupy'"):
        chosen("cupy", dtype="float64")


def test_device__is_of_a_gpu():
    with pytest.raises(InputError, match="`device` is the number of a GPU"):
        chosen("numba", device=0)


@emulated
def test_gpu__without_a_compiler_is_refused_before_any_work(use, tmp_path):
    fake = use()

    def no_toolkit(**arguments):
        raise OSError("libnvrtc.so.13: cannot open shared object file")

    fake.RawModule = no_toolkit
    with pytest.raises(ResourceError, match=r"cupy lacks its CUDA compiler .* pip install"):
        pairwise_distances(predictions(10, 8, 3), out=tmp_path / "d", **GPU)
    assert not (tmp_path / "d").exists()


@emulated
def test_gpu__without_the_headers_of_cuda_is_refused_before_any_work(use, tmp_path):
    fake = use()

    def no_headers(shape, dtype):
        raise fake.cuda.compiler.CompileException("cannot open source file cuda_fp16.h")

    fake.zeros = no_headers
    with pytest.raises(ResourceError, match=r"cuda_fp16.h.*headers: pip install"):
        pairwise_distances(predictions(10, 8, 3), out=tmp_path / "d", **GPU)
    assert not (tmp_path / "d").exists()


@emulated
def test_solver__without_its_libraries_is_on_the_cpu_or_refused(use, caplog):
    fake = use()

    def no_library(matrix):
        raise RuntimeError("failed to load libcusolver.so.12")

    fake.linalg.qr = no_library
    with pytest.raises(ResourceError, match=r"lacks cuBLAS or cuSOLVER: pip install"):
        choose_backend("cupy", None, linear_algebra=True)
    with caplog.at_level(logging.INFO, "inpca.distance"):
        assert choose_backend("auto", None, linear_algebra=True).backend == "numba"
    assert "libcusolver" in caplog.text
    assert choose_backend("auto", None).backend == "cupy"


@emulated
@pytest.mark.parametrize("error", ["OutOfMemoryError", "CUDARuntimeError", "CUDADriverError"])
def test_gpu__that_gives_up_is_named_whatever_cupy_raises(use, error):
    cuda = use().cuda
    places = (cuda.memory, cuda.runtime, cuda.driver)
    raised = next(getattr(place, error) for place in places if hasattr(place, error))
    with pytest.raises(ResourceError, match=r"GPU 0 .* gave up \(why\); planned: .*`device`"):  # noqa: SIM117
        with on_device(find_gpu(), "; planned"):
            raise raised("why")


@emulated
def test_gpu__that_is_full_is_refused_with_both_numbers(use, tmp_path):
    use(free=10**8, count=2)
    with pytest.raises(ResourceError, match=r"of device memory .* GPU 0 .*100 MB .*`device`"):
        pairwise_distances(predictions(10, 8, 3), out=tmp_path / "d", **GPU)
    assert not (tmp_path / "d").exists()


@emulated
def test_gpu__that_another_process_fills_meanwhile_is_named(use, monkeypatch):
    fake = use()

    def full(shape, dtype):
        raise fake.cuda.memory.OutOfMemoryError("out of memory")

    monkeypatch.setattr(fake, "empty", full)
    with pytest.raises(ResourceError, match="Emulated"):
        pairwise_distances(predictions(10, 8, 3), **GPU)


# ----------------------------------------------------------------------------------------- the plan


def h200(free=140 * 10**9):
    return Gpu(0, "H200", (9, 0), 143 * 10**9, free, 132, 232448, 233472, 13000)


def test_plan__holds_the_whole_triangle_on_a_large_gpu():
    plan = make_plan((151_407, 50_000, 10), memory=64 * 10**9, gpu=h200())
    assert len(plan.blocks) == 1
    assert plan.bytes_read == 151_407 * 50_000 * 10 * 4
    assert plan.device is not None
    assert plan.device.kind == "tensor"
    assert 46e9 < plan.device.memory_parts["block of D"] < plan.device.memory_needed < 140e9


@settings(max_examples=40, deadline=None)
@given(
    n_models=st.integers(2, 30_000),
    n_columns=st.none() | st.integers(1, 20_000),
    n_samples=st.integers(1, 5000),
    n_classes=st.sampled_from([2, 10, 100]),
    tile_size=st.sampled_from([None, 100, 256]),
    memory=st.integers(10**9, 10**10),
    free=st.integers(3 * 10**9, 10**11),
)
def test_plan__fits_both_memories(
    n_models, n_columns, n_samples, n_classes, tile_size, memory, free
):
    plan = make_plan(
        (n_models, n_samples, n_classes),
        memory=memory,
        n_columns=n_columns,
        tile_size=tile_size,
        gpu=h200(free),
    )
    assert plan.memory_needed <= memory
    assert plan.device is not None
    assert plan.device.memory_needed <= free
    assert sorted(t for b in plan.blocks for t in b.tiles) == sorted(plan.bands.tiles())
    assert all(slab.start % plan.device.launch == 0 for slab in plan.slabs)


def test_plan__says_what_the_device_holds(use, monkeypatch):
    use(free=6 * 10**9)
    monkeypatch.setattr("inpca.distance.choice.check_compiler", lambda gpu: None)
    plan = plan_distances((20_000, 5000, 10), memory="4GB", backend="cupy", flops_per_second=1e13)
    assert len(plan.blocks) == 1
    text = "\n".join(plan.describe())
    assert "device     " in text
    assert "of 6.0 GB free: block of D" in text
    record = plan.as_record()
    assert (record["backend"], record["device"]["name"]) == ("cupy", "Emulated")


def test_plan__names_what_a_gpu_lacks():
    with pytest.raises(
        ResourceError, match=r"block of D .* GPU 0 \(H200, 1\.0 GB .*backend='numba'"
    ):
        make_plan((20_000, 5000, 1000), memory=10**10, gpu=h200(10**9))


def test_cluster__is_refused_with_the_cure():
    with pytest.raises(InputError, match="one process for each GPU"):
        choose_backend("cupy", None, on_cluster=True)
