"""Sums over differences of features on the CPU: squares, products, and angles made of them.

The panels, strips and register blocks are those of `kernels_numba`; in place of a product of
affinities a block gathers Σ_c (f_u − f_v)(g_u − g_v). The difference is taken first: what comes out
is right to a few roundings of itself, however near the models, where |f_u|² + |f_v|² − 2 f_u·f_v
would be right to a rounding of 1. That is also why there is no matrix product here. It would not be
faster either: for 10 classes, on the machine of `kernels_numba`, squares take 1.4 times as long as
Bhattacharyya's distance (1.1 × sgemm), products of two features 2.2 times, angles 3.8 times.

About 64 terms are summed in a register, the rest in float64; of more than `MANY_CLASSES` classes in
float32 `_SHORT` terms, so that 200,000 equal ones err no more than 1,000. With an angle the terms
are those of one sample, and the angle follows from h = ‖√p_u − √p_v‖² = 2 (1 − affinity) by

    arccos²(1 − h/2) = h (1 + h/12 + h²/90 + …),        0 ≤ h ≤ 2,

a polynomial for the dtype: arccos of an affinity near 1 would lose half of the digits.
"""

from typing import Any

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from inpca.distance import simd
from inpca.distance.kernels_numba import (
    LANES,
    aligned,
    class_block,
    compiled,
    group_samples,
    sums_many,
)
from inpca.distance.simd_differences import add_products, add_squares

# Numba keeps compiled code until this very file changes: edit this line, and the VERSION in
# kernels_numba.py, after any change in simd.py or simd_differences.py that changes bytes.
_REVISION = 2

_TERMS = 64  # summed in a register
_SHORT = 32  # of many classes in float32
_STRIP = 128  # rows at a time
# Values of a column panel that stay in the second-level cache, under a strip; for each model of a
# panel, however many that are: the bytes must not depend on the width of the registers.
_CHUNK_BYTES = 1 << 11

# arccos²(1 − h/2) / h in powers of h − 1, interpolated at Chebyshev points of 0 … 2: relative
# error 1e-9 and 2e-16.
_SINGLE = (
    1.0966227121455514,
    0.11257686519139484,
    0.019223160125748807,
    0.0040211782876848874,
    0.0009384565085371223,
    0.0002343364796614733,
    6.026565728838305e-05,
    1.6277326763969307e-05,
    5.679630635313515e-06,
    1.6174892010667463e-06,
)
_DOUBLE = (
    1.096622711232151,
    0.11257686492399444,
    0.01922320571666585,
    0.004021191634033449,
    0.0009380950956766446,
    0.00023423069821824067,
    6.12573912211367e-05,
    1.65674799518456e-05,
    4.596187703498344e-06,
    1.3007936104258988e-06,
    3.743577309478497e-07,
    1.0907217529165786e-07,
    3.165254724990518e-08,
    9.453651728108525e-09,
    3.3585365599719808e-09,
    9.687937563285232e-10,
    -2.0190782379358893e-11,
    2.0372681319713536e-11,
    9.604264050722122e-11,
    2.3283064365386964e-11,
)


def angle_coefficients(dtype: Any) -> tuple[Any, ...]:
    """Of the polynomial for arccos², in `dtype`, from the highest power down."""
    dtype = np.dtype(dtype)
    return tuple(map(dtype.type, reversed(_SINGLE if dtype.itemsize == 4 else _DOUBLE)))


def stretch_samples(n_classes: int) -> int:
    """Samples summed in a register: a power of two, so that it divides every slab.

    >>> stretch_samples(2), stretch_samples(10), stretch_samples(100)
    (32, 4, 1)
    """
    n_samples = 1
    while 2 * n_samples * n_classes <= _TERMS:
        n_samples *= 2
    return n_samples


def chunk_samples(n_classes: int, itemsize: int) -> int:
    """Samples of a column panel that stay in cache: a power of two, at most a group."""
    n_samples = group_samples(n_classes)
    while n_samples > 1 and n_samples * n_classes * itemsize > _CHUNK_BYTES:
        n_samples //= 2
    return n_samples


register_jitable(stretch_samples)
register_jitable(chunk_samples)


@compiled
def _gather(
    rows: Any,
    columns: Any,
    other_rows: Any,
    other_columns: Any,
    i: int,
    j: int,
    n_steps: int,
    aside: Any,
) -> None:
    """Sum `n_steps` (samples × classes) of a register block, from values i and j, to `aside`."""
    totals = simd.zeros(rows)
    if other_rows is None:
        for _ in range(n_steps):
            totals = add_squares(totals, rows, i, columns, j)
            i += LANES
            j += LANES
    else:
        for _ in range(n_steps):
            totals = add_products(totals, rows, i, columns, j, other_rows, other_columns)
            i += LANES
            j += LANES
    simd.put(totals, aside)


@compiled
def _to_angles(squares: Any, coefficients: Any, root: bool) -> None:
    """Replace h by arccos²(1 − h/2), or by its root."""
    one, zero = squares.dtype.type(1), squares.dtype.type(0)
    for k in range(squares.size):
        x = squares[k] - one
        value = zero
        for coefficient in coefficients:
            value = value * x + coefficient
        squares[k] *= value
    if root:
        for k in range(squares.size):
            squares[k] = np.sqrt(squares[k])


