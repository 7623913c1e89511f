"""Trajectory distances on disk: a folder with the list of runs and one matrix for each progress.

    <name>.zarr/
      s                  (progress,) the values of progress
      backwards, outside (run,) see `inpca.trajectory_distances`
      runs/…             the configuration of each run
      0000.zarr …        a `TiledMatrix` of all runs at each progress

The root is written first and whole; the matrices resume by themselves. One engine at a time works
on all of it: it holds the whole folder (`inpca.store.claim.claimed`) as long as it computes.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca import durable
from inpca.errors import DamagedStoreError, InputError
from inpca.store import schema
from inpca.store.claim import claimed, door
from inpca.store.files import Damage, after_commit, damaged, no_store, remove, removed_on_failure
from inpca.store.group import (
    METADATA,
    Member,
    check_members,
    read_group,
    read_root,
    root_bytes,
    write_group,
)
from inpca.store.matrix import TiledMatrix, check_matrix
from inpca.store.matrix_layout import tile_key
from inpca.store.replacement import is_there, put_in_place, tidy, whole
from inpca.store.table import table_from_members, table_members

KIND = "trajectories"
FINISHED = "finished"  # among the attributes, of a matrix as well
_AGAIN = "compute it again (trajectory_distances(…, out=path), or `inpca trajectories ENSEMBLE`)"
_MAKE = "compute them first (trajectory_distances(…, out=…), or `inpca trajectories ENSEMBLE`)"


@dataclass(frozen=True)
class StoredTrajectories:
    """Trajectory distances at `path`, finished or not.

    Attributes
    ----------
    path : the folder
    runs : one row per run
    s : (S,) values of progress
    backwards, outside : (R,) as counted when they were made
    attrs : fingerprint, metric, sample set
    """

    path: Path
    runs: pd.DataFrame
    s: NDArray[np.float64]
    backwards: NDArray[np.int64]
    outside: NDArray[np.int64]
    attrs: Mapping[str, Any]

    def matrix_path(self, number: int) -> Path:
        """Where the distances at ``s[number]`` are, or will be."""
        return self.path / f"{number:04}.zarr"

    def matrix(self, number: int) -> TiledMatrix:
        """The distances at ``s[number]``; all tiles are there.

        Raises
        ------
        InputError
            If they are not finished.
        DamagedStoreError
            If they were, and some are gone.
        """
        path = self.matrix_path(number)
        matrix = TiledMatrix.open(path) if path.exists() else None
        if matrix is None and self.attrs.get(FINISHED):
            raise damaged(path, "is missing, though it was finished", _AGAIN)
        if matrix is not None and not matrix.complete and matrix.attrs.get(FINISHED):
            lost = path / "distance" / tile_key(matrix.missing()[0])
            raise damaged(lost, "is missing or truncated, though it was finished", _AGAIN)
        if matrix is None or not matrix.complete:
            raise InputError(
                f"{self.path} is not finished: the distances at s = {self.s[number]:.6g} are "
                "missing; go on with trajectory_distances(…, out=path), or `inpca trajectories`."
            )
        return matrix


def trajectories_path(ensemble: str | os.PathLike[str], name: str) -> Path:
    """Where the trajectory distances `name` of the ensemble at `ensemble` belong."""
    return Path(ensemble) / "trajectories" / f"{schema.check_run_id(name, '`name`')}.zarr"


def create_trajectories(
    path: str | os.PathLike[str],
    runs: pd.DataFrame,
    s: NDArray[np.float64],
    counts: Mapping[str, NDArray[np.int64]],
    attrs: Mapping[str, Any],
) -> StoredTrajectories:
    """Make the folder at `path`, with no distances yet; whole, or not at all.

    Behind its door, alone. What is there is replaced: that is for the caller to allow.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {"s": Member(("progress",), s, {"units": "1", "long_name": "progress"})}
    members |= {name: Member(("run",), count) for name, count in counts.items()}
    members |= {f"runs/{name}": member for name, member in table_members(runs).items()}
    partial = durable.partial_path(path)
    with removed_on_failure(partial):
        write_group(partial, members, {**attrs, "inpca": schema.header(KIND)})
        put_in_place(partial, path)
    return open_trajectories(path)


@whole(KIND)
def open_trajectories(path: str | os.PathLike[str]) -> StoredTrajectories:
    """Open what `create_trajectories` has made.

    Raises
    ------
    InputError
        If `path` holds something else, or was made by a newer version.
    DamagedStoreError
        If a file is missing, truncated, or does not match its checksum.
    """
    path = Path(path)
    try:
        root = read_root(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_store(path, "trajectory distances", _MAKE) from None
    attributes = root.attributes
    schema.check_header(attributes, KIND, path)
    _, members = read_group(path, "", root)
    _, table = read_group(path, "runs/", root)
    runs = table_from_members(table)
    runs.index.name = "run"
    return StoredTrajectories(
        path,
        runs,
        members["s"].values.copy(),
        members["backwards"].values.copy(),
        members["outside"].values.copy(),
        {name: value for name, value in attributes.items() if name != "inpca"},
    )


@whole(KIND)
def check_trajectories(path: str | os.PathLike[str]) -> list[Damage]:
    """Every file that is not as it was written, by key, with the cure.

    Tiles that are still to be computed are no damage.
    """
    store = open_trajectories(path)
    found = check_members(read_root(store.path))
    for number in range(len(store.s)):
        place = store.matrix_path(number)
        if place.exists():
            damages = check_matrix(place)
            found += [Damage(f"{place.name}/{one.key}", one.reason) for one in damages]
        elif store.attrs.get(FINISHED):
            found.append(Damage(place.name, f"is missing, though it was finished; {_AGAIN}"))
    return found


def finish_trajectories(path: str | os.PathLike[str]) -> None:
    """Note that the distances at every progress are there: what is absent from now on is damage.

    Only for who holds the folder for writing.
    """
    root = read_root(Path(path))
    if not root.attributes.get(FINISHED):
        attributes = {**root.attributes, FINISHED: True}
        content = root_bytes(root.arrays, attributes, root.index)
        durable.write_bytes(root.path / METADATA, content)


def delete_trajectories(path: str | os.PathLike[str]) -> None:
    """Delete trajectory distances, never anything else: all of them, or none.

    Raises
    ------
    InputError
        If `path` holds something else.
    ResourceError
        If another process is writing them.
    """
    path = Path(path)
    if os.path.lexists(path) or not _is_begun(path):
        _check_deletable(path)  # before a lock is laid beside it
    with ExitStack() as held, door(path):
        held.enter_context(claimed(path))
        tidy(path, KIND)
        _check_deletable(path)
        old = durable.partial_path(path)
        os.rename(path, old)  # at once: half of it is none, and would be in the way
        with after_commit(path):
            durable.sync_folder(path.parent)
            remove(old)


def _check_deletable(path: Path) -> None:
    """Refuse a path with something else, or nothing."""
    with suppress(DamagedStoreError):  # damaged ones are ours as well
        open_trajectories(path)


def _is_begun(path: Path) -> bool:
    """Whether there is something of a replacement or deletion that was cut off, to be finished."""
    if not path.parent.is_dir():
        return False
    names = [entry.name for entry in path.parent.iterdir()]
    return is_there(path, KIND) or any(durable.is_partial(name, of=path.name) for name in names)
