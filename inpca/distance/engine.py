"""Run a plan: stream slabs of samples past each block, normalise, hand the tiles to a sink."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inpca.distance.block_array import gpu_block
from inpca.distance.block_numba import BlockKernel, Job, NumbaBlock
from inpca.distance.divergences import Divergence
from inpca.distance.plan import Block, Plan
from inpca.errors import DamagedStoreError, InputError
from inpca.executor import Executor, for_waiting
from inpca.persistence import persistently
from inpca.predictions import PredictionSource, Watch
from inpca.reporting import Report
from inpca.tiling import Tile
from inpca.units import format_seconds

BACKENDS: dict[str, Callable[[Plan, Block, Divergence, set[int]], BlockKernel]] = {
    "numba": NumbaBlock,
    "cupy": gpu_block,
}


class Sink(Protocol):
    """Where finished tiles go."""

    def record_floored(self, counts: Mapping[Tile, int]) -> None:
        """Take the floored contributions of a block's tiles, before the tiles themselves."""
        ...

    def write(self, tile: Tile, distances: NDArray[np.float64]) -> None:
        """Take a finished tile (rows, columns); may be called from several threads."""
        ...


@dataclass
class _Job:
    """Everything a run passes around; `self_sums` is filled as the diagonal becomes known.

    `watch` is asked before the tiles of a block are written: no tile is of predictions that were
    replaced while the block was computed.
    """

    plan: Plan
    source: PredictionSource
    sink: Sink
    executor: Executor
    self_sums: dict[int, NDArray[np.float64]]
    watch: Watch


class _Progress:
    """Pairs done, pairs per second and time left, told after every slab."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self._total, self._done = max(1.0, float(plan.n_pairs)), 0.0
        self._start, self._report = time.perf_counter(), report
        self._say(f"on {plan.where}: reading the first samples")

    def advance(self, pairs: float) -> None:
        self._done = min(self._total, self._done + pairs)
        left = (self._total - self._done) / max(1e-9, self._rate)
        self._say(f"{self._pace}, {format_seconds(left)} left")

    def writing(self, n_written: int, n_tiles: int) -> None:
        """Tell what no pair tells: the tiles of a block on their way to where they go."""
        self._say(f"{self._pace}, {n_written:,} of {n_tiles:,} tiles of the block written")

    @property
    def _rate(self) -> float:
        return self._done / max(1e-9, time.perf_counter() - self._start)

    @property
    def _pace(self) -> str:
        return f"{self._done:,.0f} pairs, {self._rate:,.0f} pairs/s"

    def _say(self, text: str) -> None:
        self._report(self._done, self._total, text)


def run_plan(
    plan: Plan,
    source: PredictionSource,
    divergence: Divergence,
    sink: Sink,
    executor: Executor,
    report: Report,
    backend: str = "numba",
    watch: Watch | None = None,
) -> int:
    """Compute every tile of `plan` from `source` and write it to `sink`.

    Returns the parts of launches that a kernel had to do again, see `BlockKernel.redone`.

    D_uv = (½ (S_uu + S_vv) − S_uv) / N with S_uv = Σ_n ln a_uv[n], all three from the same
    kernel: the distance of identical models is exactly 0.

    Raises
    ------
    InputError
        If runs were recorded again since `watch` was made; no tile of the block is written then.
    """
    job = _Job(plan, source, sink, executor, {}, watch or Watch(source))
    progress, redone = _Progress(plan, report), 0
    try:
        for block in plan.blocks:
            kernel = BACKENDS[backend](plan, block, divergence, set(job.self_sums))
            _run_block(job, block, kernel, progress)
            redone += kernel.redone
            del kernel  # its memory is needed for the next block
    except (DamagedStoreError, InputError):
        job.watch.check()  # what was replaced is not damaged, and the cure is another
        raise
    return redone


def _run_block(job: _Job, block: Block, kernel: BlockKernel, progress: _Progress) -> None:
    slabs = job.plan.slabs
    n_pairs = sum(job.plan.bands.n_pairs(tile) for tile in block.tiles)
    _drain(job.executor, _reading(job, block, kernel, 0, slabs[0]))
    for number, slab in enumerate(slabs):
        buffer, n_samples = number % 2, slab.stop - slab.start
        tasks = kernel.jobs(buffer, n_samples)
        if number + 1 < len(slabs):
            # The next slab is read beside the computation, which a GPU does in the first task.
            reading = _reading(job, block, kernel, 1 - buffer, slabs[number + 1])
            tasks = [*tasks[:1], *reading, *tasks[1:]]
        _drain(job.executor, tasks)
        progress.advance(n_pairs * n_samples / job.plan.n_samples)
    job.watch.check()
    job.self_sums.update(kernel.self_sums())
    counts = {tile: kernel.floored(tile) for tile in block.tiles}
    persistently(lambda: job.sink.record_floored(counts))
    writers = for_waiting(job.executor, job.plan.n_writers)
    finish = partial(_finish, job, kernel)
    with closing(writers.map(finish, block.tiles)) as results:
        for n_written, _ in enumerate(results, start=1):
            progress.writing(n_written, len(block.tiles))


def _drain(executor: Executor, tasks: Iterable[Job]) -> None:
    # Closed here, not when the last reference goes: an error must not overtake running tasks.
    with closing(executor.map(_call, tasks)) as results:
        for _ in results:
            pass


def _call(job: Job) -> None:
    job()


def _reading(
    job: _Job, block: Block, kernel: BlockKernel, buffer: int, samples: slice
) -> list[Job]:
    """Tasks that read one slab of the block's models, a few models each."""
    step = job.plan.models_per_piece
    return [
        partial(_read, job, kernel, buffer, band, slice(first, first + step), samples)
        for band in block.bands
        for first in range(0, job.plan.bands.length(band), step)
    ]


def _read(
    job: _Job, kernel: BlockKernel, buffer: int, band: int, part: slice, samples: slice
) -> None:
    models = job.plan.bands.slices[band]
    start = models.start + part.start
    stop = min(models.start + part.stop, models.stop)
    log_p = persistently(lambda: job.source.read(slice(start, stop), samples))
    kernel.prepare(buffer, band, part.start, log_p)


def _finish(job: _Job, kernel: BlockKernel, tile: Tile) -> None:
    rows, columns = job.self_sums[tile[0]], job.self_sums[tile[1]]
    distances = np.add.outer(rows, columns)
    distances *= 0.5
    distances -= kernel.sums(tile)
    distances /= job.plan.n_samples
    persistently(lambda: job.sink.write(tile, distances))
