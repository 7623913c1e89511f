"""Which samples of the training set a run is trained on: pruning plans, read from files.

A run trained on some samples is recorded on all of them, so that it can be compared with the rest.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.opening import open_npy, parse_json, read_regular, regular_file

ALL = "all"
_FORMS = (
    "a .json file with a list of sample numbers (or an object with such a list under 'keep'), a "
    ".npy file with the numbers or with one truth value per sample, or a .txt file with a number "
    "in each line"
)


def read_keep(path: Path, n_samples: int) -> NDArray[np.int64]:
    """The numbers (k,) of the samples to train on, sorted, out of 0 … n_samples − 1.

    Raises
    ------
    InputError
        If the file is missing or of another form, or names samples that are not there, twice, or
        fewer than two.
    """
    values = _numbers(path, _read(path), n_samples)
    outside = values[(values < 0) | (values >= n_samples)]
    if len(outside):
        raise InputError(
            f"`keep` {path} names sample {outside[0]}, and there are only 0 … {n_samples - 1}; "
            "take it out."
        )
    if len(values) < 2:
        named = f"only sample {values[0]}" if len(values) else "no sample"
        raise InputError(f"`keep` {path} names {named}; name at least two samples to train on.")
    kept = np.sort(values.astype(np.int64))
    if (np.diff(kept) == 0).any():
        twice = kept[:-1][np.diff(kept) == 0][0]
        raise InputError(f"`keep` {path} names sample {twice} twice; name each once.")
    return kept


def _numbers(path: Path, content: Any, n_samples: int) -> NDArray[Any]:
    """What was read as numbers of samples, or an error that says what it is instead."""
    if isinstance(content, dict):
        keys = ", ".join(map(repr, content)) or "nothing"
        raise InputError(
            f"`keep` {path} has no list under 'keep', but {keys}; it must be {_FORMS}."
        )
    if isinstance(content, list):
        content = _of_list(path, content)
        if content.dtype == object:
            return content
    if not isinstance(content, np.ndarray):
        raise InputError(f"`keep` {path} is no list of numbers but {content!r:.40}; see {_FORMS}.")
    if content.dtype == bool and content.ndim == 1:
        if len(content) != n_samples:
            raise InputError(
                f"`keep` {path} has {len(content)} truth values for the {n_samples} training "
                "samples; give one for each, or their numbers."
            )
        return np.flatnonzero(content)
    if content.ndim != 1 or content.dtype.kind not in "iu":
        raise InputError(
            f"`keep` {path} is an array of {content.dtype} of shape {content.shape}; it must be "
            f"{_FORMS}."
        )
    return content


def _of_list(path: Path, items: list[Any]) -> NDArray[Any]:
    if items and all(isinstance(item, bool) for item in items):
        return np.array(items)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int):
            raise InputError(
                f"`keep` {path} must hold whole numbers, not {item!r:.40}; it must be {_FORMS}."
            )
    return np.array(items, dtype=object)  # one too large for int64 is still to be named


def digest(kept: NDArray[np.int64]) -> str:
    """Eight characters that tell one selection from another."""
    return hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:8]


def _read(path: Path) -> Any:
    try:
        regular_file(path, f" for `keep`; it must be {_FORMS}.")
        if path.suffix == ".npy":
            return open_npy(path)
        content = read_regular(path)
        if path.suffix == ".txt":
            return [int(line) for line in content.decode("utf-8").split()]
        content = parse_json(content, str(path))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"`keep` {path} cannot be read ({error}); it must be {_FORMS}.") from error
    return content.get("keep", content) if isinstance(content, dict) else content
