"""How fast distances are on this machine's CPU, beside numpy's own matrix product in the same run.

    python benchmarks/bench_distance.py [--classes 2 10 100 1000] [--repetitions 5] [--cpu]

For each number of classes:

- numpy's sgemm, as the measure of the machine,
- the unfused chain, matmul → log → mean, in numpy and (where it is installed) in torch, at the
  chunking that does best of those tried,
- our kernel on one block of packed models, on every core,
- a whole D, from an ensemble on disk to tiles on disk: reading, packing and writing included, and
  what share of the cores' time each took,
- the largest error against float64 in a few hundred pairs.

Floating-point operations are counted as 2 · n_samples · n_classes per pair of models, whatever is
really done. Every repetition measures everything once, one after the other, so that a neighbour on
the machine disturbs all alike; figures are medians, ratios are medians of ratios within one
repetition. On a machine that others use too, `--cpu` counts one thread's processor time instead of
wall time: what one core does, waiting for the disk and for the others left out.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import inpca
from inpca.backend import machine
from inpca.distance.block_numba import NumbaBlock
from inpca.distance.divergences import BHATTACHARYYA
from inpca.distance.kernels_numba import (
    LANES,
    add_log_affinities,
    allocate,
    class_block,
    pack,
    packed_shape,
)
from inpca.distance.sinks import MatrixSink
from inpca.executor import ThreadExecutor, get_executor
from inpca.store.predictions import StoredPredictions

# Classes: (models, samples) of the whole D, at most 0.8 GB of predictions; and of the one block.
WHOLE = {2: (8192, 2000), 10: (8192, 2000), 100: (4096, 400), 1000: (2048, 100)}
BLOCK = {2: (1024, 4096), 10: (1024, 2048), 100: (1024, 256), 1000: (1024, 64)}
_ROWS = 128  # of a strip: one task
Floats = NDArray[np.float32]


def random_models(shape: tuple[int, int, int], seed: int = 0, sharpness: float = 1.0) -> Floats:
    """Log-probabilities of random logits."""
    logits = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return normalised(logits * np.float32(sharpness))


def normalised(logits: Floats) -> Floats:
    """Logits as log-probabilities."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


class Clock:
    """Wall time on every core, or processor time of one thread."""

    now = staticmethod(time.perf_counter)
    n_workers: int | None = None

    @classmethod
    def count_processor_time(cls) -> None:
        """Limit everything to one thread and count what it uses."""
        cls.now, cls.n_workers = staticmethod(time.process_time), 1
        threadpool_limits(1)
        if has_torch():
            import torch

            torch.set_num_threads(1)


def seconds(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = Clock.now()
    function()
    return Clock.now() - start


# -- what is measured -----------------------------------------------------------------------------


def sgemm(size: int = 3072) -> Callable[[], float]:
    """Operations per second of numpy's float32 matrix product."""
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: 2 * size**3 / seconds(partial(np.matmul, a, a, out=out))


def numpy_chain(features: Floats, size: int, chunk: int) -> Callable[[], float]:
    """Matrix product → logarithm → sum, `size` models by `size`, `chunk` samples at a time."""
    rows = np.ascontiguousarray(features[:size].transpose(1, 0, 2))
    columns = np.ascontiguousarray(rows.transpose(0, 2, 1))
    sums = np.zeros((size, size))
    affinities = np.empty((chunk, size, size), np.float32)

    def chain() -> None:
        for start in range(0, len(rows), chunk):
            part = slice(start, min(start + chunk, len(rows)))
            out = affinities[: part.stop - part.start]
            np.matmul(rows[part], columns[part], out=out)
            np.add(sums, np.log(out, out=out).sum(axis=0), out=sums)

    return lambda: 2 * size**2 * features[0].size / seconds(chain)


def torch_chain(features: Floats, size: int, chunk: int) -> Callable[[], float]:
    """The same in torch, on all its threads."""
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(features[:size].transpose(1, 0, 2)))
    columns = rows.transpose(1, 2).contiguous()
    sums = torch.zeros((size, size), dtype=torch.float64)
    affinities = torch.empty((chunk, size, size))

    def chain() -> None:
        for start in range(0, len(rows), chunk):
            part = slice(start, min(start + chunk, len(rows)))
            out = affinities[: part.stop - part.start]
            torch.bmm(rows[part], columns[part], out=out)
            sums.add_(out.log_().sum(dim=0))

    return lambda: 2 * size**2 * features[0].size / seconds(chain)


