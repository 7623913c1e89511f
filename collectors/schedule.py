"""When a run is recorded: a schedule is any callable ``schedule(step, epoch) -> bool``.

`step` counts the weight updates made so far: 0 is the untrained model, and after epoch e (counted
from 0) it is (e + 1)·batches_per_epoch.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from inpca.errors import InputError

Schedule = Callable[[int, float], bool]
ScheduleArgument = str | Schedule | Iterable[int]


@dataclass(frozen=True)
class AtSteps:
    """Record at these steps and at no others."""

    steps: frozenset[int]

    def __call__(self, step: int, epoch: float) -> bool:
        return step in self.steps


@dataclass(frozen=True)
class Every:
    """Record at step 0 and at every n-th step after it."""

    n: int

    def __call__(self, step: int, epoch: float) -> bool:
        return step % self.n == 0


def every(n: int) -> Every:
    """Record at step 0 and at every `n`-th step after it.

    >>> [step for step in range(9) if every(4)(step, 0)]
    [0, 4, 8]
    """
    return Every(_positive(n, "n"))


def paper_steps(batches_per_epoch: int, epochs: int) -> list[int]:
    """Steps at which the paper recorded its networks, about 70 of them for 200 epochs.

    Step 0; in epochs 0–4 after the first batch and every ⌊batches_per_epoch/4⌋ batches from
    there; then at the end of every epoch from 5 to 25, of every epoch divisible by 4 to 65, of
    every epoch divisible by 15 after that, and of the last epoch. Epochs count from 0.

    >>> len(paper_steps(batches_per_epoch=250, epochs=200))
    67
    """
    batches = _positive(batches_per_epoch, "batches_per_epoch")
    epochs = _positive(epochs, "epochs")
    quarter = max(1, batches // 4)
    early = (
        epoch * batches + batch + 1
        for epoch in range(min(epochs, 5))
        for batch in range(0, batches, quarter)
    )
    ends = ((epoch + 1) * batches for epoch in range(epochs) if _ends_recorded(epoch, epochs))
    return sorted({0, *early, *ends})


def paper_steps_until(last_step: int, batches_per_epoch: int) -> list[int]:
    """`paper_steps` of a training that ends at `last_step`, which is one of them.

    >>> paper_steps_until(10, batches_per_epoch=4)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    last_step = _positive(last_step, "last_step")
    epochs = -(-last_step // _positive(batches_per_epoch, "batches_per_epoch"))
    steps = paper_steps(batches_per_epoch, epochs)
    return [*(step for step in steps if step < last_step), last_step]


@dataclass
class PaperSchedule:
    """`paper_steps` while the length of the training, or of an epoch, is not known beforehand.

    Attributes
    ----------
    batches_per_epoch : where it is None, it is taken from the first step whose epoch is above 0,
        as step / epoch; so epochs must be given as fractions (step / batches_per_epoch), and every
        later step is held against it
    epochs : where it is None, the end of the last epoch is recorded only if the rule for the
        other epochs wants it
    """

    batches_per_epoch: int | None = None
    epochs: int | None = None
    _found: int | None = None

    def __call__(self, step: int, epoch: float) -> bool:
        if step == 0:
            return True
        batches = self.batches_per_epoch or self._batches_from(step, epoch)
        number, batch = divmod(step - 1, batches)
        if self.epochs is not None and number >= self.epochs:
            return False
        early = number < 5 and batch % max(1, batches // 4) == 0
        return early or (batch == batches - 1 and _ends_recorded(number, self.epochs))

    def _batches_from(self, step: int, epoch: float) -> int:
        if self._found is None and epoch > 0:
            self._found = max(1, round(step / epoch))
        if self._found is None or not abs(epoch * self._found - step) < 0.5:
            found = "" if self._found is None else f" (it began with {self._found} to an epoch)"
            raise InputError(
                "schedule='paper' cannot tell how many batches an epoch has from "
                f"step={step}, epoch={epoch}{found}; pass batches_per_epoch=len(train_loader) to "
                "the recorder, or epoch=step / len(train_loader) to every step."
            )
        return self._found


def _ends_recorded(epoch: int, epochs: int | None) -> bool:
    if (epochs is not None and epoch == epochs - 1) or 5 <= epoch <= 25:
        return True
    return epoch % 4 == 0 if 25 < epoch <= 65 else epoch > 65 and epoch % 15 == 0


def geometric_steps(n_checkpoints: int, last_step: int) -> list[int]:
    """Step 0, then steps that grow geometrically to `last_step`: dense where training is fast.

    >>> geometric_steps(5, 27)
    [0, 1, 3, 9, 27]

    Raises
    ------
    InputError
        If there are fewer than `n_checkpoints` steps to choose from.
    """
    if not 2 <= n_checkpoints <= last_step + 1:
        raise InputError(
            f"`n_checkpoints` must be between 2 and last_step + 1 = {last_step + 1}, not "
            f"{n_checkpoints}; record fewer, or train for longer."
        )
    steps = np.rint(np.geomspace(1, last_step, n_checkpoints - 1)).astype(int)
    steps[-1] = last_step  # of one step, geomspace gives the first and not the last
    # Rounding makes the first few coincide; push each at least one past the one before it.
    for index in range(1, len(steps)):
        steps[index] = max(steps[index], steps[index - 1] + 1)
    # The pushed ones may now run past the end: pull them back under it, from the right.
    ceiling = last_step - np.arange(len(steps))[::-1]
    return [0, *np.minimum(steps, ceiling).tolist()]


def as_schedule(
    schedule: ScheduleArgument,
    batches_per_epoch: int | None = None,
    epochs: int | None = None,
) -> Schedule:
    """The callable that the argument `schedule` of a recorder stands for.

    Parameters
    ----------
    schedule : ``"paper"``, a callable ``(step, epoch) -> bool``, or the steps themselves
    batches_per_epoch, epochs : the length of the training; what ``"paper"`` does without them is
        said in `PaperSchedule`

    Raises
    ------
    InputError
        If it is none of these.
    """
    if callable(schedule):
        return schedule
    if schedule == "paper":
        for name, value in (("batches_per_epoch", batches_per_epoch), ("epochs", epochs)):
            if value is not None:
                _positive(value, name)
        if batches_per_epoch is None or epochs is None:
            return PaperSchedule(batches_per_epoch, epochs)
        return AtSteps(frozenset(paper_steps(batches_per_epoch, epochs)))
    if isinstance(schedule, str) or not isinstance(schedule, Iterable):
        raise InputError(
            "`schedule` must be 'paper', a callable (step, epoch) -> bool such as every(100), or "
            f"a list of steps, not {schedule!r}."
        )
    return AtSteps(frozenset(operator.index(step) for step in schedule))


def _positive(value: int, name: str) -> int:
    number = operator.index(value)
    if number < 1:
        raise InputError(f"`{name}` must be at least 1, not {number}.")
    return number
