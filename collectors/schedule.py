"""When a run is recorded: a schedule is any callable ``schedule(step, epoch) -> bool``.

`step` counts the weight updates made so far: 0 is the untrained model, and after epoch e (counted
from 0) it is (e + 1)·batches_per_epoch.

A recorder is not always asked at every step. So the schedules of this module also say which steps
they want between two that they are asked about (`Wanting`): the first step at or after each of them
is recorded. A callable of your own is only asked about the steps that are offered.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np

from inpca.errors import InputError
from inpca.store.intake import whole_number

Schedule = Callable[[int, float], bool]
ScheduleArgument = str | Schedule | Iterable[int]
# More steps than this are a rule and no list.
_MAX_LISTED = 1_000_000


@runtime_checkable
class Wanting(Protocol):
    """A schedule that knows the steps it wants, whether or not it is asked about them.

    Steps may be any, so what it answers may be long: a `range` and its like, never written out.
    """

    @property
    def wants_end(self) -> bool:
        """Whether the model that the training ends with is wanted, wherever it ends."""
        ...

    def between(self, before: int, step: int, epoch: float) -> Sequence[int]:
        """The wanted steps after `before`, up to and with `step`, which is `epoch` epochs."""
        ...

    def after(self, step: int) -> Sequence[int]:
        """The wanted steps after `step`, as far as they are known."""
        ...


@dataclass(frozen=True)
class AtSteps:
    """Record at these steps and at no others; `wants_end`: and at the end of the training."""

    steps: frozenset[int]
    wants_end: bool = False
    _sorted: list[int] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        self._sorted.extend(sorted(self.steps))

    def __call__(self, step: int, epoch: float) -> bool:
        return step in self.steps

    def between(self, before: int, step: int, epoch: float) -> list[int]:
        """See `Wanting.between`."""
        first, stop = bisect_right(self._sorted, before), bisect_right(self._sorted, step)
        return self._sorted[first:stop]

    def after(self, step: int) -> list[int]:
        """See `Wanting.after`."""
        return self._sorted[bisect_right(self._sorted, step) :]


@dataclass(frozen=True)
class Every:
    """Record at step 0 and at every n-th step after it, or at the first step offered after it."""

    n: int
    wants_end: bool = False

    def __call__(self, step: int, epoch: float) -> bool:
        return step % self.n == 0

    def between(self, before: int, step: int, epoch: float) -> list[int]:
        """The last wanted step: that there are others before it is what a rate leaves open."""
        last = step - step % self.n
        return [last] if before < last else []

    def after(self, step: int) -> list[int]:
        """None: a rate has no end."""
        return []


def every(n: int) -> Every:
    """Record at step 0 and at every `n`-th step after it.

    >>> [step for step in range(9) if every(4)(step, 0)]
    [0, 4, 8]
    """
    return Every(positive(n, "n"))


def paper_steps(batches_per_epoch: int, epochs: int) -> list[int]:
    """Steps at which the paper recorded its networks, about 70 of them for 200 epochs.

    Step 0; in epochs 0–4 after the first batch and every ⌊batches_per_epoch/4⌋ batches from
    there; then at the end of every epoch from 5 to 25, of every epoch divisible by 4 to 65, of
    every epoch divisible by 15 after that, and of the last epoch. Epochs count from 0.

    >>> len(paper_steps(batches_per_epoch=250, epochs=200))
    67
    """
    batches, epochs = _length(batches_per_epoch, epochs)
    return _listed(_paper_between(-1, batches * epochs, batches, batches * epochs), "epochs")


def paper_steps_until(last_step: int, batches_per_epoch: int) -> list[int]:
    """`paper_steps` of a training that ends at `last_step`, which is one of them.

    >>> paper_steps_until(10, batches_per_epoch=4)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    last_step = positive(last_step, "last_step")
    batches = positive(batches_per_epoch, "batches_per_epoch")
    return _listed(_paper_between(-1, last_step, batches, last_step), "last_step")


