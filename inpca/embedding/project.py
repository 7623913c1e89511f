"""New models in an embedding that exists: Gower centring and the projection, arrays to arrays."""

from typing import cast

import numpy as np

from inpca.backend import as_float64, is_elsewhere, namespace, to_like
from inpca.embedding.pairs import Float64
from inpca.embedding.scale import exponent_of, scaled
from inpca.errors import InputError
from inpca.predictions import Floats


def gower_centre(distances: Floats, row_means: Float64, grand_mean: float) -> Float64:
    """W of new models against the training models.

    W_wu = −½ (D_wu − mean_u' D_wu' − r_u + r̄). This is the centring (Gower 1968) that gives
    back W_uv of Eq. 6 when w is a training model; Eq. 9 as printed does not.

    Parameters
    ----------
    distances : D of the new models to the training models, (n_new, m)
    row_means : r of the training D, (m,)
    grand_mean : r̄

    Returns
    -------
    (n_new, m) float64
    """
    distances = as_float64(distances) if is_elsewhere(distances) else np.asarray(distances, float)
    if distances.ndim != 2 or distances.shape[1] != len(row_means):
        raise InputError(
            f"`distances` must have shape (new models, {len(row_means)} training models), not "
            f"{distances.shape}."
        )
    xp = namespace(distances)
    # The sum of a mean is within the range of float64 in another unit.
    largest = float(xp.max(xp.abs(distances))) if 0 not in distances.shape else 0.0
    exponent = exponent_of(largest)
    distances = scaled(distances, -exponent)
    means = xp.mean(distances, axis=1, keepdims=True)
    centred = (distances - means) - to_like(scaled(row_means - grand_mean, -exponent), distances)
    return cast(Float64, scaled(-0.5 * centred, exponent))


def coordinates(eigenvalues: Float64, eigenvectors: Float64) -> Float64:
    """X = U √|λ|, (m, k)."""
    return np.asarray(eigenvectors * np.sqrt(np.abs(eigenvalues)))


def project(
    distances: Floats,
    row_means: Float64,
    grand_mean: float,
    eigenvalues: Float64,
    eigenvectors: Float64,
) -> Float64:
    """Coordinates of new models: X_w = Σ_u W_wu U_u / (sign(λ) √|λ|).

    Without the sign (as printed with Eq. 9) every time-like coordinate flips. With it the
    projection of a training model is that model's own coordinates. Where λ is zero the embedding
    has no extent, and the coordinate is 0.

    Returns
    -------
    (n_new, k) float64, where `distances` is: on a GPU perhaps; all else is NumPy's
    """
    centred = gower_centre(distances, row_means, grand_mean)
    scale = np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues))
    known = scale != 0
    weighing = np.divide(eigenvectors, scale, out=np.zeros_like(eigenvectors), where=known)
    return cast(Float64, centred @ to_like(weighing, distances))
