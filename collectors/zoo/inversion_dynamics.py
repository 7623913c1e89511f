"""The second paper's experiment in arrays: follow the class manifolds of a stack of networks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from collectors.zoo.full_batch import Stack, one_thread
from inpca import Ensemble
from inpca.geometry.inversion import Inversion, Method, inversion
from inpca.geometry.radii import radii
from inpca.geometry.stragglers import stragglers

OBSERVABLES = ("radius_plus", "radius_minus", "centre_distance")


@dataclass(frozen=True)
class Dynamics:
    """What a stack of networks did while it was trained.

    Attributes
    ----------
    epochs : those that were recorded, (n_epochs,)
    observables : name → (n_networks, n_epochs), of the samples trained on
    train_error : of the samples trained on, (n_networks, n_epochs)
    wrong : S(t), over all samples, (n_networks, n_epochs, n_samples)
    logits : (n_networks, n_epochs, n_samples, n_classes) in float32 if they were kept, else None
    """

    epochs: NDArray[np.int64]
    observables: Mapping[str, NDArray[np.float64]]
    train_error: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    logits: NDArray[np.float32] | None

    def inversions(self, method: Method = "argmin") -> list[Inversion]:
        """The inversion of each network."""
        return [
            inversion(
                {name: values[k] for name, values in self.observables.items()},
                self.train_error[k],
                self.epochs,
                method=method,
            )
            for k in range(len(self.train_error))
        ]

    def save(self, ensemble: Ensemble, prefix: str, config: Mapping[str, Any]) -> None:
        """Store each network as a run ``<prefix>-<number>``; needs logits."""
        if self.logits is None:
            raise ValueError("The logits were not kept; follow with keep_logits=True.")
        for number, logits in enumerate(self.logits):
            hidden = {f"train/{name}": values[number] for name, values in self.observables.items()}
            ensemble.add_run(
                f"{prefix}-{number}",
                {"train": logits},
                kind="logits",
                step=self.epochs,
                epoch=self.epochs,
                config={**config, "seed": number},
                observables=hidden,
            )


def recorded_epochs(epochs: int, dense: int = 150, stride: int = 5) -> list[int]:
    """Every epoch to `dense`, every `stride`-th after it, and the last."""
    return sorted({*range(min(dense, epochs) + 1), *range(dense, epochs, stride), epochs})


def follow(
    stack: Stack,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    epochs: int,
    lr: float = 0.2,
    kept: ArrayLike | None = None,
    record: Iterable[int] | None = None,
    keep_logits: bool = False,
) -> Dynamics:
    """Train `stack` and measure its first hidden layer on the way; labels are 0 and 1.

    For the parameters see `collectors.zoo.full_batch.Stack.train`.
    """
    inputs = np.asarray(x, np.float32)
    shape = (stack.n_networks, len(inputs))
    truth = np.broadcast_to(np.asarray(labels, np.int64), shape)
    mask = np.ones(shape, bool) if kept is None else np.asarray(kept, bool)
    wanted = recorded_epochs(epochs) if record is None else sorted(record)
    times, found, wrong, logits = [], [], [], []
    with one_thread():
        for shot in stack.train(inputs, truth, epochs=epochs, lr=lr, kept=mask, record=wanted):
            times.append(shot.epoch)
            found.append([_measure(*one) for one in zip(shot.hidden, truth, mask)])
            wrong.append([stragglers(*one) for one in zip(shot.logits, truth)])
            if keep_logits:
                logits.append(shot.logits)
    values = np.array(found).transpose(2, 1, 0)
    misses = np.array(wrong).transpose(1, 0, 2)
    return Dynamics(
        epochs=np.array(times),
        observables=dict(zip(OBSERVABLES, values)),
        train_error=(misses & mask[:, None]).sum(axis=2) / mask.sum(axis=1)[:, None],
        wrong=misses,
        logits=np.array(logits).transpose(1, 0, 2, 3) if keep_logits else None,
    )


def _measure(
    hidden: NDArray[np.float32], labels: NDArray[np.int64], kept: NDArray[np.bool_]
) -> list[float]:
    manifolds = radii(hidden[kept], labels[kept])
    return [float(manifolds.observables[name]) for name in OBSERVABLES]


def at_inversion(dynamics: Dynamics, inversions: Iterable[Inversion]) -> NDArray[np.bool_]:
    """Stragglers S(t*) of each network, (n_networks, n_samples); ValueError without inversion."""
    masks = []
    for number, (found, wrong) in enumerate(zip(inversions, dynamics.wrong)):
        if found.index is None:
            raise ValueError(f"Network {number} has no inversion: {found.points}.")
        masks.append(wrong[found.index])
    return np.array(masks)
