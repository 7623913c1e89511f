"""The fused CPU kernel: affinity, product, logarithm and sum never leave the caches.

Features are packed into *panels* of `LANES` models, sample-major, models innermost:
``packed[panel, sample, class, lane]``; the same panels serve as rows and as columns. The classes
are padded with zeros to whole blocks of K ≤ 10, and K is a compile-time constant, so that the
inner loop over the lanes is straight-line vector code.

Products instead of logarithms: the affinities of `_CHAIN` samples are multiplied (pairs in the
input's precision, the rest in float64), then the exponent is split off as an integer, long before
it can underflow: an affinity is at least 2⁻⁶², 16 of them 2⁻⁹⁹². One logarithm is taken per `GROUP`
samples and added to the float64 accumulator. The boundaries of chains and groups are constants
counted from the first sample, so that slabs, blocks and threads never change a byte.

Every body is plain Python that also runs with ``NUMBA_DISABLE_JIT=1``.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray

from inpca.distance.divergences import FLOOR

LANES = 256  # models in a panel: 16 AVX-512 vectors; 128 measured 35 % slower, 64 twice as slow
ALIGNMENT = 64  # bytes; vectors that straddle cache lines measured 25 % slower
GROUP = 128  # samples per logarithm: a slab of samples is a multiple of this
_ROWS = 8  # rows at a time: their products and affinities fit the first-level cache
_CHAIN = 16  # samples multiplied before the exponent is split off
_MAX_CLASS_BLOCK = 10  # LLVM gives up unrolling beyond about 16

_EXPONENT_BIAS = 1023
_MANTISSA = 0x000FFFFFFFFFFFFF
_ONE = 0x3FF0000000000000
_LN2 = math.log(2.0)
_SQRT2 = math.sqrt(2.0)

_log = logging.getLogger("inpca.distance")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled: serial, without the GIL, fused multiply-add allowed, cached on disk.

    Only contraction is allowed of the fast-math flags: reassociation would make the bytes depend
    on the compiler's mood.
    """
    options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError as error:  # no folder to cache in: slower to start, same results
        _log.info("Compiled kernels are not kept for the next process: %s", error)
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def class_layout(n_classes: int) -> tuple[int, int]:
    """Classes per block and classes with padding: as few zeros as blocks of ≤ 10 allow.

    >>> class_layout(10), class_layout(13), class_layout(100)
    ((10, 10), (7, 14), (10, 100))
    """
    n_blocks = -(-n_classes // _MAX_CLASS_BLOCK)
    block = -(-n_classes // n_blocks)
    return block, n_blocks * block


def class_block(n_classes: int) -> tuple[int, ...]:
    """A tuple as long as a block of classes: its length is part of its type, hence a constant to
    the compiler, and one source serves every number of classes."""
    return (0,) * class_layout(n_classes)[0]


def n_panels(n_models: int) -> int:
    """Panels that hold `n_models`."""
    return -(-n_models // LANES)


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Zeros that begin at a cache line; np.zeros does so only by luck."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(n_bytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


def padded_samples(n_samples: int) -> int:
    """Samples with the one that makes their number even."""
    return n_samples + n_samples % 2


@compiled
def pack(features: Any, first: int, packed: Any, floored: Any) -> None:
    """Write (k, n, C) `features` into the lanes first … first + k of `packed` (P, n′, C′, LANES).

    An odd last sample is completed by one in which every affinity is exactly 1. `floored`
    (n′, P · LANES) uint8 is set where a model has features at the floor in a sample.
    """
    n_models, n_samples, n_classes = features.shape
    for start in range(0, n_models, LANES):  # a stretch of models that fits the caches
        stop = min(start + LANES, n_models)
        for n in range(n_samples):
            for u in range(start, stop):
                floored[n, first + u] = 0
            for c in range(n_classes):
                for u in range(start, stop):
                    value = features[u, n, c]
                    packed[(first + u) // LANES, n, c, (first + u) % LANES] = value
                    if value <= FLOOR:
                        floored[n, first + u] = 1
        if n_samples % 2:
            for u in range(start, stop):
                floored[n_samples, first + u] = 0
                panel, lane = (first + u) // LANES, (first + u) % LANES
                packed[panel, n_samples, :, lane] = 0
                packed[panel, n_samples, 0, lane] = 1


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
def _affinities(a: Any, b: Any, first: int, block: Any, out: Any) -> None:
    """out[i, v] = Σ_c a[c, first + i] b[c, v] for one sample."""
    n_block = len(block)
    for i in range(_ROWS):
        u = first + i
        row = out[i]
        for v in range(LANES):
            total = a[0, u] * b[0, v]
            for c in range(1, n_block):
                total += a[c, u] * b[c, v]
            row[v] = total
    for k in range(n_block, a.shape[0], n_block):
        a_k = a[k : k + n_block]
        b_k = b[k : k + n_block]
        for i in range(_ROWS):
            u = first + i
            row = out[i]
            for v in range(LANES):
                total = row[v]
                for c in range(n_block):
                    total += a_k[c, u] * b_k[c, v]
                row[v] = total


@compiled
def _multiply(
    a: Any, b: Any, first: int, start: int, stop: int, block: Any, work: Any, product: Any
) -> None:
    """Multiply `product` by the affinities of the samples start … stop, two at a time."""
    even, odd = work
    for n in range(start, stop, 2):
        _affinities(a[n], b[n], first, block, even)
        _affinities(a[n + 1], b[n + 1], first, block, odd)
        for i in range(_ROWS):
            row, row_even, row_odd = product[i], even[i], odd[i]
            for v in range(LANES):
                row[v] *= np.float64(row_even[v] * row_odd[v])


@compiled
def add_log_affinities(
    rows: Any, columns: Any, part: Any, n_samples: int, block: Any, sums: Any
) -> None:
    """sums[u, v] += Σ_n ln a_uv[n] for part of a tile.

    Parameters
    ----------
    rows, columns : packed panels (P, n′, C′, LANES) of one dtype
    part : (first row, end of rows, first column panel, end of columns); rows begin at a multiple
        of 8
    n_samples : samples in the panels, counted from a multiple of `GROUP`
    block : `class_block(n_classes)`
    sums : (tile_size, tile_size) float64
    """
    first_row, end_row, first_panel, end_column = part
    cells = _ROWS * LANES
    scratch = np.empty(4 * 8 * cells + ALIGNMENT, np.uint8)
    start = -scratch.ctypes.data % ALIGNMENT
    even = scratch[start : start + 8 * cells].view(rows.dtype)[:cells]
    start += 8 * cells
    odd = scratch[start : start + 8 * cells].view(rows.dtype)[:cells]
    start += 8 * cells
    mantissas = scratch[start : start + 8 * cells].view(np.float64)
    start += 8 * cells
    exponents = scratch[start : start + 8 * cells].view(np.int64)
    work = (even.reshape((_ROWS, LANES)), odd.reshape((_ROWS, LANES)))
    product = mantissas.reshape((_ROWS, LANES))
    bits = mantissas.view(np.int64)
    for q in range(first_panel, -(-end_column // LANES)):
        b = columns[q]
        width = min(LANES, end_column - q * LANES)
        for start in range(0, n_samples, GROUP):
            end = min(n_samples, start + GROUP)
            for u in range(first_row, end_row, _ROWS):
                mantissas[:] = 1.0
                exponents[:] = 0
                a, lane = rows[u // LANES], u % LANES
                for s in range(start, end, _CHAIN):
                    _multiply(a, b, lane, s, min(end, s + _CHAIN), block, work, product)
                    split_exponents(bits, exponents)
                logarithms(mantissas, exponents)
                for i in range(min(_ROWS, end_row - u)):
                    for v in range(width):
                        sums[u + i, q * LANES + v] += product[i, v]


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


def packed_shape(n_models: int, n_samples: int, n_classes: int) -> tuple[int, int, int, int]:
    """Shape of the panels that hold a band of models over a slab of samples."""
    return n_panels(n_models), padded_samples(n_samples), class_layout(n_classes)[1], LANES


def add_diagonal(
    packed: NDArray[np.floating], n_samples: int, n_classes: int, sums: NDArray[np.float64]
) -> None:
    """Add Σ_n ln a_uu[n] to `sums` (n_models,), by the very kernel that fills the tiles."""
    block = class_block(n_classes)
    for first in range(0, len(sums), LANES):
        part = sums[first : first + LANES]
        panel = packed[first // LANES : first // LANES + 1]
        square = np.zeros((LANES, LANES))
        add_log_affinities(panel, panel, (0, len(part), 0, len(part)), n_samples, block, square)
        part += np.diagonal(square)[: len(part)]
