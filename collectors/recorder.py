"""What every collector shares: open the ensemble, ask the schedule, check, append, close."""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from collectors.inputs import Inputs, check_against
from collectors.schedule import ScheduleArgument, Wanting, as_schedule, wanted_steps
from inpca import create_ensemble, open_ensemble
from inpca.errors import InputError
from inpca.predictions import Kind
from inpca.store.intake import epoch_number, whole_number
from inpca.store.samples import difference_of_labels
from inpca.store.schema import check_config, check_run_id
from inpca.units import count

Labels = NDArray[np.int64]
_log = logging.getLogger("inpca")
_SHOWN_STEPS = 8
_KEPT_STEPS = 10_000


class DivergedError(InputError):
    """A training whose predictions, or whose loss, are no longer numbers.

    Attributes
    ----------
    what : what happened, in a sentence
    cure : what can be done, which depends on who calls: the message is both
    """

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(f"{what} {cure}".strip())
        self.what, self.cure = what, cure


class CallbackOptions(TypedDict, total=False):
    """What every recorder takes; `BaseRecorder` says what each means."""

    schedule: ScheduleArgument
    n_classes: int | None
    resume: bool
    restart: bool
    check_inputs: bool


class RunOptions(CallbackOptions, total=False):
    """The same where the caller alone knows how long the training is."""

    batches_per_epoch: int | None
    epochs: int | None
    hold: int


@dataclass(frozen=True)
class _Checkpoint:
    """One checkpoint, checked, on its way into the run."""

    predictions: dict[str, NDArray[np.floating]]
    kind: Kind
    step: int
    epoch: float
    metrics: dict[str, float]
    observables: Mapping[str, Any] | None

    @property
    def n_bytes(self) -> int:
        return sum(np.asarray(values).nbytes for values in self.predictions.values())

    def continues(self, other: "_Checkpoint") -> bool:
        """Whether both can be written as one block."""
        alike = self.kind == other.kind and self.metrics.keys() == other.metrics.keys()
        return alike and not (self.observables or other.observables)


@dataclass(frozen=True)
class _Unrecorded:
    """The last model that was offered, while it is not recorded."""

    model: Any
    state: Any
    step: int
    epoch: float
    metrics: Any


