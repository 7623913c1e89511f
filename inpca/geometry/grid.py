"""The values that runs are compared at: a number of them over a range, or as they are given."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.geometry.interpolation import check_s

Float64 = NDArray[np.float64]
# First and last value; None: by default.
Span = tuple[float | None, float | None]
# More than any run has checkpoints.
_MOST_VALUES = 1_000_000


def grid(s: ArrayLike | int, span: Span, values: Sequence[Float64], of_progress: bool) -> Float64:
    """The values `s`, (S,), checked.

    Parameters
    ----------
    s : how many values, evenly from the first to the last of `span`; or the values, in any order,
        which is kept
    span : None stands for 0 and 1 where runs are indexed by progress, otherwise for the ends of the
        range that all of them reach
    values : index of the checkpoints of each run
    of_progress : whether that is progress

    Raises
    ------
    InputError
        For fewer than two values, a value that is there twice or that no run could reach, a `span`
        that is none, or beside values; if the runs share no range.
    """
    lowest, highest = min(float(v.min()) for v in values), max(float(v.max()) for v in values)
    reach = min(0.0, lowest), max(1.0, highest)
    if isinstance(s, bool):
        raise InputError(f"`s` must be a number of values or the values, not {s!r}.")
    if isinstance(s, int | np.integer):
        if s < 2:
            raise InputError(f"`s` must be at least 2 values, or an array of them, not {s}.")
        if s > _MOST_VALUES:
            raise InputError(f"`s` must be at most {_MOST_VALUES:,} values; take fewer.")
        first, last = _ends(span, values, of_progress)
        return check_s(np.linspace(first, last, int(s)), reach)
    if any(end is not None for end in span):
        raise InputError(
            "`span` goes with a number of values; `s` are the values themselves: leave it out."
        )
    targets = check_s(s, reach)
    different, counts = np.unique(targets, return_counts=True)
    if len(different) < len(targets):
        raise InputError(
            f"`s` must be different values, but {different[counts > 1][0]:.6g} is there "
            f"{counts.max()} times; leave it out once."
        )
    return targets


def _ends(span: Span, values: Sequence[Float64], of_progress: bool) -> tuple[float, float]:
    default = (0.0, 1.0) if of_progress or None not in span else _shared(values, span)
    first, last = (
        default[number] if end is None else float(end) for number, end in enumerate(span)
    )
    if not first < last:
        raise InputError(
            "`span` must be a smaller and a larger value (--from, --to), not "
            f"{first:.6g} and {last:.6g}."
        )
    return first, last


def _shared(values: Sequence[Float64], span: Span) -> tuple[float, float]:
    """What every run reaches."""
    low, high = float(max(v.min() for v in values)), float(min(v.max() for v in values))
    if not low < high and span == (None, None):
        raise InputError(
            f"`index`: the runs share no range of values: one begins at {low:.6g}, another ends at "
            f"{high:.6g}; say which values to take, as `s` or `span` (--from, --to), or leave runs "
            "out (--select)."
        )
    return low, high
