"""Files from strangers: opened without a hang, read within bounds, refused by name.

Everything that reads a user's file, not a store's own, goes through here. A name may stand for a
pipe or a device that never ends; a small file may announce, or unpack to, more than any machine
holds. So a file is opened without waiting and must be a regular one; its size is looked at before
it is read; a header is held against the bytes behind it before memory is taken; and whatever a
library raises for bytes that it does not understand becomes one `InputError` that names the file.
"""

import json
import lzma
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from inpca.errors import InpcaError, InputError
from inpca.units import format_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Settings, plans and lists of samples: nobody writes more of them by hand or by program.
TEXT_LIMIT = 16 * 2**20
_MISSING = "; check the path."

# What libraries raise for bytes that are damaged, foreign, or made to be trouble.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # includes RecursionError and NotImplementedError
    MemoryError,
    SyntaxError,
    AssertionError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
)

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
# A member of an archive may unpack to this much, or to this multiple of its size in the file.
_EXPANDED = 256 * 2**20
_EXPANSION = 200
_MEMBERS = 100_000


def regular_file(path: Path, missing: str = _MISSING) -> os.stat_result:
    """What the system says of the regular file at `path`, links followed.

    Parameters
    ----------
    missing : what follows "There is no file …" in the message: what for, the cure

    Raises
    ------
    InputError
        If there is no file, or it is a pipe, a device, a socket or a folder, whose reading may
        never end.

    Examples
    --------
    >>> regular_file(Path("/dev/zero"))
    Traceback (most recent call last):
        ...
    inpca.errors.InputError: /dev/zero is a device, and only regular files are read; copy what...
    """
    with _opening(path, missing):
        found = os.stat(path)
        _check_regular(found, path)
    return found


@contextmanager
def open_regular(path: Path, missing: str = _MISSING) -> Iterator[IO[bytes]]:
    """The regular file at `path`, open for reading; what is none is refused and never waited for.

    Raises
    ------
    InputError
        As for `regular_file`.
    """
    with _opening(path, missing):
        # Without waiting: a pipe that nobody writes to would hold us here for ever.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_regular(os.fstat(descriptor), path)
        except BaseException:
            os.close(descriptor)
            raise
    with open(descriptor, "rb") as file:
        yield file


def read_regular(path: Path, limit: int = TEXT_LIMIT, missing: str = _MISSING) -> bytes:
    """All bytes of a regular file that has at most `limit` of them.

    Raises
    ------
    InputError
        As for `regular_file`; for a larger file.
    """
    with open_regular(path, missing) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > limit else file.read(limit + 1)
    if max(size, len(content)) > limit:
        raise InputError(
            f"{path} has {format_bytes(max(size, len(content)))}, more than the "
            f"{format_bytes(limit)} that such a file may have; check that it is the right file."
        )
    return content


