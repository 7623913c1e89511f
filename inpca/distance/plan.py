"""A distance job cut into bands, blocks and slabs, and what it needs: data, no decisions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inpca.distance.gpu_layout import Gpu, Kind
from inpca.tiling import Tile, TileGrid
from inpca.units import format_bytes, format_seconds


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

    @property
    def sides(self) -> tuple[range, range]:
        """Bands that are rows, and bands that are columns of another set."""
        return range(self.n_rows), range(self.n_rows, len(self.slices))

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
class DevicePlan:
    """How a GPU computes the blocks of a plan.

    Attributes
    ----------
    gpu : which one, and what it has
    kind : of kernel, see `kernels_cupy`
    tile_size : rows and columns of a tile there, padded to a multiple of 128
    launch : samples that it takes at a time
    memory_parts : what needs device memory, and how many bytes
    """

    gpu: Gpu
    kind: Kind
    tile_size: int
    launch: int
    memory_parts: dict[str, int]

    @property
    def memory_needed(self) -> int:
        """Bytes of device memory."""
        return sum(self.memory_parts.values())


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
    models_per_piece : models whose part of a slab one task reads
    n_workers : tasks at once
    n_writers : tiles written at once; they wait for the disk more than they compute
    memory, memory_needed : bytes allowed and bytes needed
    memory_parts : what needs them
    disk_needed : bytes that the files still to be written take, in whole blocks (0 in memory)
    bytes_read : of float32 or float64 log-probabilities
    n_pairs, flops : 2 · n_samples · n_classes per pair, diagonal left out
    seconds : estimate from a calibration of the kernel, or None
    device : the GPU's share, where one computes
    """

    n_models: tuple[int, int]
    n_samples: int
    n_classes: int
    dtype: str
    tile_size: int
    bands: Bands
    blocks: tuple[Block, ...]
    slab: int
    models_per_piece: int
    n_workers: int
    n_writers: int
    memory: int
    memory_needed: int
    memory_parts: dict[str, int]
    disk_needed: int
    bytes_read: int
    n_pairs: int
    flops: float
    seconds: float | None
    device: DevicePlan | None = None

    @property
    def where(self) -> str:
        """Who computes, in words."""
        if self.device is not None:
            return f"GPU {self.device.gpu.index} ({self.device.gpu.name})"
        return f"{self.n_workers} worker{'s' if self.n_workers > 1 else ''} on the CPU"

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
            f"work       {self.flops:.3g} floating-point operations on {self.where}",
        ]
        if self.device is not None:
            there, free = self.device.memory_needed, self.device.gpu.memory_free
            named = ", ".join(
                f"{name} {format_bytes(part)}" for name, part in self.device.memory_parts.items()
            )
            lines.append(f"device     {format_bytes(there)} of {format_bytes(free)} free: {named}")
        if self.seconds is not None:
            lines.append(f"time       about {format_seconds(self.seconds)}")
        return lines

    def as_record(self) -> dict[str, Any]:
        """The plan as a dictionary that JSON can hold."""
        return {
            "n_models": list(self.n_models),
            "n_pairs": self.n_pairs,
            "n_samples": self.n_samples,
            "n_classes": self.n_classes,
            "dtype": self.dtype,
            "tile_size": self.tile_size,
            "n_tiles": self.n_tiles,
            "n_blocks": len(self.blocks),
            "samples_at_a_time": self.slab,
            "n_workers": self.n_workers,
            "memory": self.memory,
            "memory_needed": self.memory_needed,
            "memory_parts": dict(self.memory_parts),
            "disk_needed": self.disk_needed,
            "bytes_read": self.bytes_read,
            "flops": self.flops,
            "seconds": self.seconds,
            "backend": "numba" if self.device is None else "cupy",
            "device": None if self.device is None else self._device_record(self.device),
        }

    @staticmethod
    def _device_record(device: DevicePlan) -> dict[str, Any]:
        return {
            "index": device.gpu.index,
            "name": device.gpu.name,
            "kernel": device.kind,
            "memory_free": device.gpu.memory_free,
            "memory_needed": device.memory_needed,
            "memory_parts": dict(device.memory_parts),
        }

    @property
    def _bytes_once(self) -> int:
        n_models = sum(self.bands.length(band) for band in range(len(self.bands.slices)))
        return n_models * self.n_samples * self.n_classes * np.dtype(self.dtype).itemsize


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
