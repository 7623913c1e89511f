"""A saved embedding: written whole or not at all, opened by itself.

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
from inpca.store import schema
from inpca.store.files import Damage, no_store, publish_folder, remove
from inpca.store.group import (
    METADATA,
    Member,
    Root,
    check_members,
    read_group,
    read_root,
    write_group,
)
from inpca.store.table import table_from_members, table_members

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
    if path.exists():
        _check_replaceable(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = durable.partial_path(path)
    write_group(partial, members, {**attrs, "inpca": schema.header("embedding")})
    if path.exists():
        (path / METADATA).unlink()
        remove(path)
    publish_folder(partial, path)


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
    if not overwrite:
        raise InputError(f"`path` {path} exists already; choose another, or pass overwrite=True.")
    read_embedding_attrs(path)


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


def check_embedding(path: str | os.PathLike[str]) -> list[Damage]:
    """Every file of the embedding that is not as it was written, by key, with the cure."""
    return check_members(_read_root(Path(path)))
