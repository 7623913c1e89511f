"""CIFAR-10 and CIFAR-100 in their published "python version".

The files are pickles, which can run any code when they are read. Here nothing is looked up while
reading but what an array of numbers needs. Described at https://www.cs.toronto.edu/~kriz/cifar.html
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.zoo.arrays import Labels, Sets, check_labels
from inpca.errors import InputError

_SHAPE = (3, 32, 32)
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # how Python 3 writes bytes in the old protocols
}


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
    try:
        with open(path, "rb") as file:
            content = _NumbersOnly(file, encoding="bytes").load()
    except FileNotFoundError:
        raise InputError(
            f"There is no file {path}; unpack the published archive (python version) and give the "
            "folder that it makes as `path` (--data FOLDER)."
        ) from None
    except InputError:
        raise
    # A truncated or foreign file can fail in any of these ways inside the unpickler.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ImportError,
        OverflowError,
        MemoryError,
    ) as error:
        raise InputError(
            f"{path} cannot be read as a batch of CIFAR ({type(error).__name__}: {error}); it is "
            "truncated or of another kind: get it again."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, no batch of CIFAR.")
    return content


class _NumbersOnly(pickle.Unpickler):
    """Refuses to look up anything but what rebuilds an array of numbers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"The pickle asks for {module}.{name}, which no batch of CIFAR does, and which "
                "could run any code; the file is of another kind. Nothing was run."
            )
        # numpy 2 moved the module that files written before it name.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
