"""One run as a curve: re-indexed uniformly in its progress, and its length."""

import logging
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import PREDICTIONS, plain_array
from inpca.distance.divergences import FLOOR
from inpca.distance.kernels_numba import compiled
from inpca.errors import InputError
from inpca.geometry.geodesic import between
from inpca.geometry.interpolation import Location, Outside, locate
from inpca.predictions import Floats, Kind, from_log_probs, to_log_probs

LengthOf = Literal["geodesic", "root"]
_log = logging.getLogger("inpca.geometry")


def reindex(
    run_predictions: ArrayLike,
    progress: ArrayLike,
    s: ArrayLike,
    *,
    kind: Kind = "probs",
    outside: Outside = "hold",
    rising: bool | None = None,
    return_info: bool = False,
) -> Any:
    """A run's predictions at given values of its progress.

    For s between the progress s_k and s_{k+1} of two checkpoints it is the point
    α = (s − s_k) / (s_{k+1} − s_k) of the geodesic between them (Eq. 3). Progress that runs
    backwards is kept as it is: a value that is passed more than once is taken where it is passed
    first, and the steps backwards are counted, and logged as a warning.

    Parameters
    ----------
    run_predictions : (n_checkpoints ≥ 2, n_samples, n_classes) of `kind`, in order
    progress : (n_checkpoints,) what to index by: progress (Eq. 4), error, or any column that
        mostly rises or mostly falls
    s : (S,) values in [0, 1], or in the range of `progress` where that is wider, in any order; a
        single number gives a single model
    outside : for values that the run does not reach: ``"hold"`` the checkpoint nearest in progress;
        ``"stretch"``: the last checkpoint counts as progress 1, as in the code published with the
        paper (the printed text leaves it open); ``"error"``
    rising : which steps run forward: True those up, as is right for progress (Eq. 4), False those
        down; None: the direction from the first checkpoint to the last
    return_info : return (curve, `Location`)

    Returns
    -------
    curve : (S, n_samples, n_classes) of the same kind (log-probabilities for logits); float64 where
        `run_predictions` is, otherwise float32

    Raises
    ------
    InputError
        For a run with one checkpoint, s out of range, progress that is not finite or not one
        value per checkpoint, and predictions that are none.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    >>> reindex(p, [0.0, 1.0], 0.5).round(4)
    array([[0.8536, 0.1464]])
    """
    values = plain_array(run_predictions, "run_predictions", PREDICTIONS)
    if values.ndim != 3:
        raise InputError(
            f"`run_predictions` must have shape (n_checkpoints, n_samples, n_classes), not "
            f"{values.shape}."
        )
    location = locate(progress, s, outside, rising=rising)
    _check_length(len(values), len(np.asarray(progress)))
    if location.n_backwards:
        _log.warning(
            "progress runs backwards in %d of %d steps; values passed more than once are taken "
            "where they are passed first",
            location.n_backwards,
            len(values) - 1,
        )
    log_p = to_log_probs(values, kind, name="run_predictions")
    curve = from_log_probs(_interpolate(log_p, location), kind)
    result = curve if np.ndim(s) else curve[0]
    return (result, location) if return_info else result


def _check_length(n_checkpoints: int, n_values: int) -> None:
    if n_checkpoints != n_values:
        raise InputError(
            f"`progress` must have one value per checkpoint, {n_checkpoints}, not {n_values}."
        )


def _interpolate(log_p: Floats, location: Location) -> Floats:
    out = np.empty((len(location.left), *log_p.shape[1:]), log_p.dtype)
    for point, k, fraction in zip(out, location.left, location.fraction):
        point[...] = log_p[k] if fraction == 0 else between(log_p[k], log_p[k + 1], fraction)
    return out


def trajectory_length(
    run_predictions: ArrayLike, *, kind: Kind = "probs", of: LengthOf = "geodesic"
) -> float:
    """Length of a run: the sum of the steps between successive checkpoints.

    Parameters
    ----------
    run_predictions : (n_checkpoints ≥ 2, n_samples, n_classes) of `kind`, in order
    of : the distance that is summed: ``"geodesic"``, d_G = (1/N) Σ_n arccos a[n] of Eq. 4, in
        radians: for a run along one geodesic the distance of its ends; or ``"root"``, √D with the
        Bhattacharyya distance of Eq. 2, which is of squared type

    Raises
    ------
    InputError
        For a run with one checkpoint, an unknown `of`, and predictions that are none.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    >>> bool(np.isclose(trajectory_length(p), np.pi / 4))
    True
    """
    return float(step_lengths(run_predictions, kind=kind, of=of).sum())


def step_lengths(
    run_predictions: ArrayLike, *, kind: Kind = "probs", of: LengthOf = "geodesic"
) -> NDArray[np.float64]:
    """The steps between successive checkpoints, (n_checkpoints − 1,); see `trajectory_length`."""
    log_p = to_log_probs(run_predictions, kind, name="run_predictions")
    if log_p.ndim != 3 or len(log_p) < 2:
        raise InputError(
            "`run_predictions` must have shape (n_checkpoints ≥ 2, n_samples, n_classes), not "
            f"{log_p.shape}: a run with one checkpoint has no length."
        )
    check_length_of(of)
    steps = np.empty(len(log_p) - 1)
    before = _roots(log_p[0])
    for k in range(len(steps)):
        after = _roots(log_p[k + 1])
        steps[k] = add_steps(before, after, of == "root") / log_p.shape[1]
        before = after
    return np.sqrt(np.maximum(steps, 0)) if of == "root" else steps


def check_length_of(of: str) -> None:
    """Refuse a distance that no length is made of."""
    if of not in get_args(LengthOf):
        raise InputError(f"`of` must be one of {', '.join(get_args(LengthOf))}, not {of!r}.")


def _roots(log_p: Floats) -> NDArray[np.float64]:
    with np.errstate(under="ignore"):
        return np.exp(0.5 * np.asarray(log_p, np.float64))


@compiled
def add_steps(x: Any, y: Any, squared: bool) -> float:
    """Σ_n of arccos a[n], or of −ln a[n] (`squared`), between two models' √p (n, C), float64.

    Through the chord, |x − y|² = 2 (1 − a), so that steps between near checkpoints keep their
    digits; a is floored as in the distance engine.
    """
    total = 0.0
    for n in range(x.shape[0]):
        square, affinity = 0.0, 0.0
        for c in range(x.shape[1]):
            difference = x[n, c] - y[n, c]
            square += difference * difference
            affinity += x[n, c] * y[n, c]
        if squared and square < 1.0:
            total -= np.log1p(-0.5 * square)
        elif squared:
            total -= np.log(max(affinity, FLOOR))
        else:
            total += 2.0 * np.arcsin(min(1.0, 0.5 * np.sqrt(square)))
    return total
