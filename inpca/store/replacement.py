"""A folder replaced by another as a whole, so that a crash leaves the one or the other.

The new folder is prepared beside the old one, ``<name>.<digits>.partial``; files that are the same
in both are hard links. Renaming it to ``<name>.<digits>.next`` commits the replacement; after a
crash beyond that point `finish_replacement` goes on: the old folder is moved away, the new one
takes its name. All of that is done behind the door of the path (`inpca.store.claim.door`).

Readers hold no lock and change nothing. `read_whole` reads again what was replaced meanwhile, so
that nobody gets parts of two stores, or finds none in the moment between the two renames.
"""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from inpca import durable
from inpca.checks import usable_path
from inpca.errors import DamagedStoreError, InpcaError, InputError
from inpca.store.claim import sweep_beside
from inpca.store.files import after_commit, publish_folder, remove, sweep
from inpca.store.group import METADATA, read_root

_NO_LINKS = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NEXT = re.compile(r"(?P<name>.+)\.\d+\.next", re.DOTALL)
# Former versions replaced matrices alone, by way of a folder ``<name>.next``.
_FORMERLY = "matrix"
_TRIES, _PAUSE = 25, 0.02  # seconds between two; the renames of a live writer take far less

PathLike = str | os.PathLike[str]
Result = TypeVar("Result")
Rest = ParamSpec("Rest")


# -- replacing ------------------------------------------------------------------------------------


def pending(path: Path, kind: str) -> Path | None:
    """The folder that is to replace the store at `path` by a committed replacement, if any.

    Parameters
    ----------
    kind : of the store

    Raises
    ------
    DamagedStoreError
        If there are several, which no writer leaves.
    """
    found = [entry for entry in _beside(path) if is_next(entry.name, path.name)]
    found = [entry for entry in found if entry.is_dir() and not entry.is_symlink()]
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise DamagedStoreError(
            f"{path} has several committed replacements ({names}); keep the one you want, move the "
            "others away."
        )
    return found[0] if found else _formerly_pending(path, kind)


def _formerly_pending(path: Path, kind: str) -> Path | None:
    """The folder ``<name>.next`` that a former version left when it was killed between its renames.

    A user may call a matrix so. Then the old store is not beside it, moved away as it was.
    """
    former = path.with_name(f"{path.name}.next")
    if kind != _FORMERLY or os.path.lexists(path) or _kind(former) != kind:
        return None
    old = (entry for entry in _beside(path) if durable.is_partial(entry.name, of=path.name))
    return former if any(_kind(entry) == kind for entry in old) else None


def is_next(name: str, of: str) -> bool:
    """Whether a folder `name` is a committed replacement of the store named `of`."""
    match = _NEXT.fullmatch(name)
    return match is not None and match["name"] == of


def is_there(path: Path, kind: str) -> bool:
    """Whether there is something at `path`, or about to be by a committed replacement."""
    return os.path.lexists(path) or pending(path, kind) is not None


def half_replaced(folder: Path, kind: str) -> list[Path]:
    """Stores ``*.zarr`` in `folder` whose replacement was cut off between its two renames."""
    names = {
        match["name"] for entry in _beside(folder / "_") if (match := _NEXT.fullmatch(entry.name))
    }
    names |= {entry.name.removesuffix(".next") for entry in folder.glob("*.zarr.next")}
    paths = [folder / name for name in sorted(names) if name.endswith(".zarr")]
    return [one for one in paths if not os.path.lexists(one) and pending(one, kind) is not None]


def cut_off(path: Path) -> str:
    """What is said of a store whose replacement was cut off, and the cure."""
    return (
        f"{path} is being replaced; if the call that did so was killed, make it again: nothing is "
        "lost, and the next call that writes there finishes the replacement"
    )


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


def put_in_place(prepared: Path, path: Path) -> None:
    """Give the finished folder `prepared` the name `path`, free or not; behind its door."""
    if os.path.lexists(path):
        replace_folder(prepared, path)
    else:
        publish_folder(prepared, path)


