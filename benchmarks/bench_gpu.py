"""Distances on one GPU: the card's own ceilings, the unfused chain, and our kernels, in one run.

    python benchmarks/bench_gpu.py [--part NAME …] [--full tensor] [--json FILE]

Each part prints its rows at once; the table comes last. Predictions are made on the device, so
that nothing but the part that says so crosses the bus. Times are medians of repeats after one
warm-up where a measurement is short, and single runs where it takes seconds. GFLOP/s count 2 C N a
pair of models, each pair once; the chain computes both triangles and is counted by what it gives.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cupy
import numpy as np

from inpca.distance.gpu_device import find_gpu
from inpca.distance.gpu_layout import TensorShape, largest_slab, source
from inpca.distance.gpu_upload import SlabUploader
from inpca.distance.kernels_cupy import KINDS, TriangleAccumulator
from inpca.embedding.centring import CentredOperator
from inpca.embedding.lanczos import block_lanczos
from inpca.embedding.tiles import DEVICE_TILE_SIZE
from inpca.tiling import TileGrid

FULL = {"n_models": 151_407, "n_samples": 50_000, "n_classes": 10}
PARTS = (
    *("ceilings", "accuracy", "chain", "ten_thousand", "full_models", "upload", "imagenet"),
    "eigen",
)


@dataclass
class Row:
    """One line of the table."""

    what: str
    value: float
    unit: str
    note: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.value:,.4g} {self.unit} | {self.note} |"


rows: list[Row] = []


def report(what: str, value: float, unit: str, note: str = "") -> None:
    rows.append(Row(what, float(value), unit, note))
    print(rows[-1], flush=True)


def seconds(work, repeats: int = 1, warm_up: int = 0) -> float:
    """Median device time of `work`, from events around it."""
    times = []
    for k in range(warm_up + repeats):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        if k >= warm_up:
            times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


# ---------------------------------------------------------------------------------------- ceilings
CEILINGS = r"""
extern "C" __global__ void __launch_bounds__(256) ffma_rate(float* out, float x, int turns) {
    float sum[32];
    for (int i = 0; i < 32; ++i) sum[i] = threadIdx.x * 1e-3f + i;
    for (int k = 0; k < turns; ++k)
#pragma unroll
        for (int i = 0; i < 32; ++i) sum[i] = fmaf(sum[i], x, 1e-3f);
    float total = 0;
    for (int i = 0; i < 32; ++i) total += sum[i];
    out[blockIdx.x * 256 + threadIdx.x] = total;
}
extern "C" __global__ void __launch_bounds__(256) mma_rate(float* out, uint32_t seed, int turns) {
    float d[8][4];
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; ++i) a[i] = 0x2c002e00u ^ (seed * 977u + threadIdx.x * 131u + i) % 255u;
    for (int i = 0; i < 2; ++i) b[i] = 0x2a002d00u ^ (seed * 571u + threadIdx.x * 37u + i) % 255u;
    for (int i = 0; i < 8; ++i)
        for (int k = 0; k < 4; ++k) d[i][k] = 0;
    for (int k = 0; k < turns; ++k)
