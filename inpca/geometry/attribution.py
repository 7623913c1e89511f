"""Which samples bend the manifold: each sample's share of each coordinate of an embedding.

D is a mean over samples, D = (1/N) Σ_n D_n with D_n,uv = −ln a_uv[n], and W = −½ L D L is linear
in D. An eigenvalue λ_k = u_kᵀ W u_k therefore is a sum over samples of

    λ_nk = (1/N) u_kᵀ (−½ L D_n L) u_k = (1/2N) Σ_uv u_ku u_kv ln a_uv[n],

since the components of u_k sum to 0. What is added to all distances of one model (its own
normalisation) falls out for the same reason.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from inpca.checks import LABELS, plain_array
from inpca.distance.divergences import BHATTACHARYYA
from inpca.distance.planner import memory_budget
from inpca.distance.request import Models, source_of
from inpca.errors import InputError, ResourceError
from inpca.executor import Executor, get_executor
from inpca.predictions import Floats, Kind, PredictionSource, steady
from inpca.reporting import ProgressArgument, reporting
from inpca.store.ensemble import Ensemble
from inpca.units import format_bytes

Float64 = NDArray[np.float64]

# Rows and columns of a block of affinities: two of them (2 × 16 MB in float64) stay in the cache.
_BLOCK = 1024
# Predictions that a task reads at a time, on their way to features.
_READ_BYTES = 16_000_000
# What eigenvalues may differ by, relative to the largest, before they are another embedding's.
_SAME = 1e-3


@dataclass(frozen=True)
class Attribution:
    """Each sample's part of each eigenvalue.

    Attributes
    ----------
    parts : (n_samples, n_components) λ_nk; the sum over samples is λ_k
    eigenvalues : (n_components,) λ_k of the embedding
    """

    parts: Float64
    eigenvalues: Float64

    @property
    def shares(self) -> Float64:
        """(n_samples, n_components) λ_nk / λ_k: sums to 1; below 0 where a sample pulls back.

        NaN for a coordinate whose eigenvalue is zero.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = self.parts / self.eigenvalues
        shares[:, self.eigenvalues == 0] = np.nan
        return shares

    def of(self, samples: ArrayLike) -> Float64:
        """Share of a set of samples in each coordinate, (n_components,); see `compare`."""
        return np.asarray(self.shares[sample_mask(samples, len(self.parts))].sum(axis=0))

    def compare(self, samples: ArrayLike) -> pd.DataFrame:
        """A set of samples (stragglers) against the rest, one row per coordinate.

        Parameters
        ----------
        samples : (n_samples,) truth values, or indices

        Returns
        -------
        DataFrame indexed by ``component`` (from 1) with ``eigenvalue``; ``share``, of the set;
        ``fair_share``, of as many average samples; ``ratio``, one over the other
        """
        chosen = sample_mask(samples, len(self.parts))
        fair = chosen.mean()
        share = self.of(chosen)
        index = pd.RangeIndex(1, len(self.eigenvalues) + 1, name="component")
        columns = {"eigenvalue": self.eigenvalues, "share": share, "fair_share": fair}
        return pd.DataFrame(columns | {"ratio": share / fair}, index=index)


