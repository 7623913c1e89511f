"""The inversion point: where class manifolds stop to segregate and begin to expand.

Radii fall and then rise, the distance of the centres rises and then falls; the epoch of the
extremum is the inversion epoch t* (Eq. 11 of Ciceri et al. 2024) and the training error there is
φ, the fraction of stragglers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers

Method = Literal["argmin", "unimodal"]
Extremum = Literal["minimum", "maximum"]
Verdict = Literal["inversion", "monotone", "no segregation"]
Floats = NDArray[np.float64]

# By how many variances of a single checkpoint a curve with both branches must be nearer to the
# values than one with a single branch: 400 series of 600 checkpoints of noise all stayed below 40.
_EVIDENCE = 60.0
# What is below this share of the range of the values is rounding, not noise.
_ROUNDING = 1e-9
# A checkpoint is an outlier if it is this many standard deviations below what its neighbours allow.
_OUTLIER = 3.0


@dataclass(frozen=True)
class InversionPoint:
    """Where one observable turns, or why it does not.

    Attributes
    ----------
    verdict : ``"inversion"``; ``"monotone"``: it does not turn back after segregating;
        ``"no segregation"``: it goes the other way from the start. A way of at most `tolerance` of
        the other, or than noise explains, is none
    index : checkpoint of the extremum; None without an inversion
    epoch : t*, the epoch of that checkpoint; NaN without an inversion
    value : the observable at its extremum (of the fitted curve, with ``method="unimodal"``)
    fall : way from the start to the extremum, ≥ 0, whatever its direction
    rise : way back after it, ≥ 0
    noise : standard deviation of single checkpoints about the nearest unimodal curve
    curve : what the extremum was taken of, (n_checkpoints,): the values, or the unimodal fit
    """

    verdict: Verdict
    index: int | None
    epoch: float
    value: float
    fall: float
    rise: float
    noise: float
    curve: Floats

    @property
    def found(self) -> bool:
        """Whether there is an inversion."""
        return self.verdict == "inversion"

    @property
    def rise_share(self) -> float:
        """Rise over fall: how much of the segregation is given back; 0 without segregation."""
        return self.rise / self.fall if self.fall > 0 else 0.0


@dataclass(frozen=True)
class Inversion:
    """The inversion of one run.

    Attributes
    ----------
    points : the inversion point of each observable, by its name; of more than two classes those of
        the median radius, ``"radius"``, and of the median distance, ``"centre_distances"``
    details : of more than two classes the point of each class and of each pair, ``"radius[3]"``,
        ``"centre_distances[0, 3]"``; empty for two. They do not enter what follows
    phi : φ = ε_tr(t*), the mean of the training errors at the observables' own inversion epochs;
        NaN unless every observable has one
    index : checkpoint at the median of the inversion epochs, where stragglers are read off; None
        unless every observable has one
    epoch : its epoch; NaN without
    """

    points: Mapping[str, InversionPoint]
    phi: float
    index: int | None
    epoch: float
    details: Mapping[str, InversionPoint] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether every observable has an inversion point."""
        return self.index is not None

    @property
    def spread(self) -> float:
        """Largest difference between the observables' inversion epochs; NaN without inversion."""
        epochs = [point.epoch for point in self.points.values()]
        return float(np.ptp(epochs)) if self.found else float("nan")


