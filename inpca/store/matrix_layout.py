"""The files of a tiled matrix: names of tiles, documents of its arrays, an empty one on disk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.store import layout, schema
from inpca.store.group import Member, write_group
from inpca.store.layout import Document
from inpca.store.table import table_members
from inpca.tiling import Tile, TileGrid

FLOAT = np.dtype(np.float32)
COUNT = np.dtype(np.int64)
SEAL = np.dtype(np.uint64)
# A listing of more tiles takes minutes, and a file system hardly holds them.
MOST_TILES = 10_000_000


def tile_key(tile: Tile) -> str:
    """Name of the file of tile (i, j), in every array that has one chunk per tile."""
    return f"c.{tile[0]}.{tile[1]}"


def distance_document(grid: TileGrid) -> Document:
    """The `zarr.json` of the distances."""
    column = schema.MATRIX["distance"]
    return layout.array_document(
        (grid.n_models, grid.n_models),
        FLOAT,
        column.dims,
        (grid.tile_size, grid.tile_size),
        attributes=column.attributes,
    )


def floored_document(grid: TileGrid) -> Document:
    """The `zarr.json` of the capped contributions to each tile."""
    column = schema.MATRIX["floored"]
    shape = (grid.n_bands, grid.n_bands)
    return layout.array_document(shape, COUNT, column.dims, (1, 1), attributes=column.attributes)


def seal_document(grid: TileGrid) -> Document:
    """The `zarr.json` of the tiles' seals."""
    column = schema.MATRIX["seal"]
    shape = (grid.n_bands, grid.n_bands)
    return layout.array_document(shape, SEAL, column.dims, (1, 1), attributes=column.attributes)


def tile_seal(fingerprint: str, tile: Tile, tile_checksum: int, count_checksum: int) -> int:
    """What binds a tile to its matrix, its place and its count of capped contributions.

    Parameters
    ----------
    fingerprint : of the matrix
    tile_checksum, count_checksum : CRC-32C that the two files end with; 0 without a count
    """
    owner = f"{fingerprint} {tile[0]} {tile[1]} {tile_checksum} {count_checksum}".encode()
    return tile_checksum | layout.checksum_of(layout.checksum(owner)) << 32


def check_rows(n_models: int, **tables: pd.DataFrame | NDArray[Any] | None) -> None:
    """Refuse tables that do not have one row per model."""
    for name, table in tables.items():
        if table is not None and len(table) != n_models:
            raise InputError(f"`{name}` must have {n_models:,} rows, not {len(table):,}.")


def write_empty(
    path: Path,
    grid: TileGrid,
    fingerprint: str,
    models: pd.DataFrame | None,
    digests: NDArray[np.uint64] | None,
    attrs: Mapping[str, Any],
    sealed: bool = True,
) -> None:
    """A matrix without tiles in the folder `path`, which has not its final name yet.

    Tiles have no seals where one of format 1 grows.
    """
    header = schema.header("matrix", fingerprint=fingerprint, tile_size=grid.tile_size)
    members = {} if models is None else table_members(models)
    tree = {f"models/{name}": member for name, member in members.items()}
    if models is not None:
        tree["model"] = members["model"]
    if digests is not None:
        column = schema.MATRIX["digest"]
        tree["digest"] = Member(column.dims, digests, column.attributes)
    documents = {"distance": distance_document(grid), "floored": floored_document(grid)}
    if sealed:
        documents["seal"] = seal_document(grid)
    write_group(path, tree, {**attrs, "inpca": header}, documents=documents)
