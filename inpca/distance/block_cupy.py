"""A block of D on a GPU: sums resident in device memory, slabs copied to it beside the kernels."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from inpca.distance.block_numba import Job
from inpca.distance.divergences import BHATTACHARYYA, Divergence
from inpca.distance.gpu_device import get_cupy, on_device
from inpca.distance.gpu_layout import LAUNCH, TILE, Gpu, Kind, Layout, tensor_shape
from inpca.distance.gpu_upload import Landing, pinned
from inpca.distance.kernels_cupy import TriangleAccumulator
from inpca.distance.plan import Block, DevicePlan, Plan
from inpca.tiling import Tile
from inpca.units import format_bytes

# Divergences that have fused kernels for a GPU; `block_array` computes the others.
METRICS = (BHATTACHARYYA.name,)
_CALIBRATION_TILE, _CALIBRATION_TILES = 1024, 4


class CupyBlock:
    """`BlockKernel` with the CUDA kernels.

    Parameters
    ----------
    plan, block : the job and the part of it; `plan.device` says which GPU, and how
    divergence : whose features are summed
    known : bands whose Σ_n ln a_uu[n] is known already

    Raises
    ------
    ResourceError
        If the device or the host has less memory than when the plan was made.

    Notes
    -----
    Predictions go from `prepare` to pinned memory, launch by launch of 512 samples, each launch in
    one piece (models, samples, C). One job a slab copies the launches, in turn to two places on the
    device, by a stream of its own, while the kernels work on the launch before: each prediction
    crosses the bus once a block.

    A band takes a multiple of 128 models there; those that it lacks are the uniform prediction.
    What a band's models have with themselves comes from its diagonal tile, or, where the block has
    none, from patches of 128 × 128 on the diagonal by the same kernel: to the same bytes.
    """

    version = 1  # raised with every change of the bytes; see `kernel_version`

    def __init__(self, plan: Plan, block: Block, divergence: Divergence, known: set[int]) -> None:
        assert plan.device is not None
        assert divergence.name in METRICS
        self._plan, self._on, self._block = plan, plan.device, block
        self._cupy = get_cupy()
        self._slots = {band: slot for slot, band in enumerate(block.bands)}
        self._numbers = {tile: number for number, tile in enumerate(block.tiles)}
        diagonal = {i for i, j in block.tiles if i == j}
        self._apart = [b for b in block.bands if b not in known and b not in diagonal]
        self._counts: NDArray[np.uint64] | None = None
        with on_device(self._on.gpu):
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            self._copies = self._cupy.cuda.Stream(non_blocking=True)
        with self._working():
            self._allocate()

    def _allocate(self) -> None:
        tiles = [(self._slots[i], self._slots[j]) for i, j in self._block.tiles]
        self._total = self._accumulator(tiles, self._on.tile_size, count=True)
        # In patches of 128: (k, k) for each 128 models of the bands whose diagonal is apart.
        per_band = self._on.tile_size // TILE
        patches = [self._slots[b] * per_band + k for b in self._apart for k in range(per_band)]
        self._own = self._accumulator([(k, k) for k in patches], TILE) if patches else None
        launch = min(self._on.launch, self._plan.n_samples)
        self._landings = [Landing(self._size(launch)) for _ in range(2)]
        slab = min(self._plan.slab, self._plan.n_samples)
        n_buffers = min(2, len(self._plan.slabs))
        self._host = [pinned(self._size(slab)) for _ in range(n_buffers)]

    def _accumulator(
        self, tiles: list[tuple[int, int]], tile_size: int, *, count: bool = False
    ) -> TriangleAccumulator:
        return TriangleAccumulator(
            tiles,
            tile_size,
            self._plan.n_samples,
            self._plan.n_classes,
            kind=self._on.kind,
            device=self._on.gpu.index,
            launch=self._on.launch,
            count=count,
        )

    @property
    def _n_models(self) -> int:
        """Models on the device, padding included."""
        return len(self._slots) * self._on.tile_size

    def _size(self, n_samples: int) -> int:
        return self._n_models * n_samples * self._plan.n_classes

    def _launches(self, buffer: int, n_samples: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Samples of each launch of a slab, and where they lie, (models, samples, classes)."""
        for start in range(0, n_samples, self._on.launch):
            stop = min(start + self._on.launch, n_samples)
            part = self._host[buffer][self._size(start) : self._size(stop)]
            shape = (self._n_models, stop - start, self._plan.n_classes)
            yield slice(start, stop), part.reshape(shape)

    def prepare(self, buffer: int, band: int, first: int, log_p: NDArray[np.floating]) -> None:
        """See `BlockKernel.prepare`."""
        start = self._slots[band] * self._on.tile_size + first
        for samples, part in self._launches(buffer, log_p.shape[1]):
            part[start : start + len(log_p)] = log_p[:, samples]

    def jobs(self, buffer: int, n_samples: int) -> list[Job]:
        """See `BlockKernel.jobs`."""
        return [lambda: self._add(buffer, n_samples)]

    def _add(self, buffer: int, n_samples: int) -> None:
        """Copy a slab and add it; ends when all of it is on the device.

        So the buffer may be written again, and what has been told is at most two launches ahead of
        what is done.
        """
        with self._working():
            try:
                for number, (_, part) in enumerate(self._launches(buffer, n_samples)):
                    self._pad(part)
                    self._add_launch(self._landings[number % 2], part)
            finally:
                self._copies.synchronize()

    def _add_launch(self, landing: Landing, part: NDArray[np.float32]) -> None:
        log_p = landing.bring(part, self._copies)
        self._stream.wait_event(landing.copied)
        slab = self._total.prepare(log_p)
        landing.consumed.record(self._stream)
        self._total.add(slab)
        if self._own is not None:
            self._own.add(slab)

    def _pad(self, part: NDArray[np.float32]) -> None:
        """Where a band has fewer models than a tile: zeros, which are the uniform prediction."""
        for band, slot in self._slots.items():
            start, stop = slot * self._on.tile_size, (slot + 1) * self._on.tile_size
            part[start + self._plan.bands.length(band) : stop] = 0.0

    def sums(self, tile: Tile) -> NDArray[np.float64]:
        """See `BlockKernel.sums`."""
        i, j = tile
        n_rows, n_columns = self._plan.bands.length(i), self._plan.bands.length(j)
        with self._working():
            sums = self._total.log_sums(self._numbers[tile])[:n_rows, :n_columns]
        if i == j:  # the two halves may be rounded their own way
            below = np.tril_indices(n_rows, -1)
            sums[below] = sums.T[below]
        return sums

    def self_sums(self) -> Mapping[int, NDArray[np.float64]]:
        """See `BlockKernel.self_sums`."""
        found = {}
        with self._working():
            self._total.check_complete()
            for i, j in self._block.tiles:
                if i == j:
                    found[i] = self._total.own_log_sums(self._numbers[i, j])
            per_band = self._on.tile_size // TILE
            for place, band in enumerate(self._apart):
                assert self._own is not None
                patches = range(place * per_band, (place + 1) * per_band)
                found[band] = np.concatenate([self._own.own_log_sums(k) for k in patches])
        return {band: sums[: self._plan.bands.length(band)] for band, sums in found.items()}

    def floored(self, tile: Tile) -> int:
        """See `BlockKernel.floored`."""
        if self._counts is None:
            with self._working():
                self._counts = self._total.floored_pairs
        return int(self._counts[self._numbers[tile]])

    @property
    def redone(self) -> int:
        """See `BlockKernel.redone`."""
        with self._working():
            return self._total.redone

    @contextmanager
    def _working(self) -> Iterator[None]:
        """On the device and its stream, whichever thread this is; what lacks memory is named."""
        planned = (
            f"; the block was planned to take {format_bytes(self._on.memory_needed)} of its memory "
            f"and {format_bytes(self._plan.memory_needed)} of this machine's"
        )
        with on_device(self._on.gpu, planned), self._stream:
            yield