def replace_folder(prepared: Path, path: Path) -> None:
    """Put the finished folder `prepared` in the place of the one at `path`; behind its door.

    Raises
    ------
    OSError
        If the system refuses; then `path` is as it was.
    """
    durable.sync_folder(prepared)
    successor = path.with_name(f"{path.name}.{secrets.randbits(63)}.next")
    old = durable.partial_path(path)
    os.rename(prepared, successor)
    try:
        durable.sync_folder(path.parent)
        os.rename(path, old)
        os.rename(successor, path)
    except Exception:
        _take_back(prepared, successor, old, path)
        raise
    with after_commit(path):
        durable.sync_folder(path.parent)
        remove(old)


def _take_back(prepared: Path, successor: Path, old: Path, path: Path) -> None:
    """Undo a replacement that failed; where that fails as well, the next writer finishes it."""
    with suppress(OSError):
        if os.path.lexists(old) and not os.path.lexists(path):
            os.rename(old, path)
        if os.path.lexists(successor):
            os.rename(successor, prepared)


def finish_replacement(path: Path, kind: str) -> None:
    """Go on with a committed replacement of `path`, if there is one; behind its door."""
    successor = pending(path, kind)
    if successor is None:
        return
    old = durable.partial_path(path)
    if os.path.lexists(path):
        os.rename(path, old)
    os.rename(successor, path)
    durable.sync_folder(path.parent)
    remove(old)


def tidy(path: Path, kind: str) -> None:
    """Finish what a killed process began at `path`, remove what it left; behind its door, alone."""
    finish_replacement(path, kind)
    sweep_beside(path)
    sweep(path)


# -- reading --------------------------------------------------------------------------------------


def read_whole(
    path: PathLike, read: Callable[[Path], Result], kind: str, *, ahead: bool = False
) -> Result:
    """What `read` gives of the store at `path`, read again if the store was replaced meanwhile.

    Parameters
    ----------
    read : called with the folder to read; must be safe to repeat
    kind : see `pending`
    ahead : where a replacement was cut off between its renames, read what is to take the name

    Raises
    ------
    InputError
        If a replacement was cut off between its renames, or the store is replaced all the time.
    """
    path = usable_path(path)
    place = path
    for _ in range(_TRIES):
        before = _stamp(place)
        try:
            result = read(place)
        except Exception:  # parts of two stores may fail in any way
            # In this order: who finishes in between has changed the stamp.
            successor = pending(path, kind) if before is None else None
            if _stamp(place) == before and successor is None and place == path:
                raise
            place = successor if ahead and successor is not None else path
        else:
            if _stamp(place) == before:
                return result
        time.sleep(_PAUSE)
    raise InputError(f"`path` {cut_off(path)}.")


def whole(
    kind: str, *, ahead: bool = False
) -> Callable[
    [Callable[Concatenate[PathLike, Rest], Result]], Callable[Concatenate[PathLike, Rest], Result]
]:
    """Let a function that reads a store of `kind`, its path first, do so by `read_whole`."""

    def decorate(
        read: Callable[Concatenate[PathLike, Rest], Result],
    ) -> Callable[Concatenate[PathLike, Rest], Result]:
        @wraps(read)
        def reading(path: PathLike, /, *args: Rest.args, **options: Rest.kwargs) -> Result:
            def once(place: Path) -> Result:
                return read(place, *args, **options)

            return read_whole(path, once, kind, ahead=ahead)

        return reading

    return decorate


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What tells the store at `path` from one that takes its place; None where there is none."""
    try:
        status = os.stat(path / METADATA)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _beside(path: Path) -> list[Path]:
    try:
        return sorted(path.parent.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _kind(path: Path) -> str | None:
    """The kind of store at `path`; None if it is none of ours."""
    try:
        entry = read_root(path).attributes.get("inpca")
    except (OSError, InpcaError):
        return None
    return entry.get("kind") if isinstance(entry, dict) else None