def inversion_point(
    values: ArrayLike,
    epochs: ArrayLike | None = None,
    *,
    extremum: Extremum = "minimum",
    method: Method = "argmin",
    tolerance: float = 0.05,
) -> InversionPoint:
    """Inversion epoch t* of one observable (Eq. 11), with a verdict when there is none.

    ``"argmin"`` takes the extremum of the values as they are. ``"unimodal"`` takes the curve that
    falls and then rises and is nearest to them in least squares (two isotonic regressions that
    meet where they fit best), and the middle of the checkpoints at which it is within one standard
    deviation of the noise of its bottom. It needs no width of a window, which here would have to be
    short for the fast fall and long for the slow rise. A single outlier beyond the extremum, 3
    standard deviations further than its two neighbours on each side and the lines through them, is
    replaced by the mean of its neighbours first; two outliers side by side are not recognised.

    Measured on a fall of 0.01 and then a rise of 0.002 per checkpoint, 200 checkpoints, 150 series
    for each noise of 0.01, 0.02, 0.05: t* scatters by 1.7, 2.9, 4.7 checkpoints with
    ``"unimodal"`` and by 2.2, 4.4, 9.4 with ``"argmin"``. On average both are on the side of the
    slower branch, by 2, 3, 6 and by 2, 4, 8 checkpoints.

    Parameters
    ----------
    values : the observable at each checkpoint, (n_checkpoints,)
    epochs : their epochs, increasing, (n_checkpoints,); by default 0, 1, 2, …
    extremum : ``"minimum"`` for radii, ``"maximum"`` for the distance of the centres
    method : ``"argmin"`` or ``"unimodal"``
    tolerance : a way back of at most this share of the way there is none, and the reverse

    Raises
    ------
    InputError
        For fewer than three checkpoints, values that are not finite, epochs that do not increase.

    Examples
    --------
    >>> point = inversion_point([1.0, 0.4, 0.2, 0.25, 0.5], epochs=[0, 10, 20, 30, 40])
    >>> point.verdict, point.epoch, round(point.rise_share, 3)
    ('inversion', 20.0, 0.375)
    >>> inversion_point([1.0, 0.4, 0.3, 0.25, 0.24]).verdict
    'monotone'
    """
    series = _check_series(values, "values")
    times = _check_epochs(epochs, len(series))
    check_choice(extremum, Extremum, "extremum")
    check_choice(method, Method, "method")
    if not 0 <= real_numbers(tolerance, "tolerance") < 1:
        raise InputError(f"`tolerance` must be in [0, 1), not {tolerance}.")
    sign = 1.0 if extremum == "minimum" else -1.0
    fit = unimodal_fit(sign * series)
    noise = _noise(sign * series - fit)
    curve = sign * series
    index = int(np.argmin(curve))
    if method == "unimodal":
        index, curve = _robust_turn(curve, noise)
    fall = float(curve[: index + 1].max() - curve[index])
    rise = float(curve[index:].max() - curve[index])
    verdict = _verdict(fall, rise, tolerance, _evidence(sign * series, fit, noise))
    found = verdict == "inversion"
    return InversionPoint(
        verdict=verdict,
        index=index if found else None,
        epoch=float(times[index]) if found else float("nan"),
        value=float(sign * curve[index]),
        fall=fall,
        rise=rise,
        noise=noise,
        curve=sign * curve,
    )


