"""Record what a network's hidden layers do with the classes, while their activations exist.

rec = HiddenRecorder("my.ensemble", run="tanh-0", config={"seed": 0}, layers="1",
                     sample_sets={"train": loader}, schedule=every(1))
rec.step(model, step=0, epoch=0)       # stores the predictions, R₊, R₋ and D
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from collectors.recorder import Labels
from collectors.schedule import ScheduleArgument
from collectors.torch import Forward, Recorder, nn, torch
from inpca.errors import InputError
from inpca.geometry.radii import Moments, Zeros
from inpca.store.observables import ACTIVATIONS
from inpca.store.schema import check_name
from inpca.units import count

Activations = NDArray[np.float32]


class HiddenRecorder(Recorder):
    """A `Recorder` that also stores the class manifolds' observables of some hidden layers.

    At every checkpoint the activations of each layer pass by once, in the same pass over the
    samples that gives the predictions, and are reduced batch by batch to the gyration radii and
    centre distances of the unit-normalised class manifolds (`inpca.inversion.radii`).

    For two classes the run gets ``<set>/radius_plus``, ``radius_minus``, ``centre_distance``
    (checkpoint,); for more ``<set>/radius`` (checkpoint, manifold) and ``centre_distances``
    (checkpoint, manifold, manifold_other). With a list of layers each name ends in ``.<layer>``.
    `inpca.store.run.Run.observables` reads them.

    Parameters
    ----------
    ensemble, run, config, sample_sets, schedule, batches_per_epoch, epochs, n_classes, forward, \
resume, restart, check_inputs : see `collectors.torch.Recorder`
    layers : name of a module as `model.named_modules` has it, or a list of names; its output,
        flattened to (batch, units), is the activation
    activations : also store the activations themselves, float32, N × units × 4 bytes per
        checkpoint and layer, which then have to be in memory at once
    keep : sample set → numbers of the samples that make up its manifolds, such as those that a
        pruned run is trained on (``inpca.inversion.pruning_plan(…)[name]["keep"]``); all of a set
        that is not named
    zeros : what to do with a sample whose activation is zero in every unit, as rectified layers
        can have it: ``"raise"``, or ``"drop"`` it from its class at that checkpoint

    Raises
    ------
    InputError
        For a layer that the network does not have (naming those it has), a sample set of one
        class, activations that are NaN or not a tensor with one row per sample. Nothing of that
        checkpoint is written.
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        config: Mapping[str, Any] | None = None,
        *,
        sample_sets: Mapping[str, Iterable[Any]],
        layers: str | Sequence[str],
        activations: bool = False,
        keep: Mapping[str, ArrayLike] | None = None,
        zeros: Zeros = "raise",
        schedule: ScheduleArgument = "paper",
        batches_per_epoch: int | None = None,
        epochs: int | None = None,
        n_classes: int | None = None,
        forward: Forward | None = None,
        resume: bool = False,
        restart: bool = False,
        check_inputs: bool = True,
    ) -> None:
        self.layers = _check_layers(layers)
        self._several = not isinstance(layers, str)
        self._activations = activations
        self._samples = _check_keep(keep or {}, sample_sets)
        self._zeros: Zeros = Moments(zeros).zeros
        super().__init__(
            ensemble,
            run,
            config,
            sample_sets=sample_sets,
            schedule=schedule,
            batches_per_epoch=batches_per_epoch,
            epochs=epochs,
            n_classes=n_classes,
            forward=forward,
            resume=resume,
            restart=restart,
            check_inputs=check_inputs,
        )

    def _record(self, model: Any, step: int, epoch: float, metrics: Any) -> None:
        predictions, labels, observables = self.observe(model)
        self._append(
            predictions,
            labels,
            "log_probs",
            step=step,
            epoch=epoch,
            metrics=metrics,
            observables=observables,
        )

    def observe(
        self, model: nn.Module
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Labels], dict[str, Any]]:
        """Log-probabilities and labels of every sample set, and the observables by their names."""
        modules = find_layers(model, self.layers)
        self._seen: dict[str, _Layer] = {}
        self._n_seen = 0
        self._found: dict[str, Any] = {}
        with _listening(modules, self._hear):
            predictions, labels = self.predict(model)
        return predictions, labels, self._found

    def _predict_set(
        self,
        model: nn.Module,
        name: str,
        device: torch.device,
        dtype: torch.dtype | None,
    ) -> tuple[NDArray[np.float32], Labels]:
        self._n_seen = 0
        self._seen = {layer: _Layer(layer, self._zeros, self._activations) for layer in self.layers}
        predictions, labels = super()._predict_set(model, name, device, dtype)
        if np.isfinite(predictions).all():
            for layer, seen in self._seen.items():
                suffix = f".{layer}" if self._several else ""
                for observable, value in seen.observables(f"Run {self.run!r}, {name!r}").items():
                    self._found[f"{name}/{observable}{suffix}"] = value
        return predictions, labels

    def _predict_batch(
        self,
        model: nn.Module,
        batch: Any,
        device: torch.device,
        dtype: torch.dtype | None,
        name: str,
    ) -> tuple[NDArray[np.float32], Labels]:
        log_p, labels = super()._predict_batch(model, batch, device, dtype, name)
        rows = np.arange(len(labels))
        if name in self._samples:
            rows = np.flatnonzero(np.isin(rows + self._n_seen, self._samples[name]))
        self._n_seen += len(labels)
        # A network that diverged is named by the check of its predictions, which comes later.
        rows = rows if np.isfinite(log_p).all() else rows[:0]
        for seen in self._seen.values():
            seen.take(labels, rows, f"Run {self.run!r}, sample set {name!r}")
        return log_p, labels

    def _hear(self, layer: str, output: Any) -> None:
        self._seen[layer].hear(output)


