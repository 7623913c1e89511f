"""Geodesics between models: each sample moves on the great circle of its √p (Eq. 3)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from inpca.checks import plain_array
from inpca.errors import InputError
from inpca.predictions import Floats, Kind, from_log_probs, to_log_probs

Float64 = NDArray[np.float64]

# Below this angle (radians) two rows coincide: sin(t θ)/sin θ is t to the last digit.
SMALL_ANGLE = 1e-8


def geodesic(p: ArrayLike, q: ArrayLike, t: ArrayLike, *, kind: Kind = "probs") -> Floats:
    """Points of the geodesic from model `p` to model `q` (Eq. 3).

    √p_t = [sin((1 − t) θ) √p + sin(t θ) √q] / sin θ in every sample, θ = arccos Σ_c √p √q: the
    shortest path in the Fisher metric, run through at constant speed in every sample.

    Parameters
    ----------
    p, q : predictions of `kind`, (n_samples, n_classes)
    t : positions in [0, 1], a number or of any shape; 0 is `p`, 1 is `q`
    kind : what the numbers are, of `p`, of `q` and of the result: ``"probs"``, ``"log_probs"``,
        ``"logits"`` or ``"sqrt_probs"``

    Returns
    -------
    array of shape ``(*t.shape, n_samples, n_classes)``, of `kind` (logits come out as
    log-probabilities), float64 if
    `p` or `q` is, otherwise float32

    Raises
    ------
    InputError
        For predictions that are none, of different shapes, or `t` outside [0, 1]: the great
        circle goes on beyond its ends, but with probabilities that return from zero.

    Notes
    -----
    Where two rows coincide (θ → 0) the point is that row. Rows are never antipodal: √p ≥ 0, so
    θ ≤ π/2. Computed from logarithms, so that no probability underflows.

    Examples
    --------
    >>> geodesic([[1.0, 0.0]], [[0.0, 1.0]], 0.5).round(3)
    array([[0.5, 0.5]])
    """
    positions = check_positions(t, "t")
    start, end = to_log_probs(p, kind, name="p"), to_log_probs(q, kind, name="q")
    if start.ndim != 2 or start.shape != end.shape:
        raise InputError(
            "`p` and `q` must be two models of one sample set, both (n_samples, n_classes), not "
            f"{start.shape} and {end.shape}."
        )
    dtype = np.result_type(start, end)
    points = between(start, end, positions[..., None, None])
    return from_log_probs(points, kind).astype(dtype)


def between(log_p: Floats, log_q: Floats, t: ArrayLike) -> Float64:
    """Log-probabilities of the points `t` of geodesics.

    Parameters
    ----------
    log_p, log_q : log-probabilities (…, n_classes)
    t : positions in [0, 1], to be broadcast against (…, 1)

    Returns
    -------
    the broadcast shape, float64; rows normalised
    """
    half_p, half_q = 0.5 * np.asarray(log_p, np.float64), 0.5 * np.asarray(log_q, np.float64)
    t = np.asarray(t, np.float64)
    angle = angles(np.exp(half_p), np.exp(half_q))[..., None]
    coincide = angle < SMALL_ANGLE
    safe = np.where(coincide, 1.0, angle)
    to_p = np.where(coincide, 1 - t, np.sin((1 - t) * safe) / np.sin(safe))
    to_q = np.where(coincide, t, np.sin(t * safe) / np.sin(safe))
    with np.errstate(divide="ignore"):  # ln 0 = −∞: a point at an end has nothing of the other
        root = np.logaddexp(np.log(to_p) + half_p, np.log(to_q) + half_q)
    # Of unit length but for rounding, which would add up along a chain of geodesics.
    return np.asarray(log_softmax(2 * root, axis=-1))


def angles(root_p: Floats, root_q: Floats) -> Float64:
    """θ = arccos Σ_c √p √q in [0, π/2], (…,), from √p and √q (…, n_classes).

    From the chord, 2 arcsin(‖√p − √q‖ / 2): the arccos of an affinity loses half the digits where
    rows nearly coincide.
    """
    difference = np.asarray(root_p, np.float64) - root_q
    chord = np.sqrt(np.einsum("...c,...c->...", difference, difference))
    return np.asarray(2 * np.arcsin(np.minimum(0.5 * chord, math.sqrt(0.5))))


def check_positions(t: ArrayLike, name: str) -> Float64:
    """`t` as float64, refused outside [0, 1]."""
    values = plain_array(t, name)
    if values.dtype.kind not in "iuf":
        raise InputError(f"`{name}` must be numbers in [0, 1], not {values.dtype}.")
    outside = ~((values >= 0) & (values <= 1))  # NaN is outside
    if outside.any():
        raise InputError(
            f"`{name}` must be in [0, 1] (0 is the start, 1 the end), not {values[outside][0]}."
        )
    return values.astype(np.float64)