def attribution(
    X: Models,
    embedding: Any,
    *,
    n_components: int | None = None,
    kind: Kind = "probs",
    sample_set: str | None = None,
    memory: int | float | str | None = None,
    executor: str | int | Executor | None = None,
    progress: ProgressArgument = None,
) -> Attribution:
    """Part of every sample in the leading coordinates of an embedding.

    Parameters
    ----------
    X : the predictions that were embedded, (m, N, C) of `kind`, in their order; or the `Ensemble`
        that holds them, from which they are taken by the embedding's list of models
    embedding : fitted `InPCA` of their Bhattacharyya distances; weighted ones too
    n_components : leading coordinates; default all that the embedding has
    sample_set : of an ensemble; default the embedding's
    memory : bytes allowed, such as ``"2GB"``; default half of what is available
    executor : None (threads over all cores), a number of threads, or ``"serial"``
    progress : True, or ``callable(done, total, text)``

    Returns
    -------
    Attribution

    Raises
    ------
    InputError
        If `X` is not what was embedded, by its number of models, by their names, or by the
        eigenvalues that it gives; or the embedding is of another divergence.
    ResourceError
        If the features of one sample do not fit `memory`.

    Notes
    -----
    Streams samples: the features of a few at a time are in memory, 4 m C bytes each. The work is
    m² logarithms a sample, since the product trick of the distance engine would mix samples.
    Affinities are in the predictions' precision, sums in float64: parts sum to the eigenvalues to
    about 1e-7 of the largest in float32.

    Examples
    --------
    >>> import inpca
    >>> p = np.random.default_rng(0).dirichlet(np.ones(3), size=(8, 5))
    >>> embedding = inpca.InPCA(2).fit(p)
    >>> found = attribution(p, embedding)
    >>> bool(np.allclose(found.parts.sum(axis=0), embedding.eigenvalues_))
    True
    """
    _check_metric(embedding)
    source = _predictions(X, embedding, kind, sample_set)
    values, directions = _directions(embedding, n_components)
    if source.shape[0] != len(directions):
        raise InputError(
            f"`X` has {source.shape[0]:,} models but the embedding is of {len(directions):,}; pass "
            "the predictions that were embedded, in their order."
        )
    n_samples = source.shape[1]
    workers = get_executor(executor)
    slab = _slab_samples(source, memory_budget(memory), workers.n_workers)
    parts = np.empty((n_samples, len(values)))
    with (
        reporting(progress, "attribution") as report,
        threadpool_limits(1, user_api="blas"),
        steady(source),
    ):
        for start in range(0, n_samples, slab):
            stop = min(start + slab, n_samples)
            report(start, n_samples, f"{start:,} of {n_samples:,} samples")
            features = _features(source, slice(start, stop), workers)
            task = partial(_of_sample, features, directions)
            with closing(workers.map(task, range(stop - start))) as results:
                for sample, part in results:
                    parts[start + sample] = part
        report(n_samples, n_samples, "done")
    parts /= 2 * n_samples
    _check_sum(parts, values)
    return Attribution(parts, values)


def _check_metric(embedding: Any) -> None:
    if embedding.metric not in (BHATTACHARYYA.name, "precomputed"):
        raise InputError(
            f"`embedding` must be of Bhattacharyya distances, not of {embedding.metric!r}: only "
            "logarithms of affinities are attributed to samples."
        )


def _check_sum(parts: Float64, values: Float64) -> None:
    """Refuse predictions that are not those of the embedding: their parts sum to something else."""
    found = parts.sum(axis=0)
    worst = int(np.argmax(np.abs(found - values)))
    if abs(found[worst] - values[worst]) > _SAME * np.abs(values).max():
        raise InputError(
            f"`X` does not give the embedding's eigenvalues: coordinate {worst + 1} has "
            f"{values[worst]:.6g} but the samples sum to {found[worst]:.6g}; pass the predictions "
            "that were embedded, in their order, and an embedding of Bhattacharyya distances."
        )


def _predictions(X: Models, embedding: Any, kind: Kind, sample_set: str | None) -> PredictionSource:
    if isinstance(X, Ensemble):
        models = embedding.models_
        if models is not None:
            X = X.with_references() if any(key.startswith("@") for key in models.index) else X
            X = X.select(list(models.index))
        sample_set = sample_set or embedding.sample_set_ or embedding.sample_set
    return source_of(X, kind, sample_set or "train", "X")


