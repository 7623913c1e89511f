"""One face for a distance matrix, in memory or on disk: upper-triangle tiles, each read once."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Lock
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from inpca.backend import as_float64, is_elsewhere, namespace, to_host
from inpca.embedding.labels import named_square
from inpca.embedding.scale import scaled
from inpca.errors import DamagedStoreError, InputError
from inpca.executor import Executor, get_executor
from inpca.predictions import Floats, as_floats
from inpca.tiling import Tile, TileGrid

Float64 = NDArray[np.float64]
Result = TypeVar("Result")
ExecutorArgument = str | int | Executor | None

# Side of the tiles that a matrix in memory is cut into; a constant, so that nothing about the
# machine changes the order of a sum.
ARRAY_TILE_SIZE = 1024
# The same on a GPU, where a few large products beat many small ones.
DEVICE_TILE_SIZE = 8192
# How far an entry of a given D may be from its mirror image, or from zero on the diagonal,
# relative to the largest entry: sums rounded in another order, not another matrix.
TOLERANCE = {4: 1e-5, 8: 1e-8}
# Distances of near-copies may come out this much below zero from float32 predictions.
NEGATIVE_TOLERANCE = 1e-6
# A matrix whose largest entry is below this is none of roundings: it is in another unit.
_LEAST_ROUNDING = 1e-20
# Threads that read tiles: with two, one checks its tile's checksum while the other waits for the
# disk.
_READERS = 2


class DistanceTiles(Protocol):
    """A symmetric matrix as the tiles (i, j), i ≤ j; `TiledMatrix` on disk is one."""

    @property
    def grid(self) -> TileGrid: ...

    def read_tile(self, tile: Tile) -> Floats:
        """The entries of `tile`, shape `grid.shape(tile)`; a diagonal tile has both halves."""
        ...


class ArrayTiles:
    """The upper triangle of a matrix in memory, or on a device, as tiles; nothing is copied."""

    def __init__(self, distances: Any, tile_size: int = ARRAY_TILE_SIZE) -> None:
        self._distances = distances
        self.grid = TileGrid(int(distances.shape[0]), tile_size)
        self.like = distances if is_elsewhere(distances) else None

    def read_tile(self, tile: Tile) -> Floats:
        values: Floats = self._distances[self.grid.band(tile[0]), self.grid.band(tile[1])]
        return values


class ScaledTiles:
    """Tiles times 2^exponent, in float64: no digit of an entry changes."""

    def __init__(self, tiles: DistanceTiles, exponent: int) -> None:
        self._tiles, self._exponent = tiles, exponent
        self.grid = tiles.grid
        self.like = place_of(tiles)

    def read_tile(self, tile: Tile) -> Floats:
        return cast(Floats, scaled(as_float64(self._tiles.read_tile(tile)), self._exponent))

    def check_unchanged(self) -> None:
        check_unchanged(self._tiles)


def place_of(tiles: DistanceTiles) -> Any:
    """An array that lies where the tiles do; None where they are NumPy's."""
    return getattr(tiles, "like", None)


def as_tiles(distances: Floats | DistanceTiles) -> DistanceTiles:
    """`distances` itself if it is tiled, otherwise a matrix in memory seen as tiles.

    The columns of a table are brought into the order of its rows; masked entries are refused.
    """
    if hasattr(distances, "read_tile"):
        return cast(DistanceTiles, distances)
    array: Any = distances
    if not is_elsewhere(distances):
        array = as_floats(named_square(distances, "D")[0], "D")
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.shape[0]:
        raise InputError(f"`D` must be a square matrix, not an array of shape {array.shape}.")
    return ArrayTiles(array, DEVICE_TILE_SIZE if is_elsewhere(array) else ARRAY_TILE_SIZE)


def map_tiles(
    function: Callable[[Tile, Floats], Result],
    tiles: DistanceTiles,
    executor: ExecutorArgument = None,
) -> Generator[tuple[Tile, Result], None, None]:
    """``function(tile, values)`` of every tile, by the executor's workers, in the grid's order.

    Tiles are read ahead of the workers by threads of their own, each tile once. The order of the
    results is what makes sums over tiles independent of the number of workers; a result that is
    early waits. Tiles on a device are taken in turn: it orders the work by itself.

    Raises
    ------
    InputError
        If the matrix on disk was replaced by another one since it was opened. It is looked at
        when all tiles are read: no result of a whole pass then is a mixture of two.
    """
    with telling_replaced(tiles):
        yield from _results(function, tiles, executor)
    check_unchanged(tiles)


@contextmanager
def telling_replaced(tiles: DistanceTiles) -> Iterator[None]:
    """Where a tile cannot be read, say so if that is because the whole matrix is another one."""
    try:
        yield
    except DamagedStoreError:
        check_unchanged(tiles)
        raise


def check_unchanged(tiles: DistanceTiles) -> None:
    """Refuse tiles on disk that are no longer those that were opened; see `TiledMatrix`."""
    check = getattr(tiles, "check_unchanged", None)
    if check is not None:
        check()


def _results(
    function: Callable[[Tile, Floats], Result], tiles: DistanceTiles, executor: ExecutorArgument
) -> Generator[tuple[Tile, Result], None, None]:
    if place_of(tiles) is not None:
        for tile in tiles.grid.tiles():
            yield tile, function(tile, tiles.read_tile(tile))
        return
    order = list(tiles.grid.tiles())
    pool = get_executor(executor)
    early: dict[int, Result] = {}
    with _ReadAhead(tiles, order, pool.n_workers) as reader:

        def task(index: int) -> tuple[int, Result]:
            return index, function(order[index], reader.take(index))

        expected = 0
        # Closed before the reader is: what still runs then ends first.
        with closing(pool.map(task, range(len(order)))) as results:
            for done, result in results:
                early[done] = result
                while expected in early:
                    yield order[expected], early.pop(expected)
                    expected += 1


