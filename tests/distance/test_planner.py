"""The plan is arithmetic: it fits, it covers every pair once, it says what it needs."""

import json

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpca import InputError, ResourceError, pairwise_distances
from inpca.backend import disk_block
from inpca.distance import planner
from inpca.distance.kernels_numba import group_samples
from inpca.distance.planner import calibrate, check_fits, make_plan, plan_distances


@settings(max_examples=60, deadline=None)
@given(
    n_models=st.integers(2, 3000),
    n_columns=st.none() | st.integers(1, 3000),
    n_samples=st.integers(1, 3000),
    n_classes=st.sampled_from([2, 10, 40]),
    tile_size=st.sampled_from([None, 100, 256]),
    memory=st.integers(150_000_000, 1_000_000_000),
    n_workers=st.integers(1, 4),
)
def test_make_plan__fits_the_memory_and_covers_every_tile_once(
    n_models, n_columns, n_samples, n_classes, tile_size, memory, n_workers
):
    plan = make_plan(
        (n_models, n_samples, n_classes),
        memory=memory,
        n_columns=n_columns,
        tile_size=tile_size,
        n_workers=n_workers,
    )
    assert plan.memory_needed <= memory
    assert sum(plan.memory_parts.values()) == plan.memory_needed
    tiles = [tile for block in plan.blocks for tile in block.tiles]
    assert sorted(tiles) == sorted(plan.bands.tiles())
    assert all({b for t in block.tiles for b in t} == set(block.bands) for block in plan.blocks)
    pairs = n_models * (n_models - 1) // 2 if n_columns is None else n_models * n_columns
    assert plan.n_pairs == pairs
    assert plan.slabs[-1].stop == n_samples
    assert all(slab.start % group_samples(n_classes) == 0 for slab in plan.slabs)


def test_make_plan__reads_less_with_more_memory():
    reads = [
        make_plan((12_000, 500, 10), memory=memory).bytes_read
        for memory in (100_000_000, 300_000_000, 3_000_000_000)
    ]
    assert reads[0] > reads[1] > reads[2] == 12_000 * 500 * 10 * 4


def test_make_plan__begins_with_the_diagonal():
    plan = make_plan((4000, 100, 10), memory=20_000_000)
    on_diagonal = [block.tiles[0][0] == block.tiles[0][1] for block in plan.blocks]
    assert len(on_diagonal) > 3
    assert on_diagonal == sorted(on_diagonal, reverse=True)


def test_make_plan__loses_no_more_than_ten_minutes_with_a_block():
    plan = make_plan((150_000, 50_000, 10), memory=10**12, n_workers=2, flops_per_second=5e10)
    work = [
        sum(plan.bands.n_pairs(tile) for tile in block.tiles) * 2 * 50_000 * 10
        for block in plan.blocks
    ]
    assert len(work) > 1
    assert max(work) <= 2 * 5e10 * 600


def test_make_plan__does_not_cut_a_chunk_on_disk_needlessly():
    """Reading part of a chunk costs as much as all of it."""
    plan = make_plan((2000, 5000, 10), memory=400_000_000, chunk_samples=5000)
    free = make_plan((2000, 5000, 10), memory=400_000_000, chunk_samples=1)
    assert plan.slab >= free.slab


def test_make_plan__of_missing_tiles_counts_those_alone():
    plan = make_plan((1000, 50, 10), memory=10**9, tile_size=256, missing=[(0, 0), (1, 3)])
    assert plan.n_tiles == 2
    assert plan.n_pairs == 256 * 255 // 2 + 256 * 232
    assert 2 * (256**2 * 4 + 4) < plan.disk_needed < 2.1 * 256**2 * 4
    assert make_plan((1000, 50, 10), memory=10**9, missing=[]).blocks == ()


def test_make_plan__writes_more_tiles_at_once_than_it_has_workers_where_memory_allows():
    shape = (20_000, 100, 10)
    small, large = (make_plan(shape, memory=m, n_workers=2) for m in (200_000_000, 8_000_000_000))
    assert (small.n_writers, large.n_writers) == (2, 8)
    assert large.memory_parts["writing"] == 8 * 3 * large.tile_size**2 * 8
    assert make_plan((100, 100, 10), memory=8_000_000_000, stored=False).n_writers == 1


