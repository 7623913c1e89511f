"""What the callbacks of training frameworks share: a recorder, once the training's length is known.

A framework tells how many updates it will make, and how many to an epoch, only when the training
begins; until then there is no schedule, so no recorder. On several processes only the first has a
recorder, because a run has one writer.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from collectors.loaders import check_loaders
from collectors.recorder import CallbackOptions, DivergedError
from collectors.schedule import PaperSchedule
from collectors.torch import Forward, Recorder
from collectors.undisturbed import generators_restored
from inpca.errors import InputError


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes
    ----------
    updates_per_epoch : optimizer updates in one pass over the training set
    last_step : updates of the whole training; None where the framework cannot tell
    """

    updates_per_epoch: int
    last_step: int | None


class TrainingRecorder:
    """Records one training of a framework.

    With ``schedule="paper"`` or ``"epochs"``, and where a list of steps was not reached, the
    network that the training ends with is recorded in any case, also where it was stopped early.

    A training that begins again before it has ended, as when a framework looks for a batch size
    that fits, begins its run again: what the attempt before it recorded is deleted.

    Parameters
    ----------
    ensemble, run, config, sample_sets, forward : see `collectors.torch.Recorder`
    options : schedule, n_classes, resume, restart, check_inputs: see
        `collectors.recorder.BaseRecorder`
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        config: Mapping[str, Any] | None,
        sample_sets: Mapping[str, Iterable[Any]],
        forward: Forward | None,
        options: CallbackOptions,
    ) -> None:
        unknown = sorted(set(options) - set(CallbackOptions.__annotations__))
        if unknown:
            raise TypeError(f"The callback takes no argument {unknown[0]!r}.")
        with generators_restored(sample_sets.values()):
            check_loaders(sample_sets, count=options.get("check_inputs", True))
        self._arguments = (ensemble, run, config)
        self._named: dict[str, Any] = {"sample_sets": sample_sets, "forward": forward, **options}
        schedule = options.get("schedule", "paper")
        self._schedule = schedule if isinstance(schedule, str) else ""
        self._updates_per_epoch = 1
        self._recorder: Recorder | None = None
        self._begun_at = 0
        self._ended = True  # whether the training that the recorder is of has ended, or was let go

    @property
    def n_recorded(self) -> int:
        """Checkpoints that this process has recorded in its last training."""
        return 0 if self._recorder is None else self._recorder.n_recorded

    def start(self, model: nn.Module, step: int, length: Length) -> None:
        """Begin the run, and record the network as it is if the schedule wants it."""
        self._updates_per_epoch = length.updates_per_epoch
        named = self._named | self._of_length(length) | self._again(step)
        self._recorder = Recorder(*self._arguments, **named)
        self._begun_at, self._ended = step, False
        self.step(model, step)

    def _of_length(self, length: Length) -> dict[str, Any]:
        """Arguments of the recorder that say how long the training is, as its schedule needs it."""
        updates, last = length.updates_per_epoch, length.last_step
        if self._schedule == "paper" and last is not None:
            return {"schedule": PaperSchedule(updates, last_step=last)}
        if self._schedule == "epochs" and last is not None and last >= updates:
            return {"batches_per_epoch": updates, "epochs": last // updates}
        return {"batches_per_epoch": updates} if self._schedule in ("paper", "epochs") else {}

    def _again(self, step: int) -> dict[str, Any]:
        """How to begin where a training of this process broke off without a word."""
        former = self._recorder
        if former is None or self._ended:
            return {}
        former.release()
        if not former.n_before and step <= self._begun_at:
            return {"resume": False, "restart": True}
        if step < former.last_step:
            raise InputError(
                f"The training begins again at step {step}, but run {former.run!r} has checkpoints "
                f"up to step {int(former.last_step)} of the attempt before; record it under "
                "another id, or from the start with restart=True."
            )
        return {"resume": True, "restart": False}

    def step(self, model: nn.Module, step: int) -> None:
        """Record the network after `step` updates if the schedule wants it."""
        if self._recorder is not None:
            with self._released_on_failure(self._recorder):
                self._recorder.step(model, step=step, epoch=self._epoch(step))

    def end(self, model: nn.Module, step: int) -> None:
        """End the run, with the network that the training ends with where that is wanted."""
        self._ended = True
        if self._recorder is not None:
            if step > self._recorder.last_offered:
                self.step(model, step)
            with self._released_on_failure(self._recorder):
                self._recorder.close()

    def release(self) -> None:
        """End the run where the training failed; what was recorded stays."""
        self._ended = True
        if self._recorder is not None:
            self._recorder.release()

    def _epoch(self, step: int) -> float:
        return step / self._updates_per_epoch

    @contextmanager
    def _released_on_failure(self, recorder: Recorder) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            recorder.release()
            # A training that diverged is one that has ended; another error may be one of memory.
            self._ended = self._ended or isinstance(error, DivergedError)
            raise


def refuse_sharded(sharded: bool, what: str) -> None:
    """Refuse a training in which no process holds the whole network."""
    if sharded:
        raise InputError(
            f"{what} splits the network over several processes, and none of them can run it "
            "alone; save checkpoints and record them afterwards with collectors.checkpoints.replay "
            "(`inpca replay`)."
        )