#pragma unroll
        for (int i = 0; i < 8; ++i) mma_m16n8k16(d[i], a, b, d[i]);
    float total = 0;
    for (int i = 0; i < 8; ++i)
        for (int k = 0; k < 4; ++k) total += d[i][k];
    out[blockIdx.x * 256 + threadIdx.x] = total;
}
extern "C" __global__ void __launch_bounds__(256) cache_rate(const unsigned char* from, float* out,
                                                             int chunks, int turns) {
    DYNAMIC_SHARED(shared);
    for (int k = 0; k < turns; ++k) {
        const int chunk = (blockIdx.x * 7 + k) % chunks;
#pragma unroll
        for (int i = 0; i < 8; ++i)
            cp_async16(shared + (i * 256 + threadIdx.x) * 16,
                       from + (static_cast<long long>(chunk) * 2048 + i * 256 + threadIdx.x) * 16);
        cp_async_commit();
        cp_async_wait<2>();
    }
    cp_async_wait<0>();
    out[blockIdx.x * 256 + threadIdx.x] = shared[threadIdx.x];
}
"""


def part_ceilings(gpu) -> None:
    module = cupy.RawModule(code=source("ptx.cuh") + CEILINGS, options=("-std=c++17",))
    blocks, turns = 8 * gpu.multiprocessors, 20_000
    out = cupy.empty(blocks * 256, np.float32)

    def rate(name: str, *arguments, shared: int = 0) -> float:
        function = module.get_function(name)
        return seconds(lambda: function((blocks,), (256,), (*arguments,), shared_mem=shared), 5, 1)

    took = rate("ffma_rate", out, np.float32(0.999), np.int32(turns))
    report("FFMA", 2 * 32 * turns * 256 * blocks / took / 1e12, "TFLOP/s", "ceiling, float32")
    took = rate("mma_rate", out, np.uint32(3), np.int32(turns))
    flops = 2 * 16 * 8 * 16 * 8 * turns * 8 * blocks
    report("mma.sync m16n8k16", flops / took / 1e12, "TFLOP/s", "ceiling, fp16 in, float32 sums")
    window = cupy.random.random(24 << 18, dtype=np.float32).view(np.uint8)
    chunks = window.nbytes // 32768
    took = rate("cache_rate", window, out, np.int32(chunks), np.int32(2000), shared=32768)
    report("L2 to shared memory", 32768 * 2000 * blocks / took / 1e12, "TB/s", "24 MiB, cp.async")
    one, two = cupy.random.random(1 << 30, dtype=np.float32), cupy.empty(1 << 30, np.float32)
    took = seconds(lambda: two.data.copy_from_device_async(one.data, one.nbytes), 5, 1)
    report("device copy", 2 * one.nbytes / took / 1e12, "TB/s", "read + written")
    size = 1 << 28
    host = np.frombuffer(cupy.cuda.alloc_pinned_memory(4 * size), np.float32, size)
    host[:] = 1
    took = seconds(lambda: two[:size].set(host), 5, 1)
    report("pinned host to device", 4 * size / took / 1e9, "GB/s")


# ------------------------------------------------------------------------------------- predictions
def make_log_prob(n_models: int, n_samples: int, n_classes: int, sharpness=2.0, seed=0):
    """(m, n, C) float32 log-probabilities on the device, made in place model by model."""
    generator = cupy.random.default_rng(seed)
    out = cupy.empty((n_models, n_samples, n_classes), np.float32)
    step = max(1, (1 << 27) // (n_samples * n_classes))
    for first in range(0, n_models, step):
        part = out[first : first + step]
        generator.standard_normal(part.shape, dtype=np.float32, out=part)
        part *= np.float32(sharpness)
        part -= cupy.log(cupy.exp(part).sum(-1, keepdims=True))
    return out


def triangle(n_models: int, tile_size: int) -> np.ndarray:
    across = -(-n_models // tile_size)
    return np.array([(i, j) for i in range(across) for j in range(i, across)], np.int32)


def shapes_to_try(kind: str) -> list[int | None]:
    """Columns of a block of the tensor kernel, in warps; None is the one chosen by itself."""
    return [4, 2] if kind == "tensor" else [None]


def with_shape(total: TriangleAccumulator, warps_across: int | None) -> str:
    if warps_across is None or total.layout.wide:
        return ""
    shared = total.layout.tensor_shared_bytes(warps_across)
    blocks = 2 if warps_across == 2 else 1
    total.shape = TensorShape(warps_across, blocks, 64 * warps_across, shared)
    return f", {blocks} × 128 × {64 * warps_across}"


# ---------------------------------------------------------------------------------------- accuracy
def exact_distances(log_prob, floor: float = 2.0**-62):
    """Raw D in float64 on the device."""
    m, n, _ = log_prob.shape
    total = cupy.zeros((m, m))
    for k in range(n):
        root = cupy.exp(log_prob[:, k].astype(np.float64) / 2)
        root = cupy.maximum(root / cupy.sqrt((root**2).sum(-1, keepdims=True)), floor)
        total -= cupy.log(root @ root.T)
    return total / n


def part_accuracy(gpu) -> None:
    for sharpness in (1.0, 3.0, 10.0, 40.0):
        for n_classes, n in ((10, 4000), (100, 500)):
            log_prob = make_log_prob(768, n, n_classes, sharpness)
            expected = exact_distances(log_prob)
            for kind in KINDS:
                total = TriangleAccumulator([(0, 0)], 768, n, n_classes, kind=kind)
                total.add_log_prob(log_prob)
                error = float(cupy.abs(total.finish()[0] - expected).max())
                note = f"max |error| of D ≤ {float(expected.max()):.3g} nats, N = {n}; "
                note += f"{total.redone} of 36 patches redone, {total.floored} entries floored"
                report(f"error, {kind}, C = {n_classes}, σ = {sharpness:g}", error, "nats", note)


# ------------------------------------------------------------------------------- the unfused chain
def chain_distances(torch, root, samples: int, chunk: int) -> float:
    """Seconds of bmm → log → mean over the first samples of `root` (N, m, C)."""
    total = torch.zeros((root.shape[1],) * 2, device="cuda")
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for first in range(0, samples, chunk):
        part = root[first : first + chunk]
        total -= torch.bmm(part, part.transpose(1, 2)).log().mean(0) * len(part)
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def part_chain(gpu) -> float:
    """D of 10,000 models and samples by bmm, log, mean; at its best chunk of samples."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    m = n = 10_000
    root = torch.randn((n, m, 10), device="cuda").softmax(-1).sqrt_()
    times = {}
    for chunk in (2, 8, 32):
        chain_distances(torch, root, 64, chunk)
        times[chunk] = chain_distances(torch, root, 256, chunk)
    best = min(times, key=times.get)
    took = chain_distances(torch, root, n, best)
    report("torch bmm → log → mean, m = N = 10,000", took, "s", f"best chunk: {best} samples")
    del root
    torch.cuda.empty_cache()
    return took


