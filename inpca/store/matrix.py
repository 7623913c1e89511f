"""TiledMatrix: a symmetric matrix on disk as upper-triangle tiles.

A tile is one file: T² raw float32 and their CRC-32C, the part beyond the matrix padded with NaN.
So a finished tile has exactly T²·4 + 4 bytes, and one listing of the folder tells what is missing.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from inpca import durable
from inpca.checks import usable_path
from inpca.errors import DamagedStoreError, InputError
from inpca.reporting import Report
from inpca.store import layout, replacement, schema
from inpca.store.claim import claimed, door
from inpca.store.files import (
    Damage,
    check_folder,
    damaged,
    no_store,
    read_bytes,
    read_chunk,
    removed_on_failure,
)
from inpca.store.group import (
    METADATA,
    Root,
    check_members,
    read_group,
    read_member,
    read_root,
    root_bytes,
)
from inpca.store.layout import CorruptChunk, Document
from inpca.store.matrix_layout import (
    COUNT,
    FLOAT,
    MOST_TILES,
    SEAL,
    check_rows,
    distance_document,
    floored_document,
    seal_document,
    tile_key,
    tile_seal,
    write_empty,
)
from inpca.store.run import contiguous, is_replaced
from inpca.store.table import table_from_members
from inpca.tiling import Tile, TileGrid

KIND = "matrix"
PathLike = str | os.PathLike[str]
_CURE = (
    "compute it again (pairwise_distances(…, repair=True), or `inpca distances ENSEMBLE --repair`)"
)
_FINISH = (
    "finish the matrix (pairwise_distances(…, out=…), or `inpca distances ENSEMBLE`): that goes on "
    "where it ended"
)
_REMAKE = (
    "compute all of it again (pairwise_distances(…, restart=True), or `inpca distances ENSEMBLE "
    "--restart`)"
)
_TIMES = 3  # that a matrix which is replaced meanwhile is read
_LOW = 2**32 - 1
_COUNT_BYTES = COUNT.itemsize + layout.CRC_BYTES
_SEAL_BYTES = SEAL.itemsize + layout.CRC_BYTES
# Of `attrs`, what does not change while the matrix is computed.
_IDENTITY = ("metric", "unit", "sample_set", "n_samples", "n_classes", "identity")
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
    owner : whom the seals of its tiles name; it stays when the matrix grows; None in format 1
    attrs : what else was recorded with it (`update_attrs`)
    """

    dtype = FLOAT

    def __init__(self, path: PathLike) -> None:
        self.path = usable_path(path)
        self._root = self._read_root()
        header = schema.check_header(self._root.attributes, KIND, self.path)
        try:
            self.fingerprint: str = header["fingerprint"]
            self.owner: str | None = header.get("owner")
            self.grid = _grid(header, self._root.documents)
            self._check_folders()
        except (KeyError, TypeError) as error:
            raise damaged(self.path / METADATA, f"is incomplete ({error!r})", _REMAKE) from error
        except CorruptChunk as error:
            raise damaged(self.path / METADATA, error, _REMAKE) from None
        self.shape = (self.grid.n_models, self.grid.n_models)
        self.attrs = _without_header(self._root.attributes)

    def _check_folders(self) -> None:
        """Refuse folders that lead out of the matrix."""
        for name in ("distance", "floored", "seal"):
            check_folder(self.path / name)

    @classmethod
    def create(
        cls,
        path: PathLike,
        *,
        n_models: int,
        tile_size: int,
        fingerprint: str,
        owner: str | None = None,
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
        owner : whom the seals of the tiles name: what of the identity stays when the matrix grows;
            by default the fingerprint
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
        path, grid = usable_path(path), TileGrid(n_models, tile_size)
        check_rows(n_models, models=models, digests=digests)
        layout.to_json(dict(attrs or {}))
        _check_replaceable(cls, path, overwrite)  # before a lock is laid beside it
        described: dict[str, Any] = {"models": models, "digests": digests, "attrs": attrs}
        with ExitStack() as held, door(path):
            held.enter_context(claimed(path))
            replacement.tidy(path, KIND)
            _check_replaceable(cls, path, overwrite)
            put_matrix(path, grid, fingerprint, owner=owner, **described)
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

    def _read_root(self) -> Root:
        try:
            return replacement.read_whole(self.path, lambda place: read_root(place, _REMAKE), KIND)
        except (FileNotFoundError, NotADirectoryError):
            raise no_store(self.path, "a matrix", _MAKE) from None

    @property
    def models(self) -> pd.DataFrame | None:
        """The models table frozen with the matrix, or None."""
        if not any(name.startswith("models/") for name in self._root.documents):
            return None
        with self._unreplaced():
            return table_from_members(read_group(self.path, "models/", self._root)[1])

    @property
    def digests(self) -> NDArray[np.uint64] | None:
        """Identity of each model's predictions, (n_models,), or None."""
        if "digest" not in self._root.documents:
            return None
        return self._read_digests()

    def _read_digests(self) -> NDArray[np.uint64]:
        with self._unreplaced():
            values: NDArray[np.uint64] = read_member(self._root, "digest").values
        return values

    @contextmanager
    def _unreplaced(self) -> Iterator[None]:
        """Read something: what is read where another matrix took this one's place is refused."""
        try:
            yield
        except DamagedStoreError:
            self.check_unchanged()
            raise
        self.check_unchanged()

    @property
    def is_sealed(self) -> bool:
        """Whether every tile has a seal: in all matrices but those of format 1."""
        return self.owner is not None

    @property
    def tile_bytes(self) -> int:
        """Bytes of a finished tile's file."""
        return self.grid.tile_size**2 * FLOAT.itemsize + layout.CRC_BYTES

    def check_unchanged(self, *, or_grown: bool = False) -> None:
        """Refuse a folder that holds another matrix by now than when it was opened.

        To be called after tiles have been read, before anything is concluded from them: a matrix
        that is restarted or extended takes the place of the former under the same name.

        Parameters
        ----------
        or_grown : accept one that was extended: its tiles are the former's, or absent

        Raises
        ------
        InputError
            If it is of other input or of another metric, or laid out in another way, or gone.
        """
        now = type(self)(self.path)
        if self.identity != now.identity and not (or_grown and self._grew_into(now)):
            raise InputError(
                f"`path` {self.path} was replaced by another matrix while it was read (restarted "
                "or extended by another call): nothing was made of the mixture; open it and call "
                "again."
            )

    def _grew_into(self, now: "TiledMatrix") -> bool:
        """Whether `now` begins with the models of this matrix, and is of the same otherwise."""
        digests = now.digests
        if digests is None or self._root.index is None or now.owner != self.owner:
            return False
        first = np.ascontiguousarray(digests[: len(self)])
        return self._root.index.get("digest/c.0") == layout.checksum_of(layout.checksum(first))

    @property
    def identity(self) -> str:
        """Hex digest of what the matrix is of, whatever has been computed of it so far."""
        described = {name: self.attrs.get(name) for name in _IDENTITY}
        text = json.dumps([self.fingerprint, described, self._root.documents], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    # -- what is there ----------------------------------------------------------------------------

    def missing(self) -> list[Tile]:
        """Tiles that are absent, of the wrong size or without a seal, by listing the folders."""
        sizes, whole = self._sizes("distance"), self.tile_bytes
        seals = self._sizes("seal") if self.is_sealed else None
        return [
            tile
            for tile in self.grid.tiles()
            if sizes.get(key := tile_key(tile)) != whole
            or (seals is not None and seals.get(key) != _SEAL_BYTES)
        ]

    def _sizes(self, array: str) -> dict[str, int]:
        """Name and bytes of every chunk of an array with one chunk per tile."""
        sizes = {}
        # A copy may have left empty folders out; another writer may remove or rename anything.
        with suppress(FileNotFoundError), os.scandir(self.path / array) as entries:
            for one in entries:
                with suppress(FileNotFoundError):
                    sizes[one.name] = one.stat().st_size
        return sizes

    def lacks(self, tile: Tile) -> bool:
        """Whether a tile is absent: no file, or one whose writer was killed before its seal."""
        if not self._file(tile).exists():
            return True
        seal = self._seal_file(tile)  # an empty one was not brought to the disk before power failed
        return self.is_sealed and (not seal.exists() or seal.stat().st_size == 0)

    @property
    def is_replaced(self) -> bool:
        """Whether the matrix was replaced, or marked as finished, since it was opened."""
        return is_replaced(self._root)

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
            values = self._read_sealed(tile)
        except CorruptChunk as error:
            if self.is_replaced:
                self.check_unchanged()
            to_do = self.lacks(tile) and not self.attrs.get("finished")
            what = "is missing: not computed yet, or lost" if to_do else str(error)
            cure = f"{_FINISH}; or, if it was there, {_CURE}" if to_do else _CURE
            raise damaged(self._file(tile), f"(tile {tile}) {what}", cure) from None
        return values[:rows, :columns]

    def _read_sealed(self, tile: Tile) -> NDArray[np.float32]:
        """The whole chunk of a tile; CorruptChunk if it is not what was written for it."""
        expected = self._seal(tile) & _LOW if self.is_sealed else None
        return read_chunk(self._file(tile), FLOAT, (self.grid.tile_size,) * 2, expected)

    def _seal(self, tile: Tile) -> int:
        """The seal of a tile, which must be one of this matrix; CorruptChunk for others."""
        if not self._file(tile).exists():
            raise CorruptChunk("is missing")
        try:
            seal = int(read_chunk(self._seal_file(tile), SEAL, (1, 1))[0, 0])
        except CorruptChunk as error:
            raise CorruptChunk(f"has a seal that {error}") from None
        if seal != self._make_seal(tile, seal & _LOW):
            raise CorruptChunk("has the seal of another tile, matrix or count")
        return seal

    def _make_seal(self, tile: Tile, checksum: int) -> int:
        assert self.owner is not None
        return tile_seal(self.owner, tile, checksum, self._count_checksum(tile))

    def _count_checksum(self, tile: Tile) -> int:
        """The checksum that the count of capped contributions ends with; 0 without one."""
        file = self.path / "floored" / tile_key(tile)
        return layout.checksum_of(read_bytes(file, _COUNT_BYTES)) if file.exists() else 0

    def write_tile(self, tile: Tile, values: NDArray[np.floating]) -> None:
        """Write tile (i, j): afterwards it is there, whole, also if the process is killed.

        The tile is durable as well, its seal is when `sync_seals` returns: a loss of power before
        that may make the tile missing.

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
        chunk = layout.encode(padded)
        if self.is_sealed:  # before the tile: without a seal it counts as missing
            self._file(tile).unlink(missing_ok=True)  # a former one would get this one's seal
            seal = np.full((1, 1), self._make_seal(tile, layout.checksum_of(chunk)), SEAL)
            durable.write_bytes(self._seal_file(tile), layout.encode(seal), sync=False)
        durable.write_bytes(self._file(tile), chunk)

    def sync_seals(self) -> None:
        """Make the seals of all tiles durable; one fsync for each tile would cost as much as it."""
        if self.is_sealed:
            durable.sync_all([self._seal_file(tile) for tile in self.grid.tiles()])
            durable.sync_folder(self.path / "seal")

    def remove_tile(self, tile: Tile) -> None:
        """Remove a tile, damaged or not, so that it counts as missing."""
        self._file(self._check_tile(tile)).unlink(missing_ok=True)
        durable.sync_folder(self.path / "distance")
        for array in ("seal", "floored"):
            (self.path / array / tile_key(tile)).unlink(missing_ok=True)

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
        there = self._sizes("floored") if "floored" in self._root.documents else {}
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

    def _seal_file(self, tile: Tile) -> Path:
        return self.path / "seal" / tile_key(tile)

    # -- the matrix as numbers --------------------------------------------------------------------

    def rows(self, part: slice) -> NDArray[np.float32]:
        """Rows `part` of the full matrix, shape (k, n_models); k·n_models·4 bytes."""
        start, stop = contiguous(part, self.grid.n_models, "part")
        out = np.empty((stop - start, self.grid.n_models), FLOAT)
        size = self.grid.tile_size
        for band in range(start // size, -(-stop // size)):
            for other in range(self.grid.n_bands):
                self._copy_band(band, other, start, stop, out)
        self.check_unchanged(or_grown=True)
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
        for tile in self.missing()[:1]:  # before memory is taken
            self.read_tile(tile)
        out = np.empty(self.shape, FLOAT)
        for i, j in self.grid.tiles():
            values = self.read_tile((i, j))
            out[self.grid.band(i), self.grid.band(j)] = values
            out[self.grid.band(j), self.grid.band(i)] = values.T
        self.check_unchanged(or_grown=True)
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
        found = check_members(self._root, skip=("distance", "floored", "seal"))
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
            values = self._read_sealed(tile)
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
                self.check_unchanged()
            yield

    def update_attrs(self, attrs: Mapping[str, Any]) -> None:
        """Add to `attrs`, durably; only while holding `lock`, if others may write."""
        if "inpca" in attrs:
            raise InputError("`attrs` must not have the key 'inpca', which the store uses itself.")
        root = self._read_root()
        header = schema.header(**schema.check_header(root.attributes, KIND, self.path))
        attributes = {**root.attributes, **attrs, "inpca": header}
        durable.write_bytes(self.path / METADATA, root_bytes(root.arrays, attributes, root.index))
        self._root = self._read_root()
        self.attrs = _without_header(attributes)


def _grid(header: Mapping[str, Any], documents: Mapping[str, Document]) -> TileGrid:
    """The tiles of a matrix; CorruptChunk where its root describes none that inpca makes."""
    document, size = documents["distance"], header["tile_size"]
    if type(size) is not int or size < 1 or not isinstance(header["fingerprint"], str):
        raise CorruptChunk(f"has no tile size ({size!r}) or fingerprint")
    if ("seal" in documents) != isinstance(header.get("owner"), str):
        raise CorruptChunk("has no owner of its seals")
    grid = TileGrid(document["shape"][0], size)
    if grid.n_tiles > MOST_TILES:
        raise CorruptChunk(f"describes {grid.n_tiles:,} tiles, where at most {MOST_TILES:,} can be")
    others = {"floored": floored_document, "seal": seal_document}
    known = {name: make for name, make in others.items() if name in documents}
    for name, make in {"distance": distance_document, **known}.items():
        if documents[name] != make(grid):
            raise CorruptChunk(f"describes {name!r}, which {layout.NOT_OURS}")
    return grid


def _without_header(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != "inpca"}


def check_matrix(path: Path, report: Report | None = None) -> list[Damage]:
    """Every file of the matrix at `path` that is not as it was written, by key, with the cure.

    Tiles that are still to be computed are no damage. A matrix that is replaced by a larger one
    meanwhile is read again.
    """
    for _ in range(_TIMES):
        matrix = TiledMatrix.open(path)
        absent = {f"distance/{tile_key(tile)}" for tile in matrix.missing() if matrix.lacks(tile)}
        to_do = set() if matrix.attrs.get("finished") else absent
        found = [damage for damage in matrix.verify(report) if damage.key not in to_do]
        if not found or not matrix.is_replaced:
            break
    return found


def put_matrix(
    path: Path,
    grid: TileGrid,
    fingerprint: str,
    *,
    owner: str | None = None,
    models: pd.DataFrame | None = None,
    digests: NDArray[np.uint64] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Put a matrix without tiles at `path`, in the place of what is there; behind its door, alone.

    Whether that may be replaced is the caller's to check. What is there is whole until then.
    """
    partial = durable.partial_path(path)
    with removed_on_failure(partial):
        owner = owner or fingerprint
        write_empty(partial, grid, fingerprint, models, digests, attrs or {}, owner)
        replacement.put_in_place(partial, path)


def _check_replaceable(cls: type[TiledMatrix], path: Path, overwrite: bool) -> None:
    """Refuse a path where something is, other than a matrix that may be overwritten."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InputError(f"`path` {path} exists already; open it, or pass overwrite=True.")
    with suppress(DamagedStoreError):  # a damaged matrix is ours as well
        cls.open(path)
