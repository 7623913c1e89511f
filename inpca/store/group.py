"""A small Zarr group written once and whole: sample sets, saved embeddings, lists of models.

The root's attributes hold an *index*: the checksum of every chunk under its key. A chunk that is
whole but lies in another's place, or in another store, is found by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from inpca import durable
from inpca.errors import InputError
from inpca.store import documents as doc
from inpca.store import layout
from inpca.store.files import Damage, check_folder, damaged, read_bytes, read_chunk
from inpca.store.layout import Array, CorruptChunk, Document

METADATA = "zarr.json"
INDEX = "inpca_chunks"
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


@dataclass(frozen=True)
class Root:
    """What the root `zarr.json` of a store says, held to the schema.

    Attributes
    ----------
    path : the store's folder
    attributes : without seal and index
    documents : the `zarr.json` of every array and sub-group, by its path inside the store
    index : checksum of each chunk by its key, or None in a store of format 1
    content : the file, byte for byte: the store's state
    cure : what to do where it is damaged
    """

    path: Path
    attributes: dict[str, Any]
    documents: dict[str, Document]
    index: dict[str, int] | None
    content: bytes
    cure: str

    @property
    def arrays(self) -> dict[str, Document]:
        """The arrays among the documents."""
        return {name: one for name, one in self.documents.items() if one["node_type"] == "array"}

    def expected(self, key: str) -> int | None:
        """The checksum that the chunk `key` must have; None in a store of format 1."""
        if self.index is None:
            return None
        if key not in self.index:
            raise damaged(self.path / METADATA, f"has no checksum of {key}", self.cure)
        return self.index[key]


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
    chunks = {  # an empty array has no chunk
        f"{name}/{_only_key(member.values.ndim)}": layout.encode(member.values)
        for name, member in members.items()
        if member.values.size
    }
    index = {key: layout.checksum_of(chunk) for key, chunk in chunks.items()}
    files = metadata_files(path, described, attributes, index)
    root = files.pop(path / METADATA)
    files |= {path / key: chunk for key, chunk in chunks.items()}
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    durable.write_files(files)
    path.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(path / METADATA, root)


def _only_key(ndim: int) -> str:
    """The key of an array's one chunk; a scalar's is ``c``."""
    return ".".join(["c", *["0"] * ndim])


def metadata_files(
    path: Path,
    arrays: Mapping[str, Document],
    attributes: Mapping[str, Any],
    index: Mapping[str, int] | None,
) -> dict[Path, bytes]:
    """Every `zarr.json` of the group at `path`, sealed: its own, its sub-groups', its arrays'."""
    return {path / METADATA: root_bytes(arrays, attributes, index), **inner_files(path, arrays)}


def root_bytes(
    arrays: Mapping[str, Document], attributes: Mapping[str, Any], index: Mapping[str, int] | None
) -> bytes:
    """The root's `zarr.json`, sealed."""
    indexed = {} if index is None else {INDEX: dict(index)}
    return doc.sealed(group_tree(arrays, {**attributes, **indexed})[""])


def inner_files(path: Path, arrays: Mapping[str, Document]) -> dict[Path, bytes]:
    """The `zarr.json` below the root, which only repeat what the root's says."""
    inner = {**group_tree(arrays, {}), **arrays}
    return {path / name / METADATA: doc.sealed(one) for name, one in inner.items() if name}


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
    files = inner_files(path, read_root(path).arrays)
    durable.write_files(
        {file: content for file, content in files.items() if _content(file) != content}
    )


def _content(file: Path) -> bytes | None:
    try:
        return read_bytes(file)
    except CorruptChunk:
        return None


def read_root(path: Path, cure: str = _RESTORE) -> Root:
    """What the root of the group at `path` says.

    Raises
    ------
    FileNotFoundError
        If there is no `zarr.json`.
    DamagedStoreError
        If it is no group of ours, or not as it was written.
    """
    if not (path / METADATA).exists():
        raise FileNotFoundError(path / METADATA)
    try:
        content = read_bytes(path / METADATA, largest=doc.LARGEST)
        return parse_root(content, path, cure)
    except CorruptChunk as error:
        raise damaged(path / METADATA, error, cure) from None


