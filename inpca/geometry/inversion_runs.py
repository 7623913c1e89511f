"""The inversion of every run of an ensemble: where the arithmetic meets what is stored.

Memory: the predictions of one checkpoint and one mask per run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.geometry.conservation import Conservation, conservation
from inpca.geometry.inversion import Inversion, Method, check_choice, inversion
from inpca.geometry.stragglers import stragglers
from inpca.store.ensemble import Ensemble
from inpca.store.run import Run
from inpca.store.settings import setting_labels
from inpca.units import count

NOT_RECORDED = "not recorded"
DEFAULT_BY = "architecture"
# Pairs of five runs.
_FEW_PAIRS = 10


@dataclass(frozen=True)
class RunInversion:
    """What one run did.

    A run trained on a part of the samples is recorded on all of them: its observables are of the
    samples trained on, as its recorder was told, but its training error, φ and stragglers count
    all samples, also those left out. Which they are is not in the store.

    Attributes
    ----------
    run : its id
    config : its configuration
    epochs : of its checkpoints; their numbers where epochs are not known
    observables : of its checkpoints; empty where none were recorded
    train_error : of its checkpoints, over all samples recorded
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
    def pruned(self) -> bool:
        """Whether its configuration says, as a sweep's does, that it left samples out."""
        return self.config.get("keep_digest") is not None

    @property
    def verdict(self) -> str:
        """ "inversion" if every observable has one, else what the first without it does.

        Of more than two classes the observables are the median radius and the median distance.
        """
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
    """The inversion and the stragglers of every run of `ensemble`, run 2 before run 10.

    The predictions of one checkpoint of a run are read, that of its t*. Training errors, φ and
    stragglers are over all samples of the set, also of runs that left some out (`RunInversion`).

    Parameters
    ----------
    sample_set : the training set, on which the observables were recorded
    layer : which hidden layer, where several were recorded; of a run with only one, the name that
        its configuration has under ``"layer"`` is accepted too
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
    check_choice(method, Method, "method")
    runs = [ensemble.run(run_id) for run_id in sorted(ensemble.runs, key=_natural)]
    if not any(run.has_observables(sample_set) for run in runs):
        raise InputError(
            f"`ensemble` must have runs with observables of a hidden layer on {sample_set!r}, and "
            "none has any; record them with the column `layer` of a sweep, or with "
            "collectors.hidden.HiddenRecorder."
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
    observables = run.observables(sample_set, _stored_layer(run, sample_set, layer))
    try:
        found = inversion(observables, error, epochs, method=method, tolerance=tolerance)
    except InputError as problem:
        raise InputError(f"Run {run.id!r}: {problem}") from problem
    mask = None
    if found.index is not None:
        mask = stragglers(run.log_probs(sample_set, found.index), labels)
    return RunInversion(run.id, run.config, epochs, observables, error, found, mask)


def _stored_layer(run: Run, sample_set: str, layer: str | None) -> str | None:
    """The name of `layer` in the store, which has none for the only layer of a run.

    A sweep writes that layer's name into the configuration.
    """
    told = run.config.get("layer")
    names = [name for name in run.observable_names if name.startswith(f"{sample_set}/")]
    if layer is None or told is None or any("." in name.partition("/")[2] for name in names):
        return layer
    if layer != str(told):
        raise InputError(
            f"`layer` must be one that every run recorded, and run {run.id!r} recorded only "
            f"{str(told)!r}, not {layer!r}; leave `layer` out, or choose runs by their setting "
            "`layer` first."
        )
    return None


def _natural(name: str) -> list[str | int]:
    """Numbers within a name count as numbers; text and numbers take turns, so they compare."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def common_stragglers(runs: Sequence[RunInversion], run: str | None = None) -> NDArray[np.bool_]:
    """The stragglers of more than half of the runs that invert, or those of one run.

    Parameters
    ----------
    run : id of the run

    Returns
    -------
    mask, (n_samples,)

    Raises
    ------
    InputError
        If no run inverts, or `run` is unknown or does not; if no sample is a straggler of more
        than half of them.
    """
    known = {one.run: one for one in runs}
    if run is not None:
        if run not in known:
            near = sorted(known, key=lambda name: _likeness(run, name), reverse=True)[:5]
            raise InputError(
                f"`run` must be one of the runs, such as {', '.join(near)}, not {run!r}."
            )
        mask = known[run].stragglers
        if mask is None:
            raise InputError(
                f"`run` must be one that inverts; {run} has the verdict {known[run].verdict!r}."
            )
        return mask
    masks = [one.stragglers for one in runs if one.stragglers is not None]
    if not masks:
        raise InputError(f"`runs` have no stragglers: none of the {len(runs)} has an inversion.")
    mask = np.asarray(np.mean(masks, axis=0) > 0.5)
    if not mask.any():
        raise InputError(
            f"`runs` have no common stragglers: no sample is one in more than half of the "
            f"{len(masks)} runs that invert; take those of one run."
        )
    return mask


