"""The order of files that a training saved: by the steps that they, or their names, tell.

A name may hold many numbers: ``resnet18-epoch=3-val_loss=0.78-v1.ckpt``. A number counts as the
step where the name says so (``step=120``), where the file does (``global_step``, as Lightning
writes it), or where it is the only one, or the only one that differs from file to file. Nothing is
guessed: decimals, ``10k``, negative numbers, digits in groups (``1_000``), and names in which
several numbers differ are refused. Counts of another thing, such as ``max_steps=1000`` and
``steps_per_epoch=100``, are no steps.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpca.errors import InputError
from inpca.store.intake import whole_number

# What is said inside files, the surest first.
_STEP_KEYS = (
    "global_step", "global_steps", "step", "steps", "iteration", "iterations", "iter",
    "num_updates", "n_updates",
)  # fmt: skip
_EPOCH_KEYS = ("epoch", "epochs")

# A key, the word before it that may make it another key, and what follows it up to the number.
_KEY = r"(?:(?<![a-z])(?P<before>[a-z]+)(?P<joint>[_-]))?(?<![a-z])(?P<key>{})(?P<sign>[=_\- ]?)"
_STEP_WORD = re.compile(_KEY.format(r"(?:global)?(?:steps?|iter(?:ation)?s?|updates?)"), re.I)
_EPOCH_WORD = re.compile(_KEY.format(r"(?:epochs?|ep)"), re.I)
# The number after a key, and all that touches it: 120, 1.5, 10k, -5, 1_000, 1'000.
_AFTER_KEY = re.compile(r"[-+−]?[0-9](?:\w|[.,'’ ](?=\d))*")
# Words before a key that make it the number of something else.
_COUNTED = frozenset(
    [
        "max",
        "min",
        "total",
        "warmup",
        "up",
        "num",
        "n",
        "per",
        "every",
        "decay",
        "accumulation",
        "accum",
    ]
)
# Words before a key that leave it what it is.
_SAME = frozenset(
    [
        "global",
        "train",
        "training",
        "optimizer",
        "at",
        "model",
        "net",
        "network",
        "ckpt",
        "checkpoint",
        "weights",
        "state",
    ]
)
# A number, with whatever makes it another one than its digits say: 0.78, 10k, 1e-3.
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:[eE][-+]?[0-9]+)?[A-Za-z]*")
# Several numbers, or one that is written in groups of digits or with a decimal comma; a negative.
_UNCLEAR = re.compile(
    r"(?<![0-9])[0-9]+(?:[,'’][0-9]+)+|(?<![0-9.])[1-9][0-9]{0,2}(?:[_ ][0-9]{3})+(?![0-9])"
    r"|(?:(?<![A-Za-z0-9)\]])-|−)[0-9]+"
)
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
    unread: list[InputError] | None = None,
) -> dict[int, Path]:
    """Step → file, in the order of steps.

    Parameters
    ----------
    files : one file for each checkpoint
    step : the step of a path, or the steps of `files`, one each; by default what the files and
        their names tell
    look_inside : what a file holds, for those whose name has no ``step=…``
    unread : where it is given and a file cannot be looked into, the files that come before it by
        name are returned, and the error is added to this list

    Raises
    ------
    InputError
        If a step cannot be told, or two files have the same.
    """
    if step is None:
        files, steps = _told_before(files, look_inside, unread)
    elif callable(step):
        steps = [step(file) for file in files]
    elif not isinstance(step, Iterable):
        raise InputError(
            "`step` must be a function of the path, or list one step for each file, not "
            f"{step!r}; pass [{step!r}] for one file."
        )
    else:
        steps = list(step)
        if len(steps) != len(files):
            raise InputError(
                f"`step` must have one number for each of the {len(files)} files, not {len(steps)}."
            )
    found: dict[int, Path] = {}
    for file, told in zip(files, steps):
        at = whole_number(told, f"`step`, for {file},")
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


def _told_before(
    files: Sequence[Path],
    look_inside: Callable[[Path], Any] | None,
    unread: list[InputError] | None,
) -> tuple[Sequence[Path], list[int]]:
    """The files that come before the first that cannot be read, and their steps; see `ordered`."""
    if look_inside is None or unread is None:
        return files, steps_told(files, look_inside)
    contents: dict[Path, Any] = {}
    errors: dict[Path, InputError] = {}

    def look(file: Path) -> Any:
        if file not in contents and file not in errors:
            try:
                contents[file] = _counters(look_inside(file))
            except InputError as error:
                errors[file] = error
        return contents.get(file)

    told = {file: _told(file, name, look) for file, name in zip(files, _names(files))}
    if not errors:
        return files, steps_told(files, look)
    error = next(iter(errors.values()))
    try:
        place = dict(zip(files, steps_told(files, None)))
    except InputError:  # the names give no order, so none is known to come before it
        raise error from None
    before = [one for one in files if place[one] < min(place[bad] for bad in errors)]
    before.sort(key=place.__getitem__)
    inside = [told[file].step for file in before]
    steps = [step for step in inside if step is not None]
    if not steps:
        steps = [place[file] for file in before]
    if not before or len(steps) < len(before) or steps != sorted(steps):
        raise error
    unread.append(errors[min(errors, key=place.__getitem__)])
    return before, steps


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
    step, sure = _after_word(_STEP_WORD, name, file)
    epoch, _ = _after_word(_EPOCH_WORD, name, file)
    # Such as lr_step=3: the step, unless there is anything else that may be.
    doubtful = step is not None and not sure
    if doubtful and epoch is not None:
        raise InputError(
            f"The name of {file} tells epoch {epoch} and {step} of what may be its step; {_CURE}."
        )
    if (step is None or doubtful) and look_inside is not None:
        content = look_inside(file)
        inside = _under(content, _STEP_KEYS)
        if doubtful and inside not in (None, step):
            raise InputError(
                f"{file} holds step {inside}, and its name tells {step} of what may be its step; "
                f"{_CURE}."
            )
        step = step if doubtful else inside
        # A number in the name is surer than an epoch in the file, which few count alike.
        if epoch is None and not _NUMBER.search(name):
            epoch = _under(content, _EPOCH_KEYS)
    return Told(step, epoch)


def _after_word(word: re.Pattern[str], name: str, file: Path) -> tuple[int | None, bool]:
    """The number after a key in a name, and whether that key is no part of another."""
    found: dict[str, bool] = {}
    for match in word.finditer(name):
        number = _AFTER_KEY.match(name, match.end())
        if number is not None and not _counts(match):
            text = number[0].rstrip("._") or number[0]
            found[text] = found.get(text, False) or _is_whole(match)
    if len(found) > 1:
        raise InputError(
            f"The name of {file} tells several steps or epochs ({', '.join(sorted(found))}); "
            f"{_CURE}."
        )
    if not found:
        return None, True
    ((text, sure),) = found.items()
    return _whole(_before_words(text), file), sure


def _counts(match: re.Match[str]) -> bool:
    """Whether a key is the number of something else: ``max_steps``, ``warmup_epochs``."""
    before, key = (match["before"] or "").lower(), match["key"].lower()
    if before in ("num", "n"):
        return key != "updates"
    other = match["joint"] == "_" and key.endswith("s") and before not in _SAME
    return before in _COUNTED or other


def _without_counts(name: str) -> str:
    """A name without the numbers that are told to be of something else."""
    for match in [*_STEP_WORD.finditer(name), *_EPOCH_WORD.finditer(name)]:
        number = _AFTER_KEY.match(name, match.end())
        if number is not None and _counts(match):
            return _without_counts(name[: match.end()] + name[number.end() :])
    return name


def _is_whole(match: re.Match[str]) -> bool:
    """Whether a key is a word of its own, and not such as ``lr_step``."""
    return match["joint"] != "_" or (match["before"] or "").lower() in _SAME


def _before_words(text: str) -> str:
    """``7_final`` without its words: ``7``; digits in groups and what touches a number stay."""
    return re.sub(r"(?<=[0-9])_[A-Za-z]\w*$", "", text)


def _whole(text: str, file: Path) -> int:
    """The number that a name tells, where its digits and nothing else are it."""
    if text.isascii() and text.isdecimal():
        return int(text)
    what = "is no whole number of 0 or more"
    if re.fullmatch(r"[0-9]+(?:[_,'’ ][0-9]+)+", text):
        what = "may be one number in groups of digits, or several"
    raise InputError(f"The name of {file} tells {text!r}, which {what}; {_CURE}.")


def _counters(content: Any) -> dict[str, Any]:
    """Of what a file holds the steps and epochs alone, so that no weights are kept."""
    held = ((key, _under(content, [key])) for key in (*_STEP_KEYS, *_EPOCH_KEYS))
    return {key: value for key, value in held if value is not None}


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
    names = [_without_counts(name) for name in names]
    numbers = [_NUMBER.findall(name) for name in names]
    for file, found in zip(files, numbers):
        if not found:
            raise InputError(
                f"No step can be read from the name of {file}; rename it, or say where the step is "
                "with step=… (--step-pattern)."
            )
    for file, name in zip(files, names):
        if unclear := _UNCLEAR.search(name):
            raise InputError(
                f"The name of {file} tells {unclear[0]!r}, which may be one number, or several, "
                f"or below 0; {_CURE}."
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