def _directions(embedding: Any, n_components: int | None) -> tuple[Float64, Float64]:
    """λ_k and u_k, (m, k): of a weighted embedding w v, which stand for √w times eigenvectors."""
    available = len(embedding.eigenvalues_)
    k = available if n_components is None else n_components
    if not 1 <= k <= available:
        raise InputError(f"`n_components` must be 1 to {available}, not {n_components!r}.")
    vectors = np.array(embedding.eigenvectors_[:, :k], dtype=np.float64)
    weights = getattr(embedding, "weights_", None)
    if weights is not None:
        vectors *= np.asarray(weights)[:, None]
    # They sum to 0 up to rounding, which m² affinities would make large.
    vectors -= vectors.mean(axis=0) if weights is None else _weighted_shift(vectors, weights)
    return np.asarray(embedding.eigenvalues_[:k], dtype=np.float64), vectors


def _weighted_shift(vectors: Float64, weights: Float64) -> Float64:
    return np.outer(weights / weights.sum(), vectors.sum(axis=0))


def _slab_samples(source: PredictionSource, memory: int, n_workers: int) -> int:
    """Samples whose features are in memory together."""
    m, n_samples, n_classes = source.shape
    itemsize = source.dtype.itemsize
    block = min(m, _BLOCK)
    # Tasks that read hold what they read and its square root; tasks that sum hold two blocks.
    fixed = n_workers * max(3 * _READ_BYTES, 2 * block * block * itemsize)
    slab = (memory - fixed) // (m * n_classes * itemsize)
    if slab < 1:
        needed = fixed + m * n_classes * itemsize
        raise ResourceError(
            f"The features of one sample need {format_bytes(needed)} but `memory` is "
            f"{format_bytes(memory)}; raise it or take fewer workers."
        )
    chunk = int(getattr(source, "chunk_samples", 1))
    slab = min(slab, n_samples)
    return slab - slab % chunk if slab > chunk else slab


def _features(source: PredictionSource, samples: slice, workers: Executor) -> Floats:
    """√p of all models, (n, m, C): the models of one sample lie together."""
    m, _, n_classes = source.shape
    n = samples.stop - samples.start
    out = np.empty((n, m, n_classes), source.dtype)
    step = max(1, _READ_BYTES // (n * n_classes * source.dtype.itemsize))

    def read(start: int) -> None:
        models = slice(start, min(start + step, m))
        with np.errstate(under="ignore"):  # what underflows is raised to the floor
            roots = BHATTACHARYYA.features(source.read(models, samples), np)
        out[:, models] = roots.transpose(1, 0, 2)

    with closing(workers.map(read, range(0, m, step))) as results:
        for _ in results:
            pass
    return out


def _of_sample(features: Floats, directions: Float64, sample: int) -> tuple[int, Float64]:
    """Σ_uv u_ku u_kv ln a_uv of one sample, (n_components,), over the triangle by blocks."""
    roots = features[sample]
    total = np.zeros(directions.shape[1])
    for rows in _blocks(len(roots)):
        for columns in _blocks(len(roots), rows.start):
            logs = roots[rows] @ roots[columns].T
            np.log(logs, out=logs)
            image = logs.astype(np.float64) @ directions[columns]
            twice = 1.0 if rows == columns else 2.0
            total += twice * (directions[rows] * image).sum(axis=0)
    return sample, total


def _blocks(length: int, first: int = 0) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, length)) for start in range(first, length, _BLOCK))


def sample_mask(samples: ArrayLike, n_samples: int) -> NDArray[np.bool_]:
    """Truth values (n_samples,) from truth values or indices; refuses none and what is outside."""
    chosen = plain_array(samples, "samples")
    if chosen.dtype == bool:
        chosen = plain_array(samples, "samples", LABELS)
    else:
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise InputError(f"`samples` must be truth values or indices, not {chosen.dtype}.")
        if chosen.size and (chosen.min() < 0 or chosen.max() >= n_samples):
            raise InputError(f"`samples` must be indices in 0 … {n_samples - 1}.")
        mask = np.zeros(n_samples, dtype=bool)
        mask[chosen] = True
        chosen = mask
    if chosen.shape != (n_samples,):
        raise InputError(
            f"`samples` must have one truth value for each of the {n_samples:,} samples, not shape "
            f"{chosen.shape}."
        )
    if not chosen.any():
        raise InputError("`samples` is empty: no sample is chosen.")
    return chosen