def best_chunking(
    chain: Callable[[Floats, int, int], Callable[[], float]], features: Floats
) -> tuple[Callable[[], float], str]:
    """The chain with the block of models and the samples at a time that do best, and their name."""
    features = features[:, : 64 if features.shape[2] <= 10 else 16]
    choices = [(size, chunk) for size in (128, 256, 512, 1024) for chunk in (1, 4, 16, 64)]
    rates = {}
    for size, chunk in choices:
        if size**2 * chunk <= 2**24:
            run = chain(features, size, chunk)
            rates[size, chunk] = max(run(), run())
    size, chunk = max(rates, key=lambda one: rates[one])
    return chain(features, size, chunk), f"{size} × {size} models, {chunk} samples at a time"


def one_block(features: Floats, executor: ThreadExecutor) -> Callable[[], float]:
    """The kernel alone: one block of packed panels, both its triangles, every core."""
    n_models, n_samples, n_classes = features.shape
    packed = allocate(packed_shape(n_models, n_samples, n_classes), features.dtype)
    flags = np.zeros((n_samples, packed.shape[0] * LANES), np.uint8)
    pack(features, 0, packed, flags)
    sums = np.zeros((n_models, n_models))
    block = class_block(n_classes)

    def strip(first: int) -> None:
        where = first, min(first + _ROWS, n_models), 0, n_models
        add_log_affinities(packed, packed, where, n_samples, block, sums)

    def run() -> None:
        for _ in executor.map(strip, range(0, n_models, _ROWS)):
            pass

    return lambda: 2 * n_models**2 * n_samples * n_classes / seconds(run)


