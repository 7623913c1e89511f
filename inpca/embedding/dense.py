"""The same eigenpairs by LAPACK, for W that fits in memory: the reference."""

import numpy as np
from scipy.linalg import eigh

from inpca.embedding.pairs import Float64, fix_signs, order_by_magnitude

# Copies of W in float64 that LAPACK and we hold at the same time.
COPIES = 4


def dense_eigenpairs(centred: Float64, k: int) -> tuple[Float64, Float64, Float64]:
    """The k eigenpairs of largest |λ| of a symmetric matrix, and their residuals.

    Parameters
    ----------
    centred : W, (m, m)

    Returns
    -------
    eigenvalues (k,), eigenvectors (m, k), residuals ‖W v − λ v‖ (k,)

    Notes
    -----
    The largest magnitudes may lie at either end of the spectrum: for small k the k lowest and
    the k highest are computed, otherwise all. All at once would take as long at 4,000 models, and
    three copies of W more. O(m³) work, 4 m² float64 of memory.
    """
    m = len(centred)
    if 4 * k < m:
        ends = [eigh(centred, subset_by_index=ends) for ends in ((0, k - 1), (m - k, m - 1))]
        values = np.concatenate([values for values, _ in ends])
        vectors = np.concatenate([vectors for _, vectors in ends], axis=1)
    else:
        values, vectors = eigh(centred)
    order = order_by_magnitude(values)[:k]
    values, vectors = values[order], fix_signs(vectors[:, order])
    return values, vectors, np.linalg.norm(centred @ vectors - vectors * values, axis=0)
