"""All trajectories at all values of progress in one pass: Bhattacharyya distances of a few runs.

With few runs the engine's kernel waits for its models: each is interpolated, and compared with only
R − 1 others. Here √p of the two checkpoints that every run is between lie in the kernel's own
panels, one run in each lane, so that re-indexing is two multiplications for all lanes at once, and
each checkpoint is read once per slab while s rises. Same kernel, same normalisation, same groups of
samples as in the engine: results agree to rounding.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from inpca.distance.divergences import BHATTACHARYYA, FLOOR
from inpca.distance.kernels_numba import (
    LANES,
    add_log_affinities,
    allocate,
    class_block,
    compiled,
    count_floored,
    group_samples,
    n_panels,
)
from inpca.errors import ResourceError
from inpca.executor import Executor
from inpca.geometry.runs import Trajectories
from inpca.reporting import Report
from inpca.units import format_bytes

Float64 = NDArray[np.float64]
# With more runs than this the kernel has enough to do, and panels of all of them would be large.
MOST_RUNS = 4 * LANES
_ROWS = 128  # of a strip of the kernel
_TINY = 1e-30  # the angle of rows that coincide: sin(t θ) / sin θ is then t
# arcsin h = h Σ_k a_k h²ᵏ, to 1e-15 for h² ≤ 0.147.
_ARCSIN = np.array([comb(2 * k, k) / 4.0**k / (2 * k + 1) for k in range(17)])
_log = logging.getLogger("inpca.geometry")


def distances_at_equal_progress(
    found: Trajectories, memory: int, executor: Executor, report: Report
) -> list[Float64]:
    """D of all runs at each value of s, (R, R) each.

    Parameters
    ----------
    found : at most `MOST_RUNS` runs
    memory : bytes allowed beside the result

    Raises
    ------
    ResourceError
        If `memory` does not hold one group of samples.
    """
    n_runs, n_samples, _ = found.at(0).shape
    slab = _slab(found, memory // executor.n_workers, memory)
    sums = np.zeros((len(found.s), n_runs, n_runs))
    parts = np.array_split(np.argsort(found.s, kind="stable"), 2 * executor.n_workers)
    floored, done = 0, 0
    for count, n_values in executor.map(
        lambda part: _add(found, part, slab, sums), [part for part in parts if len(part)]
    ):
        floored, done = floored + count, done + n_values
        report(done, len(found.s), f"{done:,} of {len(found.s):,} values of s")
    if floored:
        n_pairs = n_runs * (n_runs - 1) // 2 * len(found.s)
        _log.warning(
            "%d of %d contributions %s", floored, n_pairs * n_samples, BHATTACHARYYA.capped
        )
    return [_normalised(one, n_samples) for one in sums]


def _normalised(sums: Float64, n_samples: int) -> Float64:
    """D from Σ_n ln a of the strips on and right of the diagonal."""
    for start in range(LANES, len(sums), LANES):
        rows = slice(start, start + LANES)
        sums[rows, :start] = sums[:start, rows].T
    own = np.diagonal(sums).copy()
    return np.asarray((0.5 * np.add.outer(own, own) - sums) / n_samples)


def _slab(found: Trajectories, share: int, memory: int) -> int:
    """Samples at a time: what lies together on disk, or what fits."""
    n_runs, n_samples, n_classes = found.at(0).shape
    group = group_samples(n_classes)
    itemsize = found.base.dtype.itemsize
    # Two panels of checkpoints, what is read of them twice, and two numbers for each angle.
    per_sample = n_panels(n_runs) * LANES * (4 * n_classes * itemsize + 16)
    fixed = group * n_panels(n_runs) * LANES * (n_classes * itemsize + 1)
    chunk = int(getattr(found.base, "chunk_samples", 1))
    n_groups = min(-(-max(chunk, 1) // group), -(-n_samples // group))
    while n_groups > 1 and n_groups * group * per_sample + fixed > share:
        n_groups = -(-n_groups // 2)
    needed = n_groups * group * per_sample + fixed
    if needed > share:
        raise ResourceError(
            f"The trajectories need {format_bytes(needed)} for each worker but `memory` is "
            f"{format_bytes(memory)} for all; raise it, or take fewer workers as `executor`."
        )
    return n_groups * group


@dataclass
class _Panels:
    """√p of the checkpoints before and after, and the angle between, of every run: one slab."""

    before: NDArray[np.floating]
    after: NDArray[np.floating]
    angle: Float64
    scale: Float64
    left: NDArray[np.intp]


def _add(found: Trajectories, part: NDArray[np.intp], slab: int, sums: Float64) -> tuple[int, int]:
    """Add Σ_n ln a of the values of s in `part` (rising) to `sums`; floored contributions."""
    n_runs, n_samples, n_classes = found.at(0).shape
    dtype, shape = found.base.dtype, (n_panels(n_runs), min(slab, n_samples), n_classes, LANES)
    group = min(group_samples(n_classes), shape[1])
    left = np.array([location.left for location in found.locations])
    fraction = np.zeros((len(found.s), shape[0] * LANES))
    fraction[:, :n_runs] = np.array([location.fraction for location in found.locations]).T
    panels = _Panels(
        allocate(shape, dtype),
        allocate(shape, dtype),
        np.full((shape[0], shape[1], LANES), _TINY),
        np.full((shape[0], shape[1], LANES), 1 / _TINY),
        np.full(n_runs, -1, np.intp),
    )
    between = allocate((shape[0], group, n_classes, LANES), dtype)
    flags = np.zeros((group, shape[0] * LANES), np.uint8)
    floored = 0
    for samples in _slabs(n_samples, slab):
        panels.left[:] = -1
        for number in part:
            _move(found, panels, left[:, number], samples)
            for start in range(0, samples.stop - samples.start, group):
                n = min(group, samples.stop - samples.start - start)
                capped = interpolate(
                    panels.before,
                    panels.after,
                    (panels.angle, panels.scale),
                    fraction[number],
                    (start, n),
                    n_runs,
                    between,
                    flags,
                )
                for first in range(0, n_runs, _ROWS):
                    where = (first, min(first + _ROWS, n_runs), first // LANES, n_runs)
                    add_log_affinities(
                        between, between, where, n, class_block(n_classes), sums[number]
                    )
                    if capped:
                        floored += count_floored(between, between, flags, flags, where, n, True)
    return floored, len(part)


def _slabs(n_samples: int, slab: int) -> Iterator[slice]:
    return (slice(start, min(start + slab, n_samples)) for start in range(0, n_samples, slab))


def _move(found: Trajectories, panels: _Panels, left: NDArray[np.intp], samples: slice) -> None:
    """Bring the runs that have passed a checkpoint to their new pair of checkpoints."""
    moved = np.flatnonzero(panels.left != left)
    if not len(moved):
        return
    n = samples.stop - samples.start
    last = np.array([len(found.rows[run]) - 1 for run in moved])
    following = np.minimum(left[moved] + 1, last)
    after = _roots(found, moved, following, samples)
    one_step = (panels.left[moved] == left[moved] - 1) & (panels.left[moved] >= 0)
    jumped = moved[~one_step]
    if len(jumped):
        put(_roots(found, jumped, left[jumped], samples), jumped, panels.before)
        put(after[~one_step], jumped, panels.after)
        after = after[one_step]
    advance(after, moved[one_step], panels.before, panels.after)
    which = np.unique(moved // LANES)
    measure(panels.before, panels.after, which, n, panels.angle, panels.scale)
    panels.left[:] = left


def _roots(
    found: Trajectories, runs: NDArray[np.intp], checkpoints: NDArray[np.intp], samples: slice
) -> NDArray[np.floating]:
    """√p of one checkpoint of each run, (k, n, C)."""
    dtype = found.base.dtype
    out = np.empty((len(runs), samples.stop - samples.start, found.base.shape[2]), dtype)
    for values, run, checkpoint in zip(out, runs, checkpoints):
        row = int(found.rows[run][checkpoint])
        np.multiply(found.base.read(slice(row, row + 1), samples)[0], dtype.type(0.5), out=values)
        with np.errstate(under="ignore"):
            np.exp(values, out=values)
    return out


# -- kernels: lanes innermost ---------------------------------------------------------------------


@compiled
def put(roots: Any, lanes: Any, panels: Any) -> None:
    """Write models (k, n, C) into their lanes of panels (P, n, C, LANES)."""
    n_models, n_samples, n_classes = roots.shape
    for n in range(n_samples):
        for u in range(n_models):
            panel, lane = lanes[u] // LANES, lanes[u] % LANES
            for c in range(n_classes):
                panels[panel, n, c, lane] = roots[u, n, c]


@compiled
def advance(roots: Any, lanes: Any, before: Any, after: Any) -> None:
    """Lanes go on by one checkpoint: what was after is before, and `roots` come after."""
    n_models, n_samples, n_classes = roots.shape
    for n in range(n_samples):
        for u in range(n_models):
            panel, lane = lanes[u] // LANES, lanes[u] % LANES
            for c in range(n_classes):
                before[panel, n, c, lane] = after[panel, n, c, lane]
                after[panel, n, c, lane] = roots[u, n, c]


@compiled
def measure(x: Any, y: Any, panels: Any, n_samples: int, angle: Any, scale: Any) -> None:
    """θ and 1 / sin θ between two models, for every lane of some panels; through the chord.

    θ = 4 arcsin h with h = sin(θ/4), whose square is at most 0.147, so that the series is short.
    """
    squares, series = np.empty(LANES), np.empty(LANES)
    for panel in panels:
        for n in range(n_samples):
            squares[:] = 0.0
            for c in range(x.shape[2]):
                a, b = x[panel, n, c], y[panel, n, c]
                for v in range(LANES):
                    difference = np.float64(a[v]) - np.float64(b[v])
                    squares[v] += difference * difference
            for v in range(LANES):
                q = min(0.25 * squares[v], 0.5)
                squares[v] = q / (2.0 * (1.0 + np.sqrt(1.0 - q)))
                series[v] = _ARCSIN[-1]
            for k in range(len(_ARCSIN) - 2, -1, -1):
                for v in range(LANES):
                    series[v] = series[v] * squares[v] + _ARCSIN[k]
            theta, factor = angle[panel, n], scale[panel, n]
            for v in range(LANES):
                theta[v] = max(4.0 * np.sqrt(squares[v]) * series[v], _TINY)
                factor[v] = 1.0 / sine(theta[v])


def sine(x: Any) -> Any:
    """sin x on [0, π/2] to 1e-15 relative, written out because it then vectorises."""
    q = x * x
    series = -1.0 / 121645100408832000.0
    series = series * q + 1.0 / 355687428096000.0
    series = series * q - 1.0 / 1307674368000.0
    series = series * q + 1.0 / 6227020800.0
    series = series * q - 1.0 / 39916800.0
    series = series * q + 1.0 / 362880.0
    series = series * q - 1.0 / 5040.0
    series = series * q + 1.0 / 120.0
    series = series * q - 1.0 / 6.0
    return x + x * q * series


register_jitable(sine)


@compiled
def interpolate(
    x: Any,
    y: Any,
    angles: Any,
    fraction: Any,
    part: Any,
    n_runs: int,
    out: Any,
    flags: Any,
) -> bool:
    """Eq. 3 for every lane, floored; whether any is at the floor.

    x, y (P, N, C, LANES) √p; `angles` θ and 1 / sin θ; `fraction` (P · LANES,) α; `part` (first
    sample, samples); out (P, n, C, LANES); `flags` (n, P · LANES): where a run is at the floor.
    """
    start, n = part
    weight_x, weight_y = np.empty(LANES, x.dtype), np.empty(LANES, x.dtype)
    least = np.empty(LANES, x.dtype)
    floor = x.dtype.type(FLOOR)
    found = False
    for panel in range(x.shape[0]):
        alpha = fraction[panel * LANES : (panel + 1) * LANES]
        for i in range(n):
            theta, factor = angles[0][panel, start + i], angles[1][panel, start + i]
            for v in range(LANES):
                weight_x[v] = sine((1.0 - alpha[v]) * theta[v]) * factor[v]
                weight_y[v] = sine(alpha[v] * theta[v]) * factor[v]
                least[v] = 1.0
            for c in range(x.shape[2]):
                from_x, from_y = x[panel, start + i, c], y[panel, start + i, c]
                target = out[panel, i, c]
                for v in range(LANES):
                    value = weight_x[v] * from_x[v] + weight_y[v] * from_y[v]
                    value = value if value > floor else floor
                    least[v] = least[v] if least[v] < value else value
                    target[v] = value
            for v in range(min(LANES, n_runs - panel * LANES)):
                at_floor = least[v] <= floor
                flags[i, panel * LANES + v] = at_floor
                found |= at_floor
    return found
