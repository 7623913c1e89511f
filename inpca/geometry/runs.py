"""The runs of an ensemble, or of arrays, as trajectories: which models, indexed by what."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.geometry.ends import check_labels
from inpca.geometry.grid import Span, grid
from inpca.geometry.interpolation import Location, Outside, check_progress, find_passages
from inpca.geometry.numbers import real_numbers
from inpca.geometry.progress import ExecutorArgument
from inpca.geometry.progress import progress as progress_of
from inpca.geometry.reindexed import ReindexedModels
from inpca.predictions import (
    ArrayPredictions,
    Floats,
    Kind,
    PredictionSource,
    Watch,
    to_log_probs,
)
from inpca.reporting import ProgressArgument
from inpca.store.ensemble import Ensemble
from inpca.store.settings import setting_column

# What describes the runs of arrays: a table with a row for each, or a mapping for each.
Configs = pd.DataFrame | Sequence[Mapping[str, Any]]
# What runs are indexed by: "progress" (Eq. 4), a column of the models table, or values.
Index = str | Sequence[ArrayLike] | ArrayLike
Runs = Ensemble | Sequence[ArrayLike]
PROGRESS = "progress"
_log = logging.getLogger("inpca.geometry")


class RunOptions(TypedDict, total=False):
    """Arguments that every function of trajectories takes; see `trajectory_distances`."""

    index: Index
    labels: ArrayLike | None
    configs: Configs | None
    kind: Kind
    sample_set: str
    outside: Outside
    span: Span
    memory: int | float | str | None
    executor: ExecutorArgument


@dataclass(frozen=True)
class Trajectories:
    """Runs that can be read at equal progress.

    Attributes
    ----------
    base : every checkpoint of every run
    runs : one row per run: its configuration
    rows : the models of `base` of each run, in order
    s : (S,) values of progress, or of what runs are indexed by
    locations : where each run passes them
    labels : (n_samples,) true classes, where they are known
    watch : to be asked at the end whether runs were recorded again meanwhile
    """

    base: PredictionSource
    runs: pd.DataFrame
    rows: tuple[NDArray[np.intp], ...]
    s: NDArray[np.float64]
    locations: tuple[Location, ...]
    labels: NDArray[np.int64] | None
    watch: Watch

    def at(self, index: int) -> ReindexedModels:
        """All runs at progress ``s[index]``, as models."""
        left = [location.left[index] for location in self.locations]
        before = np.array([rows[k] for rows, k in zip(self.rows, left)], np.intp)
        after = np.array([rows[min(k + 1, len(rows) - 1)] for rows, k in zip(self.rows, left)])
        fraction = np.array([location.fraction[index] for location in self.locations])
        after = after.astype(np.intp)
        # What is recorded is identified anew each time, quickly; arrays once.
        identity = None if hasattr(self.base, "recorded") else lambda: self.identity
        return ReindexedModels(self.base, before, after, fraction, identity)

    @cached_property
    def identity(self) -> str:
        """Fingerprint of `base`."""
        return self.base.fingerprint()

    def fingerprint(self) -> str:
        """Digest of the predictions, the values of progress and where each run passes them."""
        digest = hashlib.sha256(f"{self.identity} {list(self.runs.index)}".encode())
        digest.update(self.s.tobytes())
        for row, location in zip(self.rows, self.locations):
            digest.update(row[location.left].astype(np.int64).tobytes())
            digest.update(location.fraction.tobytes())
        return digest.hexdigest()

    @property
    def backwards(self) -> NDArray[np.int64]:
        """(R,) steps of each run against its direction."""
        return np.array([location.n_backwards for location in self.locations])

    @property
    def reached(self) -> NDArray[np.bool_]:
        """(R, S) whether each run reaches each value."""
        return np.array([location.reached for location in self.locations])

    @property
    def outside(self) -> NDArray[np.int64]:
        """(R,) values of `s` that each run does not reach."""
        return np.array([location.n_outside for location in self.locations])

    def known_labels(self) -> NDArray[np.int64]:
        """The labels, or an error that says how to give them."""
        if self.labels is None:
            raise InputError("`labels` must be given with arrays: the true class of each sample.")
        return self.labels


def trajectories(
    X: Runs,
    s: ArrayLike | int,
    *,
    index: Index = PROGRESS,
    labels: ArrayLike | None = None,
    configs: Configs | None = None,
    kind: Kind = "probs",
    sample_set: str = "train",
    outside: Outside = "hold",
    span: Span = (None, None),
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> Trajectories:
    """Check the arguments that every function of trajectories has, and find where runs pass `s`.

    Parameters are those of `trajectory_distances`.

    Raises
    ------
    InputError
        See `trajectory_distances`.
    """
    if isinstance(X, Ensemble):
        for name, value in (("labels", labels), ("configs", configs)):
            if value is not None:
                raise InputError(f"`{name}` are the ensemble's own; leave them out.")
        found = _of_ensemble(X, sample_set)
    else:
        found = _of_arrays(X, labels, configs, kind)
    names, base, rows, table, known = found
    watch = Watch(base)
    if isinstance(index, str):
        everything = _column(X, index)
        if everything is None:
            everything = _progress(base, known, memory, executor, progress)
        values = [everything[row] for row in rows]
    else:
        values = _given(index, names, rows)
    what = index if isinstance(index, str) else "index"
    titles = [f"{what} of run {name!r}" for name in names]
    values = [check_progress(value, title) for value, title in zip(values, titles)]
    of_progress = isinstance(index, str) and index == PROGRESS
    targets = grid(s, span, values, of_progress)
    rising = True if of_progress else None  # progress that falls is a run that goes backwards
    locations = tuple(
        find_passages(value, targets, outside, rising=rising, name=title)
        for value, title in zip(values, titles)
    )
    _warn_of_backwards(names, locations, what)
    return Trajectories(base, table, tuple(rows), targets, locations, known, watch)


def _warn_of_backwards(names: list[str], locations: tuple[Location, ...], what: str) -> None:
    found = [name for name, location in zip(names, locations) if location.n_backwards]
    if found:
        _log.warning(
            "%s runs backwards in some steps of %d of %d runs (%s%s); they are kept, and are at a "
            "value where they pass it first",
            what,
            len(found),
            len(names),
            ", ".join(found[:3]),
            ", …" if len(found) > 3 else "",
        )


Found = tuple[
    list[str],
    PredictionSource,
    list[NDArray[np.intp]],
    pd.DataFrame,
    NDArray[np.int64] | None,
]


def _of_ensemble(ensemble: Ensemble, sample_set: str) -> Found:
    models = ensemble.models.reset_index(drop=True)
    checkpoints = models[models["kind"] == "checkpoint"].sort_values("checkpoint", kind="stable")
    groups = checkpoints.groupby("run", sort=True).groups
    names = [str(name) for name in groups]
    if not names:
        raise InputError("`X` must hold checkpoints of runs; this ensemble or selection has none.")
    rows = [np.asarray(groups[name], np.intp) for name in names]
    short = [name for name, row in zip(names, rows) if len(row) < 2]
    if short:
        raise InputError(
            f"Run {short[0]!r} has one checkpoint in `X` ({len(short)} such of {len(names)} runs): "
            "that is a point, not a trajectory; leave it out with select() (--select), or record "
            "more."
        )
    configs = [ensemble.run(name).config for name in names]
    settings = dict.fromkeys(key for config in configs for key in config)
    table = pd.DataFrame(
        {key: setting_column([config.get(key) for config in configs]) for key in settings},
        index=pd.Index(names, name="run", dtype="str"),
    )
    base = ensemble.predictions(sample_set)
    return names, base, rows, table, ensemble.sample_sets[sample_set].labels


class _RunArrays:
    """Several arrays of checkpoints as one source; validated whole."""

    def __init__(self, X: Sequence[ArrayLike], kind: Kind) -> None:
        self._blocks = [_checked(array, kind, number) for number, array in enumerate(X)]
        shapes = {block.shape[1:] for block in self._blocks}
        if len(shapes) != 1:
            raise InputError(
                "`X` must be runs on one sample set, all (n_checkpoints, n_samples, n_classes) "
                f"with the same samples and classes, not {sorted(shapes)}."
            )
        self.dtype: np.dtype[np.floating] = np.result_type(*self._blocks)
        self.starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        self.shape = (int(self.starts[-1]), *shapes.pop())

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of models that are all of one run, or of several."""
        first, last, _ = models.indices(self.shape[0])
        parts = []
        for start, block in zip(self.starts, self._blocks):
            low, high = max(first - start, 0), min(last - start, len(block))
            if low < high:
                parts.append(block[low:high, samples])
        return np.concatenate(parts).astype(self.dtype, copy=False)

    def fingerprint(self) -> str:
        """Digest of every value."""
        parts = [ArrayPredictions(b, "log_probs").fingerprint() for b in self._blocks]
        return "+".join(parts)


