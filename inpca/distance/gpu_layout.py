"""What the GPU kernels need to know of sizes: layouts, launches, device memory. No GPU needed.

The CUDA sources of `cuda/` count for themselves; every size that both sides count is asserted
there when a kernel is compiled.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inpca.errors import ResourceError
from inpca.units import format_bytes

Kind = Literal["tensor", "ffma", "batched", "plain"]
KINDS: tuple[Kind, ...] = ("tensor", "ffma", "batched")
TILE = 128  # pairs per side of what one block makes (TILE of cuda/tile.cuh)
GROUP = 8  # samples are padded to a multiple of this
# Samples of one launch, counted from the first one: so neither the length of a slab nor where it
# ends decides what is summed before it is rounded, or done again, and no byte depends on it.
LAUNCH = 512
_LONGEST_SLAB = 2048  # samples: more gains nothing
PATCHES_PER_LAUNCH = 32768  # bounds the masks of lost pairs to 64 MiB
MASK_BYTES = TILE * TILE // 8
BATCH_BYTES = 256 * 2**20  # of affinities at a time, kind "batched"

_SOURCES = Path(__file__).parent / "cuda"
_RING = 3  # stages of shared memory
RESERVE_BYTES = 768 * 2**20  # context, libraries and what the allocator rounds up


@dataclass(frozen=True)
class Gpu:
    """One device: number, name, compute capability, bytes of memory, what a kernel may take."""

    index: int
    name: str
    capability: tuple[int, int]
    memory_total: int
    memory_free: int
    multiprocessors: int
    shared_per_block: int
    shared_per_multiprocessor: int
    driver: int

    def __str__(self) -> str:
        return (
            f"GPU {self.index} ({self.name}, {format_bytes(self.memory_free)} of "
            f"{format_bytes(self.memory_total)} free)"
        )


@dataclass(frozen=True)
class Layout:
    """How a prediction of `n_classes` is stored for the tiles (cuda/split.cuh says why)."""

    n_classes: int

    @property
    def class_block(self) -> int:
        return self.n_classes if self.n_classes <= 20 else 16

    @property
    def classes_padded(self) -> int:
        return -(-self.n_classes // self.class_block) * self.class_block

    @property
    def wide(self) -> bool:
        return self.n_classes > 20

    @property
    def split_rest(self) -> int:
        rest = (self.n_classes + 1) // 2 % 4
        return 0 if self.wide or rest == 3 else rest

    @property
    def split_groups(self) -> int:
        if self.wide:
            return (self.n_classes + 15) // 16 * 2
        return ((self.n_classes + 1) // 2 + 1) // 4

    @property
    def split_planes(self) -> int:
        return 2 * self.split_groups + 2 * self.split_rest

    @property
    def ffma_shared_bytes(self) -> int:
        few = 2 if self.n_classes >= 10 else 4 if self.n_classes >= 5 else 8
        samples = few if self.classes_padded == self.class_block else 1
        return _RING * samples * self.class_block * 2 * TILE * 4

    def tensor_shared_bytes(self, warps_across: int) -> int:
        columns = (32 if self.wide else 64) * warps_across
        loads = 4 if self.wide else 2 * self.split_groups + self.split_rest
        ring = _RING * (1 if self.wide else 2) * (TILE + columns) * loads * 16
        return ring + TILE * columns * 2 + 4 * columns // TILE

    @property
    def firm_words(self) -> int:
        """Words of 32 classes, in which cuda/floored.cu looks for a class that is not small."""
        return -(-self.n_classes // 32)

    def bytes_per_prediction(self, kind: Kind) -> int:
        """Of one prepared prediction in device memory."""
        return 4 * self.classes_padded + (16 * self.split_planes if kind == "tensor" else 0)


@dataclass(frozen=True)
class TensorShape:
    """How many columns a block of the tensor kernel makes, and how many share a multiprocessor."""

    warps_across: int
    blocks: int
    columns: int
    shared_bytes: int

    @property
    def threads(self) -> int:
        return 64 * self.warps_across


def tensor_shape(layout: Layout, gpu: Gpu, tile_size: int) -> TensorShape | None:
    """The widest shape that fits the device and divides the tile; None where none does.

    Wide blocks read each prediction from the L2 cache less often: 128 × 256 pairs need three
    quarters of the bytes of 128 × 128, which alone would keep the cache as busy as the tensor
    cores.
    """
    for warps_across in (4,) if layout.wide else (4, 2):
        columns = (32 if layout.wide else 64) * warps_across
        shared = layout.tensor_shared_bytes(warps_across)
        if tile_size % columns == 0 and shared <= gpu.shared_per_block:
            twice = 2 * (shared + 1024) <= gpu.shared_per_multiprocessor
            blocks = 2 if warps_across == 2 and twice else 1
            return TensorShape(warps_across, blocks, columns, shared)
    return None


def check_shared_memory(layout: Layout, gpu: Gpu) -> None:
    """Refuse a GPU on which not even the float32 kernel runs.

    Raises
    ------
    ResourceError
        On some GPUs for desktops, of 17 to 20 classes.
    """
    needed = layout.ffma_shared_bytes
    if needed > gpu.shared_per_block:
        raise ResourceError(
            f"The kernels of {layout.n_classes} classes need {needed} bytes of shared memory but "
            f"{gpu} has {gpu.shared_per_block}; choose another `device` or backend='numba'."
        )


# --------------------------------------------------------------------------- what is compiled
def source(file: str) -> str:
    """A source of `cuda/` with its headers in place: one text, so that a cache can tell changes."""
    return _with_headers(file, set())


def _with_headers(file: str, seen: set[str]) -> str:
    if file in seen:
        return ""
    seen.add(file)
    lines = []
    for line in (_SOURCES / file).read_text(encoding="utf-8").splitlines():
        quoted = line.removeprefix('#include "').removesuffix('"')
        if line.startswith('#include "') and (_SOURCES / quoted).is_file():
            lines.append(_with_headers(quoted, seen))
        elif line != "#pragma once":
            lines.append(line)
    return "\n".join(lines)


def macros(
    kernel: str, layout: Layout, shape: TensorShape | None = None
) -> tuple[str, dict[str, int]]:
    """The file of a kernel and its macros; those that repeat a size are asserted in the source."""
    if kernel in ("finish_tiles", "reduce_logs"):
        return "finish.cu", {}
    defined = {"INPCA_CLASSES": layout.n_classes}
    if kernel in ("mark_floored", "count_floored"):
        return "floored.cu", defined | {"INPCA_FIRM_WORDS": layout.firm_words}
    if kernel == "prepare_slab":
        planes = {
            "INPCA_PLANES": layout.split_planes,
            "INPCA_CLASSES_PADDED": layout.classes_padded,
        }
        return "prepare.cu", defined | planes
    if kernel == "tensor_tiles" and shape is not None:
        return "tensor.cu", defined | {
            "INPCA_WARPS_ACROSS": shape.warps_across,
            "INPCA_BLOCKS": shape.blocks,
            "INPCA_SHARED_BYTES": shape.shared_bytes,
        }
    redo = {
        "INPCA_REDO": int(kernel == "ffma_redo"),
        "INPCA_SHARED_BYTES": layout.ffma_shared_bytes,
    }
    return "ffma.cu", defined | redo


# ---------------------------------------------------------------------------- device memory
@dataclass(frozen=True)
class DeviceMemory:
    """Bytes a job takes on the device; `upload` as many again in pinned memory of the host."""

    output: int
    slab: int
    upload: int
    scratch: int

    @property
    def total(self) -> int:
        return self.output + self.slab + self.upload + self.scratch + RESERVE_BYTES


def memory_needed(
    n_models: int,
    slab_samples: int,
    n_classes: int,
    *,
    tile_size: int,
    n_tiles: int,
    kind: Kind = "tensor",
    diagonal: int = 0,
) -> DeviceMemory:
    """What `n_tiles` tiles and slabs of `slab_samples` samples of `n_models` models take.

    Two slabs of raw log-probabilities (one computed, one on its way) and one prepared slab, with
    the words that tell which of its entries are at the floor; `diagonal` models have their own
    entry made apart, in patches.
    """
    layout = Layout(n_classes)
    models = -(-n_models // tile_size) * tile_size
    samples = -(-slab_samples // GROUP) * GROUP
    patches = min(n_tiles * (tile_size // TILE) ** 2, PATCHES_PER_LAUNCH)
    masks = patches * (MASK_BYTES + 4) if kind == "tensor" else 0
    firm = 4 * layout.firm_words * models * samples
    own = -(-diagonal // TILE) * (4 * TILE**2 + (MASK_BYTES + 4 if kind == "tensor" else 0))
    batch = 2 * BATCH_BYTES + 4 * tile_size**2 * 2 if kind == "batched" else 0
    return DeviceMemory(
        output=4 * n_tiles * tile_size**2,
        slab=models * samples * layout.bytes_per_prediction(kind),
        upload=2 * 4 * n_models * samples * n_classes,
        scratch=masks + batch + firm + own,
    )


def largest_slab(
    free: int,
    n_models: int,
    n_samples: int,
    n_classes: int,
    *,
    tile_size: int,
    n_tiles: int,
    kind: Kind = "tensor",
) -> int:
    """The longest slab that fits in `free` bytes: samples, a multiple of 8, at most 2,048.

    Raises
    ------
    ResourceError
        Not even 8 samples fit beside the output.
    """

    def total(samples: int) -> int:
        return memory_needed(
            n_models, samples, n_classes, tile_size=tile_size, n_tiles=n_tiles, kind=kind
        ).total

    if total(GROUP) > free:
        raise ResourceError(
            f"{n_tiles} tiles of {tile_size} × {tile_size} and 8 samples of {n_models} models need "
            f"{format_bytes(total(GROUP))} of device memory but {format_bytes(free)} are free; "
            "compute fewer tiles at a time, or free the GPU or choose another with `device`."
        )
    per_group = total(2 * GROUP) - total(GROUP)
    groups = 1 + (free - total(GROUP)) // per_group
    return int(min(GROUP * groups, _LONGEST_SLAB, -(-n_samples // GROUP) * GROUP))
