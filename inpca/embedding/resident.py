"""D in the memory of a GPU, where the eigensolver reads it pass after pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from inpca.backend import namespace, to_like
from inpca.distance.choice import choose_backend
from inpca.distance.gpu_device import get_cupy, on_device
from inpca.distance.gpu_layout import RESERVE_BYTES
from inpca.embedding import tiles as tiled
from inpca.embedding.centring import DEVICE_STRIP
from inpca.embedding.tiles import DistanceTiles, ExecutorArgument, as_tiles, map_tiles
from inpca.errors import ResourceError
from inpca.predictions import Floats
from inpca.tiling import Tile, TileGrid
from inpca.units import format_bytes


@dataclass(frozen=True)
class Device:
    """Where a solve takes place.

    Attributes
    ----------
    name : in words
    memory : bytes that are free there
    like : an array that lies there
    """

    name: str
    memory: int
    like: Any


@contextmanager
def solver_device(backend: str, device: int | None) -> Iterator[Device | None]:
    """The GPU that `backend` and `device` mean, current while the context lasts; None: the CPU.

    Raises
    ------
    InputError, ResourceError
        See `choose_backend`; and if the GPU has less memory than is needed.
    """
    gpu = choose_backend(backend, device, linear_algebra=True).gpu
    if gpu is None:
        yield None
        return
    with on_device(gpu):
        yield Device(str(gpu), gpu.memory_free - RESERVE_BYTES, get_cupy().empty(0, np.float64))


class ResidentTiles:
    """The upper triangle of D on a device, cut into large tiles.

    Parameters
    ----------
    distances : (m, m) array, or tiles, each of which is read once
    device : where to put it
    executor : see `inpca.executor.get_executor`; threads read and check the tiles

    Raises
    ------
    ResourceError
        If the device has less memory than the triangle and the vectors of a solve take.
    """

    def __init__(
        self,
        distances: Floats | DistanceTiles,
        device: Device,
        executor: ExecutorArgument = None,
    ) -> None:
        source = as_tiles(distances)
        self.grid = TileGrid(source.grid.n_models, tiled.DEVICE_TILE_SIZE)
        self.like = device.like
        wide = isinstance(distances, np.ndarray) and distances.dtype.itemsize == 8
        self._dtype = np.dtype(np.float64 if wide else np.float32)
        self.free = device.memory - self.bytes_needed
        if self.free < 0:
            raise ResourceError(
                f"The distances of {self.grid.n_models} models and a strip of them in float64 need "
                f"{format_bytes(self.bytes_needed)} on {device.name}; choose another `device`, or "
                "backend='numba', which reads them from where they are."
            )
        xp = namespace(self.like)
        at = {} if xp.__name__ == "cupy" else {"device": self.like.device}
        self._tiles = {
            tile: xp.empty(self.grid.shape(tile), dtype=getattr(xp, self._dtype.name), **at)
            for tile in self.grid.tiles()
        }
        for (i, j), values in map_tiles(self._stored, source, executor):
            rows, columns = source.grid.band(i), source.grid.band(j)
            there = to_like(values, self.like)
            self._place(there, rows, columns)
            if i != j:  # where it lies in a tile on the diagonal, the other half as well
                self._place(there.T, columns, rows)

    @property
    def bytes_needed(self) -> int:
        """Of device memory: the tiles, and a strip that is converted to float64 and squared."""
        itemsize = self._dtype.itemsize
        tiles = sum(itemsize * int(np.prod(self.grid.shape(tile))) for tile in self.grid.tiles())
        side = min(self.grid.n_models, self.grid.tile_size)
        return tiles + 3 * 8 * side * min(side, DEVICE_STRIP)

    def _stored(self, tile: Tile, values: Floats) -> Floats:
        return np.ascontiguousarray(values, self._dtype)

    def read_tile(self, tile: Tile) -> Any:
        """The entries of `tile`, there."""
        return self._tiles[tile]

    def _place(self, values: Any, rows: slice, columns: slice) -> None:
        """Write what lies at `rows` and `columns` of D, into each tile that holds some of it."""
        size = self.grid.tile_size
        for i in range(rows.start // size, -(-rows.stop // size)):
            for j in range(max(i, columns.start // size), -(-columns.stop // size)):
                (to_rows, of_rows), (to_columns, of_columns) = (
                    _overlap(self.grid.band(band), part) for band, part in ((i, rows), (j, columns))
                )
                self._tiles[i, j][to_rows, to_columns] = values[of_rows, of_columns]


def _overlap(band: slice, part: slice) -> tuple[slice, slice]:
    """What two stretches share, counted from the start of either."""
    start, stop = max(band.start, part.start), min(band.stop, part.stop)
    return (
        slice(start - band.start, stop - band.start),
        slice(start - part.start, stop - part.start),
    )
