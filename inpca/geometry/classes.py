"""Fewer classes: predictions over many classes as predictions over few, read through a wrapper.

Both ways are maps of probabilities, q = p R with R ≥ 0 of column sums 1 (over the new classes), so
that what comes out is a model again. No such map can move two models apart: every distance becomes
smaller or stays. `class_error` says by how much.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, logsumexp

from inpca.checks import PREDICTIONS, plain_array
from inpca.distance.pairwise import pairwise_distances
from inpca.distance.request import Models, source_of
from inpca.errors import InputError
from inpca.geometry.averages import ExecutorArgument, average
from inpca.predictions import Floats, Kind, PredictionSource, recorded_of
from inpca.reporting import ProgressArgument

Float64 = NDArray[np.float64]

# Of predictions over all classes that are in memory at a time, where chunks on disk allow.
_PIECE_NUMBERS = 1 << 21


class FewerClasses:
    """A `PredictionSource` over fewer classes; made by `project_classes` or `top_classes`.

    Attributes
    ----------
    shape : (n_models, n_samples, new number of classes)
    dtype, chunk_samples : those of the source
    source : predictions over all classes
    """

    def __init__(
        self,
        source: PredictionSource,
        n_classes: int,
        reduce: Callable[[Floats, slice], Floats],
        identity: bytes,
    ) -> None:
        self.source = source
        self.shape = (*source.shape[:2], n_classes)
        self.dtype = source.dtype
        self.chunk_samples = int(getattr(source, "chunk_samples", 1))
        self._reduce = reduce
        self._identity = hashlib.sha256(identity)

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block, shape (n models, n samples, new number of classes)."""
        first, last, _ = models.indices(self.shape[0])
        start, stop, _ = samples.indices(self.shape[1])
        out = np.empty((last - first, stop - start, self.shape[2]), self.dtype)
        # In pieces: who reads this has planned for few classes, not for all.
        step = max(self.chunk_samples, _PIECE_NUMBERS // self.source.shape[2])
        count = max(1, step // max(1, stop - start))
        for n in range(start, stop, step):
            part = slice(n, min(n + step, stop))
            for u in range(first, last, count):
                some = slice(u, min(u + count, last))
                log_p = self.source.read(some, part)
                out[u - first : some.stop - first, n - start : part.stop - start] = self._reduce(
                    log_p, part
                )
        return out

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self.source)

    def fingerprint(self) -> str:
        """Digest of the source's predictions and of the map."""
        digest = self._identity.copy()
        digest.update(self.source.fingerprint().encode())
        return digest.hexdigest()


def project_classes(
    X: Models,
    n_classes: int,
    *,
    concentration: float = 1.0,
    seed: int = 0,
    kind: Kind = "probs",
    sample_set: str = "train",
) -> FewerClasses:
    """Predictions multiplied by one random matrix, the same for all models and samples.

    q_k = Σ_c R_kc p_c, each column of R drawn from a symmetric Dirichlet distribution: not
    negative, of sum 1. The paper does so for 1,000 classes.

    Parameters
    ----------
    X : predictions (n_models, n_samples, n_classes) of `kind`, an `Ensemble`, or any
        `PredictionSource`
    n_classes : the new number of classes, at least 2, fewer than there are
    concentration : of the Dirichlet distribution. 1: uniform among columns of sum 1; towards 0
        each class goes to one of the new classes, which keeps more of the distances
    seed : of the matrix
    kind, sample_set : see `inpca.pairwise_distances`

    Returns
    -------
    a `PredictionSource` that goes wherever predictions do; nothing is read until it is asked

    Raises
    ------
    InputError
        For a number of classes or a concentration out of range.
    """
    source = source_of(X, kind, sample_set, "X")
    n_before = source.shape[2]
    _check_number("n_classes", n_classes, 2, n_before - 1)
    if not 0 < concentration < np.inf:
        raise InputError(f"`concentration` must be a positive number, not {concentration}.")
    rng = np.random.default_rng(seed)
    # Row c: where class c goes. float64 dirichlet never gives a row of zeros.
    matrix = rng.dirichlet(np.full(n_classes, float(concentration)), size=n_before)

    def reduce(log_p: Floats, samples: slice) -> Floats:
        with np.errstate(divide="ignore"):  # ln 0 = −∞ where a new class gets nothing
            log_q = np.log(np.exp(log_p, dtype=np.float64) @ matrix)
        return np.asarray(log_softmax(log_q, axis=-1))

    return FewerClasses(source, n_classes, reduce, b"random" + matrix.tobytes())


def top_classes(
    X: Models,
    k: int,
    *,
    classes: ArrayLike | None = None,
    kind: Kind = "probs",
    sample_set: str = "train",
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> FewerClasses:
    """In each sample the `k` classes that matter most, and all others as one: k + 1 classes.

    Parameters
    ----------
    X : predictions (n_models, n_samples, n_classes) of `kind`, an `Ensemble`, or any
        `PredictionSource`
    k : classes to keep in each sample, at least 1, at most two fewer than there are
    classes : (n_samples, k) which; by default those of largest mean probability over all models,
        found by one pass over the predictions. Models that are to be compared with each other need
        the same
    kind, sample_set, memory, executor, progress : see `inpca.average`

    Returns
    -------
    a `PredictionSource`; class 0 is the most probable on average, class k the rest. It keeps the
    chosen classes, (n_samples, k); choosing them needs (n_samples, n_classes) float64 once

    Raises
    ------
    InputError
        For `k` out of range, or `classes` that are none, or the same twice in a sample.
    """
    source = source_of(X, kind, sample_set, "X")
    _, n_samples, n_classes = source.shape
    _check_number("k", k, 1, n_classes - 2)
    if classes is None:
        mean = average(
            source, kind="log_probs", memory=memory, executor=executor, progress=progress
        )
        kept = np.argsort(-mean, axis=-1, kind="stable")[:, :k]
    else:
        kept = _check_classes(
            plain_array(classes, "classes", PREDICTIONS), (n_samples, k), n_classes
        )

    def reduce(log_p: Floats, samples: slice) -> Floats:
        index = kept[None, samples]
        largest = np.take_along_axis(log_p, index, axis=-1)
        rest = log_p.copy()
        np.put_along_axis(rest, index, -np.inf, axis=-1)
        return np.concatenate([largest, logsumexp(rest, axis=-1, keepdims=True)], axis=-1)

    return FewerClasses(source, k + 1, reduce, b"top" + kept.astype("<i8").tobytes())


def _check_number(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or int(value) != value or not least <= value <= most:
        raise InputError(
            f"`{name}` must be a whole number from {least} to {most} for these predictions, not "
            f"{value!r}."
        )


def _check_classes(
    classes: NDArray[np.generic], shape: tuple[int, int], n_classes: int
) -> NDArray[np.int64]:
    if classes.shape != shape or classes.dtype.kind not in "iu":
        raise InputError(
            f"`classes` must be whole numbers of shape (n_samples, k) = {shape}, not "
            f"{classes.dtype} of shape {classes.shape}."
        )
    values = classes.astype(np.int64)
    if values.min() < 0 or values.max() >= n_classes:
        raise InputError(f"`classes` must be in 0 … {n_classes - 1}.")
    ordered = np.sort(values, axis=-1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise InputError("`classes` must not name a class twice in one sample.")
    return values


@dataclass(frozen=True, eq=False)
class ClassError:
    """What fewer classes cost, on sampled pairs of models.

    Attributes
    ----------
    models : (n,) which models were compared, all pairs of them
    exact, reduced : (n_pairs,) distances over all classes and over the fewer, nats per sample
    lost : fraction of the summed distances that is gone, 1 − Σ reduced / Σ exact
    largest : the largest loss of one distance, nats per sample
    correlation : of reduced with exact; NaN where either is constant. A map that keeps this at 1
        only changes the scale of an embedding
    """

    models: NDArray[np.int64]
    exact: Float64
    reduced: Float64
    lost: float
    largest: float
    correlation: float


def class_error(
    fewer: FewerClasses,
    *,
    n_models: int = 64,
    seed: int = 0,
    metric: str = "bhattacharyya",
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
) -> ClassError:
    """The error in D that fewer classes cost, from all pairs among some models.

    Parameters
    ----------
    fewer : what `project_classes` or `top_classes` made
    n_models : models to draw, without repetition; all if there are fewer
    seed : of the draw
    metric, memory, executor : see `inpca.pairwise_distances`

    Raises
    ------
    InputError
        If there are fewer than two models, or `n_models` is less than 2.
    """
    total = fewer.shape[0]
    if n_models < 2 or total < 2:
        raise InputError(f"`n_models` must be at least 2 of 2 or more models, not {n_models}.")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(total, size=min(n_models, total), replace=False))
    pairs = np.triu_indices(len(rows), 1)
    exact, reduced = (
        pairwise_distances(_Picked(one, rows), metric=metric, memory=memory, executor=executor)
        for one in (fewer.source, fewer)
    )
    exact, reduced = exact[pairs], reduced[pairs]
    varies = exact.std() > 0 and reduced.std() > 0  # their product could underflow
    return ClassError(
        models=rows,
        exact=exact,
        reduced=reduced,
        lost=float(1 - reduced.sum() / exact.sum()) if exact.sum() > 0 else 0.0,
        largest=float((exact - reduced).max()),
        correlation=float(np.corrcoef(exact, reduced)[0, 1]) if varies else float("nan"),
    )


class _Picked:
    """Some models of a `PredictionSource`, one by one."""

    def __init__(self, source: PredictionSource, rows: NDArray[np.int64]) -> None:
        self._source, self._rows = source, rows
        self.shape = (len(rows), *source.shape[1:])
        self.dtype = source.dtype
        self.chunk_samples = int(getattr(source, "chunk_samples", 1))

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block."""
        chosen = (int(row) for row in self._rows[models])
        return np.concatenate([self._source.read(slice(u, u + 1), samples) for u in chosen])

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self._source)

    def fingerprint(self) -> str:
        """Of all models, and which these are."""
        text = f"{self._source.fingerprint()} {self._rows.tolist()}"
        return hashlib.sha256(text.encode()).hexdigest()
