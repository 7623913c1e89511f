"""A block of D in a plain array namespace: what a GPU does for reductions without a fused kernel.

Everything is elementwise and goes through memory, so it runs at the speed of the memory: far below
the fused kernels, above a CPU.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.block_cupy import METRICS, CupyBlock
from inpca.distance.block_numba import BlockKernel, Job
from inpca.distance.divergences import Divergence
from inpca.distance.gpu_device import get_cupy, on_device
from inpca.distance.plan import Block, Plan
from inpca.distance.reductions_array import (
    INTERMEDIATES,
    Features,
    array_features,
    capped,
    similarity,
)
from inpca.tiling import Tile
from inpca.units import format_bytes

SAMPLES = 32  # at a time
WORKING_BYTES = 1 << 30  # of intermediates


def gpu_block(plan: Plan, block: Block, divergence: Divergence, known: set[int]) -> BlockKernel:
    """A block on the GPU of `plan`: with fused kernels where there are some."""
    if divergence.name in METRICS:
        return CupyBlock(plan, block, divergence, known)
    return ArrayBlock(plan, block, divergence, known, get_cupy())


class ArrayBlock:
    """`BlockKernel` in the array namespace `xp`.

    Parameters
    ----------
    plan, block : the job and the part of it
    divergence : whose similarity S_uv is summed
    known : bands whose S_uu is known already
    xp : cupy, on the device of `plan`, or numpy

    Notes
    -----
    Samples are added one after the other, in float64: neither slabs nor blocks change a byte.
    Memory of the device: 8 · tile_size² bytes a tile, the features of 32 samples, and a gigabyte of
    intermediates.
    """

    version = 1  # raised with every change of the bytes
    redone = 0  # there is one kernel

    def __init__(
        self, plan: Plan, block: Block, divergence: Divergence, known: set[int], xp: Any
    ) -> None:
        self._plan, self._block, self._divergence, self._xp = plan, block, divergence, xp
        self._counts = dict.fromkeys(block.tiles, 0)
        n_buffers, slab = min(2, len(plan.slabs)), min(plan.slab, plan.n_samples)
        lengths = {band: plan.bands.length(band) for band in block.bands}
        self._host = [
            {band: np.zeros((n, slab, plan.n_classes), plan.dtype) for band, n in lengths.items()}
            for _ in range(n_buffers)
        ]
        with self._working():
            self._sums = {
                (i, j): xp.zeros((lengths[i], lengths[j]), dtype=np.float64) for i, j in block.tiles
            }
            self._own = {
                band: xp.zeros(n, dtype=np.float64)
                for band, n in lengths.items()
                if band not in known
            }

    def prepare(self, buffer: int, band: int, first: int, log_p: NDArray[np.floating]) -> None:
        """See `BlockKernel.prepare`."""
        part = self._host[buffer][band][first : first + len(log_p)]
        part[:, : log_p.shape[1]] = log_p

    def jobs(self, buffer: int, n_samples: int) -> list[Job]:
        """See `BlockKernel.jobs`."""
        return [lambda: self._add(buffer, n_samples)]

    def _add(self, buffer: int, n_samples: int) -> None:
        with self._working(), np.errstate(under="ignore"):
            for start in range(0, n_samples, SAMPLES):
                samples = slice(start, min(start + SAMPLES, n_samples))
                features = {
                    band: self._features(host[:, samples])
                    for band, host in self._host[buffer].items()
                }
                for band, own in self._own.items():
                    f = features[band]
                    self._accumulate(own, similarity(self._divergence, f, f, self._xp))
                for tile in self._block.tiles:
                    self._add_tile(tile, features)

    def _features(self, log_p: NDArray[np.floating]) -> Features:
        there = self._xp.asarray(np.ascontiguousarray(log_p.transpose(2, 1, 0)))
        return array_features(self._divergence, there, self._xp)

    def _add_tile(self, tile: Tile, features: Mapping[int, Features]) -> None:
        """Add one launch of samples to a tile, some rows at a time."""
        i, j = tile
        sums, counted = self._sums[tile], 0
        columns = [feature[:, :, None, :] for feature in features[j]]
        per_row = columns[0].shape[1] * sums.shape[1] * 8 * INTERMEDIATES
        step = max(1, WORKING_BYTES // per_row)
        for start in range(0, sums.shape[0], step):
            rows = [feature[:, :, start : start + step, None] for feature in features[i]]
            found = similarity(self._divergence, rows, columns, self._xp)
            self._accumulate(sums[start : start + step, :], found)
            counted += capped(self._divergence, rows, columns, self._xp)
        self._counts[tile] += counted // 2 if i == j else counted

    @staticmethod
    def _accumulate(sums: Any, found: Any) -> None:
        for n in range(found.shape[0]):
            sums += found[n, ...]

    def sums(self, tile: Tile) -> NDArray[np.float64]:
        """See `BlockKernel.sums`."""
        with self._working():
            return _to_host(self._sums[tile])

    def self_sums(self) -> Mapping[int, NDArray[np.float64]]:
        """See `BlockKernel.self_sums`."""
        with self._working():
            return {band: _to_host(own) for band, own in self._own.items()}

    def floored(self, tile: Tile) -> int:
        """See `BlockKernel.floored`."""
        return self._counts[tile]

    @contextmanager
    def _working(self) -> Iterator[None]:
        """On the device, whichever thread this is; what lacks memory is named."""
        on = self._plan.device
        if on is None:
            yield
            return
        planned = f"; the block was planned to take {format_bytes(on.memory_needed)} of its memory"
        with on_device(on.gpu, planned):
            yield


def _to_host(values: Any) -> NDArray[np.float64]:
    return np.asarray(values.get() if hasattr(values, "get") else values)
