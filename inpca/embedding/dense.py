"""The same eigenpairs by LAPACK, for W that fits in memory: the reference."""

import math

import numpy as np
from scipy.linalg import LinAlgError, eigh

from inpca.embedding.pairs import CURE, Float64, check_pairs, fix_signs, order_by_magnitude
from inpca.embedding.scale import check_range, column_norms, exponent_of, scaled
from inpca.errors import ResourceError

# Copies of W in float64 that LAPACK and we hold at the same time.
COPIES = 4

# How far results of LAPACK may be from what they must be, relative to ‖W‖: rounding is below it
# for any W that fits in memory.
_TOLERANCE = 1e-9
_STRIP = 256


def dense_eigenpairs(centred: Float64, k: int) -> tuple[Float64, Float64, Float64]:
    """The k eigenpairs of largest |λ| of a symmetric matrix, verified, and their residuals.

    Parameters
    ----------
    centred : W, (m, m)

    Returns
    -------
    eigenvalues (k,), eigenvectors (m, k), residuals ‖W v − λ v‖ (k,)

    Raises
    ------
    ResourceError
        If what LAPACK gives is not that: not all eigenvalues, vectors that are not orthonormal,
        or pairs with large residuals.
    InputError
        If W exceeds the range of float64.

    Notes
    -----
    One factorisation gives both ends of the spectrum, where the largest magnitudes may lie, by
    divide and conquer. LAPACK's routine for a part of the spectrum gives fewer pairs, or vectors
    that are not orthogonal, where eigenvalues repeat; and asked for both ends it takes as long.
    O(m³) work, 4 m² float64 of memory.
    """
    check_range(centred, "The entries of W = −½ L D L")
    try:
        values, vectors = eigh(centred, driver="evd", check_finite=False)
    except LinAlgError as error:
        raise ResourceError(f"LAPACK gave no eigenvalues ({error}); {CURE}.") from error
    _check_spectrum(centred, values)
    order = order_by_magnitude(values)[:k]
    values, vectors = values[order], fix_signs(vectors[:, order])
    check_pairs(values, vectors, k, "LAPACK")
    residuals = column_norms(centred @ vectors - vectors * values)
    wrong = residuals > _TOLERANCE * np.abs(values).max()
    if wrong.any():
        raise ResourceError(
            f"LAPACK gave pairs that are no eigenpairs, the first is number {np.argmax(wrong)} "
            f"(‖W v − λ v‖ = {residuals[wrong][0]:.1e}); {CURE}."
        )
    return values, vectors, residuals


def _check_spectrum(centred: Float64, values: Float64) -> None:
    """Refuse a list of eigenvalues that lacks some, or has some twice: Σ λ and Σ λ² are known."""
    m = len(centred)
    if values.shape != (m,):
        raise ResourceError(f"LAPACK gave {len(values)} eigenvalues instead of {m}; {CURE}.")
    exponent = exponent_of(float(max(centred.max(), -centred.min(), np.abs(values).max())))
    values = scaled(values, -exponent)
    square = math.fsum(
        float(np.vdot(strip, strip))
        for strip in (scaled(centred[i : i + _STRIP], -exponent) for i in range(0, m, _STRIP))
    )
    trace = float(scaled(np.trace(centred), -exponent))
    off_trace = abs(math.fsum(values) - trace) > _TOLERANCE * math.sqrt(m * square)
    # Not below: NaN is refused too.
    if off_trace or not abs(math.fsum(values**2) - square) <= _TOLERANCE * square:
        raise ResourceError(
            "LAPACK gave eigenvalues whose squares do not add up to ‖W‖², so that some are "
            f"missing or wrong; {CURE}."
        )
