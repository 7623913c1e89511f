"""Who may write a store: one engine alone, or several that share it by parts.

Two kinds of lock files lie beside the store, so that they outlive an overwrite:

- ``<name>.lock``, the *door*: held for moments only, by who makes, replaces, finishes or deletes
  the store (a matrix, trajectories, an embedding), or looks who else is at work;
- ``<name>.part-3-of-16.lock``: held by the engine that writes part 3 of 16 for as long as it
  works; an engine that writes the whole holds part 1 of 1.

The passes of an embedding, which are nobody's to share, are held by one lock, in ``.locks``.

The operating system releases the locks of a dead process, so a file alone means nothing.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from inpca import durable
from inpca.errors import ResourceError
from inpca.store.files import after_commit, file_lock, remove, take

Part = tuple[int, int]
WHOLE: Part = (1, 1)

_DOOR_SECONDS = 30.0
_ANOTHER = "another `out` (--name, or for an embedding --save-as)"
_log = logging.getLogger("inpca")
_NUMBERS = re.compile(r"\.part-(\d+)-of-(\d+)\.lock")


@contextmanager
def door(path: Path) -> Iterator[None]:
    """Be the only one that makes, replaces or finishes the store at `path`: for moments.

    Raises
    ------
    ResourceError
        If another process keeps it shut for half a minute.
    """
    lock = file_lock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=_DOOR_SECONDS)
    except Timeout:
        raise ResourceError(
            f"{path} is being made or replaced by another process since {_DOOR_SECONDS:.0f} s; "
            f"wait for it, or give {_ANOTHER}."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claimed(path: Path, part: Part = WHOLE) -> Iterator[None]:
    """Hold part i of k of the store at `path` for writing; enter it while the door is held.

    Raises
    ------
    ResourceError
        If another engine writes this part, or the store in other parts.
    """
    _refuse_conflicts(path, part)
    lock = _part_lock(path, part)
    if not take(lock):
        raise ResourceError(_taken(path, part))
    try:
        yield
    finally:
        # The file is removed only behind the door: elsewhere two could hold "the same" lock. What
        # was to be written is written by now: a lock file that stays means nothing.
        try:
            with after_commit(path), door(path):
                lock.release()
                Path(lock.lock_file).unlink(missing_ok=True)
        except ResourceError as error:
            _log.warning("%s; the file %s stays", error, lock.lock_file)
        finally:
            lock.release()


@contextmanager
def alone(path: Path, lock_file: Path) -> Iterator[None]:
    """Be the only one that writes `path`, which is nobody's to share.

    One lock does: there is nothing to finish or replace, and so no door. Its file stays: where
    locks are removed two could hold "the same" one.

    Raises
    ------
    ResourceError
        If another process writes it.
    """
    lock = file_lock(lock_file)
    if not take(lock):
        raise ResourceError(_taken(path, WHOLE))
    try:
        yield
    finally:
        lock.release()


def others_at_work(path: Path, part: Part = WHOLE) -> list[Part]:
    """Parts that other engines are writing now; ask while the door is held.

    Lock files of the dead are removed.
    """
    found = []
    for other in _parts_beside(path):
        if other == part:
            continue
        lock = _part_lock(path, other)
        if take(lock):
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()
        else:
            found.append(other)
    return found


def sweep_beside(path: Path) -> None:
    """Remove what killed processes left beside the store at `path`; only behind its door."""
    for leftover in list(path.parent.iterdir()):
        if durable.is_partial(leftover.name, of=path.name):
            remove(leftover)


def _refuse_conflicts(path: Path, part: Part) -> None:
    for other in others_at_work(path, part):
        if other[1] != part[1]:
            raise ResourceError(_taken(path, other))


def _taken(path: Path, part: Part) -> str:
    what = f"{path}" if part == WHOLE else f"Part {part[0]}/{part[1]} of {path}"
    cure = "" if part == WHOLE else f"ask for another of its {part[1]} parts, "
    return f"{what} is being written by another process; {cure}wait for it, or give {_ANOTHER}."


def _part_lock(path: Path, part: Part) -> FileLock:
    return file_lock(path.with_name(f"{path.name}.part-{part[0]}-of-{part[1]}.lock"))


def _parts_beside(path: Path) -> list[Part]:
    matches = (
        _NUMBERS.fullmatch(entry.name.removeprefix(path.name))
        for entry in path.parent.iterdir()
        if entry.name.startswith(path.name)
    )
    return sorted((int(match[1]), int(match[2])) for match in matches if match)