class _ReadAhead:
    """Tiles in the order in which they will be asked for, read before they are.

    What is read and not yet taken is bounded: `tiles_in_memory`.
    """

    def __init__(self, tiles: DistanceTiles, order: list[Tile], n_workers: int) -> None:
        self._read, self._order = tiles.read_tile, order
        self._ahead = tiles_in_memory(n_workers) - n_workers
        self._readers = ThreadPoolExecutor(_READERS)
        self._lock = Lock()
        self._started = 0
        self._pending: dict[int, Future[Floats]] = {}

    def __enter__(self) -> "_ReadAhead":
        return self

    def __exit__(self, *error: object) -> None:
        self._readers.shutdown(cancel_futures=True)

    def take(self, index: int) -> Floats:
        """Tile `index`, and start reading those after it; raises what reading it raised."""
        with self._lock:
            stop = min(index + self._ahead + 1, len(self._order))
            for later in range(self._started, stop):
                self._pending[later] = self._readers.submit(self._read, self._order[later])
            self._started = max(self._started, stop)
            future = self._pending.pop(index)
        return future.result()


def tiles_in_memory(n_workers: int) -> int:
    """Tiles as stored that a pass holds at most: one per worker, and those read ahead."""
    return n_workers + 2 * _READERS


def fingerprint(distances: Floats | DistanceTiles) -> str:
    """Hex digest of a matrix in memory; of one on disk that of what it was computed from."""
    for name in ("identity", "fingerprint"):
        if hasattr(distances, name):
            return str(getattr(distances, name))
    array = cast(Floats, to_host(distances))
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for row in array:
        digest.update(np.ascontiguousarray(row).data)
    return digest.hexdigest()


def check_distances(distances: Floats) -> None:
    """Refuse a precomputed D in memory that is no distance matrix, naming the entry.

    Raises
    ------
    InputError
        If `distances` is not square, has NaN or infinite entries, negative entries, a diagonal
        that is not zero, or is not symmetric (each beyond rounding).
    """
    _refuse_not_finite(distances)
    grid = as_tiles(distances).grid
    largest = max(np.abs(distances[grid.band(i)]).max() for i in range(grid.n_bands))
    tolerance = TOLERANCE[8 if distances.dtype.itemsize == 8 else 4] * float(largest)
    for i, j in grid.tiles():
        upper = distances[grid.band(i), grid.band(j)]
        lower = distances[grid.band(j), grid.band(i)].T
        check_tile(upper, grid, (i, j), tolerance, float(largest))
        _refuse(np.abs(upper - lower) > tolerance, upper, grid, (i, j), _ASYMMETRIC)


_NEGATIVE = "Negative values in data: D[{u}, {v}] = {value:.6g}; distances are at least 0."
_DIAGONAL = (
    "D[{u}, {u}] = {value:.6g}, but the distance of a model to itself must be 0; self-normalise "
    "with D_uv − (D_uu + D_vv) / 2."
)
_ASYMMETRIC = (
    "D is not symmetric: D[{u}, {v}] = {value:.9g} differs from D[{v}, {u}]; symmetrise the "
    "divergence, for example with (D + D.T) / 2."
)
_NOT_FINITE = (
    "D has NaN or infinite entries (inf, NaN), the first at D[{u}, {v}] = {value}; drop the "
    "models that diverged, or recompute these distances."
)


def _refuse_not_finite(distances: Floats) -> None:
    """Band by band, before anything is known of the shape."""
    for start in range(0, len(distances), ARRAY_TILE_SIZE):
        bad = ~np.isfinite(distances[start : start + ARRAY_TILE_SIZE])
        if bad.any():
            u, v = np.argwhere(bad)[0] + (start, 0)
            raise InputError(_NOT_FINITE.format(u=u, v=v, value=distances[u, v]))


def check_finite(values: Floats, grid: TileGrid, tile: Tile) -> None:
    """Refuse a tile with NaN or infinite entries; one on a device is looked at there."""
    if is_elsewhere(values):
        xp = namespace(values)
        if bool(xp.all(xp.isfinite(values))):
            return
        values = to_host(values)
    _refuse(~np.isfinite(values), values, grid, tile, _NOT_FINITE)


def check_tile(
    values: Floats, grid: TileGrid, tile: Tile, tolerance: float, largest: float
) -> None:
    """Refuse a tile with negative entries or, on the diagonal, entries that are not zero.

    `tolerance` is for both, and `largest` the largest magnitude in the matrix.
    """
    below = max(tolerance, NEGATIVE_TOLERANCE if largest > _LEAST_ROUNDING else 0.0)
    _refuse(values < -below, values, grid, tile, _NEGATIVE)
    if tile[0] == tile[1]:
        off_zero = np.diag(np.abs(np.diagonal(values)) > tolerance)
        _refuse(off_zero, values, grid, tile, _DIAGONAL)


def _refuse(bad: NDArray[np.bool_], values: Floats, grid: TileGrid, tile: Tile, why: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        u, v = row + grid.band(tile[0]).start, column + grid.band(tile[1]).start
        raise InputError(why.format(u=u, v=v, value=values[row, column]))
