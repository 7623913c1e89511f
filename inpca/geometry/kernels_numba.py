"""Compiled bodies of progress: models in the plane of a geodesic, and the nearest point on it.

In one sample the geodesic is an arc of the unit circle in the plane of √start and √end. A model
enters through its two coordinates in that plane alone, x along √start and y across:

    Σ_c √p √p_α = x cos(αθ) + y sin(αθ),    θ the arc's angle.

Everything here is serial and without the GIL; threads run over blocks of models.
"""

import math
from functools import partial

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from inpca.distance.kernels_numba import compiled

Float64 = NDArray[np.float64]

# Of the position: a mean of arccos cannot tell points closer than this apart.
TOLERANCE = 1e-10
_TINY = 1e-300


@compiled
def label_coordinates(
    roots: NDArray[np.floating], labels: NDArray[np.int64], x: Float64, y: Float64
) -> None:
    """Plane of ignorance and truth: `roots` √p (k, n, C), `labels` (n,) → `x`, `y` (k, n)."""
    n_models, n_samples, n_classes = roots.shape
    cosine = 1.0 / math.sqrt(n_classes)
    sine = math.sqrt(1.0 - 1.0 / n_classes)
    for u in range(n_models):
        for n in range(n_samples):
            total = 0.0
            square = 0.0
            for c in range(n_classes):
                root = np.float64(roots[u, n, c])
                total += root
                square += root * root
            scale = 1.0 / math.sqrt(square)  # rows are normalised to rounding: here exactly
            along = total * cosine * scale
            x[u, n] = along
            y[u, n] = (roots[u, n, labels[n]] * scale - cosine * along) / sine


@compiled
def plane_coordinates(
    roots: NDArray[np.floating], along: Float64, across: Float64, x: Float64, y: Float64
) -> None:
    """Any plane: `roots` √p (k, n, C), orthonormal `along`, `across` (n, C) → `x`, `y` (k, n)."""
    n_models, n_samples, n_classes = roots.shape
    for u in range(n_models):
        for n in range(n_samples):
            square = 0.0
            first = 0.0
            second = 0.0
            for c in range(n_classes):
                root = np.float64(roots[u, n, c])
                square += root * root
                first += root * along[n, c]
                second += root * across[n, c]
            scale = 1.0 / math.sqrt(square)
            x[u, n] = first * scale
            y[u, n] = second * scale


@register_jitable  # type: ignore[untyped-decorator]
def _term(x: float, y: float, cosine: float, sine: float) -> float:
    """d/dδ arccos(r cos δ) = r sin δ / √(1 − r² cos² δ), without cancellation at r cos δ = 1."""
    across = x * sine - y * cosine
    outside = max(1.0 - x * x - y * y, 0.0)  # squared length out of the plane
    return across / math.sqrt(outside + across * across + _TINY)


@compiled
def slope(alpha: float, x: Float64, y: Float64, angles: Float64) -> float:
    """Derivative of Σ_n arccos(Σ_c √p √p_α) by α; `angles` has one entry, or one per sample."""
    if len(angles) == 1:
        angle = angles[0]
        return float(angle * _sum_of_terms(x, y, math.cos(alpha * angle), math.sin(alpha * angle)))
    total = 0.0
    for n in range(len(x)):
        angle = angles[n]
        total += angle * _term(x[n], y[n], math.cos(alpha * angle), math.sin(alpha * angle))
    return total


@partial(compiled, reassociate=True)  # six times as fast, 0.5 ns a sample
def _sum_of_terms(x: Float64, y: Float64, cosine: float, sine: float) -> float:
    total = 0.0
    for n in range(len(x)):
        total += _term(x[n], y[n], cosine, sine)
    return total


@compiled
def nearest(x: Float64, y: Float64, angles: Float64, position: Float64) -> None:
    """Position in [0, 1] of each model's nearest point: `x`, `y` (k, N) → `position` (k,)."""
    for u in range(len(x)):
        position[u] = _root(x[u], y[u], angles)


@compiled
def _root(x: Float64, y: Float64, angles: Float64) -> float:
    """Where `slope` changes sign: bisection, by inverse quadratic steps where they are safe.

    Chandrupatla's method: no more evaluations than bisection needs, on smooth slopes a fifth.
    The slope does not decrease (see `inpca.geometry.progress`), so there is one place.
    """
    a, b = 1.0, 0.0
    fa, fb = slope(a, x, y, angles), slope(b, x, y, angles)
    if fb >= 0.0:
        return 0.0
    if fa <= 0.0:
        return 1.0
    c, fc, step = a, fa, 0.5
    while True:
        point = a + step * (b - a)
        value = slope(point, x, y, angles)
        if (value > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = point, value
        limit = 0.5 * TOLERANCE / abs(b - a) if a != b else 1.0
        if fa == 0.0 or limit > 0.5:
            return a if abs(fa) < abs(fb) else b
        step = 0.5
        xi, phi = (a - b) / (c - b), (fa - fb) / (fc - fb)
        if phi * phi < xi and (1.0 - phi) ** 2 < 1.0 - xi:
            step = fa / (fb - fa) * fc / (fb - fc)
            step += (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        step = min(max(step, limit), 1.0 - limit)