class _Layer:
    """What one layer gave for one sample set so far."""

    def __init__(self, name: str, zeros: Zeros, keep: bool) -> None:
        self.name = name
        self._moments = Moments(zeros)
        self._kept: list[Activations] | None = [] if keep else None
        self._output: Any = None
        self._calls = 0

    def hear(self, output: Any) -> None:
        """Take the output of one call of the module."""
        self._output, self._calls = output, self._calls + 1

    def take(self, labels: Labels, rows: NDArray[np.int64], where: str) -> None:
        """Add, of the batch whose output was heard, the samples `rows`."""
        output, calls = self._output, self._calls
        self._output, self._calls = None, 0
        if calls != 1:
            raise InputError(
                f"{where}: layer {self.name!r} ran {count(calls, 'time')} in one pass of the "
                "network, so it has no one activation per sample; choose a layer that runs once."
            )
        if not isinstance(output, torch.Tensor) or len(output) != len(labels):
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else "no tensor"
            raise InputError(
                f"{where}: layer {self.name!r} must give a tensor with one row per sample "
                f"({len(labels)}), not {type(output).__name__} ({shape}); choose another layer."
            )
        values = output.detach().reshape(len(labels), -1).float().cpu().numpy()
        if self._kept is not None:
            self._kept.append(values)
        if len(rows):
            with _named(f"{where}, layer {self.name!r}"):
                self._moments.add(values[rows], labels[rows])

    def observables(self, where: str) -> dict[str, Any]:
        """The observables, by their names; activations among them where they are kept."""
        with _named(f"{where}, layer {self.name!r}"):
            found: dict[str, Any] = self._moments.manifolds().observables
        if self._kept is not None:
            found[ACTIVATIONS] = np.concatenate(self._kept)
        return found


def find_layers(
    model: nn.Module, layers: Sequence[str], argument: str = "layers"
) -> dict[str, nn.Module]:
    """The modules of `model` named `layers`; InputError that lists those it has otherwise."""
    modules = {name: module for name, module in model.named_modules() if name}
    for layer in layers:
        if layer not in modules:
            known = ", ".join(f"{name} ({type(one).__name__})" for name, one in modules.items())
            raise InputError(
                f"`{argument}` must be among the modules of the network, and it has no {layer!r}; "
                f"its modules are {known or 'none'}."
            )
    return {layer: modules[layer] for layer in layers}


def try_layers(
    model: nn.Module, inputs: torch.Tensor, layers: Sequence[str], argument: str = "layers"
) -> None:
    """Run `model` on `inputs` once; InputError if a layer is not there or cannot be recorded."""
    seen = {layer: _Layer(layer, "drop", False) for layer in layers}
    modules = find_layers(model, layers, argument)
    with _listening(modules, lambda layer, output: seen[layer].hear(output)):
        model(inputs)
    for one in seen.values():
        one.take(np.zeros(len(inputs), dtype=np.int64), np.arange(0), "The network")


@contextmanager
def _listening(
    modules: Mapping[str, nn.Module], hear: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call `hear` with the name and the output of each module that runs inside."""

    def hook(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: hear(layer, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say in an error of bad input where it was found."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _check_keep(
    keep: Mapping[str, ArrayLike], sample_sets: Mapping[str, Iterable[Any]]
) -> dict[str, NDArray[np.int64]]:
    found = {}
    for name, samples in keep.items():
        numbers = np.asarray(samples)
        if name not in sample_sets:
            raise InputError(f"`keep` must name sets of `sample_sets`, not {name!r}.")
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
            raise InputError(
                f"`keep[{name!r}]` must be the numbers of samples, not {numbers.dtype} of shape "
                f"{numbers.shape}; of a mask take np.flatnonzero(mask)."
            )
        found[name] = numbers.astype(np.int64)
    return found


def _check_layers(layers: str | Sequence[str]) -> list[str]:
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"`layers` must name at least one module, each once, not {names}; "
            "model.named_modules() lists them."
        )
    return [check_name(name, "A name in `layers`") for name in names]
