"""Metadata documents: sealed by a checksum, and held to the schema before anything follows them.

A document is a JSON object: a group's or an array's `zarr.json`, or `ensemble.json`. Its *seal* is
the CRC-32C of its canonical form (keys sorted, no spaces, the seal left out), kept as an attribute,
which zarr and xarray ignore. So a flipped bit is found, and so is a file that lies in another's
place: what a document says of itself (kind, id, the checksums of its chunks) is under the seal.

Documents of format 1 have no seal; they are read, and sealed when they are written next.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np

from inpca.store import layout, schema
from inpca.store.layout import CorruptChunk, Document

SEAL = "inpca_checksum"
# Of a run with 100 columns: 80 kB. More than this is no metadata, and is not read.
LARGEST = 64 * 2**20
_TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "string"),
}
_PART = re.compile(schema.NAME_PATTERN)
_LARGEST_ARRAY = 2**62  # bytes


def sealed(document: Mapping[str, Any]) -> bytes:
    """The bytes of `document`, with its seal.

    Raises
    ------
    InputError
        If it holds what JSON cannot: objects, NaN, infinity.
    """
    plain = json.loads(layout.to_json(document))
    holder = _holder(plain)
    holder.pop(SEAL, None)
    holder[SEAL] = _checksum(plain)
    return layout.to_json(plain)


def parse(content: bytes) -> Document:
    """The document in `content`, its seal checked and taken out.

    Raises
    ------
    CorruptChunk
        If it is no JSON object, or not what was sealed, or lost its seal.
    """
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptChunk(f"is no JSON ({error})") from None
    if not isinstance(document, dict):
        raise CorruptChunk("is no JSON object")
    holder = _holder(document)
    seal = holder.pop(SEAL, None)
    if not known_version(document):
        return document  # the reader refuses it by its version
    version = _version(document)
    if seal is None and version is not None and version > 1:
        raise CorruptChunk("has lost its checksum")
    if seal is not None and seal != _checksum(document):
        raise CorruptChunk("does not match its checksum")
    return document


def known_version(document: Document) -> bool:
    """Whether this inpca knows the rules of the document."""
    version = _version(document)
    return version is None or version <= schema.FORMAT_VERSION


def is_sealed(content: bytes) -> bool:
    """Whether a document, of which `parse` said nothing, has a seal."""
    return SEAL in _holder(json.loads(content))


def _refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def _holder(document: Document) -> dict[str, Any]:
    """Where the seal is: among the attributes, which zarr leaves to us, if there are any."""
    attributes = document.get("attributes")
    return attributes if isinstance(attributes, dict) else document


def _version(document: Document) -> int | None:
    header = _holder(document).get("inpca")
    version = header.get("format_version") if isinstance(header, dict) else None
    return version if type(version) is int else None


def _checksum(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return f"{google_crc32c.value(canonical):08x}"


# -- the schema -----------------------------------------------------------------------------------


def check_arrays(documents: Mapping[str, Any]) -> None:
    """Hold the consolidated documents of a group to what inpca writes.

    Names are plain names, so that none leads out of the store; every array's document is exactly
    the one that its shape, type, chunks and attributes give; dimensions of one name have one
    length.

    Raises
    ------
    CorruptChunk
        Naming the array.
    """
    sizes: dict[tuple[str, str], int] = {}
    for name, document in documents.items():
        _check_array_name(name)
        if not isinstance(document, dict) or document.get("node_type") not in ("array", "group"):
            raise CorruptChunk(f"has no document of {name!r}")
        if document["node_type"] == "array":
            _check_array(name, document)
            _check_lengths(name, document, sizes)


def is_name(name: Any) -> bool:
    """Whether `name` is a plain name, which leads to nowhere but the folder it is in."""
    return isinstance(name, str) and _PART.fullmatch(name) is not None


def _check_array_name(name: Any) -> None:
    parts = name.split("/") if isinstance(name, str) else []
    if not 1 <= len(parts) <= 2 or not all(map(is_name, parts)):
        raise CorruptChunk(f"names an array {str(name)[:200]!r}, which is no name of an array")


def _check_array(name: str, document: Document) -> None:
    try:
        if document != _as_written(document):
            raise CorruptChunk(f"describes {name!r}, which {layout.NOT_OURS}")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise CorruptChunk(f"describes {name!r}, which {layout.NOT_OURS} ({error!r})") from None


def _as_written(document: Document) -> Document:
    """The document that inpca writes for an array of this shape, type and cut."""
    shape, dims = document["shape"], document["dimension_names"]
    chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
    inner, kind = layout.inner_chunks(document), document["data_type"]
    if kind not in _TYPES or not all(isinstance(dim, str) for dim in dims):
        raise ValueError(f"type {kind!r}, dimensions {dims!r}")
    for lengths, least in ((shape, 0), (chunks, 1), (inner or [], 1)):
        if not all(type(n) is int and n >= least for n in lengths):
            raise ValueError(f"lengths {lengths}")
    if not len(shape) == len(dims) == len(chunks) == len(inner or chunks):
        raise ValueError("numbers of dimensions differ")
    dtype: np.dtype[Any] = np.dtypes.StringDType() if kind == "string" else np.dtype(kind)
    if max(math.prod(shape), math.prod(chunks)) * dtype.itemsize > _LARGEST_ARRAY:
        raise ValueError(f"shape {shape}")
    attributes = document["attributes"]
    return layout.array_document(shape, dtype, dims, chunks, inner=inner, attributes=attributes)


# Of one length in the whole store; other dimensions have one length in each group.
_COMMON = ("checkpoint", "model")


def _check_lengths(name: str, document: Document, sizes: dict[tuple[str, str], int]) -> None:
    group = name.rpartition("/")[0]
    for dim, length in zip(document["dimension_names"], document["shape"]):
        owner = "" if dim in _COMMON else group
        if sizes.setdefault((owner, dim), length) != length:
            raise CorruptChunk(
                f"says that {name!r} has {length:,} along {dim!r}, where others have "
                f"{sizes[owner, dim]:,}"
            )