def parse_json(content: bytes | str, what: str) -> Any:
    """The value of a JSON text.

    Raises
    ------
    InputError
        If it is no JSON, is not UTF-8, or is nested deeper than can be read; names `what`.

    Examples
    --------
    >>> parse_json('{"keep": [1, 2]}', "plan.json")
    {'keep': [1, 2]}
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise InputError(f"{what} is nested too deeply to be read; write it flat.") from None
    except ValueError as error:
        raise InputError(f"{what} is no JSON ({error}); write it again.") from error


@contextmanager
def reading(path: Path, kind: str = "") -> Iterator[None]:
    """What a library says about a damaged or unfit file, as one `InputError` that names the file.

    Parameters
    ----------
    kind : what the file should be; by default the ending of its name
    """
    try:
        yield
    except InpcaError:
        raise
    except UNREADABLE as error:
        raise unreadable(path, error, kind) from error


def unreadable(path: Path, error: BaseException, kind: str = "") -> InputError:
    """What to raise instead of `error`, met while reading `path`."""
    head = f"{path} cannot be read as {kind or path.suffix or 'a file of this kind'}: "
    if "allow_pickle" in str(error) or "Object arrays" in str(error):
        return InputError(
            f"{path} holds Python objects where numbers are expected; save arrays of numbers."
        )
    if isinstance(error, RecursionError):
        return InputError(f"{head}it is nested too deeply; write it flat.")
    if isinstance(error, MemoryError):
        return InputError(f"{head}it asks for more memory than there is; check that it is sound.")
    reason = str(error).strip().splitlines()
    return InputError(
        f"{head}{reason[0] if reason else type(error).__name__}; it is "
        "truncated or of another kind: copy or write it again."
    )


def check_fits(n_bytes: int, what: str, cure: str) -> None:
    """Refuse what would need more memory than is free; `what` announces it, `cure` helps.

    Raises
    ------
    InputError
        Names both numbers.
    """
    from inpca.backend import available_memory

    free = available_memory()
    if n_bytes > free:
        raise InputError(
            f"{what} announces {format_bytes(n_bytes)} but {format_bytes(free)} of memory are "
            f"free; {cure}."
        )


def check_expansion(unpacked: int, packed: int, what: str) -> None:
    """Refuse what would unpack to far more than it is; small things may.

    Raises
    ------
    InputError
        Names both sizes.
    """
    if unpacked > max(_EXPANDED, _EXPANSION * packed):
        raise InputError(
            f"{what} announces {format_bytes(unpacked)} from {format_bytes(packed)} in the file, "
            "as files do that are made to fill a machine; if it is sound, save it uncompressed."
        )


# --- arrays of NumPy -------------------------------------------------------------------------


def open_npy(path: Path) -> "NDArray[Any]":
    """The array of an ``.npy`` file, on disk until some of it is asked for.

    Raises
    ------
    InputError
        As for `regular_file`; if it holds objects, or other bytes than its header announces.
    """
    import numpy as np

    with open_regular(path) as file, reading(path):
        check_magic(path, file.read(6))
        file.seek(0)
        announced, start = _npy_header(file, str(path))
        behind = os.fstat(file.fileno()).st_size - start
        _check_announced(announced, behind, str(path))
        if not announced:
            file.seek(0)
            empty: NDArray[Any] = np.load(file, allow_pickle=False)
            return empty
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped


def check_magic(path: Path, head: bytes) -> None:
    """Refuse what NumPy did not save, by its first bytes: it would be taken for a pickle."""
    if not head.startswith((b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")):
        raise InputError(
            f"{path} cannot be read as {path.suffix}: it does not begin as such a file; save it "
            f"with numpy.{'savez' if path.suffix == '.npz' else 'save'}."
        )


@contextmanager
def open_npz(path: Path) -> Iterator[Mapping[str, "NDArray[Any]"]]:
    """The arrays of an ``.npz`` file by name, each read when it is asked for.

    Raises
    ------
    InputError
        As for `regular_file`; if it is no such file. From the mapping: for an array of objects,
        one that is damaged, and one that announces other numbers than it holds, or more than fit
        into memory.
    """
    with open_regular(path) as file:
        with reading(path):
            head = file.read(6)
            check_magic(path, head)
            if head.startswith(b"\x93NUMPY"):
                raise InputError(f"{path} is named .npz but holds one array; rename it to .npy.")
            archive = zipfile.ZipFile(file)
        with archive:
            yield _Members(path, archive)


class _Members(Mapping[str, "NDArray[Any]"]):
    """The arrays in an open archive; `numpy.load` would take the memory before it looks."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        members = archive.infolist()
        if len(members) > _MEMBERS:
            raise InputError(f"{path} has {len(members):,} members; save at most {_MEMBERS:,}.")
        self._members = {one.filename.removesuffix(".npy"): one for one in members}

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __getitem__(self, name: str) -> "NDArray[Any]":
        import numpy as np

        member = self._members[name]
        what = f"The array {name!r} of {self._path}"
        with reading(self._path):
            _check_member(member, what)
            with self._archive.open(member) as file:
                announced, start = _npy_header(file, what)
            _check_announced(announced, member.file_size - start, what)
            check_fits(announced, what, "save it as .npy or .h5, which are read piece by piece")
            with self._archive.open(member) as file:
                array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
                file.read(1)  # the end: only there is the checksum looked at
            return array


def _check_member(member: zipfile.ZipInfo, what: str) -> None:
    """Refuse what NumPy does not write, and what unpacks to far more than it is."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{what} is packed in another way than NumPy's; save it with numpy.savez.")
    check_expansion(member.file_size, member.compress_size, what)


def _npy_header(file: IO[bytes], what: str) -> tuple[int, int]:
    """The bytes that an array's header announces, and where they begin."""
    from numpy.lib import format as npy

    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise InputError(f"{what} is of NumPy's format {version}; save arrays of plain numbers.")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InputError(
            f"{what} holds Python objects where numbers are expected; save arrays of numbers."
        )
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise InputError(f"{what} has the shape {shape}; it is damaged: write it again.")
    return prod(shape) * dtype.itemsize, file.tell()


def _check_announced(announced: int, there: int, what: str) -> None:
    if announced != there:
        raise InputError(
            f"{what} cannot be read as numbers: its header announces {announced:,} bytes, but "
            f"{there:,} follow; it is truncated or made up: copy or write it again."
        )


# --- opening ---------------------------------------------------------------------------------


@contextmanager
def _opening(path: Path, missing: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no file {path}{missing}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InpcaError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}; check the path.") from None


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise InputError(
            f"{path} is {kind}, and only regular files are read; copy what it holds into a file."
        )
