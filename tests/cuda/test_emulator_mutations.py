"""The emulator catches planted mistakes: a wrong lane map, a missing barrier, a missing wait.

Each mutation is an edit of a kernel's text (or of the emulator's own). It is caught when, for one
scheduling seed at least, the emulator refuses the run or the values are wrong. The same kernels
unedited pass all seeds.
"""

from pathlib import Path

import numpy as np
import pytest
from emulator import Edit, EmulationError, build, missing_tools
from emulator.build import CUDA
from emulator.card import Engine
from emulator.oracle import (
    FLOOR,
    agrees,
    distances,
    lost_pairs_bounds,
    one_hot,
    predictions,
    roots,
)
from fake_cupy import array

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))

KERNELS = Path(__file__).parent / "emulator" / "kernels"
SEEDS = range(4)  # one of each order of running


def transposes(edits, seed, watched):
    module = build(KERNELS / "transpose.cu", ["transpose"], edits=edits, watched=watched)
    matrix = np.random.default_rng(0).random((45, 45), np.float32)
    out = np.zeros_like(matrix)
    module.transpose((2, 2), (32, 8), matrix, out, len(matrix), seed=seed)
    return np.array_equal(out, matrix.T)


def reverses(edits, seed, watched):
    module = build(KERNELS / "transpose.cu", ["reverse_and_sum"], edits=edits, watched=watched)
    values = np.random.default_rng(0).random(32, np.float32)
    out, total = np.zeros_like(values), np.zeros(1, np.float32)
    module.reverse_and_sum((1,), (32,), values, out, total, shared_bytes=128, seed=seed)
    return np.array_equal(out, values[::-1]) and np.allclose(total, values.sum())


def sums_columns(edits, seed, watched):
    module = build(KERNELS / "pipeline.cu", ["column_sums"], edits=edits, watched=watched)
    slabs = np.random.default_rng(0).random((5, 4, 128), np.float32)
    out = np.zeros(128, np.float32)
    module.column_sums((1,), (128,), slabs, out, len(slabs), shared_bytes=4096, seed=seed)
    return np.allclose(out, slabs.sum((0, 1))[::-1])


def multiplies(edits, seed, watched):
    module = build(KERNELS / "gemm_tile.cu", ["gemm_tile"], edits=edits, watched=watched)
    rng = np.random.default_rng(0)
    a, b = (rng.random((rows, 48)).astype(np.float16) for rows in (16, 8))
    out = np.zeros((16, 8), np.float32)
    module.gemm_tile((1,), (32,), a, b, out, 48, shared_bytes=24 * 32, seed=seed)
    return np.allclose(out, a.astype(float) @ b.astype(float).T)


def passes(run, edits, seed, watched):
    try:
        return run(edits, seed, watched)
    except EmulationError:
        return False


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("run", [transposes, reverses, sums_columns, multiplies])
def test_emulator__passes_the_kernels_as_they_are(run, watched):
    assert all(passes(run, (), seed, watched) for seed in SEEDS)


BARRIERS = {
    "the only one": (transposes, Edit("transpose.cu", "__syncthreads();", "")),
    "before the slab is read": (sums_columns, Edit("pipeline.cu", "__syncthreads();", "")),
    "before it is overwritten": (sums_columns, Edit("pipeline.cu", "__syncthreads();", "", 1)),
}


def caught(run, edits, *, watched):
    """Whether a seed shows it: every seed where accesses are watched, one where only values are."""
    found = (not passes(run, edits, seed, watched) for seed in SEEDS)
    return all(found) if watched else any(found)


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("name", BARRIERS)
def test_emulator__catches_a_missing_barrier(name, watched):
    run, edit = BARRIERS[name]
    assert caught(run, [edit], watched=watched)


WARP_BARRIERS = {
    "between write and read": (reverses, Edit("transpose.cu", "__syncwarp();", "")),
    "before ldmatrix": (multiplies, Edit("gemm_tile.cu", "__syncwarp();", "")),
    "before rows are overwritten": (multiplies, Edit("gemm_tile.cu", "__syncwarp();", "", 1)),
}


@pytest.mark.parametrize("name", WARP_BARRIERS)
def test_emulator__catches_a_missing_warp_barrier_under_every_seed(name):
    run, edit = WARP_BARRIERS[name]
    for seed in SEEDS:
        with pytest.raises(EmulationError, match="no barrier between"):
            run([edit], seed, watched=True)


WAITS = {
    "no wait": Edit("pipeline.cu", "cp_async_wait<1>();", ""),
    "a wait that leaves two in flight": Edit("pipeline.cu", "wait<1>", "wait<2>"),
    "a copy that joins no group": Edit("pipeline.cu", "cp_async_commit();", ""),
    "a wait behind the barrier": Edit(
        "pipeline.cu",
        "cp_async_wait<1>();\n        __syncthreads();",
        "__syncthreads();\n        cp_async_wait<1>();",
    ),
}


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("name", WAITS)
def test_emulator__catches_a_missing_wait(name, watched):
    assert caught(sums_columns, [WAITS[name]], watched=watched)


