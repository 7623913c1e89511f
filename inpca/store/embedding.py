"""A saved embedding: written whole or not at all, replaced as a whole, opened by itself.

One process at a time saves to a path, behind its door (`inpca.store.claim.door`).

The arrays that `inpca.store.schema.EMBEDDING` declares need only their values; any other array is
given with its dimensions, as ``(dims, values)``.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca import durable
from inpca.errors import InputError
from inpca.store import layout, schema
from inpca.store.claim import door
from inpca.store.files import Damage, no_store, removed_on_failure
from inpca.store.group import (
    METADATA,
    Member,
    Root,
    check_members,
    read_group,
    read_root,
    write_group,
)
from inpca.store.replacement import put_in_place, tidy, whole
from inpca.store.table import table_from_members, table_members

_KIND = "embedding"
_MAKE = "make it first (InPCA().fit(…).save(…), or `inpca embed ENSEMBLE`)"
Named = NDArray[Any] | tuple[tuple[str, ...], ArrayLike]


def write_embedding(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Named],
    models: pd.DataFrame | None,
    attrs: Mapping[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Save an embedding; the path has all of it, or nothing new.

    Parameters
    ----------
    path : folder to make, by habit ``*.zarr``
    arrays : name → array, or (dims, array) for names that the schema does not declare
    models : models table, one row per embedded model
    attrs : anything JSON can hold
    overwrite : replace an embedding that is there

    Raises
    ------
    InputError
        If the path exists (without `overwrite`) or is something else; for arrays of the wrong
        number of dimensions, or sizes that do not agree.
    ResourceError
        If another process is saving there, for half a minute.
    """
    path = Path(path)
    members = {name: _member(name, values) for name, values in arrays.items()}
    n_models = _check_sizes(members)
    if models is not None:
        if n_models is not None and len(models) != n_models:
            raise InputError(f"`models` must have {n_models:,} rows, not {len(models):,}.")
        table = table_members(models)
        members |= {f"models/{name}": member for name, member in table.items()}
        members["model"] = table["model"]
    attributes = {**attrs, "inpca": schema.header(_KIND)}
    layout.to_json(attributes)
    _check_replaceable(path, overwrite)  # before a lock is laid beside it
    with door(path):
        tidy(path, _KIND)
        _check_replaceable(path, overwrite)
        partial = durable.partial_path(path)
        with removed_on_failure(partial):
            write_group(partial, members, attributes)
            put_in_place(partial, path)


def _member(name: str, values: Named) -> Member:
    if isinstance(values, tuple):
        dims, array = values
        return Member(dims, array)
    if name not in schema.EMBEDDING:
        raise InputError(
            f"`arrays[{name!r}]` is not declared ({', '.join(schema.EMBEDDING)}); give it as "
            "(dims, array)."
        )
    column = schema.EMBEDDING[name]
    return Member(column.dims, np.asarray(values, column.dtype), column.attributes)


def _check_sizes(members: Mapping[str, Member]) -> int | None:
    """Refuse dimensions of two sizes; return the number of models."""
    sizes: dict[str, int] = {}
    for name, member in members.items():
        for dim, size in zip(member.dims, member.values.shape):
            if sizes.setdefault(dim, size) != size:
                raise InputError(
                    f"`arrays[{name!r}]` must have {sizes[dim]} along {dim!r}, not {size}."
                )
    return sizes.get("model")


def _check_replaceable(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InputError(f"`path` {path} exists already; choose another, or pass overwrite=True.")
    if not os.path.lexists(path / METADATA):
        raise InputError(
            f"`path` {path} exists and is no embedding (it has no {METADATA}); choose another, or "
            "delete it."
        )
    read_embedding_attrs(path)


@whole(_KIND, ahead=True)
def read_embedding(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[Any]], pd.DataFrame | None, dict[str, Any]]:
    """Arrays, models table (or None) and attributes of a saved embedding.

    Raises
    ------
    InputError
        If `path` is no embedding, or was made by a newer version.
    DamagedStoreError
        If a file of it is missing, truncated, or does not match its checksum.
    """
    root = _read_root(Path(path))
    members = read_group(root.path, "", root)[1]
    table = read_group(root.path, "models/", root)[1]
    arrays = {name: member.values.copy() for name, member in members.items() if name != "model"}
    return arrays, table_from_members(table) if table else None, _attributes(root)


@whole(_KIND, ahead=True)
def read_embedding_attrs(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The attributes of a saved embedding; errors as `read_embedding`."""
    return _attributes(_read_root(Path(path)))


def _read_root(path: Path) -> Root:
    try:
        root = read_root(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_store(path, "an embedding", _MAKE) from None
    schema.check_header(root.attributes, "embedding", path)
    return root


def _attributes(root: Root) -> dict[str, Any]:
    return {name: value for name, value in root.attributes.items() if name != "inpca"}


@whole(_KIND, ahead=True)
def check_embedding(path: str | os.PathLike[str]) -> list[Damage]:
    """Every file of the embedding that is not as it was written, by key, with the cure."""
    return check_members(_read_root(Path(path)))
