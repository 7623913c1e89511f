"""The order of files that a training saved: by the steps that they, or their names, tell.

A name may hold many numbers: ``resnet18-epoch=3-val_loss=0.78-v1.ckpt``. A number counts as the
step where the name says so (``step=120``), where the file does (``global_step``, as Lightning
writes it), or where it is the only one, or the only one that differs from file to file. Nothing is
guessed: decimals, ``10k``, and names in which several numbers differ are refused.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpca.errors import InputError

# What is said inside files, the surest first.
_STEP_KEYS = (
    "global_step", "global_steps", "step", "steps", "iteration", "iterations", "iter",
    "num_updates", "n_updates",
)  # fmt: skip
_EPOCH_KEYS = ("epoch", "epochs")

_AFTER_WORD = r"[=_\- ]?(\d[\w.]*)"
_STEP_WORD = re.compile(
    rf"(?<![a-z])(?:global[_-]?)?(?:steps?|iter(?:ation)?s?|updates?){_AFTER_WORD}", re.IGNORECASE
)
_EPOCH_WORD = re.compile(rf"(?<![a-z])(?:epochs?|ep){_AFTER_WORD}", re.IGNORECASE)
# A number, with whatever makes it another one than its digits say: 0.78, 10k, 1e-3.
_NUMBER = re.compile(r"\d+(?:\.\d+)*(?:[eE][-+]?\d+)?[A-Za-z]*")
# A folder that holds one checkpoint, as Hugging Face's Trainer makes them.
_FOLDER = re.compile(r"(?:checkpoint|ckpt|global_?step|step|epoch)[-_=]?\d+", re.IGNORECASE)
# What Lightning adds to a name that is taken.
_VERSION = re.compile(r"-v\d+$")

_CURE = "say which it is with step=… (--step-pattern)"

StepOf = Callable[[Path], int]


@dataclass(frozen=True)
class Told:
    """What a file and its name tell of when it was saved; None where they do not."""

    step: int | None
    epoch: int | None


def ordered(
    files: Sequence[Path],
    step: StepOf | Iterable[int] | None = None,
    look_inside: Callable[[Path], Any] | None = None,
) -> dict[int, Path]:
    """Step → file, in the order of steps.

    Parameters
    ----------
    files : one file for each checkpoint
    step : the step of a path, or the steps of `files`, one each; by default what the files and
        their names tell
    look_inside : what a file holds, for those whose name has no ``step=…``

    Raises
    ------
    InputError
        If a step cannot be told, or two files have the same.
    """
    if step is None:
        steps = steps_told(files, look_inside)
    elif callable(step):
        steps = [int(step(file)) for file in files]
    else:
        steps = [operator.index(one) for one in step]
        if len(steps) != len(files):
            raise InputError(
                f"`step` must have one number for each of the {len(files)} files, not {len(steps)}."
            )
    found: dict[int, Path] = {}
    for file, at in zip(files, steps):
        if at in found:
            raise InputError(
                f"{found[at]} and {file} are both of step {at}; leave one of them out, or say with "
                "step=… (--step-pattern) which number in a name is the step."
            )
        found[at] = file
    return dict(sorted(found.items()))


def steps_told(files: Sequence[Path], look_inside: Callable[[Path], Any] | None) -> list[int]:
    """The step of each file; of files that tell epochs alone, the epoch."""
    names = _names(files)
    told = [_told(file, name, look_inside) for file, name in zip(files, names)]
    for kind in ("step", "epoch"):
        known = [getattr(one, kind) for one in told]
        if all(value is not None for value in known):
            return known
        if kind == "step" and any(value is not None for value in known):
            with_one = files[next(k for k, value in enumerate(known) if value is not None)]
            raise InputError(
                f"{with_one} tells its step and {files[known.index(None)]} does not; rename one, "
                f"or {_CURE}."
            )
    return _by_numbers(files, names)


def by_epochs(files: Sequence[Path], look_inside: Callable[[Path], Any] | None) -> bool:
    """Whether `steps_told` counts epochs, because none of the files tells a step."""
    told = [_told(one, name, look_inside) for one, name in zip(files, _names(files))]
    return all(one.step is None and one.epoch is not None for one in told)


def step_in_name(path: Path) -> int:
    """The step that a file's name tells by itself.

    >>> step_in_name(Path("epoch=3-step=120-val_loss=0.78.ckpt"))
    120
    >>> step_in_name(Path("net-7.pt"))
    7
    """
    return steps_told([path], None)[0]


def differ_by_a_number(files: Sequence[Path]) -> bool:
    """Whether several names are the same but for their numbers, as those of one training are."""
    return len(files) > 1 and len({_NUMBER.sub("#", file.name) for file in files}) == 1


def _names(files: Sequence[Path]) -> list[str]:
    """The part of each path that is looked at: the name, or its folder's: ``checkpoint-500/``."""
    names = [_VERSION.sub("", file.stem) for file in files]
    if not any(_NUMBER.search(name) for name in names):
        folders = [file.parent.name for file in files]
        return folders if all(_FOLDER.fullmatch(folder) for folder in folders) else names
    return names


