"""The arguments of a distance job, checked before any work."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.backend import disk_block
from inpca.distance.block_cupy import kernel_version
from inpca.distance.block_numba import NumbaBlock
from inpca.distance.choice import Choice, choose_backend
from inpca.distance.disk import DISK_BLOCK
from inpca.distance.divergences import Divergence, get_divergence
from inpca.distance.plan import Plan
from inpca.distance.planner import check_disk, check_fits, make_plan, memory_budget
from inpca.distance.reductions_numba import relative_cost
from inpca.errors import InputError
from inpca.executor import ClusterExecutor, Executor
from inpca.predictions import ArrayPredictions, Floats, Kind, PredictionSource, Watch
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile, TileGrid

Models = ArrayLike | PredictionSource | Ensemble
ExecutorArgument = str | int | Executor | Any | None

# On a cluster: a task of less time is mostly overhead; more tasks per worker share out evenly.
_LEAST_TASK_SECONDS, _MOST_TASK_SECONDS, _TASKS_PER_WORKER = 0.1, 600.0, 4
_FLOPS_PER_CORE = 3e10


@dataclass(frozen=True)
class Request:
    """The arguments, checked."""

    source: PredictionSource
    n_rows: int
    n_columns: int | None
    ensemble: Ensemble | None
    models: pd.DataFrame | None
    sample_set: str
    divergence: Divergence
    executor: Executor
    memory: int
    tile_size: int | None
    choice: Choice
    watch: Watch

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_rows, n_samples, n_classes)."""
        _, n_samples, n_classes = self.source.shape
        return self.n_rows, n_samples, n_classes

    @property
    def n_pairs(self) -> int:
        """Pairs of models, the diagonal of a symmetric matrix left out."""
        if self.n_columns is None:
            return self.n_rows * (self.n_rows - 1) // 2
        return self.n_rows * self.n_columns

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the predictions."""
        return self.source.fingerprint()

    @cached_property
    def digests(self) -> NDArray[np.uint64] | None:
        """Identity of each model, (n_rows,); None if the source does not tell it."""
        digests = getattr(self.source, "digests", None)
        return None if digests is None else digests()

    def check_unchanged(self) -> None:
        """Refuse predictions that are no longer those of `fingerprint`.

        Those that tell how they are recorded have been watched block by block.

        Raises
        ------
        InputError
            If they are others.
        """
        told = isinstance(self.source, ArrayPredictions) or hasattr(self.source, "recorded")
        if not told and self.source.fingerprint() != self.fingerprint:
            raise InputError(
                "`X` has other predictions than when its distances were begun: its fingerprint has "
                "changed; keep them as they are while they are read, then call again."
            )

    def with_models(self, keys: Sequence[str]) -> "Request":
        """The same for the models `keys` of the ensemble, in that order."""
        if self.ensemble is None:
            raise InputError("`X` must be an Ensemble for its models to be chosen by key.")
        ensemble = self.ensemble.select(keys)
        source = ensemble.predictions(self.sample_set)
        return replace(
            self,
            source=source,
            watch=Watch(source),
            ensemble=ensemble,
            models=ensemble.models,
            n_rows=len(keys),
        )

    def plan(
        self,
        tile_size: int,
        missing: Sequence[Tile] | None = None,
        *,
        stored: bool,
        out: str | os.PathLike[str] | None = None,
    ) -> Plan:
        """Cut what is missing into blocks; on a cluster each is a task of one thread.

        `out` is where it will be stored, if that matters.
        """
        more: dict[str, Any] = {"n_workers": self.executor.n_workers}
        if self.on_cluster:
            n_tiles = TileGrid(self.n_rows, tile_size).n_tiles if missing is None else len(missing)
            more = {"n_workers": 1, "block_seconds": self._task_seconds(n_tiles * tile_size**2)}
        return make_plan(
            self.shape,
            memory=self.memory,
            n_columns=self.n_columns,
            dtype=self.source.dtype,
            tile_size=tile_size,
            missing=missing,
            stored=stored,
            chunk_samples=getattr(self.source, "chunk_samples", 1),
            gpu=self.choice.gpu,
            divergence=self.divergence,
            block_bytes=DISK_BLOCK if out is None else disk_block(out),
            **more,
        )

    def kernel(self, tile_size: int) -> str:
        """What decides the bytes, of the kernel that will compute."""
        if self.choice.gpu is None:
            n_classes, dtype = self.shape[2], self.source.dtype
            return str(NumbaBlock.version_of(self.divergence, n_classes, dtype))
        device = self.plan(tile_size, (), stored=True).device
        assert device is not None
        return kernel_version(device)

    def _task_seconds(self, n_pairs: int) -> float:
        seconds = 2.0 * n_pairs * self.shape[1] * self.shape[2] / _FLOPS_PER_CORE
        seconds *= relative_cost(self.divergence)
        share = seconds / (_TASKS_PER_WORKER * self.executor.n_workers)
        return min(max(share, _LEAST_TASK_SECONDS), _MOST_TASK_SECONDS)

    @property
    def on_cluster(self) -> bool:
        """Whether other machines compute."""
        return isinstance(self.executor, ClusterExecutor)

    def check_fits(self, plan: Plan, folder: str | os.PathLike[str] | None) -> None:
        """Refuse a plan that does not fit this machine; of a cluster, this machine's disk."""
        if not self.on_cluster:
            check_fits(plan, folder)
        elif folder is not None:
            check_disk(plan, folder)


