"""The inversion of every run of an ensemble: where the arithmetic meets what is stored.

Memory: the predictions of one checkpoint and one mask per run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.geometry.conservation import Conservation, conservation
from inpca.geometry.inversion import Inversion, Method, inversion
from inpca.geometry.stragglers import stragglers
from inpca.store.ensemble import Ensemble
from inpca.store.run import Run

NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class RunInversion:
    """What one run did.

    Attributes
    ----------
    run : its id
    config : its configuration
    epochs : of its checkpoints; their numbers where epochs are not known
    observables, train_error : of its checkpoints; empty where none were recorded
    inversion : where it turned; None where it has no observables
    stragglers : S(t*), mask (n_samples,); None without an inversion
    """

    run: str
    config: Mapping[str, Any]
    epochs: NDArray[np.float64]
    observables: Mapping[str, NDArray[Any]]
    train_error: NDArray[np.float64]
    inversion: Inversion | None
    stragglers: NDArray[np.bool_] | None

    @property
    def verdict(self) -> str:
        """ "inversion" if every observable has one, else what the first without it does."""
        if self.inversion is None:
            return NOT_RECORDED
        verdicts = [point.verdict for point in self.inversion.points.values()]
        return next((one for one in verdicts if one != "inversion"), "inversion")


def invert_runs(
    ensemble: Ensemble,
    sample_set: str = "train",
    *,
    layer: str | None = None,
    method: Method = "argmin",
    tolerance: float = 0.05,
) -> list[RunInversion]:
    """The inversion and the stragglers of every run of `ensemble`.

    The predictions of one checkpoint of a run are read, that of its t*.

    Parameters
    ----------
    sample_set : the training set, on which the observables were recorded
    layer : which hidden layer, where several were recorded
    method, tolerance : see `inpca.inversion.inversion_point`

    Raises
    ------
    InputError
        For an unknown sample set or layer; if no run has observables of a hidden layer.
    DamagedStoreError
        If something of a run cannot be read.
    """
    if sample_set not in ensemble.sample_sets:
        raise InputError(
            f"`sample_set` must be one of {', '.join(ensemble.sample_sets)}, not {sample_set!r}."
        )
    runs = [ensemble.run(run_id) for run_id in ensemble.runs]
    if not any(run.has_observables(sample_set) for run in runs):
        raise InputError(
            f"`ensemble` must have runs with observables of a hidden layer on {sample_set!r}, and "
            "none has any; record them with collectors.hidden.HiddenRecorder."
        )
    labels = ensemble.sample_sets[sample_set].labels
    return [_invert(run, sample_set, labels, layer, method, tolerance) for run in runs]


def _invert(
    run: Run,
    sample_set: str,
    labels: NDArray[np.int64],
    layer: str | None,
    method: Method,
    tolerance: float,
) -> RunInversion:
    error = run.column(f"{sample_set}_error")
    epochs = run.epoch
    if not np.isfinite(epochs).all():  # nobody told them
        epochs = np.arange(len(epochs), dtype=np.float64)
    if not run.has_observables(sample_set):
        return RunInversion(run.id, run.config, epochs, {}, error, None, None)
    observables = run.observables(sample_set, layer)
    try:
        found = inversion(observables, error, epochs, method=method, tolerance=tolerance)
    except InputError as problem:
        raise InputError(f"Run {run.id!r}: {problem}") from problem
    mask = None
    if found.index is not None:
        mask = stragglers(run.log_probs(sample_set, found.index), labels)
    return RunInversion(run.id, run.config, epochs, observables, error, found, mask)


def inversion_table(runs: Sequence[RunInversion]) -> pd.DataFrame:
    """One row per run: verdict, t*, φ, number of stragglers, t* of each observable.

    Columns: run, verdict, epoch (t*, median of the observables), checkpoint, phi, n_stragglers,
    then ``t_<observable>`` and ``rise_<observable>`` (way back over way there) of each.
    """
    rows = []
    for one in runs:
        row: dict[str, Any] = {"run": one.run, "verdict": one.verdict}
        if one.inversion is not None:
            row |= {"epoch": one.inversion.epoch, "phi": one.inversion.phi}
            row["checkpoint"] = one.inversion.index
            for name, point in one.inversion.points.items():
                row |= {f"t_{name}": point.epoch, f"rise_{name}": point.rise_share}
        row["n_stragglers"] = None if one.stragglers is None else int(one.stragglers.sum())
        rows.append(row)
    first = ["run", "verdict", "epoch", "checkpoint", "phi", "n_stragglers"]
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*first, *(name for name in table if name not in first)])
    return table.astype({"checkpoint": "Int64", "n_stragglers": "Int64"})


def conservation_table(runs: Sequence[RunInversion], by: str = "architecture") -> pd.DataFrame:
    """Conservation of stragglers within each group of runs, and between each two groups.

    Columns: group, other, n_pairs, overlap, share, null_share, z (Eq. 12), z_null. Groups with a
    single run have no pairs of their own.

    Parameters
    ----------
    by : key of the configuration that groups the runs; runs without it are a group "–"
    """
    groups: dict[str, list[NDArray[np.bool_]]] = {}
    for one in runs:
        if one.stragglers is not None:
            groups.setdefault(str(one.config.get(by, "–")), []).append(one.stragglers)
    masks = {name: np.stack(group) for name, group in groups.items()}
    names, rows = list(masks), []
    for position, name in enumerate(names):
        if len(masks[name]) > 1:
            rows.append(_row(name, name, conservation(masks[name])))
        for other in names[position + 1 :]:
            rows.append(_row(name, other, conservation(masks[name], masks[other])))
    columns = ["group", "other", "n_pairs", "overlap", "share", "null_share", "z", "z_null"]
    return pd.DataFrame(rows, columns=columns)


def _row(name: str, other: str, found: Conservation) -> list[Any]:
    counts = [found.n_pairs, found.overlap, found.share, found.null_share]
    return [name, other, *counts, found.z, found.z_null]
