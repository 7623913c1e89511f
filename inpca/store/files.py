"""Files of a store: read so that what is missing or damaged is named, locked, swept."""

import errno
import logging
import math
import os
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from inpca import durable
from inpca.errors import DamagedStoreError, InputError, ResourceError
from inpca.store.layout import CRC_BYTES, Array, CorruptChunk, decode

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_log = logging.getLogger("inpca")


@dataclass(frozen=True)
class Damage:
    """One thing on disk that is not as it was written.

    Attributes
    ----------
    key : path of the file, relative to the store that was checked
    reason : what is wrong with it, and the cure
    """

    key: str
    reason: str


def read_chunk(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], expected: int | None = None
) -> Array:
    """The chunk in the file `path`; CorruptChunk if it is absent or not what was written.

    `expected` is its checksum in the index of its owner, if there is one.
    """
    size = None if dtype.kind == "T" else math.prod(shape) * dtype.itemsize + CRC_BYTES
    return decode(read_bytes(path, size), dtype, shape, expected)


def read_bytes(path: Path, size: int | None = None, largest: int | None = None) -> bytes:
    """The file's content; CorruptChunk if there is none, or not a file of `size` bytes.

    Sizes are compared before a byte is read, or memory is taken.
    """
    with open_file(path) as file:
        found = os.fstat(file.fileno()).st_size
        if size is not None and found != size:
            raise CorruptChunk(f"has {found} bytes, not {size}")
        if largest is not None and found > largest:
            raise CorruptChunk(f"has {found} bytes, where at most {largest} can be")
        return file.read()


_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_file(path: Path) -> FileIO:
    """Open a file of a store, unbuffered; CorruptChunk if there is none.

    Only regular files are opened: a pipe would wait for ever, a link could lead out of the store.
    """
    try:
        file = open(path, "rb", buffering=0, opener=_open_to_read)  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise CorruptChunk("is missing") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CorruptChunk("is a symbolic link, which no store of inpca has") from None
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise CorruptChunk("is no regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise CorruptChunk("is no regular file")
    return file


def _open_to_read(path: str, _: int) -> int:
    return os.open(path, _READ)


def check_folder(path: Path) -> None:
    """Refuse a folder inside a store that is a symbolic link: it could lead out of the store.

    Raises
    ------
    CorruptChunk
    """
    if path.is_symlink():
        raise CorruptChunk("is a symbolic link, which no store of inpca has")


def damaged(path: Path, error: object, cure: str) -> DamagedStoreError:
    """The error to raise for a damaged file: what, how, and the cure."""
    return DamagedStoreError(f"{path} {error}; {cure}.")


def no_store(path: Path, what: str, cure: str) -> InputError:
    """The error for a path where `what` should be and is not: the cure, and those beside it."""
    beside = sorted(root.parent.stem for root in path.parent.glob("*.zarr/zarr.json"))
    there = f"{path.parent} holds {', '.join(beside) or 'none'}"
    return InputError(f"`path` must be {what} made by inpca; {path} is none; {cure}; {there}.")


def file_lock(path: Path) -> FileLock:
    """A lock that the operating system releases when its holder dies; not yet taken.

    Usable from any thread: the lock belongs to the object, not to the thread that took it.
    """
    for part in (path, path.parent):
        if part.is_symlink():  # opening it would empty the file that it points to
            raise damaged(part, "is a symbolic link, which no store of inpca has", "delete it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise damaged(path.parent, "is no folder for locks", "delete it") from None
    return FileLock(path, thread_local=False)


def take(lock: FileLock) -> bool:
    """Take `lock` if nobody else holds it."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def is_own(folder: Path) -> bool:
    """Whether the folder belongs to the user of this process: in others nothing is cached."""
    return folder.stat().st_uid == os.geteuid()


@contextmanager
def where_writable(without: Collection[int] = REFUSED) -> Iterator[None]:
    """Leave the block, undone, where this process may not write; any other error is raised.

    For upkeep and caches alone, which a reader does without. The system is not asked beforehand:
    for root, and on a network's disk, `os.access` may be wrong.

    Parameters
    ----------
    without : numbers of the errors after which the caller does without; those that are not
        `REFUSED` are logged, since what comes next may need it
    """
    try:
        yield
    except OSError as error:
        if error.errno not in without:
            raise
        if error.errno not in REFUSED:
            _log.warning("%s: %s; gone on without writing it", error.filename, error.strerror)


def partials(folder: Path) -> Iterator[Path]:
    """What killed writers left behind, at any depth: what `durable.partial_path` has named."""
    for place, folders, files in os.walk(folder):
        names = (*folders, *files)
        yield from (Path(place, name) for name in names if durable.is_partial(name))


def sweep(folder: Path) -> None:
    """Remove what killed writers left in `folder`; only for who holds the folder's lock."""
    for path in list(partials(folder)):
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder and all in it, if it is there; a link, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove the folder `path` if preparing it fails: on a full disk it would be in the way."""
    try:
        yield
    except Exception:
        with suppress(OSError):  # the error that came first is the one to raise; it is swept later
            remove(path)
        raise


@contextmanager
def after_commit(path: Path) -> Iterator[None]:
    """Log an error of the system, do not raise it: what `path` is to hold is committed already.

    An exception would make the caller believe that it is not, and repeat it. For what a later
    writer does again: metadata that repeat others, leftovers, an fsync of the folder.
    """
    try:
        yield
    except OSError as error:
        _log.warning(
            "%s: done and committed, but afterwards %s: %s; see that the disk is well; the next "
            "call that writes there puts it in order",
            path,
            error.filename or path,
            error.strerror or error,
        )


def commit_bytes(path: Path, content: bytes) -> None:
    """Replace the file `path` durably, where its rename is a commit: an error means "not done".

    Where the rename is done but the folder cannot be synced, the file is read again to decide: it
    is committed, and the log says that a loss of power may still undo it.

    Raises
    ------
    OSError
        If the file is as it was.
    ResourceError
        If the file cannot be read either, so that nobody can tell.
    """
    try:
        durable.write_bytes(path, content)
    except OSError as error:
        if not holds(path, content):
            raise
        with after_commit(path):
            raise error


def holds(path: Path, content: bytes) -> bool:
    """Whether the file `path` holds `content`; asked after a write that failed."""
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ResourceError(
            f"{path}: {error.strerror or error}; it is not known whether the last write to it was "
            "committed; see that the disk is well, then open it again: it tells."
        ) from error


def publish_folder(partial: Path, path: Path) -> None:
    """Rename the finished folder `partial` to `path` so that it survives a crash."""
    try:
        os.rename(partial, path)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        remove(partial)
        raise InputError(f"`path` {path} was made by another process meanwhile; open it.") from None
    with after_commit(path):
        durable.sync_folder(path.parent)