def inversion(
    observables: Mapping[str, ArrayLike],
    train_error: ArrayLike,
    epochs: ArrayLike | None = None,
    *,
    method: Method = "argmin",
    tolerance: float = 0.05,
) -> Inversion:
    """Inversion points of all observables of a run, and φ, the training error at the inversion.

    Parameters
    ----------
    observables : name → (n_checkpoints,); for more than two classes ``"radius"`` has shape
        (n_checkpoints, n_classes) and ``"centre_distances"`` one more axis: the run is judged by
        their medians over classes and over pairs, and each class and pair has a point of its own in
        `Inversion.details`. A name that begins with ``"centre_distance"`` has a maximum, any other
        a minimum
    train_error : fraction of the training samples misclassified, (n_checkpoints,)
    epochs, method, tolerance : see `inversion_point`

    Raises
    ------
    InputError
        As `inversion_point`; for a training error outside [0, 1] or of another length.
    """
    error = _check_error(train_error)
    if not isinstance(observables, Mapping) or not observables:
        raise InputError(
            "`observables` must map names to values, such as {'radius_plus': …, 'radius_minus': "
            "…, 'centre_distance': …}, and have at least one."
        )

    def point(name: str, series: Floats) -> InversionPoint:
        if len(series) != len(error):
            raise InputError(
                f"`observables[{name!r}]` must have one value per checkpoint of `train_error` "
                f"({len(error)}), not {len(series)}."
            )
        kind: Extremum = "maximum" if name.startswith("centre_distance") else "minimum"
        return inversion_point(series, epochs, extremum=kind, method=method, tolerance=tolerance)

    points = {name: point(name, over_classes(one)) for name, one in observables.items()}
    details = {name: point(name, series) for name, series in _each_class(observables)}
    indices = [one.index for one in points.values() if one.index is not None]
    if len(indices) < len(points):
        return Inversion(points, float("nan"), None, float("nan"), details)
    middle = sorted(indices)[len(indices) // 2]
    times = _check_epochs(epochs, len(error))
    phi = float(error[indices].mean())
    return Inversion(points, phi, middle, float(times[middle]), details)


def over_classes(values: ArrayLike) -> Floats:
    """Median over classes (n_checkpoints, n_classes), or over pairs of them (…, n_classes too).

    Values of shape (n_checkpoints,), of two classes, are returned as they are.
    """
    array = real_numbers(values, "observables")
    if array.ndim == 3:
        array = array[(slice(None), *np.triu_indices(array.shape[1], 1))]
    return np.asarray(np.median(array, axis=1)) if array.ndim == 2 else array


def unimodal_fit(values: ArrayLike) -> Floats:
    """The curve that falls and then rises and is nearest to `values` in least squares.

    O(n): the errors of the isotonic fits to all beginnings, and to all ends, come from one run of
    the pool-adjacent-violators algorithm each (Stout 2008).
    """
    series = _check_series(values, "values", at_least=1)
    falling = _prefix_errors(-series)
    rising = _prefix_errors(-series[::-1])[::-1]
    cut = int(np.argmin(falling + rising))
    left, right = series[:cut], series[cut:]
    parts = []
    if len(left):
        parts.append(isotonic_regression(left, increasing=False).x)
    if len(right):
        parts.append(isotonic_regression(right, increasing=True).x)
    return np.concatenate(parts)


def _prefix_errors(values: Floats) -> Floats:
    """Squared error of the increasing fit to values[:k], for k = 0 … n, shape (n + 1,)."""
    blocks: list[tuple[float, int, float]] = []  # mean, length, squared error of what is pooled
    errors = np.zeros(len(values) + 1)
    total = 0.0
    for position, value in enumerate(values.tolist()):
        mean, length, squares = value, 1, 0.0
        while blocks and blocks[-1][0] >= mean:
            other, size, own = blocks.pop()
            total -= own
            squares += own + (mean - other) ** 2 * length * size / (length + size)
            mean = (mean * length + other * size) / (length + size)
            length += size
        blocks.append((mean, length, squares))
        total += squares
        errors[position + 1] = total
    return errors


def _robust_turn(values: Floats, noise: float) -> tuple[int, Floats]:
    """Checkpoint at which noisy values turn, and the curve it was taken of.

    The fit passes through the lowest value itself, which among noisy ones is the luckiest: the
    bottom is the mean of it and of the stretches of the fit on both sides of it.
    """
    noise = max(noise, _ROUNDING * float(np.ptp(values)))
    kept = _without_outliers(values, noise)
    curve = unimodal_fit(kept)
    lowest = np.flatnonzero(curve == curve.min())
    before, after = max(lowest[0] - 1, 0), min(lowest[-1] + 1, len(curve) - 1)
    around = np.isin(curve, curve[[before, lowest[0], after]])
    # No higher than noise explains: without noise the turn is the lowest value.
    bottom = min(float(kept[around].mean()), float(curve.min()) + 2 * noise)
    within = np.flatnonzero(curve <= max(bottom, float(curve.min())) + noise)
    return int(within[0] + within[-1]) // 2, curve


def _without_outliers(values: Floats, noise: float) -> Floats:
    """Values with those that are far too low for both sides replaced by their neighbours' mean.

    A value that a convex curve could have is never one: it is not below the lines through the two
    neighbours on either side.
    """
    if len(values) < 5:
        return values
    kept, at = values.copy(), np.arange(2, len(values) - 2)
    left, right = values[at - 1], values[at + 1]
    lines = 2 * left - values[at - 2], 2 * right - values[at + 2]
    allowed = np.min([left, right, *lines], axis=0) - _OUTLIER * noise
    outliers = at[values[at] < allowed]
    kept[outliers] = (values[outliers - 1] + values[outliers + 1]) / 2
    return kept


def _verdict(fall: float, rise: float, tolerance: float, evidence: tuple[bool, bool]) -> Verdict:
    falls, rises = evidence
    if fall <= tolerance * rise or not falls:
        return "no segregation"
    if rise <= tolerance * fall or not rises:
        return "monotone"
    return "inversion"


def _evidence(values: Floats, fit: Floats, noise: float) -> tuple[bool, bool]:
    """Whether noise is too small to explain the falling branch of the fit, and the rising one."""
    unit = max(noise, _ROUNDING * float(np.ptp(values))) ** 2
    own = ((values - fit) ** 2).sum()
    without_fall = ((values - isotonic_regression(values, increasing=True).x) ** 2).sum()
    without_rise = ((values - isotonic_regression(values, increasing=False).x) ** 2).sum()
    return without_fall - own > _EVIDENCE * unit, without_rise - own > _EVIDENCE * unit


def _noise(residuals: Floats) -> float:
    """Standard deviation of what the unimodal curve leaves, without outliers.

    The median tells it; but where noise is smaller than the steps of the curve, which then passes
    through most values, the others do, save the largest twentieth. Not differences of neighbours:
    where checkpoints are sparse they are mostly trend.
    """
    sizes = np.sort(np.abs(residuals))
    most = sizes[: len(sizes) - max(1, len(sizes) // 20)]
    return float(max(1.4826 * np.median(sizes), np.sqrt(np.mean(most**2))))


def _each_class(observables: Mapping[str, ArrayLike]) -> Iterator[tuple[str, Floats]]:
    """Each class and each pair of observables that have more than two classes."""
    for name, values in observables.items():
        array = real_numbers(values, "observables")
        if array.ndim == 2:
            for column in range(array.shape[1]):
                yield f"{name}[{column}]", array[:, column]
        elif array.ndim == 3:
            for row, column in combinations(range(array.shape[1]), 2):
                yield f"{name}[{row}, {column}]", array[:, row, column]


def _check_series(values: ArrayLike, name: str, at_least: int = 3) -> Floats:
    series = real_numbers(values, name)
    if series.ndim != 1 or len(series) < at_least:
        raise InputError(
            f"`{name}` must be one number per checkpoint, at least {at_least} of them, not of "
            f"shape {series.shape}."
        )
    if not np.isfinite(series).all():
        first = int(np.argmin(np.isfinite(series)))
        raise InputError(
            f"`{name}` must be finite; it is {series[first]} at checkpoint {first}: leave out "
            "runs that diverged."
        )
    return series


def _check_epochs(epochs: ArrayLike | None, length: int) -> Floats:
    if epochs is None:
        return np.arange(length, dtype=np.float64)
    times = real_numbers(epochs, "epochs")
    if times.shape != (length,):
        raise InputError(f"`epochs` must be one per checkpoint, ({length},), not {times.shape}.")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise InputError(f"`epochs` must be finite and increase, not {np.array2string(times)}.")
    return times


def _check_error(train_error: ArrayLike) -> Floats:
    error = _check_series(train_error, "train_error")
    if error.min() < 0 or error.max() > 1:
        raise InputError(
            "`train_error` must be fractions in [0, 1], not up to "
            f"{error.max():g}; divide counts by the number of samples."
        )
    return error


def check_choice(value: str, choices: object, name: str) -> None:
    """InputError unless `value` is one of the literals of `choices`."""
    allowed = get_args(choices)
    if value not in allowed:
        raise InputError(f"`{name}` must be one of {', '.join(allowed)}, not {value!r}.")
