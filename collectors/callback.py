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

from collectors.recorder import CallbackOptions
from collectors.schedule import paper_steps_until
from collectors.torch import Forward, Recorder, check_fixed_order
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

    With ``schedule="paper"`` the network that the training ends with is recorded in any case, also
    where it was stopped early.

    Parameters
    ----------
    ensemble, run, config, sample_sets, forward : see `collectors.torch.Recorder`
    options : schedule, n_classes, resume, restart: see `collectors.recorder.BaseRecorder`
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
        check_fixed_order(sample_sets)
        self._arguments = (ensemble, run, config)
        self._named: dict[str, Any] = {"sample_sets": sample_sets, "forward": forward, **options}
        schedule = options.get("schedule", "paper")
        self._paper = isinstance(schedule, str) and schedule == "paper"
        self._updates_per_epoch = 1
        self._recorder: Recorder | None = None

    @property
    def n_recorded(self) -> int:
        """Checkpoints that this process has recorded in its last training."""
        return 0 if self._recorder is None else self._recorder.n_recorded

    def start(self, model: nn.Module, step: int, length: Length) -> None:
        """Begin the run, and record the network as it is if the schedule wants it."""
        self._updates_per_epoch = length.updates_per_epoch
        named = dict(self._named)
        if self._paper and length.last_step is not None:
            named["schedule"] = paper_steps_until(length.last_step, length.updates_per_epoch)
        elif self._paper:
            named["batches_per_epoch"] = length.updates_per_epoch
        self._recorder = Recorder(*self._arguments, **named)
        self.step(model, step)

    def step(self, model: nn.Module, step: int) -> None:
        """Record the network after `step` updates if the schedule wants it."""
        if self._recorder is not None:
            with self._released_on_failure(self._recorder):
                self._recorder.step(model, step=step, epoch=self._epoch(step))

    def end(self, model: nn.Module, step: int) -> None:
        """End the run; the paper's schedule wants the network that it ends with."""
        if self._recorder is not None:
            with self._released_on_failure(self._recorder):
                if self._paper and step > self._recorder.last_step:
                    self._recorder.record(model, step=step, epoch=self._epoch(step))
                self._recorder.close()

    def release(self) -> None:
        """End the run where the training failed; what was recorded stays."""
        if self._recorder is not None:
            self._recorder.release()

    def _epoch(self, step: int) -> float:
        return step / self._updates_per_epoch

    @contextmanager
    def _released_on_failure(self, recorder: Recorder) -> Iterator[None]:
        try:
            yield
        except BaseException:
            recorder.release()
            raise


def refuse_sharded(sharded: bool, what: str) -> None:
    """Refuse a training in which no process holds the whole network."""
    if sharded:
        raise InputError(
            f"{what} splits the network over several processes, and none of them can run it "
            "alone; save checkpoints and record them afterwards with collectors.checkpoints.replay "
            "(`inpca replay`)."
        )
