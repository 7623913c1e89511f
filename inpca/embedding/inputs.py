"""What an estimator is fitted on: D of the models of `X`, and where these models come from."""

import os
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from inpca.backend import is_elsewhere
from inpca.distance.divergences import get_divergence
from inpca.distance.pairwise import pairwise_distances
from inpca.distance.planner import memory_budget
from inpca.distance.sinks import require_tiles
from inpca.embedding.labels import named_square, with_names_sklearn_knows
from inpca.embedding.selection import Query, SelectedDistances, query_models, select_distances
from inpca.embedding.sources import is_predictions, is_source
from inpca.embedding.tiles import check_distances
from inpca.embedding.training import TrainingModels, changed_models
from inpca.errors import InputError, ResourceError
from inpca.predictions import Floats, PredictionSource
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.units import format_bytes


@dataclass(frozen=True)
class Inputs:
    """What the solver works on.

    Attributes
    ----------
    distances : D
    training : its models
    n_features : see `InPCA.n_features_in_`
    rows : (m,) row of D of each model of `X`; None: they are in the same order
    names : of the models, where D is a table
    """

    distances: Floats | TiledMatrix | SelectedDistances
    training: TrainingModels
    n_features: int
    rows: NDArray[np.intp] | None = None
    names: pd.Index | None = None


def read_inputs(estimator: Any, X: Any, models: Query | None) -> Inputs:
    """D of the models of `X`, computed unless `X` is it or ``estimator.distances`` holds it.

    Parameters
    ----------
    estimator : an `InPCA` that is being fitted
    X, models : see `InPCA.fit`
    """
    if isinstance(X, TiledMatrix):
        return _of_matrix(estimator, X, models)
    if models is not None:
        raise InputError(
            "`models` selects from a TiledMatrix; of an ensemble embed ens.select(…), of an array "
            "the rows themselves."
        )
    if estimator.metric == "precomputed":
        array, names = _precomputed(estimator, X)
        return Inputs(array, TrainingModels(), int(array.shape[0]), names=names)
    get_divergence(estimator.metric, others=("precomputed",))  # refused before X is looked at
    training = _training_models(estimator, X)
    assert training.source is not None
    source = training.source
    m, n_samples, n_classes = source.shape
    check_n_components(estimator.n_components, m)
    known = _known_distances(estimator, X) if isinstance(X, Ensemble) else None
    if known is not None:
        return Inputs(known[0], training, n_samples * n_classes, known[1])
    distances = _compute(estimator, X if isinstance(X, Ensemble) else source, m)
    return Inputs(distances, training, n_samples * n_classes)


def check_n_components(k: Any, m: int) -> None:
    """Refuse `k` coordinates of `m` models if there are not as many."""
    if m < 2:
        raise InputError(f"`X` has {m} model (n_samples = {m}); an embedding needs at least 2.")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k < m:
        raise InputError(
            f"`n_components` must be an integer in 1 … {m - 1} for {m} models (W has rank at "
            f"most m − 1), not {k!r}."
        )


def _of_matrix(estimator: Any, matrix: TiledMatrix, models: Query | None) -> Inputs:
    if models is not None:
        chosen = query_models(matrix, models)
        check_n_components(estimator.n_components, len(chosen))
        selected, rows = select_distances(matrix, chosen)
        training = TrainingModels.of_selection(matrix, chosen)
        return Inputs(selected, training, len(chosen), rows)
    require_tiles(matrix, matrix.missing(), matrix.grid.n_tiles)
    return Inputs(matrix, TrainingModels.of_matrix(matrix), matrix.shape[0])


def _precomputed(estimator: Any, X: Any) -> tuple[Floats, pd.Index | None]:
    if is_predictions(X):
        raise InputError(
            "metric='precomputed' takes a distance matrix (m, m), not predictions; name the "
            "divergence, for example metric='bhattacharyya'."
        )
    if is_elsewhere(X):  # the first pass checks its entries, where they are
        check_n_components(estimator.n_components, int(X.shape[0]))
        return cast(Floats, X), None
    X, names = named_square(X, "X")
    # Finiteness is checked below, where the entry can be named.
    distances = validated(estimator, X, ensure_all_finite=False)
    check_n_components(estimator.n_components, len(distances))
    check_distances(distances)
    return cast(Floats, distances), names


def check_seed(random_state: Any) -> int:
    """Refuse what is no integer of at least 0."""
    if not isinstance(random_state, int | np.integer) or random_state < 0:
        raise InputError(f"`random_state` must be an integer of at least 0, not {random_state!r}.")
    return int(random_state)


