"""What a distance job will need, and how it is cut into blocks: pure arithmetic, no data.

A *block* of D (float64 accumulators, one square per tile) stays in memory while *slabs* of samples
of its models stream past it, so each prediction is read ⌈n_models / block⌉ times. The next slab is
read while this one is computed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from inpca.distance.kernels_numba import (
    GROUP,
    LANES,
    add_log_affinities,
    class_block,
    class_layout,
    packed_shape,
)
from inpca.errors import InputError, ResourceError
from inpca.tiling import Tile, TileGrid
from inpca.units import format_bytes, format_seconds

# A killed job loses at most the block it was working on.
_BLOCK_SECONDS = 600
# Without a calibration: what one core does at least, and what a disk delivers.
_FLOPS_PER_CORE = 3e10
_DISK_BYTES_PER_SECOND = 5e8
_SECONDS_PER_READ = 1e-3  # opening one model's predictions
_PIECE_BYTES = 2_000_000  # of predictions read and packed in one task
# Reading a piece makes copies: decoded, in float64 for the check of the row sums, its features.
_COPIES_PER_PIECE = 10
# Writing a tile: self-normalised in float64, float32, and the encoded chunk twice.
_COPIES_PER_TILE = 3


@dataclass(frozen=True)
class Bands:
    """Stretches of models, cut from one source: rows first, then the columns of another set.

    Attributes
    ----------
    slices : models of each band
    n_rows : bands that are rows; all of them where the matrix is symmetric
    symmetric : only tiles (i, j) with i ≤ j exist, and the columns are the rows
    """

    slices: tuple[slice, ...]
    n_rows: int
    symmetric: bool

    def length(self, band: int) -> int:
        """Models in `band`."""
        return int(self.slices[band].stop - self.slices[band].start)

    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        columns = range(0 if self.symmetric else self.n_rows, len(self.slices))
        return [(i, j) for i in range(self.n_rows) for j in columns if not self.symmetric or i <= j]

    def n_pairs(self, tile: Tile) -> int:
        """Pairs of models in `tile`; of a diagonal tile those above the diagonal."""
        i, j = tile
        if i == j:
            return self.length(i) * (self.length(i) - 1) // 2
        return self.length(i) * self.length(j)


@dataclass(frozen=True)
class Block:
    """Tiles that are in memory together, and the bands that they need."""

    tiles: tuple[Tile, ...]
    bands: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """How a distance job runs and what it needs.

    Attributes
    ----------
    n_models : (rows, columns) of D
    n_samples, n_classes, dtype : of the predictions
    tile_size : rows and columns of a tile
    bands, blocks : how D is cut; a block loses its work when the job is killed
    slab : samples read at a time
    n_workers : tasks at once
    memory, memory_needed : bytes allowed and bytes needed
    memory_parts : what needs them
    disk_needed : bytes of the tiles that are still to be written (0 in memory)
    bytes_read : of float32 or float64 log-probabilities
    n_pairs, flops : 2 · n_samples · n_classes per pair, diagonal left out
    seconds : estimate from a calibration of the kernel, or None
    """

    n_models: tuple[int, int]
    n_samples: int
    n_classes: int
    dtype: str
    tile_size: int
    bands: Bands
    blocks: tuple[Block, ...]
    slab: int
    n_workers: int
    memory: int
    memory_needed: int
    memory_parts: dict[str, int]
    disk_needed: int
    bytes_read: int
    n_pairs: int
    flops: float
    seconds: float | None

    @property
    def n_tiles(self) -> int:
        """Tiles to compute."""
        return sum(len(block.tiles) for block in self.blocks)

    @property
    def slabs(self) -> list[slice]:
        """The slabs of samples, in order."""
        starts = range(0, self.n_samples, self.slab)
        return [slice(start, min(start + self.slab, self.n_samples)) for start in starts]

    def describe(self) -> list[str]:
        """The plan in words, one line per fact."""
        rows, columns = self.n_models
        reads = self.bytes_read / max(1, self._bytes_once)
        lines = [
            f"models     {rows:,} × {columns:,}: {self.n_pairs:,} pairs to compute",
            f"samples    {self.n_samples:,} with {self.n_classes} classes, {self.dtype}",
            f"tiles      {self.n_tiles:,} of {self.tile_size} × {self.tile_size} "
            f"in {len(self.blocks)} blocks",
            f"memory     {format_bytes(self.memory_needed)} of {format_bytes(self.memory)}: "
            + ", ".join(f"{name} {format_bytes(part)}" for name, part in self.memory_parts.items()),
            f"disk       {format_bytes(self.disk_needed)} to write",
            f"reads      {format_bytes(self.bytes_read)}: each prediction {reads:.1f} times, "
            f"{self.slab:,} samples at a time",
            f"work       {self.flops:.3g} floating-point operations on {self.n_workers} workers",
        ]
        if self.seconds is not None:
            lines.append(f"time       about {format_seconds(self.seconds)}")
        return lines

    @property
    def _bytes_once(self) -> int:
        n_models = sum(self.bands.length(band) for band in range(len(self.bands.slices)))
        return n_models * self.n_samples * self.n_classes * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class _Sizes:
    """The lengths that decide how much memory a block takes."""

    bands: Bands
    tile_size: int
    n_samples: int
    n_classes: int
    itemsize: int
    n_workers: int

    def slot(self, slab: int) -> int:
        """Bytes of one band's packed slab, the flags of floored features included."""
        panels, samples, classes, lanes = packed_shape(
            self.tile_size, min(slab, self.n_samples), self.n_classes
        )
        return panels * samples * lanes * (classes * self.itemsize + 1)

    def parts(self, n_tiles: int, n_bands: int, slab: int, fixed: dict[str, int]) -> dict[str, int]:
        """Bytes that a block of `n_tiles` tiles over `n_bands` bands needs, by purpose."""
        buffers = 1 if slab >= self.n_samples else 2
        tile = self.tile_size**2 * 8
        sample_bytes = self.n_classes * self.itemsize
        piece = max(_PIECE_BYTES, min(slab, self.n_samples) * sample_bytes)
        whole = self.tile_size * self.n_samples * sample_bytes
        return {
            "block of D": n_tiles * tile,
            "slabs of predictions": buffers * n_bands * self.slot(slab),
            "reading": self.n_workers * _COPIES_PER_PIECE * min(piece, whole),
            "writing": self.n_workers * _COPIES_PER_TILE * tile,
            **fixed,
        }


