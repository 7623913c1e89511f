"""What a block of D takes: of the memory of this machine, and of a GPU's where one computes."""

from collections.abc import Mapping
from dataclasses import dataclass

from inpca.distance import block_array, gpu_layout
from inpca.distance.gpu_layout import RESERVE_BYTES, TILE, Gpu, Kind, Layout, tensor_shape
from inpca.distance.kernels_numba import group_samples, packed_shape
from inpca.distance.plan import Bands, Block, DevicePlan
from inpca.errors import ResourceError
from inpca.units import format_bytes

SMALL_TILE = 256  # rows and columns
# Reading a piece makes copies: decoded, in float64 for the check of the row sums, its features.
COPIES_PER_PIECE = 10
# Writing a tile: self-normalised in float64, float32, and the encoded chunk twice.
COPIES_PER_TILE = 3
_FLOPS_PER_CORE = 3e10
# Multiplications and additions of a multiprocessor in a second, at 1.2 GHz: what one does at least.
_FLOPS_PER_MULTIPROCESSOR = 2 * 128 * 1.2e9
# Without fused kernels: 1 TB/s of memory, which each class crosses ten times.
FLOPS_PLAIN = 5e10

Parts = dict[str, int]


@dataclass(frozen=True)
class Footprint:
    """The lengths that decide how much memory a block takes; here with the CPU's kernel."""

    bands: Bands
    tile_size: int
    n_samples: int
    n_classes: int
    itemsize: int
    n_workers: int
    n_writers: int
    piece_bytes: int
    chunk_samples: int
    n_features: int

    @property
    def group(self) -> int:
        """Samples of which a slab is a multiple, unless it is all of them."""
        return group_samples(self.n_classes)

    @property
    def least_flops_per_second(self) -> float:
        """What this computes at least, without a calibration."""
        return self.n_workers * _FLOPS_PER_CORE

    def slot(self, slab: int) -> int:
        """Bytes of one band's packed slab, the flags of floored features included."""
        panels, samples, classes, lanes = packed_shape(
            self.tile_size, min(slab, self.n_samples), self.n_classes
        )
        return self.n_features * panels * samples * lanes * (classes * self.itemsize + 1)

    def parts(self, n_tiles: int, n_bands: int, slab: int, fixed: Mapping[str, int]) -> Parts:
        """Bytes that a block of `n_tiles` tiles over `n_bands` bands needs, by purpose."""
        buffers = 1 if slab >= self.n_samples else 2
        tile = self.tile_size**2 * 8
        sample_bytes = self.n_classes * self.itemsize
        one_model = min(slab, self.n_samples) * sample_bytes
        piece = min(max(self.piece_bytes, one_model), self.tile_size * one_model)
        decoded = self.chunk_samples * sample_bytes
        return {
            "block of D": n_tiles * tile,
            "slabs of predictions": buffers * n_bands * self.slot(slab),
            "reading": self.n_workers * (COPIES_PER_PIECE * piece + decoded),
            "writing": self.n_writers * COPIES_PER_TILE * tile,
            **fixed,
        }

    def fits(
        self, n_tiles: int, n_bands: int, slab: int, fixed: Mapping[str, int], memory: int
    ) -> bool:
        """Whether such a block fits in `memory`."""
        return sum(self.parts(n_tiles, n_bands, slab, fixed).values()) <= memory

    def refusal(self, fixed: Mapping[str, int], memory: int) -> ResourceError:
        """That not even the smallest block fits, with the numbers and what can be done."""
        slab = min(self.group, self.n_samples)
        least = self.parts(1, min(2, len(self.bands.slices)), slab, fixed)
        cures = ["raise `memory`"]
        cures += ["write to `out`"] if "result" in fixed else []
        cures += [f"take a {self._smaller_tile}"] if self.tile_size > SMALL_TILE else []
        cures += ["take fewer workers"] if self.n_workers > 1 else []
        return ResourceError(
            f"The smallest block needs {format_bytes(sum(least.values()))} ({_named(least)}) but "
            f"`memory` is {format_bytes(memory)}; {' or '.join(cures)}."
        )

    @property
    def _smaller_tile(self) -> str:
        """A tile that may fit, in words; a tile is a whole square, however few models it holds."""
        n_models = max(sum(map(self.bands.length, bands)) for bands in self.bands.sides)
        if self.tile_size > n_models:
            return (
                f"`tile_size` (--tile-size) of no more than the {n_models:,} models, not "
                f"{self.tile_size:,}"
            )
        return f"`tile_size` < {self.tile_size}"

    def on_device(self, blocks: list[Block]) -> DevicePlan | None:
        """What the largest of `blocks` takes on the GPU; None where the CPU computes."""
        return None


