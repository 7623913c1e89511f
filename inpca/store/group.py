"""A small Zarr group written once and whole: sample sets, saved embeddings, lists of models."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from inpca import durable
from inpca.errors import DamagedStoreError, InputError
from inpca.store import layout
from inpca.store.files import Damage, damaged, read_chunk
from inpca.store.layout import Array, CorruptChunk, Document

METADATA = "zarr.json"
_RESTORE = "restore it from a copy, or delete the store's folder (*.zarr) and make it again"


class Member:
    """One array to be written as a single chunk.

    Parameters
    ----------
    dims : names of the dimensions
    values : numbers or text, without a missing value among the text
    attributes : of the array itself; ``units`` and ``long_name`` by convention
    """

    def __init__(
        self, dims: Sequence[str], values: ArrayLike, attributes: Mapping[str, Any] | None = None
    ) -> None:
        array = np.asarray(values)
        self.values: Array = array.astype(np.dtypes.StringDType()) if _is_text(array) else array
        self.dims = tuple(dims)
        self.attributes = dict(attributes or {})
        if self.values.dtype.kind not in "fiubT":
            raise InputError(f"An array must hold numbers or text, not {array.dtype}.")
        if len(self.dims) != self.values.ndim:
            raise InputError(f"Dimensions {self.dims} do not fit the shape {array.shape}.")

    def document(self) -> Document:
        shape = self.values.shape
        chunks = [max(1, n) for n in shape]
        return layout.array_document(
            shape, self.values.dtype, self.dims, chunks, attributes=self.attributes
        )


def _is_text(array: Array) -> bool:
    return array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and all(isinstance(value, str) for value in array.ravel())
    )


def write_group(
    path: Path,
    members: Mapping[str, Member],
    attributes: Mapping[str, Any],
    *,
    documents: Mapping[str, Document] | None = None,
) -> None:
    """Make the folder `path` a group of `members` (name, or ``group/name``), fsynced.

    Not atomic by itself: prepare it beside and rename, or let the root `zarr.json`, written last,
    be the commit. `documents` are arrays (path → `zarr.json`) whose chunks come later.
    """
    described = {name: member.document() for name, member in members.items()} | dict(
        documents or {}
    )
    files = metadata_files(path, described, attributes)
    root = files.pop(path / METADATA)
    for name, member in members.items():
        if member.values.size:  # an empty array has no chunk
            files[path / name / _only_key(member.values.ndim)] = layout.encode(member.values)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    durable.write_files(files)
    path.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(path / METADATA, root)


def _only_key(ndim: int) -> str:
    """The key of an array's one chunk; a scalar's is ``c``."""
    return ".".join(["c", *["0"] * ndim])


def metadata_files(
    path: Path, arrays: Mapping[str, Document], attributes: Mapping[str, Any]
) -> dict[Path, bytes]:
    """Every `zarr.json` of the group at `path`: its own, its sub-groups' and its arrays'."""
    documents = {**group_tree(arrays, attributes), **arrays}
    return {
        path / name / METADATA: layout.to_json(document, "attrs")
        for name, document in documents.items()
    }


def group_tree(
    arrays: Mapping[str, Document], attributes: Mapping[str, Any]
) -> dict[str, Document]:
    """Documents of the root (key ``""``) and of every sub-group, each with its own consolidated
    metadata, so that each opens by itself."""
    names = sorted({name.rpartition("/")[0] for name in arrays if "/" in name})
    groups = {
        group: layout.group_document(
            {},
            {
                name.removeprefix(f"{group}/"): document
                for name, document in arrays.items()
                if name.startswith(f"{group}/")
            },
        )
        for group in names
    }
    inside = {name: layout.group_document({}) for name in names}
    # zarr 3.1.6 loses members of a group that do not stand together in the flat list.
    ordered = dict(sorted(arrays.items(), key=lambda item: item[0].rpartition("/")[0]))
    return {"": layout.group_document(attributes, {**inside, **ordered}), **groups}


def repeat_metadata(path: Path) -> None:
    """Write again every `zarr.json` below the group at `path` that differs from the root's."""
    attributes, documents = read_root(path)
    arrays = {name: one for name, one in documents.items() if one["node_type"] == "array"}
    files = metadata_files(path, arrays, attributes)
    del files[path / METADATA]
    durable.write_files(
        {
            file: content
            for file, content in files.items()
            if not file.exists() or file.read_bytes() != content
        }
    )


def read_root(path: Path) -> tuple[dict[str, Any], dict[str, Document]]:
    """Attributes and consolidated documents of the group at `path`.

    Raises
    ------
    FileNotFoundError
        If there is no `zarr.json`.
    DamagedStoreError
        If it is no group of ours.
    """
    return parse_root((path / METADATA).read_bytes(), path)


def parse_root(
    content: bytes, path: Path, cure: str = _RESTORE
) -> tuple[dict[str, Any], dict[str, Document]]:
    """As `read_root`, for the content of a `zarr.json` that has been read already; `cure` is said
    where it is damaged."""
    try:
        root = json.loads(content)
        return dict(root["attributes"]), dict(root["consolidated_metadata"]["metadata"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedStoreError(
            f"{path / METADATA} is no group's metadata as inpca writes it ({error}); {cure}."
        ) from error


def read_group(path: Path, prefix: str = "") -> tuple[dict[str, Any], dict[str, Member]]:
    """Attributes, and every single-chunk array of the group, of a sub-group with `prefix`.

    Raises
    ------
    DamagedStoreError
        If an array's file is missing, truncated, or does not match its checksum.
    """
    attributes, documents = read_root(path)
    members = {}
    for name, document in documents.items():
        if document["node_type"] == "array" and _is_in(name, prefix):
            members[name.removeprefix(prefix)] = read_member(path / name, document)
    return attributes, members


def _is_in(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and "/" not in name.removeprefix(prefix)


def read_member(path: Path, document: Document) -> Member:
    """The array at `path`, stored as one chunk, that `document` describes."""
    try:
        values = _read_values(path, document)
    except CorruptChunk as error:
        raise damaged(path / _only_key(len(document["shape"])), error, _RESTORE) from None
    return Member(document["dimension_names"], values, document["attributes"])


def _read_values(path: Path, document: Document) -> Array:
    shape = tuple(document["shape"])
    text = document["data_type"] == "string"
    dtype: np.dtype[Any] = np.dtypes.StringDType() if text else np.dtype(document["data_type"])
    if 0 in shape:
        return np.empty(shape, dtype)
    return read_chunk(path / _only_key(len(shape)), dtype, shape)


def check_members(path: Path, skip: Sequence[str] = ()) -> list[Damage]:
    """What is damaged among the single-chunk arrays of the group at `path`."""
    found = []
    for name, document in read_root(path)[1].items():
        if document["node_type"] != "array" or name in skip:
            continue
        try:
            _read_values(path / name, document)
        except CorruptChunk as error:
            key = f"{name}/{_only_key(len(document['shape']))}"
            found.append(Damage(key, f"{error}; {_RESTORE}"))
    return found
