"""What is true of eigenpairs whoever computed them: their order, their signs, their clusters."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inpca.errors import ResourceError

Float64 = NDArray[np.float64]

CURE = "take the other `solver` (dense or lanczos), or another build of SciPy and its LAPACK"


def order_by_magnitude(values: Float64) -> NDArray[np.intp]:
    """Indices that sort by |λ|, largest first; of two equal magnitudes the positive one first."""
    return np.lexsort((-values, -np.abs(values)))


def fix_signs(vectors: Float64) -> Float64:
    """Each column with the sign that makes its entry of largest magnitude (the first such) > 0."""
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return np.asarray(vectors * np.where(signs == 0, 1.0, signs))


def check_pairs(values: Float64, vectors: Float64, k: int, by: str) -> None:
    """Refuse what a library gave for k eigenpairs if they are fewer, or not orthonormal.

    Parameters
    ----------
    by : who computed them, for the message

    Raises
    ------
    ResourceError
        With what is wrong. It happens where a LAPACK is broken, or gives fewer pairs of repeated
        eigenvalues than were asked for.
    """
    if values.shape != (k,) or vectors.ndim != 2 or vectors.shape[1] != k:
        raise ResourceError(f"{by} gave {len(values)} eigenpairs instead of {k}; {CURE}.")
    if not np.isfinite(values).all() or not np.isfinite(vectors).all():
        raise ResourceError(f"{by} gave eigenpairs with NaN or infinite values; {CURE}.")
    off = float(np.abs(vectors.T @ vectors - np.eye(k)).max())
    if off > max(1e-10, 10 * len(vectors) * np.finfo(float).eps):
        raise ResourceError(
            f"{by} gave eigenvectors that are not orthonormal (by {off:.1e}); {CURE}."
        )


def zero_to_rounding(values: Float64, n: int) -> NDArray[np.bool_]:
    """Which eigenvalues of an (n, n) matrix are zero as far as float64 can tell.

    The rule of `numpy.linalg.matrix_rank`: |λ| ≤ n · eps · |λ₁|.
    """
    magnitude = np.abs(values)
    return np.asarray(magnitude <= n * np.finfo(float).eps * magnitude.max())


def find_clusters(values: Float64, residuals: Float64) -> tuple[tuple[int, int], ...]:
    """Neighbours (i, j) on the number line with a gap below 10 ‖r‖; zeros are not counted.

    The space such a pair spans is determined, its two vectors are not.
    """
    order = np.argsort(values, kind="stable")
    # A residual below this is not known: it is rounding itself.
    rounding = 1e-14 * np.abs(values).max(initial=0.0)
    clusters = []
    for i, j in pairwise(order):
        close = values[j] - values[i] < 10 * max(residuals[i], residuals[j], rounding)
        if close and min(abs(values[i]), abs(values[j])) > 10 * rounding:
            clusters.append((int(min(i, j)), int(max(i, j))))
    return tuple(sorted(clusters))
