"""How much of W and of D an embedding keeps: Eq. 8, its published variant, and Eq. 12."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.backend import is_elsewhere, to_host
from inpca.checks import refuse_masked
from inpca.embedding.labels import (
    as_frame,
    as_series,
    named_square,
    positions_of,
)
from inpca.embedding.pairs import Float64
from inpca.embedding.scale import check_range, exponent_of, scaled
from inpca.embedding.tiles import DistanceTiles, ExecutorArgument, as_tiles, map_tiles
from inpca.embedding.weights import read_weights
from inpca.errors import InputError
from inpca.predictions import Floats
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile

# Models on a side of the piece of a tile that is worked on at a time: fits in a core's cache.
_PIECE = 128


def explained_stress(eigenvalues: ArrayLike, frobenius_norm: float) -> Float64:
    """Eq. 8 for d = 1 … k: 1 − Σ_{i>d} λ_i² / Σ λ_i², as Σ_{i≤d} λ_i² / ‖W‖_F².

    Parameters
    ----------
    eigenvalues : (k,) the kept ones, by decreasing magnitude
    frobenius_norm : ‖W‖_F, exact, not a sum over the kept ones

    Returns
    -------
    (k,) in [0, 1], not decreasing; 1 where W is zero (identical models: nothing to explain)
    """
    if frobenius_norm == 0:
        return np.ones(len(np.asarray(eigenvalues)))
    kept = np.cumsum((np.asarray(eigenvalues, dtype=np.float64) / frobenius_norm) ** 2)
    return np.minimum(kept, 1.0)


def explained_stress_root(eigenvalues: ArrayLike, frobenius_norm: float) -> Float64:
    """1 − √(1 − explained stress) for d = 1 … k, with which the published figures were made.

    The same parameters and return as `explained_stress`; 1 minus the *relative error* of W in
    Frobenius norm, where Eq. 8 is 1 minus its square.
    """
    return np.asarray(1 - np.sqrt(1 - explained_stress(eigenvalues, frobenius_norm)))


def explained_pairwise_distances(
    D: Floats | DistanceTiles,
    embedding: ArrayLike,
    signature: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    executor: ExecutorArgument = None,
) -> Float64:
    """Eq. 12 for d = 1 … k: 1 − Σ_ij |D_ij − ‖X_i − X_j‖²_d| / Σ_ij D_ij.

    Parameters
    ----------
    D : (m, m) array, table or `TiledMatrix`; symmetric, the upper triangle is read once
    embedding : X, (m, k). A table whose rows have names is matched to a `D` that has them
    signature : (k,) +1 or −1: ‖X_i − X_j‖²_d = Σ_{c≤d} signature_c (X_ic − X_jc)²
    weights : (m,) how often each model counts in both sums; default once
    executor : see `inpca.executor.get_executor`

    Returns
    -------
    (k,) float64. Not monotone in d, and negative where a truncated embedding is worse than none.

    Notes
    -----
    Streams over tiles: a few tiles per worker in memory, never (m, m). O(m² k) work.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [3.0]])
    >>> explained_pairwise_distances((x - x.T) ** 2, x, [1])
    array([1.])
    """
    named = as_frame(embedding) is not None or as_series(weights) is not None
    names = _names_of(D) if named else None
    tiles = as_tiles(D)
    points = _points(embedding, names)
    refuse_masked(signature, "signature")
    signs = np.asarray(signature, dtype=np.float64)
    _check(tiles.grid.n_models, points, signs)
    counts = None
    if weights is not None:
        counts = read_weights(weights, None, tiles.grid.n_models, names)
        counts = scaled(counts, -exponent_of(float(counts.max())))
    errors, total = [], []

    @np.errstate(over="ignore", invalid="ignore")  # refused below
    def measure(tile: Tile, stored: Floats) -> tuple[Float64, float]:
        rows, columns = tiles.grid.band(tile[0]), tiles.grid.band(tile[1])
        values = np.asarray(to_host(stored), dtype=np.float64)
        count = None if counts is None else np.multiply.outer(counts[rows], counts[columns])
        whole = values.sum() if count is None else np.vdot(values, count)
        twice = 1 if tile[0] == tile[1] else 2
        parts = _absolute_errors(values, points[rows], points[columns], signs, count)
        return twice * parts, twice * float(whole)

    for _, (parts, whole) in map_tiles(measure, tiles, executor):
        errors.append(parts)
        total.append(whole)
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.sum(errors, axis=0)
        check_range(np.append(error, np.abs(total).sum()), "Sums of distances")
    whole = math.fsum(total)
    if not whole > 0:
        raise InputError("`D` is zero everywhere: there are no distances to explain.")
    return np.asarray(1 - error / whole)


def _names_of(D: Any) -> pd.Index | None:
    """Names of the models of `D`, where it is a table or was computed from an ensemble."""
    if isinstance(D, TiledMatrix):
        models = D.models
        return None if models is None else models.index
    return None if hasattr(D, "read_tile") or is_elsewhere(D) else named_square(D, "D")[1]


def _points(embedding: ArrayLike, names: pd.Index | None) -> Float64:
    """Coordinates in the order of the models of D, by name if they are a table."""
    refuse_masked(embedding, "embedding")
    frame = as_frame(embedding)
    if frame is not None and names is not None:
        order = positions_of(names, frame.index, "embedding", "those of the models of `D`")
        embedding = frame if order is None else frame.iloc[order]
    return np.asarray(embedding, dtype=np.float64)


def _absolute_errors(
    distances: Float64,
    rows: Float64,
    columns: Float64,
    signs: Float64,
    counts: Float64 | None = None,
) -> Float64:
    """Σ |D − ‖X − X‖²_d| over a tile for each d, piece by piece; each pair `counts` times."""
    errors = np.zeros(len(signs))
    for i in range(0, len(rows), _PIECE):
        for j in range(0, len(columns), _PIECE):
            piece = slice(i, i + _PIECE), slice(j, j + _PIECE)
            left = distances[piece].copy()
            x, y = rows[i : i + _PIECE], columns[j : j + _PIECE]
            for d, sign in enumerate(signs):
                difference = np.subtract.outer(x[:, d], y[:, d])
                difference *= difference
                difference *= sign
                left -= difference
                absolute = np.abs(left)
                errors[d] += absolute.sum() if counts is None else np.vdot(absolute, counts[piece])
    return errors


def _check(n_models: int, points: Float64, signs: Float64) -> None:
    if points.ndim != 2 or len(points) != n_models:
        raise InputError(
            f"`embedding` must have shape ({n_models}, k), one row per model of `D`, not "
            f"{points.shape}."
        )
    if signs.shape != points.shape[1:] or not np.isin(signs, (-1, 1)).all():
        raise InputError(
            f"`signature` must hold +1 or −1 for each of the {points.shape[1]} columns of "
            f"`embedding`, not {signs}."
        )
