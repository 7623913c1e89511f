"""Every `Reduction` in a plain array namespace: elementwise, sample by sample, class by class.

Features come as (C, n, …models…), and the models of rows and columns broadcast, (n, R, 1) with
(n, 1, K). No matrix product and no sum along an axis decides a byte: each operation is the same for
every pair and symmetric in the two models, so that identical models are at distance exactly 0
whatever the library does for large or small arrays. An intermediate has n · R · K numbers; the
caller bounds that.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

from inpca.distance.divergences import FLOOR, Divergence, Reduction
from inpca.distance.kernels_difference import angle_coefficients

Features = Sequence[Any]

# Of an intermediate, n · R · K · 8 bytes: how many are alive at once, at most.
INTERMEDIATES = 6


def array_features(divergence: Divergence, log_p: Any, xp: Any) -> Features:
    """What `similarity` takes, of log-probabilities (C, n, models)."""
    features = [feature(log_p, xp) for feature in divergence.all_features]
    if divergence.reduction is Reduction.ENTROPY:
        return [xp.asarray(feature, dtype=xp.float64) for feature in features]
    return features


def similarity(divergence: Divergence, u: Features, v: Features, xp: Any) -> Any:
    """weight · s_uv[n] of features that broadcast, (C, n, …) → (n, …)."""
    found = _SIMILARITIES[divergence.reduction](u, v, xp)
    return found if divergence.weight == 1.0 else found * divergence.weight


def capped(divergence: Divergence, u: Features, v: Features, xp: Any) -> int:
    """Contributions of all pairs (u, v, n) that a floor has capped, each pair once for (u, v).

    Over all pairs of one set of models every pair is met twice, as (u, v) and (v, u).
    """
    floors = [feature.floor for feature in divergence.all_features]
    if floors[-1] is None:
        return 0
    if divergence.reduction is Reduction.LOG_AFFINITY:
        orders = ((0, -1), (-1, 0))[: len(u)]
        return sum(_count_overlaps(u[f], v[g], xp) for f, g in orders)
    return _count_one_sided(u[-1], v[-1], floors[-1], xp)


def _total(term: Callable[[int], Any], n_classes: int) -> Any:
    return reduce(add, (term(c) for c in range(n_classes)))


def _log_affinity(u: Features, v: Features, xp: Any) -> Any:
    n_classes = u[0].shape[0]
    one = xp.log(_total(lambda c: u[0][c, ...] * v[-1][c, ...], n_classes))
    if len(u) == 1:
        return one
    return (one + xp.log(_total(lambda c: u[-1][c, ...] * v[0][c, ...], n_classes))) * 0.5


def _differences(u: Features, v: Features) -> Any:
    def term(c: int) -> Any:
        one = u[0][c, ...] - v[0][c, ...]
        return one * (one if len(u) == 1 else u[-1][c, ...] - v[-1][c, ...])

    return _total(term, u[0].shape[0])


def _squared_angle(u: Features, v: Features, xp: Any) -> Any:
    """arccos²(1 − h/2), h = ‖√p_u − √p_v‖², by the polynomial of the CPU."""
    h = _differences(u, v)
    dtype = "float64" if h.dtype == xp.float64 else "float32"
    x = h - 1.0
    return h * reduce(lambda value, c: value * x + float(c), angle_coefficients(dtype), x * 0.0)


def _entropy(u: Features, v: Features, xp: Any) -> Any:
    def term(c: int) -> Any:
        mixture = (u[0][c, ...] + v[0][c, ...]) * 0.5
        return mixture * xp.log(mixture)

    return _total(term, u[0].shape[0])


_SIMILARITIES: dict[Reduction, Callable[[Features, Features, Any], Any]] = {
    Reduction.LOG_AFFINITY: _log_affinity,
    Reduction.DIFFERENCE: lambda u, v, xp: -_differences(u, v),
    Reduction.ANGLE: lambda u, v, xp: -xp.sqrt(_squared_angle(u, v, xp)),
    Reduction.SQUARED_ANGLE: lambda u, v, xp: -_squared_angle(u, v, xp),
    Reduction.ENTROPY: _entropy,
}


def _count_overlaps(f: Any, g: Any, xp: Any) -> int:
    """See `kernels_numba.count_floored`."""
    both = xp.any(f <= FLOOR, axis=0) & xp.any(g <= FLOOR, axis=0)
    if not bool(xp.any(both)):
        return 0

    def term(c: int) -> Any:
        one, other = f[c, ...], g[c, ...]
        overlap = one * other
        return xp.where((one > FLOOR) & (other > FLOOR), overlap, overlap * 0.0)

    return _count(both & (_total(term, f.shape[0]) <= FLOOR), xp)


def _count_one_sided(f: Any, g: Any, floor: float, xp: Any) -> int:
    """See `kernels_difference.count_one_sided`."""
    low, other_low = f <= floor, g <= floor
    if not (bool(xp.any(low)) or bool(xp.any(other_low))):
        return 0
    differ = (low[c, ...] != other_low[c, ...] for c in range(f.shape[0]))
    return _count(reduce(lambda some, more: some | more, differ), xp)


def _count(mask: Any, xp: Any) -> int:
    return int(xp.sum(xp.asarray(mask, dtype=xp.int64)))