# ------------------------------------------------------------------------------------- our kernels
def run_kind(log_prob, tile_size: int, kind: str, warps_across=None, repeats: int = 1) -> tuple:
    """(seconds, seconds of preparation, accumulator); the output is made before the clock runs."""
    m, n, n_classes = log_prob.shape
    total = TriangleAccumulator(
        triangle(m, tile_size), tile_size, n * (repeats + 1), n_classes, kind=kind
    )
    note = with_shape(total, warps_across)
    total.add_log_prob(log_prob)
    took = seconds(lambda: total.add_log_prob(log_prob), repeats)
    preparing = seconds(lambda: total.prepare(log_prob), 1)
    return took, preparing, note, total


def part_ten_thousand(gpu, chain: float | None) -> None:
    m = n = 10_000
    log_prob = make_log_prob(m, 2000, 10)
    for kind in ("ffma", "tensor"):
        for warps in shapes_to_try(kind):
            took, preparing, note, _ = run_kind(log_prob, 256, kind, warps, repeats=3)
            took, preparing = took * n / 2000, preparing * n / 2000
            rate = m * (m + 1) / 2 * n * 20 / took / 1e9
            note = f"{rate:,.0f} GFLOP/s; {preparing:.3g} s of it preparation; 5 slabs of 2,000"
            note += f"; {chain / took:.0f} × the chain" if chain else ""
            shape = f" ({64 * warps} columns)" if warps else ""
            report(f"{kind}{shape}, m = N = 10,000, C = 10", took, "s", note)
    for sharpness in (12, 30):
        took, _, _, total = run_kind(make_log_prob(m, 2000, 10, sharpness), 256, "tensor")
        share = total.redone / (len(total.tile_ij) * 4 * 2)
        note = f"{share:.0%} of the patches redone in float32"
        report(f"tensor, m = N = 10,000, saturated (σ = {sharpness})", took * n / 2000, "s", note)


def add_samples(total: TriangleAccumulator, log_prob, n_samples: int) -> float:
    """Device seconds of adding the slab again and again until there are `n_samples`."""
    took = 0.0
    for first in range(0, n_samples, log_prob.shape[1]):
        part = log_prob[:, : n_samples - first]
        took += seconds(lambda part=part: total.add_log_prob(part))
    return took


def part_full_models(gpu, n_samples: int = 2000) -> None:
    m, n = FULL["n_models"], FULL["n_samples"]
    tile_ij = triangle(m, 1024)
    for kind in ("tensor", "ffma"):
        log_prob = make_log_prob(m, full_slab(kind, n_samples), 10)
        for warps in shapes_to_try(kind):
            total = TriangleAccumulator(tile_ij, 1024, n_samples, 10, kind=kind)
            with_shape(total, warps)
            took = add_samples(total, log_prob, n_samples)
            rate = m * (m + 1) / 2 * n_samples * 20 / took / 1e9
            what = f"{kind}{f' ({64 * warps} columns)' if warps else ''}, m = 151,407"
            report(f"{what}, N = {n_samples:,}", took, "s", f"{rate:,.0f} GFLOP/s")
            report(f"{what}, N = 50,000", took * n / n_samples, "s", "extrapolated from N = 2,000")
            del total
            cupy.get_default_memory_pool().free_all_blocks()
        del log_prob


def full_slab(kind: str, n_samples: int) -> int:
    """Samples of a slab of all models beside the whole triangle."""
    m, tile_ij = FULL["n_models"], triangle(FULL["n_models"], 1024)
    how = {"tile_size": 1024, "n_tiles": len(tile_ij), "kind": kind}
    return min(1000, largest_slab(find_gpu().memory_free, m, n_samples, 10, **how))


def full_run(kind: str) -> None:
    """All 151,407 models and 50,000 samples, every slab of fresh predictions."""
    m, n, c = FULL.values()
    tile_ij, slab = triangle(m, 1024), full_slab(kind, n)
    total = TriangleAccumulator(tile_ij, 1024, n, c, kind=kind)
    took, begin = 0.0, time.perf_counter()
    for first in range(0, n, slab):
        log_prob = make_log_prob(m, min(slab, n - first), c, seed=first)
        took += seconds(lambda log_prob=log_prob: total.add_log_prob(log_prob))
        del log_prob
    wall = time.perf_counter() - begin
    some = total.finish()[0, :4, :4].get()
    note = f"measured whole; {wall:.0f} s with making the predictions; D[0, 1] = {some[0, 1]:.6f}"
    report(f"{kind}, m = 151,407, N = 50,000, C = 10", took, "s", note)


