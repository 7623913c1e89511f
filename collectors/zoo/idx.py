"""The IDX format, in which MNIST, KMNIST and Fashion-MNIST are published.

Big-endian: two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension as
four bytes, then the numbers. Described at http://yann.lecun.com/exdb/mnist.
"""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from collectors.zoo.arrays import Sets, check_labels
from inpca.errors import InputError

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
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            head = file.read(8)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                f"{path} is truncated or no gzip file ({error}); get it again."
            ) from error
    if len(head) < 8:
        raise InputError(f"{path} is truncated in its header; get it again.")
    return int.from_bytes(head[4:], "big")


def find(folder: Path, name: str) -> Path:
    """The file `name`, or `name`.gz, in `folder` or its subfolder ``raw``."""
    for place in (folder, folder / "raw"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
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
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise InputError(f"{path} is no IDX file: it begins with {content[:4]!r}; get it again.")
    kind, dims = content[2], content[3]
    if kind != _UNSIGNED_BYTE or dims != n_dims:
        raise InputError(
            f"{path} holds IDX numbers of type {kind:#04x} in {dims} dimensions, but unsigned "
            f"bytes ({_UNSIGNED_BYTE:#04x}) in {n_dims} are expected; it is another file."
        )
    start = 4 + 4 * dims
    if len(content) < start:
        raise InputError(f"{path} is truncated in its header; get it again.")
    shape = struct.unpack(f">{dims}I", content[4:start])
    if len(content) - start != prod(shape):
        how = "truncated" if len(content) - start < prod(shape) else "longer than it says"
        raise InputError(
            f"{path} is {how}: its header announces {prod(shape):,} bytes, {shape}, but "
            f"{len(content) - start:,} follow; get it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is truncated or no gzip file ({error}); get it again.") from error