def bands_of(n_rows: int, n_columns: int | None, tile_size: int) -> Bands:
    """Bands of `tile_size` models: of one set (symmetric), or of rows and then columns."""
    rows = TileGrid(n_rows, tile_size)
    slices = [rows.band(i) for i in range(rows.n_bands)]
    if n_columns is not None:
        columns = TileGrid(n_columns, tile_size)
        for j in range(columns.n_bands):
            band = columns.band(j)
            slices.append(slice(n_rows + band.start, n_rows + band.stop))
    return Bands(tuple(slices), rows.n_bands, n_columns is None)


def default_tile_size(n_models: int) -> int:
    """Tiles of whole panels: small enough to share out, large enough to be few."""
    if n_models <= LANES:
        return n_models
    return LANES if n_models <= 8 * LANES else 2 * LANES if n_models <= 2**14 else 4 * LANES


def plan_distances(
    shape: tuple[int, int, int],
    *,
    memory: int,
    n_columns: int | None = None,
    dtype: DTypeLike = np.float32,
    tile_size: int | None = None,
    missing: Sequence[Tile] | None = None,
    n_workers: int = 1,
    stored: bool = True,
    flops_per_second: float | None = None,
) -> Plan:
    """Cut D into blocks that fit `memory` and say what the job needs.

    Parameters
    ----------
    shape : (n_models, n_samples, n_classes) of the rows
    memory : bytes allowed for everything but the interpreter and its libraries
    n_columns : models of another set that are the columns; None: all pairs of the one set
    dtype : float32 or float64, what the kernel computes in
    tile_size : rows and columns of a tile; best a multiple of 256
    missing : tiles still to be computed; None: all
    n_workers : tasks at once
    stored : D goes to disk; otherwise it is an array in memory
    flops_per_second : of one worker, from `calibrate`

    Raises
    ------
    InputError
        For a shape or tile size out of range.
    ResourceError
        If not even the smallest block fits.
    """
    n_models, n_samples, n_classes = shape
    tile_size = default_tile_size(max(n_models, n_columns or 0)) if tile_size is None else tile_size
    bands = bands_of(n_models, n_columns, tile_size)
    itemsize = np.dtype(dtype).itemsize
    sizes = _Sizes(bands, tile_size, n_samples, n_classes, itemsize, n_workers)
    tiles = bands.tiles() if missing is None else list(missing)
    everyone = n_models + (n_columns or 0)
    fixed = {"sums of the diagonal": everyone * 8}
    if not stored:
        fixed["result"] = n_models * (n_columns or n_models) * 8
    side, slab = _choose(sizes, memory, fixed, flops_per_second)
    blocks = _partition(bands, tiles, side)
    most = max(
        (sizes.parts(len(b.tiles), len(b.bands), slab, fixed) for b in blocks),
        key=lambda parts: sum(parts.values()),
        default=fixed,
    )
    read = sum(bands.length(band) for block in blocks for band in block.bands)
    n_pairs = sum(bands.n_pairs(tile) for tile in tiles)
    flops = 2.0 * n_pairs * n_samples * n_classes
    bytes_read = read * n_samples * n_classes * itemsize
    return Plan(
        n_models=(n_models, n_columns or n_models),
        n_samples=n_samples,
        n_classes=n_classes,
        dtype=np.dtype(dtype).name,
        tile_size=tile_size,
        bands=bands,
        blocks=tuple(blocks),
        slab=slab,
        n_workers=n_workers,
        memory=memory,
        memory_needed=sum(most.values()),
        memory_parts=most,
        disk_needed=len(tiles) * (tile_size**2 * 4 + 4) if stored else 0,
        bytes_read=bytes_read,
        n_pairs=n_pairs,
        flops=flops,
        seconds=_seconds(flops, bytes_read, n_workers, flops_per_second),
    )


