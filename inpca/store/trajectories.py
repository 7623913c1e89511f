"""Trajectory distances on disk: a folder with the list of runs and one matrix for each progress.

    <name>.zarr/
      s                  (progress,) the values of progress
      backwards, outside (run,) see `inpca.trajectory_distances`
      runs/…             the configuration of each run
      0000.zarr …        a `TiledMatrix` of all runs at each progress

The root is written first and whole; the matrices resume by themselves.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca import durable
from inpca.errors import InputError
from inpca.store import schema
from inpca.store.files import (
    Damage,
    no_store,
    publish_folder,
    remove,
    removed_on_failure,
)
from inpca.store.group import Member, check_members, read_group, read_root, write_group
from inpca.store.matrix import TiledMatrix, check_matrix
from inpca.store.table import table_from_members, table_members

_KIND = "trajectories"
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
        """
        path = self.matrix_path(number)
        if not path.exists() or not TiledMatrix.open(path).complete:
            raise InputError(
                f"{self.path} is not finished: the distances at s = {self.s[number]:.6g} are "
                "missing; go on with trajectory_distances(…, out=path), or `inpca trajectories`."
            )
        return TiledMatrix.open(path)


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
    """Make the folder at `path`, with no distances yet; whole, or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {"s": Member(("progress",), s, {"units": "1", "long_name": "progress"})}
    members |= {name: Member(("run",), count) for name, count in counts.items()}
    members |= {f"runs/{name}": member for name, member in table_members(runs).items()}
    partial = durable.partial_path(path)
    with removed_on_failure(partial):
        write_group(partial, members, {**attrs, "inpca": schema.header(_KIND)})
    publish_folder(partial, path)
    return open_trajectories(path)


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
    schema.check_header(attributes, _KIND, path)
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


def check_trajectories(path: str | os.PathLike[str]) -> list[Damage]:
    """Every file that is not as it was written, by key, with the cure.

    Tiles that are still to be computed are no damage.
    """
    store = open_trajectories(path)
    found = check_members(read_root(store.path))
    for number in range(len(store.s)):
        place = store.matrix_path(number)
        if place.exists():
            found += [
                Damage(f"{place.name}/{damage.key}", damage.reason)
                for damage in check_matrix(place)
            ]
    return found


def delete_trajectories(path: str | os.PathLike[str]) -> None:
    """Delete trajectory distances, never anything else."""
    path = Path(path)
    open_trajectories(path)
    old = durable.partial_path(path)
    os.rename(path, old)  # at once: half of it is none, and would be in the way
    remove(old)
