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
from collections.abc import Callable, Iterable, Iterator, Mapping
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

from collectors.inputs import InputDigest
from collectors.loaders import check_count, check_loaders
from collectors.undisturbed import evaluating, generators_restored, refuse_lazy, version

Forward = Callable[[nn.Module, Any], tuple[torch.Tensor, torch.Tensor]]

# Rows this close to 1, all of them, are probabilities and not logits.
_ROW_SUM_TOLERANCE = 1e-3
# Probabilities of one batch, predicted twice, may differ by this: sums in another order do so.
_REPEATED = {torch.float32: 1e-3, torch.float64: 1e-3}
_REPEATED_IN_HALF = 2e-2


class Recorder(BaseRecorder):
    """Record a network's predictions over fixed sample sets, whenever the schedule says so.

    A recording leaves the training as it found it, bit for bit: the train/eval mode, attributes
    and buffers of every submodule, the state of every random generator, gradients. The network
    runs in eval mode and in its own precision (an autocast around the call is switched off), the
    log-softmax in float32 or better. Forward hooks of your own run as well. The network that was
    last offered is kept until `close`, which may have to record it.

    The first recording draws every loader once more, without the network, and refuses one that
    does not bring the same inputs again, such as one that augments.

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
        resume, restart, check_inputs: see `collectors.recorder.BaseRecorder`

    Raises
    ------
    InputError
        If a loader shuffles, drops or repeats samples, if the run exists already, if `sample_sets`
        do not match the ensemble.
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
        with generators_restored(sample_sets.values()):
            check_loaders(sample_sets, count=options.get("check_inputs", True))
        self._loaders = dict(sample_sets)
        self._forward = forward or _forward
        self._drawn: dict[str, InputDigest] | None = None  # of the first recording, while it runs
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
            loader brings other samples, or another order, than the ensemble holds; at the first
            recording also for loaders or networks that are random.
        """
        if not self.due(step, epoch):
            self._remember(model, step, epoch, metrics)
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
        """Record `model` whatever the schedule says; arguments and errors are those of `step`.

        For models that no schedule knows of: the best one, loaded again after the training.
        """
        self._record(model, step, epoch, metrics)

    def _record(self, model: Any, step: int, epoch: float, metrics: Any) -> None:
        predictions, labels = self.predict(model)
        self._append(predictions, labels, "log_probs", step=step, epoch=epoch, metrics=metrics)

    def _state_of(self, model: Any) -> int:
        return sum(version(parameter) for parameter in model.parameters())

    def predict(self, model: nn.Module) -> tuple[dict[str, NDArray[np.float32]], dict[str, Labels]]:
        """Log-probabilities (N, C) in float32 and labels (N,) of every sample set."""
        refuse_lazy(model, self.run)
        device, dtype = _home(model)
        devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
        predictions, labels = {}, {}
        first = self._check_inputs and not self._inputs
        self._drawn = {name: InputDigest() for name in self._loaders} if first else None
        with evaluating(model), generators_restored(self._loaders.values(), devices):
            for name in self._loaders:
                predictions[name], labels[name] = self._predict_set(model, name, device, dtype)
            for name, drawn in (self._drawn or {}).items():
                check_count(
                    name, self._loaders[name], len(labels[name]), exact=self._forward is _forward
                )
                batch = self._draw_again(name, drawn)
                self._predict_again(model, batch, predictions[name], device, dtype, name)
        self._inputs |= {name: drawn.noted() for name, drawn in (self._drawn or {}).items()}
        self._drawn = None
        return predictions, labels

    def _predict_set(
        self, model: nn.Module, name: str, device: torch.device, dtype: torch.dtype | None
    ) -> tuple[NDArray[np.float32], Labels]:
        """Log-probabilities and labels of one sample set, the network being in eval mode."""
        parts = [
            self._predict_batch(model, batch, device, dtype, name) for batch in self._draw(name)
        ]
        if not parts:
            raise InputError(f"The loader of sample set {name!r} is empty.")
        return np.concatenate([log_p for log_p, _ in parts]), np.concatenate([y for _, y in parts])

    def _draw(self, name: str) -> Iterator[Any]:
        """The batches of a sample set; the first recording takes their digest."""
        for batch in self._loaders[name]:
            if self._drawn is not None:
                self._drawn[name].add(batch)
            yield batch

    def _draw_again(self, name: str, drawn: InputDigest) -> Any:
        """Refuse a loader that brings other inputs the second time; returns its first batch.

        The random generators go on from where the first pass left them.
        """
        again, first = InputDigest(), None
        for batch in self._loaders[name]:
            first = batch if first is None else first
            again.add(batch)
        place = drawn.difference(again)
        if place is not None:
            raise InputError(
                f"The loader of sample set {name!r} brings other inputs when it is drawn again "
                f"({place}): it augments, or is random in another way, so that a model would lie "
                "at a distance from itself. Pass a second loader over the same data without "
                "augmentation; check_inputs=False records it all the same."
            )
        return first

    def _predict_again(
        self,
        model: nn.Module,
        batch: Any,
        predicted: NDArray[np.float32],
        device: torch.device,
        dtype: torch.dtype | None,
        name: str,
    ) -> None:
        """Refuse a network, or a `forward`, that draws random numbers in eval mode."""
        log_p, _ = Recorder._predict_batch(self, model, batch, device, dtype, name)
        differ = np.abs(np.exp(log_p) - np.exp(predicted[: len(log_p)])).max(initial=0.0)
        if differ > _REPEATED.get(dtype or torch.float32, _REPEATED_IN_HALF):
            raise InputError(
                f"Run {self.run!r}: the network predicts otherwise when it is shown the same batch "
                f"of sample set {name!r} again (probabilities differ by {differ:.2g}): in eval "
                "mode too it draws random numbers, as functional.dropout without "
                "training=self.training does, or goes on from what it saw before. Mend that; "
                "check_inputs=False records it all the same."
            )

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
