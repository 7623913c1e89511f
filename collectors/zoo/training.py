"""Train one network of the zoo and record it: one run of an ensemble."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from collectors.hidden import HiddenRecorder
from collectors.recorder import DivergedError
from collectors.schedule import geometric_steps, paper_steps
from collectors.torch import Recorder
from collectors.zoo.augmentation import augment
from collectors.zoo.data import Data, Split
from collectors.zoo.keep import ALL, digest
from collectors.zoo.networks import build, start_from_point
from collectors.zoo.suggest import nearest
from inpca.errors import InputError

# Networks are recorded in batches of so many samples: bounded memory, the same bytes each time.
_RECORD_BATCH = 1_000
# A short training is committed at once, by a tenth of the fsyncs; a long one now and then.
_HELD_BYTES = 32 << 20

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "nesterov": lambda weights, **rates: torch.optim.SGD(
        weights, momentum=0.9, nesterov=True, **rates
    ),
    "adam": torch.optim.Adam,
}
LR_SCHEDULES = ("cosine", "constant")
CHECKPOINTS = ("paper", "epochs")
POINT = "point-"

# report(step, last_step)
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Training:
    """One training: everything that decides what it gives, beside the data.

    Attributes
    ----------
    run : the id of its run
    architecture, optimizer : names of `ARCHITECTURES` and `OPTIMIZERS`
    lr : learning rate at the beginning
    seed : of weights, order of the samples and augmentation
    batch_size : samples of one update; None for all of them
    epochs : passes over the training set
    weight_decay : coefficient of the L2 penalty, as torch's optimizers take it
    augmentation : ``"none"`` or ``"flips-crops"``
    lr_schedule : ``"cosine"``, to 0 at the last batch, changed after every batch; ``"constant"``
    checkpoints : ``"paper"``, ``"epochs"`` (the beginning and the end of each), or how many at
        steps that grow geometrically
    init : ``"default"``, near ignorance; ``"point-k"``, see `start_from_point`
    keep : name of the samples that it is trained on
    kept : their numbers; None for all
    layer : name of a hidden layer whose class manifolds are recorded, those of the samples it is
        trained on; None for none
    """

    run: str
    architecture: str
    optimizer: str
    lr: float
    seed: int
    batch_size: int | None = 64
    epochs: int = 30
    weight_decay: float = 0.0
    augmentation: str = "none"
    lr_schedule: str = "cosine"
    checkpoints: str | int = "paper"
    init: str = "default"
    keep: str = ALL
    kept: tuple[int, ...] | None = None
    layer: str | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the models table says about it; the names are those of a sweep's columns."""
        kept = None if self.kept is None else digest(np.array(self.kept, dtype=np.int64))
        hidden = {} if self.layer is None else {"layer": self.layer}
        return hidden | {
            "architecture": self.architecture,
            "optimizer": self.optimizer,
            "lr": self.lr,
            "batch_size": "all" if self.batch_size is None else self.batch_size,
            "weight_decay": self.weight_decay,
            "augmentation": self.augmentation,
            "lr_schedule": self.lr_schedule,
            "epochs": self.epochs,
            "init": self.init,
            "keep": self.keep,
            "keep_digest": kept,
            "seed": self.seed,
        }

    def batches(self, n_train: int) -> "Batches":
        """How an epoch over `n_train` samples is cut."""
        n = n_train if self.kept is None else len(self.kept)
        return Batches(n, n if self.batch_size is None else min(self.batch_size, n))

    def steps(self, n_train: int) -> list[int]:
        """The updates after which it is recorded."""
        per_epoch = self.batches(n_train).per_epoch
        if self.checkpoints == "paper":
            return paper_steps(per_epoch, self.epochs)
        if self.checkpoints == "epochs":
            return [epoch * per_epoch for epoch in range(self.epochs + 1)]
        if isinstance(self.checkpoints, str):
            raise InputError(
                f"`checkpoints` must be 'paper', 'epochs' or a number, not {self.checkpoints!r}."
            )
        return geometric_steps(self.checkpoints, self.epochs * per_epoch)

    def renamed(self, run: str) -> "Training":
        """The same training under another id."""
        return replace(self, run=run)