def inversion_table(runs: Sequence[RunInversion], *, details: bool = False) -> pd.DataFrame:
    """One row per run: verdict, t*, φ, number of stragglers, t* of each observable.

    φ and stragglers of pruned runs count all samples recorded, see `pruned_note`.

    Columns: run, verdict, epoch (t*, median of the observables), checkpoint, phi, n_stragglers,
    then ``t_<observable>`` and ``rise_<observable>`` (way back over way there) of each; with
    `details`, of more than two classes, also of every class and pair.
    """
    rows = []
    for one in runs:
        row: dict[str, Any] = {"run": one.run, "verdict": one.verdict}
        if one.inversion is not None:
            row |= {"epoch": one.inversion.epoch, "phi": one.inversion.phi}
            row["checkpoint"] = one.inversion.index
            more = one.inversion.details if details else {}
            for name, point in {**one.inversion.points, **more}.items():
                row |= {f"t_{name}": point.epoch, f"rise_{name}": point.rise_share}
        row["n_stragglers"] = None if one.stragglers is None else int(one.stragglers.sum())
        rows.append(row)
    first = ["run", "verdict", "epoch", "checkpoint", "phi", "n_stragglers"]
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*first, *(name for name in table if name not in first)])
    return table.astype({"checkpoint": "Int64", "n_stragglers": "Int64"})


def group_runs(
    runs: Sequence[RunInversion], by: str | None = None
) -> dict[str, list[RunInversion]]:
    """The runs of each value of a setting, in their order.

    Parameters
    ----------
    by : key of the configuration; runs without it are a group "–". By default `DEFAULT_BY`, and
        one group if no run has it

    Raises
    ------
    InputError
        If no run has `by`.
    """
    key = DEFAULT_BY if by is None else by
    known = {name for one in runs for name in one.config}
    if by is not None and by not in known:
        near = sorted(sorted(known), key=lambda name: _likeness(by, name), reverse=True)
        raise InputError(
            f"`by` must be a setting of the runs, not {by!r}; the nearest first: "
            f"{', '.join(near) or 'they have none'}."
        )
    groups: dict[str, list[RunInversion]] = {}
    for name, one in zip(setting_labels([run.config.get(key, "–") for run in runs]), runs):
        groups.setdefault(name, []).append(one)
    return groups


def conservation_table(runs: Sequence[RunInversion], by: str | None = None) -> pd.DataFrame:
    """Conservation of stragglers within each group of runs, and between each two groups.

    Columns: group, other, n_pairs, overlap, share, null_share, z (Eq. 12), z_null. Groups with a
    single run have no pairs of their own.

    Parameters
    ----------
    by : key of the configuration that groups the runs, see `group_runs`

    Raises
    ------
    InputError
        If no run has `by`.
    """
    groups = {
        name: [one.stragglers for one in group if one.stragglers is not None]
        for name, group in group_runs(runs, by).items()
    }
    masks = {name: np.stack(group) for name, group in groups.items() if group}
    names, rows = list(masks), []
    for position, name in enumerate(names):
        if len(masks[name]) > 1:
            rows.append(_row(name, name, conservation(masks[name])))
        for other in names[position + 1 :]:
            rows.append(_row(name, other, conservation(masks[name], masks[other])))
    columns = ["group", "other", "n_pairs", "overlap", "share", "null_share", "z", "z_null"]
    return pd.DataFrame(rows, columns=columns)


def conservation_note(runs: Sequence[RunInversion], pairs: pd.DataFrame) -> str:
    """What to know of `pairs`, a conservation table: why it is empty, or that it is of few pairs.

    Empty text where there is nothing to say.
    """
    n_found = sum(one.stragglers is not None for one in runs)
    if pairs.empty:
        return (
            f"No conservation of stragglers: it compares pairs of runs that invert, and {n_found} "
            f"of {count(len(runs), 'run')} {'does' if n_found == 1 else 'do'}."
        )
    few = int(pairs["n_pairs"].min())
    if few < _FEW_PAIRS:
        return (
            f"z divides by the spread over pairs of runs, here of only {count(few, 'pair')}: "
            "rather take z_null, or at least 5 runs."
        )
    return ""


def pruned_note(runs: Sequence[RunInversion]) -> str:
    """What to know of the numbers of runs that left samples out; empty text if none did."""
    n_pruned = sum(one.pruned and one.inversion is not None for one in runs)
    if not n_pruned:
        return ""
    return (
        f"{n_pruned} of {count(len(runs), 'run')} left samples out (`keep`): their verdict and t* "
        "are of the samples trained on, but their training error, phi and stragglers count all "
        "samples recorded, also those left out."
    )


def _likeness(wanted: str, name: str) -> float:
    return SequenceMatcher(None, wanted.lower(), name.lower()).ratio()


def _row(name: str, other: str, found: Conservation) -> list[Any]:
    counts = [found.n_pairs, found.overlap, found.share, found.null_share]
    return [name, other, *counts, found.z, found.z_null]
