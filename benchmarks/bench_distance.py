"""How fast distances are on this machine's CPU, against numpy's own matrix product in the same run.

    python benchmarks/bench_distance.py [--models 2048] [--samples 2000] [--classes 10]

Floating-point operations are counted as 2 · n_samples · n_classes per pair of models, whatever is
really done. Every figure is the best of a few repetitions.
"""

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import inpca
from inpca.backend import machine
from inpca.distance.divergences import BHATTACHARYYA
from inpca.distance.kernels_numba import (
    LANES,
    add_log_affinities,
    aligned_zeros,
    class_block,
    pack,
    packed_shape,
    padded_samples,
)
from inpca.executor import ThreadExecutor, get_executor
from inpca.units import format_seconds


def best(function: Callable[[], object], repetitions: int = 5) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def sgemm(size: int = 3072) -> float:
    """Operations per second of numpy's float32 matrix product."""
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    return 2 * size**3 / best(partial(np.matmul, a, a))


def unfused(features: np.ndarray, n_models: int = 512, n_samples: int = 256) -> tuple[float, int]:
    """Matrix product → logarithm → mean in numpy, with the chunk of samples that does best."""
    roots = np.ascontiguousarray(features[:n_models, :n_samples].transpose(1, 0, 2))
    columns = np.ascontiguousarray(roots.transpose(0, 2, 1))
    n_samples, n_models, n_classes = roots.shape

    def chain(chunk: int) -> None:
        sums = np.zeros((n_models, n_models), np.float64)
        for start in range(0, n_samples, chunk):
            part = slice(start, start + chunk)
            affinities = np.matmul(roots[part], columns[part])
            sums += np.log(affinities, out=affinities).sum(axis=0)

    times = {chunk: best(partial(chain, chunk), 3) for chunk in (1, 4, 16, 64)}
    chunk = min(times, key=lambda one: times[one])
    return 2 * n_models**2 * n_samples * n_classes / times[chunk], chunk


def one_block(features: np.ndarray, executor: ThreadExecutor) -> float:
    """The kernel alone: one block of packed panels, every core."""
    n_models, n_samples, n_classes = features.shape
    packed = aligned_zeros(packed_shape(n_models, n_samples, n_classes), features.dtype)
    flags = np.zeros((padded_samples(n_samples), packed.shape[0] * LANES), np.uint8)
    pack(features, 0, packed, flags)
    sums = np.zeros((n_models, n_models))
    block = class_block(n_classes)

    def strip(first: int) -> None:
        rows = first, min(first + 64, n_models)
        add_log_affinities(packed, packed, (*rows, 0, n_models), n_samples, block, sums)

    def run() -> None:
        for _ in executor.map(strip, range(0, n_models, 64)):
            pass

    return 2 * n_models**2 * n_samples * n_classes / best(run)


def end_to_end(log_p: np.ndarray, folder: Path) -> tuple[float, float]:
    """A whole D from a store to tiles on disk: operations per second, and seconds."""
    n_models, n_samples, n_classes = log_p.shape
    labels = np.arange(n_samples) % n_classes
    ensemble = inpca.create_ensemble(
        folder / "e", sample_sets={"train": labels}, n_classes=n_classes
    )
    ensemble.add_run("all", {"train": log_p}, kind="log_probs")
    ensemble = inpca.open_ensemble(folder / "e")
    run = partial(inpca.pairwise_distances, ensemble, out=folder / "d.zarr", restart=True)
    inpca.pairwise_distances(ensemble, out=folder / "d.zarr")
    seconds = best(run, 3)
    return n_models * (n_models - 1) * n_samples * n_classes / seconds, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    here, executor = machine(), get_executor()
    print(f"{here.processor}, {here.cores} cores, {'; '.join(here.blas)}")
    versions = ", ".join(f"{name} {here.versions[name]}" for name in ("inpca", "numpy", "numba"))
    print(f"{versions}, {datetime.date.today()}")
    rng = np.random.default_rng(0)
    shape = options.models, options.samples, options.classes
    logits = rng.standard_normal(shape, dtype=np.float32)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    features = BHATTACHARYYA.features(log_p, np)
    print(f"{options.models} models, {options.samples} samples, {options.classes} classes, float32")
    before = sgemm()
    kernel = one_block(features[:1024], executor)
    chain, chunk = unfused(features)
    with tempfile.TemporaryDirectory() as folder:
        whole, seconds = end_to_end(log_p, Path(folder))
    reference = (before + sgemm()) / 2
    rows = [
        ("numpy sgemm", reference, ""),
        (f"numpy matmul → log → mean ({chunk} samples at a time)", chain, ""),
        ("kernel, one block", kernel, ""),
        ("store → tiles on disk, end to end", whole, f"   ({format_seconds(seconds)})"),
    ]
    for name, rate, note in rows:
        print(f"{name:<52}{rate / 1e9:8.1f} GFLOP/s {rate / reference:6.2f} × sgemm{note}")
    print(f"{'kernel / unfused chain':<52}{kernel / chain:8.1f} ×")


if __name__ == "__main__":
    main()
