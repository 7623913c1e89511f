"""Which two checkpoints of a run a value of progress lies between, and where.

The rule for a run whose progress runs backwards, or that does not reach a value, is here and
nowhere else (`locate`).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import plain_array
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers

Outside = Literal["hold", "stretch", "error"]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Location:
    """Where on a run given values of progress are.

    Attributes
    ----------
    left : (S,) the checkpoint before, or at, each value
    fraction : (S,) α of Eq. 3 between `left` and the next checkpoint; 0: at `left` itself
    n_backwards : steps between checkpoints that go against the run's direction
    reached : (S,) whether the run reaches each value
    """

    left: NDArray[np.intp]
    fraction: Float64
    n_backwards: int
    reached: NDArray[np.bool_]

    @property
    def n_outside(self) -> int:
        """Values that the run does not reach."""
        return int((~self.reached).sum())


def locate(
    progress: ArrayLike,
    s: ArrayLike,
    outside: Outside = "hold",
    *,
    rising: bool | None = None,
    name: str = "progress",
) -> Location:
    """Find the values `s` on a run with the given progress of its checkpoints.

    Between two checkpoints progress is taken as linear. Where a value is passed more than once
    (progress that runs backwards) it is where the run passes it *first*. `outside` says what
    becomes of values below or above all that the run reaches:

    - ``"hold"``: the checkpoint nearest in progress;
    - ``"stretch"``: the last checkpoint counts as the end, 1 (0 for a column that falls), as in the
      code published with the paper; what is before the start is held;
    - ``"error"``: refused.

    Parameters
    ----------
    progress : (T,) of the checkpoints, in order; rising or falling
    s : (S,) in [0, 1], or in the range of `progress` where that is wider (a column such as epoch)
    rising : True: forward is up, as for progress itself (Eq. 4), even if the run ends below its
        start; False: down; None: from the first checkpoint to the last
    name : of `progress` in messages

    Raises
    ------
    InputError
        For fewer than two checkpoints, values that are not finite, s out of range;
        ``outside="stretch"`` of values beyond [0, 1].
    """
    values = check_progress(progress, name)
    targets = check_s(s, (min(0.0, values.min()), max(1.0, values.max())))
    return find_passages(values, targets, outside, rising=rising, name=name)


def find_passages(
    values: Float64, targets: Float64, outside: Outside, *, rising: bool | None, name: str
) -> Location:
    """`locate` of arguments that `check_progress` and `check_s` have seen."""
    if outside not in get_args(Outside):
        raise InputError(
            f"`outside` must be one of {', '.join(get_args(Outside))}, not {outside!r}."
        )
    steps = np.diff(values)
    upwards = bool(values[-1] >= values[0]) if rising is None else rising
    direction = 1.0 if upwards else -1.0
    if outside == "stretch":
        if values.min() < 0 or values.max() > 1:
            raise InputError(
                f"`outside` must not be 'stretch' for the {name}, {values.min():.6g} … "
                f"{values.max():.6g}: it is for what ends at 1 or 0, progress or error; pass "
                "outside='hold' (--outside hold)."
            )
        end = 1.0 if direction > 0 else 0.0
        values = np.append(values[:-1], end)
    low = np.minimum(values[:-1], values[1:])
    high = np.maximum(values[:-1], values[1:])
    crossed = (low <= targets[:, None]) & (targets[:, None] <= high)
    reached = np.asarray(crossed.any(axis=1))
    if outside == "error" and not reached.all():
        raise InputError(
            f"`s` must lie in what the {name} reaches, {values.min():.6g} … {values.max():.6g}, "
            f"with outside='error', not {targets[~reached][0]:.6g}; pass outside='hold' (--outside "
            "hold), fewer `s` (--from, --to), or leave the run out (--select)."
        )
    left = np.where(reached, crossed.argmax(axis=1), np.abs(targets[:, None] - values).argmin(1))
    fraction = np.zeros(len(targets))
    width = np.append(np.diff(values), 0.0)[left]
    moving = reached & (width != 0)
    fraction[moving] = (targets[moving] - values[left[moving]]) / width[moving] + 0.0  # no −0
    arrived = fraction >= 1  # at the next checkpoint: that one itself, not a rounding of it
    left[arrived] += 1
    fraction[arrived] = 0.0
    n_backwards = int((direction * steps < 0).sum())
    return Location(left.astype(np.intp), fraction, n_backwards, reached)


def check_progress(progress: ArrayLike, name: str = "progress") -> Float64:
    """Progress of a run's checkpoints as (T,) float64, T ≥ 2."""
    values = real_numbers(progress, name)
    if values.ndim != 1:
        raise InputError(f"`{name}` must have shape (n_checkpoints,), not {values.shape}.")
    if len(values) < 2:
        raise InputError(
            f"`{name}` must be of at least 2 checkpoints, not {len(values)}: a run with one "
            "checkpoint is a point, not a trajectory; leave it out, or record more."
        )
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(
            f"`{name}` must be finite, but is {values[bad]} at checkpoint {bad}; leave that "
            "checkpoint out."
        )
    return values


def check_s(s: ArrayLike, reach: tuple[float, float] = (0.0, 1.0)) -> Float64:
    """Values of progress, or of a column, as (S,) float64 within `reach`, S ≥ 1."""
    targets = np.atleast_1d(plain_array(s, "s"))
    if targets.ndim != 1 or len(targets) < 1:
        raise InputError(f"`s` must have shape (n_values ≥ 1,), not {targets.shape}.")
    low, high = reach
    if targets.dtype.kind not in "iuf":
        raise InputError(f"`s` must be numbers in [{low:.6g}, {high:.6g}], not {targets.dtype}.")
    beyond = ~((targets >= low) & (targets <= high))  # NaN is beyond
    if beyond.any():
        raise InputError(
            f"`s` must be in [{low:.6g}, {high:.6g}], what runs can reach, not "
            f"{targets[beyond][0]:.6g}."
        )
    return targets.astype(np.float64)