@contextmanager
def clocked(owner: type, name: str, spent: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time of every call of a method to `spent`, of all threads together."""
    method = getattr(owner, name)

    def timed(*arguments: object, **options: object) -> object:
        start = Clock.now()
        try:
            return method(*arguments, **options)
        finally:
            spent[stage] += Clock.now() - start

    with mock.patch.object(owner, name, timed):
        yield


def make_ensemble(folder: Path, shape: tuple[int, int, int], n_runs: int = 16) -> inpca.Ensemble:
    """Random models on disk."""
    n_models, n_samples, n_classes = shape
    labels = np.arange(n_samples) % n_classes
    ensemble = inpca.create_ensemble(
        folder / "e", sample_sets={"train": labels}, n_classes=n_classes
    )
    for run in range(n_runs):
        log_p = random_models((n_models // n_runs, n_samples, n_classes), seed=run)
        ensemble.add_run(f"run-{run}", {"train": log_p}, kind="log_probs")
    return inpca.open_ensemble(folder / "e")


def whole(ensemble: inpca.Ensemble, out: Path, n_workers: int) -> tuple[float, dict[str, float]]:
    """A whole D from a store to tiles on disk: seconds, and each stage's share of the cores."""
    spent: dict[str, float] = defaultdict(float)
    with ExitStack() as stack:
        for owner, name, stage in (
            (StoredPredictions, "read", "reading"),
            (NumbaBlock, "prepare", "features and packing"),
            (NumbaBlock, "_add", "kernel"),
            (MatrixSink, "write", "writing"),
        ):
            stack.enter_context(clocked(owner, name, spent, stage))
        run = partial(
            inpca.pairwise_distances, ensemble, out=out, restart=True, executor=Clock.n_workers
        )
        wall = seconds(run)
    shares = {stage: value / (n_workers * wall) for stage, value in spent.items()}
    return wall, shares | {"the rest": 1 - sum(shares.values())}


# -- errors ---------------------------------------------------------------------------------------


def float64_distances(log_p: Floats) -> NDArray[np.float64]:
    """The definition, letter by letter."""
    roots = np.maximum(np.exp(0.5 * log_p.astype(np.float64)), 2.0**-62)
    sums = np.log(np.einsum("unc,vnc->uvn", roots, roots)).mean(axis=-1)
    itself = np.diagonal(sums)
    return 0.5 * (itself[:, None] + itself) - sums


def errors(n_classes: int, n_models: int = 24) -> dict[str, float]:
    """Largest error of D in nats per sample, of pairs of three kinds."""
    shape = n_models, min(1000, 100_000 // n_classes), n_classes
    one = random_models((1, *shape[1:]), seed=1)
    steps = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
    kinds = {
        "unsaturated": random_models(shape),
        "saturated": random_models(shape, sharpness=80),
        "near-copies": normalised(one + np.float32(1e-3) * steps),
    }
    return {
        name: float(
            np.abs(
                inpca.pairwise_distances(log_p, kind="log_probs") - float64_distances(log_p)
            ).max()
        )
        for name, log_p in kinds.items()
    }


# -- the run --------------------------------------------------------------------------------------


def has_torch() -> bool:
    """Whether torch is installed; its chain is left out otherwise."""
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return True


def line(name: str, rates: list[float], reference: list[float], chain: list[float]) -> None:
    """Print a rate, and its ratios to sgemm and to the better unfused chain."""
    sgemms = statistics.median(a / b for a, b in zip(rates, reference))
    chains = statistics.median(a / b for a, b in zip(rates, chain))
    print(
        f"  {name:<36}{statistics.median(rates) / 1e9:8.1f} GFLOP/s {sgemms:6.2f} × sgemm "
        f"{chains:6.1f} × unfused"
    )


def measure(n_classes: int, repetitions: int, quick: bool) -> None:
    """Everything for one number of classes."""
    executor = get_executor(Clock.n_workers)
    m, n = WHOLE[n_classes]
    if quick:
        m, n = m // 4, n // 4
    m_block, n_block = BLOCK[n_classes]
    print(f"\n{n_classes} classes; block of {m_block:,} models, {n_block:,} samples; float32")
    features = BHATTACHARYYA.features(random_models((m_block, n_block, n_classes)), np)
    chains = {"matmul → log → mean, numpy": best_chunking(numpy_chain, features)}
    if has_torch():
        chains["matmul → log → mean, torch"] = best_chunking(torch_chain, features)
    runs = {name: chain for name, (chain, _) in chains.items()}
    runs["kernel, one block"] = one_block(features, executor)
    reference, rates = [], defaultdict(list)
    product = sgemm()
    for repetition in range(repetitions + 1):
        before = product()
        found = {name: run() for name, run in runs.items()}
        if repetition:  # the first is not counted
            reference.append((before + product()) / 2)
            for name, rate in found.items():
                rates[name].append(rate)
    unfused = [max(each) for each in zip(*(rates[name] for name in chains))]
    line("numpy sgemm", reference, reference, unfused)
    for name in runs:
        line(name, rates[name], reference, unfused)
    for name, (_, chunking) in chains.items():
        print(f"    {name}: best at {chunking}")
    measure_whole((m, n, n_classes), max(1, repetitions - 2), statistics.median(unfused))
    worst = ", ".join(f"{name} {error:.1e}" for name, error in errors(n_classes).items())
    print(f"  largest error against float64        {worst} nats per sample")


def measure_whole(shape: tuple[int, int, int], repetitions: int, unfused: float) -> None:
    """A whole D, beside sgemm measured just before and after."""
    m, n, n_classes = shape
    n_workers = get_executor(Clock.n_workers).n_workers
    product, flops = sgemm(), m * (m - 1) * n * n_classes
    reference, walls, shares = [], [], defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        ensemble = make_ensemble(Path(folder), shape)
        product()
        for _ in range(repetitions):
            before = product()
            wall, parts = whole(ensemble, Path(folder) / "d.zarr", n_workers)
            reference.append((before + product()) / 2)
            walls.append(wall)
            for stage, share in parts.items():
                shares[stage].append(share)
    rates = [flops / wall for wall in walls]
    line(f"store → tiles, m = {m:,}, N = {n:,}", rates, reference, [unfused] * len(rates))
    told = ", ".join(f"{stage} {statistics.median(each):.0%}" for stage, each in shares.items())
    print(f"    {statistics.median(walls):.1f} s: {told}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=list(WHOLE), choices=list(WHOLE))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="processor time of one thread")
    parser.add_argument("--quick", action="store_true", help="a sixteenth of each whole D")
    options = parser.parse_args()
    if options.cpu:
        Clock.count_processor_time()
    here = machine()
    print(f"{here.processor}, {here.cores} cores, {'; '.join(here.blas)}")
    versions = ", ".join(f"{name} {here.versions[name]}" for name in ("inpca", "numpy", "numba"))
    print(f"{versions}, panels of {LANES} models, {datetime.date.today()}")
    print("processor time of one thread" if options.cpu else "wall time, every core")
    for n_classes in options.classes:
        measure(n_classes, options.repetitions, options.quick)


if __name__ == "__main__":
    main()
