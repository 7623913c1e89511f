"""The IDX format, in which MNIST, KMNIST and Fashion-MNIST are published.

Big-endian: two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension as
four bytes, then the numbers. Described at http://yann.lecun.com/exdb/mnist.
"""

import gzip
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from collectors.zoo.arrays import Sets, check_labels
from inpca.errors import InputError
from inpca.opening import check_expansion, check_fits, open_regular

_UNSIGNED_BYTE = 8
_SETS = {"train": "train", "test": "t10k"}


def read_folder(folder: Path) -> Sets:
    """Training and test set of a folder with the four files of MNIST, or of its like.

    Raises
    ------
    InputError
        If a file is missing, truncated, or of another kind.
    """
    sets = {}
    for name, prefix in _SETS.items():
        images = read_idx(find(folder, f"{prefix}-images-idx3-ubyte"), 3)
        path = find(folder, f"{prefix}-labels-idx1-ubyte")
        labels = read_idx(path, 1).astype(np.int64)
        if len(images) != len(labels):
            raise InputError(
                f"{path} has {len(labels):,} labels but there are {len(images):,} images beside "
                "it; both must come from the same set."
            )
        check_labels(labels, f"The labels of {path}", 10)
        sets[name] = images.astype(np.float32) / 255, labels
    return sets


def count_samples(folder: Path) -> tuple[int, int] | None:
    """Training and test samples as the headers say them; None if there is no such folder.

    Raises
    ------
    InputError
        If a file is missing or too short.
    """
    if not folder.is_dir():
        return None
    train, test = (
        _announced(find(folder, f"{prefix}-labels-idx1-ubyte")) for prefix in _SETS.values()
    )
    return train, test


def _announced(path: Path) -> int:
    """The first dimension that the header says, without reading on."""
    with _opened(path) as file:
        head = file.read(8)
    if len(head) < 8:
        raise InputError(f"{path} is truncated in its header; get it again.")
    return int.from_bytes(head[4:], "big")


def find(folder: Path, name: str) -> Path:
    """The file `name`, or `name`.gz, in `folder` or its subfolder ``raw``."""
    for place in (folder, folder / "raw"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.exists():
                return candidate
    raise InputError(
        f"There is no file {name} (nor {name}.gz) in {folder}; download the data set as it is "
        "published, and give the folder with its four files as `path` (--data FOLDER)."
    )


def read_idx(path: Path, n_dims: int) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, gzipped if its name ends in ``.gz``.

    Raises
    ------
    InputError
        If the file is truncated, too long, or holds something else.
    """
    with _opened(path) as file:
        shape = _shape(file, n_dims, path)
        announced = prod(shape)
        check_expansion(announced, os.fstat(file.fileno()).st_size, f"The header of {path}")
        check_fits(announced, f"The header of {path}", "get it again")
        # One byte more than announced shows what is too long, and no bomb of a .gz unfolds.
        content = file.read(announced + 1)
    if len(content) != announced:
        how = "truncated" if len(content) < announced else "longer than it says"
        follow = f"{len(content):,}" if len(content) < announced else "more"
        raise InputError(
            f"{path} is {how}: its header announces {announced:,} bytes, {shape}, but "
            f"{follow} follow; get it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(file: IO[bytes], n_dims: int, path: Path) -> tuple[int, ...]:
    """The dimensions in the header, which is read."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise InputError(f"{path} is no IDX file: it begins with {head!r}; get it again.")
    kind, dims = head[2], head[3]
    if kind != _UNSIGNED_BYTE or dims != n_dims:
        raise InputError(
            f"{path} holds IDX numbers of type {kind:#04x} in {dims} dimensions, but unsigned "
            f"bytes ({_UNSIGNED_BYTE:#04x}) in {n_dims} are expected; it is another file."
        )
    sizes = file.read(4 * dims)
    if len(sizes) < 4 * dims:
        raise InputError(f"{path} is truncated in its header; get it again.")
    return struct.unpack(f">{dims}I", sizes)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked as it is read if its name ends in ``.gz``."""
    with open_regular(path) as file:
        if path.suffix != ".gz":
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield cast(IO[bytes], unpacked)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"{path} is truncated or no gzip file ({error}); get it again."
            ) from error
