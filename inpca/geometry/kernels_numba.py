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
_COSINE = tuple((-1) ** k / math.factorial(2 * k) for k in range(9))
_SINE = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))
_HALF_ROOT = math.sqrt(0.5)


# 2**f = Σ_k _POWER[k] fᵏ for |f| ≤ ½, to 2e-8; all float32, so that the loop stays in float32.
_POWER = tuple(
    np.float32(value)
    for value in (1, 0.69314721, 0.24022649, 0.055503290, 0.0096183733, 0.0013399848, 0.00015370705)
)
_HALF_BITS = np.float32(0.5 / math.log(2))  # ln p → log₂ √p
_ROUND = np.float32(1.5 * 2**23)  # added to a number it rounds it, and holds it in its low bits
_LEAST = np.float32(-126)  # 2**_LEAST is the least normal float32


@compiled
def square_roots(log_p: NDArray[np.float32], roots: NDArray[np.float32]) -> None:
    """√p = exp(½ ln p) of float32, `log_p` (size,) → `roots` (size,).

    Errs by less than 2e-7 of the value where ln p > −5, 4e-6 where it is smallest. Values below
    2⁻¹²⁶ are 0; of NaN NaN.

    Six times as fast as NumPy's: without a branch or a table it becomes a loop over vectors.
    """
    for i in range(len(log_p)):
        power = log_p[i] * _HALF_BITS
        shifted = power + _ROUND
        f = power - (shifted - _ROUND)
        value = _POWER[6]
        for k in range(5, -1, -1):
            value = value * f + _POWER[k]
        exponent = np.float32(shifted).view(np.int32) << np.int32(23)
        bits = np.float32(value).view(np.int32) + exponent
        # NaN stays NaN: it is not less.
        roots[i] = np.float32(0) if power < _LEAST else np.int32(bits).view(np.float32)


@compiled
def label_coordinates(
    roots: NDArray[np.floating], labels: NDArray[np.int64], x: Float64, y: Float64
) -> None:
    """Plane of ignorance and truth: `roots` √p (k, n, C), `labels` (n,) → `x`, `y` (k, n)."""
    n_models, n_samples, n_classes = roots.shape
    cosine = 1.0 / math.sqrt(n_classes)
    sine = math.sqrt(1.0 - 1.0 / n_classes)
    squares = np.empty(n_samples)
    for u in range(n_models):
        _sums(roots[u], labels, x[u], y[u], squares)
        # By itself this is a loop over vectors, of which division and root need it most.
        for n in range(n_samples):
            scale = 1.0 / math.sqrt(squares[n])  # rows are normalised to rounding: here exactly
            along = x[u, n] * cosine * scale
            x[u, n] = along
            y[u, n] = (y[u, n] * scale - cosine * along) / sine


@partial(compiled, reassociate=True)
def _sums(
    roots: NDArray[np.floating],
    labels: NDArray[np.int64],
    totals: Float64,
    own: Float64,
    squares: Float64,
) -> None:
    """Σ √p, √p of the label and Σ p in every sample."""
    for n in range(len(roots)):
        total = 0.0
        square = 0.0
        for c in range(roots.shape[1]):
            root = np.float64(roots[n, c])
            total += root
            square += root * root
        totals[n], own[n], squares[n] = total, np.float64(roots[n, labels[n]]), square


@compiled
def plane_coordinates(
    roots: NDArray[np.floating], along: Float64, across: Float64, x: Float64, y: Float64
) -> None:
    """Any plane: `roots` √p (k, n, C), orthonormal `along`, `across` (n, C) → `x`, `y` (k, n)."""
    for u in range(len(roots)):
        _projections(roots[u], along, across, x[u], y[u])


@partial(compiled, reassociate=True)
def _projections(
    roots: NDArray[np.floating], along: Float64, across: Float64, x: Float64, y: Float64
) -> None:
    for n in range(len(roots)):
        square = 0.0
        first = 0.0
        second = 0.0
        for c in range(roots.shape[1]):
            root = np.float64(roots[n, c])
            square += root * root
            first += root * along[n, c]
            second += root * across[n, c]
        scale = 1.0 / math.sqrt(square)
        x[n] = first * scale
        y[n] = second * scale


@register_jitable  # type: ignore[untyped-decorator]
def _term(x: float, y: float, cosine: float, sine: float) -> float:
    """d/dδ arccos(r cos δ) = r sin δ / √(1 − r² cos² δ), without cancellation at r cos δ = 1."""
    across = x * sine - y * cosine
    outside = max(1.0 - x * x - y * y, 0.0)  # squared length out of the plane
    return across / math.sqrt(outside + across * across + _TINY)


@register_jitable  # type: ignore[untyped-decorator]
def cosine_and_sine(angle: float) -> tuple[float, float]:
    """Of 0 ≤ angle ≤ π/2, by Taylor's series about π/4: calls of libm make no loop over vectors."""
    t = angle - 0.25 * math.pi
    square = t * t
    cosine, sine = _COSINE[8], _SINE[8]
    for k in (7, 6, 5, 4, 3, 2, 1, 0):
        cosine = cosine * square + _COSINE[k]
        sine = sine * square + _SINE[k]
    sine *= t
    return (cosine - sine) * _HALF_ROOT, (cosine + sine) * _HALF_ROOT


@compiled
def slope(alpha: float, x: Float64, y: Float64, angles: Float64) -> float:
    """Derivative of Σ_n arccos(Σ_c √p √p_α) by α; `angles` has one entry, or one per sample."""
    if len(angles) == 1:
        angle = angles[0]
        return float(angle * _sum_of_terms(x, y, math.cos(alpha * angle), math.sin(alpha * angle)))
    return float(_sum_over_angles(x, y, alpha, angles))


@partial(compiled, reassociate=True)  # six times as fast, 0.5 ns a sample
def _sum_of_terms(x: Float64, y: Float64, cosine: float, sine: float) -> float:
    total = 0.0
    for n in range(len(x)):
        total += _term(x[n], y[n], cosine, sine)
    return total


@partial(compiled, reassociate=True)
def _sum_over_angles(x: Float64, y: Float64, alpha: float, angles: Float64) -> float:
    total = 0.0
    for n in range(len(x)):
        cosine, sine = cosine_and_sine(alpha * angles[n])
        total += angles[n] * _term(x[n], y[n], cosine, sine)
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
