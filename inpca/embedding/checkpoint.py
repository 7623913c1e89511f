"""The passes of a solve on disk: one file each, so that a killed solve goes on."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca import durable
from inpca.checks import usable_path
from inpca.errors import DamagedStoreError, InputError
from inpca.opening import open_npz

Step = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_NAMES = ("column", "following", "coupling")


class KrylovCheckpoint:
    """A folder of ``pass-0001.npz`` …, each whole or absent, each carrying what it belongs to.

    Parameters
    ----------
    folder : made if it does not exist; None keeps nothing
    identity : the operator's fingerprint and the solver's parameters; files of another identity
        are refused, since going on from them would give another answer silently
    """

    def __init__(self, folder: Path | None, identity: dict[str, Any]) -> None:
        self._folder = folder
        self._identity = json.dumps(identity, sort_keys=True)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def at(cls, folder: str | Path | None, identity: dict[str, Any]) -> "KrylovCheckpoint":
        return cls(None if folder is None else usable_path(folder, "checkpoint"), identity)

    def steps(self) -> Iterator[Step]:
        """The passes that are there, from the first on, without a gap."""
        number = 1
        while self._folder is not None and (path := self._path(number)).exists():
            yield self._read(path)
            number += 1

    def write(self, number: int, step: Step) -> None:
        """Keep pass `number`; durable when this returns."""
        if self._folder is None:
            return
        buffer = io.BytesIO()
        column, following, coupling = step
        identity = np.array(self._identity)
        np.savez(buffer, identity=identity, column=column, following=following, coupling=coupling)
        durable.write_bytes(self._path(number), buffer.getvalue())

    def clear(self) -> None:
        """Remove the passes and, if it is then empty, the folder."""
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("pass-*.npz*")):
            path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"pass-{number:04d}.npz"

    def _read(self, path: Path) -> Step:
        try:
            with open_npz(path) as file:
                identity = str(file["identity"])
                column, following, coupling = (file[name] for name in _NAMES)
        except (InputError, KeyError) as error:
            raise DamagedStoreError(
                f"Checkpoint {path} cannot be read ({error}); delete its folder to start again."
            ) from error
        if identity != self._identity:
            raise InputError(
                f"`checkpoint` {path.parent} belongs to another solve ({identity}, now "
                f"{self._identity}); name another folder, or delete it to start again."
            )
        return column, following, coupling