class _Stacked:
    """Two sources of one sample set as one: the rows, then the columns."""

    def __init__(self, rows: PredictionSource, columns: PredictionSource) -> None:
        self._parts = rows, columns
        self._n_rows = rows.shape[0]
        self.shape = (rows.shape[0] + columns.shape[0], *rows.shape[1:])
        self.dtype: np.dtype[np.floating] = np.result_type(rows.dtype, columns.dtype)
        self.chunk_samples = max(getattr(part, "chunk_samples", 1) for part in self._parts)

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of models that are all rows or all columns."""
        in_columns = models.start >= self._n_rows
        shift = self._n_rows if in_columns else 0
        part = self._parts[in_columns]
        return part.read(slice(models.start - shift, models.stop - shift), samples)

    def fingerprint(self) -> str:
        """Of both parts."""
        return "+".join(part.fingerprint() for part in self._parts)


def parse(
    X: Models,
    Y: Models | None,
    metric: str,
    kind: Kind,
    sample_set: str,
    memory: int | float | str | None,
    executor: Executor,
    tile_size: int | None,
    backend: str,
    device: int | None,
) -> Request:
    """Check every argument before any work."""
    divergence = get_divergence(metric)
    if tile_size is not None and (isinstance(tile_size, bool) or tile_size < 1):
        raise InputError(f"`tile_size` must be at least 1, not {tile_size!r}.")
    source = source_of(X, kind, sample_set, "X")
    n_rows, n_columns = source.shape[0], None
    watch = Watch(source)
    if Y is not None:
        other = source_of(Y, kind, sample_set, "Y")
        _check_same_samples(source, other)
        n_columns = other.shape[0]
        watch = Watch(source, other)
        source = _Stacked(source, other)
    _check_numbers(n_rows, n_columns)
    on_cluster = isinstance(executor, ClusterExecutor)
    choice = choose_backend(backend, device, source.dtype, on_cluster=on_cluster)
    return Request(
        source=source,
        n_rows=n_rows,
        n_columns=n_columns,
        ensemble=X if isinstance(X, Ensemble) else None,
        models=X.models if isinstance(X, Ensemble) else None,
        sample_set=sample_set,
        divergence=divergence,
        executor=executor,
        memory=_budget(memory, executor),
        tile_size=tile_size,
        choice=choice,
        watch=watch,
    )


def _budget(memory: int | float | str | None, executor: Executor) -> int:
    """Bytes for this process; on a cluster for one task."""
    if isinstance(executor, ClusterExecutor):
        return executor.task_memory(None if memory is None else memory_budget(memory))
    return memory_budget(memory)


def source_of(models: Models, kind: Kind, sample_set: str, name: str) -> PredictionSource:
    """What predictions are read from: an array, an ensemble, or a source as it is."""
    if isinstance(models, Ensemble):
        return models.predictions(sample_set)
    if isinstance(models, TiledMatrix):
        raise InputError(f"`{name}` must hold predictions, not distances ({models!r}).")
    if hasattr(models, "read") and hasattr(models, "fingerprint"):
        return cast(PredictionSource, models)
    return ArrayPredictions(models, kind, name)


def _check_same_samples(rows: PredictionSource, columns: PredictionSource) -> None:
    if rows.shape[1:] != columns.shape[1:]:
        raise InputError(
            f"`Y` has {columns.shape[1]:,} samples of {columns.shape[2]} classes but `X` has "
            f"{rows.shape[1]:,} of {rows.shape[2]}; both must be predictions on one sample set."
        )


def _check_numbers(n_rows: int, n_columns: int | None) -> None:
    if n_columns is None and n_rows < 2:
        raise InputError(
            f"`X` must hold at least 2 models, not {n_rows}; pass `Y` to compare one with others."
        )
    if n_rows < 1 or n_columns == 0:
        name = "X" if n_rows < 1 else "Y"
        raise InputError(f"`{name}` must hold at least 1 model, not 0.")