def _seconds(
    flops: float, bytes_read: int, n_workers: int, flops_per_second: float | None
) -> float | None:
    if flops_per_second is None:
        return None
    return flops / (n_workers * flops_per_second) + bytes_read / _DISK_BYTES_PER_SECOND


def _choose(
    sizes: _Sizes, memory: int, fixed: dict[str, int], flops_per_second: float | None
) -> tuple[int, int]:
    """Side of a block in bands, and samples in a slab: those that read the fastest."""
    best: tuple[float, int, int] | None = None
    for slab in _slabs(sizes.n_samples):
        side = _largest_side(sizes, memory, slab, fixed, flops_per_second)
        if side == 0:
            continue
        cost = _reading_seconds(sizes, side, slab)
        if best is None or cost < best[0]:
            best = (cost, side, slab)
    if best is None:
        slab = min(GROUP, sizes.n_samples)
        least = sizes.parts(1, min(2, len(sizes.bands.slices)), slab, fixed)
        named = ", ".join(f"{name} {format_bytes(part)}" for name, part in least.items())
        raise ResourceError(
            f"The smallest block needs {format_bytes(sum(least.values()))} ({named}) but `memory` "
            f"is {format_bytes(memory)}; raise `memory`, "
            + ("or use `out`, or " if "result" in fixed else "or ")
            + f"a `tile_size` < {sizes.tile_size}."
        )
    return best[1], best[2]


