"""Averages over groups of an ensemble's models, stored in it as runs of reference models.

A group of all the models that agree in some columns becomes one model; where a column that orders
checkpoints (step, epoch, checkpoint) is among them, the groups along it become one run: grouped by
architecture and step, an architecture's mean trajectory over its seeds. A run of averages has the
settings that all its members share and, beside them, ``average`` (how), ``average_of`` (the
columns) and ``average_source`` (a digest of the members and their predictions). Its models are of
kind ``"reference"``: they are embedded, projected and drawn with the others, are no runs of
`Ensemble.runs`, and are never averaged again.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import in_order_of, plain_array
from inpca.embedding.sources import Rows
from inpca.errors import InputError
from inpca.executor import Executor, get_executor
from inpca.geometry.averages import (
    ExecutorArgument,
    How,
    average_source,
    check_how,
    normalised_weights,
)
from inpca.reporting import ProgressArgument, reporting
from inpca.store import schema
from inpca.store.ensemble import Ensemble, open_ensemble
from inpca.store.settings import same_settings, setting_key
from inpca.store.writer import RunWriter

Float64 = NDArray[np.float64]
Grouping = str | Sequence[str] | Mapping[str, Sequence[str]]

# Columns along which groups follow one another as checkpoints of one run.
ORDERED = ("step", "epoch", "checkpoint")
_DIGITS = 16  # of the digest of the members


@dataclass(frozen=True)
class Group:
    """Models that become one.

    Attributes
    ----------
    keys : of the models
    weights : (k,) of sum 1
    step, epoch : of the average: the members' means
    """

    keys: list[str]
    weights: Float64
    step: int
    epoch: float


@dataclass(frozen=True)
class GroupedRun:
    """The groups that become one run of averages.

    Attributes
    ----------
    name : what the run is called after ``average-<how>``; "" where all models are one group
    groups : its checkpoints, in order
    """

    name: str
    groups: list[Group]


def average_groups(
    ensemble: Ensemble,
    by: Grouping = (),
    how: How = "arithmetic",
    *,
    weights: ArrayLike | None = None,
    name: str = "average",
    sample_sets: Sequence[str] | None = None,
    restart: bool = False,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> list[str]:
    """Average the models of each group, and store the averages in the ensemble.

    The step of an average is the mean of its members' steps, rounded to a whole number; its epoch
    is the mean of theirs, or unknown (NaN) where that of a member is.

    Parameters
    ----------
    ensemble : whose models, or some of them (`Ensemble.select`), are averaged; reference models
        are left out
    by : a column of `Ensemble.models`, or several: models that agree in them are a group; or groups
        themselves, name → keys of models. Default: all are one group
    how : see `inpca.average`
    weights : (n_models,) one per row of `ensemble.models`, see `inpca.average`
    name : of the runs: ``<name>-<how>-<values of the columns>``
    sample_sets : which predictions to average; default all that every member was recorded on
    restart : delete runs of averages of these names and make them again
    memory, executor, progress : see `inpca.average`

    Returns
    -------
    ids of the runs of averages. Runs that are there, of the same models with the same weights, are
    kept, and gone on with where a former call was killed

    Raises
    ------
    InputError
        For unknown or missing columns, empty groups, bad weights, averages that do not exist, or a
        run of that name that holds something else (without `restart`).

    Examples
    --------
    >>> import tempfile
    >>> from inpca import create_ensemble
    >>> ens = create_ensemble(tempfile.mkdtemp() + "/e", sample_sets={"train": [0]}, n_classes=2)
    >>> for seed, p in enumerate([0.9, 0.7]):
    ...     ens.add_run(f"mlp-{seed}", {"train": [[[p, 1 - p]]]}, config={"architecture": "mlp"})
    >>> average_groups(ens, "architecture")
    ['average-arithmetic-mlp']
    >>> ens.run("average-arithmetic-mlp").log_probs("train", 0).round(3)
    array([[-0.223, -1.609]], dtype=float32)
    """
    check_how(how)
    models = ensemble.models
    runs = list(grouped_runs(models, by, weights))
    sets = list(sample_sets) if sample_sets is not None else _common_sets(ensemble, runs)
    workers = get_executor(executor)
    ids = [_run_id(name, how, run.name) for run in runs]
    _refuse_doubles(ids)
    members = [_Members(ensemble, run, sets) for run in runs]
    settings = [one.settings(by, how) for one in members]
    if not restart:
        _refuse_others(ensemble, dict(zip(ids, settings)))
    n_groups, done = sum(len(run.groups) for run in runs), 0
    with reporting(progress, f"{how} averages") as report:
        for run_id, config, one in zip(ids, settings, members):
            with _writer(ensemble, run_id, config, restart) as writer:
                for index in range(writer.n_checkpoints, len(one.run.groups)):
                    one.append(writer, index, how, memory, workers)
                    report(done + index, n_groups, run_id)
            done += len(one.run.groups)
            report(done, n_groups, f"{run_id}, {done:,} of {n_groups:,} averages")
    return ids


def _writer(ensemble: Ensemble, run_id: str, config: Mapping[str, Any], restart: bool) -> RunWriter:
    """As `Ensemble.start_run`, with the settings in `config` that mark averages."""
    return RunWriter(
        ensemble.path / "runs",
        run_id,
        config,
        ensemble.sample_sets,
        ensemble.n_classes,
        ensemble.dtype,
        resume=not restart,
        restart=restart,
        averages=True,
    )


def grouped_runs(
    models: pd.DataFrame, by: Grouping, weights: ArrayLike | None = None
) -> Iterator[GroupedRun]:
    """The groups of a models table, reference models left out; see `average_groups`."""
    given = None
    if weights is not None:
        weights = plain_array(in_order_of(weights, models.index, "weights"), "weights")
        given = pd.Series(weights.tolist(), dtype=object)
        normalised_weights(weights, len(models))  # for its errors, about the whole
        given.index = models.index
    taking_part = models[models["kind"] == "checkpoint"]
    if taking_part.empty:
        raise InputError("`ensemble` must hold models of runs to average, not references alone.")
    if isinstance(by, Mapping):
        for name, keys in by.items():
            rows = taking_part.loc[_members(taking_part, name, keys)]
            yield GroupedRun(str(name), [_group(rows, given, str(name))])
        return
    columns = [by] if isinstance(by, str) else list(by)
    _check_columns(taking_part, columns)
    apart = [column for column in columns if column not in ORDERED]
    along = [column for column in columns if column in ORDERED]
    for values, rows in _split(taking_part, apart):
        name = "-".join(str(value) for value in values)
        groups = [_group(part, given, name) for _, part in _split(rows, along)]
        yield GroupedRun(name, groups)


def _split(table: pd.DataFrame, columns: list[str]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The values of `columns` and the rows that have them, sorted; exact, and of one kind each."""
    if not columns:
        yield (), table
        return
    rows: dict[tuple[Any, ...], list[int]] = {}
    for row, values in enumerate(zip(*(table[column].tolist() for column in columns))):
        rows.setdefault(tuple(map(setting_key, values)), []).append(row)
    for keys in sorted(rows):
        yield tuple(value for _, value in keys), table.iloc[rows[keys]]


