"""Fused GPU tiles: the CUDA sources of `cuda/`, compiled when first used, and what drives them.

Slabs of samples stream past an output that stays on the device: a list of square *store tiles*
of D. `TriangleAccumulator` prepares a slab, adds it to every tile and ends with float32 nats. Three
kinds of kernel make a tile:

``"tensor"``
    each √p split in two halves of 11 bits, multiplied on the tensor cores, summed in float32;
    pairs whose affinity falls below 2⁻²⁴ somewhere are done again by ``"ffma"``
``"ffma"``
    float32 throughout; the slower one that never needs help
``"batched"``
    a batched matrix product, then a log-reduction: the plain form that the others are held to
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.distance.gpu_device import compiled, find_gpu, get_cupy
from inpca.distance.gpu_layout import (
    BATCH_BYTES,
    GROUP,
    KINDS,
    LAUNCH,
    MASK_BYTES,
    PATCHES_PER_LAUNCH,
    TILE,
    Kind,
    Layout,
    check_shared_memory,
    tensor_shape,
)
from inpca.errors import InputError, ResourceError
from inpca.units import format_bytes

# A sample adds at most 62 bits, since Σ √p √q >= 2^-62 Σ √q >= 2^-62; a little air for rounding.
_MOST_BITS = 62.5


# ------------------------------------------------------------------------------------ accumulation
@dataclass(frozen=True)
class Slab:
    """Prepared samples of the models from `first_model` on.

    planes (samples, classes, models) float32 √p; split (samples, planes, models, 4) uint32 or
    None; samples, classes and models padded.
    """

    first_model: int
    n_models: int
    n_samples: int
    planes: Any
    split: Any

    @property
    def stride(self) -> int:
        """Models, padding included."""
        return int(self.planes.shape[2])


class TriangleAccumulator:
    """The store tiles of D on one device, and everything that is added to them.

    Parameters
    ----------
    tile_ij : (n_tiles, 2) block row and column of each tile; any list, also off the triangle.
    tile_size : models per side; a multiple of 128 (of 256 for the tensor kernel's best speed).
    n_samples : samples that will be added in all.
    n_classes : classes of a prediction.
    kind : ``"tensor"``, ``"ffma"`` or ``"batched"``.
    device : number of the GPU.
    launch : samples of a launch, a multiple of 32. Slabs of whole launches (the last may be
        shorter) give the same bytes, however many launches a slab has.
    count : whether to count the contributions that the floor decides, tile by tile.

    Notes
    -----
    D_uv = −(1/N) Σ_n ln Σ_c √p_u[n,c] √p_v[n,c] (Eq. 2), the diagonal by the same arithmetic: equal
    models have equal entries, bit for bit, so that D_uv −= (D_uu + D_vv)/2 makes them exactly 0
    (but for ``"batched"``: a library's product may round each place of a matrix its own way).
    While slabs come in, an entry is the integer −Σ log2 a in units of 62.5 N / 2³¹ bits, 2e-8 nats
    at the end: exact to add, in any order. Each launch rounds to it once, so that 98 launches
    (50,000 samples) leave 6e-8 nats, root mean square. All work is on the device's current stream.

    Examples
    --------
    >>> tiles = [(0, 0), (0, 1), (1, 1)]
    >>> total = TriangleAccumulator(tiles, 1024, n_samples=50_000, n_classes=10)  # doctest: +SKIP
    >>> for slab in uploader:  # (m, n, C) float32 on the device                  # doctest: +SKIP
    ...     total.add_log_prob(slab)
    >>> D = total.finish()  # (3, 1024, 1024) float32, on the device              # doctest: +SKIP
    """

    def __init__(
        self,
        tile_ij: ArrayLike,
        tile_size: int,
        n_samples: int,
        n_classes: int,
        *,
        kind: Kind = "tensor",
        device: int | None = None,
        launch: int = LAUNCH,
        count: bool = False,
    ) -> None:
        self.tile_ij: NDArray[np.int32] = np.asarray(tile_ij, np.int32).reshape(-1, 2)
        _check_sizes(tile_size, n_samples, n_classes, kind)
        self.gpu = find_gpu(device)
        self.tile_size, self.n_samples, self.kind = tile_size, n_samples, kind
        self.layout = Layout(n_classes)
        self.shape = tensor_shape(self.layout, self.gpu, tile_size) if kind == "tensor" else None
        if kind != "batched":
            check_shared_memory(self.layout, self.gpu)
        if kind == "tensor" and self.shape is None:
            raise ResourceError(
                f"The tensor kernel of {n_classes} classes needs more shared memory than "
                f"{self.gpu} has; use kind='ffma'."
            )
        self.launch, self.count = launch, count
        self.units = (2**31 - 1) / (_MOST_BITS * n_samples)
        self.added = 0
        self._cupy = get_cupy()
        with self._on_device():
            self._allocate()

    def _allocate(self) -> None:
        cupy = self._cupy
        needed = 4 * len(self.tile_ij) * self.tile_size**2
        try:
            self._out = cupy.zeros((len(self.tile_ij), self.tile_size, self.tile_size), np.int32)
            self._tiles = cupy.asarray(self.tile_ij)
            self._counts = cupy.zeros(3, np.uint64)  # floored, invalid; patches redone
            self._floored_pairs = cupy.zeros(len(self.tile_ij), np.uint64)
            if self.shape is not None:
                patches = min(len(self.tile_ij), self._tiles_at_once) * self._patches_per_tile
                self._lost = cupy.empty(patches, np.int32)
                self._lost_count = cupy.zeros(1, np.int32)
                self._masks = cupy.zeros((patches, MASK_BYTES // 4), np.uint32)
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise ResourceError(
                f"The output needs {format_bytes(needed)} but {self.gpu}; compute fewer tiles at "
                "a time, or free the GPU or choose another with `device`."
            ) from error

    @property
    def _patches_per_tile(self) -> int:
        return (self.tile_size // TILE) ** 2

    @property
    def _tiles_at_once(self) -> int:
        return max(1, PATCHES_PER_LAUNCH // self._patches_per_tile)

    @property
    def _flush_every(self) -> int:
        """Samples that the float32 kernel sums before they join the integers.

        A sum of n terms of D rounds to about 1e-8 √n D nats a sample; few samples cost nothing
        to flush often, many average the rounding away.
        """
        return int(2 ** np.clip(np.floor(np.log2(self.n_samples / 32)), 5, 9))

    def _on_device(self) -> AbstractContextManager[Any]:
        device: AbstractContextManager[Any] = self._cupy.cuda.Device(self.gpu.index)
        return device

    def _launch(self, kernel: str, grid: Sequence[int], threads: int, *arguments: Any) -> None:
        shape = self.shape if kernel == "tensor_tiles" else None
        function, shared = compiled(kernel, self.layout, shape, self.gpu.index)
        function(tuple(grid), (threads,), arguments, shared_mem=shared)

    # ------------------------------------------------------------------------------------ the slab
    def prepare(self, log_prob: Any, first_model: int = 0) -> Slab:
        """Normalised, floored √p in the layouts of the tiles.

        Parameters
        ----------
        log_prob : (m, n, C) float32 on the device, samples and classes contiguous.
        first_model : number of its first model; a multiple of the tile size.
        """
        cupy = self._cupy
        m, n, n_classes = log_prob.shape
        if n_classes != self.layout.n_classes or log_prob.dtype != np.float32:
            raise InputError(
                f"`log_prob` must be float32 of {self.layout.n_classes} classes, not "
                f"{log_prob.dtype} of {n_classes}."
            )
        if first_model % self.tile_size:
            raise InputError(
                f"`first_model` must be a multiple of {self.tile_size}, not {first_model}."
            )
        with self._on_device():
            if log_prob.strides[1:] != (4 * n_classes, 4):
                log_prob = cupy.ascontiguousarray(log_prob)
            models = -(-m // self.tile_size) * self.tile_size
            samples = -(-n // GROUP) * GROUP
            planes = cupy.empty((samples, self.layout.classes_padded, models), np.float32)
            split: Any = None
            if self.kind == "tensor":
                split = cupy.empty((samples, self.layout.split_planes, models, 4), np.uint32)
            self._launch(
                "prepare_slab",
                (models // 128, samples),
                128,
                *(log_prob, np.int64(log_prob.strides[0] // 4)),
                *(np.int32(m), np.int32(n), np.int32(models)),
                *(planes, np.uint64(0) if split is None else split, self._counts),
            )
        return Slab(first_model, m, n, planes, split)

    def add_log_prob(self, log_prob: Any) -> None:
        """Add samples of all models: `prepare`, `add`, and the prepared slab is freed."""
        self.add(self.prepare(log_prob))

    def add(self, rows: Slab, cols: Slab | None = None) -> None:
        """Add a slab of samples to every tile; `cols` where the tiles' columns lie elsewhere."""
        cols = rows if cols is None else cols
        if rows.n_samples != cols.n_samples:
            raise InputError(
                f"`cols` must have the {rows.n_samples} samples of `rows`, not {cols.n_samples}."
            )
        for side, slab in enumerate((rows, cols)):
            self._check_covers(slab, self.tile_ij[:, side])
        self.added += rows.n_samples
        if self.added > self.n_samples:
            raise InputError(
                f"{self.added} samples were added but `n_samples` is {self.n_samples}."
            )
        with self._on_device():
            for start in range(0, rows.planes.shape[0], self.launch):
                part = slice(start, start + self.launch)
                marks = self._mark_floored(rows, cols, part) if self.count else None
                for first in range(0, len(self.tile_ij), self._tiles_at_once):
                    tiles = slice(first, first + self._tiles_at_once)
                    self._add_tiles(rows, cols, part, tiles)
                    if marks is not None:
                        self._count_floored(marks, tiles)

    def _check_covers(self, slab: Slab, blocks: NDArray[np.int32]) -> None:
        first = slab.first_model // self.tile_size
        behind = first + slab.stride // self.tile_size
        if len(blocks) and not (first <= blocks.min() and blocks.max() < behind):
            raise InputError(
                f"The slab holds blocks {first} to {behind - 1} of models but the tiles need "
                f"{blocks.min()} to {blocks.max()}."
            )

    def _add_tiles(self, rows: Slab, cols: Slab, part: slice, tiles: slice) -> None:
        if self.kind == "batched":
            return self._add_batched(rows, cols, part, tiles)
        samples = np.int32(rows.planes[part].shape[0])
        out, places = self._out[tiles], self._tiles[tiles]
        where = (places, np.int32(self.tile_size), out, np.float64(self.units))
        patches = len(out) * self._patches_per_tile
        sides = [(np.int32(slab.stride), np.int32(slab.first_model)) for slab in (rows, cols)]
        ffma = (
            *(rows.planes[part], *sides[0], cols.planes[part], *sides[1]),
            *(samples, np.int32(self._flush_every), *where),
        )
        if self.shape is None:
            return self._launch("ffma_tiles", (patches,), 256, *ffma)
        self._lost_count.data.memset_async(0, 4)
        self._launch(
            "tensor_tiles",
            (patches * TILE // self.shape.columns,),
            self.shape.threads,
            *(rows.split[part], *sides[0], cols.split[part], *sides[1], samples, *where),
            *(self._lost, self._lost_count, self._masks),
        )
        grid = (min(self.gpu.multiprocessors, patches),)
        lost = (self._lost, self._lost_count, self._masks, self._counts[2:])
        return self._launch("ffma_redo", grid, 256, *ffma, *lost)

    def _add_batched(self, rows: Slab, cols: Slab, part: slice, tiles: slice) -> None:
        size, entries = self.tile_size, self.tile_size**2
        step = max(2, BATCH_BYTES // (4 * entries) // 2 * 2)
        for out, (i, j) in zip(self._out[tiles], self.tile_ij[tiles] * size, strict=True):
            for start in range(part.start, min(part.stop, rows.planes.shape[0]), step):
                batch = slice(start, min(start + step, part.stop))
                left = rows.planes[batch, :, i - rows.first_model :][:, :, :size]
                right = cols.planes[batch, :, j - cols.first_model :][:, :, :size]
                affinity = self._cupy.matmul(left.transpose(0, 2, 1), right)
                self._launch(
                    "reduce_logs",
                    (entries // 256,),
                    256,
                    *(affinity, np.int32(len(affinity)), np.int64(entries), out),
                    np.float64(self.units),
                )

    # ----------------------------------------------------------------------------------- the floor
    def _mark_floored(self, rows: Slab, cols: Slab, part: slice) -> tuple[Any, ...]:
        """Arguments of `count_floored` for the real samples of a part of two slabs."""
        left = self._marks(rows, part)
        right = left if cols is rows else self._marks(cols, part)
        n_samples = min(rows.n_samples, part.stop) - part.start
        return (*left, *right, np.int32(n_samples))

    def _marks(self, slab: Slab, part: slice) -> tuple[Any, ...]:
        cupy = self._cupy
        n_samples = min(slab.n_samples, part.stop) - part.start
        firm = cupy.empty((n_samples, self.layout.firm_words, slab.stride), np.uint32)
        floored = cupy.zeros((-(-n_samples // 32), slab.stride // TILE), np.uint32)
        planes, stride = slab.planes[part], np.int32(slab.stride)
        grid = (slab.stride // 128, n_samples)
        self._launch("mark_floored", grid, 128, planes, stride, firm, floored)
        return planes, firm, floored, stride, np.int32(slab.first_model)

    def _count_floored(self, marks: tuple[Any, ...], tiles: slice) -> None:
        places, counts = self._tiles[tiles], self._floored_pairs[tiles]
        patches = len(counts) * self._patches_per_tile
        where = (places, np.int32(self.tile_size), counts)
        self._launch("count_floored", (patches,), 256, *marks, *where)

    # ------------------------------------------------------------------------------------- the end
    def check_complete(self) -> None:
        """Refuse what is not a sum over all samples of distributions.

        Raises
        ------
        InputError
            Predictions that are no distributions were met, or not all samples were added.
        """
        if self.added != self.n_samples:
            raise InputError(f"`n_samples` is {self.n_samples} but {self.added} were added.")
        if self.invalid:
            raise InputError(
                f"{self.invalid} predictions hold NaN or no probability at all; `inpca check` "
                "names them."
            )

    def log_sums(self, number: int) -> NDArray[np.float64]:
        """Σ_n ln a_uv[n] of tile `number` so far, (T, T) on the host."""
        with self._on_device():
            return self._nats(self._out[number])

    def own_log_sums(self, number: int) -> NDArray[np.float64]:
        """Σ_n ln a_uu[n], the diagonal of tile `number`, (T,) on the host."""
        with self._on_device():
            return self._nats(self._out[number].diagonal())

    def _nats(self, integers: Any) -> NDArray[np.float64]:
        return np.asarray(integers.get() * (-log(2) / self.units), np.float64)

    def finish(self) -> Any:
        """The tiles (n_tiles, T, T) as float32 nats per sample, in place; nothing can follow.

        Raises
        ------
        InputError
            Predictions that are no distributions were met, or not all samples were added.
        """
        self.check_complete()
        scale = np.float64(log(2) / (self.units * self.n_samples))
        with self._on_device():
            grid = (min(-(-self._out.size // 256), 64 * self.gpu.multiprocessors),)
            self._launch("finish_tiles", grid, 256, self._out, np.int64(self._out.size), scale)
        self.added = -1
        return self._out.view(np.float32)

    @property
    def floored(self) -> int:
        """Entries of √p that were raised to 2⁻⁶² so far (waits for the device)."""
        return int(self._counts.get()[0])

    @property
    def floored_pairs(self) -> NDArray[np.uint64]:
        """Contributions of each tile that the floor decided, (n_tiles,); with `count` alone."""
        return np.asarray(self._floored_pairs.get())

    @property
    def invalid(self) -> int:
        """Predictions so far that are no distribution (waits for the device)."""
        return int(self._counts.get()[1])

    @property
    def redone(self) -> int:
        """128 × 128 patches × slabs that lost pairs and were done again (waits for the device)."""
        return int(self._counts.get()[2])


def _check_sizes(tile_size: int, n_samples: int, n_classes: int, kind: str) -> None:
    if tile_size < TILE or tile_size % TILE:
        raise InputError(f"`tile_size` must be a multiple of {TILE} on the GPU, not {tile_size}.")
    if n_samples < 1 or n_classes < 1:
        raise InputError(
            f"`n_samples` and `n_classes` must be at least 1, not {n_samples} and {n_classes}."
        )
    if kind not in KINDS:
        raise InputError(f"`kind` must be one of {', '.join(KINDS)}, not {kind!r}.")
