"""Any inputs and labels, from an ``.npz`` file; and what every reader holds its arrays against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.opening import open_npz, open_regular

Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]
Sets = dict[str, tuple[Inputs, Labels]]

# What .npz and .npy files begin with.
_ZIP, _ONE_ARRAY = b"PK", b"\x93NUMPY"
_EXPECTED = "x_train (N, …), y_train (N,), and x_test, y_test where there is a test set"


def read_npz(path: Path) -> Sets:
    """Inputs and labels of an ``.npz`` file with x_train, y_train, x_test, y_test.

    Raises
    ------
    InputError
        If the file is missing, truncated or no ``.npz``, lacks an array, or holds others than
        inputs of real numbers with one label 0 … C − 1 each.
    """
    found = _read(path)
    sets = {}
    for name in ("train", "test"):
        if name == "test" and "x_test" not in found and "y_test" not in found:
            continue
        for key in (f"x_{name}", f"y_{name}"):
            if key not in found:
                raise InputError(
                    f"{path} has no array {key!r}; it must hold {_EXPECTED}, but has "
                    f"{', '.join(sorted(found)) or 'nothing'}."
                )
        sets[name] = _checked(path, name, found[f"x_{name}"], found[f"y_{name}"])
    if "test" in sets and sets["test"][0].shape[1:] != sets["train"][0].shape[1:]:
        raise InputError(
            f"{path}: inputs of x_test have shape {sets['test'][0].shape[1:]}, those of x_train "
            f"{sets['train'][0].shape[1:]}; they must be the same."
        )
    return sets


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    missing = f"; expected an .npz with {_EXPECTED}: say where it is with `path` (--data FILE)."
    with open_regular(path, missing) as file:
        _check_beginning(path, file.read(len(_ONE_ARRAY)))
    with open_npz(path) as content:
        return {name: _array(path, content, name) for name in content}


def _check_beginning(path: Path, beginning: bytes) -> None:
    """Refuse what is no .npz by its first bytes."""
    if beginning == _ONE_ARRAY:
        raise InputError(f"{path} is no .npz file but one array; save it with np.savez.")
    if not beginning.startswith(_ZIP):
        what = "it is empty" if not beginning else f"it begins with {beginning!r}"
        raise InputError(
            f"{path} is no .npz file, whatever its name says ({what}); write it with np.savez: "
            f"{_EXPECTED}."
        )


def _array(path: Path, content: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.generic]:
    try:
        return content[name]
    except InputError as error:
        raise InputError(
            f"{path}: the array {name!r} cannot be read, it is damaged or holds Python objects "
            f"({error}); write it again as an array of numbers."
        ) from None


def _checked(
    path: Path, name: str, x: NDArray[np.generic], y: NDArray[np.generic]
) -> tuple[Inputs, Labels]:
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3, 4):
        raise InputError(
            f"{path}: x_{name} must be real numbers (N, d), (N, h, w) or (N, c, h, w), not "
            f"{x.dtype} {x.shape}."
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise InputError(
            f"{path}: y_{name} must be {len(x)} whole numbers, one for each input, not {y.dtype} "
            f"{y.shape}."
        )
    if not np.isfinite(x).all():
        raise InputError(f"{path}: x_{name} has NaN or infinite numbers; leave those samples out.")
    labels = y.astype(np.int64)
    check_labels(labels, f"{path}: y_{name}")
    return x.astype(np.float32), labels


def check_labels(labels: Labels, what: str, n_classes: int | None = None) -> None:
    """Refuse labels that do not count classes from 0."""
    top = n_classes or 1 << 31
    if len(labels) == 0:
        raise InputError(f"{what} are empty; expected one label for each sample.")
    if labels.min() < 0 or labels.max() >= top:
        raise InputError(
            f"{what} must be classes 0 … {'C' if n_classes is None else n_classes} − 1, but reach "
            f"from {labels.min()} to {labels.max()}."
        )
