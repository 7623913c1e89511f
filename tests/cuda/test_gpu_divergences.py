"""Divergences without fused GPU kernels: in any array namespace, and through the engine."""

import logging

import array_api_strict
import naive
import numpy as np
import pytest
from tight import least_memory

from inpca import InputError, ResourceError, pairwise_distances
from inpca.distance import block_array, reductions_array
from inpca.distance.block_array import ArrayBlock
from inpca.distance.divergences import get_divergence
from inpca.distance.engine import BACKENDS
from inpca.distance.gpu_device import find_gpu
from inpca.distance.gpu_layout import Gpu
from inpca.distance.planner import make_plan

METRICS = [name for name in naive.DIVERGENCES if name != "bhattacharyya"]
GPU = {"kind": "log_probs", "backend": "cupy", "executor": "serial"}
CPU = {"kind": "log_probs", "executor": "serial"}


def models(n_models=70, n_samples=75, n_classes=4, dtype=np.float32):
    log_p = naive.random_models(n_models, n_samples, n_classes, sharpness=9)
    log_p[3] = naive.truth(np.arange(n_samples) % n_classes, n_classes)[0]
    log_p[n_models - 2] = log_p[1]
    return log_p.astype(dtype)


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", naive.DIVERGENCES)
def test_similarity__in_any_array_namespace_is_that_of_the_definition(name, dtype):
    log_p, divergence = models(7, 20, dtype=dtype), get_divergence(name)
    sums = []
    for xp in (np, array_api_strict):
        there = xp.asarray(np.ascontiguousarray(log_p.transpose(2, 1, 0)))
        features = reductions_array.array_features(divergence, there, xp)
        rows = [f[:, :, :, None] for f in features]
        columns = [f[:, :, None, :] for f in features]
        found = reductions_array.similarity(divergence, rows, columns, xp)
        sums.append(np.asarray(found).astype(np.float64).sum(axis=0))
        counted = reductions_array.capped(divergence, rows, columns, xp)
        of_cpu = pairwise_distances(log_p, metric=name, return_info=True, **CPU)[1].floored
        assert counted == 2 * of_cpu
    assert (sums[0] == sums[1]).all()
    own = np.diagonal(sums[0])
    d = ((own[:, None] + own) / 2 - sums[0]) / 20
    expected = naive.DIVERGENCES[name](log_p)
    bound = {np.float32: 1e-6, np.float64: 1e-13}[dtype]
    np.testing.assert_allclose(d, expected, rtol=bound, atol=bound)


def test_engine__gives_the_divergences_of_the_cpu_on_a_gpu(use, metric):
    use()
    log_p = models()
    got, info = pairwise_distances(log_p, metric=metric, return_info=True, **GPU)
    expected, there = pairwise_distances(log_p, metric=metric, return_info=True, **CPU)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert got[68, 1] == 0
    assert not np.diagonal(got).any()
    assert (got == got.T).all()
    assert info.floored == there.floored
    assert (info.backend, info.plan.device.kind) == ("cupy", "plain")
    part = pairwise_distances(log_p[:5], log_p[5:], metric=metric, **GPU)
    assert (part == got[:5, 5:]).all()


@pytest.mark.parametrize("metric", ["jeffreys", "geodesic", "jensen-shannon", "chernoff:0.3"])
def test_engine__on_a_gpu_gives_the_same_bytes_whatever_the_memory(
    use, metric, tmp_path, monkeypatch
):
    use()
    log_p = models(90, 150, 3)
    whole = pairwise_distances(log_p, metric=metric, **GPU)
    monkeypatch.setattr(block_array, "WORKING_BYTES", 200_000)
    job = GPU | {"metric": metric, "out": tmp_path / "d.zarr", "tile_size": 32}
    plan = {"tile_size": 32, "gpu": find_gpu(0), "divergence": get_divergence(metric)}
    memory = least_memory(log_p.shape, **plan)
    matrix, info = pairwise_distances(log_p, memory=memory, return_info=True, **job)
    assert len(info.plan.blocks) > 1
    assert len(info.plan.slabs) > 1
    assert (matrix.to_array() == whole.astype(np.float32)).all()
    assert pairwise_distances(log_p, return_info=True, **job)[1].plan.n_tiles == 0
    with pytest.raises(InputError, match="backend"):
        pairwise_distances(log_p, **(job | {"backend": "numba"}))


def test_array_block__runs_with_numpy(metric, monkeypatch):
    def block(plan, part, divergence, known):
        return ArrayBlock(plan, part, divergence, known, np)

    monkeypatch.setitem(BACKENDS, "numba", block)
    log_p = models(dtype=np.float64)
    d = pairwise_distances(log_p, metric=metric, tile_size=20, **CPU)
    np.testing.assert_allclose(d, naive.DIVERGENCES[metric](log_p), rtol=1e-12, atol=1e-13)


def test_plan__of_a_divergence_without_fused_kernels_fits_the_device():
    gpu = Gpu(0, "GPU", (9, 0), 80 * 10**9, 75 * 10**9, 132, 232448, 233472, 13000)
    options = {"memory": 64 * 10**9, "divergence": get_divergence("jeffreys")}
    plan = make_plan((20_000, 50_000, 10), gpu=gpu, **options)
    assert plan.device.kind == "plain"
    assert plan.device.memory_needed <= gpu.memory_free
    small = Gpu(0, "GPU", (9, 0), 2 * 10**9, 10**9, 132, 232448, 233472, 13000)
    with pytest.raises(ResourceError, match="of device memory"):
        make_plan((20_000, 50_000, 10), gpu=small, **options)


def test_engine__warns_of_what_is_floored_on_a_gpu(use, caplog):
    use()
    with caplog.at_level(logging.WARNING, logger="inpca.distance"):
        pairwise_distances(models(), metric="jeffreys", **GPU)
    assert "counts as 5e-38" in caplog.text