def _told(file: Path, name: str, look_inside: Callable[[Path], Any] | None) -> Told:
    step, epoch = _after_word(_STEP_WORD, name, file), _after_word(_EPOCH_WORD, name, file)
    if step is None and look_inside is not None:
        content = look_inside(file)
        step = _under(content, _STEP_KEYS)
        # A number in the name is surer than an epoch in the file, which few count alike.
        if epoch is None and not _NUMBER.search(name):
            epoch = _under(content, _EPOCH_KEYS)
    return Told(step, epoch)


def _after_word(word: re.Pattern[str], name: str, file: Path) -> int | None:
    found = {match.strip(".").split("_")[0] for match in word.findall(name)}
    if len(found) > 1:
        raise InputError(
            f"The name of {file} tells several steps or epochs ({', '.join(sorted(found))}); "
            f"{_CURE}."
        )
    if not found:
        return None
    number = found.pop()
    if not number.isdigit():
        raise InputError(f"The name of {file} tells {number!r}, which is no whole number; {_CURE}.")
    return int(number)


def _under(content: Any, keys: Sequence[str]) -> int | None:
    """The number that a file holds under the first of `keys` that it has."""
    if not isinstance(content, Mapping):
        return None
    for key in keys:
        value: Any = content.get(key)
        value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 1) else value
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if whole and not isinstance(value, bool) and value >= 0:
            return int(value)
    return None


def _by_numbers(files: Sequence[Path], names: Sequence[str]) -> list[int]:
    """The only number in each name, or the only one that differs between names that are alike."""
    numbers = [_NUMBER.findall(name) for name in names]
    for file, found in zip(files, numbers):
        if not found:
            raise InputError(
                f"No step can be read from the name of {file}; rename it, or say where the step is "
                "with step=… (--step-pattern)."
            )
    alike = len({_NUMBER.sub("#", name) for name in names}) == 1
    places = range(len(numbers[0])) if alike else range(0)
    differing = [k for k in places if len({found[k] for found in numbers}) > 1]
    chosen = differing or [*places]
    if alike and len(chosen) == 1:
        picked = [found[chosen[0]] for found in numbers]
    elif not alike and all(len(found) == 1 for found in numbers):
        picked = [found[0] for found in numbers]
    else:
        several = max(numbers, key=len)
        raise InputError(
            f"The name of {files[numbers.index(several)]} has several numbers "
            f"({', '.join(several)}), and which is the step cannot be told; {_CURE}."
        )
    for file, number in zip(files, picked):
        if not number.isdigit():
            raise InputError(
                f"The number in the name of {file}, {number}, is no whole one, so it cannot be a "
                f"step; {_CURE}."
            )
    return [int(number) for number in picked]