def _check_columns(models: pd.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if column not in models.columns:
            nearest = sorted(models.columns, key=partial(_likeness, column), reverse=True)
            raise InputError(
                f"`by` must name columns of the models table, not {column!r}; the nearest first: "
                f"{', '.join(nearest)}."
            )
        missing = models[column].isna()
        if missing.any():
            raise InputError(
                f"`by`: {int(missing.sum()):,} models have no {column!r}, such as "
                f"{models.index[missing][0]!r}; leave them out with select()."
            )


def _likeness(wanted: str, column: str) -> float:
    return SequenceMatcher(None, wanted.lower(), column.lower()).ratio()


def _members(models: pd.DataFrame, name: str, keys: Sequence[str]) -> list[str]:
    found = list(keys)
    if not found:
        raise InputError(f"`by`: group {name!r} is empty; give it models, or leave it out.")
    unknown = [key for key in found if key not in models.index]
    if unknown or len(set(found)) < len(found):
        what = f"unknown to the ensemble: {unknown[0]!r}" if unknown else "listed twice"
        raise InputError(f"`by`: group {name!r} must list models of runs once; one is {what}.")
    return found


def _group(rows: pd.DataFrame, given: "pd.Series[Any] | None", name: str) -> Group:
    weights = None if given is None else given.loc[rows.index].to_numpy(np.float64)
    if weights is not None and not weights.any():
        raise InputError(f"`weights` are all zero in group {name!r}: nothing to average.")
    return Group(
        keys=rows.index.tolist(),
        weights=normalised_weights(weights, len(rows)),
        step=round(Fraction(sum(rows["step"].tolist()), len(rows))),
        epoch=float(rows["epoch"].mean(skipna=False)),
    )


def _common_sets(ensemble: Ensemble, runs: list[GroupedRun]) -> list[str]:
    members = {key.rpartition("/")[0] for run in runs for group in run.groups for key in group.keys}
    recorded = [set(ensemble.run(member).sample_sets) for member in sorted(members)]
    common = [name for name in ensemble.sample_sets if all(name in one for one in recorded)]
    if not common:
        raise InputError("The models share no sample set to average them on; select some that do.")
    return common


def _run_id(name: str, how: str, group: str) -> str:
    parts = [name, how, *([group] if group else [])]
    return re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(parts))


