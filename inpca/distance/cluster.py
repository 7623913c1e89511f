"""Blocks of D on a cluster: a task reads its own slabs and writes its own tiles.

A worker gets names, not data: where the ensemble and the matrix are, which tiles to compute. It
opens both itself, once, and proves that they are the driver's.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import inpca
from inpca.distance.divergences import get_divergence
from inpca.distance.engine import run_plan
from inpca.distance.plan import Plan
from inpca.distance.planner import make_plan
from inpca.distance.sinks import MatrixSink
from inpca.errors import InpcaError, InputError
from inpca.executor import Executor, SerialExecutor
from inpca.predictions import PredictionSource, Watch
from inpca.reporting import Report
from inpca.store.ensemble import open_ensemble
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile


@dataclass(frozen=True)
class Place:
    """Where a worker finds what it reads and writes, and how it knows that it is that.

    Attributes
    ----------
    ensemble, matrix : absolute paths
    sample_set : of the ensemble
    fingerprint : of the matrix
    version : of inpca
    """

    ensemble: str
    matrix: str
    sample_set: str
    fingerprint: str
    version: str


@dataclass(frozen=True)
class BlockTask:
    """Some tiles, to be computed on a worker."""

    place: Place
    tiles: tuple[Tile, ...]
    memory: int
    metric: str
    backend: str

    def __str__(self) -> str:
        first, last = self.tiles[0], self.tiles[-1]
        return f"The block of {len(self.tiles)} tiles {first} … {last}"


def place_of(ensemble_path: Path, matrix: TiledMatrix, sample_set: str) -> Place:
    """Where workers will find `matrix` and its ensemble."""
    return Place(
        str(ensemble_path.resolve()),
        str(matrix.path.resolve()),
        sample_set,
        matrix.fingerprint,
        inpca.__version__,
    )


def run_on_cluster(
    plan: Plan, place: Place, metric: str, backend: str, executor: Executor, report: Report
) -> None:
    """Compute every tile of `plan`, a block a task."""
    tasks = [BlockTask(place, block.tiles, plan.memory, metric, backend) for block in plan.blocks]
    done, total = 0, max(1, plan.n_pairs)
    report(done, total, f"{len(tasks)} blocks on {executor.n_workers} workers")
    with closing(executor.map(compute_block, tasks)) as records:
        for number, tiles in enumerate(records, start=1):
            done += sum(plan.bands.n_pairs(tile) for tile in tiles)
            report(done, total, f"{number} of {len(tasks)} blocks")


def compute_block(task: BlockTask) -> Sequence[Tile]:
    """Compute those tiles of `task` that are not there yet, on this worker; returns all of them.

    A task whose worker died is given to another one: it finds the tiles that were finished.
    """
    source, matrix, watch = _open(task.place)
    absent = set(matrix.missing())
    missing = [tile for tile in task.tiles if tile in absent]
    divergence = get_divergence(task.metric)
    plan = make_plan(
        source.shape,
        memory=task.memory,
        dtype=source.dtype,
        tile_size=matrix.grid.tile_size,
        missing=missing,
        chunk_samples=getattr(source, "chunk_samples", 1),
        divergence=divergence,
    )
    sink = _CarefulSink(matrix)
    run_plan(plan, source, divergence, sink, SerialExecutor(), _silent, task.backend, watch)
    return task.tiles


def _silent(done: float, total: float, text: str) -> None:
    """Report nothing: the driver does."""


class _CarefulSink(MatrixSink):
    """A sink that writes no tile into a matrix that has been replaced meanwhile.

    A worker may outlive the driver that holds the matrix.
    """

    def record_floored(self, counts: Mapping[Tile, int]) -> None:
        """Note the capped contributions, if the matrix is still the one."""
        if TiledMatrix.open(self.matrix.path).fingerprint != self.matrix.fingerprint:
            raise InputError(f"{self.matrix.path} was replaced while a worker computed its tiles.")
        super().record_floored(counts)


@lru_cache(maxsize=2)
def _open(place: Place) -> tuple[PredictionSource, TiledMatrix, Watch]:
    if place.version != inpca.__version__:
        raise InputError(
            f"A worker has inpca {inpca.__version__} but the driver has {place.version}; install "
            "the same on both."
        )
    try:
        matrix = TiledMatrix.open(place.matrix)
        source = _predictions(place, matrix)
        watch = Watch(source)  # before they are proven to be the driver's
    except (InpcaError, OSError) as error:
        raise InputError(
            f"A worker cannot read the ensemble {place.ensemble} or the matrix {place.matrix} "
            f"({error}); both must be on a file system that every worker sees under this path."
        ) from error
    same = source.fingerprint() == matrix.attrs["identity"]["predictions"]
    if matrix.fingerprint != place.fingerprint or not same:
        raise InputError(
            f"A worker sees another ensemble at {place.ensemble}, or another matrix at "
            f"{place.matrix}, than the driver; give every worker the same file system."
        )
    return source, matrix, watch


def _predictions(place: Place, matrix: TiledMatrix) -> PredictionSource:
    """The predictions of the matrix' frozen list of models, in its order."""
    models = matrix.models
    if models is None:
        raise InputError(f"{place.matrix} has no list of models.")
    keys = list(models.index)
    ensemble = open_ensemble(place.ensemble)
    references = [key for key in keys if key.startswith("@")]
    if references:
        ensemble = ensemble.with_references(*references)
    return ensemble.select(keys).predictions(place.sample_set)