@dataclass(frozen=True)
class _Joined(Sequence[int]):
    """Sequences of steps, one after the other, not written out."""

    parts: tuple[Sequence[int], ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> "_Joined": ...

    def __getitem__(self, index: int | slice) -> "int | _Joined":
        first, stop, stride = (
            index.indices(len(self)) if isinstance(index, slice) else (index, None, 1)
        )
        if stop is not None:
            if stride != 1:
                raise IndexError("Joined steps are cut one after the other.")
            cut, begin = [], 0
            for part in self.parts:
                cut.append(part[max(0, first - begin) : max(0, stop - begin)])
                begin += len(part)
            return _Joined(tuple(cut))
        first += len(self) if first < 0 else 0
        for part in self.parts:
            if 0 <= first < len(part):
                return part[first]
            first -= len(part)
        raise IndexError(index)


def _paper_between(before: int, step: int, batches: int, end: int | None) -> Sequence[int]:
    """The paper's steps after `before`, up to and with `step`, of a training that ends at `end`."""
    last = step if end is None else min(step, end)
    quarter = max(1, batches // 4)
    early = (
        epoch * batches + batch + 1 for epoch in range(5) for batch in range(0, batches, quarter)
    )
    ends = ((epoch + 1) * batches for epoch in range(66) if _ends_recorded(epoch))
    first = [one for one in sorted({0, *early, *ends}) if before < one <= last]
    stride = 15 * batches  # the ends of epochs 75, 90, …
    begin = 76 * batches
    begin += max(0, -(-(before + 1 - begin) // stride)) * stride
    later = range(begin, last + 1, stride)
    wanted = _Joined((first, later))
    if end is None or not before < end <= step or (wanted and wanted[-1] == end):
        return wanted
    return _Joined((first, later, [end]))


@dataclass
class PaperSchedule:
    """`paper_steps`, also while the length of the training, or of an epoch, is not known.

    Attributes
    ----------
    batches_per_epoch : where it is None, it is taken from the first step whose epoch is above 0,
        as step / epoch; so epochs must be given as fractions (step / batches_per_epoch), and every
        later step is held against it
    epochs : where it is None, the end of the last epoch is recorded only if the rule for the
        other epochs wants it
    last_step : the last update, where it is known and may lie within an epoch
    """

    batches_per_epoch: int | None = None
    epochs: int | None = None
    last_step: int | None = None
    wants_end: bool = True
    _found: int | None = None

    def __call__(self, step: int, epoch: float) -> bool:
        return step == 0 or (step > 0 and self._wants(step, self._batches(step, epoch)))

    def between(self, before: int, step: int, epoch: float) -> Sequence[int]:
        """See `Wanting.between`."""
        if step <= 0:
            return [0] if before < 0 <= step else []
        batches = self._batches(step, epoch)
        if step == before + 1:
            return [step] if self._wants(step, batches) else []
        return _paper_between(before, step, batches, self._end(batches))

    def after(self, step: int) -> Sequence[int]:
        """See `Wanting.after`; unknown, so none, without the length of the training."""
        batches = self.batches_per_epoch or self._found
        end = None if batches is None else self._end(batches)
        return [] if batches is None or end is None else _paper_between(step, end, batches, end)

    def _batches(self, step: int, epoch: float) -> int:
        return self.batches_per_epoch or self._batches_from(step, epoch)

    def _end(self, batches: int) -> int | None:
        if self.last_step is not None or self.epochs is None:
            return self.last_step
        return batches * self.epochs

    def _wants(self, step: int, batches: int) -> bool:
        end = self._end(batches)
        if end is not None and step >= end:
            return step == end
        number, batch = divmod(step - 1, batches)
        early = number < 5 and batch % max(1, batches // 4) == 0
        return early or (batch == batches - 1 and _ends_recorded(number))

    def _batches_from(self, step: int, epoch: float) -> int:
        if self._found is None and epoch > 0 and step / epoch < 2**63:
            self._found = max(1, round(step / epoch))
        if self._found is None or not abs(epoch * self._found - step) < 0.5:
            found = "" if self._found is None else f" (it began with {self._found} to an epoch)"
            raise InputError(
                "schedule='paper' cannot tell how many batches an epoch has from "
                f"step={step}, epoch={epoch}{found}; pass batches_per_epoch=len(train_loader) to "
                "the recorder, or epoch=step / len(train_loader) to every step."
            )
        return self._found


@dataclass
class EachEpoch:
    """Record at step 0 and at the end of every epoch, or at the first step offered after it.

    Attributes
    ----------
    batches_per_epoch : where it is None, epochs are counted by what the steps are said to be
    epochs : of the whole training, where that is known
    """

    batches_per_epoch: int | None = None
    epochs: int | None = None
    wants_end: bool = True
    _last: tuple[int, float] = (-1, -1.0)  # the last step that was asked about, its epoch

    def __call__(self, step: int, epoch: float) -> bool:
        return bool(self.between(step - 1, step, epoch))

    def between(self, before: int, step: int, epoch: float) -> Sequence[int]:
        """See `Wanting.between`; without `batches_per_epoch` it can name but the step itself."""
        if self.batches_per_epoch is not None:
            first = (before // self.batches_per_epoch + 1) * self.batches_per_epoch
            return range(first, step + 1, self.batches_per_epoch)
        self._check(step, epoch)
        # Of a run that goes on, the epoch of its last step is taken in proportion.
        past = epoch * before / step if before >= 0 and self._last[0] < 0 else self._last[1]
        self._last = step, epoch
        return [step] if before < 0 or _whole(epoch) > _whole(past) else []

    def after(self, step: int) -> Sequence[int]:
        """See `Wanting.after`; unknown, so none, without the length of the training."""
        batches = self.batches_per_epoch
        if batches is None or self.epochs is None:
            return []
        return range((step // batches + 1) * batches, batches * self.epochs + 1, batches)

    def _check(self, step: int, epoch: float) -> None:
        stands = step > self._last[0] >= 0 and epoch <= self._last[1]
        if not math.isfinite(epoch) or (step > 0 and epoch <= 0) or stands:
            raise InputError(
                f"schedule='epochs' cannot tell how many epochs have ended from step={step}, "
                f"epoch={epoch}; pass epoch=step / len(train_loader) to every step, or "
                "batches_per_epoch=len(train_loader) to the recorder."
            )


def _whole(epoch: float) -> int:
    """Epochs that have ended; what is a whole number but for rounding is one."""
    return math.floor(epoch + 1e-6)


def wanted_steps(
    schedule: Schedule, before: int, step: int, epoch: float
) -> tuple[bool, Sequence[int]]:
    """Whether `step` is to be recorded, and which wanted steps before it were never offered.

    Parameters
    ----------
    schedule : as `as_schedule` returns it
    before : the last step that it was asked about; −1 where there is none
    step, epoch : where the training is now
    """
    if not isinstance(schedule, Wanting):
        return bool(schedule(step, epoch)), []
    wanted = schedule.between(before, step, epoch)
    if not wanted:
        return False, []
    return True, wanted[:-1] if wanted[-1] == step else wanted


def _ends_recorded(epoch: int) -> bool:
    if 5 <= epoch <= 25:
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
    n_checkpoints = whole_number(n_checkpoints, "`n_checkpoints`")
    last_step = whole_number(last_step, "`last_step`")
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
    schedule : ``"paper"``, ``"epochs"``, a callable ``(step, epoch) -> bool``, or the steps
        themselves
    batches_per_epoch, epochs : the length of the training; what ``"paper"`` and ``"epochs"`` do
        without them is said in `PaperSchedule` and `EachEpoch`

    Raises
    ------
    InputError
        If it is none of these, or a length is no whole number of 1 or more.
    """
    batches_per_epoch, epochs = _length(batches_per_epoch, epochs)
    if callable(schedule):
        return schedule
    if isinstance(schedule, str) and schedule in ("paper", "epochs"):
        if schedule == "epochs":
            return EachEpoch(batches_per_epoch, epochs)
        return PaperSchedule(batches_per_epoch, epochs)
    if isinstance(schedule, str) or not isinstance(schedule, Iterable):
        raise InputError(
            "`schedule` must be 'paper', 'epochs', a callable (step, epoch) -> bool such as "
            f"every(100), or a list of steps, not {schedule!r}."
        )
    steps = _listed(schedule, "schedule")
    return AtSteps(frozenset(whole_number(step, "The steps of `schedule`") for step in steps))


def positive(value: Any, name: str) -> int:
    """`value` as a whole number of 1 or more, or InputError about the argument `name`."""
    number = whole_number(value, f"`{name}`")
    if number < 1:
        raise InputError(f"`{name}` must be at least 1, not {number}.")
    return number


@overload
def _length(batches_per_epoch: int, epochs: int) -> tuple[int, int]: ...


@overload
def _length(batches_per_epoch: int | None, epochs: int | None) -> tuple[int | None, int | None]: ...


def _length(batches_per_epoch: int | None, epochs: int | None) -> tuple[int | None, int | None]:
    """Both as whole numbers of 1 or more, where they are known, whose product is a step."""
    if batches_per_epoch is not None:
        batches_per_epoch = positive(batches_per_epoch, "batches_per_epoch")
    if epochs is not None:
        epochs = positive(epochs, "epochs")
    if batches_per_epoch is not None and epochs is not None:
        whole_number(batches_per_epoch * epochs, "The updates in `batches_per_epoch` × `epochs`")
    return batches_per_epoch, epochs


def _listed(steps: Iterable[Any], name: str) -> list[Any]:
    """`steps` written out; refuse more than anyone records."""
    listed = list(islice(steps, _MAX_LISTED + 1))
    if len(listed) > _MAX_LISTED:
        raise InputError(
            f"`{name}` must give at most {_MAX_LISTED:,} steps, not more; pass fewer, or a rule "
            "such as every(100)."
        )
    return listed
