"""Many trainings into one ensemble, in parallel processes; what is there already is kept."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any

from collectors.zoo.training import Training, train
from inpca import open_ensemble
from inpca.errors import InputError
from inpca.executor import n_cores
from inpca.reporting import ProgressArgument, reporting


def grid(
    architectures: Iterable[str], optimizers: Iterable[str], seeds: Iterable[int], **settings: Any
) -> list[Training]:
    """One `Training` for every combination, `settings` the same for all."""
    return [Training(*choice, **settings) for choice in product(architectures, optimizers, seeds)]


def train_all(
    trainings: Sequence[Training],
    ensemble: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: ProgressArgument = None,
) -> list[str]:
    """Train and record every training that `ensemble` does not hold whole yet.

    A run that was cut off is trained again from its start: weights are not stored.

    Parameters
    ----------
    workers : processes of one thread each; one for each core by default, 1 trains in this process
    progress : None, True for a bar on standard error, or a callable (done, total, text)

    Returns
    -------
    ids of the runs that were trained now

    Raises
    ------
    InputError
        If the ensemble holds one of the runs with another configuration.
    """
    missing = missing_trainings(trainings, Path(ensemble))
    done = len(trainings) - len(missing)
    with reporting(progress, "train") as report:
        report(done, len(trainings), "")
        trained = []
        for run in _train_each(missing, ensemble, workers or n_cores()):
            trained.append(run)
            report(done + len(trained), len(trainings), run)
    return trained


def missing_trainings(trainings: Sequence[Training], ensemble: Path) -> list[Training]:
    """Those that `ensemble` lacks, or holds in part."""
    if not (ensemble / "ensemble.json").is_file():
        return list(trainings)
    found = open_ensemble(ensemble)
    present = set(found.runs)
    missing = []
    for training in trainings:
        if training.run not in present:
            missing.append(training)
            continue
        run = found.run(training.run)
        if run.config != training.config:
            raise InputError(
                f"Run {training.run!r} of {ensemble} was trained with {run.config}, not with "
                f"{training.config}; use another ensemble, or start again (--restart)."
            )
        if run.n_checkpoints != training.n_checkpoints:
            missing.append(training)
    return missing


def _train_each(
    trainings: Sequence[Training], ensemble: str | os.PathLike[str], workers: int
) -> Iterator[str]:
    if workers == 1 or len(trainings) < 2:
        for training in trainings:
            yield train(training, ensemble, restart=True)
        return
    # Spawned, not forked: a fork copies torch's locks but not the threads that would open them.
    pool = ProcessPoolExecutor(
        min(workers, len(trainings)), mp_context=multiprocessing.get_context("spawn")
    )
    try:
        futures = [pool.submit(train, training, ensemble, restart=True) for training in trainings]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
