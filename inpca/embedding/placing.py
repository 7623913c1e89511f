"""New models in a fitted embedding: from predictions, by distances, to coordinates."""

from typing import Any, cast

import numpy as np

from inpca.distance.pairwise import pairwise_distances
from inpca.distance.planner import memory_budget
from inpca.embedding.pairs import Float64
from inpca.embedding.project import project
from inpca.embedding.sources import Rows, is_source
from inpca.embedding.weights import counted_vectors
from inpca.errors import InputError
from inpca.predictions import ArrayPredictions, Floats, PredictionSource
from inpca.store.ensemble import Ensemble


def place_distances(fitted: Any, distances: Floats) -> Float64:
    """Coordinates (k, n_components) of the models whose `distances` (k, m) to a fitted `InPCA`'s
    training models are given; they lie where the distances do."""
    vectors = counted_vectors(fitted.eigenvectors_, fitted.weights_)
    return project(distances, fitted.row_means_, fitted.grand_mean_, fitted.eigenvalues_, vectors)


def place_predictions(fitted: Any, X: Any) -> Float64:
    """Coordinates of models by their predictions: distances in row batches that fit in memory.

    Parameters
    ----------
    fitted : the `InPCA`
    X : predictions (k, N, C) of its kind, a `PredictionSource` or an `Ensemble`

    Raises
    ------
    InputError
        If `X` is not on the samples of the training models, or those are not to be found.
    """
    new, m = _as_source(fitted, X), len(fitted.row_means_)
    training = fitted._training.open(m)
    if new.shape[1:] != training.shape[1:]:
        raise InputError(
            f"`X` has {new.shape[1]} samples and {new.shape[2]} classes but the embedding "
            f"was made from {training.shape[1]} and {training.shape[2]}."
        )
    # Each batch streams the training predictions once: as few batches as memory allows. A
    # quarter of it goes to the distances, three are left to the distance engine.
    rows = max(1, memory_budget(fitted.memory) // (4 * 8 * m))
    parts = [
        place_distances(
            fitted,
            pairwise_distances(
                Rows(new, start, start + rows),
                training,
                metric=fitted._training.metric or fitted.metric,
                memory=fitted.memory,
                executor=fitted.executor,
                progress=fitted.progress,
                backend=fitted.backend,
                device=fitted.device,
            ),
        )
        for start in range(0, new.shape[0], rows)
    ]
    return np.concatenate(parts)


def _as_source(fitted: Any, X: Any) -> PredictionSource:
    if isinstance(X, Ensemble):
        sample_set = fitted._training.sample_set or fitted.sample_set
        fitted._training.check_sample_set(X, sample_set)
        return cast(PredictionSource, X.predictions(sample_set))
    return cast(PredictionSource, X) if is_source(X) else ArrayPredictions(X, fitted.kind)