LANE_MAPS = {
    "rows of A, in the kernel": Edit("gemm_tile.cu", "(lane & 15) * 16", "((lane ^ 8) & 15) * 16"),
    "halves of A, in the kernel": Edit("gemm_tile.cu", "(lane >> 4) * 8", "(~lane >> 4 & 1) * 8"),
    "halves of B, in the kernel": Edit("gemm_tile.cu", "(lane >> 3 & 1)", "(lane >> 4 & 1)"),
    "columns of D, in the kernel": Edit("gemm_tile.cu", "2 * (lane & 3)", "(lane & 3)"),
    "rows of D, in the kernel": Edit("gemm_tile.cu", "lane >> 2, column", "lane & 7, column"),
    "registers of A, in the emulator": Edit(
        "runtime.cpp",
        "a[group + 8 * (r & 1)][2 * place + 8 * (r >> 1)",
        "a[group + 8 * (r >> 1)][2 * place + 8 * (r & 1)",
    ),
    "lanes of B, in the emulator": Edit("runtime.cpp", "high][group] =", "high][7 - group] ="),
    "lanes of D, in the emulator": Edit(
        "runtime.cpp", "out[i] = d[group + 8 * (i >> 1)]", "out[i] = d[group + 8 * (i & 1)]"
    ),
    "ldmatrix by columns, in the emulator": Edit(
        "runtime.cpp",
        "row = lane / 4, column = 2 * (lane % 4)",
        "row = lane % 8, column = lane / 8 * 2",
    ),
    "ldmatrix's addresses, in the emulator": Edit(
        "runtime.cpp", "matrix[i / 8][i % 8]", "matrix[i % 4][i / 4]"
    ),
}


@pytest.mark.parametrize("name", LANE_MAPS)
def test_emulator__catches_a_wrong_lane_map(name):
    assert not passes(multiplies, [LANE_MAPS[name]], seed=0, watched=False)


def test_edit__refuses_a_text_that_is_not_there():
    with pytest.raises(ValueError, match="occurs 0 times"):
        build(KERNELS / "pipeline.cu", [], edits=[Edit("pipeline.cu", "no such text", "")])


# ------------------------------------------------------------------------ the package's own kernels
def mixed_predictions():
    """Models of three tiles; some share nothing, in all samples or, far from warp 0, at the end."""
    log_prob = predictions(140, 27, 10)
    log_prob[70:76, 24:] = one_hot(6, 3, 10)
    log_prob[134:] = one_hot(6, 27, 10, seed=1)
    return log_prob


LOG_PROB = mixed_predictions()
EXPECTED = distances(LOG_PROB)
MUST_LOSE, MAY_LOSE = lost_pairs_bounds(LOG_PROB, 128)


def measures(edits, seed, watched):
    """Both fused paths; what the tensor kernel loses, the float32 kernel's second form adds."""
    settings = {"seed": seed, "watched": watched, "edits": edits}
    ffma, tensor = (Engine(10, path, **settings) for path in ("ffma", "tensor"))
    # A wrong product often looks like a lost one, and is then made good: count them too.
    return (
        agrees(ffma.distances(LOG_PROB), EXPECTED)
        and agrees(tensor.distances(LOG_PROB), EXPECTED)
        and MUST_LOSE <= tensor.lost_pairs <= MAY_LOSE
    )


def occurrences(file, text):
    count = (CUDA / file).read_text().count(text)
    return [pytest.param(file, which, id=f"{file} {which}") for which in range(count)]


@pytest.mark.parametrize("watched", [True, False])
def test_package__passes_as_it_is(watched):
    assert all(passes(measures, (), seed, watched) for seed in SEEDS)


BARRIER = "__syncthreads();"


@pytest.mark.parametrize(
    ("file", "which"), [*occurrences("ffma.cu", BARRIER), *occurrences("tensor.cu", BARRIER)]
)
def test_package__needs_each_of_its_barriers(file, which):
    assert caught(measures, [Edit(file, BARRIER, "", which)], watched=False)
    assert not passes(measures, [Edit(file, BARRIER, "", which)], 0, watched=True)


@pytest.mark.parametrize("file", ["ffma.cu", "tensor.cu"])
@pytest.mark.parametrize("weaker", ["", "cp_async_wait<RING - 1>();"])
def test_package__needs_its_waits(file, weaker):
    edit = Edit(file, "cp_async_wait<RING - 2>();", weaker)
    assert caught(measures, [edit], watched=False)
    assert caught(measures, [edit], watched=True)


