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


def _ends_recorded(epoch: int, epochs: int) -> bool:
    if epoch == epochs - 1 or 5 <= epoch <= 25:
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
    batches_per_epoch, epochs : the length of the training; ``"paper"`` needs both

    Raises
    ------
    InputError
        If it is none of these, or if ``"paper"`` lacks the length of the training.
    """
    if callable(schedule):
        return schedule
    if schedule == "paper":
        if batches_per_epoch is None or epochs is None:
            raise InputError(
                "schedule='paper' needs `batches_per_epoch` and `epochs` to place its checkpoints, "
                f"not batches_per_epoch={batches_per_epoch}, epochs={epochs}; pass both, for "
                "example batches_per_epoch=len(train_loader), epochs=200, or use "
                "schedule=every(100)."
            )
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