def _checked(array: ArrayLike, kind: Kind, number: int) -> Floats:
    log_p = to_log_probs(array, kind, name=f"X[{number}]")
    if log_p.ndim != 3:
        raise InputError(
            f"`X[{number}]` must have shape (n_checkpoints, n_samples, n_classes), not "
            f"{log_p.shape}."
        )
    if len(log_p) < 2:
        raise InputError(
            f"`X[{number}]` has {len(log_p)} checkpoint: that is a point, not a trajectory; leave "
            "it out, or record more."
        )
    return log_p


def _of_arrays(
    X: Sequence[ArrayLike], labels: ArrayLike | None, configs: Configs | None, kind: Kind
) -> Found:
    arrays = list(X)
    if not arrays:
        raise InputError("`X` must be an Ensemble or at least one run's array, not empty.")
    base = _RunArrays(arrays, kind)
    rows = [np.arange(a, b, dtype=np.intp) for a, b in zip(base.starts, base.starts[1:])]
    names = [str(number) for number in range(len(arrays))]
    table = pd.DataFrame(index=range(len(names))) if configs is None else pd.DataFrame(configs)
    if len(table) != len(names):
        raise InputError(
            f"`configs` must have one row for each of the {len(names)} runs, not {len(table)}."
        )
    if sorted(table.index.map(str)) == sorted(names) and list(table.index.map(str)) != names:
        raise InputError(
            f"`configs` must have its rows in the order of the runs, 0, 1, 2, …, but its first row "
            f"is {table.index[0]!r}; sort it (configs.sort_index()), or reset its index."
        )
    table.index = pd.Index(names, name="run", dtype="str")
    known = None if labels is None else check_labels(labels, *base.shape[1:])
    return names, base, rows, table, known


