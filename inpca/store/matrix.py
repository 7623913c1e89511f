"""TiledMatrix: a symmetric matrix on disk as upper-triangle tiles.

A tile is one file: T² raw float32 and their CRC-32C, the part beyond the matrix padded with NaN.
So a finished tile has exactly T²·4 + 4 bytes, and one listing of the folder tells what is missing.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from inpca import durable
from inpca.errors import DamagedStoreError, InputError
from inpca.reporting import Report
from inpca.store import layout, replacement, schema
from inpca.store.claim import claimed, door
from inpca.store.files import (
    Damage,
    damaged,
    no_store,
    read_chunk,
    removed_on_failure,
)
from inpca.store.group import METADATA, check_members, parse_root, read_group, read_member
from inpca.store.layout import CorruptChunk, Document
from inpca.store.matrix_layout import (
    COUNT,
    FLOAT,
    check_rows,
    distance_document,
    tile_key,
    write_empty,
)
from inpca.store.run import contiguous
from inpca.store.table import table_from_members
from inpca.tiling import Tile, TileGrid

KIND = "matrix"
PathLike = str | os.PathLike[str]
_CURE = (
    "compute it again (pairwise_distances(…, repair=True), or `inpca distances ENSEMBLE --repair`)"
)
_REMAKE = (
    "compute all of it again (pairwise_distances(…, restart=True), or `inpca distances ENSEMBLE "
    "--restart`)"
)
_MAKE = "compute it first (pairwise_distances(…, out=…), or `inpca distances ENSEMBLE`)"


class TiledMatrix:
    """A symmetric (n_models, n_models) float32 matrix on disk, in tiles (i, j) with i ≤ j.

    Made by `TiledMatrix.create` or `TiledMatrix.open`. Reading tiles is safe from several threads,
    as is writing different tiles; one process writes at a time (`lock`).

    Attributes
    ----------
    path : the folder
    shape : (n_models, n_models)
    dtype : float32
    grid : its `TileGrid`
    fingerprint : identity of the input it is computed from
    attrs : what else was recorded with it (`update_attrs`)
    """

    dtype = FLOAT

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        attributes, documents = self._read_root()
        header = schema.check_header(attributes, KIND, self.path)
        try:
            self.fingerprint: str = header["fingerprint"]
            document = documents["distance"]
            self.grid = TileGrid(int(document["shape"][0]), int(header["tile_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self.path / METADATA, f"is incomplete ({error!r})", _REMAKE) from error
        if document != distance_document(self.grid):
            raise damaged(self.path / METADATA, "is not laid out as inpca writes it", _REMAKE)
        self.shape = (self.grid.n_models, self.grid.n_models)
        self.attrs = {name: value for name, value in attributes.items() if name != "inpca"}
        self._documents = documents

    @classmethod
    def create(
        cls,
        path: PathLike,
        *,
        n_models: int,
        tile_size: int,
        fingerprint: str,
        models: pd.DataFrame | None = None,
        digests: NDArray[np.uint64] | None = None,
        attrs: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> "TiledMatrix":
        """Make an empty matrix.

        Parameters
        ----------
        path : folder to make, by habit ``*.zarr``
        n_models, tile_size : sizes of the matrix and of a tile
        fingerprint : identity of the input
        models : models table, one row per row of the matrix, frozen with it
        digests : identity of each model's predictions, (n_models,); needed to `grow`
        attrs : anything JSON can hold
        overwrite : replace a matrix that is there; it stays whole until the new one has its name

        Raises
        ------
        InputError
            If the path exists (without `overwrite`) or is something else than a matrix of ours.
        ResourceError
            If another process makes, replaces or writes it.
        """
        path, grid = Path(path), TileGrid(n_models, tile_size)
        check_rows(n_models, models=models, digests=digests)
        layout.to_json(dict(attrs or {}))
        _check_replaceable(cls, path, overwrite)  # before a lock is laid beside it
        with ExitStack() as held, door(path):
            held.enter_context(claimed(path))
            replacement.tidy(path, KIND)
            _check_replaceable(cls, path, overwrite)
            put_matrix(path, grid, fingerprint, models=models, digests=digests, attrs=attrs)
        return cls(path)

    @classmethod
    def open(cls, path: PathLike) -> "TiledMatrix":
        """Open an existing matrix.

        Raises
        ------
        InputError
            If there is none at `path`, or it was made by a newer version.
        DamagedStoreError
            If its metadata cannot be read.
        """
        return cls(path)

    def __repr__(self) -> str:
        n, t = self.grid.n_models, self.grid.tile_size
        return f"<TiledMatrix {str(self.path)!r}, {n:,} × {n:,}, tiles of {t:,}>"

    def __len__(self) -> int:
        return self.grid.n_models

    def _read_root(self) -> tuple[dict[str, Any], dict[str, Document]]:
        try:
            content = replacement.read_whole(
                self.path, lambda place: (place / METADATA).read_bytes(), KIND
            )
        except (FileNotFoundError, NotADirectoryError):
            raise no_store(self.path, "a matrix", _MAKE) from None
        return parse_root(content, self.path, _REMAKE)

    @property
    def models(self) -> pd.DataFrame | None:
        """The models table frozen with the matrix, or None."""
        if not any(name.startswith("models/") for name in self._documents):
            return None
        table = table_from_members(read_group(self.path, "models/")[1])
        self._check_unreplaced()
        return table

    @property
    def digests(self) -> NDArray[np.uint64] | None:
        """Identity of each model's predictions, (n_models,), or None."""
        if "digest" not in self._documents:
            return None
        values: NDArray[np.uint64] = read_member(
            self.path / "digest", self._documents["digest"]
        ).values
        self._check_unreplaced()
        return values

    def _check_unreplaced(self) -> None:
        """Refuse to go on where another matrix has taken this one's place since it was opened."""
        now = TiledMatrix(self.path)
        if (now.fingerprint, now.grid) != (self.fingerprint, self.grid):
            raise InputError(
                f"`path` {self.path} holds another matrix than when it was opened: it was replaced "
                "meanwhile; open it again."
            )

    @property
    def tile_bytes(self) -> int:
        """Bytes of a finished tile's file."""
        return self.grid.tile_size**2 * FLOAT.itemsize + layout.CRC_BYTES

    # -- what is there ----------------------------------------------------------------------------

    def missing(self) -> list[Tile]:
        """Tiles that are absent or of the wrong size, by one listing of the folder."""
        sizes, whole = self._sizes("distance"), self.tile_bytes
        return [tile for tile in self.grid.tiles() if sizes.get(tile_key(tile)) != whole]

    def _sizes(self, array: str) -> dict[str, int]:
        """Name and bytes of every chunk of an array with one chunk per tile."""
        with os.scandir(self.path / array) as entries:
            # No partial ones: another writer may rename it before it can be asked for its size.
            chunks = [one for one in entries if not durable.is_partial(one.name)]
            return {one.name: one.stat().st_size for one in chunks}

    @property
    def complete(self) -> bool:
        """Whether every tile is there."""
        return not self.missing()

    # -- tiles ------------------------------------------------------------------------------------

    def read_tile(self, tile: Tile) -> NDArray[np.float32]:
        """Tile (i, j), i ≤ j, trimmed to the matrix; not writeable.

        Raises
        ------
        DamagedStoreError
            If it is absent, truncated, or does not match its checksum.
        """
        rows, columns = self.grid.shape(self._check_tile(tile))
        try:
            values = read_chunk(self._file(tile), FLOAT, (self.grid.tile_size,) * 2)
        except CorruptChunk as error:
            raise damaged(self._file(tile), f"(tile {tile}) {error}", _CURE) from None
        return values[:rows, :columns]

    def write_tile(self, tile: Tile, values: NDArray[np.floating]) -> None:
        """Write tile (i, j) durably: afterwards it is there, whole, whatever happens.

        Raises
        ------
        InputError
            For values of another shape than the tile's, or NaN among them.
        """
        expected = self.grid.shape(self._check_tile(tile))
        if values.shape != expected:
            raise InputError(
                f"`values` of tile {tile} must have shape {expected}, not {values.shape}."
            )
        if np.isnan(values).any():
            raise InputError(f"`values` of tile {tile} must not hold NaN, which means 'absent'.")
        padded = np.full((self.grid.tile_size,) * 2, np.nan, FLOAT)
        padded[: expected[0], : expected[1]] = values
        durable.write_bytes(self._file(tile), layout.encode(padded))

    def remove_tile(self, tile: Tile) -> None:
        """Remove a tile, damaged or not, so that it counts as missing."""
        self._file(self._check_tile(tile)).unlink(missing_ok=True)
        durable.sync_folder(self.path / "distance")
        (self.path / "floored" / tile_key(tile)).unlink(missing_ok=True)

    def write_floored(self, counts: Mapping[Tile, int]) -> None:
        """Note durably how many contributions to tiles were capped; 0 need not be noted."""
        durable.write_files(
            {
                self.path / "floored" / tile_key(self._check_tile(tile)): layout.encode(
                    np.full((1, 1), count, COUNT)
                )
                for tile, count in counts.items()
                if count
            }
        )

    def floored(self) -> dict[Tile, int]:
        """Contributions that were capped, by tile, where there are any.

        Raises
        ------
        DamagedStoreError
            If a count does not match its checksum.
        """
        there = self._sizes("floored") if "floored" in self._documents else {}
        counts = {}
        for tile in self.grid.tiles():
            if tile_key(tile) in there:
                file = self.path / "floored" / tile_key(tile)
                try:
                    counts[tile] = int(read_chunk(file, COUNT, (1, 1))[0, 0])
                except CorruptChunk as error:
                    raise damaged(file, f"(tile {tile}) {error}", _CURE) from None
        return counts

    def _check_tile(self, tile: Tile) -> Tile:
        i, j = tile
        if not 0 <= i <= j < self.grid.n_bands:
            raise InputError(
                f"`tile` must be (i, j) with 0 ≤ i ≤ j < {self.grid.n_bands}, not {tile}."
            )
        return tile

    def _file(self, tile: Tile) -> Path:
        return self.path / "distance" / tile_key(tile)

    # -- the matrix as numbers --------------------------------------------------------------------

    def rows(self, part: slice) -> NDArray[np.float32]:
        """Rows `part` of the full matrix, shape (k, n_models); k·n_models·4 bytes."""
        start, stop = contiguous(part, self.grid.n_models, "part")
        out = np.empty((stop - start, self.grid.n_models), FLOAT)
        size = self.grid.tile_size
        for band in range(start // size, -(-stop // size)):
            for other in range(self.grid.n_bands):
                self._copy_band(band, other, start, stop, out)
        return out

    def _copy_band(
        self, band: int, other: int, start: int, stop: int, out: NDArray[np.float32]
    ) -> None:
        rows, columns = self.grid.band(band), self.grid.band(other)
        low, high = max(start, rows.start), min(stop, rows.stop)
        upper = band <= other
        values = self.read_tile((band, other)) if upper else self.read_tile((other, band)).T
        out[low - start : high - start, columns] = values[low - rows.start : high - rows.start]

    def to_array(self) -> NDArray[np.float32]:
        """The full matrix, shape (n_models, n_models), each tile read once; n_models²·4 bytes."""
        out = np.empty(self.shape, FLOAT)
        for i, j in self.grid.tiles():
            values = self.read_tile((i, j))
            out[self.grid.band(i), self.grid.band(j)] = values
            out[self.grid.band(j), self.grid.band(i)] = values.T
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("A TiledMatrix lies on disk: an array of it is always a copy.")
        return self.to_array().astype(dtype or FLOAT, copy=False)

    # -- upkeep -----------------------------------------------------------------------------------

    def verify(self, report: Report | None = None) -> list[Damage]:
        """Read every file; what is absent, truncated, changed or NaN, by key, with the cure.

        Parameters
        ----------
        report : called as ``report(done, total, key)`` with tiles as unit
        """
        found = check_members(self.path, skip=("distance", "floored"))
        for done, tile in enumerate(self.grid.tiles(), start=1):
            key = f"distance/{tile_key(tile)}"
            reason = self._reason(tile)
            if reason is not None:
                found.append(Damage(key, f"(tile {tile}) {reason}; {_CURE}"))
            if report is not None:
                report(done, self.grid.n_tiles, key)
        return found

    def _reason(self, tile: Tile) -> str | None:
        """What is wrong with a tile, or with its count; None if nothing is."""
        rows, columns = self.grid.shape(tile)
        counted = self.path / "floored" / tile_key(tile)
        try:
            values = read_chunk(self._file(tile), FLOAT, (self.grid.tile_size,) * 2)
            if counted.exists():
                read_chunk(counted, COUNT, (1, 1))
        except CorruptChunk as error:
            return str(error)
        return "holds NaN" if np.isnan(values[:rows, :columns]).any() else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the matrix for writing; leftovers of a killed writer are removed.

        Raises
        ------
        InputError
            If another matrix has taken its place since it was opened.
        ResourceError
            If another process or thread holds it, or a part of it.
        """
        with ExitStack() as held:
            with door(self.path):
                held.enter_context(claimed(self.path))
                replacement.tidy(self.path, KIND)
                self._check_unreplaced()
            yield

    def update_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Add to `attrs`, durably; only while holding `lock`, if others may write."""
        if "inpca" in attrs:
            raise InputError("`attrs` must not have the key 'inpca', which the store uses itself.")
        attributes, documents = parse_root((self.path / METADATA).read_bytes(), self.path, _REMAKE)
        attributes |= attrs
        root = layout.group_document(attributes, documents)
        durable.write_bytes(self.path / METADATA, layout.to_json(root))
        self.attrs = {name: value for name, value in attributes.items() if name != "inpca"}


def put_matrix(
    path: Path,
    grid: TileGrid,
    fingerprint: str,
    *,
    models: pd.DataFrame | None = None,
    digests: NDArray[np.uint64] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Put a matrix without tiles at `path`, in the place of what is there; behind its door, alone.

    Whether that may be replaced is the caller's to check. What is there is whole until then.
    """
    partial = durable.partial_path(path)
    with removed_on_failure(partial):
        write_empty(partial, grid, fingerprint, models, digests, attrs or {})
        replacement.put_in_place(partial, path)


def _check_replaceable(cls: type[TiledMatrix], path: Path, overwrite: bool) -> None:
    """Refuse a path where something is, other than a matrix that may be overwritten."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InputError(f"`path` {path} exists already; open it, or pass overwrite=True.")
    with suppress(DamagedStoreError):  # a damaged matrix is ours as well
        cls.open(path)
