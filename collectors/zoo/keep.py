"""Which samples of the training set a run is trained on: pruning plans, read from files.

A run trained on some samples is recorded on all of them, so that it can be compared with the rest.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError

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
    values = np.asarray(_read(path))
    if values.dtype == bool and values.shape == (n_samples,):
        values = np.flatnonzero(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(f"`keep` {path} must be {_FORMS}, not {values.dtype} {values.shape}.")
    kept = np.sort(values.astype(np.int64))
    if len(kept) < 2 or kept[0] < 0 or kept[-1] >= n_samples:
        span = f"{kept[0]} to {kept[-1]}" if len(kept) else "nothing"
        raise InputError(
            f"`keep` {path} must name at least two samples out of 0 … {n_samples - 1}, not "
            f"{len(kept)} from {span}."
        )
    if (np.diff(kept) == 0).any():
        twice = kept[:-1][np.diff(kept) == 0][0]
        raise InputError(f"`keep` {path} names sample {twice} twice; name each once.")
    return kept


def digest(kept: NDArray[np.int64]) -> str:
    """Eight characters that tell one selection from another."""
    return hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:8]


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            return [int(line) for line in text.split()]
        content = json.loads(text)
    except FileNotFoundError:
        raise InputError(f"There is no file {path} for `keep`; it must be {_FORMS}.") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"`keep` {path} cannot be read ({error}); it must be {_FORMS}.") from error
    return content.get("keep") if isinstance(content, dict) else content