def _given(index: Any, names: list[str], rows: list[NDArray[np.intp]]) -> list[NDArray[np.float64]]:
    """Values that the caller gives, one array for each run."""
    values = [real_numbers(value, "index") for value in index]
    if len(values) != len(names):
        raise InputError(
            f"`index` must have one array for each of the {len(names)} runs, not {len(values)}."
        )
    for name, value, row in zip(names, values, rows):
        if value.shape != row.shape:
            raise InputError(
                f"`index` of run {name!r} must have one value per checkpoint, {row.shape}, not "
                f"{value.shape}."
            )
    return values


def _progress(
    base: PredictionSource,
    labels: NDArray[np.int64] | None,
    memory: int | float | str | None,
    executor: ExecutorArgument,
    progress: ProgressArgument,
) -> NDArray[np.float64]:
    """Progress of every model (Eq. 4)."""
    if labels is None:
        raise InputError(
            "`labels` must be given with arrays, for progress to be computed; or pass `index`, one "
            "array of values for each run."
        )
    found: NDArray[np.float64] = progress_of(
        base, labels, memory=memory, executor=executor, progress=progress
    )
    return found


def _column(X: Runs, name: str) -> NDArray[np.float64] | None:
    """A column of the models table; None where progress is to be computed."""
    if isinstance(X, Ensemble):
        models: Any = X.models
        if name in models.columns and pd.api.types.is_numeric_dtype(models[name].dtype):
            return np.asarray(models[name].to_numpy(np.float64, na_value=np.nan))
    if name == PROGRESS:
        return None
    if not isinstance(X, Ensemble):
        raise InputError(
            f"`index` {name!r} is a column of an ensemble's models table; with arrays pass "
            "'progress', or one array of values for each run."
        )
    raise InputError(
        f"`index` must be 'progress' or a column of numbers of the models table "
        f"({', '.join(models.select_dtypes('number').columns)}), not {name!r}."
    )