def kernel_version(device: DevicePlan) -> str:
    """What decides the bytes: the code, the kind of kernel, and the generation of the GPU.

    Two generations round the logarithm and the sums of their tensor cores each in its own way.
    """
    major, minor = device.gpu.capability
    return f"{CupyBlock.version} {device.kind} sm_{major}{minor}"


def calibrate_gpu(n_classes: int, gpu: Gpu) -> float:
    """Floating-point operations per second of the kernel on `gpu`, measured in one launch."""
    cupy, size, n_tiles = get_cupy(), _CALIBRATION_TILE, _CALIBRATION_TILES
    shape = tensor_shape(Layout(n_classes), gpu, size)
    kind: Kind = "ffma" if shape is None else "tensor"
    with on_device(gpu, "; its speed was to be measured"):
        tiles = [(0, 0)] * n_tiles
        total = TriangleAccumulator(tiles, size, 2 * LAUNCH, n_classes, kind=kind, device=gpu.index)
        log_p = cupy.zeros((size, LAUNCH, n_classes), np.float32)
        log_p -= np.float32(math.log(n_classes))
        slab = total.prepare(log_p)
        total.add(slab)  # compiles
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        total.add(slab)
        end.record()
        end.synchronize()
        seconds = float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3
    return 2.0 * n_tiles * size**2 * LAUNCH * n_classes / seconds