def part_upload(gpu) -> None:
    """20,000 models from host memory: the copy hidden behind the kernels."""
    m, n, step = 20_000, 2000, 250
    host = make_log_prob(m, n, 10).get()

    def read(start: int, stop: int, out) -> None:
        np.copyto(out, host[:, start:stop])

    total = TriangleAccumulator(triangle(m, 1024), 1024, n, 10)
    cupy.cuda.Device().synchronize()
    begin = time.perf_counter()
    for slab in SlabUploader(read, [*range(0, n, step), n], m, 10):
        total.add_log_prob(slab)
    cupy.cuda.Device().synchronize()
    took = time.perf_counter() - begin
    report(
        "tensor, m = 20,000, N = 2,000 from the host",
        took,
        "s",
        f"{host.nbytes / took / 1e9:.1f} GB/s",
    )


def part_imagenet(gpu) -> None:
    """792 models of 50,000 samples and 1,000 classes: one slab timed, the rest extrapolated."""
    m, n, c, slab = 792, 50_000, 1000, 1000
    log_prob = make_log_prob(m, slab, c, sharpness=1.0)
    for kind in KINDS:
        took, preparing, _, _ = run_kind(log_prob, 128, kind, repeats=2)
        rate = m * (m + 1) / 2 * slab * 2 * c / took / 1e9
        note = f"extrapolated from one slab of 1,000; {rate:,.0f} GFLOP/s; "
        note += f"{preparing * n / slab:.3g} s of it preparation; the bus needs 158 GB"
        report(f"{kind}, ImageNet: 792 × 50,000 × 1,000", took * n / slab, "s", note)


# ------------------------------------------------------------------------------------- eigensolver
class MadeDistances:
    """D of points in Minkowski space, made on the device in the solver's large tiles."""

    def __init__(self, n_models: int, n_axes: int = 200) -> None:
        self.grid = TileGrid(n_models, DEVICE_TILE_SIZE)
        points = cupy.random.default_rng(0).standard_normal((n_models, n_axes), dtype=np.float32)
        sign = np.where(np.arange(n_axes) % 4 == 3, -1, 1)
        # Time-like axes are short, so that no distance is negative.
        points *= cupy.asarray(0.95 ** np.arange(n_axes) * np.where(sign < 0, 0.1, 1), np.float32)
        signed = points * cupy.asarray(sign, np.float32)
        own = (points * signed).sum(1)
        self.like = points
        self._tiles = {}
        for i, j in self.grid.tiles():
            rows, columns = self.grid.band(i), self.grid.band(j)
            tile = own[rows, None] + own[columns] - 2 * (points[rows] @ signed[columns].T)
            if i == j:
                cupy.fill_diagonal(tile, 0)
            self._tiles[i, j] = tile

    def read_tile(self, tile):
        return self._tiles[tile]


def part_eigen(gpu, k: int = 50) -> None:
    """The 50 eigenpairs of largest |λ| of 151,407 models, D in device memory."""
    operator = CentredOperator(distances := MadeDistances(FULL["n_models"]))
    cupy.cuda.Device().synchronize()
    begin = time.perf_counter()
    result = block_lanczos(
        operator.apply,
        operator.n_models,
        k,
        frobenius_norm=lambda: operator.frobenius_norm,
        like=distances.like,
    )
    took = time.perf_counter() - begin
    note = f"{result.n_passes} passes, {int(result.converged.sum())} converged"
    report(f"{k} eigenpairs from device memory, m = {operator.n_models:,}", took, "s", note)


# --------------------------------------------------------------------------------------------- all
def save(path: Path | None, head: str) -> None:
    """Write what is there so far: a run that is cut off keeps its parts."""
    cupy.get_default_memory_pool().free_all_blocks()
    if path:
        path.write_text(json.dumps({"device": head, "rows": [asdict(r) for r in rows]}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--full", nargs="*", default=[], choices=["tensor", "ffma"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gpu = find_gpu()
    head = (
        f"{gpu.name}, {gpu.multiprocessors} multiprocessors, driver {gpu.driver}, "
        f"cupy {cupy.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    print(head, flush=True)
    chain = None
    for part in options.part:
        if part == "chain":
            chain = part_chain(gpu)
        elif part == "ten_thousand":
            part_ten_thousand(gpu, chain)
        else:
            globals()[f"part_{part}"](gpu)
        save(options.json, head)
    for kind in options.full:
        full_run(kind)
        save(options.json, head)
    print(f"\n{head}\n\n| what | measured | note |\n| --- | ---: | --- |")
    print("\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
