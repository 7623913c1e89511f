"""CIFAR-10 and CIFAR-100 in their published "python version".

The files are pickles, which can run any code when they are read. Here nothing is looked up while
reading: what rebuilds an array of numbers has stand-ins in this module. Described at https://www.cs.toronto.edu/~kriz/cifar.html
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.zoo.arrays import Labels, Sets, check_labels
from inpca.errors import InputError
from inpca.opening import UNREADABLE, read_regular

_SHAPE = (3, 32, 32)
_LARGEST = 2**30  # bytes; the largest that is published has 155 MB
_MOST_TUPLES = 10_000  # of a batch; those published have a few


def read_cifar10(folder: Path) -> Sets:
    """CIFAR-10 from ``data_batch_1`` … ``data_batch_5`` and ``test_batch``.

    Raises
    ------
    InputError
        If a file is missing, truncated, or of another kind.
    """
    folder = _inside(folder, "cifar-10-batches-py")
    parts = [_read(folder, f"data_batch_{k}", "labels", 10) for k in range(1, 6)]
    x = np.concatenate([images for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    return {"train": (x, y), "test": _read(folder, "test_batch", "labels", 10)}


def read_cifar100(folder: Path) -> Sets:
    """CIFAR-100, its 100 fine classes, from ``train`` and ``test``.

    Raises
    ------
    InputError
        If a file is missing, truncated, or of another kind.
    """
    folder = _inside(folder, "cifar-100-python")
    return {name: _read(folder, name, "fine_labels", 100) for name in ("train", "test")}


def count_samples(folder: Path) -> tuple[int, int] | None:
    """Training and test samples of either CIFAR in `folder`; None if there is no such folder."""
    if not folder.is_dir():
        return None
    ten, hundred = (_inside(folder, f"cifar-{n}") for n in ("10-batches-py", "100-python"))
    if (ten / "test_batch").is_file():
        sizes = [_count(ten / f"data_batch_{k}") for k in range(1, 6)]
        return sum(sizes), _count(ten / "test_batch")
    return _count(hundred / "train"), _count(hundred / "test")


def _count(path: Path) -> int:
    data = _unpickle(path).get(b"data")
    if data is None:
        raise InputError(f"{path} has no 'data', so it is no batch of CIFAR; get it again.")
    return len(data)


def _inside(folder: Path, name: str) -> Path:
    """`folder`, or the folder that the archive unpacks to inside it."""
    return folder / name if (folder / name).is_dir() else folder


def _read(
    folder: Path, name: str, labels: str, n_classes: int
) -> tuple[NDArray[np.float32], Labels]:
    path = folder / name
    batch = _unpickle(path)
    data, found = batch.get(b"data"), batch.get(labels.encode())
    if data is None or found is None:
        raise InputError(
            f"{path} has no {'data' if data is None else labels!r}, so it is no batch of "
            f"CIFAR-{n_classes}; its entries are {', '.join(map(str, batch)) or 'none'}."
        )
    images, y = np.asarray(data), np.asarray(found)
    width = int(np.prod(_SHAPE))
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != width:
        raise InputError(
            f"{path}: data must be bytes of shape (N, {width}), not {images.dtype} {images.shape}."
        )
    if y.shape != images.shape[:1] or y.dtype.kind not in "iu":
        raise InputError(
            f"{path} has {len(images):,} images but labels {y.dtype} {y.shape}; get it again."
        )
    check_labels(y.astype(np.int64), f"The labels of {path}", n_classes)
    return images.reshape(-1, *_SHAPE).astype(np.float32) / 255, y.astype(np.int64)


def _unpickle(path: Path) -> dict[Any, Any]:
    missing = (
        "; unpack the published archive (python version) and give the folder that it makes as "
        "`path` (--data FOLDER)."
    )
    content = read_regular(path, _LARGEST, missing)
    try:
        _check_opcodes(content, path)
        batch = _NumbersOnly(io.BytesIO(content), encoding="bytes").load()
    except InputError:
        raise
    # A truncated or foreign file can fail in many ways inside the unpickler.
    except (pickle.UnpicklingError, ImportError, *UNREADABLE) as error:
        raise InputError(
            f"{path} cannot be read as a batch of CIFAR ({type(error).__name__}: {error}); it is "
            "truncated or of another kind: get it again."
        ) from error
    if not isinstance(batch, dict):
        raise InputError(f"{path} holds a {type(batch).__name__}, no batch of CIFAR.")
    return batch


def _check_opcodes(content: bytes, path: Path) -> None:
    """Refuse what makes the unpickler itself take memory, or the stack, without end."""
    n_opcodes = n_tuples = largest = 0
    for opcode, argument, _ in pickletools.genops(content):
        n_opcodes += 1
        n_tuples += "TUPLE" in opcode.name
        if "PUT" in opcode.name:
            largest = max(largest, int(argument))
    # It keeps a place for each number up to the largest; tuples in tuples overflow its stack.
    if largest > n_opcodes or n_tuples > _MOST_TUPLES:
        raise InputError(
            f"{path} is no batch of CIFAR, but a pickle made to do harm; get it again."
        )


class _NumbersOnly(pickle.Unpickler):
    """Looks up nothing: stand-ins of our own rebuild arrays of numbers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise InputError(
                f"The pickle asks for {module}.{name}, which no batch of CIFAR does, and which "
                "could run any code; the file is of another kind. Nothing was run."
            )
        return _STAND_INS[module, name]


class _Array:
    """What a pickle makes before it says what is in it."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        flat = np.frombuffer(content, dtype.values)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype)

    def __len__(self) -> int:
        return len(self.values)


class _Dtype:
    """The type of an array's numbers."""

    def __init__(self, code: str | bytes, *_: Any) -> None:
        name = code.decode("ascii") if isinstance(code, bytes) else str(code)
        if name not in _NUMBERS:
            raise InputError(f"The pickle has an array of {name!r}, and no batch of CIFAR has.")
        self.values = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        self.values = self.values.newbyteorder(order)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in the old protocols."""
    if encoding not in ("latin1", b"latin1"):
        raise InputError(f"The pickle encodes text as {encoding!r}, which no batch of CIFAR does.")
    return text.encode("latin1")


_NUMBERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f4", "f8"}
_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
