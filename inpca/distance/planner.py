"""What a distance job will need, and how it is cut into blocks: pure arithmetic, no data.

A *block* of D (float64 accumulators, one square per tile) stays in memory while *slabs* of samples
of its models stream past it, so each prediction is read ⌈n_models / block⌉ times. The next slab is
read while this one is computed.
"""

import os
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from inpca.backend import available_memory, disk_block, free_disk
from inpca.distance.block_cupy import METRICS, calibrate_gpu
from inpca.distance.choice import choose_backend
from inpca.distance.disk import DISK_BLOCK, metadata_on_disk, tiles_on_disk
from inpca.distance.divergences import BHATTACHARYYA, Divergence, get_divergence
from inpca.distance.footprint import (
    COPIES_PER_PIECE,
    COPIES_PER_TILE,
    FLOPS_PLAIN,
    SMALL_TILE,
    DeviceFootprint,
    Footprint,
    PlainFootprint,
)
from inpca.distance.gpu_layout import Gpu, Layout, check_shared_memory
from inpca.distance.kernels_numba import (
    add_log_affinities,
    allocate,
    class_block,
    group_samples,
    packed_shape,
)
from inpca.distance.plan import Bands, Block, Plan, bands_of
from inpca.distance.reductions_numba import relative_cost
from inpca.errors import InputError, ResourceError
from inpca.executor import n_cores
from inpca.tiling import Tile
from inpca.units import format_bytes, parse_bytes

# A killed job loses at most the block it was working on.
_BLOCK_SECONDS = 600
_DISK_BYTES_PER_SECOND = 5e8
_WRITE_BYTES_PER_SECOND = 4e8
_SECONDS_PER_TILE = 5e-3  # two fsyncs and a rename, each of which waits for the disk
# 96 tiles of 4 MB were written with an fsync each at 220 MB/s by one thread, 650 by two, 1,070 by
# four, 1,160 by eight.
_MOST_WRITERS, _WRITING_SHARE = 8, 16
_SECONDS_PER_READ = 2e-4  # opening one model's predictions; measured 6e-5 from the page cache
_CALIBRATION_SIZE = 1 << 16  # samples · classes that the calibration takes of each model, at most
_PIECE_BYTES = 2_000_000  # of predictions read and packed in one task


def default_tile_size(n_models: int) -> int:
    """Tiles of whole 256s: small enough to share out, large enough to be few."""
    if n_models <= SMALL_TILE:
        return n_models
    return (
        SMALL_TILE
        if n_models <= 8 * SMALL_TILE
        else 2 * SMALL_TILE
        if n_models <= 2**14
        else 4 * SMALL_TILE
    )


def plan_distances(
    shape: tuple[int, int, int],
    *,
    memory: int | float | str | None = None,
    n_columns: int | None = None,
    dtype: DTypeLike = np.float32,
    tile_size: int | None = None,
    n_workers: int | None = None,
    folder: str | os.PathLike[str] | None = ".",
    chunk_samples: int = 1,
    flops_per_second: float | None = None,
    backend: str = "numba",
    device: int | None = None,
    metric: str = BHATTACHARYYA.name,
) -> Plan:
    """Say what the distances of all pairs will take; refuse what does not fit.

    Parameters
    ----------
    shape : (n_models, n_samples, n_classes) of the rows
    memory : bytes allowed, such as ``"8GB"``; default half of what is available
    n_columns : models of another set that are the columns; None: all pairs of the one set
    dtype : float32 or float64, what the kernel computes in
    tile_size : rows and columns of a tile; best a multiple of 256
    n_workers : tasks at once; default all cores
    folder : where the tiles will be written; None: D is an array in memory
    chunk_samples : samples that lie together on disk
    flops_per_second : of one core, or of the GPU; default measured now, for a tenth of a second
    backend, device, metric : see `pairwise_distances`

    Raises
    ------
    InputError
        For a shape or tile size out of range.
    ResourceError
        If memory or disk does not suffice, or there is no GPU to compute on.

    Examples
    --------
    >>> plan = plan_distances((2000, 500, 10), memory="100MB", flops_per_second=5e10)
    >>> plan.n_pairs, plan.memory_needed <= 100_000_000
    (1999000, True)
    """
    divergence = get_divergence(metric)
    gpu = choose_backend(backend, device, np.dtype(dtype)).gpu
    rate = flops_per_second
    if rate is None:
        rate = FLOPS_PLAIN
        if gpu is None:
            rate = calibrate(shape[2], dtype)
        elif divergence.name in METRICS:
            rate = calibrate_gpu(shape[2], gpu)
    plan = make_plan(
        shape,
        memory=memory_budget(memory),
        n_columns=n_columns,
        dtype=dtype,
        tile_size=tile_size,
        n_workers=n_cores() if n_workers is None else n_workers,
        stored=folder is not None,
        chunk_samples=chunk_samples,
        flops_per_second=rate,
        gpu=gpu,
        divergence=divergence,
        block_bytes=DISK_BLOCK if folder is None else disk_block(folder),
    )
    check_fits(plan, folder)
    return plan


