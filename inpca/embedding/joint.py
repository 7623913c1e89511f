"""The models of an embedding on another sample set, in the same picture (Eq. 10)."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.backend import is_elsewhere, to_host, to_like
from inpca.distance.sinks import require_tiles
from inpca.embedding.centring import CentredOperator
from inpca.embedding.labels import named_square, positions_of
from inpca.embedding.pairs import Float64
from inpca.embedding.selection import SelectedDistances, select_distances
from inpca.embedding.tiles import (
    DistanceTiles,
    ExecutorArgument,
    as_tiles,
    check_distances,
    place_of,
)
from inpca.embedding.weights import counted_vectors
from inpca.errors import InputError
from inpca.predictions import Floats, as_floats
from inpca.reporting import ProgressArgument, reporting
from inpca.store.matrix import TiledMatrix


def joint_coordinates(
    embedding: Any,
    D: Floats | DistanceTiles,
    *,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> Float64:
    """Where the models of an embedding lie by their distances D' on other samples (Eq. 10).

    W'_wu = −½ (D'_wu − r_u − r_w + r̄) with the row means r of the embedding's own D, projected:
    X'_w = Σ_u W'_wu U_u / (sign(λ) √|λ|). Models that are as far from each other on the other
    samples get the coordinates they have. Eq. 10 is misprinted as Eq. 9 is (which means are
    subtracted, the missing sign); what depends on w alone does not matter, because the entries of
    each eigenvector sum to zero. No distance between a model on one sample set and a model on
    another enters: there is none.

    Parameters
    ----------
    embedding : a fitted `InPCA`; weighted too
    D : distances between its models on the other samples: an array (m, m) in their order, or a
        `TiledMatrix`, whose models are found by their keys, in any order and among others; the
        names of a table (DataFrame, DataArray) must be those of the embedding's models
    executor, progress : see `InPCA`

    Returns
    -------
    (m, k) float64

    Raises
    ------
    InputError
        If `D` is of other models, lacks one of them, or is not finished.

    Notes
    -----
    One pass over D'. Also with a D of more samples than the embedding was made from: how well a
    subset of samples explains all (Fig. 6B).
    """
    scale = np.sign(embedding.eigenvalues_) * np.sqrt(np.abs(embedding.eigenvalues_))
    vectors = counted_vectors(embedding.eigenvectors_, embedding.weights_)
    weighing = np.divide(vectors, scale, out=np.zeros_like(vectors), where=scale != 0)
    distances, rows = match_distances(embedding, D)
    with reporting(progress, "joint embedding") as report:

        def tile(done: int, total: int) -> None:
            report(done, total, "joint embedding")

        operator = CentredOperator(distances, executor, tile)
        ordered = weighing if rows is None else weighing[np.argsort(rows)]
        image = to_host(operator.apply(to_like(ordered, place_of(as_tiles(distances)))))
    means = operator.row_means
    if rows is not None:
        image, means = image[rows], means[rows]
    # W' of D' is centred on the models as they lie on the other samples; these means are where
    # that centre lies in the embedding.
    return np.asarray(image - 0.5 * ((means - embedding.row_means_) @ weighing))


def match_distances(
    embedding: Any, D: Floats | DistanceTiles
) -> tuple[Floats | DistanceTiles, NDArray[np.intp] | None]:
    """Distances between the models of an embedding, and the row of each model in them.

    Parameters
    ----------
    embedding, D : see `joint_coordinates`

    Returns
    -------
    distances : those of its m models alone
    rows : (m,), or None: the models are in the order of the embedding
    """
    m = len(embedding.row_means_)
    if isinstance(D, TiledMatrix):
        if D.models is not None and embedding.models_ is not None:
            return _by_key(embedding.models_, D)
        require_tiles(D, D.missing(), D.grid.n_tiles)
    D = _in_order(embedding, D)
    distances = as_tiles(D)
    if distances.grid.n_models != m:
        raise InputError(
            f"`D` must be the distances between the {m} models of the embedding, in their order, "
            f"not between {distances.grid.n_models}."
        )
    if not hasattr(D, "read_tile") and not is_elsewhere(D):
        check_distances(as_floats(D, "D"))
    return distances, None


def _in_order(embedding: Any, D: Any) -> Any:
    """`D` with rows and columns in the order of the embedding's models, if it is a table."""
    if hasattr(D, "read_tile") or is_elsewhere(D):
        return D
    square, names = named_square(D, "D")
    if names is None or len(names) != len(embedding.row_means_):
        return square
    order = positions_of(embedding._model_names, names, "D", "those of the embedding's models")
    return square if order is None else square.iloc[order, order]


def _by_key(
    models: pd.DataFrame, matrix: TiledMatrix
) -> tuple[SelectedDistances, NDArray[np.intp]]:
    assert matrix.models is not None
    lacking = models.index.difference(matrix.models.index)
    if len(lacking):
        raise InputError(
            f"`D` {matrix.path} must hold all models of the embedding, but lacks {len(lacking)} of "
            f"{len(models)}, the first of them {str(lacking[0])!r}; compute the distances of the "
            "same models on both sample sets, or embed those that both have (models=…)."
        )
    return select_distances(matrix, models)
