"""Record the predictions of any `torch.nn.Module` while it trains, without disturbing it.

rec = Recorder("my.ensemble", run="resnet-sgd-0", config={"lr": 0.1},
               sample_sets={"train": train_loader, "test": test_loader},
               schedule="paper", batches_per_epoch=len(shuffled_loader), epochs=200)
rec.step(model, step=0, epoch=0)       # and again after every update
"""

if __name__ != "collectors.torch":
    raise ImportError(
        "collectors/torch.py was imported as a top-level module, where it hides torch itself: the "
        "folder collectors/ is on sys.path; put the folder above it there."
    )

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from collectors.recorder import BaseRecorder, Labels, RunOptions
from inpca.errors import InputError, MissingExtraError

try:
    import torch
except ImportError as error:
    raise MissingExtraError(
        f"collectors.torch needs torch, which cannot be imported ({error}); "
        "pip install 'inpca[torch]'."
    ) from error

from torch import nn
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

Forward = Callable[[nn.Module, Any], tuple[torch.Tensor, torch.Tensor]]

# Rows this close to 1, all of them, are probabilities and not logits.
_ROW_SUM_TOLERANCE = 1e-3


class Recorder(BaseRecorder):
    """Record a network's predictions over fixed sample sets, whenever the schedule says so.

    A recording leaves the training as it found it: the train/eval mode of every submodule, the
    state of every random generator, gradients and batch statistics. The network runs in eval mode
    and in its own precision (an autocast around the call is switched off), the log-softmax in
    float32 or better.

    Parameters
    ----------
    ensemble : the directory of the ensemble; created by the first checkpoint if there is none
    run : the id of this run, unique in the ensemble
    config : what distinguishes this run; becomes columns of the models table
    sample_sets : a loader in fixed order for each sample set, for example a
        `torch.utils.data.DataLoader` with ``shuffle=False``; batches are (x, y, …), y of shape
        (batch,) with the class of each sample
    forward : ``forward(model, batch) -> (logits, labels)`` for batches of any other form; the
        batch has been moved to the device of the model
    options : schedule, batches_per_epoch, epochs, n_classes (by default the number of logits),
        resume, restart: see `collectors.recorder.BaseRecorder`

    Raises
    ------
    InputError
        If a loader shuffles or drops samples, if the run exists already, if `sample_sets` do not
        match the ensemble.
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        config: Mapping[str, Any] | None = None,
        *,
        sample_sets: Mapping[str, Iterable[Any]],
        forward: Forward | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        check_fixed_order(sample_sets)
        self._loaders = dict(sample_sets)
        self._forward = forward or _forward
        super().__init__(ensemble, run, list(sample_sets), config=config, **options)

    def step(
        self,
        model: nn.Module,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Record `model` if the schedule wants this step; say whether it was recorded.

        Parameters
        ----------
        model : the network as it trains
        step : updates made so far; 0 is the untrained network
        epoch : epochs made so far, a fraction within one
        metrics : further scalars of this checkpoint; loss and error are stored anyway

        Raises
        ------
        InputError
            For NaN predictions (naming run and step; the checkpoints so far stay), or when a
            loader brings other samples, or another order, than the ensemble holds.
        """
        if not self.due(step, epoch):
            return False
        self.record(model, step=step, epoch=epoch, metrics=metrics)
        return True

    def record(
        self,
        model: nn.Module,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record `model` whatever the schedule says; arguments and errors are those of `step`."""
        predictions, labels = self.predict(model)
        self._append(predictions, labels, "log_probs", step=step, epoch=epoch, metrics=metrics)

    def predict(self, model: nn.Module) -> tuple[dict[str, NDArray[np.float32]], dict[str, Labels]]:
        """Log-probabilities (N, C) in float32 and labels (N,) of every sample set."""
        device, dtype = _home(model)
        predictions, labels = {}, {}
        with evaluating(model), _generators_restored(self._loaders.values(), device):
            for name in self._loaders:
                predictions[name], labels[name] = self._predict_set(model, name, device, dtype)
        return predictions, labels

    def _predict_set(
        self, model: nn.Module, name: str, device: torch.device, dtype: torch.dtype | None
    ) -> tuple[NDArray[np.float32], Labels]:
        """Log-probabilities and labels of one sample set, the network being in eval mode."""
        loader = self._loaders[name]
        parts = [self._predict_batch(model, batch, device, dtype, name) for batch in loader]
        if not parts:
            raise InputError(f"The loader of sample set {name!r} is empty.")
        return np.concatenate([log_p for log_p, _ in parts]), np.concatenate([y for _, y in parts])

    def _predict_batch(
        self,
        model: nn.Module,
        batch: Any,
        device: torch.device,
        dtype: torch.dtype | None,
        name: str,
    ) -> tuple[NDArray[np.float32], Labels]:
        where = f"Run {self.run!r}, sample set {name!r}"
        with torch.autocast(device.type, enabled=False):
            if self._forward is _forward:
                batch = _match_dtype(_as_pair(batch, where), dtype)
            logits, y = self._forward(model, _to_device(batch, device))
            _check_logits(logits, y, where)
            wide = logits if logits.dtype == torch.float64 else logits.float()
            log_p = torch.log_softmax(wide, dim=-1).float()
        return log_p.cpu().numpy(), y.cpu().numpy().astype(np.int64)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every submodule is in the mode it was in.

    `torch.no_grad` and not `inference_mode`: a module that caches a tensor during a recording
    could not use it in a backward pass afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        # Set one by one: train() would recurse, and networks with frozen parts override it.
        for module, training in modes:
            module.training = training


@contextmanager
def _generators_restored(loaders: Iterable[Any], device: torch.device) -> Iterator[None]:
    """Leave all random states as they were: even a loader in fixed order draws from them."""
    generators = [getattr(loader, "generator", None) for loader in loaders]
    kept = [(g, g.get_state()) for g in generators if g is not None]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (transforms use it)
    cpu, accelerator = torch.get_rng_state(), _accelerator_state(device)
    try:
        yield
    finally:
        for generator, state in kept:
            generator.set_state(state)
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if accelerator is not None:
            getattr(torch, device.type).set_rng_state(*accelerator)


def _accelerator_state(device: torch.device) -> tuple[Any, ...] | None:
    """The arguments that put the generator of `device` back to its state now."""
    if device.type == "cpu" or device.type == "meta":
        return None
    module = getattr(torch, device.type)
    if device.type == "mps":  # one device, whose functions take no index
        return (module.get_rng_state(),)
    return module.get_rng_state(device), device


def _home(model: nn.Module) -> tuple[torch.device, torch.dtype | None]:
    """Device of the first parameter or buffer; dtype of the parameters if they share one."""
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return device, dtypes.pop() if len(dtypes) == 1 else None


def _forward(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = batch
    return model(x), y


def _as_pair(batch: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise InputError(
            f"{where}: the loader gives a {type(batch).__name__} where (x, y) is expected; pass "
            "forward=lambda model, batch: (logits, labels)."
        )
    return batch[0], batch[1]


def _match_dtype(pair: tuple[Any, Any], dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Give floating inputs the dtype of the parameters, as a network in half precision needs."""
    x, y = pair
    if dtype is not None and isinstance(x, torch.Tensor) and x.is_floating_point():
        x = x.to(dtype)
    return x, y


def _to_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(_to_device(value, device) for value in batch)
    return batch


def _check_logits(logits: Any, y: Any, where: str) -> None:
    if not isinstance(logits, torch.Tensor) or not isinstance(y, torch.Tensor):
        raise InputError(
            f"{where}: logits and labels must be tensors, not {type(logits).__name__} and "
            f"{type(y).__name__}; pass forward=lambda model, batch: (logits, labels)."
        )
    if logits.ndim != 2 or logits.shape[1] < 2 or y.shape != logits.shape[:1]:
        raise InputError(
            f"{where}: logits must have shape (batch, n_classes ≥ 2) and labels (batch,), not "
            f"{tuple(logits.shape)} and {tuple(y.shape)}; reshape them with forward=."
        )
    if y.is_floating_point():
        raise InputError(
            f"{where}: labels must be integers, the class of each sample, not {y.dtype}."
        )
    sums = logits.float().sum(dim=1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < _ROW_SUM_TOLERANCE).all()):
        raise InputError(
            f"{where}: the network gives probabilities (rows of numbers ≥ 0 that sum to 1) where "
            "logits are expected; pass forward=lambda model, batch: "
            "(model(batch[0]).log(), batch[1])."
        )


def check_fixed_order(sample_sets: Mapping[str, Any]) -> None:
    """Refuse loaders that are known to shuffle or to drop samples; labels tell of the others."""
    for name, loader in sample_sets.items():
        _check_fixed_order(name, loader)


def _check_fixed_order(name: str, loader: Any) -> None:
    batches = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), getattr(batches, "sampler", None)):
        random_order = isinstance(
            sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler
        )
        if random_order or getattr(sampler, "shuffle", False) is True:
            raise InputError(
                f"The loader of sample set {name!r} shuffles ({type(sampler).__name__}), so its "
                "samples have no fixed order; pass a second loader over the same data set, with "
                "shuffle=False."
            )
    if getattr(loader, "drop_last", False) and len(loader.sampler) % loader.batch_size:
        raise InputError(
            f"The loader of sample set {name!r} drops the last {len(loader.sampler)} % "
            f"{loader.batch_size} samples; make it with drop_last=False."
        )
    if isinstance(loader, Iterator):
        raise InputError(
            f"`sample_sets[{name!r}]` is an iterator, which can be read only once; pass a loader."
        )
