"""Where finished tiles go: an array in memory, or a `TiledMatrix`, new, resumed or repaired."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.plan import Bands
from inpca.errors import DamagedStoreError, InputError
from inpca.progress import Report
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile

_IDENTITY = "identity"
_FLOORED, _FLOORED_TILES = "floored", "floored_tiles"
_FINISHED = "finished"


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
    """Tiles into a `TiledMatrix`; the lock is held by the caller."""

    def __init__(self, matrix: TiledMatrix) -> None:
        self.matrix = matrix

    @property
    def floored(self) -> int:
        """Floored contributions in all tiles, those of former calls included."""
        return sum(self.matrix.attrs.get(_FLOORED_TILES, {}).values())

    def record_floored(self, counts: Mapping[Tile, int]) -> None:
        """Note the floored contributions before the tiles are written.

        So a tile that is there always has its count; a count without its tile is replaced when
        the tile is computed again.
        """
        noted = self.matrix.attrs.get(_FLOORED_TILES, {})
        merged = noted | {f"{i}.{j}": count for (i, j), count in counts.items()}
        merged = {key: merged[key] for key in sorted(merged) if merged[key]}
        if merged != noted:
            self.matrix.update_attrs({_FLOORED_TILES: merged, _FLOORED: sum(merged.values())})

    def write(self, tile: Tile, distances: NDArray[np.float64]) -> None:
        """Write a tile as float32, durably."""
        self.matrix.write_tile(tile, distances)

    def finish(self) -> None:
        """Note that every tile has been written: one that is absent from now on is damage."""
        if not is_finished(self.matrix) and self.matrix.complete:
            self.matrix.update_attrs({_FINISHED: True})


def is_finished(matrix: TiledMatrix) -> bool:
    """Whether every tile of `matrix` was there once; tiles may have been lost since."""
    return bool(matrix.attrs.get(_FINISHED, False))


def matrix_identity(**parts: str | int) -> dict[str, str]:
    """What makes two distance jobs the same one, by name."""
    return {name: str(value) for name, value in parts.items()}


def open_matrix(
    path: str | os.PathLike[str],
    *,
    n_models: int,
    tile_size: int,
    identity: Mapping[str, str],
    attrs: Mapping[str, Any],
    models: pd.DataFrame | None,
    resume: bool,
    restart: bool,
) -> TiledMatrix:
    """The matrix to fill: made anew, or the one that is there if it is of the same job.

    Raises
    ------
    InputError
        If the matrix that is there was computed from other inputs, or `resume` is False.
    """
    fingerprint = hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()
    if os.path.lexists(path) and not restart:
        if not resume:
            raise InputError(
                f"`out` {os.fspath(path)} exists already and resume=False; pass resume=True to go "
                "on, restart=True to replace it, or another `out`."
            )
        matrix = TiledMatrix.open(path)
        if matrix.fingerprint != fingerprint:
            _refuse(matrix, identity)
        return matrix
    return TiledMatrix.create(
        path,
        n_models=n_models,
        tile_size=tile_size,
        fingerprint=fingerprint,
        models=models,
        attrs={
            **attrs,
            _IDENTITY: dict(identity),
            _FLOORED: 0,
            _FLOORED_TILES: {},
            _FINISHED: False,
        },
        overwrite=restart,
    )


def _refuse(matrix: TiledMatrix, identity: Mapping[str, str]) -> None:
    there = matrix.attrs.get(_IDENTITY, {})
    other = [
        f"{name} {there.get(name, '(not recorded)')} instead of {value}"
        for name, value in identity.items()
        if there.get(name) != value
    ]
    raise InputError(
        f"`out` {matrix.path} was computed from something else ({'; '.join(other)}); pass "
        "restart=True to replace it, or another `out`."
    )


def remove_damaged(matrix: TiledMatrix, report: Report | None = None) -> list[str]:
    """Verify `matrix` and remove its damaged tiles; returns what was damaged.

    Raises
    ------
    DamagedStoreError
        If something else than a tile is damaged.
    """
    tiles = {f"distance/c.{i}.{j}": (i, j) for i, j in matrix.grid.tiles()}
    found = matrix.verify(report)
    for damage in found:
        if damage.key not in tiles:
            raise DamagedStoreError(
                f"{matrix.path}: {damage.key} {damage.reason}; tiles alone can be repaired: pass "
                "restart=True to compute the matrix again."
            )
        matrix.remove_tile(tiles[damage.key])
    return [f"{damage.key}: {damage.reason}" for damage in found]