class BaseRecorder:
    """One run on its way into an ensemble.

    The run is started at once where the ensemble exists, so that a run id that is taken is refused
    before the training and not after it. Where it does not, the ensemble is created by the first
    checkpoint, which brings the labels; many recorders may do so at the same time.

    Parameters
    ----------
    ensemble : the directory of the ensemble
    run : the id of this run, unique in the ensemble
    set_names : the sample sets that every checkpoint brings
    config : what distinguishes this run (architecture, optimizer, lr, seed, …); these become
        columns of the models table
    schedule : ``"paper"``, ``"epochs"`` (the end of each epoch), a callable
        ``(step, epoch) -> bool``, or a list of steps. Of a wanted step that is not offered the
        first one after it is recorded; `missed_steps` names it, and `close` logs it
    batches_per_epoch, epochs : the length of the training, for ``"paper"`` and ``"epochs"``; give
        both where you can. Without `batches_per_epoch` the steps must say it
        (``epoch=step / len(loader)``) or are refused; with it, epochs that contradict it are
        logged once
    n_classes : needed only where the predictions cannot tell
    resume : go on with a run that was cut off; steps that it has already are not recorded again
    restart : delete a run of this id, then start it again
    hold : bytes of predictions to keep in memory before they are committed, all at once; by
        default every checkpoint is committed when it is recorded. For short trainings, whose
        checkpoints come faster than a disk makes them durable; what is held when a training
        breaks off is lost
    check_inputs : at the first recording compare what the sample sets bring with what they bring
        when they are drawn again, and with what other runs of the ensemble were recorded on;
        False for inputs that differ on purpose, such as in another normalisation

    Attributes
    ----------
    recorded_steps : steps of the run's checkpoints
    missed_steps : steps that the schedule wants and that were never offered to `step`; of very
        many the first 10,000
    n_missed : how many these are in all
    n_recorded, n_before : checkpoints recorded by this recorder, and those the run had before

    Raises
    ------
    InputError
        If the run exists already, or the ensemble lacks a sample set.
    ResourceError
        If another process is writing this run.
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        set_names: list[str],
        *,
        config: Mapping[str, Any] | None = None,
        schedule: ScheduleArgument = "paper",
        batches_per_epoch: int | None = None,
        epochs: int | None = None,
        n_classes: int | None = None,
        resume: bool = False,
        restart: bool = False,
        hold: int = 0,
        check_inputs: bool = True,
    ) -> None:
        if not set_names:
            raise InputError("`sample_sets` must name at least one sample set, not none.")
        self.path = Path(ensemble)
        self.run = run
        check_run_id(run, "`run`")
        self.config = None if config is None else check_config(config, set_names)
        self.schedule = as_schedule(schedule, batches_per_epoch, epochs)
        self._set_names = set_names
        self._n_classes = n_classes
        self._start = {"resume": resume, "restart": restart}
        self._labels: dict[str, Labels] = {}
        self._expected_classes = 0  # of the ensemble, once it is there
        self._writer: Any = None
        self._hold = _bytes_held(hold)
        self._held: list[_Checkpoint] = []
        self._check_inputs = check_inputs
        self._inputs: Inputs = {}
        self.recorded_steps: list[int] = []
        self.missed_steps: list[int] = []
        self.n_missed = 0
        self._batches_per_epoch = batches_per_epoch  # None once it was contradicted
        self._seen_step = -1
        self._unrecorded: _Unrecorded | None = None
        self._closed = False
        self.n_recorded, self.n_before = 0, 0
        if (self.path / "ensemble.json").is_file():
            self._start_run(open_ensemble(self.path))

    @property
    def last_step(self) -> float:
        """The last step that the run has; −∞ where it has none."""
        return self.recorded_steps[-1] if self.recorded_steps else -np.inf

    def due(self, step: int, epoch: float) -> bool:
        """Whether the schedule wants this step, or one before it that was not offered.

        Steps of a resumed run's past are not wanted.

        Raises
        ------
        InputError
            If `step` is no whole number, or `epoch` is no number.
        """
        step, epoch = whole_number(step, "`step`"), epoch_number(epoch)
        self._compare(step, epoch)
        before = int(max(self._seen_step, self.last_step, -1))
        if step <= self._seen_step:  # offered again, or a step back: what is recorded decides
            before = int(max(self.last_step, -1))
        self._seen_step = step
        if step <= self.last_step:
            return False
        wanted, missed = wanted_steps(self.schedule, before, step, epoch)
        self._miss(missed)
        return wanted

    def _compare(self, step: int, epoch: float) -> None:
        """Log, once, an epoch that `batches_per_epoch` contradicts, however epochs are counted."""
        batches = self._batches_per_epoch
        if batches is None or math.isnan(epoch):
            return
        off = epoch - step / batches
        if not epoch.is_integer():  # a fraction, which may begin at 0 or at 1
            agrees = min(abs(off), abs(off - 1)) <= max(1.01 / batches, 0.01)
        else:  # the epoch's number, from 0 or from 1
            agrees = abs(off) <= 1 + 1.01 / batches
        if not agrees:
            self._batches_per_epoch = None
            _log.warning(
                "run %r: step %d is said to be epoch %g, but batches_per_epoch=%d makes it %g; "
                "the schedule goes by batches_per_epoch, and the epoch is stored as it is said",
                self.run,
                step,
                epoch,
                batches,
                step / batches,
            )

    def _miss(self, steps: Sequence[int]) -> None:
        self.n_missed += len(steps)
        self.missed_steps += islice(steps, max(0, _KEPT_STEPS - len(self.missed_steps)))

    @property
    def wants_end(self) -> bool:
        """Whether the model that the training ends with is wanted, should it end now.

        With a schedule of the whole training (``"paper"``, ``"epochs"``), and wherever steps that
        are wanted were not reached.
        """
        if not isinstance(self.schedule, Wanting):
            return False
        return self.schedule.wants_end or bool(self.schedule.after(self._reached))

    @property
    def last_offered(self) -> int:
        """The last step that was offered to `step` or recorded; −1 where there is none."""
        return self._seen_step

    @property
    def _reached(self) -> int:
        return int(max(self._seen_step, self.last_step, -1))

    def close(self) -> None:
        """End the run; what was recorded stays. A second call does nothing.

        The model that was last offered is recorded if it was not and `wants_end`, as it is then
        or as it is still: where it was changed since, that is logged.
        """
        if self._closed:
            return
        try:
            self._record_end()
            self._flush()
            self._tell_missed()
        finally:
            self.release()

    def _remember(self, model: Any, step: int, epoch: float, metrics: Any) -> None:
        """Keep hold of a model that the schedule did not want: it may turn out to be the last."""
        self._unrecorded = _Unrecorded(model, self._state_of(model), step, epoch, metrics)

    def _state_of(self, model: Any) -> Any:
        """Something cheap that differs once `model` has been trained further."""
        return None

    def _record(self, model: Any, step: int, epoch: float, metrics: Any) -> None:
        """Record `model`, whatever the schedule says."""
        raise NotImplementedError

    def _record_end(self) -> None:
        last, self._unrecorded = self._unrecorded, None
        if last is None or last.step <= self.last_step or not self.wants_end:
            return
        if self._state_of(last.model) != last.state:
            _log.warning(
                "run %r ends at step %d, which is not recorded: the model was changed after that "
                "step was offered; call `record` with the model that you want",
                self.run,
                last.step,
            )
            return
        self._record(last.model, last.step, last.epoch, last.metrics)

    def _tell_missed(self) -> None:
        """Log which wanted steps were never offered, and what was recorded in their place."""
        unreached: Sequence[int] = []
        if isinstance(self.schedule, Wanting):
            unreached = self.schedule.after(self._reached)
        if self.missed_steps:
            _log.warning(
                "run %r: the schedule wants steps that were never offered (%s); the first step "
                "after each was recorded; offer every update to `step`, or choose "
                "schedule='epochs'",
                self.run,
                _steps_line(self.missed_steps, self.n_missed),
            )
        if unreached:
            _log.warning(
                "run %r ended at step %d, before steps that the schedule wants (%s)",
                self.run,
                self._reached,
                _steps_line(unreached, len(unreached)),
            )
        self._miss(unreached)

    def release(self) -> None:
        """End the run after an error: as `close`, without a word on what it lacks."""
        self._closed, self._unrecorded = True, None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.release()

    def _append(
        self,
        predictions: Mapping[str, NDArray[np.floating]],
        labels: Mapping[str, Labels],
        kind: Kind,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
        observables: Mapping[str, Any] | None = None,
    ) -> None:
        """Check one checkpoint against the run's sample sets and commit it."""
        if self._closed:
            raise InputError(f"Run {self.run!r} is closed; make a new recorder to record more.")
        step, epoch = whole_number(step, "`step`"), epoch_number(epoch)
        for name in self._set_names:
            self._check_values(name, predictions[name], step)
        if self._writer is None:
            self._create(predictions, labels)
        for name in self._set_names:
            self._check_classes(name, predictions[name].shape[-1], step)
            self._check_labels(name, labels[name], step)
        if not self.n_recorded:
            self._note_inputs()
        checkpoint = _Checkpoint(
            dict(predictions), kind, step, epoch, dict(metrics or {}), observables
        )
        if not (self._held and checkpoint.continues(self._held[-1])):
            self._flush()
        self._held.append(checkpoint)
        if observables or sum(held.n_bytes for held in self._held) > self._hold:
            self._flush()
        self.recorded_steps.append(step)
        self.n_recorded += 1
        self._seen_step, self._unrecorded = max(self._seen_step, step), None

    def _note_inputs(self) -> None:
        """Compare the inputs with those of the ensemble's other runs, and keep them in this run."""
        if self._check_inputs and self._inputs:
            check_against(self.path / "runs", self.run, self._writer.inputs, self._inputs)
            self._writer.inputs = self._writer.inputs | self._inputs

    def _flush(self) -> None:
        """Commit the checkpoints that are held, all of them or none."""
        held, self._held = self._held, []
        if len(held) == 1:
            self._writer.append(**vars(held[0]))
        elif held:
            names, metrics = held[0].predictions, held[0].metrics
            with self._writer.transaction():
                self._writer.stage(
                    {name: np.stack([one.predictions[name] for one in held]) for name in names},
                    held[0].kind,
                    [one.step for one in held],
                    [one.epoch for one in held],
                    {name: [one.metrics[name] for one in held] for name in metrics},
                )

    def _create(
        self, predictions: Mapping[str, NDArray[np.floating]], labels: Mapping[str, Labels]
    ) -> None:
        n_classes = self._n_classes or predictions[self._set_names[0]].shape[-1]
        sample_sets = {name: labels[name] for name in self._set_names}
        self._start_run(
            create_ensemble(self.path, sample_sets=sample_sets, n_classes=n_classes, exist_ok=True)
        )

    def _start_run(self, ensemble: Any) -> None:
        unknown = sorted(set(self._set_names) - set(ensemble.sample_sets))
        if unknown:
            raise InputError(
                f"`sample_sets` has {unknown[0]!r}, which the ensemble {self.path} does not hold; "
                f"its sets are {', '.join(sorted(ensemble.sample_sets))}."
            )
        self._expected_classes = ensemble.n_classes
        self._labels = {name: ensemble.sample_sets[name].labels for name in self._set_names}
        self._writer = ensemble.start_run(self.run, config=self.config, **self._start)
        if self._writer.n_checkpoints:
            self.recorded_steps = ensemble.run(self.run).step.tolist()
            self.n_before = self._writer.n_checkpoints

    def _check_values(self, name: str, values: NDArray[np.floating], step: int) -> None:
        bad = (np.isnan(values) | np.isposinf(values)).any(axis=-1)
        if bad.any():
            so_far = count(self.n_recorded, "checkpoint")
            raise DivergedError(
                f"Run {self.run!r} has NaN or infinite predictions at step {step}, set {name!r}, "
                f"sample {int(np.argmax(bad))} ({count(int(bad.sum()), 'sample')} in all): its "
                "training diverged.",
                f"What was recorded so far ({so_far}) stays; stop this run, or lower its learning "
                "rate.",
            )

    def _check_classes(self, name: str, n_classes: int, step: int) -> None:
        if n_classes != self._expected_classes:
            raise InputError(
                f"Run {self.run!r} predicts {n_classes:,} classes in set {name!r} at step {step} "
                f"but the ensemble has {self._expected_classes:,}; record it in an ensemble of "
                "its own."
            )

    def _check_labels(self, name: str, labels: Labels, step: int) -> None:
        expected = self._labels[name]
        if len(labels) != len(expected):
            raise InputError(
                f"Run {self.run!r} has {len(labels):,} samples in set {name!r} at step {step} but "
                f"the ensemble's set has {len(expected):,}; record it over the same samples, or "
                "in an ensemble of its own."
            )
        if not np.array_equal(labels, expected):
            raise InputError(
                f"Run {self.run!r} has set {name!r} in another order than the ensemble at step "
                f"{step}: {difference_of_labels(labels, expected)}; use a loader that does not "
                "shuffle and the data set that the ensemble was made with."
            )


def _steps_line(steps: Sequence[int], n_steps: int) -> str:
    """Some steps for a message: the first few, and how many there are."""
    shown = ", ".join(map(str, steps[:_SHOWN_STEPS]))
    return shown if n_steps <= _SHOWN_STEPS else f"{shown}, …: {n_steps:,} in all"


def _bytes_held(hold: Any) -> int:
    """The argument `hold`: bytes, 0 or more."""
    n_bytes = whole_number(hold, "`hold` (bytes, such as 1_000_000_000)")
    if n_bytes < 0:
        raise InputError(f"`hold` must be 0 bytes or more, not {n_bytes}.")
    return n_bytes