@dataclass(frozen=True)
class DeviceFootprint(Footprint):
    """A block on a GPU: its sums and two launches' predictions there, two slabs in this machine.

    The host's slabs are pinned and may be longer than a launch, as predictions on disk lie together
    in chunks; the device holds two launches of raw predictions and one of prepared ones.
    """

    gpu: Gpu

    @property
    def group(self) -> int:
        """Samples of a launch."""
        return gpu_layout.LAUNCH

    @property
    def least_flops_per_second(self) -> float:
        return self.gpu.multiprocessors * _FLOPS_PER_MULTIPROCESSOR

    @property
    def padded(self) -> int:
        """Rows and columns of a tile on the device."""
        return -(-self.tile_size // TILE) * TILE

    @property
    def kind(self) -> Kind:
        """The tensor kernel where its shared memory suffices."""
        shape = tensor_shape(Layout(self.n_classes), self.gpu, self.padded)
        return "ffma" if shape is None else "tensor"

    def slot(self, slab: int) -> int:
        return self.padded * min(slab, self.n_samples) * self.n_classes * self.itemsize

    def parts(self, n_tiles: int, n_bands: int, slab: int, fixed: Mapping[str, int]) -> Parts:
        parts = super().parts(n_tiles, n_bands, slab, fixed)
        fetched = self.n_writers * self.padded**2 * (4 + 8)
        return parts | {"block of D": 0, "writing": parts["writing"] + fetched}

    def device_parts(self, n_tiles: int, n_bands: int) -> Parts:
        """Bytes of device memory, by purpose."""
        models = n_bands * self.padded
        needed = gpu_layout.memory_needed(
            models,
            min(self.group, self.n_samples),
            self.n_classes,
            tile_size=self.padded,
            n_tiles=n_tiles,
            kind=self.kind,
            diagonal=models,
        )
        return {
            "block of D": needed.output,
            "predictions": needed.slab + needed.upload,
            "working memory": needed.scratch + RESERVE_BYTES,
        }

    def fits(
        self, n_tiles: int, n_bands: int, slab: int, fixed: Mapping[str, int], memory: int
    ) -> bool:
        there = sum(self.device_parts(n_tiles, n_bands).values()) <= self.gpu.memory_free
        return there and super().fits(n_tiles, n_bands, slab, fixed, memory)

    def refusal(self, fixed: Mapping[str, int], memory: int) -> ResourceError:
        least = self.device_parts(1, min(2, len(self.bands.slices)))
        if sum(least.values()) <= self.gpu.memory_free:
            return super().refusal(fixed, memory)
        cures = ["free the GPU", "choose another with `device`", "compute with backend='numba'"]
        if self.tile_size > SMALL_TILE:
            cures.insert(0, f"take a {self._smaller_tile}")
        return ResourceError(
            f"The smallest block needs {format_bytes(sum(least.values()))} of device memory "
            f"({_named(least)}) but that is more than is free on {self.gpu}; {' or '.join(cures)}."
        )

    def on_device(self, blocks: list[Block]) -> DevicePlan | None:
        parts = [self.device_parts(len(block.tiles), len(block.bands)) for block in blocks]
        most = max(parts, key=lambda part: sum(part.values()), default={})
        return DevicePlan(self.gpu, self.kind, self.padded, self.group, most)


@dataclass(frozen=True)
class PlainFootprint(DeviceFootprint):
    """A block on a GPU without fused kernels, see `block_array`."""

    @property
    def group(self) -> int:
        return block_array.SAMPLES

    @property
    def padded(self) -> int:
        return self.tile_size

    @property
    def kind(self) -> Kind:
        return "plain"

    @property
    def least_flops_per_second(self) -> float:
        return FLOPS_PLAIN

    def device_parts(self, n_tiles: int, n_bands: int) -> Parts:
        models = n_bands * self.tile_size
        values = models * min(self.group, self.n_samples) * self.n_classes
        return {
            "block of D": 8 * n_tiles * self.tile_size**2 + 8 * models,
            "predictions": values * (self.itemsize * (2 + self.n_features) + 8),
            "working memory": block_array.WORKING_BYTES + RESERVE_BYTES,
        }


def _named(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {format_bytes(part)}" for name, part in parts.items())
