"""The fused CPU kernel at the machine's ceiling: affinities in vector registers, blocked by hand.

Features are packed into *panels* of `LANES` models, ``packed[panel, sample, class, lane]``; the
same panels serve as rows and as columns. A *register block* holds the affinities of four models
with the models of a panel: per class one load per column vector, one broadcast per row, and a fused
multiply-add for every register (`simd`). One compiled kernel serves every number of classes: the
loop over the classes carries the block from step to step, and LLVM keeps it in registers.

Products instead of logarithms: each sample multiplies the block into a running product per pair
(float32, in the first-level cache), and every fourth sample the exponents are split off as
integers, exactly: products are kept at 2¹²⁵, where four affinities of 2⁻⁶² still are normal
numbers. One logarithm per `GROUP` samples is added to the float64 accumulator. The boundaries are
constants counted from the first sample, and every lane of every panel goes through the same
arithmetic, symmetric in the two models: slabs, blocks, threads and the place of a model in its
panel never change a byte.

Measured on 2 cores with AVX-512 (AMD Zen 5), one thread, beside numpy's sgemm in the same run:
1.4 × sgemm for 10 classes, 0.75 × for 2, 1.6 × for 100 and 1,000. No BLAS path is therefore needed
for many classes: it would be slower, and would have to write its affinities to memory.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from inpca.distance import simd
from inpca.distance.divergences import FLOOR
from inpca.distance.kernels_numba import compiled, logarithms, split_exponents

LANES = simd.LANES
GROUP = 128  # samples per logarithm: a slab of samples is a multiple of this
_CHAIN = simd.CHAIN
_SCALE = simd.SCALE
_UNIT = 2.0**_SCALE
_STRIP = 96  # rows whose samples of a group stay in the second-level cache (491 kB, 10 classes)
_CHUNK_BYTES = 1 << 18  # of a column panel that stay in the second-level cache
_ALIGNMENT = 64  # bytes of a cache line: vectors across two lines load at half the speed


def class_layout(n_classes: int) -> tuple[int, int]:
    """Classes per block and classes with padding: all at once, without padding.

    >>> class_layout(13)
    (13, 13)
    """
    return n_classes, n_classes


def class_block(n_classes: int) -> int:
    """What `add_log_affinities` must know of the classes: how many there are."""
    return n_classes


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


@compiled
def pack(features: Any, first: int, packed: Any, floored: Any) -> None:
    """Write (k, n, C) `features` into the lanes first … first + k of `packed` (P, n, C, LANES).

    `floored` (n, P · LANES) uint8 is set where a model has features at the floor in a sample.
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
                    at_floor |= model[c] <= FLOOR
                flags[first + start + u] = at_floor
        start += width


@compiled
def _multiply_affinities(
    rows: Any, columns: Any, at: Any, samples: Any, n_classes: int, products: Any, exponents: Any
) -> None:
    """Multiply a block's products by the affinities of samples first … stop of a group.

    `at` = (first row value, first column value, first product), `samples` = (first, stop).
    """
    i, j, k = at
    for n in range(samples[0], samples[1]):
        totals = simd.zeros(rows)
        for _ in range(n_classes):
            totals = simd.multiply_add(totals, rows, i, columns, j)
            i += LANES
            j += LANES
        if n % _CHAIN == _CHAIN - 1:
            simd.multiply_and_split(products, exponents, k, totals)
        else:
            simd.multiply(products, k, totals)


@compiled
def _aligned(size: int, like: Any) -> Any:
    """An uninitialised array of `size` items that begins at a cache line."""
    raw = np.empty(size + _ALIGNMENT // like.itemsize, like.dtype)
    start = (-raw.ctypes.data % _ALIGNMENT) // like.itemsize
    return raw[start : start + size]


@compiled
def _add_group(
    rows: Any,
    columns: Any,
    where: Any,
    samples: Any,
    shape: Any,
    work: Any,
    sums: Any,
) -> None:
    """Add the logarithms of one group of samples, a strip of rows × one panel, to `sums`.

    `where` = (first row, end of rows, panel, end of columns), `samples` = (first, end) of the
    group, `shape` = (samples, classes) of the panels.
    """
    first_row, end_row, panel, end_column = where
    first, end = samples
    n_samples, n_classes = shape
    products, exponents, biases, logs = work
    height = simd.block_rows(rows.itemsize)
    per_sample = n_classes * LANES
    chunk = min(GROUP, max(1, _CHUNK_BYTES // (per_sample * rows.itemsize)))
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
            _multiply_affinities(rows, columns, at, part, n_classes, products, exponents)
    n_splits = (end - first) // _CHAIN
    offset = n_splits * simd.split_bias(rows.itemsize) + _SCALE
    for k in range(size):
        logs[k] = products[k]
        biases[k] = exponents[k] - offset
    split_exponents(logs[:size].view(np.int64), biases[:size])
    logarithms(logs[:size], biases[:size])
    width = min(LANES, end_column - panel * LANES)
    for u in range(end_row - first_row):
        for v in range(width):
            sums[first_row + u, panel * LANES + v] += logs[u * LANES + v]


@compiled
def _add_panels(
    rows: Any, columns: Any, integer: Any, part: Any, n_samples: int, shape: Any, sums: Any
) -> None:
    """`add_log_affinities` of panels seen as (size,) arrays; `integer` gives the exponents' dtype.

    Strip by strip and group by group, so that the strip's rows stay in the second-level cache
    while the column panels stream past them.
    """
    first_row, end_row, first_panel, end_column = part
    size = _STRIP * LANES
    work = (
        _aligned(size, rows),
        _aligned(size, integer),
        np.empty(size, np.int64),
        np.empty(size, np.float64),
    )
    for u in range(first_row, end_row, _STRIP):
        for n in range(0, n_samples, GROUP):
            for panel in range(first_panel, -(-end_column // LANES)):
                where = (u, min(end_row, u + _STRIP), panel, end_column)
                samples = (n, min(n_samples, n + GROUP))
                _add_group(rows, columns, where, samples, shape, work, sums)


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
    n_samples : samples in the panels to use, counted from a multiple of `GROUP`
    block : `class_block(n_classes)`
    sums : (tile_size, tile_size) float64
    """
    shape = (rows.shape[1], block)
    integer = np.empty(0, np.int32 if rows.dtype == np.float32 else np.int64)
    _add_panels(rows.reshape(-1), columns.reshape(-1), integer, part, n_samples, shape, sums)


def add_diagonal(
    packed: NDArray[np.floating], n_samples: int, n_classes: int, sums: NDArray[np.float64]
) -> None:
    """Add Σ_n ln a_uu[n] to `sums` (n_models,), by the very kernel that fills the tiles."""
    for first in range(0, len(sums), LANES):
        part = sums[first : first + LANES]
        panel = packed[first // LANES : first // LANES + 1]
        square = np.zeros((LANES, LANES))
        everything = (0, len(part), 0, len(part))
        add_log_affinities(panel, panel, everything, n_samples, class_block(n_classes), square)
        part += np.diagonal(square)[: len(part)]