@dataclass(frozen=True)
class Batches:
    """How `n` samples are cut into batches of `size`, in another order each epoch.

    A single sample left over is not used in that epoch: batch normalisation cannot be taught by
    one sample.
    """

    n: int
    size: int

    @property
    def per_epoch(self) -> int:
        full, rest = divmod(self.n, self.size)
        return full + (rest > 1 or (rest == 1 and full == 0))

    def epoch(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Numbers of the samples of each batch."""
        order = torch.randperm(self.n, generator=generator)
        yield from order.split(self.size)[: self.per_epoch]


def make_optimizer(
    name: str, model: nn.Module, lr: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """``"sgd"``, ``"nesterov"`` (SGD with Nesterov's momentum 0.9) or ``"adam"``."""
    if name not in OPTIMIZERS:
        raise InputError(f"`optimizer` {name!r} is unknown; {nearest(name, OPTIMIZERS)}.")
    return OPTIMIZERS[name](model.parameters(), lr=lr, weight_decay=weight_decay)


def train(
    training: Training,
    data: Data,
    ensemble: str | os.PathLike[str],
    *,
    device: str = "cpu",
    restart: bool = False,
    report: Report | None = None,
) -> None:
    """Train one network and record it into `ensemble`.

    The same `training` and `data` give the same predictions, bit for bit, on the same machine.

    Raises
    ------
    DivergedError
        If the loss or a prediction is no longer a number.
    InputError
        If the architecture cannot take the data, or a name in `training` is unknown.
    """
    place = as_device(device)
    with _reproducible():
        torch.manual_seed(training.seed)
        model = build(training.architecture, data.shape, data.n_classes)
        if training.init.startswith(POINT):
            start_from_point(model, int(training.init.removeprefix(POINT)))
        with _recorder(training, data, ensemble, restart) as recorder:
            _fit(training, model.to(place), data.sets["train"], recorder, report)


def _recorder(
    training: Training, data: Data, ensemble: str | os.PathLike[str], restart: bool
) -> Recorder:
    settings: dict[str, Any] = {
        "sample_sets": {name: _batched(split) for name, split in data.sets.items()},
        "schedule": training.steps(len(data.sets["train"].y)),
        "n_classes": data.n_classes,
        "restart": restart,
    }
    if training.layer is None:
        settings["hold"] = _HELD_BYTES
        return Recorder(ensemble, training.run, training.config, **settings)
    # Rectified layers may be silent for some samples, which is no reason to end a sweep.
    settings |= {"layers": training.layer, "zeros": "drop"}
    if training.kept is not None:
        settings["keep"] = {"train": training.kept}
    return HiddenRecorder(ensemble, training.run, training.config, **settings)


def _fit(
    training: Training,
    model: nn.Module,
    samples: Split,
    recorder: Recorder,
    report: Report | None,
) -> None:
    device = next(model.parameters()).device
    x, y = (torch.from_numpy(part).to(device) for part in samples)
    if training.kept is not None:
        kept = torch.tensor(training.kept, device=device)
        x, y = x[kept], y[kept]
    optimizer = make_optimizer(training.optimizer, model, training.lr, training.weight_decay)
    generator = torch.Generator().manual_seed(training.seed)
    batches = training.batches(len(samples.y))
    last = training.epochs * batches.per_epoch
    recorder.step(model, step=0, epoch=0)
    step = 0
    for _ in range(training.epochs):
        for picked in batches.epoch(generator):
            for group in optimizer.param_groups:
                group["lr"] = _rate(training, step / last)
            inputs = augment(x[picked], training.augmentation, generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), y[picked])
            loss.backward()
            optimizer.step()
            step += 1
            if not math.isfinite(loss.item()):
                raise DivergedError(
                    f"Run {training.run!r} diverged: its loss was {loss.item()} at step {step} of "
                    f"{last}.",
                    f"Lower its learning rate ({training.lr:g}).",
                )
            recorder.step(model, step=step, epoch=step / batches.per_epoch)
            if report is not None:
                report(step, last)


def _rate(training: Training, done: float) -> float:
    """Learning rate when the fraction `done` of all updates is made."""
    if training.lr_schedule == "cosine":
        return training.lr * (1 + math.cos(math.pi * done)) / 2
    return training.lr


def _batched(split: Split) -> list[tuple[Tensor, Tensor]]:
    x, y = map(torch.from_numpy, split)
    return list(zip(x.split(_RECORD_BATCH), y.split(_RECORD_BATCH)))


def as_device(name: str) -> torch.device:
    """The device `name`, if this machine has it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"`device` {name!r} cannot be used here ({str(error).splitlines()[0]}); use 'cpu'."
        ) from error
    return device


@contextmanager
def _reproducible() -> Iterator[None]:
    """One thread, so that sums keep their order; networks this small lose more than they gain by
    a second one. Denormal numbers, of which sloppy inputs make many, are zero: they are slow.
    """
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    deterministic = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = deterministic
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
