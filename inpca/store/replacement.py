"""A folder replaced by another as a whole, so that a crash leaves the one or the other.

The new folder is prepared beside the old one, ``<name>.<pid>.partial``; files that are the same in
both are hard links. Renaming it to ``<name>.next`` commits the replacement; after a crash beyond
that point `finish_replacement` goes on: the old folder is moved away, the new one takes its name.
"""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from inpca import durable
from inpca.store.claim import sweep_beside
from inpca.store.files import remove, sweep

_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def next_of(path: Path) -> Path:
    """The folder that is about to replace the store at `path`."""
    return path.with_name(f"{path.name}.next")


def keep_files(old: Path, new: Path, names: Iterable[str]) -> None:
    """Make the files `names` of folder `old` appear in folder `new`, durably, without their bytes.

    Where the file system has no hard links they are copied.
    """
    new.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in names:
        try:
            os.link(old / name, new / name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(old / name, new / name)
            copied.append(new / name)
    durable.sync_all(copied)
    durable.sync_folder(new)


def replace_folder(prepared: Path, path: Path) -> None:
    """Put the finished folder `prepared` in the place of the one at `path`; behind its door."""
    durable.sync_folder(prepared)
    os.rename(prepared, next_of(path))
    durable.sync_folder(path.parent)
    finish_replacement(path)


def finish_replacement(path: Path) -> None:
    """Go on with a committed replacement of `path`, if there is one; behind its door."""
    if not next_of(path).exists():
        return
    old = durable.partial_path(path)
    if path.exists():
        os.rename(path, old)
    os.rename(next_of(path), path)
    durable.sync_folder(path.parent)
    remove(old)


def tidy(path: Path) -> None:
    """Finish what a killed process began at `path`, remove what it left; behind its door, alone."""
    finish_replacement(path)
    sweep_beside(path)
    sweep(path)
