"""Files that are there, whole, after a crash: write beside, fsync, rename, fsync the folder.

Everything durable goes through this module. What is prepared beside has a name that nobody can
foresee, ``<name>.<digits>.partial``, and is opened so that neither an existing file nor a symbolic
link is ever followed: two hosts that share a folder cannot meet in one file, and a link planted in
a stranger's store leads nowhere.
"""

import os
import re
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

_SYNCS_AT_ONCE = 16
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_PARTIAL = re.compile(r"(?P<name>.+)\.\d+\.partial", re.DOTALL)


def partial_path(path: Path) -> Path:
    """Where to prepare what will be renamed to `path`: a sibling, its name new each time."""
    return path.with_name(f"{path.name}.{secrets.randbits(63)}.partial")


def is_partial(name: str, of: str | None = None) -> bool:
    """Whether `name` is one that `partial_path` gives, for the name `of` if that is given."""
    match = _PARTIAL.fullmatch(name)
    return match is not None and (of is None or match["name"] == of)


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace `path` by `data` atomically and, with `sync`, durably.

    A reader sees the old content or the new one, never a mixture; a killed writer leaves at most
    a file ``<name>.<digits>.partial``, and a write that the system refuses leaves none. Without
    `sync` that holds while the machine stays up: for what can be derived again, or is synced later.
    """
    partial = partial_path(path)
    try:
        _write_new(partial, data, sync)
        os.replace(partial, path)
    except BaseException as error:
        _discard(partial, path, error)
        raise
    if sync:
        sync_folder(path.parent)


def write_files(contents: Mapping[Path, bytes], written: Iterable[Path] = ()) -> None:
    """Replace several files, each as `write_bytes` does; durable when this returns.

    Files that are `written` already, under their own names, are made durable along with them. In
    four sweeps (write, fsync, rename, fsync the folders) rather than file by file, because fsyncs
    that run at once share the disk's work: 22 of them took 42 ms instead of 128 on a busy ext4.
    """
    partials = {path: partial_path(path) for path in contents}
    present = list(written)
    path = None
    try:
        for path, data in contents.items():
            _write_new(partials[path], data, sync=False)
        sync_all([*partials.values(), *present])
        for path, partial in partials.items():
            os.replace(partial, path)
    except BaseException as error:
        for partial in partials.values():
            _discard(partial, path, error)
        raise
    sync_all({path.parent for path in (*contents, *present)})


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; when the block ends well, the file is `path`, whole and durable.

    For results that a library writes by name: a table, a picture, an HDF5 file. If the block
    fails, `path` is as it was. A link is followed to its target; what is no regular file, such as
    ``/dev/stdout``, is written directly.

    Examples
    --------
    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "table.csv"
    >>> with replacing(table) as partial:
    ...     _ = partial.write_text("step,loss")
    >>> table.read_text()
    'step,loss'
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    # The ending stays: libraries choose a format by it.
    partial = partial_path(path).with_suffix(f".partial{path.suffix}")
    try:
        os.close(_open_new(os.fspath(partial), 0))
        if path.exists():
            os.chmod(partial, stat.S_IMODE(path.stat().st_mode))
        yield partial
        sync_file(partial)
        os.replace(partial, path)
    except BaseException as error:
        _discard(partial, path, error)
        raise
    sync_folder(path.parent)


def write_result(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the user's file `path` by `data`, as `replacing` does."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def _write_new(path: Path, data: bytes, sync: bool) -> None:
    with open(path, "wb", opener=_open_new) as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def _open_new(path: str, _: int) -> int:
    return os.open(path, _NEW, 0o666)


def _discard(partial: Path, path: Path | None, error: BaseException) -> None:
    """Remove what was prepared, and let an error of the system name the file that was wanted."""
    with suppress(OSError):
        partial.unlink(missing_ok=True)
    if isinstance(error, OSError) and path is not None:
        prepared = error.filename is not None and Path(os.fsdecode(error.filename))
        if not prepared or prepared == partial or is_partial(prepared.name):
            error.filename = os.fspath(path)  # writing, unlike opening, does not say


def sync_all(paths: Collection[Path]) -> None:
    """`sync_file` for many files or folders, several at once."""
    if not paths:
        return
    with ThreadPoolExecutor(min(len(paths), _SYNCS_AT_ONCE)) as pool:
        for _ in pool.map(sync_file, paths):
            pass  # raises what a thread raised


def sync_file(path: Path) -> None:
    """Make sure that what was written to `path` has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make sure that renames and new names in the folder `path` have reached the disk."""
    sync_file(path)
