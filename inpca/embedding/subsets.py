"""Embeddings made from few of the samples, and how well they explain all of D (Fig. 6B)."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import usable_path
from inpca.distance.pairwise import pairwise_distances
from inpca.distance.planner import memory_budget
from inpca.distance.request import source_of
from inpca.embedding.inpca import InPCA, Predictions
from inpca.embedding.inputs import check_seed
from inpca.embedding.stress import explained_pairwise_distances
from inpca.embedding.tiles import DistanceTiles, ExecutorArgument, as_tiles
from inpca.embedding.training import TrainingModels
from inpca.errors import InputError, ResourceError
from inpca.predictions import Floats, Kind, PredictionSource, recorded_of
from inpca.reporting import ProgressArgument, reporting
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.units import format_bytes

# Predictions that are read at a time although not all of their samples are wanted.
_READ_BYTES = 16_000_000


class SampleSubset:
    """Some samples of a `PredictionSource`, itself one; nothing is copied until it is read.

    Parameters
    ----------
    source : all samples
    positions : which of them, increasing, each once

    Notes
    -----
    Samples that lie together on disk (`chunk_samples`) are read together, a few models at a time,
    so that a read needs at most about 16 MB beside what it returns.
    """

    def __init__(self, source: PredictionSource, positions: ArrayLike) -> None:
        n_samples = source.shape[1]
        wanted = np.asarray(positions)
        whole = wanted.ndim == 1 and wanted.size > 0 and wanted.dtype.kind in "iu"
        if not whole or wanted[0] < 0 or wanted[-1] >= n_samples or (np.diff(wanted) <= 0).any():
            raise InputError(
                f"`positions` must be increasing integers in 0 … {n_samples - 1}, at least one, "
                f"not {positions!r}."
            )
        self._source, self._positions = source, wanted.astype(np.intp)
        self._chunk = int(getattr(source, "chunk_samples", 1))
        self.dtype = source.dtype
        # Reading one sample of a chunk on disk costs as much as reading all: read them once.
        self.chunk_samples = max(1, round(self._chunk * len(wanted) / n_samples))

    @property
    def shape(self) -> tuple[int, int, int]:
        n_models, _, n_classes = self._source.shape
        return n_models, len(self._positions), n_classes

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block of the wanted samples."""
        start, stop, _ = models.indices(self.shape[0])
        wanted = self._positions[samples]
        out = np.empty((max(0, stop - start), len(wanted), self.shape[2]), self.dtype)
        for columns, first, last in self._stretches(wanted):
            step = max(1, _READ_BYTES // ((last - first) * self.shape[2] * self.dtype.itemsize))
            for model in range(start, stop, step):
                rows = slice(model, min(model + step, stop))
                block = self._source.read(rows, slice(first, last))
                out[rows.start - start : rows.stop - start, columns] = block[
                    :, wanted[columns] - first
                ]
        return out

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self._source)

    def fingerprint(self) -> str:
        text = f"{self._source.fingerprint()} samples {self._positions.tolist()}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _stretches(self, wanted: NDArray[np.intp]) -> Iterator[tuple[slice, int, int]]:
        """Wanted samples that lie together: which of them, the first, and behind the last."""
        cuts = np.flatnonzero(np.diff(wanted // self._chunk)) + 1
        for part in np.split(np.arange(len(wanted)), cuts):
            if len(part):
                columns = slice(int(part[0]), int(part[-1]) + 1)
                yield columns, int(wanted[part[0]]), int(wanted[part[-1]]) + 1


def embed_samples(
    X: Predictions,
    samples: NDArray[np.intp],
    distances: Floats | TiledMatrix,
    n_components: int,
    *,
    metric: str = "bhattacharyya",
    kind: Kind = "probs",
    sample_set: str = "train",
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
) -> InPCA:
    """The embedding of models by some samples alone, which knows its models and these samples.

    Parameters
    ----------
    X : predictions over all samples, see `InPCA.fit`
    samples : (n,) numbers of the samples, increasing
    distances : of the models over these samples
    n_components, metric, kind, sample_set, memory, executor : see `InPCA`

    Returns
    -------
    fitted `InPCA`; it takes distances to place new models, since it is of no whole sample set
    """
    embedding = InPCA(
        n_components,
        metric="precomputed",
        kind=kind,
        sample_set=sample_set,
        memory=memory,
        executor=executor,
    ).fit(distances)
    source = source_of(X, kind, sample_set, "X")
    if isinstance(X, Ensemble):
        training = TrainingModels.of_ensemble(X, sample_set, metric)
    else:
        training = TrainingModels.of_source(source, metric)
    fingerprint = SampleSubset(source, samples).fingerprint()
    samples = np.array(samples)  # the caller's may change
    embedding._came_from(
        replace(training, source=None, ensemble=None, fingerprint=fingerprint, samples=samples)
    )
    return embedding


def explained_by_samples(
    X: Predictions,
    D: Floats | DistanceTiles,
    n_samples: Sequence[int],
    *,
    repeats: int = 1,
    n_components: int = 10,
    random_state: int = 0,
    metric: str = "bhattacharyya",
    kind: Kind = "probs",
    sample_set: str = "train",
    out: str | Path | None = None,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> pd.DataFrame:
    """How well embeddings made from few samples explain the distances over all (Fig. 6B).

    For each number of samples, and each repeat with other samples drawn: the models are embedded
    by their distances on these samples, D is placed into that embedding (Eq. 10,
    `inpca.embedding.joint.joint_coordinates`), and Eq. 12 is taken of the result.

    Parameters
    ----------
    X : predictions of the models, see `InPCA.fit`
    D : their distances over all samples, an array or a `TiledMatrix`, in the same order
    n_samples : numbers of samples to draw, without replacement
    repeats : draws of each number
    n_components : kept coordinates; Eq. 12 is given for each d up to it
    random_state : seed; a draw depends on it, the number of samples and the repeat alone
    metric, kind, sample_set : see `InPCA`
    out : folder that keeps the distances of each draw, where they do not fit in memory; what is
        there already is not computed again
    memory, executor, progress : see `InPCA`

    Returns
    -------
    DataFrame with a row for each number, repeat and d: ``n_samples``, ``repeat``, ``d``,
    ``explained`` (Eq. 12; not monotone in d)

    Raises
    ------
    InputError
        For numbers of samples that there are not, or a D of another number of models.
    ResourceError
        If the distances of a draw do not fit `memory` and there is no `out`.

    Notes
    -----
    Streams: memory as for `pairwise_distances` and `InPCA`. Each draw costs its distances, an
    embedding, and two passes over D.

    Examples
    --------
    >>> p = np.random.default_rng(0).dirichlet([1, 1, 1], size=(8, 50))
    >>> table = explained_by_samples(p, pairwise_distances(p), [10, 50], n_components=1)
    >>> table[["n_samples", "repeat", "d"]].to_numpy().tolist()
    [[10, 0, 1], [50, 0, 1]]
    """
    source = source_of(X, kind, sample_set, "X")
    m, all_samples, _ = source.shape
    _check_draws(n_samples, repeats, all_samples)
    _check_distances(X, D, m)
    if out is None and 8 * m * m > memory_budget(memory):
        raise ResourceError(
            f"The distances of {m} models need {format_bytes(8 * m * m)} but `memory` is "
            f"{format_bytes(memory_budget(memory))}; name a folder for them with `out`."
        )
    draws = [(n, repeat) for n in n_samples for repeat in range(repeats)]
    rows = []
    with reporting(progress, "subsets of samples") as report:
        for done, (n, repeat) in enumerate(draws):
            report(done, len(draws), f"{n} samples, repeat {repeat + 1}")
            subset = SampleSubset(source, draw_samples(all_samples, n, random_state, repeat))
            place = (
                None
                if out is None
                else usable_path(out, "out") / f"{n}-samples-{random_state}-{repeat}.zarr"
            )
            distances = pairwise_distances(
                subset, metric=metric, out=place, memory=memory, executor=executor
            )
            embedding = InPCA(
                n_components, metric="precomputed", memory=memory, executor=executor
            ).fit(distances)
            explained = explained_pairwise_distances(
                D, embedding.join("all", D), embedding.signature_, executor=executor
            )
            rows += [(n, repeat, d, value) for d, value in enumerate(explained.tolist(), start=1)]
        report(len(draws), len(draws), "done")
    return pd.DataFrame(rows, columns=["n_samples", "repeat", "d", "explained"])


def draw_samples(n_samples: int, n: int, random_state: int, repeat: int = 0) -> NDArray[np.intp]:
    """n of `n_samples` positions without replacement, increasing."""
    random = np.random.default_rng([check_seed(random_state), n, repeat])
    return np.sort(random.choice(n_samples, size=n, replace=False)).astype(np.intp)


def _check_draws(n_samples: Sequence[int], repeats: int, available: int) -> None:
    if not len(n_samples):
        raise InputError("`n_samples` is empty; give at least one number of samples.")
    for n in n_samples:
        if not _is_whole(n) or not 1 <= n <= available:
            raise InputError(
                f"`n_samples` must be whole numbers in 1 … {available}, the samples that there "
                f"are, not {n!r}."
            )
    if not _is_whole(repeats) or repeats < 1:
        raise InputError(f"`repeats` must be a whole number of at least 1, not {repeats!r}.")


def _check_distances(X: Any, D: Floats | DistanceTiles, m: int) -> None:
    if as_tiles(D).grid.n_models != m:
        raise InputError(
            f"`D` must be the distances between the {m} models of `X`, in their order, not "
            f"between {as_tiles(D).grid.n_models}."
        )
    models = D.models if isinstance(D, TiledMatrix) else None
    if isinstance(X, Ensemble) and models is not None and not models.index.equals(X.models.index):
        raise InputError(
            f"`D` {getattr(D, 'path', '')} must be of the models of `X`, in their order; take "
            "these: X.select(list(D.models.index))."
        )


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)
