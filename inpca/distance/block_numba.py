"""A block of D on the CPU: what the engine fills slab by slab, and reads tile by tile.

Any backend that offers these few methods runs under the same plan: `prepare` a slab,
`jobs` that accumulate it, `sums` of a finished tile.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpca.distance import kernels_numba as kernels
from inpca.distance.divergences import Divergence, Reduction
from inpca.distance.plan import Block, Plan
from inpca.distance.reductions_numba import PANEL_KERNELS, add_diagonal
from inpca.tiling import Tile

# Rows of a tile in one job: a multiple of the kernel's eight, small enough to share out one tile;
# 64 measured 8 % slower.
_ROWS_PER_JOB = 128
Job = Callable[[], object]


class BlockKernel(Protocol):
    """The sums of a block: buffers for two slabs of features and one accumulator per tile."""

    def prepare(self, buffer: int, band: int, first: int, log_p: NDArray[np.floating]) -> None:
        """Take log-probabilities (k, n, C) of the models first … first + k of `band` to a buffer.

        May run on several threads at once, for different models, and while `jobs` of the other
        buffer run.
        """
        ...

    def jobs(self, buffer: int, n_samples: int) -> list[Job]:
        """Independent jobs that together add the slab of `n_samples` to every sum."""
        ...

    def sums(self, tile: Tile) -> NDArray[np.float64]:
        """S_uv of a tile, (rows, columns); a diagonal tile is symmetric. See `divergences`."""
        ...

    def self_sums(self) -> Mapping[int, NDArray[np.float64]]:
        """S_uu of the bands that were asked for, (models,) each."""
        ...

    def floored(self, tile: Tile) -> int:
        """Contributions of a tile that the floor has capped."""
        ...

    @property
    def redone(self) -> int:
        """Parts of launches that a faster kernel has left to a safer one."""
        ...


class NumbaBlock:
    """`BlockKernel` with the Numba kernels.

    Parameters
    ----------
    plan, block : the job and the part of it
    divergence : whose similarity S_uv is summed
    known : bands whose S_uu is known already

    Notes
    -----
    Memory: 8 · tile_size² bytes per tile, and packed features of one or two slabs, as the plan
    has counted.
    """

    # Matrices of different ones are not mixed.
    version, version_many = kernels.VERSION, kernels.VERSION_MANY
    redone = 0  # there is one kernel

    def __init__(self, plan: Plan, block: Block, divergence: Divergence, known: set[int]) -> None:
        self._plan, self._divergence = plan, divergence
        self._tiles = block.tiles
        self._numbers = {tile: number for number, tile in enumerate(block.tiles)}
        self._slots = {band: slot for slot, band in enumerate(block.bands)}
        shape = kernels.packed_shape(plan.tile_size, plan.slab, plan.n_classes)
        panels, samples, _, lanes = shape
        n_buffers = min(2, len(plan.slabs))
        lead = (n_buffers, len(block.bands), len(divergence.all_features))
        self._packed = kernels.allocate((*lead, *shape), plan.dtype)
        self._floored = np.zeros((*lead, samples, panels * lanes), np.uint8)
        self._sums = np.zeros((len(block.tiles), plan.tile_size, plan.tile_size))
        n_parts = -(-plan.tile_size // _ROWS_PER_JOB)
        self._counts = np.zeros((len(block.tiles), n_parts), np.int64)
        diagonal = {i for i, j in block.tiles if i == j}
        self._self_sums = {
            band: np.zeros(plan.bands.length(band))
            for band in block.bands
            if band not in known and band not in diagonal
        }
        self._kernel = PANEL_KERNELS[divergence.reduction]
        none = -np.inf  # a floor below everything: nothing is flagged
        floors = [none if f.floor is None else f.floor for f in divergence.all_features]
        self._floors = np.array(floors, plan.dtype)

    @classmethod
    def version_of(
        cls, divergence: Divergence, n_classes: int, dtype: "np.dtype[np.floating]"
    ) -> int:
        """The version of the kernel that computes so many classes."""
        many = kernels.sums_many(n_classes, dtype) and divergence.reduction != Reduction.ENTROPY
        return cls.version_many if many else cls.version

    def prepare(self, buffer: int, band: int, first: int, log_p: NDArray[np.floating]) -> None:
        """See `BlockKernel.prepare`."""
        log_p = np.ascontiguousarray(log_p, self._plan.dtype)
        packed, floored = self._at(buffer, band)
        for k, feature in enumerate(self._divergence.all_features):
            with np.errstate(under="ignore"):  # what underflows is raised to the floor
                values = feature(log_p, np)
            kernels.pack(values, first, packed[k], floored[k], self._floors[k])

    def jobs(self, buffer: int, n_samples: int) -> list[Job]:
        """See `BlockKernel.jobs`."""
        flagged = {
            band: bool(self._at(buffer, band)[1][:, :n_samples].any()) for band in self._slots
        }
        combined = all if self._kernel.both else any
        jobs: list[Job] = [
            partial(self._add_diagonal, band, buffer, n_samples) for band in self._self_sums
        ]
        for number, (i, j) in enumerate(self._tiles):
            count = combined((flagged[i], flagged[j]))
            for part in range(-(-self._plan.bands.length(i) // _ROWS_PER_JOB)):
                jobs.append(partial(self._add, number, part, buffer, n_samples, count))
        return jobs

    def _add(self, number: int, part: int, buffer: int, n_samples: int, count: bool) -> None:
        i, j = self._tiles[number]
        first_row = part * _ROWS_PER_JOB
        end_row = min(first_row + _ROWS_PER_JOB, self._plan.bands.length(i))
        first_panel = first_row // kernels.LANES if i == j else 0
        where = (first_row, end_row, first_panel, self._plan.bands.length(j))
        (rows, row_flags), (columns, column_flags) = self._at(buffer, i), self._at(buffer, j)
        weight, sums = self._divergence.weight, self._sums[number]
        self._kernel.add(rows, columns, where, n_samples, weight, sums)
        if count and self._kernel.count is not None:
            flags = row_flags, column_flags
            self._counts[number, part] += self._kernel.count(
                rows, columns, *flags, where, n_samples, i == j, self._floors
            )

    def _add_diagonal(self, band: int, buffer: int, n_samples: int) -> None:
        packed, weight = self._at(buffer, band)[0], self._divergence.weight
        add_diagonal(self._kernel, packed, n_samples, weight, self._self_sums[band])

    def _at(self, buffer: int, band: int) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
        """Packed features (k, P, n, C, LANES) of a band, and which are at the floor (k, n, …)."""
        slot = self._slots[band]
        return self._packed[buffer, slot], self._floored[buffer, slot]

    def sums(self, tile: Tile) -> NDArray[np.float64]:
        """See `BlockKernel.sums`."""
        i, j = tile
        n_rows, n_columns = self._plan.bands.length(i), self._plan.bands.length(j)
        sums = self._sums[self._numbers[tile], :n_rows, :n_columns]
        if i == j:
            # The panels left of a job's own first one were left out.
            for start in range(kernels.LANES, n_rows, kernels.LANES):
                rows = slice(start, start + kernels.LANES)
                sums[rows, :start] = sums[:start, rows].T
        return sums

    def self_sums(self) -> Mapping[int, NDArray[np.float64]]:
        """See `BlockKernel.self_sums`."""
        diagonal = {i: np.diagonal(self.sums((i, j))).copy() for i, j in self._tiles if i == j}
        return {**self._self_sums, **diagonal}

    def floored(self, tile: Tile) -> int:
        """See `BlockKernel.floored`."""
        return int(self._counts[self._numbers[tile]].sum())
