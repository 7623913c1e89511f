"""What the pictures of an ensemble are made of: each piece is computed once, when asked for."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.capped import remark_on
from inpca.distance.pairwise import pairwise_distances
from inpca.embedding.inpca import InPCA, load_embedding
from inpca.embedding.joint import match_distances
from inpca.embedding.stress import explained_pairwise_distances
from inpca.embedding.subsets import explained_by_samples
from inpca.errors import InputError
from inpca.geometry.attribution import Attribution, attribution
from inpca.geometry.four_point import FourPoint, four_point
from inpca.geometry.importance import Importance, configuration_importance
from inpca.geometry.learning import learning_table
from inpca.geometry.progress import progress as progress_of
from inpca.geometry.reindexed import GeodesicModel
from inpca.geometry.trajectory_distances import (
    TrajectoryDistances,
    load_trajectory_distances,
    trajectory_distances,
)
from inpca.geometry.tube import DistancesAlong, TubeWidths, distances_to_geodesic, tube_widths
from inpca.plotting.page_data import default_color
from inpca.plotting.scene import Scene, read_scene
from inpca.plotting.settings import Settings
from inpca.plotting.style import EmbeddingLike, Placed
from inpca.plotting.table import is_reference
from inpca.predictions import Floats
from inpca.reporting import ProgressArgument
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.store.selection import select_rows
from inpca.store.trajectories import StoredTrajectories, open_trajectories, trajectories_path

# Points of the geodesic that its curve is drawn through, and those that Fig. 3D marks.
_CURVE = np.linspace(0.0, 1.0, 41)
MARKS = {"A, s = 0.01": 0.01, "B, s = 0.5": 0.5, "C, s = 0.99": 0.99}
# Values of progress at which trajectories are compared when nothing is stored.
_POINTS = 25
# Numbers of samples in Fig. 6B, as far as there are more than that.
_SAMPLE_COUNTS = (3, 10, 30, 100, 300, 1000, 3000)


@dataclass(frozen=True)
class Subject:
    """One embedding of an ensemble, and what pictures need beside it.

    Attributes
    ----------
    ensemble : all models of the folder
    name : of the embedding, and of the distances that it was made from
    color : column to colour by; chosen by the table if empty
    memory, executor, progress : see `inpca.pairwise_distances`
    settings : what else pictures are told
    """

    ensemble: Ensemble
    name: str = "train"
    color: str = ""
    memory: int | float | str | None = None
    executor: str | int | None = None
    progress: ProgressArgument = None
    settings: Settings = field(default_factory=Settings)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments that every computation takes."""
        return {"memory": self.memory, "executor": self.executor, "progress": self.progress}

    @cached_property
    def embedding(self) -> InPCA:
        """The embedding `name`, able to project."""
        found = load_embedding(self.ensemble.embeddings_path(self.name))
        found.set_params(**self.options)
        return found

    @cached_property
    def models(self) -> pd.DataFrame:
        """One row for each model of the embedding."""
        models = self.embedding.models_
        if models is None:
            raise InputError(
                f"The embedding {self.name!r} keeps no list of models; embed distances of this "
                "ensemble (inpca embed)."
            )
        return models

    @cached_property
    def scene(self) -> Scene:
        """The embedding with its table, checked."""
        return read_scene(self.embedding, self.models)

    @property
    def chosen_color(self) -> str | None:
        """The column to colour by; None if the table has none that is worth it."""
        return self.color or default_color(self.scene)

    @property
    def sample_set(self) -> str:
        """The sample set that the embedding is of."""
        return self.embedding.sample_set_ or self.embedding.sample_set

    @property
    def labels(self) -> NDArray[np.int64]:
        """True classes of its samples."""
        return self.ensemble.sample_sets[self.sample_set].labels

    @property
    def metric(self) -> str:
        """The divergence of the embedding's distances."""
        metric = self.embedding.metric_
        if metric is None:
            raise InputError(
                f"The embedding {self.name!r} does not know the divergence of its distances, which "
                "came as an array; embed distances of this ensemble (inpca embed)."
            )
        return metric

    @property
    def remark(self) -> str:
        """Which runs are behind contributions that the distances capped; empty for none."""
        runs = set(self.models["run"]) if "run" in self.models else set()
        return remark_on(self.ensemble, self.sample_set, self.embedding.metric_, runs)

    # -- what is shown ------------------------------------------------------------------------

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """Rows of the models that are drawn: those selected, and ignorance and truth."""
        models = self.models
        if not self.settings.select:
            return np.arange(len(models))
        ends = np.array([str(key).startswith("@") for key in models.index], dtype=bool)
        chosen = select_rows(models[~ends], self.settings.select)
        return np.flatnonzero(ends | models.index.isin(chosen.index))

    @cached_property
    def shown(self) -> EmbeddingLike:
        """The embedding with the models that are drawn alone; they lie where they lie."""
        if len(self.rows) == len(self.models):
            return self.embedding
        return Placed.of(self.embedding, self.embedding.embedding_[self.rows])

    @property
    def shown_models(self) -> pd.DataFrame:
        """The table of the models that are drawn."""
        return self.models.iloc[self.rows]

    @cached_property
    def own(self) -> Ensemble:
        """The checkpoints that are drawn, without references and averages."""
        models = self.shown_models
        keys = list(models.index[~is_reference(models)])
        if not keys:
            raise InputError(
                f"`select` {self.settings.select!r} leaves no checkpoint to draw; widen it."
            )
        return self.ensemble.select(keys)

    @property
    def work(self) -> float:
        """Operations of the distances: two for each pair of models, sample and class."""
        return float(len(self.models)) ** 2 * len(self.labels) * self.ensemble.n_classes

    @cached_property
    def matrix(self) -> TiledMatrix:
        """The distances `name`."""
        return TiledMatrix.open(self.ensemble.distances_path(self.name))

    @cached_property
    def model_progress(self) -> NDArray[np.float64]:
        """Progress of each model of the embedding (m,), NaN for references."""
        found = np.full(len(self.models), np.nan)
        own = ~is_reference(self.models)
        view = self.ensemble.select(list(self.models.index[own]))
        found[own] = progress_of(view, sample_set=self.sample_set, **self.options)
        return found

    # -- the geodesic -------------------------------------------------------------------------

    @cached_property
    def geodesic(self) -> NDArray[np.float64]:
        """Coordinates of points on the geodesic from ignorance to truth, (n_points, k)."""
        points = [self.embedding.transform(self._on_geodesic(float(s))) for s in _CURVE]
        return np.concatenate(points)

    @cached_property
    def marks(self) -> dict[str, NDArray[np.float64]]:
        """Distances of all models from three points of the geodesic, (m,) each."""
        source = self._embedded.predictions(self.sample_set)
        options = self.options
        return {
            name: pairwise_distances(source, self._on_geodesic(s), metric=self.metric, **options)[
                :, 0
            ]
            for name, s in MARKS.items()
        }

    @property
    def _embedded(self) -> Ensemble:
        keys = list(self.models.index)
        has_references = any(str(key).startswith("@") for key in keys)
        whole = self.ensemble.with_references() if has_references else self.ensemble
        return whole.select(keys)

    def _on_geodesic(self, s: float) -> GeodesicModel:
        return GeodesicModel(self.labels, self.ensemble.n_classes, s, np.dtype(np.float32))

    # -- other coordinates --------------------------------------------------------------------

    @cached_property
    def four_point(self) -> FourPoint:
        """All models in the embedding of four points."""
        return four_point(
            self._embedded,
            at=self.settings.at,
            sigma=self.settings.sigma,
            metric=self.metric,
            sample_set=self.sample_set,
            **self.options,
        )

    @cached_property
    def explained(self) -> dict[str, NDArray[np.float64]]:
        """Explained pairwise distances for each number of coordinates: of all, of four points."""
        found = {"all models": self._explained(self.embedding.embedding_, self.embedding)}
        four = self.four_point
        found["four points"] = self._explained(four.coordinates, four.embedding)
        return found

    def _explained(self, x: NDArray[np.float64], embedding: InPCA) -> NDArray[np.float64]:
        tiles, rows = match_distances(self.embedding, self.matrix)
        placed = x if rows is None else x[np.argsort(rows)]
        return explained_pairwise_distances(
            tiles, placed, embedding.signature_, executor=self.executor
        )

    @cached_property
    def by_samples(self) -> pd.DataFrame:
        """How well embeddings from few samples explain all distances."""
        available = len(self.labels)
        counts = [n for n in _SAMPLE_COUNTS if n < available]
        table = explained_by_samples(
            self._ordered,
            self._distances,
            [*counts, available],
            repeats=3,
            n_components=min(10, len(self.models) - 1),
            metric=self.metric,
            sample_set=self.sample_set,
            **self.options,
        )
        return table[table["d"].isin([1, 3, 10])]

    @property
    def _ordered(self) -> Ensemble:
        """The models of the distances, in their order."""
        if self.matrix.models is None:
            raise InputError(f"The distances {self.name!r} keep no list of models.")
        return self.ensemble.with_references().select(list(self.matrix.models.index))

    @property
    def _distances(self) -> Floats | TiledMatrix:
        return self.matrix

    # -- samples ------------------------------------------------------------------------------

    @cached_property
    def attribution(self) -> Attribution:
        """Each sample's part of each coordinate."""
        return attribution(self.ensemble, self.embedding, **self.options)

    @cached_property
    def late(self) -> NDArray[np.bool_]:
        """The tenth of the samples that is learnt last, on average over the runs."""
        table = learning_table(self.own, sample_set=self.sample_set, memory=self.memory)
        rank = table.fillna(1.0).mean(axis=1).rank(method="first").to_numpy()
        return np.asarray(rank > 0.9 * len(rank))

    # -- whole trainings ----------------------------------------------------------------------

    @cached_property
    def trajectories(self) -> TrajectoryDistances:
        """Distances between the runs at equal progress: those that are stored, or computed."""
        place = trajectories_path(self.ensemble.path, self.sample_set)
        if place.exists() and self._fits(open_trajectories(place)):
            return load_trajectory_distances(place)
        return trajectory_distances(self.own, self._points, **self._along)

    def _fits(self, stored: StoredTrajectories) -> bool:
        """Whether stored trajectories are of these runs, this divergence and as many points."""
        points = self.settings.points
        return (
            stored.attrs.get("metric") == self.metric
            and stored.attrs.get("sample_set") == self.sample_set
            and points in (None, len(stored.s))
            and set(stored.runs.index) == set(self.own.models["run"])
        )

    @property
    def _points(self) -> int:
        return self.settings.points or _POINTS

    @property
    def _along(self) -> dict[str, Any]:
        return {"metric": self.metric, "sample_set": self.sample_set, **self.options}

    @cached_property
    def importance(self) -> Importance:
        """Which setting decides a trajectory."""
        return configuration_importance(self.trajectories)

    @cached_property
    def tubes(self) -> TubeWidths:
        """Widths of the tubes around each configuration's mean trajectory."""
        return tube_widths(self.own, None, self._points, **self._along)

    @cached_property
    def to_geodesic(self) -> DistancesAlong:
        """Distance of each run from the geodesic along its progress."""
        return distances_to_geodesic(self.own, self._points, **self._along)