def test_make_plan__counts_the_time_of_writing():
    shape, options = (20_000, 10, 2), {"memory": 4_000_000_000, "flops_per_second": 1e11}
    times = [make_plan(shape, tile_size=t, **options).seconds for t in (64, 256, 1024)]
    assert times == sorted(times, reverse=True)
    stored = make_plan(shape, tile_size=1024, **options)
    unread = stored.seconds - stored.flops / 1e11 - stored.bytes_read / 5e8
    assert unread > stored.n_tiles * 1024**2 * 4 / 1e9


@pytest.mark.parametrize("tile_size", [8, 64])
@pytest.mark.parametrize("capped", [False, True])
def test_make_plan__asks_for_the_disk_that_the_files_take(tmp_path, tile_size, capped):
    log_p = naive.random_models(60, 10, 3)
    if capped:
        log_p[::2] = naive.truth(np.zeros(10, int), 3)[0]
        log_p[1::2] = naive.truth(np.ones(10, int), 3)[0]
    options = {"tile_size": tile_size, "executor": 1, "return_info": True}
    matrix, info = pairwise_distances(log_p, kind="log_probs", out=tmp_path / "d.zarr", **options)
    files = (matrix.path, *matrix.path.rglob("*"))
    used = {path: path.lstat().st_blocks * 512 for path in files}
    of_tiles = [used[path] for path in used if path.parent.name in ("distance", "floored")]
    block = disk_block(tmp_path)
    whole = make_plan((60, 10, 3), memory=10**9, tile_size=tile_size, block_bytes=block)
    assert sum(of_tiles) - 2 * block <= info.plan.disk_needed  # less the two zarr.json
    assert sum(used.values()) <= whole.disk_needed < sum(used.values()) + 130 * block


def test_make_plan__counts_whole_blocks_of_the_disk():
    small = make_plan((200, 10, 3), memory=10**9, tile_size=8, missing=[(0, 0)])
    large = make_plan((200, 10, 3), memory=10**9, tile_size=8, missing=[(0, 0)], block_bytes=65536)
    # The tile, its seal, and the count of its capped contributions, a block each.
    assert 3 * 4096 <= small.disk_needed < 4 * 4096
    assert 3 * 65536 <= large.disk_needed < 4 * 65536
    assert make_plan((200, 10, 3), memory=10**9, stored=False).disk_needed == 0


def test_make_plan__of_a_tile_larger_than_all_models_says_so():
    with pytest.raises(ResourceError, match=r"no more than the 1,202 models, not 100,000"):
        make_plan((1202, 100, 10), memory=10**10, tile_size=100_000)
    with pytest.raises(ResourceError, match=r"no more than the 1,300 models, not 100,000"):
        make_plan((1202, 100, 10), memory=10**10, n_columns=1300, tile_size=100_000)


def test_plan_distances__says_memory_disk_reads_and_time():
    plan = plan_distances((5000, 200, 10), memory="200MB", n_workers=2, flops_per_second=5e10)
    text = "\n".join(plan.describe())
    for part in ("12,497,500 pairs", "of 200 MB", "to write", "each prediction", "time"):
        assert part in text
    record = json.loads(json.dumps(plan.as_record()))
    assert record["n_pairs"] == 12_497_500
    assert record["seconds"] > 0


def test_plan_distances__refuses_what_does_not_fit_with_both_numbers(monkeypatch):
    arguments = {"flops_per_second": 5e10, "n_workers": 2}
    with pytest.raises(ResourceError, match=r"smallest block needs .* `memory` is 1\.0 MB"):
        plan_distances((5000, 200, 10), memory="1MB", **arguments)
    monkeypatch.setattr(planner, "free_disk", lambda folder: 10_000_000)
    with pytest.raises(ResourceError, match=r"need .* MB on disk but 10\.0 MB are free"):
        plan_distances((5000, 200, 10), memory="200MB", **arguments)
    monkeypatch.setattr(planner, "available_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match=r"needs .* of memory but 1\.0 MB are available"):
        plan_distances((5000, 200, 10), memory="200MB", **arguments)


def test_check_fits__passes_what_fits():
    check_fits(make_plan((100, 20, 3), memory=10_000_000), ".")


def test_make_plan__refuses_an_empty_tile():
    with pytest.raises(InputError, match="`tile_size` must be at least 1"):
        make_plan((100, 20, 3), memory=10_000_000, tile_size=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_calibrate__measures_a_rate(dtype):
    assert calibrate(10, dtype, seconds=0.01) > 1e6


def test_calibrate__refuses_one_class():
    with pytest.raises(InputError, match="`n_classes` must be at least 2"):
        calibrate(1)
