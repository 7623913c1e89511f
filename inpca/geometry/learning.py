"""When each sample is learnt for good: the progress from which it is never mistaken again."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import plain_array
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers
from inpca.geometry.progress import progress as progress_of
from inpca.reporting import ProgressArgument, reporting
from inpca.store.ensemble import Ensemble


def learning_progress(correct: ArrayLike, progress: ArrayLike) -> NDArray[np.float64]:
    """Progress at which each sample of one run is learnt for good.

    Parameters
    ----------
    correct : (n_checkpoints, n_samples) whether the most likely class is the true one
    progress : (n_checkpoints,) progress of each checkpoint (Eq. 4), or any other clock

    Returns
    -------
    (n_samples,) the value of `progress` at the first checkpoint from which on the sample is right
    at every later one; NaN for samples that are wrong at the last

    Raises
    ------
    InputError
        For arrays that do not fit each other, or a run without checkpoints.

    Examples
    --------
    >>> learning_progress([[0, 1], [1, 0], [1, 0]], [0.0, 0.4, 0.9])
    array([0.4, nan])
    """
    right = plain_array(correct, "correct")
    clock = real_numbers(progress, "progress")
    if right.ndim != 2 or not len(right):
        raise InputError(
            f"`correct` must have shape (n_checkpoints ≥ 1, n_samples), not {right.shape}."
        )
    if right.dtype != bool:
        if right.dtype.kind not in "iuf" or not np.isin(right, (0, 1)).all():
            raise InputError(
                "`correct` must be truth values, or 0 and 1: whether the most likely class is the "
                "true one."
            )
        right = right.astype(bool)
    if clock.shape != (len(right),) or not np.isfinite(clock).all():
        raise InputError(
            f"`progress` must have one finite value for each of the {len(right)} checkpoints, not "
            f"shape {clock.shape}."
        )
    # Checkpoints at the end that are right without a gap.
    streak = np.logical_and.accumulate(right[::-1], axis=0).sum(axis=0)
    first = np.minimum(len(right) - streak, len(right) - 1)
    return np.where(streak > 0, clock[first], np.nan)


def learning_table(
    ensemble: Ensemble,
    *,
    sample_set: str = "train",
    memory: int | float | str | None = None,
    progress: ProgressArgument = None,
) -> pd.DataFrame:
    """`learning_progress` of every run of an ensemble.

    Returns
    -------
    DataFrame (n_samples rows, one column per run)

    Notes
    -----
    One run's right and wrong answers, (checkpoints, samples) bytes, are in memory, and one
    checkpoint's predictions.
    """
    models = ensemble.models
    own = models[models["kind"] != "reference"]
    view = ensemble.select(list(own.index))
    labels = ensemble.sample_sets[sample_set].labels
    clock = pd.Series(
        progress_of(view, sample_set=sample_set, memory=memory, progress=progress), own.index
    )
    found = {}
    with reporting(progress, "learning") as report:
        runs = list(own.groupby("run", sort=False))
        for done, (run, rows) in enumerate(runs):
            report(done, len(runs), str(run))
            right = np.stack(list(_right(view.select(list(rows.index)), sample_set, labels)))
            found[run] = learning_progress(right, clock[rows.index].to_numpy())
        report(len(runs), len(runs), "done")
    return pd.DataFrame(found, index=pd.RangeIndex(len(labels), name="sample"))


def _right(
    run: Ensemble, sample_set: str, labels: NDArray[np.int64]
) -> Iterator[NDArray[np.bool_]]:
    source = run.predictions(sample_set)
    for checkpoint in range(source.shape[0]):
        log_p = source.read(slice(checkpoint, checkpoint + 1), slice(0, source.shape[1]))
        yield log_p[0].argmax(axis=-1) == labels
