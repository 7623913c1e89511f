"""The embedding that four points make, with all models projected into it (Fig. 10 and 11)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import in_order_of
from inpca.distance.request import Models, source_of
from inpca.embedding.inpca import InPCA
from inpca.errors import InputError
from inpca.executor import Executor
from inpca.geometry.averages import average
from inpca.geometry.ends import check_labels
from inpca.geometry.numbers import real_numbers
from inpca.geometry.progress import progress as progress_of
from inpca.predictions import ArrayPredictions, Floats, Kind, PredictionSource
from inpca.reporting import ProgressArgument
from inpca.store.ensemble import Ensemble
from inpca.store.predictions import IGNORANCE, TRUTH

Float64 = NDArray[np.float64]

# A model further than this many σ from s counts for less than 4e-4 of one at s: an average of
# such models alone is not one of models near s.
_FAR = 4.0
# Below this, relative to the largest, a weight is lost in the rounding of the sum; such models
# then need not be read.
_NEGLIGIBLE = 1e-20


@dataclass(frozen=True)
class FourPoint:
    """All models in the embedding of four points.

    Attributes
    ----------
    embedding : the `InPCA` of the four points, in the order ignorance, truth, average at s₁,
        average at s₂ (``embedding.models_``); it projects any other model. Saved with
        ``embedding.save(path, with_training=True)`` it does so after `load_embedding` too
    coordinates : (m, n_components) of the models
    progress : (m,) s of each model, by which it counted in the averages
    models : their table, or None for predictions in memory
    """

    embedding: InPCA
    coordinates: Float64
    progress: Float64
    models: pd.DataFrame | None


def four_point(
    X: Models,
    labels: ArrayLike | None = None,
    *,
    at: tuple[float, float] = (0.3, 0.7),
    sigma: float = 0.05,
    s: ArrayLike | None = None,
    n_components: int = 3,
    metric: str = "bhattacharyya",
    kind: Kind = "probs",
    sample_set: str = "train",
    memory: int | float | str | None = None,
    executor: str | int | Executor | None = None,
    progress: ProgressArgument = None,
) -> FourPoint:
    """Embed ignorance, truth and the averages of models near two values of progress; project all.

    The averages are P_s ∝ Σ_w exp(−(s_w − s)² / 2σ²) P_w (Eq. 11), arithmetic means of the
    probabilities. The four points span three dimensions: the straight line from ignorance to
    truth, and stand-ins for the tangents to the trainings at its ends.

    Parameters
    ----------
    X : predictions (m, N, C) of `kind`, an `Ensemble`, or any `PredictionSource`
    labels : (N,) true classes; of an ensemble its sample set's unless others are given
    at : s₁ and s₂
    sigma : σ; the paper uses 0.05
    s : (m,) progress of each model, if it is known; otherwise it is computed (Eq. 4)
    n_components : coordinates to keep, at most 3
    metric, kind, sample_set : see `InPCA`
    memory, executor, progress : see `InPCA`

    Raises
    ------
    InputError
        For `at` outside [0, 1] or twice the same, `sigma` that is not positive, labels that are
        no classes, or no model with a progress within 4 σ of s₁ or s₂.

    Notes
    -----
    Reference models in an ensemble's view (ignorance, truth, stored averages) are projected, but
    take no part in the averages.
    Streams: at most four passes over the predictions, four models in memory. Compare with
    `inpca.explained_pairwise_distances` of ``coordinates`` and ``embedding.signature_``.

    Examples
    --------
    >>> import inpca
    >>> geodesic = inpca.geodesic([[0.5, 0.5]], [[1.0, 0.0]], np.linspace(0, 1, 21))
    >>> found = four_point(geodesic, [0], n_components=2)
    >>> found.coordinates.shape, found.embedding.models_.index.tolist()
    ((21, 2), ['@ignorance', '@truth', '@progress-0.3', '@progress-0.7'])
    """
    source = source_of(X, kind, sample_set, "X")
    _check(at, sigma)
    true = _labels(X, labels, sample_set, source)
    positions = _progress(s, source, true, memory, executor, progress)
    taking_part = _taking_part(X, source.shape[0])
    means = [
        average(
            source,
            "arithmetic",
            weights=gaussian_weights(positions, one, sigma, taking_part),
            kind="log_probs",
            memory=memory,
            executor=executor,
            progress=progress,
        )
        for one in at
    ]
    points = _Points(source, true, at, means, X, sample_set)
    options: dict[str, Any] = {"memory": memory, "executor": executor, "progress": progress}
    embedding = InPCA(n_components, metric=metric, kind=kind, sample_set=sample_set, **options)
    embedding.fit(points)
    return FourPoint(
        embedding,
        embedding.transform(source),
        positions,
        X.models if isinstance(X, Ensemble) else None,
    )


def gaussian_weights(
    positions: Float64, s: float, sigma: float, taking_part: NDArray[np.bool_] | None = None
) -> Float64:
    """exp(−(s_w − s)² / 2σ²) of Eq. 11 up to a factor, the largest being 1.

    Parameters
    ----------
    positions : (m,) progress of each model
    taking_part : (m,) which models may count; default all

    Returns
    -------
    (m,) in [0, 1]; exactly 0 where the weight would be lost in rounding

    Raises
    ------
    InputError
        If no model is within 4 σ of s.
    """
    distance = np.abs(positions - s) / sigma
    if taking_part is not None:
        distance = np.where(taking_part, distance, np.inf)
    nearest = float(distance.min(initial=np.inf))
    if nearest > _FAR:
        where = "there is none" if math.isinf(nearest) else f"the nearest is {nearest:.1f} σ away"
        raise InputError(
            f"`at`: no model has a progress within {_FAR:g} σ of {s:g} (σ = {sigma:g}; {where}); "
            "choose a value that the trainings pass, or raise `sigma`."
        )
    weights = np.exp(0.5 * (nearest**2 - distance**2))
    return np.where(weights < _NEGLIGIBLE, 0.0, weights)


class _Points(ArrayPredictions):
    """The four points; it says what they are, and which samples they are on.

    Attributes
    ----------
    models : table of the four
    sample_set, sample_set_fingerprint : of an ensemble, None otherwise
    """

    def __init__(
        self,
        source: PredictionSource,
        labels: NDArray[np.int64],
        at: tuple[float, float],
        means: list[Floats],
        X: Models,
        sample_set: str,
    ) -> None:
        _, n_samples, n_classes = source.shape
        points = np.full((4, n_samples, n_classes), -np.inf, source.dtype)
        points[0] = -math.log(n_classes)
        points[1, np.arange(n_samples), labels] = 0.0
        points[2], points[3] = means
        super().__init__(points, "log_probs", "points")
        keys = [IGNORANCE, TRUTH, *(f"@progress-{s:g}" for s in at)]
        self.models = pd.DataFrame(
            {"kind": "reference", "progress": [0.0, 1.0, *map(float, at)]},
            index=pd.Index(keys, name="model"),
        )
        self.sample_set: str | None = None
        self.sample_set_fingerprint: str | None = None
        if isinstance(X, Ensemble):
            self.sample_set = sample_set
            self.sample_set_fingerprint = X.sample_sets[sample_set].fingerprint


def _check(at: tuple[float, float], sigma: float) -> None:
    if len(at) != 2 or not all(0 <= s <= 1 for s in at) or f"{at[0]:g}" == f"{at[1]:g}":
        raise InputError(
            f"`at` must be two different values of progress in [0, 1], not {at!r}; the paper uses "
            "(0.3, 0.7) and (0.2, 0.8)."
        )
    if not 0 < sigma < math.inf:
        raise InputError(f"`sigma` must be positive, a width in progress, not {sigma!r}.")


def _labels(
    X: Models, labels: ArrayLike | None, sample_set: str, source: PredictionSource
) -> NDArray[np.int64]:
    if labels is None and isinstance(X, Ensemble):
        labels = X.sample_sets[sample_set].labels
    if labels is None:
        raise InputError(
            "`labels` (the true classes) are needed for the truth; an Ensemble has them."
        )
    return check_labels(labels, *source.shape[1:])


def _progress(
    s: ArrayLike | None,
    source: PredictionSource,
    labels: NDArray[np.int64],
    memory: int | float | str | None,
    executor: str | int | Executor | None,
    progress: ProgressArgument,
) -> Float64:
    if s is None:
        found: Float64 = progress_of(
            source, labels, memory=memory, executor=executor, progress=progress
        )
        return found
    positions = real_numbers(in_order_of(s, getattr(source, "names", None), "s"), "s")
    if positions.shape != source.shape[:1] or not ((positions >= 0) & (positions <= 1)).all():
        raise InputError(
            f"`s` must be the progress of each of the {source.shape[0]} models, in [0, 1]; leave "
            "it out to have it computed."
        )
    return positions


def _taking_part(X: Models, n_models: int) -> NDArray[np.bool_]:
    if not isinstance(X, Ensemble):
        return np.ones(n_models, dtype=bool)
    return np.asarray(X.models["kind"] != "reference", dtype=bool)