def memory_budget(memory: int | float | str | None) -> int:
    """Bytes that the argument `memory` allows; half of what is available by default."""
    return available_memory() // 2 if memory is None else parse_bytes(memory)


def check_fits(plan: Plan, folder: str | os.PathLike[str] | None) -> None:
    """Refuse a plan that needs more memory or disk than there is.

    Raises
    ------
    ResourceError
        With what is needed, what there is, and the cure.
    """
    available = available_memory()
    if plan.memory_needed > available:
        raise ResourceError(
            f"The job needs {format_bytes(plan.memory_needed)} of memory but "
            f"{format_bytes(available)} are available; pass a smaller `memory`."
        )
    if folder is not None:
        check_disk(plan, folder)


def check_disk(plan: Plan, folder: str | os.PathLike[str]) -> None:
    """Refuse a plan that writes more than `folder` has room for; see `check_fits`."""
    free = free_disk(folder)
    if plan.disk_needed > free:
        raise ResourceError(
            f"The distances need {format_bytes(plan.disk_needed)} on disk but "
            f"{format_bytes(free)} are free at {os.fspath(folder)!r}; free some, or write "
            "elsewhere with `out`."
        )


def make_plan(
    shape: tuple[int, int, int],
    *,
    memory: int,
    n_columns: int | None = None,
    dtype: DTypeLike = np.float32,
    tile_size: int | None = None,
    missing: Sequence[Tile] | None = None,
    n_workers: int = 1,
    stored: bool = True,
    chunk_samples: int = 1,
    flops_per_second: float | None = None,
    block_seconds: float = _BLOCK_SECONDS,
    gpu: Gpu | None = None,
    divergence: Divergence = BHATTACHARYYA,
    block_bytes: int = DISK_BLOCK,
) -> Plan:
    """Cut D into blocks that fit `memory`: arithmetic only, the machine is not asked.

    Parameters are those of `plan_distances`, and

    missing : tiles still to be computed; None: all
    stored : D goes to disk; otherwise it is an array in memory
    flops_per_second : of one core, or of the GPU; None: no estimate of the time
    block_seconds : that a block may take at most, if it has more than one tile
    gpu : that computes; its free memory bounds a block, beside `memory` of this machine
    divergence : how much is kept of a prediction, and how long a pair takes
    block_bytes : of which files on disk take whole multiples
    """
    n_models, n_samples, n_classes = shape
    if tile_size is None:
        tile_size = default_tile_size(max(n_models, n_columns or 0))
    bands = bands_of(n_models, n_columns, tile_size)
    itemsize = np.dtype(dtype).itemsize
    piece_bytes = min(_PIECE_BYTES, memory // (8 * COPIES_PER_PIECE * n_workers))
    n_writers = _writers(n_workers, tile_size, memory) if stored and gpu is None else n_workers
    lengths = (bands, tile_size, n_samples, n_classes, itemsize, n_workers, n_writers, piece_bytes)
    kept = chunk_samples, len(divergence.all_features)
    sizes = Footprint(*lengths, *kept)
    if gpu is not None:
        fused = divergence.name in METRICS
        if fused:
            check_shared_memory(Layout(n_classes), gpu)
        sizes = (DeviceFootprint if fused else PlainFootprint)(*lengths, *kept, gpu)
    everyone = n_models + (n_columns or 0)
    fixed = {"sums of the diagonal": everyone * 8}
    if not stored:
        fixed["result"] = n_models * (n_columns or n_models) * 8
    rate = sizes.least_flops_per_second
    if flops_per_second is not None:
        rate = flops_per_second * (n_workers if gpu is None else 1)
    if gpu is None:
        rate /= relative_cost(divergence)
    side, slab = _choose(sizes, memory, fixed, rate * block_seconds)
    tiles = bands.tiles() if missing is None else list(missing)
    blocks = _partition(bands, tiles, side)
    parts = [sizes.parts(len(b.tiles), len(b.bands), slab, fixed) for b in blocks]
    most = max(parts, key=lambda part: sum(part.values()), default=fixed)
    n_read = sum(bands.length(band) for block in blocks for band in block.bands)
    bytes_read = n_read * n_samples * n_classes * itemsize
    n_pairs = sum(bands.n_pairs(tile) for tile in tiles)
    flops = 2.0 * n_pairs * n_samples * n_classes
    computing = None if flops_per_second is None else flops / rate
    n_written = len(tiles) if stored else 0
    disk_needed = tiles_on_disk(n_written, tile_size, block_bytes)
    if stored and missing is None:
        disk_needed += metadata_on_disk(n_models, block_bytes)
    return Plan(
        n_models=(n_models, n_columns or n_models),
        n_samples=n_samples,
        n_classes=n_classes,
        dtype=np.dtype(dtype).name,
        tile_size=tile_size,
        bands=bands,
        blocks=tuple(blocks),
        slab=slab,
        models_per_piece=max(1, piece_bytes // (min(slab, n_samples) * n_classes * itemsize)),
        n_workers=n_workers,
        n_writers=n_writers,
        memory=memory,
        memory_needed=sum(most.values()),
        memory_parts=most,
        disk_needed=disk_needed,
        bytes_read=bytes_read,
        n_pairs=n_pairs,
        flops=flops,
        seconds=computing
        and computing + _disk_seconds(bytes_read, n_written, tile_size, n_writers),
        device=sizes.on_device(blocks),
    )


def _writers(n_workers: int, tile_size: int, memory: int) -> int:
    """Tiles to write at once: more than workers, as far as that takes little of `memory`."""
    affordable = memory // (_WRITING_SHARE * COPIES_PER_TILE * tile_size**2 * 8)
    return max(n_workers, min(_MOST_WRITERS, affordable))


def _disk_seconds(bytes_read: int, n_tiles: int, tile_size: int, n_writers: int) -> float:
    written = n_tiles * (tile_size**2 * 4 / _WRITE_BYTES_PER_SECOND)
    synced = n_tiles * _SECONDS_PER_TILE / n_writers
    return bytes_read / _DISK_BYTES_PER_SECOND + written + synced


def _choose(
    sizes: Footprint, memory: int, fixed: dict[str, int], most_flops: float
) -> tuple[int, int]:
    """Side of a block in bands, and samples in a slab: those that read the fastest."""
    best: tuple[float, int, int] | None = None
    for slab in _slabs(sizes.n_samples, sizes.group):
        side = _largest_side(sizes, memory, slab, fixed, most_flops)
        if side == 0:
            continue
        cost = _reading_seconds(sizes, side, slab)
        if best is None or cost < best[0]:
            best = (cost, side, slab)
    if best is None:
        raise sizes.refusal(fixed, memory)
    return best[1], best[2]


def _slabs(n_samples: int, group: int) -> list[int]:
    """Candidates for the slab: all samples, then half as many each time, in whole groups."""
    n_groups = -(-n_samples // group)
    slabs = [n_samples]
    while n_groups > 1:
        n_groups = -(-n_groups // 2)
        slabs.append(n_groups * group)
    return slabs


def _largest_side(
    sizes: Footprint, memory: int, slab: int, fixed: dict[str, int], most_flops: float
) -> int:
    """Bands along a block's side: the most that fit the memory and the work; 0 if none do."""
    flops = 2.0 * sizes.tile_size**2 * sizes.n_samples * sizes.n_classes
    low, high = 0, _longest(sizes.bands)
    while low < high:
        side = (low + high + 1) // 2
        n_tiles, n_bands = _largest_block(sizes.bands, side)
        fits = sizes.fits(n_tiles, n_bands, slab, fixed, memory)
        if fits and (side == 1 or n_tiles * flops <= most_flops):
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


def _reading_seconds(sizes: Footprint, side: int, slab: int) -> float:
    bands = sizes.bands
    n_models = sum(bands.length(band) for band in range(len(bands.slices)))
    times = -(-_longest(bands) // side)
    n_slabs = -(-sizes.n_samples // slab)
    n_bytes = n_models * sizes.n_samples * sizes.n_classes * sizes.itemsize
    if n_slabs > 1:  # a slab that ends inside a chunk reads it whole
        n_bytes += n_bytes * sizes.chunk_samples // slab
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
    n_samples = max(1, min(group_samples(n_classes), _CALIBRATION_SIZE // n_classes))
    panels = allocate(packed_shape(SMALL_TILE, n_samples, n_classes), dtype)
    panels += n_classes**-0.5
    sums, part = np.zeros((SMALL_TILE, SMALL_TILE)), (0, SMALL_TILE, 0, SMALL_TILE)
    arguments = (panels, panels, part, n_samples, class_block(n_classes), sums)
    add_log_affinities(*arguments)
    n_calls, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        add_log_affinities(*arguments)
        n_calls += 1
    elapsed = time.perf_counter() - start
    return 2.0 * n_calls * SMALL_TILE**2 * n_samples * n_classes / elapsed
