"""The package's GPU engine with a cupy made of NumPy, its kernels emulated under any schedule.

``Engine`` runs ``TriangleAccumulator`` as it is, with its own launches; only the compiled kernels
are replaced, by builds that may be watched and edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
from fake_cupy import array, fake_cupy

from inpca.distance import gpu_device, kernels_cupy
from inpca.distance.gpu_layout import Layout, TensorShape, macros
from inpca.distance.kernels_cupy import Slab, TriangleAccumulator

from .build import CUDA, Edit, build
from .launch import EmulationError


@dataclass
class Engine:
    """The engine's distances by one kind of kernel: "ffma", "tensor" or "batched".

    ``edits`` are planted mistakes; ``watched`` instruments the accesses; ``seed`` chooses the
    schedule; ``slabs`` > 1 cuts the samples, which stream past the resident output; ``count``: also
    what the floor decides.
    """

    n_classes: int
    kind: str
    tile_size: int = 128
    seed: int = 0
    watched: bool = True
    slabs: int = 1
    edits: Sequence[Edit] = ()
    count: bool = False
    lost_pairs: int = field(default=0, init=False)
    total: TriangleAccumulator = field(init=False)

    def distances(self, log_prob: np.ndarray) -> np.ndarray:
        """(m, m) float64, self-normalised, of (m, N, C) float32 log-probabilities."""
        n_models, n_samples, _ = log_prob.shape
        across = -(-n_models // self.tile_size)
        tiles = [(i, j) for i in range(across) for j in range(i, across)]
        with self.accumulator(tiles, n_samples) as total:
            for part in np.array_split(log_prob, self.slabs, axis=1):
                total.add_log_prob(array(part))
            whole = assembled(total.finish(), tiles, self.tile_size)[:n_models, :n_models]
        return whole - (np.diag(whole)[:, None] + np.diag(whole)) / 2

    @contextmanager
    def accumulator(self, tiles: Any, n_samples: int) -> Iterator[TriangleAccumulator]:
        """The engine on this card, for as long as the context lasts."""
        cupy = fake_cupy()
        with (
            patch.object(gpu_device, "namespace", lambda name: cupy),
            patch.object(kernels_cupy, "compiled", self._compiled),
        ):
            self.total = TriangleAccumulator(
                tiles,
                self.tile_size,
                n_samples,
                self.n_classes,
                kind=self.kind,
                count=self.count,
            )
            yield self.total

    def prepare(self, log_prob: np.ndarray) -> Slab:
        with self.accumulator([(0, 0)], log_prob.shape[1]) as total:
            return total.prepare(array(log_prob))

    def _compiled(
        self, kernel: str, layout: Layout, shape: TensorShape | None, device: int
    ) -> tuple[Callable[..., None], int]:
        file, defined = macros(kernel, layout, shape)
        edits = [e for e in self.edits if e.file == file or not e.file.endswith(".cu")]
        module = build(CUDA / file, [kernel], defines=defined, edits=edits, watched=self.watched)

        def run(grid: Any, block: Any, arguments: Any, shared_mem: int) -> None:
            if kernel == "ffma_redo":
                self.lost_pairs += int(np.bitwise_count(arguments[-2]).sum())
            call = getattr(module, kernel)
            call(grid, block, *arguments, shared_bytes=shared_mem, seed=self.seed)
            if kernel == "ffma_redo" and arguments[-2].any():
                raise EmulationError("the redo pass left bits in the masks")

        return run, defined.get("INPCA_SHARED_BYTES", 0)


def assembled(values: np.ndarray, tiles: Any, size: int) -> np.ndarray:
    """The whole matrix from its upper tiles, in float64."""
    whole = np.full(((np.max(tiles) + 1) * size,) * 2, np.nan)
    for (i, j), tile in zip(np.array(tiles) * size, values, strict=True):
        whole[i : i + size, j : j + size] = tile
        whole[j : j + size, i : i + size] = tile.T
    return whole
