"""Distances between whole trajectories, at equal progress (Eq. 5)."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from inpca.checks import usable_path
from inpca.distance.divergences import BHATTACHARYYA
from inpca.distance.pairwise import pairwise_distances
from inpca.distance.planner import memory_budget
from inpca.embedding.inpca import InPCA
from inpca.errors import InputError, ResourceError
from inpca.executor import get_executor
from inpca.geometry.equal_progress import MOST_RUNS, distances_at_equal_progress
from inpca.geometry.runs import RunOptions, Runs, Trajectories, trajectories
from inpca.geometry.trajectory_output import claimed_trajectories
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.matrix import TiledMatrix
from inpca.store.replacement import read_whole
from inpca.store.trajectories import (
    KIND,
    StoredTrajectories,
    finish_trajectories,
    open_trajectories,
)
from inpca.units import format_bytes

Float64 = NDArray[np.float64]


class TrajectoryDistances:
    """Distances between trajectories, or between groups of them.

    Made by `trajectory_distances`, `load_trajectory_distances` and `grouped`.

    Attributes
    ----------
    runs : one row per trajectory: its configuration; of groups the columns that define them, and
        ``n_runs``
    s : (S,) values of progress, or of the column that runs were indexed by
    backwards : (R,) steps between checkpoints that go against the run's direction; such a run is
        kept, and is where it passes a value first
    outside : (R,) values of `s` that the run does not reach
    spread : (R,) of groups: mean distance of two different runs of a group, NaN if it has one run;
        None of runs
    """

    def __init__(
        self,
        runs: pd.DataFrame,
        s: Float64,
        matrices: Sequence[Float64 | TiledMatrix],
        backwards: NDArray[np.int64],
        outside: NDArray[np.int64],
        spread: Float64 | None = None,
    ) -> None:
        self.runs, self.s, self._matrices = runs, s, list(matrices)
        self.backwards, self.outside, self.spread = backwards, outside, spread

    def __repr__(self) -> str:
        what = "runs" if self.spread is None else "groups"
        text = f"TrajectoryDistances of {len(self.runs):,} {what} at {len(self.s)} values of s"
        return f"<{text}{told_counts(self.backwards, self.outside)}>"

    def __len__(self) -> int:
        return len(self.runs)

    def at(self, number: int) -> Float64:
        """Distances at progress ``s[number]``, (R, R)."""
        return np.asarray(self._matrices[number], np.float64)

    @property
    def by_s(self) -> Float64:
        """Distances at every progress, (R, R, S); 8 · R² · S bytes."""
        return np.stack([self.at(number) for number in range(len(self.s))], axis=-1)

    @cached_property
    def integrated(self) -> Float64:
        """Eq. 5, (R, R): the mean over the range of `s`, which for [0, 1] is ∫₀¹ D ds.

        By the trapezoidal rule over the values in rising order; of a single value of s it is the
        distance there. Values that a run does not reach (`outside`) count, with the checkpoint that
        it holds there; to leave them out, pass an `s` that all runs reach.
        """
        total = np.zeros((len(self.runs), len(self.runs)))
        for number, weight in enumerate(trapezoid_weights(self.s)):
            if weight:
                total += weight * self.at(number)
        return total

    def grouped(self, by: Sequence[str] | str | None = None) -> "TrajectoryDistances":
        """Mean distances between the trajectories of two groups.

        D_AB is the mean of D_uv over u in A and v in B; D_AA is set to 0, and the mean over
        different u, v of A is `spread`.

        Parameters
        ----------
        by : columns of `runs`; by default all but ``seed``: the average over seeds

        Raises
        ------
        InputError
            For columns that are none, or if nothing is left to group by.
        """
        groups, table = group_runs(self.runs, by)
        members = np.zeros((len(self.runs), len(groups)))
        for number, group in enumerate(groups):
            members[group, number] = 1.0
        sizes = members.sum(axis=0)
        matrices, spread = [], np.zeros(len(groups))
        for number, weight in enumerate(trapezoid_weights(self.s)):
            sums = members.T @ self.at(number) @ members
            with np.errstate(invalid="ignore"):  # 0/0: one run has no spread
                spread += weight * np.diagonal(sums) / (sizes * (sizes - 1))
            means = sums / np.outer(sizes, sizes)
            np.fill_diagonal(means, 0.0)
            matrices.append((means + means.T) / 2)
        backwards = np.array([self.backwards[group].sum() for group in groups])
        outside = np.array([self.outside[group].sum() for group in groups])
        return TrajectoryDistances(table, self.s, matrices, backwards, outside, spread)

    def linkage(self, method: str = "complete") -> Float64:
        """Hierarchical clustering of `integrated`: SciPy's linkage, for its `dendrogram`.

        (R − 1, 4); leaves in the order in which neighbours are closest, as in Fig. 7A.
        """
        if len(self.runs) < 2:
            raise InputError(f"A dendrogram needs at least 2 trajectories, not {len(self.runs)}.")
        condensed = squareform(self.integrated, checks=False)
        return np.asarray(hierarchy.linkage(condensed, method=method, optimal_ordering=True))

    def embed(self, n_components: int = 2, **options: Any) -> InPCA:
        """`InPCA` fitted to `integrated`: each point is a trajectory (Fig. 7B)."""
        estimator = InPCA(n_components=n_components, metric="precomputed", **options)
        return estimator.fit(self.integrated)


def told_counts(backwards: NDArray[np.int64], outside: NDArray[np.int64]) -> str:
    """What is special about trajectories, for a `repr`; empty where nothing is."""
    parts = [
        f", {n:,} {text}"
        for n, text in (
            (int((backwards > 0).sum()), "with steps backwards"),
            (int((outside > 0).sum()), "that do not reach every value"),
        )
        if n
    ]
    return "".join(parts)


def trapezoid_weights(s: Float64) -> Float64:
    """Weights of the trapezoidal mean over the range of `s`, (S,), whatever their order."""
    order = np.argsort(s, kind="stable")
    width = s[order[-1]] - s[order[0]]
    weights = np.zeros(len(s))
    if width == 0:
        weights[:] = 1 / len(s)
        return weights
    steps = np.diff(s[order])
    weights[order[:-1]] += steps / 2
    weights[order[1:]] += steps / 2
    return np.asarray(weights / width)


def group_runs(
    runs: pd.DataFrame, by: Sequence[str] | str | None, *, whole: bool = False
) -> tuple[list[NDArray[np.intp]], pd.DataFrame]:
    """Rows of `runs` that agree in the columns `by`, and a table of these groups.

    `whole`: where `by` is None and there is no column to group by, all runs are one group, "all".

    Raises
    ------
    InputError
        For columns that are none, or if nothing is left to group by.
    """
    names = [by] if isinstance(by, str) else list(by or runs.columns.drop("seed", errors="ignore"))
    there = ", ".join(runs.columns) or "none"
    unknown = [name for name in names if name not in runs.columns]
    if unknown:
        raise InputError(
            f"`by` must be columns of the configuration ({there}), not {unknown[0]!r}."
        )
    if not names and by is None and whole:
        table = pd.DataFrame({"n_runs": [len(runs)]}, index=pd.Index(["all"], name="group"))
        return [np.arange(len(runs), dtype=np.intp)], table
    if not names:
        raise InputError(
            f"`by` must name at least one column of the configuration ({there}): without one every "
            "run is of the same group."
        )
    found = runs.reset_index(drop=True).groupby(names, dropna=False, sort=True, observed=True)
    groups = [np.asarray(rows, np.intp) for rows in found.indices.values()]
    table = runs.iloc[[group[0] for group in groups]][names].copy()
    table["n_runs"] = [len(group) for group in groups]
    table.index = pd.Index(
        ["-".join(str(value) for value in row) for row in table[names].to_numpy(object)],
        name="group",
        dtype="str",
    )
    return groups, table


def trajectory_distances(
    X: Runs,
    s: ArrayLike | int = 50,
    *,
    metric: str = "bhattacharyya",
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    restart: bool = False,
    progress: ProgressArgument = None,
    **options: Unpack[RunOptions],
) -> TrajectoryDistances:
    """Distances between all pairs of trajectories at equal progress (Eq. 5).

    d(τ_u, τ_v) = ∫₀¹ D(P_u(s), P_v(s)) ds; of an `s` that does not go from 0 to 1, the mean over
    its range. Every run is re-indexed in its progress (`reindex`), and
    the runs at one value of s are the models of one small distance problem: only pairs at equal s
    are computed, by the engine of `pairwise_distances`; of up to 256 runs in memory, and the
    Bhattacharyya distance, by the engine's kernel in one pass for all s, which is faster and agrees
    to rounding. Of predictions only blocks are in memory; each checkpoint is read where it is
    needed, at most twice for each value of s.

    Parameters
    ----------
    X : an `Ensemble`, whose runs they are, or a sequence of arrays of `kind`, one
        (n_checkpoints, n_samples, n_classes) for each run
    s : how many values, evenly over `span`, or the values, (S,), different, in any order
    metric : the divergence D
    out : folder of the results, such as ``ensemble.path / "trajectories" / "train.zarr"``; a killed
        call goes on where it ended
    resume : go on with what is at `out`; False: refuse if there is something
    restart : replace what is at `out`, refused while another process works on it; the distances
        there are gone as soon as the new ones have begun
    progress : True, or ``callable(done, total, text)``
    index : what runs are indexed by: ``"progress"`` (a column of that name, else computed, Eq. 4),
        a column of the models table such as ``"train_error"``, or one array for each run
    labels : of arrays: true classes, (n_samples,), needed to compute progress
    configs : of arrays: what describes the runs, a table with a row or a mapping for each
    kind : of arrays: ``"probs"``, ``"log_probs"``, ``"logits"`` or ``"sqrt_probs"``
    sample_set : of ensembles
    outside : what becomes of values that a run does not reach; see `reindex`
    span : (first, last) of `s` values, None for the default: 0 and 1 with ``index="progress"``,
        otherwise the ends of the range that all runs reach
    memory, executor : see `pairwise_distances`; not a cluster

    Returns
    -------
    distances : by progress, (R, R, S), and integrated, (R, R); float32 on disk where `out` is
        given. A trajectory is at distance exactly 0 from itself

    Raises
    ------
    InputError
        For bad arguments, runs with one checkpoint, labels out of range, `s` that no run can reach
        or with a value twice; if `out` was computed from something else.
    ResourceError
        If memory or disk does not suffice, or another process is writing `out`.

    Examples
    --------
    >>> import numpy as np
    >>> ends = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    >>> from inpca import reindex
    >>> run = reindex(ends, [0, 1], np.linspace(0, 1, 9))
    >>> d = trajectory_distances([run, run[::2], run[[0, 8]]], s=5, labels=[0])
    >>> d.integrated.shape, bool(np.allclose(d.integrated, 0, atol=1e-6))
    ((3, 3), True)
    """
    with reporting(progress, "trajectories") as report:
        found = trajectories(X, s, progress=report, **options)
        if len(found.runs) < 2:
            raise InputError(f"`X` must hold at least 2 runs, not {len(found.runs)}.")
        problem: dict[str, Any] = {"metric": metric, "executor": options.get("executor")}
        memory = options.get("memory")
        if out is None:
            if restart:
                raise InputError("`restart` needs `out`: it is about distances on disk.")
            result = _in_memory(found, memory, problem, report)
            found.watch.check()
            return result
        with claimed_trajectories(
            usable_path(out, "out"), found, metric, options, resume, restart
        ) as store:
            for number in range(len(found.s)):
                told = part_of(report, number, len(found.s))
                target = store.matrix_path(number)
                pairwise_distances(
                    found.at(number), out=target, memory=memory, progress=told, **problem
                )
                found.watch.check()
            finish_trajectories(store.path)
        return load_trajectory_distances(out)


def load_trajectory_distances(path: str | os.PathLike[str]) -> TrajectoryDistances:
    """Open what `trajectory_distances` has written to `out`; matrices are read when asked for.

    Raises
    ------
    InputError
        If there is none at `path`, or it is not finished.
    DamagedStoreError
        If a file is missing or damaged.
    """
    store, matrices = read_whole(path, _opened, KIND)
    return TrajectoryDistances(store.runs, store.s, matrices, store.backwards, store.outside)


def _opened(path: str | os.PathLike[str]) -> tuple[StoredTrajectories, list[TiledMatrix]]:
    store = open_trajectories(path)
    return store, [store.matrix(number) for number in range(len(store.s))]


def _in_memory(
    found: Trajectories,
    memory: int | float | str | None,
    problem: dict[str, Any],
    report: Report,
) -> TrajectoryDistances:
    n_runs, n_values = len(found.runs), len(found.s)
    held, budget = 8 * n_runs**2 * n_values, memory_budget(memory)
    if held >= budget:
        raise ResourceError(
            f"The distances of {n_runs:,} runs at {n_values} values of s need "
            f"{format_bytes(held)} but `memory` is {format_bytes(budget)}; pass `out`, or more."
        )
    if problem["metric"] == BHATTACHARYYA.name and n_runs <= MOST_RUNS:
        workers = get_executor(problem["executor"])
        matrices = distances_at_equal_progress(found, budget - held, workers, report)
        return TrajectoryDistances(found.runs, found.s, matrices, found.backwards, found.outside)
    matrices = [
        pairwise_distances(
            found.at(number),
            memory=budget - held,
            progress=part_of(report, number, n_values),
            **problem,
        )
        for number in range(n_values)
    ]
    return TrajectoryDistances(found.runs, found.s, matrices, found.backwards, found.outside)


def part_of(report: Report, number: int, n_parts: int) -> Report:
    """Progress of problem `number` as that of the whole."""

    def told(done: float, total: float, text: str) -> None:
        report(number + done / max(1.0, total), n_parts, f"s {number + 1} of {n_parts}, {text}")

    return told
