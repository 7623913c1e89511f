"""Where finished tiles go: an array in memory, or a `TiledMatrix`."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inpca.distance.plan import Bands
from inpca.errors import DamagedStoreError, InputError
from inpca.store.claim import door
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile

FLOORED, FINISHED = "floored", "finished"


class ArraySink:
    """Tiles into a float64 array, both triangles.

    Parameters
    ----------
    bands : how the matrix is cut
    shape : (rows, columns)
    """

    def __init__(self, bands: Bands, shape: tuple[int, int]) -> None:
        self._bands = bands
        self._first_column = 0 if bands.symmetric else shape[0]
        self.array = np.empty(shape)
        self.floored = 0

    def record_floored(self, counts: Mapping[Tile, int]) -> None:
        """Add up the floored contributions."""
        self.floored += sum(counts.values())

    def write(self, tile: Tile, distances: NDArray[np.float64]) -> None:
        """Place a tile, and its transpose where the matrix is symmetric."""
        rows = self._bands.slices[tile[0]]
        band = self._bands.slices[tile[1]]
        columns = slice(band.start - self._first_column, band.stop - self._first_column)
        self.array[rows, columns] = distances
        if self._bands.symmetric and tile[0] != tile[1]:
            self.array[columns, rows] = distances.T


class MatrixSink:
    """Tiles into a `TiledMatrix`; the caller holds the claim on them."""

    def __init__(self, matrix: TiledMatrix) -> None:
        self.matrix = matrix

    def record_floored(self, counts: Mapping[Tile, int]) -> None:
        """Note the floored contributions before the tiles are written.

        So a tile that is there always has its count; a count without its tile is replaced when
        the tile is computed again. Each tile has a file of its own, so that engines that share a
        matrix by parts do not overwrite each other's.
        """
        self.matrix.write_floored(counts)

    def write(self, tile: Tile, distances: NDArray[np.float64]) -> None:
        """Write a tile as float32, durably."""
        self.matrix.write_tile(tile, distances)


def finish(matrix: TiledMatrix) -> int:
    """Note that every tile has been written, if so: one that is absent from now on is damage.

    Of several engines that share a matrix the last one to end notes it. Returns the floored
    contributions of all tiles that are there.
    """
    with door(matrix.path):
        floored = sum(matrix.floored().values())
        if not is_finished(TiledMatrix.open(matrix.path)) and matrix.complete:
            matrix.sync_seals()
            matrix.update_attrs({FLOORED: floored, FINISHED: True})
    return floored


def is_finished(matrix: TiledMatrix) -> bool:
    """Whether every tile of `matrix` was there once; tiles may have been lost since."""
    return bool(matrix.attrs.get(FINISHED, False))


def require_tiles(matrix: TiledMatrix, missing: Sequence[Tile], n_needed: int) -> None:
    """Refuse to go on without the tiles `missing` of `n_needed`.

    Raises
    ------
    InputError
        If the matrix was never finished.
    DamagedStoreError
        If it was, and has lost them since.
    """
    if not missing:
        return
    lacks = f"{matrix.path} lacks {len(missing)} of {n_needed} tiles"
    if is_finished(matrix):
        raise DamagedStoreError(
            f"{lacks} that it had, the first is {missing[0]}; compute them again with "
            "pairwise_distances(…, out=path), or `inpca distances`."
        )
    raise InputError(
        f"{lacks} still to be computed; finish it first: pairwise_distances(…, out=path), or "
        "`inpca distances`, goes on where it ended."
    )
