"""The scikit-learn face of InPCA: fit, transform, save, load."""

from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from inpca.backend import is_elsewhere, to_host
from inpca.checks import refuse_masked, usable_path
from inpca.embedding import saved
from inpca.embedding.checkpoint import KrylovCheckpoint
from inpca.embedding.inputs import Inputs, check_n_components, read_inputs, seed_of, validated
from inpca.embedding.joint import joint_coordinates
from inpca.embedding.labels import (
    as_frame,
    positions_of,
)
from inpca.embedding.pairs import Float64
from inpca.embedding.placing import place_distances, place_predictions
from inpca.embedding.project import coordinates
from inpca.embedding.selection import Query
from inpca.embedding.solve import Solution, SolveOptions, solve
from inpca.embedding.sources import is_predictions
from inpca.embedding.stress import explained_stress, explained_stress_root
from inpca.embedding.tiles import DistanceTiles, ExecutorArgument
from inpca.embedding.tiles import fingerprint as fingerprint_of
from inpca.embedding.training import TrainingModels
from inpca.embedding.warm import start_vectors
from inpca.embedding.weights import Weights, check_rank, read_weights
from inpca.errors import InputError
from inpca.executor import get_executor
from inpca.predictions import Floats, Kind, PredictionSource, as_floats
from inpca.reporting import ProgressArgument
from inpca.store.embedding import read_embedding, write_embedding
from inpca.store.ensemble import Ensemble
from inpca.store.files import after_commit
from inpca.store.matrix import TiledMatrix
from inpca.store.schema import check_name

Predictions: TypeAlias = ArrayLike | PredictionSource | Ensemble


class InPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Intensive principal component analysis: an isometric embedding in Minkowski space.

    The eigenpairs of W = −½ L D L (Eq. 6) of largest |λ| give coordinates X = U √|λ| with
    Σ_k signature_k (X_uk − X_vk)² = D_uv (Eq. 7) when all are kept. Time-like coordinates
    (negative λ) contribute negatively.

    Parameters
    ----------
    n_components : coordinates to keep, 1 ≤ n_components < m
    metric : divergence between models, see `pairwise_distances`, or ``"precomputed"``: `X` is the
        (m, m) distance matrix
    kind : what the numbers in an array of predictions are: ``"probs"``, ``"log_probs"``,
        ``"logits"`` or ``"sqrt_probs"``
    sample_set : which of an ensemble's sample sets to compare models on
    solver : ``"dense"`` (LAPACK), ``"lanczos"`` (block Lanczos, D stays where it is) or
        ``"auto"``: dense up to 4,000 models if it fits `memory`
    tol : Lanczos residual ‖W v − λ v‖ to reach, relative to |λ|; a training model's projection
        is then its own coordinate to about `tol`
    block_size : Lanczos vectors per pass over D; default 128
    max_passes : passes over D at most
    distances : path where the distance matrix is kept; needed when it does not fit in memory. An
        unfinished matrix there is gone on with, a finished one is used, also if it is of more
        models than those of the ensemble that is fitted.
    checkpoint : folder where Lanczos keeps each pass; a killed fit goes on from its last pass.
        `save` empties it.
    memory : bytes to stay within (``"4GB"``); default half of what is free
    executor : see `inpca.executor.get_executor`; default threads over all cores
    progress : None, True, or ``report(done, total, text)``
    random_state : seed of the Lanczos start block
    backend, device : who computes distances, see `pairwise_distances`, and the passes of Lanczos:
        D is taken to the GPU's memory once

    Attributes
    ----------
    embedding_ : (m, n_components) coordinates, nats^½
    eigenvalues_ : (n_components,) of W, largest |λ| first; exactly 0 if zero to rounding
    signature_ : (n_components,) +1 space-like, −1 time-like (a zero eigenvalue has +1)
    eigenvectors_ : (m, n_components); in each the entry of largest magnitude is positive
    residuals_ : (n_components,) ‖W v − λ v‖; a true eigenvalue lies within this of λ
    explained_stress_ : (n_components,) Eq. 8, cumulative, from the exact ‖W‖_F
    explained_stress_root_ : (n_components,) 1 − √(1 − explained stress): the published figures
    row_means_, grand_mean_, frobenius_norm_ : row means of D and their mean, ‖W‖_F
    weights_ : (m,) of the models, or None. With weights the eigenvectors are v = u / √w for u of
        √w W₀ √w, W₀ centred by weighted means; residuals, norm and stress are of that matrix
    joint_ : name → (m, n_components), the models on other sample sets, see `join`
    models_, sample_set_ : DataFrame of the training models and name of their sample set, or None
    samples_ : numbers of the samples of that set that D is over, increasing; None: all
    metric_ : divergence of the training distances; None if they came as an array, which says none
    solver_, n_passes_, converged_, clusters_, missed_bound_ : how it was reached, see
        `inpca.embedding.solve.Solution`
    n_features_in_ : m for distances; numbers per model, N · C, for predictions

    Notes
    -----
    Memory: dense 4 m² float64; Lanczos (passes + 6) · m · block_size float64 and a few tiles.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([0.0, 1.0, 3.0])[:, None]
    >>> InPCA(n_components=1, metric="precomputed").fit((x - x.T) ** 2).embedding_.round(6)
    array([[-1.333333],
           [-0.333333],
           [ 1.666667]])
    """

    embedding_: Float64
    eigenvalues_: Float64
    eigenvectors_: Float64
    signature_: np.ndarray
    weights_: Float64 | None
    joint_: dict[str, Float64]
    models_: pd.DataFrame | None
    sample_set_: str | None
    samples_: NDArray[np.intp] | None
    metric_: str | None
    _names: pd.Index | None

    def __init__(
        self,
        n_components: int = 3,
        *,
        metric: str = "bhattacharyya",
        kind: Kind = "probs",
        sample_set: str = "train",
        solver: str = "auto",
        tol: float = 1e-6,
        block_size: int | None = None,
        max_passes: int = 50,
        distances: str | Path | None = None,
        checkpoint: str | Path | None = None,
        memory: int | float | str | None = None,
        executor: ExecutorArgument = None,
        progress: ProgressArgument = None,
        random_state: int = 0,
        backend: str = "numba",
        device: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.metric = metric
        self.kind = kind
        self.sample_set = sample_set
        self.solver = solver
        self.tol = tol
        self.block_size = block_size
        self.max_passes = max_passes
        self.distances = distances
        self.checkpoint = checkpoint
        self.memory = memory
        self.executor = executor
        self.progress = progress
        self.random_state = random_state
        self.backend = backend
        self.device = device

    def fit(
        self,
        X: Predictions | TiledMatrix,
        y: None = None,
        *,
        models: Query | None = None,
        init: "InPCA | str | Path | None" = None,
        weights: Weights | None = None,
    ) -> "InPCA":
        """Embed the models of `X`.

        Parameters
        ----------
        X : predictions (m, N, C), an `Ensemble`, a `TiledMatrix`, or with
            ``metric="precomputed"`` a distance matrix (m, m): symmetric, zero diagonal. One on a
            GPU (an array of cupy) stays there; that it is symmetric is then taken on trust. The
            columns of a table (DataFrame, DataArray) are matched to its rows by name
        y : ignored
        models : of a `TiledMatrix`: embed these alone, without computing distances again; a query
            (``"epoch > 3"``, which keeps the reference models) or model keys
        init : a former embedding, fitted or its path, of some of these models; Lanczos starts from
            its eigenvectors and needs fewer passes
        weights : of the models (scikit-learn's ``sample_weight``; here a sample is an input):
            (m,), or a column of the models table. Weight 3 counts as three copies would, weight 0
            is a projection; reference models without a value in the column have weight 0

        Raises
        ------
        InputError
            For a bad `X` (names the entry or model), or n_components not in 1 … m − 1; for
            weights that are negative or not finite (names the model), or all 0.
        ResourceError
            If the distances or the solver do not fit `memory`; names both numbers.
        """
        get_executor(self.executor)  # a cluster would be refused only after the distances
        options = self._options()
        inputs = read_inputs(self, X, models)
        distances, rows = inputs.distances, inputs.rows
        m = distances.shape[0]
        check_n_components(self.n_components, m)
        counts = None
        if weights is not None:
            counts = read_weights(weights, inputs.training.models, m, inputs.names)
        if counts is not None:
            check_rank(self.n_components, counts)
        start = None if init is None else self._start(init, inputs, m)
        fingerprint = "" if self.checkpoint is None else fingerprint_of(distances)
        if rows is not None and counts is not None:
            counts = counts[np.argsort(rows)]
        solution = solve(distances, self.n_components, options, fingerprint, start, counts)
        self.n_features_in_ = inputs.n_features
        self._learn(solution if rows is None else solution.of_rows(rows))
        self._came_from(inputs.training)
        self._names = inputs.names
        self.joint_ = {}
        return self

    def fit_transform(
        self, X: Predictions | TiledMatrix, y: None = None, **options: Any
    ) -> Float64:
        """`fit`, and the coordinates of the training models, (m, n_components)."""
        return self.fit(X, **options).embedding_

    def transform(self, X: Predictions) -> Float64:
        """Coordinates of new models; the embedding does not change.

        Parameters
        ----------
        X : predictions (k, N, C) on the training samples, an `Ensemble`, or distances (k, m) of
            the new models to the training models. The columns of a table (DataFrame, DataArray)
            are matched by the names of the training models

        Returns
        -------
        (k, n_components) float64. A training model gets its own coordinates.

        Raises
        ------
        InputError
            If `X` has masked entries or names other models; if the training predictions, which
            are kept by reference, have changed since `fit`.
        """
        check_is_fitted(self)
        X = self._in_order(X)
        if is_elsewhere(X) and not is_predictions(X):
            return cast(Float64, to_host(place_distances(self, cast(Floats, X))))
        if self.metric == "precomputed" and not is_predictions(X):
            distances = validated(self, X, reset=False)
            return place_distances(self, distances)
        if not is_predictions(X):
            distances = as_floats(cast(ArrayLike, X), "X")
            if not np.isfinite(distances).all():
                raise InputError("`X` has NaN or infinite distances; drop those models.")
            return place_distances(self, distances)
        return place_predictions(self, X)

    def join(self, name: str, D: Floats | DistanceTiles) -> Float64:
        """Coordinates of the same models on another sample set, in this embedding (Eq. 10).

        Parameters
        ----------
        name : of the sample set (``"test"``); the coordinates are kept, and saved, as
            ``joint_[name]``
        D : distances between the models on that sample set, an array (m, m) in the order of the
            embedding, or a table or a `TiledMatrix`, whose models are found by their names

        Returns
        -------
        (m, n_components); see `inpca.embedding.joint.joint_coordinates`

        Raises
        ------
        InputError
            If `D` is of other models, or lacks one of them.
        """
        check_is_fitted(self)
        check_name(name, "`name`")
        coordinates = joint_coordinates(self, D, executor=self.executor, progress=self.progress)
        self.joint_ = {**self.joint_, name: coordinates}
        return coordinates

    def save(
        self, path: str | Path, *, overwrite: bool = False, with_training: bool = False
    ) -> None:
        """Write the embedding to `path` (Zarr, readable by xarray), whole or not at all.

        With `overwrite` an embedding that is there is replaced; otherwise it is an error.

        The training predictions are not written: of an ensemble its place and fingerprint are,
        so that `load_embedding` finds them; for predictions in memory see `load_embedding`. Of few
        models, made for the embedding, `with_training` writes them with it, from then on.
        """
        check_is_fitted(self)
        path = usable_path(path)
        if with_training:
            self._training.open(len(self.row_means_))  # refused before it is promised
            self._training.kept = True
        arrays, attrs = saved.dump(self, path)
        write_embedding(path, arrays, self.models_, attrs, overwrite=overwrite)
        if self.checkpoint is not None:
            with after_commit(path):
                KrylovCheckpoint.at(self.checkpoint, {}).clear()

    def _start(self, init: "InPCA | str | Path", inputs: Inputs, m: int) -> Float64:
        """Vectors of a former embedding, in the order of the rows of D."""
        former = load_embedding(init) if isinstance(init, str | Path) else init
        if not isinstance(former, InPCA):
            raise InputError(f"`init` must be an InPCA that is fitted, or its path, not {init!r}.")
        check_is_fitted(former)
        vectors = start_vectors(former, inputs.training.models, m)
        if inputs.rows is None:
            return vectors
        start = np.empty_like(vectors)
        start[inputs.rows] = vectors
        return start

    @property
    def _model_names(self) -> pd.Index | None:
        """Names of the training models: keys of an ensemble's, or those of a table of distances."""
        return self._names if self.models_ is None else self.models_.index

    def _in_order(self, X: Any) -> Any:
        """`X` with its columns in the order of the training models, if it is a table."""
        refuse_masked(X, "X")
        frame = as_frame(X)
        if frame is None or frame.shape[1] != len(self.row_means_):
            return X if frame is None else frame
        order = positions_of(self._model_names, frame.columns, "X", "the training models'")
        return frame if order is None else frame.iloc[:, order]

    def _came_from(self, training: TrainingModels) -> None:
        self._training = training
        self._names = None
        self.models_ = None if training.models is None else training.models.copy()
        self.sample_set_ = training.sample_set
        self.samples_ = training.samples
        self.metric_ = training.metric

    def _learn(self, solution: Solution) -> None:
        for name in (
            *saved.ARRAYS,
            "weights_",
            "grand_mean_",
            "frobenius_norm_",
            "n_passes_",
            "missed_bound_",
        ):
            setattr(self, name, getattr(solution, name.rstrip("_")))
        for name in saved.ARRAYS:  # as they lie when they come from disk: BLAS then rounds alike
            setattr(self, name, np.ascontiguousarray(getattr(self, name)))
        self.solver_ = solution.solver
        self.converged_ = solution.converged
        self.clusters_ = solution.clusters
        self._derive()

    def _derive(self) -> None:
        """What follows from the eigenpairs and the norm."""
        self.signature_ = np.where(self.eigenvalues_ < 0, -1, 1)
        self.embedding_ = coordinates(self.eigenvalues_, self.eigenvectors_)
        self.explained_stress_ = explained_stress(self.eigenvalues_, self.frobenius_norm_)
        self.explained_stress_root_ = explained_stress_root(self.eigenvalues_, self.frobenius_norm_)

    def _options(self) -> SolveOptions:
        return SolveOptions(
            solver=self.solver,
            tol=self.tol,
            block_size=self.block_size,
            max_passes=self.max_passes,
            random_state=seed_of(self.random_state),
            checkpoint=self.checkpoint,
            memory=self.memory,
            executor=self.executor,
            progress=self.progress,
            backend=self.backend,
            device=self.device,
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.eigenvalues_)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        precomputed = self.metric == "precomputed"
        tags.input_tags.pairwise = precomputed
        tags.input_tags.positive_only = precomputed
        tags.input_tags.two_d_array = precomputed
        tags.input_tags.three_d_array = not precomputed
        return tags


def load_embedding(
    path: str | Path, *, training: ArrayLike | None = None, kind: Kind | None = None
) -> InPCA:
    """A fitted `InPCA` from what `InPCA.save` wrote; it can `transform`.

    Parameters
    ----------
    path : the saved embedding
    training : the predictions in memory that the embedding was fitted on, if it was; verified
        against their fingerprint. Without them `transform` takes distances. An embedding of an
        ensemble finds its predictions itself.
    kind : of `training`; default the kind that the embedding was fitted with

    Raises
    ------
    InputError
        If `path` is no embedding, or `training` is not what it was made from.
    """
    path = usable_path(path).absolute()
    arrays, models, attrs = read_embedding(path)
    embedding = InPCA(**saved.parameters(arrays, attrs, path))
    saved.restore(embedding, arrays, attrs, models, path)
    embedding._derive()
    if training is not None:
        embedding._training.attach(training, kind or embedding.kind)
    return embedding
