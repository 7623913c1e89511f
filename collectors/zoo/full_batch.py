"""Many small networks trained side by side by full-batch gradient descent, as one computation.

Networks this small spend their time on the overhead of single operations; stacked along one axis
they share it. Each has its own initialisation, its own labels if wished and its own part of the
training set, so that a whole experiment of seeds, prunings and controls is one call.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from inpca.errors import InputError


@dataclass(frozen=True)
class Snapshot:
    """What all networks do at one epoch.

    Attributes
    ----------
    epoch : updates made
    hidden : activations of the first hidden layer, (n_networks, n_samples, width)
    logits : (n_networks, n_samples, n_classes)
    """

    epoch: int
    hidden: NDArray[np.float32]
    logits: NDArray[np.float32]


class Stack:
    """Fully connected tanh networks of one shape, trained together.

    Weights and biases begin uniform in ±1/√n, n the number of inputs of the layer.

    Parameters
    ----------
    seeds : one network for each; a seed gives the same network whatever else is in the stack
    n_inputs, n_classes : sizes of input and output
    width : units of each hidden layer
    depth : layers with weights; 2 is one hidden layer
    """

    def __init__(
        self, seeds: Sequence[int], n_inputs: int, n_classes: int, width: int = 20, depth: int = 2
    ) -> None:
        if not len(seeds) or depth < 2 or width < 1:
            raise InputError(
                "`seeds` must not be empty, `depth` at least 2 and `width` at least 1, not "
                f"{len(seeds)} seeds, depth {depth}, width {width}."
            )
        sizes = [n_inputs, *[width] * (depth - 1), n_classes]
        drawn = [_draw(seed, sizes) for seed in seeds]
        self.n_networks = len(drawn)
        self._weights = [torch.stack(layer).requires_grad_() for layer in zip(*drawn)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """First hidden layer (n_networks, width, n) and logits (n_networks, n_classes, n).

        `x` has shape (n_inputs, n): samples last, so that the first layer of all networks is one
        matrix product.
        """
        pairs = list(zip(self._weights[::2], self._weights[1::2]))
        weight, bias = pairs[0]
        first = torch.tanh((weight.flatten(0, 1) @ x).unflatten(0, weight.shape[:2]) + bias)
        values = first
        for weight, bias in pairs[1:-1]:
            values = torch.tanh(torch.baddbmm(bias, weight, values))
        weight, bias = pairs[-1]
        return first, torch.baddbmm(bias, weight, values)

    def train(
        self,
        x: ArrayLike,
        labels: ArrayLike,
        *,
        epochs: int,
        lr: float = 0.2,
        kept: ArrayLike | None = None,
        record: Iterable[int] = (),
    ) -> Iterator[Snapshot]:
        """Train by gradient descent on the mean cross-entropy, and show the recorded epochs.

        Parameters
        ----------
        x : inputs (n_samples, n_inputs)
        labels : (n_samples,), or (n_networks, n_samples) where each has its own
        kept : which samples each is trained on, (n_networks, n_samples); all by default
        record : epochs to show, 0 is before the first update
        """
        inputs = torch.from_numpy(np.ascontiguousarray(np.asarray(x, np.float32).T))
        shape = (self.n_networks, inputs.shape[1])
        truth = torch.from_numpy(np.broadcast_to(np.asarray(labels, np.int64), shape).copy())
        mask = np.ones(shape) if kept is None else np.asarray(kept, dtype=bool)
        if mask.shape != shape or not mask.any(axis=1).all():
            raise InputError(
                f"`kept` must be truth values of shape {shape} with a sample for every network, "
                f"not of shape {mask.shape}."
            )
        share = torch.from_numpy((mask / mask.sum(axis=1, keepdims=True)).astype(np.float32))
        wanted = set(record)
        for epoch in range(epochs + 1):
            hidden, logits = self.forward(inputs)
            if epoch in wanted:
                yield Snapshot(epoch, _samples_first(hidden), _samples_first(logits))
            if epoch < epochs:
                # The networks do not touch each other: the gradient of the sum is that of each.
                loss = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
                self._descend((loss * share).sum(), lr)

    def _descend(self, loss: Tensor, lr: float) -> None:
        gradients = torch.autograd.grad(loss, self._weights)
        with torch.no_grad():
            for weight, gradient in zip(self._weights, gradients):
                weight.sub_(gradient, alpha=lr)

    def logits(self, x: ArrayLike) -> NDArray[np.float32]:
        """Predictions for other inputs, (n_networks, n_samples, n_classes)."""
        inputs = torch.from_numpy(np.ascontiguousarray(np.asarray(x, np.float32).T))
        with torch.no_grad():
            return _samples_first(self.forward(inputs)[1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Products this small gain nothing by a second thread, and sums would change their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def standardised(inputs: ArrayLike, reference: ArrayLike | None = None) -> NDArray[np.float32]:
    """Inputs with mean 0 and standard deviation 1 in every pixel; pixels that never change are 0.

    Means and deviations are those of `reference`, the training set, by default of `inputs`.
    """
    values = np.asarray(inputs, dtype=np.float64)
    base = values if reference is None else np.asarray(reference, dtype=np.float64)
    spread = base.std(axis=0)
    return ((values - base.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)


def _draw(seed: int, sizes: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for before, after in pairwise(sizes):
        for shape in ((after, before), (after, 1)):
            uniform = torch.rand(shape, generator=generator)
            drawn.append((2 * uniform - 1) / before**0.5)
    return drawn


def _samples_first(values: Tensor) -> NDArray[np.float32]:
    return values.detach().transpose(1, 2).contiguous().numpy()