def _slabs(n_samples: int) -> list[int]:
    """Candidates for the slab: all samples, then half as many each time, in whole groups."""
    n_groups = -(-n_samples // GROUP)
    slabs = [n_samples]
    while n_groups > 1:
        n_groups = -(-n_groups // 2)
        slabs.append(n_groups * GROUP)
    return slabs


def _largest_side(
    sizes: _Sizes, memory: int, slab: int, fixed: dict[str, int], flops_per_second: float | None
) -> int:
    """Bands along a block's side: the most that fit the memory and ten minutes; 0 if none do."""
    flops = 2.0 * sizes.tile_size**2 * sizes.n_samples * sizes.n_classes
    rate = sizes.n_workers * (flops_per_second or _FLOPS_PER_CORE)
    low, high = 0, _longest(sizes.bands)
    while low < high:
        side = (low + high + 1) // 2
        n_tiles, n_bands = _largest_block(sizes.bands, side)
        fits = sum(sizes.parts(n_tiles, n_bands, slab, fixed).values()) <= memory
        if fits and (side == 1 or n_tiles * flops <= rate * _BLOCK_SECONDS):
            low = side
        else:
            high = side - 1
    return low


def _longest(bands: Bands) -> int:
    return max(bands.n_rows, len(bands.slices) - bands.n_rows)


def _largest_block(bands: Bands, side: int) -> tuple[int, int]:
    """Tiles and bands of the largest block of `side` bands."""
    if not bands.symmetric:
        rows = min(side, bands.n_rows)
        columns = min(side, len(bands.slices) - bands.n_rows)
        return rows * columns, rows + columns
    if side >= bands.n_rows:
        return side * (side + 1) // 2, side
    beside = min(side, bands.n_rows - side)
    return max(side * beside, side * (side + 1) // 2), side + beside


def _reading_seconds(sizes: _Sizes, side: int, slab: int) -> float:
    bands = sizes.bands
    n_models = sum(bands.length(band) for band in range(len(bands.slices)))
    times = -(-_longest(bands) // side)
    n_slabs = -(-sizes.n_samples // slab)
    n_bytes = n_models * sizes.n_samples * sizes.n_classes * sizes.itemsize
    return times * (n_bytes / _DISK_BYTES_PER_SECOND + n_models * n_slabs * _SECONDS_PER_READ)


def _partition(bands: Bands, tiles: Sequence[Tile], side: int) -> list[Block]:
    """Group `tiles` into squares of `side` bands; those on the diagonal first.

    The diagonal tiles hold the sums that normalise all others.
    """
    groups: dict[tuple[int, int], list[Tile]] = {}
    for i, j in tiles:
        column = j if bands.symmetric else j - bands.n_rows
        groups.setdefault((i // side, column // side), []).append((i, j))
    keys = sorted(groups, key=lambda key: (key[0] != key[1], key) if bands.symmetric else key)
    return [
        Block(tuple(groups[key]), tuple(sorted({band for tile in groups[key] for band in tile})))
        for key in keys
    ]


def calibrate(n_classes: int, dtype: DTypeLike = np.float32, *, seconds: float = 0.1) -> float:
    """Floating-point operations per second of the kernel on one core, measured for `seconds`.

    The first call in a process also compiles the kernel.
    """
    if n_classes < 2:
        raise InputError(f"`n_classes` must be at least 2, not {n_classes}.")
    shape = packed_shape(LANES, GROUP, n_classes)
    panels = np.full(shape, class_layout(n_classes)[1] ** -0.5, np.dtype(dtype))
    sums = np.zeros((LANES, LANES))
    arguments = (panels, panels, (0, LANES, 0, LANES), GROUP, class_block(n_classes), sums)
    add_log_affinities(*arguments)
    n_calls, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        add_log_affinities(*arguments)
        n_calls += 1
    elapsed = time.perf_counter() - start
    return 2.0 * n_calls * LANES**2 * GROUP * n_classes / elapsed
