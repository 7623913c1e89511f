"""The package's kernels in the order in which the engine launches them, on small arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .build import CUDA, Edit, Module, build
from .launch import CANARY, EmulationError

TILE = 128  # pairs per side of a patch, and the granularity of the padding of models
SAMPLES = 8  # n_samples of a slab is padded to a multiple of this
FLUSH_EVERY = 16
RING_BYTES = "4 * RING * STAGE_FLOATS"
TENSOR_BYTES = "RING * STAGE_BYTES + EXPONENT_BYTES + 4 * COLS / TILE"


@dataclass(frozen=True)
class Slab:
    """What the tiles read of some models: ``first`` is the number of the first of them."""

    planes: np.ndarray
    split: np.ndarray
    first: int = 0

    @property
    def n_samples(self) -> int:
        return len(self.planes)

    @property
    def stride(self) -> int:
        return int(self.planes.shape[2])

    def models(self, first: int, behind: int) -> Slab:
        """The slab as if only these models had been prepared."""
        planes = self.planes[:, :, first - self.first : behind - self.first]
        split = self.split[:, :, first - self.first : behind - self.first]
        return Slab(np.ascontiguousarray(planes), np.ascontiguousarray(split), first)


@dataclass
class Output:
    """The resident output: store tiles as integers, ``units`` to a bit."""

    tiles: np.ndarray
    tile_size: int
    n_samples: int
    entries: np.ndarray = field(init=False)
    units: float = field(init=False)

    def __post_init__(self) -> None:
        self.tiles = np.asarray(self.tiles, np.int32).reshape(-1, 2)
        self.entries = np.zeros((len(self.tiles), self.tile_size, self.tile_size), np.int32)
        # A sample adds at most 62 bits (and padding none): the sum stays below 2^31.
        self.units = 2.0 ** np.floor(np.log2((2**31 - 1) / (62.5 * self.n_samples)))

    @property
    def n_patches(self) -> int:
        return len(self.tiles) * (self.tile_size // TILE) ** 2


@dataclass
class Engine:
    """The launches of one path. ``path`` is "ffma", "tensor" or "batched".

    ``edits`` are planted mistakes; ``watched`` instruments the accesses; ``seed`` chooses the
    schedule; ``slabs`` > 1 cuts the samples, which stream past the resident output.
    """

    n_classes: int
    path: str
    tile_size: int = 128
    warps_across: int | str = "(WIDE ? 4 : 2)"  # as few as fill a patch
    seed: int = 0
    watched: bool = True
    slabs: int = 1
    edits: Sequence[Edit] = ()
    floored: int = field(default=0, init=False)
    invalid: int = field(default=0, init=False)
    redone: int = field(default=0, init=False)
    lost_pairs: int = field(default=0, init=False)

    def module(
        self, file: str, kernel: str, constants: Sequence[str] = (), **macros: int | str
    ) -> Module:
        """The source compiled for these classes, with those edits that concern it."""
        edits = [e for e in self.edits if e.file == file or not e.file.endswith(".cu")]
        return build(
            CUDA / file,
            [kernel],
            constants=constants,
            defines=macros,
            edits=edits,
            watched=self.watched,
        )

    # --------------------------------------------------------------------------- start to end
    def distances(self, log_prob: np.ndarray) -> np.ndarray:
        """(m, m) float64, self-normalised, of (m, N, C) float32 log-probabilities."""
        n_models, n_samples, _ = log_prob.shape
        across = -(-n_models // self.tile_size)
        tiles = [(i, j) for i in range(across) for j in range(i, across)]
        out = Output(np.array(tiles), self.tile_size, n_samples)
        for part in np.array_split(log_prob, self.slabs, axis=1):
            slab = self.prepare(np.ascontiguousarray(part))
            self.add(slab, slab, out)
        return normalised(self.finish(out, n_samples), out, n_models)

    def add(self, rows: Slab, cols: Slab, out: Output) -> None:
        """Add the samples of one slab to every tile of ``out``."""
        getattr(self, f"add_{self.path}")(rows, cols, out)

    def finish(self, out: Output, n_samples: int) -> np.ndarray:
        """The tiles as float32 nats per sample, in place."""
        scale = np.log(2) / (out.units * n_samples)
        module = self.module("finish.cu", "finish_tiles")
        module.finish_tiles((5,), (256,), out.entries, out.entries.size, scale, seed=self.seed)
        return out.entries.view(np.float32)

    # ------------------------------------------------------------------------------- the slab
    def prepare(self, log_prob: np.ndarray) -> Slab:
        constants = ["CLASSES_PADDED", "SPLIT_PLANES"]
        module = self.module("prepare.cu", "prepare_slab", constants, INPCA_CLASSES=self.n_classes)
        n_models, n_samples, n_classes = log_prob.shape
        stride, padded = round_up(n_models, self.tile_size), round_up(n_samples, SAMPLES)
        classes_padded, split_planes = module.constants.values()
        planes = np.full((padded, classes_padded, stride), np.nan, np.float32)
        split = np.full((padded, split_planes, stride, 4), CANARY, np.uint32)
        counts = np.zeros(2, np.uint64)
        module.prepare_slab(
            *((stride // 128, padded), (128,)),
            *(log_prob, n_samples * n_classes, n_models, n_samples, stride),
            *(planes, split, counts),
            seed=self.seed,
        )
        self.floored += int(counts[0])
        self.invalid += int(counts[1])
        return Slab(planes, split)

    # ------------------------------------------------------------------------------ the tiles
    def add_ffma(self, rows: Slab, cols: Slab, out: Output) -> None:
        module = self.module(
            "ffma.cu", "ffma_tiles", [RING_BYTES], INPCA_CLASSES=self.n_classes, INPCA_REDO=0
        )
        module.ffma_tiles(
            *((out.n_patches,), (256,)),
            *(rows.planes, rows.stride, rows.first, cols.planes, cols.stride, cols.first),
            *(rows.n_samples, FLUSH_EVERY, out.tiles, out.tile_size, out.entries, out.units),
            shared_bytes=module.constants[RING_BYTES],
            seed=self.seed,
        )

    def add_tensor(self, rows: Slab, cols: Slab, out: Output) -> None:
        macros = {"INPCA_WARPS_ACROSS": self.warps_across, "INPCA_BLOCKS": 1}
        module = self.module(
            "tensor.cu",
            "tensor_tiles",
            [TENSOR_BYTES, "COLS", "THREADS"],
            INPCA_CLASSES=self.n_classes,
            **macros,
        )
        shared_bytes, columns, threads = module.constants.values()
        lost = np.full(out.n_patches, -1, np.int32)
        lost_count = np.zeros(1, np.int32)
        masks = np.zeros((out.n_patches, TILE, TILE // 32), np.uint32)
        left, right = rows.split.view(np.uint8), cols.split.view(np.uint8)
        module.tensor_tiles(
            *((out.n_patches * TILE // columns,), (threads,)),
            *(left, rows.stride, rows.first, right, cols.stride, cols.first, rows.n_samples),
            *(out.tiles, out.tile_size, out.entries, out.units, lost, lost_count, masks),
            shared_bytes=shared_bytes,
            seed=self.seed,
        )
        self.lost_pairs += sum(int(word).bit_count() for word in masks.flat)
        self.redo(rows, cols, out, (lost, lost_count, masks))

    def redo(
        self, rows: Slab, cols: Slab, out: Output, lost: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> None:
        """Add the pairs that the tensor kernel left out; one block goes through all patches."""
        module = self.module(
            "ffma.cu", "ffma_redo", [RING_BYTES], INPCA_CLASSES=self.n_classes, INPCA_REDO=1
        )
        redone = np.zeros(1, np.uint64)
        module.ffma_redo(
            *((1,), (256,)),
            *(rows.planes, rows.stride, rows.first, cols.planes, cols.stride, cols.first),
            *(rows.n_samples, FLUSH_EVERY, out.tiles, out.tile_size, out.entries, out.units),
            *(*lost, redone),
            shared_bytes=module.constants[RING_BYTES],
            seed=self.seed,
        )
        self.redone += int(redone[0])
        if lost[2].any():
            raise EmulationError("the redo pass left bits in the masks")

    def add_batched(self, rows: Slab, cols: Slab, out: Output) -> None:
        """A batched product for each tile, as for many classes, and its log-reduction."""
        module = self.module("finish.cu", "reduce_logs")
        for entries, (i, j) in zip(out.entries, out.tiles * self.tile_size, strict=True):
            left = rows.planes[:, :, i - rows.first :][:, :, : self.tile_size]
            right = cols.planes[:, :, j - cols.first :][:, :, : self.tile_size]
            affinity = np.einsum("ncu,ncv->nuv", left, right)
            module.reduce_logs(
                *((entries.size // 256,), (256,)),
                *(affinity, len(affinity), entries.size, entries, out.units),
                seed=self.seed,
            )


def normalised(values: np.ndarray, out: Output, n_models: int) -> np.ndarray:
    """The whole matrix from its upper tiles, less half the diagonal of both sides."""
    size = out.tile_size
    whole = np.full((round_up(n_models, size),) * 2, np.nan)
    for (i, j), tile in zip(out.tiles * size, values, strict=True):
        whole[i : i + size, j : j + size] = tile
        whole[j : j + size, i : i + size] = tile.T
    whole = whole[:n_models, :n_models]
    return whole - (np.diag(whole)[:, None] + np.diag(whole)) / 2


def round_up(n: int, step: int) -> int:
    return -(-n // step) * step