def _refuse_doubles(ids: list[str]) -> None:
    doubles = sorted({one for one in ids if ids.count(one) > 1})
    if doubles:
        raise InputError(
            f"`by` makes two groups that would both be called {doubles[0]!r}; name the groups "
            "yourself: {'name': keys}."
        )


def _refuse_others(ensemble: Ensemble, settings: Mapping[str, dict[str, Any]]) -> None:
    now = open_ensemble(ensemble.path)
    there = set(now.models["run"])
    for run_id, config in settings.items():
        if run_id in there and not same_settings(now.run(run_id).config, config):
            raise InputError(
                f"Run {run_id!r} is there already and holds something else, or an average of other "
                "models; choose another `name`, or replace it with restart=True (--restart)."
            )


class _Members:
    """The models of one run of averages, group after group, and their predictions."""

    def __init__(self, ensemble: Ensemble, run: GroupedRun, sample_sets: Sequence[str]) -> None:
        self.run = run
        view = ensemble.select([key for group in run.groups for key in group.keys])
        self._configs = [ensemble.run(run_id).config for run_id in view.runs]
        self._sources = {name: view.predictions(name) for name in sample_sets}
        self._stops = np.cumsum([len(group.keys) for group in run.groups]).tolist()

    def settings(self, by: Grouping, how: str) -> dict[str, Any]:
        """The configuration of the run of averages."""
        first, *others = self._configs
        shared = {
            key: value
            for key, value in first.items()
            if key not in schema.OF_AVERAGES
            and all(setting_key(config.get(key)) == setting_key(value) for config in others)
        }
        given = [by] if isinstance(by, str) else list(by)
        columns = ["groups"] if isinstance(by, Mapping) else given
        return shared | {
            "average": how,
            "average_of": ", ".join(columns),
            "average_source": self._digest(),
        }

    def _digest(self) -> str:
        digest = hashlib.sha256(repr(self._stops).encode())
        for name, source in self._sources.items():
            digest.update(name.encode() + source.digests().tobytes())
        for group in self.run.groups:
            digest.update(group.weights.tobytes())
        return digest.hexdigest()[:_DIGITS]

    def append(
        self,
        writer: RunWriter,
        index: int,
        how: How,
        memory: int | float | str | None,
        workers: Executor,
    ) -> None:
        """Record the average of group `index`."""
        group, stop = self.run.groups[index], self._stops[index]
        averages = {
            name: average_source(
                Rows(source, stop - len(group.keys), stop),
                how,
                group.weights,
                memory,
                workers,
                _unreported,
            )
            for name, source in self._sources.items()
        }
        used = {schema.AVERAGE_METRIC: float(np.count_nonzero(group.weights))}
        writer.append(averages, "log_probs", step=group.step, epoch=group.epoch, metrics=used)


def _unreported(done: float, total: float, text: str) -> None:
    """Within one average nothing is told."""
