"""Centroids that no closed mean gives: of the Bhattacharyya distance, of the Jeffreys divergence.

Both work in every sample by itself, on arrays; reading is `inpca.geometry.averages`' business.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, wrightomega

from inpca.distance.kernels_numba import compiled

Float64 = NDArray[np.float64]

# Relative change of a probability at which iterations stop. An error is at least halved in each
# step (see below), so that the limit is not reached.
_TOLERANCE = 1e-12
_MAX_STEPS = 200


def bhattacharyya_centroid(log_p: Float64, weights: Float64, log_start: Float64) -> Float64:
    """The q of least −Σ_u w_u ln Σ_c √p_uc √q_c, by the fixed-point iteration of Nielsen & Boltz.

    q_c ← Σ_u w_u √(p_uc q_c) / a_u,  a_u = Σ_c √(p_uc q_c): the average of the middles between q
    and each model. Every step goes down. In logarithms its derivative is (I − S)/2 with S similar
    to a stochastic positive semidefinite matrix: an error is at least halved in each step.

    Parameters
    ----------
    log_p : (k, n, C) log-probabilities
    weights : (k,) positive, of sum 1
    log_start : (n, C) where to begin; a class that is impossible there stays so

    Returns
    -------
    (n, C) log-probabilities
    """
    # Sample first: what one sample's iteration runs over lies together.
    roots = np.ascontiguousarray(np.exp(0.5 * log_p).transpose(1, 0, 2))
    q = np.exp(log_softmax(log_start, axis=-1))
    _iterate(roots, weights, q)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(q))


@compiled
def _iterate(roots: Float64, weights: Float64, q: Float64) -> None:
    """`roots` √p (n, k, C); `q` (n, C) is moved to the fixed point."""
    n_samples, n_models, n_classes = roots.shape
    root = np.empty(n_classes)
    following = np.empty(n_classes)
    for n in range(n_samples):
        for _ in range(_MAX_STEPS):
            for c in range(n_classes):
                root[c] = math.sqrt(q[n, c])
                following[c] = 0.0
            for u in range(n_models):
                affinity = 0.0
                for c in range(n_classes):
                    affinity += roots[n, u, c] * root[c]
                share = weights[u] / affinity
                for c in range(n_classes):
                    following[c] += share * roots[n, u, c]
            settled = True
            for c in range(n_classes):
                value = following[c] * root[c]
                settled &= abs(value - q[n, c]) <= _TOLERANCE * value
                q[n, c] = value
            if settled:
                break


def jeffreys_centroid(log_arithmetic: Float64, log_geometric: Float64) -> Float64:
    """The q of least Σ_u w_u [KL(p_u‖q) + KL(q‖p_u)], from two means alone (Nielsen 2013).

    q_c = a_c / W(e^{1 + λ} a_c / g_c), with the arithmetic mean a, the geometric mean g, Lambert's
    W, and in each sample the λ with Σ_c q_c = 1. W(e^z) is Wright's ω(z), which does not overflow.
    The sum is convex and decreasing in λ, so Newton's steps come to λ from below after the first.

    Parameters
    ----------
    log_arithmetic, log_geometric : (n, C) ln a and ln g; need not be normalised

    Returns
    -------
    (n, C) log-probabilities
    """
    log_a = log_softmax(log_arithmetic, axis=-1)
    log_g = log_softmax(log_geometric, axis=-1)
    impossible = np.isneginf(log_a)
    ratio = np.where(impossible, 0.0, log_a - np.where(impossible, 0.0, log_g))
    multiplier = np.zeros((len(log_a), 1))
    a = np.exp(log_a)
    for _ in range(_MAX_STEPS):
        omega = wrightomega(1.0 + multiplier + ratio)
        q = a / omega
        step = (q.sum(axis=-1, keepdims=True) - 1.0) / (q / (1.0 + omega)).sum(
            axis=-1, keepdims=True
        )
        multiplier += step
        if (np.abs(step) <= _TOLERANCE * (1.0 + np.abs(multiplier))).all():
            break
    return np.asarray(log_softmax(log_a - np.log(wrightomega(1.0 + multiplier + ratio)), axis=-1))
