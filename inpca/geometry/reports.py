"""Tables about an ensemble's geometry: progress beside error and loss, averages side by side."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import same_names
from inpca.distance.request import Models, source_of
from inpca.errors import InputError
from inpca.geometry.averages import ExecutorArgument, How, average
from inpca.geometry.ends import check_labels
from inpca.geometry.grouped import Grouping, grouped_runs
from inpca.geometry.numbers import real_numbers
from inpca.geometry.progress import progress as progress_of
from inpca.geometry.routes import End
from inpca.predictions import Kind
from inpca.reporting import ProgressArgument
from inpca.store.ensemble import Ensemble

Float64 = NDArray[np.float64]
HOWS: tuple[How, ...] = get_args(How)


def progress_table(
    ensemble: Ensemble,
    *,
    sample_set: str = "train",
    labels: ArrayLike | None = None,
    start: End = None,
    end: End = None,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> pd.DataFrame:
    """Progress of every model beside its error and loss on the same samples (Fig. 8).

    The parameters are those of `inpca.progress`.

    Returns
    -------
    one row per model of `ensemble`, with its key as index; columns run, checkpoint, kind, step,
    epoch, progress, error (fraction of samples), loss (nats per sample). Stored averages are among
    them, of the kind ``"reference"``; for R² of trainings see `progress_fit`
    """
    models = ensemble.models
    positions = progress_of(
        ensemble,
        labels,
        sample_set=sample_set,
        start=start,
        end=end,
        memory=memory,
        executor=executor,
        progress=progress,
    )
    table = models[["run", "checkpoint", "kind", "step", "epoch"]].copy()
    table["progress"] = positions
    for name in ("error", "loss"):
        table[name] = models[f"{sample_set}_{name}"].to_numpy(np.float64)
    return table


def progress_fit(table: pd.DataFrame) -> tuple[float, int]:
    """R² of progress against error over the trainings of a `progress_table` (Fig. 8).

    Models of the kind ``"reference"`` (ignorance, truth, stored averages) were not trained and do
    not count; nor do models whose error or progress is missing.

    Returns
    -------
    r_squared : see `r_squared`; NaN of fewer than 3 models
    n_models : that counted
    """
    own = table[table["kind"] != "reference"].dropna(subset=["error", "progress"])
    return r_squared(own["progress"], own["error"]) if len(own) > 2 else np.nan, len(own)


def r_squared(progress: ArrayLike, error: ArrayLike) -> float:
    """R² of the straight line that best tells `error` from `progress`.

    The square of Pearson's correlation; the paper finds 0.95 for the train error and 0.88 for the
    test error.

    Parameters
    ----------
    progress, error : (m,) numbers; which of them is told from the other makes no difference

    Raises
    ------
    InputError
        For values that are not finite, of different numbers, or fewer than 3 models.

    Returns
    -------
    in [0, 1]; NaN where either is the same for all models: there is nothing to tell

    Examples
    --------
    >>> r_squared([0.0, 0.5, 1.0], [0.9, 0.5, 0.1])
    1.0
    """
    same_names(progress, error, ("progress", "error"))
    x, y = real_numbers(progress, "progress"), real_numbers(error, "error")
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        raise InputError(
            f"`progress` and `error` must be one number for each of at least 3 models, not "
            f"of shapes {x.shape} and {y.shape}."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("`progress` and `error` must be finite; leave the others out.")
    if x.min() == x.max() or y.min() == y.max():
        return float("nan")
    x, y = _centred(x), _centred(y)
    return min(float((x @ y) ** 2 / ((x @ x) * (y @ y))), 1.0)


def _centred(values: Float64) -> Float64:
    """Of mean 0 and range 1, so that no scale overflows or vanishes."""
    shifted = 0.5 * values - 0.5 * values.min()
    shifted /= shifted.max()
    return np.asarray(shifted - shifted.mean())


def compare_averages(
    X: Models,
    labels: ArrayLike | None = None,
    *,
    hows: Sequence[How] = HOWS,
    weights: ArrayLike | None = None,
    kind: Kind = "probs",
    sample_set: str = "test",
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> pd.DataFrame:
    """Error and loss of each kind of average of the same models, the worst error first.

    Parameters
    ----------
    X : see `inpca.average`
    labels : (n_samples,) true classes; of an ensemble its sample set's by default
    hows : the averages to compare
    weights, kind, sample_set, memory, executor, progress : see `inpca.average`

    Returns
    -------
    one row per average; columns average, error (fraction of samples whose most probable class is
    not the label), loss (mean −ln q[label], nats)

    Notes
    -----
    Averages of trained networks were found in the order arithmetic > Bhattacharyya ≈ Jeffreys ≈
    square root > geometric > harmonic of test error; whether yours are, this tells.
    """
    source = source_of(X, kind, sample_set, "X")
    if labels is None:
        if not isinstance(X, Ensemble):
            raise InputError("`labels` must be given: arrays do not know their true classes.")
        labels = X.sample_sets[sample_set].labels
    true = check_labels(labels, *source.shape[1:])
    rows = []
    for how in hows:
        log_q = average(
            source,
            how,
            weights=weights,
            kind="log_probs",
            memory=memory,
            executor=executor,
            progress=progress,
        )
        wrong = log_q.argmax(axis=-1) != true
        loss = -log_q[np.arange(len(true)), true]
        rows.append({"average": how, "error": wrong.mean(), "loss": loss.mean()})
    return pd.DataFrame(rows).sort_values("error", ascending=False, kind="stable")


def compare_groups(
    ensemble: Ensemble,
    by: Grouping = (),
    *,
    sample_sets: Sequence[str] | None = None,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> pd.DataFrame:
    """`compare_averages` of every group of models on every sample set; nothing is stored.

    Parameters
    ----------
    ensemble, by, memory, executor, progress : see `inpca.geometry.grouped.average_groups`
    sample_sets : default all of the ensemble

    Returns
    -------
    columns group (its values of `by`), step, models, sample_set, average, error, loss
    """
    tables = []
    for run in grouped_runs(ensemble.models, by):
        for group in run.groups:
            for name in sample_sets or ensemble.sample_sets:
                table = compare_averages(
                    ensemble.select(group.keys),
                    sample_set=name,
                    memory=memory,
                    executor=executor,
                    progress=progress,
                )
                about = {
                    "group": run.name or "all",
                    "step": group.step,
                    "models": len(group.keys),
                    "sample_set": name,
                }
                table = table.assign(**about)
                tables.append(table[[*about, "average", "error", "loss"]])
    return pd.concat(tables, ignore_index=True)
