"""Some models of a distance matrix on disk, embedded without computing distances again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.distance.sinks import require_tiles
from inpca.errors import InputError
from inpca.predictions import Floats
from inpca.store.matrix import TiledMatrix
from inpca.store.selection import select_rows
from inpca.tiling import Tile, TileGrid

Query = str | Sequence[str] | ArrayLike


@dataclass(frozen=True)
class SelectedGrid(TileGrid):
    """The bands of a stored grid, as far as they hold selected models; so they differ in size.

    Attributes
    ----------
    starts : first selected model of each band
    """

    starts: tuple[int, ...] = (0,)

    @property
    def n_bands(self) -> int:
        """Number of stored bands with a selected model."""
        return len(self.starts)

    def band(self, index: int) -> slice:
        """The selected models of band `index`."""
        stops = (*self.starts[1:], self.n_models)
        return slice(self.starts[index], stops[index])


class SelectedDistances:
    """Rows and columns of a `TiledMatrix` as tiles: each stored tile that is needed is one.

    Parameters
    ----------
    matrix : distances of all models
    positions : of the selected models in it, increasing

    Attributes
    ----------
    shape : (n_selected, n_selected)
    grid : the tiles that are read
    fingerprint : identity of the matrix' input and of the selection
    """

    def __init__(self, matrix: TiledMatrix, positions: NDArray[np.intp]) -> None:
        size = matrix.grid.tile_size
        bands, starts = np.unique(positions // size, return_index=True)
        self._matrix = matrix
        self._bands = bands.tolist()
        self._rows = [
            rows - band * size for band, rows in zip(bands, np.split(positions, starts[1:]))
        ]
        self.shape = (len(positions), len(positions))
        self.grid = SelectedGrid(len(positions), size, tuple(starts.tolist()))
        text = f"{matrix.identity} selected {positions.tolist()}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def missing(self) -> list[Tile]:
        """The stored tiles that are needed and not there."""
        needed = {self._stored(tile) for tile in self.grid.tiles()}
        return [tile for tile in self._matrix.missing() if tile in needed]

    def read_tile(self, tile: Tile) -> Floats:
        """The selected rows and columns of the stored tile."""
        values = self._matrix.read_tile(self._stored(tile))
        return values[np.ix_(self._rows[tile[0]], self._rows[tile[1]])]

    def check_unchanged(self) -> None:
        """See `TiledMatrix.check_unchanged`."""
        self._matrix.check_unchanged()

    def _stored(self, tile: Tile) -> Tile:
        return self._bands[tile[0]], self._bands[tile[1]]


def query_models(matrix: TiledMatrix, query: Query) -> pd.DataFrame:
    """The models of `matrix` that `query` names: rows of its models table.

    Text is a condition in pandas' words on the columns of the table, and keeps the reference
    models, as a selection of an ensemble does to which references are added afterwards. Keys are
    taken as they are, in their order.
    """
    models = _models(matrix)
    if not isinstance(query, str):
        return select_rows(models, query)
    is_reference = _is_reference(models)
    return pd.concat([models[is_reference], select_rows(models[~is_reference], query)])


def without_references(matrix: TiledMatrix, query: str | None) -> list[str]:
    """Keys of the models of `matrix` that `query` names, or of all, but no reference models."""
    models = _models(matrix) if query is None else query_models(matrix, query)
    return list(models.index[~_is_reference(models)])


def _models(matrix: TiledMatrix) -> pd.DataFrame:
    if matrix.models is None:
        raise InputError(
            f"`models` selects by a table of models, but {matrix.path} was computed from an array "
            "and has none; leave `models` out, or embed an array of distances."
        )
    return matrix.models


def _is_reference(models: pd.DataFrame) -> NDArray[np.bool_]:
    return np.asarray(models.index.str.startswith("@"), dtype=bool)


def select_distances(
    matrix: TiledMatrix, models: pd.DataFrame
) -> tuple[SelectedDistances, NDArray[np.intp]]:
    """The distances between `models`, all of them in `matrix`, and the row of each in these.

    Raises
    ------
    InputError
        If a tile that is needed has not been computed yet.
    DamagedStoreError
        If it was, and is gone.
    """
    assert matrix.models is not None
    positions = matrix.models.index.get_indexer(models.index)
    selected = SelectedDistances(matrix, np.sort(positions))
    require_tiles(matrix, selected.missing(), selected.grid.n_tiles)
    return selected, np.argsort(np.argsort(positions))
