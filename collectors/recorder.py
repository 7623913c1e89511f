"""What every collector shares: open the ensemble, ask the schedule, check, append, close."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from collectors.schedule import PaperSchedule, ScheduleArgument, as_schedule
from inpca import create_ensemble, open_ensemble
from inpca.errors import InputError
from inpca.predictions import Kind
from inpca.store.samples import difference_of_labels
from inpca.store.schema import check_config, check_run_id
from inpca.units import count

Labels = NDArray[np.int64]


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
    schedule : ``"paper"``, a callable ``(step, epoch) -> bool``, or a list of steps
    batches_per_epoch, epochs : the length of the training, for ``"paper"``; give both where you
        can. Without `batches_per_epoch` the steps must say it (``epoch=step / len(loader)``) or
        are refused; without `epochs` the end of the last epoch is recorded only if the rule wants
        it anyway, and `close` warns where it did not
    n_classes : needed only where the predictions cannot tell
    resume : go on with a run that was cut off; steps that it has already are not recorded again
    restart : delete a run of this id, then start it again
    hold : bytes of predictions to keep in memory before they are committed, all at once; by
        default every checkpoint is committed when it is recorded. For short trainings, whose
        checkpoints come faster than a disk makes them durable; what is held when a training
        breaks off is lost

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
        self._hold = hold
        self._held: list[_Checkpoint] = []
        self.recorded_steps: list[int] = []
        self._seen_step = 0
        self._closed = False
        self.n_recorded = 0
        if (self.path / "ensemble.json").is_file():
            self._start_run(open_ensemble(self.path))

    @property
    def last_step(self) -> float:
        """The last step that the run has; −∞ where it has none."""
        return self.recorded_steps[-1] if self.recorded_steps else -np.inf

    def due(self, step: int, epoch: float) -> bool:
        """Whether the schedule wants this step; steps of a resumed run's past are not wanted."""
        self._seen_step = step
        return step > self.last_step and bool(self.schedule(step, epoch))

    def close(self) -> None:
        """End the run; what was recorded stays. A second call does nothing."""
        if not self._closed:
            self._flush()
            self._warn_of_end()
        self.release()

    def _warn_of_end(self) -> None:
        """Say that the trained network is not among the checkpoints; only a known length tells."""
        unknown = isinstance(self.schedule, PaperSchedule) and self.schedule.epochs is None
        if unknown and self._seen_step > self.last_step:
            warnings.warn(
                f"Run {self.run!r} ends at step {self._seen_step}, which schedule='paper' did not "
                "record: it knows the last epoch only from `epochs`; pass it to the recorder.",
                stacklevel=3,
            )

    def release(self) -> None:
        """End the run after an error: as `close`, without a word on what it lacks."""
        self._closed = True
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
        for name in self._set_names:
            self._check_values(name, predictions[name], step)
        if self._writer is None:
            self._create(predictions, labels)
        for name in self._set_names:
            self._check_classes(name, predictions[name].shape[-1], step)
            self._check_labels(name, labels[name], step)
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