@compiled
def _add_samples(panels: Any, at: Any, n_samples: int, shape: Any, angle: Any, work: Any) -> None:
    """Add `n_samples` of a register block, from the values `at`, to the float64 sums of `work`.

    `shape` = (classes, samples in a stretch, steps in a register), `angle` = None, or the
    polynomial and whether its root is wanted.
    """
    n_classes, stretch, block = shape
    rows, columns, other_rows, other_columns = panels
    aside, squares, sums = work
    i, j = at
    for first in range(0, n_samples, stretch):
        n_steps = min(stretch, n_samples - first) * n_classes
        squares[:] = 0
        for start in range(0, n_steps, block):
            length = min(block, n_steps - start)
            _gather(rows, columns, other_rows, other_columns, i, j, length, aside)
            i += length * LANES
            j += length * LANES
            for k in range(squares.size):
                squares[k] += aside[k]
        if angle is not None:
            _to_angles(squares, angle[0], angle[1])
        for k in range(sums.size):
            sums[k] += squares[k]


@compiled
def _subtract_chunk(
    panels: Any, where: Any, samples: Any, shape: Any, angle: Any, work: Any, weight: Any, out: Any
) -> None:
    """Subtract one chunk of samples, a strip of rows × one panel, from `out`."""
    first_row, end_row, panel, end_column = where
    first, end = samples
    n_samples, n_classes = shape[0], shape[1]
    rows = panels[0]
    sums = work[2]
    height = simd.block_rows(rows.itemsize)
    per_sample = n_classes * LANES
    width = min(LANES, end_column - panel * LANES)
    j = (panel * n_samples + first) * per_sample
    for u in range(first_row, end_row, height):
        i = (u // LANES * n_samples + first) * per_sample + u % LANES
        sums[:] = 0.0
        _add_samples(panels, (i, j), end - first, shape[1:], angle, work)
        for r in range(min(height, end_row - u)):
            for v in range(width):
                out[u + r, panel * LANES + v] -= weight * sums[r * LANES + v]


@compiled
def _subtract_panels(
    panels: Any,
    part: Any,
    n_samples: int,
    shape: Any,
    angle: Any,
    weight: Any,
    out: Any,
    like: Any,
) -> None:
    """`add_differences` of panels seen as (size,) arrays; `like` gives the dtype of sample sums."""
    first_row, end_row, first_panel, end_column = part
    rows = panels[0]
    size = simd.block_rows(rows.itemsize) * LANES
    work = (aligned(size, rows), aligned(size, like), np.empty(size, np.float64))
    chunk = chunk_samples(shape[1], rows.itemsize)
    for u in range(first_row, end_row, _STRIP):
        for n in range(0, n_samples, chunk):
            for panel in range(first_panel, -(-end_column // LANES)):
                where = (u, min(end_row, u + _STRIP), panel, end_column)
                samples = (n, min(n_samples, n + chunk))
                _subtract_chunk(panels, where, samples, shape, angle, work, weight, out)


def add_differences(
    rows: NDArray[Any],
    columns: NDArray[Any],
    part: tuple[int, int, int, int],
    n_samples: int,
    weight: float,
    sums: NDArray[np.float64],
    *,
    angle: str | None = None,
) -> None:
    """sums[u, v] −= weight · Σ_n φ(Σ_c (f_u − f_v)(g_u − g_v)) for part of a tile.

    Parameters
    ----------
    rows, columns : packed panels (k, P, n, C, LANES): f alone (g = f), or f and g
    part : (first row, end of rows, first column panel, end of columns); rows begin at a multiple
        of 8
    n_samples : samples in the panels to use, counted from a multiple of `group_samples`
    weight : of the sum
    sums : (tile_size, tile_size) float64
    angle : φ: None: the sum itself; ``"square"``: arccos²(1 − h/2) of a sample's sum h; ``"root"``:
        arccos
    """
    _, _, n_packed, n_classes, _ = rows.shape
    one_sample = angle is not None
    stretch = 1 if one_sample else stretch_samples(n_classes)
    block = class_block(n_classes) if n_classes > _TERMS else stretch * n_classes
    like = rows.dtype
    if sums_many(n_classes, rows.dtype):
        block, like = _SHORT, np.dtype(np.float64)
    shape = (n_packed, n_classes, stretch, block)
    flat = [feature.reshape(-1) for pair in zip(rows, columns) for feature in pair]
    panels = (flat[0], flat[1], *(flat[2:] or (None, None)))
    function = (angle_coefficients(rows.dtype), angle == "root") if one_sample else None
    _subtract_panels(panels, part, n_samples, shape, function, weight, sums, np.empty(0, like))


@compiled
def count_one_sided(
    rows: Any,
    columns: Any,
    row_floored: Any,
    column_floored: Any,
    part: Any,
    n_samples: int,
    upper: bool,
    floor: Any,
) -> int:
    """How many contributions (u, v, n) have a class where one model alone is at `floor`.

    Only samples and models flagged in `row_floored` and `column_floored` (n, models) are looked
    at. With `upper`, only pairs u < v count.
    """
    total = 0
    first_row, end_row, _, n_columns = part
    for n in range(n_samples):
        for u in range(first_row, end_row):
            a = rows[u // LANES, n, :, u % LANES]
            for v in range(u + 1 if upper else 0, n_columns):
                if row_floored[n, u] or column_floored[n, v]:
                    b = columns[v // LANES, n, :, v % LANES]
                    for c in range(a.size):
                        if (a[c] <= floor) != (b[c] <= floor):
                            total += 1
                            break
    return total