def parse_root(content: bytes, path: Path, cure: str = _RESTORE) -> Root:
    """As `read_root`, for the content of a `zarr.json` that has been read already.

    Raises
    ------
    CorruptChunk
        If it is no group of ours, or not as it was written.
    """
    root = doc.parse(content)
    try:
        attributes = dict(root["attributes"])
        documents = dict(root["consolidated_metadata"]["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptChunk(f"is no group's metadata as inpca writes it ({error!r})") from None
    index = attributes.pop(INDEX, None)
    if doc.known_version(root):
        doc.check_arrays(documents)
        _check_index(index)
    return Root(path, attributes, documents, index, content, cure)


def _check_index(index: Any) -> None:
    if index is not None and not (
        isinstance(index, dict) and all(type(value) is int for value in index.values())
    ):
        raise CorruptChunk("has an index that is none")


def read_group(
    path: Path, prefix: str = "", root: Root | None = None
) -> tuple[dict[str, Any], dict[str, Member]]:
    """Attributes, and every single-chunk array of the group, of a sub-group with `prefix`.

    With `root`, which was read before, the arrays are those that it describes, or an error.

    Raises
    ------
    DamagedStoreError
        If an array's file is missing, truncated, does not match its checksum, or is another's.
    """
    root = root or read_root(path)
    names = [name for name in root.arrays if _is_in(name, prefix)]
    return root.attributes, {name.removeprefix(prefix): read_member(root, name) for name in names}


def _is_in(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and "/" not in name.removeprefix(prefix)


def read_member(root: Root, name: str) -> Member:
    """The array `name`, stored as one chunk."""
    document = root.documents[name]
    try:
        values = _read_values(root, name)
    except CorruptChunk as error:
        raise damaged(root.path / name / _key_of(document), error, root.cure) from None
    return Member(document["dimension_names"], values, document["attributes"])


def _key_of(document: Document) -> str:
    return _only_key(len(document["shape"]))


def _read_values(root: Root, name: str) -> Array:
    document = root.documents[name]
    shape = tuple(document["shape"])
    text = document["data_type"] == "string"
    dtype: np.dtype[Any] = np.dtypes.StringDType() if text else np.dtype(document["data_type"])
    if 0 in shape:
        return np.empty(shape, dtype)
    key = f"{name}/{_key_of(document)}"
    check_folder(root.path / name)
    return read_chunk(root.path / key, dtype, shape, root.expected(key))


def check_members(root: Root, skip: Sequence[str] = ()) -> list[Damage]:
    """What is damaged of a group: its single-chunk arrays but `skip`, and the inner metadata.

    Its root was written last, so that all the rest must be there.
    """
    missing = [file for file in inner_files(root.path, root.arrays) if not file.exists()]
    found = [
        Damage(file.relative_to(root.path).as_posix(), f"is missing; {root.cure}")
        for file in missing
    ]
    found += check_inner(root)
    for name, document in root.arrays.items():
        if name in skip:
            continue
        try:
            _read_values(root, name)
        except CorruptChunk as error:
            found.append(Damage(f"{name}/{_key_of(document)}", f"{error}; {root.cure}"))
    return found


def check_inner(root: Root) -> list[Damage]:
    """The `zarr.json` below the root that are torn, changed or another's.

    A killed writer may leave them as they were at a former commit, or leave them out: that is no
    damage, and whoever writes next repeats them.
    """
    found = []
    for file, expected in inner_files(root.path, root.arrays).items():
        try:
            if file.exists() or file.is_symlink():
                _check_copy(read_bytes(file, largest=doc.LARGEST), expected, root.index is None)
        except CorruptChunk as error:
            key = file.relative_to(root.path).as_posix()
            found.append(Damage(key, f"{error}; delete this file: it only repeats the root's"))
    return found


def _check_copy(content: bytes, expected: bytes, without_seal: bool) -> None:
    """Refuse a copy that was never written here: neither now nor at a former commit."""
    if content == expected:
        return
    copy, original = doc.parse(content), doc.parse(expected)
    may_be_former = without_seal or doc.is_sealed(content)
    try:
        known = copy == original or (may_be_former and _is_former(copy, original))
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise CorruptChunk("is not what the root's `zarr.json` says")


def _is_former(copy: Document, original: Document) -> bool:
    """Whether `copy` described the same arrays when there were fewer checkpoints."""
    if copy.get("node_type") == "group":
        arrays, now = _inner_arrays(copy), _inner_arrays(original)
        return arrays.keys() <= now.keys() and all(
            arrays[name] == now[name] or _is_former(arrays[name], now[name]) for name in arrays
        )
    length, now_length = copy.get("shape", [0])[:1], original.get("shape", [0])[:1]
    return length < now_length and {**copy, "shape": original.get("shape")} == original


def _inner_arrays(group: Document) -> dict[str, Document]:
    members: dict[str, Document] = group["consolidated_metadata"]["metadata"]
    return members