PACKAGE_LANE_MAPS = {
    "rows of the fragments, in the emulator": Edit(
        "runtime.cpp", "a[group + 8 * (r & 1)]", "a[group + 8 * (r >> 1)]"
    ),
    "places of B, in the emulator": Edit(
        "runtime.cpp", "b[2 * place + 8 * r + high]", "b[4 * place + 2 * r + high]"
    ),
    "columns of D, in the emulator": Edit(
        "runtime.cpp", "[2 * place + (i & 1)];", "[place + 4 * (i & 1)];"
    ),
    "ldmatrix's addresses, in the emulator": Edit(
        "runtime.cpp", "matrix[i / 8][i % 8]", "matrix[i % 4][i / 4]"
    ),
    "rows of a pair": Edit("tensor.cu", "threadIdx.x % 32 / 4", "threadIdx.x % 8"),
    "columns of a pair": Edit("tensor.cu", "2 * (threadIdx.x % 4) + k % 2", "threadIdx.x % 4 + k"),
    "rows that ldmatrix fetches": Edit("tensor.cu", "TILE + lane % 16", "TILE + (lane ^ 8) % 16"),
    "columns that ldmatrix fetches": Edit("tensor.cu", "COLS + lane % 8", "COLS + (lane ^ 1) % 8"),
    "high and low halves of the rest": Edit(
        "prepare.cu", "right[3 * k + 1] = low", "right[3 * k + 1] = high"
    ),
    "products of high and low": Edit("split.cuh", "? p ^ 1 :", "? p :"),
    "the second four rows of a thread": Edit("ffma.cu", "12 + i", "4 + i"),
}


@pytest.mark.parametrize("name", PACKAGE_LANE_MAPS)
def test_package__needs_its_lane_maps(name):
    assert not passes(measures, [PACKAGE_LANE_MAPS[name]], 0, watched=False)


# ----------------------------------------------------------------- what counts the floored pairs
FLOOR_TILES = [(0, 0), (0, 1), (1, 1)]


def floored_predictions():
    """Models of two tiles, more samples and classes than bits in a word; some at the floor.

    Of the second tile in more samples than of the first, and of none in the first samples.
    """
    log_prob = predictions(140, 35, 34)
    log_prob[60:100, 20:] = one_hot(40, 15, 34)
    log_prob[130:, 5:] = one_hot(10, 30, 34, seed=1)
    return log_prob


def floored_pairs(log_prob):
    """Contributions of each tile that the floor decides, from the definition; pairs u < v."""
    root, _ = roots(log_prob)
    low = root <= FLOOR
    above = np.where(low, 0.0, root)
    overlap = np.einsum("unc,vnc->uvn", above, above)
    some = low.any(-1)
    decided = (overlap <= FLOOR) & some[:, None] & some
    counts = np.triu(decided.sum(-1), 1)
    halves = slice(0, 128), slice(128, None)
    return [counts[halves[i], halves[j]].sum() for i, j in FLOOR_TILES]


FLOORED = floored_predictions()
FLOORED_PAIRS = floored_pairs(FLOORED)


def counts_floored(edits, seed, watched):
    """`mark_floored` and `count_floored` alone: no distances are made."""
    engine = Engine(34, "ffma", seed=seed, watched=watched, edits=edits, count=True)
    with engine.accumulator(FLOOR_TILES, FLOORED.shape[1]) as total:
        total._add_tiles = lambda *parts: None
        total.add_log_prob(array(FLOORED))
        return total.floored_pairs.tolist() == FLOORED_PAIRS


@pytest.mark.parametrize("watched", [True, False])
def test_count__passes_as_it_is(watched):
    assert min(FLOORED_PAIRS) > 0
    assert all(passes(counts_floored, (), seed, watched) for seed in SEEDS)


COUNT_MISTAKES = {
    "a store in place of atomicOr": Edit(
        "floored.cu",
        "atomicOr(&floored[n / 32 * (stride / TILE) + model / TILE], 1u << n % 32)",
        "floored[n / 32 * (stride / TILE) + model / TILE] = 1u << n % 32",
    ),
    "the bit of a sample": Edit("floored.cu", "1u << n % 32", "1u << n % 16"),
    "the word of a sample": Edit("floored.cu", "start / 32 * (row_", "start / 64 * (row_"),
    "the word of a block of models": Edit("floored.cu", "+ patch.col / TILE]", "+ 0]"),
    "the bit of a class": Edit("floored.cu", "(c - 32 * word)", "(c - 32 * word) % 4"),
    "what is firm": Edit("floored.cu", "> FIRM)", "> 0.0f)"),
    "what is at the floor": Edit("floored.cu", "p > FLOOR && q > FLOOR", "p > 0 && q > 0"),
    "which pairs of the diagonal": Edit("floored.cu", "if (upper) end =", "if (false) end ="),
    "the half of a column": Edit("floored.cu", "thread / TILE * (TILE / 2)", "0"),
    "the column of a thread": Edit("floored.cu", "thread % TILE, first", "thread / 2, first"),
    "the tile that is told": Edit("floored.cu", "&counts[tile]", "&counts[0]"),
    "an addition that others undo": Edit(
        "floored.cu", "atomicAdd(&counts[tile], count)", "counts[tile] = count"
    ),
}


@pytest.mark.parametrize("name", COUNT_MISTAKES)
def test_count__needs_each_of_its_parts(name):
    assert caught(counts_floored, [COUNT_MISTAKES[name]], watched=False)
