"""The fused CPU kernel at the machine's ceiling: affinities in vector registers, blocked by hand.

Features are packed into *panels* of `LANES` models, ``packed[panel, sample, class, lane]``; the
same panels serve as rows and as columns. A *register block* holds the affinities of four models
with the models of a panel: per class one load per column vector, one broadcast per row, and a fused
multiply-add for every register (`simd`). One compiled kernel serves every number of classes: the
loop over the classes carries the block from step to step, and LLVM keeps it in registers.

Products instead of logarithms: each sample multiplies the block into a running product per pair
(float32, in the first-level cache), and every fourth sample the exponents are split off as
integers, exactly: products are kept at 2¹²⁵, where four affinities of 2⁻⁶² still are normal
numbers. One logarithm per `group_samples` is added to the float64 accumulator. The boundaries are
constants counted from the first sample, and every lane of every panel goes through the same
arithmetic, symmetric in the two models: slabs, blocks, threads and the place of a model in its
panel never change a byte.

Measured on AMD Zen 5 (AVX-512), one thread, CPU time, beside numpy's sgemm in the same process
(110 GFLOP/s; the core's fused multiply-adds alone 240): 0.8 × sgemm for 2 classes, 1.45 × for 10,
1.45 × for 100, 1.35 × for 1,000; matmul → log → sum in numpy 4 to 27 GFLOP/s, by its chunking. A
BLAS path for many classes would be slower than this and is left out: it has to write its affinities
to memory. float64 runs at a third of the speed of float32.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable
from numpy.typing import DTypeLike, NDArray

from inpca.distance import simd
from inpca.distance.divergences import FLOOR

# Raised with every change of the bytes of D, here or in `simd`: matrices are not mixed. Numba keeps
# compiled code until this very file changes: edit this line after any change in simd.py.
VERSION = 2
# The same for float32 predictions of more than `MANY_CLASSES` classes, whose bytes changed alone.
VERSION_MANY = 3

LANES = simd.LANES
_CHAIN = simd.CHAIN
_SCALE = simd.SCALE
_UNIT = 2.0**_SCALE
_MAX_GROUP, _MIN_GROUP = 512, 64  # samples per logarithm
STRIP = 128  # rows at a time: their products and exponents fit the second-level cache
_CHUNK_BYTES = 1 << 17  # of a column panel that stays in the second-level cache, under a strip
# Of more classes than this, in float32, sums of `_SHORT` classes are added up in float32 for
# `_STRETCH` classes, and these in float64. The worst case is ignorance, whose terms are all equal:
# ½ ln C is then right to 3e-7 for any C, where float32 alone errs by 8e-6 for 200,000 classes.
MANY_CLASSES = 128
_SHORT, _STRETCH = 16, 128
_ALIGNMENT = 64  # bytes of a cache line: vectors across two lines load at half the speed

_EXPONENT_BIAS = 1023
_MANTISSA = 0x000FFFFFFFFFFFFF
_ONE = 0x3FF0000000000000
_LN2 = math.log(2.0)
_SQRT2 = math.sqrt(2.0)

_log = logging.getLogger("inpca.distance")


def compiled(function: Callable[..., Any], *, reassociate: bool = False) -> Callable[..., Any]:
    """`function` compiled: serial, without the GIL, fused multiply-add allowed, cached on disk.

    Only contraction is allowed of the fast-math flags: reassociation would make the bytes depend
    on the compiler's mood. A plain sum over a long array needs it to become a loop over vectors.
    """
    fastmath = {"contract", "reassoc"} if reassociate else {"contract"}
    options = {"nogil": True, "fastmath": fastmath, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError as error:  # no folder to cache in: slower to start, same results
        _log.info("Compiled kernels are not kept for the next process: %s", error)
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def group_samples(n_classes: int) -> int:
    """Samples per logarithm: a slab of samples is a multiple of this, from the first sample.

    For few classes the logarithm (7 cycles a pair) counts, for many the memory of a slab.

    >>> group_samples(2), group_samples(10), group_samples(100), group_samples(1000)
    (512, 512, 64, 64)
    """
    group = _MAX_GROUP
    while group > _MIN_GROUP and group * n_classes > 16 * _MAX_GROUP:
        group //= 2
    return group


def class_block(n_classes: int) -> int:
    """Classes summed in one row; the sums of more are added up.

    A long sum loses by every term: blocks of about n_classes^⅔ err 5 times less for 1,000 classes,
    at a tenth of the speed. Blocks are of one length: it helps the branch predictor. In float32 it
    counts up to `MANY_CLASSES` classes alone.

    >>> class_block(10), class_block(100), class_block(1000)
    (10, 25, 125)
    """
    block = 32
    while block**3 < n_classes**2:
        block *= 2
    n_blocks = -(-n_classes // block)
    return -(-n_classes // n_blocks)


def sums_many(n_classes: int, dtype: DTypeLike) -> bool:
    """Whether so many classes in `dtype` are summed in stretches.

    >>> sums_many(10, np.float32), sums_many(1000, np.float32), sums_many(1000, np.float64)
    (False, True, False)
    """
    return np.dtype(dtype).itemsize == 4 and n_classes > MANY_CLASSES


def n_panels(n_models: int) -> int:
    """Panels that hold `n_models`."""
    return -(-n_models // LANES)


def packed_shape(n_models: int, n_samples: int, n_classes: int) -> tuple[int, int, int, int]:
    """Shape of the panels that hold a band of models over a slab of samples."""
    return n_panels(n_models), n_samples, n_classes, LANES


def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros that begin at a cache line, for panels; NumPy promises 16 bytes only."""
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.zeros(n_bytes + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


register_jitable(group_samples)


@compiled
def pack(features: Any, first: int, packed: Any, floored: Any, floor: float = FLOOR) -> None:
    """Write (k, n, C) `features` into the lanes first … first + k of `packed` (P, n, C, LANES).

    `floored` (n, P · LANES) uint8 is set where a model has features ≤ `floor` in a sample.
    """
    n_models, n_samples, n_classes = features.shape
    start = 0
    while start < n_models:
        panel, lane = (first + start) // LANES, (first + start) % LANES
        width = min(n_models - start, LANES - lane)
        for n in range(n_samples):
            target, flags = packed[panel, n], floored[n]
            for u in range(width):
                model = features[start + u, n]
                at_floor = False
                for c in range(n_classes):
                    target[c, lane + u] = model[c]
                    at_floor |= model[c] <= floor
                flags[first + start + u] = at_floor
        start += width


@compiled
def split_exponents(bits: Any, exponents: Any) -> None:
    """Move the binary exponents of the positive floats `bits` (seen as int64) to `exponents`."""
    for i in range(bits.size):
        exponents[i] += (bits[i] >> 52) - _EXPONENT_BIAS
        bits[i] = (bits[i] & _MANTISSA) | _ONE


@compiled
def logarithms(mantissas: Any, exponents: Any) -> None:
    """Replace `mantissas` m ∈ [1, 2) by ln(m · 2^exponent), to 1e-16 relative to m near 1.

    Written out because it then vectorises, and is the same on every machine: ln m = 2 artanh t,
    t = (m − 1)/(m + 1), |t| ≤ 0.172.
    """
    for i in range(mantissas.size):
        large = mantissas[i] > _SQRT2
        mantissa = 0.5 * mantissas[i] if large else mantissas[i]
        exponent = exponents[i] + 1.0 if large else exponents[i] + 0.0
        t = (mantissa - 1.0) / (mantissa + 1.0)
        q = t * t
        series = 1.0 / 19.0
        series = series * q + 1.0 / 17.0
        series = series * q + 1.0 / 15.0
        series = series * q + 1.0 / 13.0
        series = series * q + 1.0 / 11.0
        series = series * q + 1.0 / 9.0
        series = series * q + 1.0 / 7.0
        series = series * q + 1.0 / 5.0
        series = series * q + 1.0 / 3.0
        series = series * q + 1.0
        mantissas[i] = exponent * _LN2 + 2.0 * t * series


@compiled
def _multiply_affinities(
    rows: Any, columns: Any, at: Any, samples: Any, classes: Any, work: Any
) -> None:
    """Multiply a block's products by the affinities of samples first … stop of a group.

    `at` = (first row value, first column value, first product), `samples` = (first, stop),
    `classes` = (all, in a block).
    """
    products, exponents, aside, _, _, _ = work
    n_classes, block = classes
    i, j, k = at
    for n in range(samples[0], samples[1]):
        totals = simd.zeros(rows)
        for _ in range(block):
            totals = simd.multiply_add(totals, rows, i, columns, j)
            i += LANES
            j += LANES
        for first in range(block, n_classes, block):
            simd.put(totals, aside)
            totals = simd.zeros(rows)
            for _ in range(min(n_classes - first, block)):
                totals = simd.multiply_add(totals, rows, i, columns, j)
                i += LANES
                j += LANES
            totals = simd.add(aside, totals)
        if n % _CHAIN == _CHAIN - 1:
            simd.multiply_and_split(products, exponents, k, totals)
        else:
            simd.multiply(products, k, totals)


@compiled
def _multiply_many(
    rows: Any, columns: Any, at: Any, samples: Any, n_classes: int, work: Any
) -> None:
    """`_multiply_affinities` of many classes: the sums of stretches of classes are in float64."""
    products, exponents, aside, _, _, wide = work
    i, j, k = at
    for n in range(samples[0], samples[1]):
        wide[:] = 0.0
        for first in range(0, n_classes, _STRETCH):
            end = min(first + _STRETCH, n_classes)
            totals = simd.zeros(rows)
            for _ in range(min(end - first, _SHORT)):
                totals = simd.multiply_add(totals, rows, i, columns, j)
                i += LANES
                j += LANES
            for start in range(first + _SHORT, end, _SHORT):
                simd.put(totals, aside)
                totals = simd.zeros(rows)
                for _ in range(min(end - start, _SHORT)):
                    totals = simd.multiply_add(totals, rows, i, columns, j)
                    i += LANES
                    j += LANES
                totals = simd.add(aside, totals)
            simd.put(totals, aside)
            for v in range(wide.size):
                wide[v] += aside[v]
        for v in range(wide.size):
            aside[v] = wide[v]
        totals = simd.add(aside, simd.zeros(rows))
        if n % _CHAIN == _CHAIN - 1:
            simd.multiply_and_split(products, exponents, k, totals)
        else:
            simd.multiply(products, k, totals)


@compiled
def aligned(size: int, like: Any) -> Any:
    """An uninitialised array of `size` items that begins at a cache line."""
    raw = np.empty(size + _ALIGNMENT // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % _ALIGNMENT) // like.itemsize
    return raw[start : start + size]


@compiled
def multiply_group(
    rows: Any, columns: Any, where: Any, samples: Any, shape: Any, work: Any
) -> None:
    """Products of the affinities of one group of samples, a strip of rows × one panel.

    `where` = (first row, end of rows, panel, end of columns), `samples` = (first, end) of the
    group, `shape` = (samples, classes, classes in a block) of the panels; `work` is that of
    `group_work`, and takes the products, for `row_logarithms`.
    """
    first_row, end_row, panel, _ = where
    first, end = samples
    n_samples, n_classes, block = shape
    products, exponents = work[0], work[1]
    height = simd.block_rows(rows.itemsize)
    per_sample = n_classes * LANES
    many = rows.itemsize == 4 and n_classes > MANY_CLASSES
    chunk = min(end - first, max(1, _CHUNK_BYTES // (per_sample * rows.itemsize)))
    size = -(-(end_row - first_row) // height) * height * LANES
    products[:size] = _UNIT
    exponents[:size] = 0
    for start in range(first, end, chunk):
        stop = min(end, start + chunk)
        j = (panel * n_samples + start) * per_sample
        for u in range(first_row, end_row, height):
            i = (u // LANES * n_samples + start) * per_sample + u % LANES
            at = (i, j, (u - first_row) * LANES)
            part = (start - first, stop - first)
            if many:
                _multiply_many(rows, columns, at, part, n_classes, work)
            else:
                _multiply_affinities(rows, columns, at, part, (n_classes, block), work)


@compiled
def row_logarithms(row: int, n_samples: int, work: Any) -> Any:
    """Logarithms of one row of the products of a group of `n_samples`, (LANES,)."""
    products, exponents, _, biases, logs, _ = work
    offset = n_samples // _CHAIN * simd.split_bias(products.itemsize) + _SCALE
    k = row * LANES
    for v in range(LANES):
        logs[v] = products[k + v]
        biases[v] = exponents[k + v] - offset
    split_exponents(logs.view(np.int64), biases)
    logarithms(logs, biases)
    return logs


@compiled
def group_work(rows: Any, integer: Any) -> Any:
    """Where a group of samples is worked on; `integer` gives the exponents' dtype."""
    size = STRIP * LANES
    return (
        aligned(size, rows),
        aligned(size, integer),
        aligned(simd.block_rows(rows.itemsize) * LANES, rows),
        np.empty(LANES, np.int64),
        np.empty(LANES, np.float64),
        np.empty(simd.block_rows(rows.itemsize) * LANES, np.float64),
    )


@compiled
def _add_group(
    rows: Any, columns: Any, where: Any, samples: Any, shape: Any, work: Any, sums: Any
) -> None:
    """Add the logarithms of one group of samples, a strip of rows × one panel, to `sums`."""
    first_row, end_row, panel, end_column = where
    multiply_group(rows, columns, where, samples, shape, work)
    width = min(LANES, end_column - panel * LANES)
    for u in range(first_row, end_row):  # row by row: the work stays in the first-level cache
        logs = row_logarithms(u - first_row, samples[1] - samples[0], work)
        for v in range(width):
            sums[u, panel * LANES + v] += logs[v]


@compiled
def _add_panels(
    rows: Any, columns: Any, integer: Any, part: Any, n_samples: int, shape: Any, sums: Any
) -> None:
    """`add_log_affinities` of panels seen as (size,) arrays; `integer` gives the exponents' dtype.

    Strip by strip and group by group, so that the strip's rows stay in the second-level cache
    while the column panels stream past them.
    """
    first_row, end_row, first_panel, end_column = part
    group = group_samples(shape[1])
    work = group_work(rows, integer)
    for u in range(first_row, end_row, STRIP):
        for n in range(0, n_samples, group):
            for panel in range(first_panel, -(-end_column // LANES)):
                where = (u, min(end_row, u + STRIP), panel, end_column)
                samples = (n, min(n_samples, n + group))
                _add_group(rows, columns, where, samples, shape, work, sums)


@compiled
def count_floored(
    rows: Any,
    columns: Any,
    row_floored: Any,
    column_floored: Any,
    part: Any,
    n_samples: int,
    upper: bool,
) -> int:
    """How many contributions (u, v, n) the floor has capped.

    A contribution is floored when both models have features at the floor in the sample and
    Σ_c over the classes in which neither is at the floor of √p_u √p_v is at most `FLOOR`: without
    the floor it would be more than 43 nats. Only models flagged in `row_floored` and
    `column_floored` are looked at. With `upper`, only pairs u < v count.
    """
    total = 0
    first_row, end_row, _, n_columns = part
    candidates = np.empty(n_columns, np.int64)
    for n in range(n_samples):
        n_candidates = 0
        for v in range(n_columns):
            if column_floored[n, v]:
                candidates[n_candidates] = v
                n_candidates += 1
        if n_candidates == 0:
            continue
        for u in range(first_row, end_row):
            if not row_floored[n, u]:
                continue
            a = rows[u // LANES, n, :, u % LANES]
            for j in range(n_candidates):
                v = candidates[j]
                if upper and v <= u:
                    continue
                b = columns[v // LANES, n, :, v % LANES]
                overlap = 0.0
                for c in range(a.size):
                    if a[c] > FLOOR and b[c] > FLOOR:
                        overlap += np.float64(a[c]) * np.float64(b[c])
                        if overlap > FLOOR:
                            break
                if overlap <= FLOOR:
                    total += 1
    return total


def add_log_affinities(
    rows: NDArray[Any],
    columns: NDArray[Any],
    part: tuple[int, int, int, int],
    n_samples: int,
    block: int,
    sums: NDArray[np.float64],
) -> None:
    """sums[u, v] += Σ_n ln a_uv[n] for part of a tile.

    Parameters
    ----------
    rows, columns : packed panels (P, n, C, LANES) of one dtype, from `allocate`
    part : (first row, end of rows, first column panel, end of columns); rows begin at a multiple
        of 8
    n_samples : samples in the panels to use, counted from a multiple of `group_samples`
    block : `class_block(n_classes)`
    sums : (tile_size, tile_size) float64
    """
    shape = (rows.shape[1], rows.shape[2], block)
    integer = np.empty(0, np.int32 if rows.dtype == np.float32 else np.int64)
    _add_panels(rows.reshape(-1), columns.reshape(-1), integer, part, n_samples, shape, sums)
