"""How far runs are from a reference along progress: their mean trajectory, or the geodesic."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.distance.pairwise import pairwise_distances
from inpca.errors import InputError
from inpca.geometry.averages import How, average, check_how
from inpca.geometry.interpolation import check_s
from inpca.geometry.reindexed import AveragedModels, GeodesicModel
from inpca.geometry.runs import PROGRESS, RunOptions, Runs, trajectories
from inpca.geometry.trajectory_distances import (
    group_runs,
    part_of,
    told_counts,
    trapezoid_weights,
)
from inpca.predictions import Floats, PredictionSource
from inpca.reporting import ProgressArgument, reporting

Float64 = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class DistancesAlong:
    """Distances of runs from a reference at equal progress.

    Attributes
    ----------
    runs : one row per run: its configuration
    s : (S,) values of progress, or of the column that runs were indexed by
    distances : (R, S) of each run at each value; where a run does not reach it, that of the
        checkpoint which it holds there
    backwards : (R,) steps between checkpoints that go against the run's direction
    reached : (R, S) whether the run reaches the value
    """

    runs: pd.DataFrame
    s: Float64
    distances: Float64
    backwards: NDArray[np.int64]
    reached: NDArray[np.bool_]

    def __repr__(self) -> str:
        text = f"{type(self).__name__} of {len(self.runs):,} runs at {len(self.s)} values of s"
        return f"<{text}{told_counts(self.backwards, self.outside)}>"

    @property
    def outside(self) -> NDArray[np.int64]:
        """Values of `s` that each run does not reach, (R,)."""
        return np.asarray((~self.reached).sum(axis=1))

    @property
    def integrated(self) -> Float64:
        """Distance of each trajectory from the reference, (R,): the mean over the range of `s`.

        For s from 0 to 1 that is ∫₀¹ D ds (Eq. 5). Values that a run does not reach count, with the
        checkpoint that it holds; ``np.where(x.reached, x.distances, np.nan)`` is without them.
        """
        return np.asarray(self.distances @ trapezoid_weights(self.s))


@dataclass(frozen=True, repr=False)
class TubeWidths(DistancesAlong):
    """Distances of runs from the mean trajectory of their configuration.

    Attributes
    ----------
    groups : one row per configuration, with ``n_runs``
    group : (R,) the row of `groups` that each run belongs to
    """

    groups: pd.DataFrame
    group: NDArray[np.intp]

    @property
    def widths(self) -> Float64:
        """Width of each configuration's tube, (G, S): the mean over its runs; 0 for one run.

        Runs that do not reach a value count with the checkpoint that they hold; `share_reached`
        says how many do reach it.
        """
        return self._means(self.distances)

    @property
    def share_reached(self) -> Float64:
        """Share of each configuration's runs that reach each value, (G, S)."""
        return self._means(self.reached)

    def _means(self, values: NDArray[np.generic]) -> Float64:
        sums = np.zeros((len(self.groups), len(self.s)))
        np.add.at(sums, self.group, values)
        return np.asarray(sums / np.bincount(self.group)[:, None])


def tube_widths(
    X: Runs,
    by: Sequence[str] | str | None = None,
    s: ArrayLike | int = 50,
    *,
    how: How = "arithmetic",
    metric: str = "bhattacharyya",
    progress: ProgressArgument = None,
    **options: Unpack[RunOptions],
) -> TubeWidths:
    """How far the runs of one configuration are from their mean, at equal progress.

    At each s the runs of a group are averaged in prediction space (`inpca.average`), and the
    distance of each to that average is taken: small where trainings from different initial weights
    follow the same path.

    Parameters
    ----------
    X, s, metric, progress : see `trajectory_distances`
    by : columns of the configuration that make a group; by default all but ``seed``. Runs that
        have no other are one group, ``"all"``
    how : the average: ``"arithmetic"`` as in the paper, or another of `inpca.average`
    options : index, labels, configs, kind, sample_set, outside, span, memory, executor; see
        `trajectory_distances`

    Raises
    ------
    InputError, ResourceError
        As `trajectory_distances`; for columns that are none, and an unknown `how`.
    """
    check_how(how)
    with reporting(progress, "tube widths") as report:
        found = trajectories(X, s, progress=report, **options)
        groups, table = group_runs(found.runs, by, whole=True)
        group = np.empty(len(found.runs), np.intp)
        for number, rows in enumerate(groups):
            group[rows] = number
        mean = partial(_mean, how=how)
        distances = np.empty((len(found.runs), len(found.s)))
        for number in range(len(found.s)):
            models = found.at(number)
            centres = AveragedModels(models, groups, mean, how)
            told = part_of(report, number, len(found.s))
            block = _distances(models, centres, metric, options, told)
            distances[:, number] = block[np.arange(len(group)), group]
        found.watch.check()
    return TubeWidths(found.runs, found.s, distances, found.backwards, found.reached, table, group)


def _mean(log_p: Floats, how: How) -> Floats:
    return average(log_p, how, kind="log_probs", executor="serial")


def distances_to_geodesic(
    X: Runs,
    s: ArrayLike | int = 50,
    *,
    metric: str = "bhattacharyya",
    progress: ProgressArgument = None,
    **options: Unpack[RunOptions],
) -> DistancesAlong:
    """How far runs are from the geodesic between ignorance and truth, at equal progress.

    Parameters
    ----------
    X, s, metric, progress : see `trajectory_distances`
    options : index, labels, configs, kind, sample_set, outside, span, memory, executor; see
        `trajectory_distances`. `index` must be progress, by name or as arrays: it names the points
        of the geodesic. Of arrays `labels` must be given: they say where truth is

    Raises
    ------
    InputError, ResourceError
        As `trajectory_distances`; for an `index` that is no progress.
    """
    index = options.get("index", PROGRESS)
    if isinstance(index, str) and index != PROGRESS:
        raise InputError(
            f"`index` must be 'progress' for distances to the geodesic, whose points it names, not "
            f"{index!r}."
        )
    with reporting(progress, "distances to the geodesic") as report:
        found = trajectories(X, s, progress=report, **options)
        labels = found.known_labels()
        check_s(found.s)
        distances = np.empty((len(found.runs), len(found.s)))
        for number, value in enumerate(found.s):
            models = found.at(number)
            point = GeodesicModel(labels, models.shape[2], float(value), models.dtype)
            told = part_of(report, number, len(found.s))
            distances[:, number] = _distances(models, point, metric, options, told)[:, 0]
        found.watch.check()
    return DistancesAlong(found.runs, found.s, distances, found.backwards, found.reached)


def _distances(
    models: PredictionSource,
    others: PredictionSource,
    metric: str,
    options: RunOptions,
    progress: ProgressArgument,
) -> Float64:
    block: Float64 = pairwise_distances(
        models,
        others,
        metric=metric,
        memory=options.get("memory"),
        executor=options.get("executor"),
        progress=progress,
    )
    return block
