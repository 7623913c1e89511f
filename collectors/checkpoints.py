"""Replay saved weights: run every checkpoint file of a training through its network, and record it.

::

    replay("weights/step-*.pt", "my.ensemble", "resnet-0", factory=lambda: ResNet(10),
           sample_sets={"train": train_loader, "test": test_loader})

Weights are read by `collectors.torch_files`: data only, nothing in a file is run.
"""

import glob
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from collectors.recorder import BaseRecorder, DivergedError
from collectors.schedule import positive
from collectors.steps import StepOf, by_epochs, ordered
from collectors.torch import Forward, Recorder
from collectors.torch_files import load_torch
from inpca.errors import InputError
from inpca.reporting import ProgressArgument, reporting
from inpca.units import count

PathLike = str | os.PathLike[str]
Weights = Mapping[str, torch.Tensor]


def replay(
    checkpoints: PathLike | Iterable[PathLike],
    ensemble: PathLike,
    run: str,
    factory: Callable[[], nn.Module],
    sample_sets: Mapping[str, Iterable[Any]],
    *,
    config: Mapping[str, Any] | None = None,
    step: StepOf | Iterable[int] | None = None,
    batches_per_epoch: int | None = None,
    key: str | None = None,
    prefix: str = "",
    forward: Forward | None = None,
    device: str | torch.device = "cpu",
    check_inputs: bool = True,
    allow_pickle: bool = False,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> int:
    """Record the network at every checkpoint file as one run; go on where a former call ended.

    Each checkpoint is committed by itself. Files whose step the run has already are not run
    again, so a call that was killed is simply made again, and a call while the training still
    writes files records those that are new. Memory: one network, one file of weights, one
    checkpoint's predictions.

    Parameters
    ----------
    checkpoints : the files, or a pattern such as ``"weights/*.pt"``: what `torch.save` wrote of a
        ``state_dict``, or ``.safetensors``
    ensemble : the directory of the ensemble; created by the first checkpoint if there is none
    run : the id of this run
    factory : makes the network; called once
    sample_sets : a loader in fixed order for each sample set; see `collectors.torch.Recorder`
    config : what distinguishes this run; becomes columns of the models table
    step : the updates made when a file was saved: ``step(path)``, or for a list of files a list of
        steps. By default what the name says (``step=120``), else what the file says
        (``global_step``, ``step``, ``iteration``); for files that tell neither the ``epoch=…`` in
        their names, else the only number in them that differs. Decimals and names in which several
        numbers differ are refused. Checkpoints are recorded in this order
    batches_per_epoch : gives epochs, as step / batches_per_epoch; without it they are unknown (NaN)
    key : where in the file the weights are, such as ``"state_dict"`` or ``"model"``, with slashes
        for mappings within mappings; by default the file is the ``state_dict`` itself
    prefix : what the names of the weights begin with in the file and not in the network, such as
        ``"model."`` or ``"module."``; weights of other names are left out
    forward : see `collectors.torch.Recorder`
    device : where to run the network
    check_inputs : see `collectors.recorder.BaseRecorder`
    allow_pickle : load files that hold more than data, and so run any program in them; see
        `collectors.torch_files`
    restart : delete a run of this id, then start it again
    progress : None, True for a bar on standard error, or a callable (done, total, text)

    Returns
    -------
    the number of checkpoints recorded by this call

    Raises
    ------
    InputError
        If no file matches, a step cannot be told, two files have the same, a file cannot be read
        or its weights do not fit the network (naming the file; the checkpoints before it stay), a
        new file lies before the run's last step, or for what `collectors.torch.Recorder` refuses.
    """
    if batches_per_epoch is not None:
        batches_per_epoch = positive(batches_per_epoch, "batches_per_epoch")
    look_inside = partial(_content, allow_pickle=allow_pickle)
    unread: list[InputError] = []
    files = ordered_by_step(checkpoints, step, look_inside, unread)
    if step is None and batches_per_epoch is not None and by_epochs([*files.values()], look_inside):
        raise InputError(
            "`batches_per_epoch` (--batches-per-epoch) needs steps, but the files tell epochs "
            "alone, which some count from 0; leave it out, or pass step=… (in Python) with the "
            "updates made."
        )
    model = factory()
    if not isinstance(model, nn.Module):
        raise InputError(f"`factory` must return a torch.nn.Module, not {type(model).__name__}.")
    model = model.to(device)
    recorder = Recorder(
        ensemble,
        run,
        config,
        sample_sets=sample_sets,
        forward=forward,
        schedule=list(files),
        resume=not restart,
        restart=restart,
        check_inputs=check_inputs,
    )
    with recorder, reporting(progress, f"replay {run}") as report:
        _check_past(recorder, files)
        for done, (at, file) in enumerate(files.items()):
            report(done, len(files), file.name)
            if at > recorder.last_step:
                weights = weights_of(load_torch(file, allow_pickle=allow_pickle), key, prefix, file)
                _fit_weights(model, weights, file)
                epoch = math.nan if batches_per_epoch is None else at / batches_per_epoch
                with _naming(file):
                    recorder.record(model, step=at, epoch=epoch)
        if unread:
            raise unread[0]
        report(len(files), len(files), "")
    return recorder.n_recorded


def ordered_by_step(
    checkpoints: PathLike | Iterable[PathLike],
    step: StepOf | Iterable[int] | None = None,
    look_inside: Callable[[Path], Any] | None = None,
    unread: list[InputError] | None = None,
) -> dict[int, Path]:
    """Step → file, in the order of steps; `checkpoints` and `step` as for `replay`.

    `look_inside` and `unread` are those of `collectors.steps.ordered`.

    Raises
    ------
    InputError
        If there is no file, or `collectors.steps.ordered` refuses them.
    """
    pattern = os.fspath(checkpoints) if isinstance(checkpoints, str | os.PathLike) else None
    names = glob.glob(pattern, recursive=True) if pattern is not None else list(checkpoints)  # type: ignore[arg-type]
    files = [path for path in map(Path, names) if pattern is None or path.is_file()]
    if not files:
        where = "" if pattern is None else f" no file matches {pattern!r};"
        raise InputError(f"`checkpoints` must name at least one file;{where} check the path.")
    if pattern is not None and step is not None and not callable(step):
        raise InputError(
            "`step` lists steps, but `checkpoints` is a pattern, whose files have no order; list "
            "the files as well, or pass a function of the path."
        )
    return ordered(files, step, look_inside, unread)


def _content(file: Path, *, allow_pickle: bool) -> Any:
    """What a file holds beside weights; safetensors hold nothing else."""
    if file.suffix == ".safetensors":
        return None
    return load_torch(file, allow_pickle=allow_pickle)


def step_by_pattern(pattern: str) -> Callable[[Path], int]:
    r"""A `step` for `replay`: what the one group of a regular expression finds in a file's path.

    >>> step_by_pattern(r"epoch(\d+)-")(Path("vit-epoch12-best.pt"))
    12

    Raises
    ------
    InputError
        If it is no regular expression with one group; from the function, if a path has no such
        number.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"The pattern {pattern!r} is no regular expression: {error}.") from None
    if compiled.groups != 1:
        raise InputError(f"The pattern {pattern!r} must have one group, the step: (\\d+).")

    return lambda path: _number(compiled.search(str(path)), path)


def _number(found: re.Match[str] | None, path: Path) -> int:
    text = "" if found is None else found[1] or ""
    if not (text.isascii() and text.isdecimal()):
        raise InputError(
            f"No step can be read from the name of {path}; rename it, or say where the step is "
            "with step=… (--step-pattern)."
        )
    return int(text)


def weights_of(content: Any, key: str | None, prefix: str, file: Path) -> dict[str, torch.Tensor]:
    """The ``state_dict`` in what a file holds; `key` and `prefix` as for `replay`.

    Raises
    ------
    InputError
        If there is none; the error names the keys under which there are some.
    """
    inner = content
    for part in key.split("/") if key else ():
        if not isinstance(inner, Mapping) or part not in inner:
            raise InputError(f"{file} has no {key!r}; it holds {_where_weights_are(content)}.")
        inner = inner[part]
    if not _are_weights(inner):
        name = f"{key!r} of {file}" if key else str(file)
        raise InputError(
            f"{name} is no state_dict (names of weights with a tensor each); it holds "
            f"{_where_weights_are(content)}; say which with key=… (--key)."
        )
    weights = {
        name.removeprefix(prefix): value for name, value in inner.items() if name.startswith(prefix)
    }
    if not weights:
        raise InputError(
            f"No weight in {file} has a name that begins with {prefix!r}; the first is "
            f"{next(iter(inner))!r}."
        )
    return weights


def _are_weights(content: Any) -> bool:
    """Whether `content` is a ``state_dict``; modules may add ``_extra_state`` of any kind."""
    return (
        isinstance(content, Mapping)
        and any(isinstance(value, torch.Tensor) for value in content.values())
        and all(
            isinstance(name, str)
            and (isinstance(value, torch.Tensor) or name.endswith("_extra_state"))
            for name, value in content.items()
        )
    )


def _where_weights_are(content: Any) -> str:
    """For a message: the keys that hold weights, else all keys, else the type."""
    if isinstance(content, nn.Module):
        return f"a whole {type(content).__name__}; save its state_dict()"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = [str(key) for key, value in content.items() if _are_weights(value)]
    if keys:
        return f"weights under {', '.join(map(repr, keys))}"
    return f"no weights, but {', '.join(repr(str(key)) for key in content) or 'nothing'}"


def _fit_weights(model: nn.Module, weights: Weights, file: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        # Torch lists every weight; the first few tell what is wrong.
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        rest = f" (and {count(len(lines) - 3, 'thing')} more)" if len(lines) > 3 else ""
        raise InputError(
            f"The weights in {file} do not fit the network that `factory` makes "
            f"({type(model).__name__}): {' '.join(lines[:3]) or error}{rest} Make the network that "
            "was trained, or strip what the names begin with by prefix=… (--prefix)."
        ) from None


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Say of weights that diverged in which file they are; what is trained is trained."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(
            f"The weights in {file} cannot be recorded. {error.what}",
            "The checkpoints before it are recorded; leave this file and those after it out.",
        ) from None


def _check_past(recorder: BaseRecorder, files: Mapping[int, Path]) -> None:
    """Refuse files that were put between those of a former call: a run's steps only grow."""
    past = set(recorder.recorded_steps)
    missed = [file for at, file in files.items() if at < recorder.last_step and at not in past]
    if missed:
        raise InputError(
            f"{missed[0]} comes before step {int(recorder.last_step)}, the last that run "
            f"{recorder.run!r} has, but is not recorded; record all again with restart=True "
            "(--restart)."
        )
