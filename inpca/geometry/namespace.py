"""Progress in the array namespace of its argument: cupy, or any that follows the array API.

The plain twin of `kernels_numba`: the same plane and slope, all models side by side, bisection
alone. Arrays stay where they are; float64 throughout.
"""

from typing import Any

import numpy as np

from inpca.backend import concatenate, namespace
from inpca.errors import InputError
from inpca.geometry.ends import Pair
from inpca.geometry.kernels_numba import TOLERANCE
from inpca.predictions import ROW_SUM_TOLERANCE, Kind, check_kind

# Numbers of predictions that are worked on at a time.
_BLOCK_NUMBERS = 1 << 24
_TINY = 1e-300


def foreign_namespace(X: Any) -> Any | None:
    """The namespace of an array that is not numpy's; None for anything else."""
    if isinstance(X, np.ndarray):
        return None
    if hasattr(X, "__array_namespace__"):
        return X.__array_namespace__()
    xp = namespace(X)
    return None if xp is np else xp


def positions(X: Any, kind: Kind, ends: Pair, xp: Any) -> Any:
    """Positions (m,) of the models `X` (m, N, C) on the geodesic of `ends`, in namespace `xp`."""
    along, across, angles = (_moved(one, X, xp) for one in (ends.along, ends.across, ends.angles))
    step = max(1, _BLOCK_NUMBERS // (X.shape[1] * X.shape[2]))
    blocks = []
    for first in range(0, X.shape[0], step):
        last = min(first + step, X.shape[0])  # the standard knows no slice beyond the end
        roots = _roots(X[first:last, :, :], kind, first, xp)
        x = xp.sum(roots * along, axis=-1)
        y = xp.sum(roots * across, axis=-1)
        blocks.append(_nearest(x, y, angles, xp))
    return concatenate(blocks)


def _moved(values: Any, like: Any, xp: Any) -> Any:
    """A numpy array where `like` is."""
    device = getattr(like, "device", None)
    return xp.asarray(values) if xp.__name__ == "cupy" else xp.asarray(values, device=device)


def _roots(values: Any, kind: Kind, first: int, xp: Any) -> Any:
    """√p of unit length, from predictions of `kind`."""
    check_kind(kind)
    tolerance = ROW_SUM_TOLERANCE[xp.finfo(values.dtype).bits // 8]
    # The standard's function; cupy before 14 has the method alone.
    astype = xp.astype if hasattr(xp, "astype") else type(values).astype
    values = astype(values, xp.float64)
    if kind == "logits":
        values = values - xp.max(values, axis=-1, keepdims=True)
    if kind == "probs":
        roots = xp.sqrt(values)  # of negative ones NaN, refused below
    else:
        roots = values if kind == "sqrt_probs" else xp.exp(0.5 * values)
    total = xp.sum(roots * roots, axis=-1, keepdims=True)
    good = xp.isfinite(total) & (xp.min(roots, axis=-1, keepdims=True) >= 0)
    if kind != "logits":
        good = good & (xp.abs(total - 1) <= tolerance)
    if not bool(xp.all(good)):
        bad = [int(one[0]) for one in xp.nonzero(~good)]
        raise InputError(
            f"`X` has rows that are no predictions of kind={kind!r}: model {first + bad[0]}, "
            f"sample {bad[1]} (NaN, negative, or not of sum 1); repair or drop it."
        )
    return roots / xp.sqrt(total)


def _slope(alpha: Any, x: Any, y: Any, angles: Any, xp: Any) -> Any:
    """Derivative of Σ_n arccos(Σ_c √p √p_α) by α, (m, 1); see `kernels_numba.slope`."""
    across = x * xp.sin(alpha * angles) - y * xp.cos(alpha * angles)
    outside = xp.clip(1.0 - x * x - y * y, 0.0, 1.0)
    terms = angles * across / xp.sqrt(outside + across * across + _TINY)
    return xp.sum(terms, axis=-1, keepdims=True)


def _nearest(x: Any, y: Any, angles: Any, xp: Any) -> Any:
    """Position (m,) of each model's nearest point, where the slope changes sign."""
    low = xp.zeros_like(x[:, :1])
    high = xp.ones_like(low)
    at_start = _slope(low, x, y, angles, xp) >= 0
    at_end = _slope(high, x, y, angles, xp) <= 0
    width = 1.0
    while width > TOLERANCE:
        width /= 2
        middle = 0.5 * (low + high)
        falling = _slope(middle, x, y, angles, xp) < 0
        low, high = xp.where(falling, middle, low), xp.where(falling, high, middle)
    found = xp.where(at_end, xp.ones_like(low), 0.5 * (low + high))
    return xp.where(at_start, xp.zeros_like(low), found)[:, 0]
