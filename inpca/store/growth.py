"""A matrix that grows: the larger one keeps every tile whose models were all there before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca import durable
from inpca.store.files import removed_on_failure
from inpca.store.matrix import TiledMatrix
from inpca.store.matrix_layout import check_rows, tile_key, write_empty
from inpca.store.replacement import keep_files, replace_folder
from inpca.tiling import Tile, TileGrid


def seal_again(old: TiledMatrix, new: Path, fingerprint: str, tiles: list[Tile]) -> None:
    """Seal kept tiles, whose bytes are those that the `old` seals vouch for, as the new matrix'."""
    folder = new / "seal"
    folder.mkdir(parents=True, exist_ok=True)
    seals = {folder / tile_key(tile): old.seal_of(tile, fingerprint) for tile in tiles}
    durable.write_files(seals)


def grow_matrix(
    matrix: TiledMatrix,
    *,
    n_models: int,
    fingerprint: str,
    models: pd.DataFrame | None = None,
    digests: NDArray[np.uint64] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> TiledMatrix:
    """Replace `matrix` by one of more models; behind its door, alone.

    The new list begins with the models of `matrix`: that is the caller's to prove. Tiles of a last
    band that was not full are left out, to be computed again. Whatever happens, the folder of the
    matrix' name holds the old matrix, or the larger one without the new tiles. Arguments are those
    of `TiledMatrix.create`.
    """
    old = matrix.grid
    grid = TileGrid(n_models, old.tile_size)
    check_rows(n_models, models=models, digests=digests)
    partial = durable.partial_path(matrix.path)
    with removed_on_failure(partial):
        write_empty(partial, grid, fingerprint, models, digests, attrs or {}, matrix.is_sealed)
        n_full, absent = old.n_models // old.tile_size, set(matrix.missing())
        kept = [tile for tile in old.tiles() if tile[1] < n_full and tile not in absent]
        counted = matrix.floored().keys() & set(kept)
        for array, tiles in (("floored", counted), ("distance", kept)):
            keep_files(matrix.path / array, partial / array, [tile_key(tile) for tile in tiles])
        if matrix.is_sealed:
            seal_again(matrix, partial, fingerprint, kept)
    replace_folder(partial, matrix.path)
    return TiledMatrix(matrix.path)