def seed_of(random_state: Any) -> int:
    """A seed for NumPy's generators; from one of scikit-learn's kinds the next number is drawn.

    Raises
    ------
    InputError
        For what is no seed, and for negative ones.
    """
    if isinstance(random_state, int | np.integer):
        return check_seed(random_state)
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InputError(
            f"`random_state` must be an integer of at least 0, a RandomState or None, not "
            f"{random_state!r}."
        ) from error


class _NoNumbersError(InputError, TypeError):
    """scikit-learn's conventions ask for a TypeError."""


def validated(estimator: Any, X: Any, **options: Any) -> Any:
    """`X` as scikit-learn's `validate_data` gives it for `estimator`: float64 or float32.

    Raises
    ------
    InputError
        With what scikit-learn says of it; for text and dates, which it would take as numbers.
    """
    X = with_names_sklearn_knows(X)
    try:
        if not hasattr(X, "dtype") and isinstance(X, list | tuple):
            X = np.asarray(X)
        dtype = getattr(X, "dtype", None)
        if getattr(dtype, "kind", "f") in "USmM":
            raise InputError(f"`X` must hold real numbers, not {dtype}.")
        return validate_data(estimator, X, dtype=[np.float64, np.float32], **options)
    except InputError:
        raise
    except TypeError as error:
        raise _NoNumbersError(f"`X` must be an array of distances: {error}") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"`X` must be an array of distances: {error}") from error


def _training_models(estimator: Any, X: Any) -> TrainingModels:
    if isinstance(X, Ensemble):
        return TrainingModels.of_ensemble(X, estimator.sample_set, estimator.metric)
    if is_source(X):
        return TrainingModels.of_source(X, estimator.metric)
    shape = np.asarray(X).shape
    if len(shape) == 2:
        raise InputError(
            f"`X` has shape {shape}; predictions have three axes (models, samples, classes). "
            "If it is a distance matrix, use metric='precomputed'."
        )
    return TrainingModels.of_array(X, estimator.kind, estimator.metric)


def _known_distances(
    estimator: Any, ensemble: Ensemble
) -> tuple[SelectedDistances, NDArray[np.intp]] | None:
    """Distances of the models of `ensemble` from a matrix on disk of more models, if it is that.

    Where the models are the matrix' own, or it lacks some, `pairwise_distances` decides.
    """
    if estimator.distances is None or not os.path.lexists(estimator.distances):
        return None
    matrix = TiledMatrix.open(estimator.distances)
    if matrix.models is None or matrix.models.index.equals(ensemble.models.index):
        return None
    if not ensemble.models.index.isin(matrix.models.index).all():
        return None
    _check_same_models(estimator, matrix, ensemble)
    return select_distances(matrix, ensemble.models)


def _check_same_models(estimator: Any, matrix: TiledMatrix, ensemble: Ensemble) -> None:
    """Refuse a matrix of another divergence or sample set, or of other predictions."""
    asked = {"metric": get_divergence(estimator.metric).name, "sample_set": estimator.sample_set}
    for name, value in asked.items():
        if matrix.attrs.get(name) != value:
            raise InputError(
                f"`distances` {matrix.path} was computed with {name}={matrix.attrs.get(name)!r}, "
                f"not {value!r}; name another place."
            )
    changed = changed_models(matrix, ensemble.models, ensemble.predictions(estimator.sample_set))
    if changed:
        raise InputError(
            f"`distances` {matrix.path} was computed from other predictions of {len(changed)} of "
            f"the models, the first of them {changed[0]!r}; compute it again "
            "(pairwise_distances(…, restart=True)), or name another place."
        )


def _compute(estimator: Any, X: Ensemble | PredictionSource, m: int) -> Floats | TiledMatrix:
    budget = memory_budget(estimator.memory)
    if estimator.distances is None and 8 * m * m > budget:
        raise ResourceError(
            f"The distances of {m} models need {format_bytes(8 * m * m)} but `memory` is "
            f"{format_bytes(budget)}; name a place on disk for them: "
            "InPCA(distances='….zarr')."
        )
    return cast(
        "Floats | TiledMatrix",
        pairwise_distances(
            X,
            metric=estimator.metric,
            sample_set=estimator.sample_set,
            out=estimator.distances,
            memory=estimator.memory,
            executor=estimator.executor,
            progress=estimator.progress,
            backend=estimator.backend,
            device=estimator.device,
        ),
    )
