"""Train one small network on the digits and record it: one run of an ensemble."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from collectors.schedule import geometric_steps
from collectors.torch import Recorder
from collectors.zoo.data import digits
from collectors.zoo.networks import ARCHITECTURES
from inpca.errors import InputError

# Chosen so that every network reaches its plateau within the demo's 30 epochs.
LEARNING_RATES = {
    "sgd": {"linear": 0.05, "mlp": 0.05, "cnn": 0.05, "attention": 0.05},
    "adam": {"linear": 5e-3, "mlp": 2e-3, "cnn": 3e-3, "attention": 3e-3},
}


@dataclass(frozen=True)
class Training:
    """One training: everything that decides what it gives."""

    architecture: str
    optimizer: str
    seed: int
    epochs: int = 30
    n_checkpoints: int = 20
    batch_size: int = 64

    @property
    def run(self) -> str:
        """The id of its run: ``cnn-sgd-0``."""
        return f"{self.architecture}-{self.optimizer}-{self.seed}"

    @property
    def lr(self) -> float:
        return LEARNING_RATES[self.optimizer][self.architecture]

    @property
    def config(self) -> dict[str, Any]:
        """What the models table says about it."""
        settings = asdict(self)
        settings.pop("n_checkpoints")
        return settings | {"lr": self.lr}


def make_optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """``"sgd"`` (Nesterov momentum 0.9) or ``"adam"``."""
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
    if name == "adam":
        return torch.optim.Adam(model.parameters(), lr=lr)
    raise InputError(f"`optimizer` must be 'sgd' or 'adam', not {name!r}.")


def train(training: Training, ensemble: str | os.PathLike[str], *, restart: bool = False) -> str:
    """Train one network and record it into `ensemble`; return the id of its run.

    The same `training` gives the same predictions, bit for bit, on the same machine.
    """
    with _one_thread():
        torch.manual_seed(training.seed)
        data = {name: tuple(map(torch.from_numpy, split)) for name, split in digits().items()}
        train_set = TensorDataset(*data["train"])
        shuffled = DataLoader(train_set, batch_size=training.batch_size, shuffle=True)
        recorder = Recorder(
            ensemble,
            training.run,
            training.config,
            sample_sets={name: [whole] for name, whole in data.items()},
            schedule=geometric_steps(training.n_checkpoints, training.epochs * len(shuffled)),
            restart=restart,
        )
        with recorder:
            _fit(training, shuffled, recorder)
    return training.run


def _fit(training: Training, batches: DataLoader[Any], recorder: Recorder) -> None:
    model = ARCHITECTURES[training.architecture]()
    optimizer = make_optimizer(training.optimizer, model, training.lr)
    step = 0
    recorder.step(model, step=0, epoch=0)
    for _ in range(training.epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
            recorder.step(model, step=step, epoch=step / len(batches))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small lose more than they gain by a second thread, and sums change order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
