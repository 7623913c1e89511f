"""Train the runs of a sweep that are not there yet, in parallel processes."""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from collectors.recorder import DivergedError
from collectors.zoo.bars import SweepProgress, sweep_progress
from collectors.zoo.data import DataSettings, load_data
from collectors.zoo.states import (
    State,
    failures,
    forget_failure,
    is_done,
    prepare,
    record_failure,
    states,
)
from collectors.zoo.sweep import Sweep
from collectors.zoo.training import Training, as_device, train
from collectors.zoo.trial import try_sweep
from inpca.errors import ResourceError
from inpca.executor import n_cores
from inpca.reporting import ProgressArgument
from inpca.store.check import tidy_run
from inpca.store.files import file_lock, take

PathLike = str | os.PathLike[str]
# A worker tells how far it is at most so often.
_TELL_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """How one training ended.

    Attributes
    ----------
    run : its id
    state : ``"trained"``; ``"failed"``, it diverged; ``"elsewhere"``, another process trains it,
        or has done so meanwhile
    """

    run: str
    state: Literal["trained", "failed", "elsewhere"]


@dataclass(frozen=True)
class SweepResult:
    """What became of a sweep.

    Attributes
    ----------
    present : runs that were there before
    trained : runs trained now
    elsewhere : runs that another process is training, or has trained meanwhile
    failed : run → why it diverged, now or before
    """

    present: list[str]
    trained: list[str]
    elsewhere: list[str]
    failed: dict[str, str]


def run_sweep(
    sweep: Sweep,
    ensemble: PathLike,
    *,
    workers: int | None = None,
    device: str = "cpu",
    retry_failed: bool = False,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> SweepResult:
    """Train and record every training of `sweep` that `ensemble` does not hold whole yet.

    A run that was cut off is trained again from its start, since weights are not stored: killed
    and called again, a sweep gives the same predictions as one left alone. A run that diverges is
    recorded as failed, with its reason, in the folder ``failed``; nothing else of it stays, it is
    not tried again, and the sweep goes on. Any number of processes may sweep into one ensemble.

    Parameters
    ----------
    sweep : from `load_sweep`
    ensemble : the folder; made if there is none
    workers : training processes of one thread each; one for each core by default, 1 trains in this
        process
    device : where networks are trained, in torch's words
    retry_failed : train those again that failed before
    restart : train all again, whatever is there
    progress : None, True for bars on standard error, or a callable (done, total, text)

    Raises
    ------
    InputError
        If the ensemble has other sample sets, or one of the runs with another configuration; if
        an architecture, layer or augmentation does not fit the data, or the device cannot be used:
        then nothing is made.
    ResourceError
        If a training process dies.
    """
    path = Path(ensemble)
    as_device(device)
    data = sweep.load_data()
    try_sweep(sweep, data)
    n_train = len(data.sets["train"].y)
    prepare(path, {name: split.y for name, split in data.sets.items()}, data.n_classes)
    found = _states(sweep, path, n_train, restart)
    again = ("missing", "cut off", *(("failed",) if retry_failed else ()))
    todo = [training for training in sweep.trainings if found[training.run] in again]
    present = [run for run, state in found.items() if state == "done"]
    for run in present:  # whoever recorded it may have been killed after its last commit
        tidy_run(path, run)
    outcomes = []
    with sweep_progress(progress) as told:
        n_before, total = len(sweep.trainings) - len(todo), len(sweep.trainings)
        told.overall(n_before, total, "")
        job = Job(sweep.data, path, device, restart)
        for outcome in _train_each(job, todo, workers or n_cores(), told):
            outcomes.append(outcome)
            told.end(outcome.run)
            told.overall(n_before + len(outcomes), total, outcome.run)
    return SweepResult(
        present,
        [outcome.run for outcome in outcomes if outcome.state == "trained"],
        [outcome.run for outcome in outcomes if outcome.state == "elsewhere"],
        failures(sweep.trainings, path),
    )


def _states(sweep: Sweep, ensemble: Path, n_train: int, restart: bool) -> dict[str, State]:
    if restart:
        return {training.run: "missing" for training in sweep.trainings}
    return states(sweep.trainings, ensemble, n_train)


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    data: DataSettings
    ensemble: Path
    device: str
    restart: bool


def train_one(job: Job, training: Training, tell: Callable[[str, int, int], None]) -> Outcome:
    """Train one run, unless another process does, or has done so meanwhile."""
    lock = file_lock(job.ensemble / ".locks" / f"{training.run}.sweep.lock")
    if not take(lock):
        return Outcome(training.run, "elsewhere")
    try:
        data = load_data(job.data)
        if not job.restart and is_done(training, job.ensemble, len(data.sets["train"].y)):
            return Outcome(training.run, "elsewhere")
        forget_failure(training, job.ensemble)
        report = _throttled(training.run, tell)
        try:
            train(training, data, job.ensemble, device=job.device, restart=True, report=report)
        except DivergedError as error:
            cure = f"Lower its learning rate ({training.lr:g}); nothing that it recorded is kept."
            record_failure(training, job.ensemble, f"{error.what} {cure}")
            return Outcome(training.run, "failed")
        return Outcome(training.run, "trained")
    finally:
        lock.release()


def _throttled(run: str, tell: Callable[[str, int, int], None]) -> Callable[[int, int], None]:
    told = 0.0

    def report(step: int, last: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told > _TELL_SECONDS or step == last:
            told = now
            tell(run, step, last)

    return report


def _train_each(
    job: Job, todo: list[Training], workers: int, told: SweepProgress
) -> Iterator[Outcome]:
    if workers == 1 or len(todo) < 2:
        for training in todo:
            yield train_one(job, training, told.step)
        return
    # Spawned, not forked: a fork copies torch's locks but not the threads that would open them.
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    pool = ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=context, initializer=_begin, initargs=(steps,)
    )
    listener = threading.Thread(target=_listen, args=(steps, told), daemon=True)
    listener.start()
    try:
        futures = [pool.submit(_work, job, training) for training in todo]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ResourceError(
            "A training process died: it was killed, or there was not enough memory for "
            f"{workers} of them. What is trained stays; call it again, with fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        steps.put(None)
        listener.join()
        steps.close()


def _listen(steps: "queue.Queue[Any]", told: SweepProgress) -> None:
    """Pass on what workers tell, until None comes."""
    while (message := steps.get()) is not None:
        told.step(*message)


# --- in the workers --------------------------------------------------------------------------

_steps: Any = None


def _begin(steps: Any) -> None:
    """Once in each worker: leave Ctrl-C to the parent, and do not outlive it."""
    global _steps
    _steps = steps
    steps.cancel_join_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        # Whatever is half done is not visible on disk, or trained again: nothing to tidy up.
        os._exit(1)


def _work(job: Job, training: Training) -> Outcome:
    return train_one(job, training, lambda *message: _steps.put(message))
