"""A matrix that grows: the larger one keeps every tile whose models were all there before."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca import durable
from inpca.errors import InputError
from inpca.store.files import removed_on_failure
from inpca.store.matrix import TiledMatrix
from inpca.store.matrix_layout import check_rows, tile_key, write_empty
from inpca.store.replacement import keep_files, replace_folder
from inpca.tiling import TileGrid


def grow_matrix(
    matrix: TiledMatrix,
    *,
    n_models: int,
    fingerprint: str,
    owner: str | None = None,
    models: pd.DataFrame | None = None,
    digests: NDArray[np.uint64] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> TiledMatrix:
    """Replace `matrix` by one of more models; behind its door, alone.

    The new list begins with the models of `matrix`: that is the caller's to prove. Tiles of a last
    band that was not full are left out, to be computed again. Whatever happens, the folder of the
    matrix' name holds the old matrix, or the larger one without the new tiles. Arguments are those
    of `TiledMatrix.create`; the owner stays what it was.

    Raises
    ------
    InputError
        If `owner` is given and is another one.
    """
    if owner not in (None, matrix.owner) and matrix.owner is not None:
        raise InputError(f"`owner` must be that of {matrix.path}, {matrix.owner}, not {owner}.")
    old = matrix.grid
    grid = TileGrid(n_models, old.tile_size)
    check_rows(n_models, models=models, digests=digests)
    partial = durable.partial_path(matrix.path)
    with removed_on_failure(partial):
        write_empty(partial, grid, fingerprint, models, digests, attrs or {}, matrix.owner)
        n_full, absent = old.n_models // old.tile_size, set(matrix.missing())
        kept = [tile for tile in old.tiles() if tile[1] < n_full and tile not in absent]
        counted = matrix.floored().keys() & set(kept)
        sealed = kept if matrix.owner else []
        for array, tiles in (("floored", counted), ("seal", sealed), ("distance", kept)):
            keep_files(matrix.path / array, partial / array, [tile_key(tile) for tile in tiles])
        replace_folder(partial, matrix.path)
    return TiledMatrix(matrix.path)
