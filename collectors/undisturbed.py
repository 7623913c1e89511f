"""Run a network and leave it, and everything random, exactly as it was.

Eval mode and `torch.no_grad` are not enough. Modules may override `train`, and merge or split their
weights there; they may count their calls, keep what they saw, or update buffers in eval mode too,
as observers of quantisation do. All of that would go on into the training.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from inpca.errors import InputError

_CONTAINERS = (list, dict, set)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every submodule is as it was.

    Mode, attributes, what lies in lists, dictionaries and sets, and buffers are put back.
    `torch.no_grad` and not `inference_mode`: a module that caches a tensor during a recording
    could not use it in a backward pass afterwards.

    Raises
    ------
    InputError
        If the network changed one of its own parameters, which cannot be put back.
    """
    kept = [_Kept(name, module) for name, module in model.named_modules()]
    try:
        # Set one by one: eval() would call train(), which networks override.
        for module in model.modules():
            module.training = False
        with torch.no_grad():
            yield
    finally:
        changed = [name for one in kept for name in one.put_back()]
    if changed:
        raise InputError(
            f"{type(model).__name__} changes its own parameter {changed[0]!r} when it runs in eval "
            "mode, so that a recording changes the training; change parameters in training mode "
            "alone (self.training), or record a copy of the network."
        )


class _Kept:
    """What a module is, so that it can be put back."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self._name, self._module = name, module
        self._training = module.training  # of a script module it is no attribute
        self._attributes = dict(vars(module))
        self._contents = [
            (value, dict(value) if isinstance(value, dict) else list(value))
            for value in self._attributes.values()
            if isinstance(value, _CONTAINERS)
        ]
        self._generators = [
            restore for value in self._attributes.values() if (restore := _as_it_is(value))
        ]
        self._buffers = [
            (buffer, buffer.detach().clone(), version(buffer))
            for buffer in (vars(module).get("_buffers") or {}).values()
            if buffer is not None
        ]
        self._parameters = [
            (name, parameter, version(parameter), parameter.requires_grad)
            for name, parameter in (vars(module).get("_parameters") or {}).items()
            if parameter is not None
        ]

    def put_back(self) -> list[str]:
        """Put everything back; returns the names of parameters that were changed."""
        own = vars(self._module)
        for name in own.keys() - self._attributes.keys():
            del own[name]
        for name, value in self._attributes.items():
            if name not in own or own[name] is not value:
                own[name] = value
        if self._module.training != self._training:
            self._module.training = self._training
        for restore in self._generators:
            restore()
        for container, content in self._contents:
            _fill_again(container, content)
        for buffer, values, before in self._buffers:
            if version(buffer) != before or not torch.equal(buffer, values):
                buffer.detach().copy_(values)
        changed = []
        for name, parameter, before, requires_grad in self._parameters:
            parameter.requires_grad_(requires_grad)
            if version(parameter) != before:
                changed.append(f"{self._name}.{name}".lstrip("."))
        return changed


def _fill_again(container: Any, content: Any) -> None:
    """Give a container the very things that it held."""
    if isinstance(container, dict):
        same = list(container) == list(content) and all(
            one is other for one, other in zip(container.values(), content.values())
        )
    else:
        same = len(container) == len(content) and all(
            one is other for one, other in zip(container, content)
        )
    if not same:
        container.clear()
        (container.extend if isinstance(container, list) else container.update)(content)


def _as_it_is(generator: Any) -> Callable[[], Any] | None:
    """What puts a random generator back to its state now; None for anything else."""
    if isinstance(generator, torch.Generator):
        state = generator.get_state()
        return lambda: generator.set_state(state)
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        position = bits.state
        return lambda: setattr(bits, "state", position)
    if isinstance(generator, random.Random):
        python = generator.getstate()
        return lambda: generator.setstate(python)
    if isinstance(generator, np.random.RandomState):
        legacy: Any = generator.get_state()
        return lambda: generator.set_state(legacy)
    return None


def version(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place, as autograd counts it."""
    return 0 if tensor.is_inference() else int(tensor._version)


def refuse_lazy(model: nn.Module, run: str) -> None:
    """Refuse parameters that wait for a first batch: making them now would draw random numbers.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        raise InputError(
            f"Run {run!r}: the network has parameters without a shape yet ({lazy[0]!r}); a "
            "recording would make them, and so change the random numbers of the training. Run one "
            "forward pass first: model(x) for one batch."
        )


@contextmanager
def generators_restored(
    loaders: Iterable[Any], devices: Iterable[torch.device] = ()
) -> Iterator[None]:
    """Leave all random states as they were: even a loader in fixed order draws from them.

    Those of Python, NumPy and torch, of `devices`, and of the generators that loaders, their
    samplers and their data sets hold.
    """
    kept = [restore for one in _holders(loaders) if (restore := _as_it_is(one))]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (transforms use it)
    cpu = torch.get_rng_state()
    accelerators = [state for device in devices if (state := _accelerator_state(device))]
    try:
        yield
    finally:
        for restore in kept:
            restore()
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        for device_type, arguments in accelerators:
            getattr(torch, device_type).set_rng_state(*arguments)


def _holders(loaders: Iterable[Any]) -> list[Any]:
    """What loaders, their samplers and their data sets have as attributes."""
    found = []
    for loader in loaders:
        batches = getattr(loader, "batch_sampler", None)
        parts = [loader, getattr(loader, "sampler", None), batches]
        parts += [getattr(batches, "sampler", None), getattr(loader, "dataset", None)]
        found += [value for part in parts for value in getattr(part, "__dict__", {}).values()]
    return found


def _accelerator_state(device: torch.device) -> tuple[str, tuple[Any, ...]] | None:
    """The arguments that put the generator of `device` back to its state now."""
    if device.type == "cpu" or device.type == "meta":
        return None
    module = getattr(torch, device.type)
    if device.type == "mps":  # one device, whose functions take no index
        return device.type, (module.get_rng_state(),)
    return device.type, (module.get_rng_state(device), device)
