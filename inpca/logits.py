"""What is given as logits and is something else: probabilities, or an array that was never filled.

Softmax makes predictions of any numbers. So nothing that comes later would notice.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.units import count

# How far the sums of a model's rows may be from 1 for its numbers to be probabilities.
_SUM_TOLERANCE = 5e-3
_PER_MODEL = (-2, -1)
_CURE = (
    "if they are the logits all the same, take scipy.special.log_softmax of them and pass "
    "kind='log_probs' (for files check_logits=False, --no-check-logits)"
)


def check_logits(values: NDArray[Any], name: str, first: int = 0) -> None:
    """Refuse models whose logits are all probabilities.

    Parameters
    ----------
    values : (n_samples, n_classes) of one model, or (…, n_samples, n_classes)
    name : the argument's name, for messages
    first : index of the first model of this block, for messages

    Raises
    ------
    InputError
        Naming the first such model.

    Examples
    --------
    >>> check_logits(np.array([[1.0, -1.0], [0.0, 0.0]]), "X")
    """
    low = values.min(axis=_PER_MODEL)
    if not (low >= 0).any():  # logits as they mostly are
        return
    probable = (low >= 0) & (values.max(axis=_PER_MODEL) <= 1 + _SUM_TOLERANCE)
    if probable.any():
        sums = values.sum(axis=-1, dtype=np.float64)
        probable &= (np.abs(sums - 1) <= _SUM_TOLERANCE).all(axis=-1)
    if probable.any():
        raise InputError(
            f"`{name}` has probabilities in {_which(probable, first)} (every row is ≥ 0 and sums "
            f"to 1), but they are given as logits; pass kind='probs' (--kind probs), or, {_CURE}."
        )


def check_filled(values: NDArray[Any], name: str, first: int = 0, *, begun: bool = True) -> None:
    """Refuse models of one run whose logits are all 0: an array that was never filled.

    Parameters
    ----------
    values, name, first : as for `check_logits`
    begun : whether the run has begun before; else its first models may be 0 throughout, as those
        of a network whose last layer begins with zeros are

    Raises
    ------
    InputError
        Naming the first such model.
    """
    empty = ~np.atleast_1d(np.asarray(values != 0).any(axis=_PER_MODEL))
    if not begun:
        empty &= np.logical_or.accumulate(~empty)
    if empty.any():
        raise InputError(
            f"`{name}` has only zeros in {_which(empty if values.ndim > 2 else empty[0], first)}: "
            "logits that are all 0 are an array that was never filled, and would count as "
            f"ignorance; leave those checkpoints out, or, {_CURE}."
        )


def _which(bad: NDArray[np.bool_] | np.bool_, first: int) -> str:
    """Name the first bad model, and how many there are."""
    flat = np.atleast_1d(np.asarray(bad)).reshape(-1)
    if not np.ndim(bad):
        return "every sample"
    n_bad = int(flat.sum())
    more = f" ({count(n_bad, 'model')} of {len(flat)} that were looked at)" if n_bad > 1 else ""
    return f"model {first + int(np.argmax(flat))}{more}"
