"""Averages of models in prediction space: means and centroids, sample by sample."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from inpca.checks import in_order_of, plain_array
from inpca.distance.planner import memory_budget
from inpca.distance.request import Models, source_of
from inpca.errors import InputError, ResourceError
from inpca.executor import Executor, get_executor
from inpca.geometry.centroids import bhattacharyya_centroid, jeffreys_centroid
from inpca.predictions import (
    Floats,
    Kind,
    PredictionSource,
    check_kind,
    from_log_probs,
    steady,
)
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.units import format_bytes

Float64 = NDArray[np.float64]
How = Literal["arithmetic", "geometric", "harmonic", "sqrt", "bhattacharyya", "jeffreys"]
ExecutorArgument = str | int | Executor | None

# Models read at a time; a constant, so that nothing about the machine changes the order of a sum.
_MODELS = 16
# Arrays of the size of what is read that are in memory at once.
_COPIES = 6
# The exponent of each power mean, (Σ w p^a)^(1/a); the geometric mean is the limit a → 0.
_POWERS = {"arithmetic": 1.0, "sqrt": 0.5, "harmonic": -1.0}


def average(
    X: Models,
    how: How = "arithmetic",
    *,
    weights: ArrayLike | None = None,
    kind: Kind = "probs",
    sample_set: str = "train",
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> Floats:
    """One model in the middle of many.

    ========================  ==================================================================
    ``"arithmetic"``          q ∝ Σ_u w_u p_u, what an ensemble of networks predicts
    ``"geometric"``           q ∝ Π_u p_u^{w_u}: the mean of the logits
    ``"harmonic"``            q ∝ 1 / Σ_u w_u / p_u
    ``"sqrt"``                q ∝ (Σ_u w_u √p_u)²: the mean on the sphere, pushed back onto it
    ``"bhattacharyya"``       the q of least Σ_u w_u d_B(p_u, q)
    ``"jeffreys"``            the q of least Σ_u w_u [KL(p_u‖q) + KL(q‖p_u)]
    ========================  ==================================================================

    each in every sample by itself, with Σ_u w_u = 1.

    Parameters
    ----------
    X : predictions (n_models, n_samples, n_classes) of `kind`, an `Ensemble`, or any
        `PredictionSource`
    how : see above
    weights : (n_models,) not negative, not all zero; default equal. A model of weight zero has no
        influence, and is not read where that saves a read. A series indexed by the keys of an
        ensemble's models may have them in any order
    kind : of an array `X`, and of the result: ``"probs"``, ``"log_probs"``, ``"logits"`` (come
        out as log-probabilities) or ``"sqrt_probs"``
    sample_set : of ensembles
    memory : bytes allowed beside the result, such as ``"2GB"``; default half of what is available
    executor : None (threads over all cores), a number of threads, or ``"serial"``
    progress : True, or ``callable(done, total, text)``

    Returns
    -------
    (n_samples, n_classes) of `kind`, float64, rows normalised

    Raises
    ------
    InputError
        For an unknown `how`, bad weights, or where the average does not exist: geometric and
        harmonic if every class is impossible for some model, Jeffreys if a class is impossible
        for one model and possible for another (truth among the models does that).
    ResourceError
        If `memory` is not enough for one sample.

    Notes
    -----
    Streamed: a thread holds a slab of samples of 16 models, for the Bhattacharyya centroid of all
    models. The result does not depend on `memory` or the number of threads.

    Examples
    --------
    >>> p = [[[0.9, 0.1]], [[0.5, 0.5]]]
    >>> average(p).round(3), average(p, "geometric").round(3)
    (array([[0.7, 0.3]]), array([[0.75, 0.25]]))
    """
    check_kind(kind)
    check_how(how)
    source = source_of(X, kind, sample_set, "X")
    shares = normalised_weights(weights, source.shape[0], getattr(source, "names", None))
    with reporting(progress, f"{how} average") as report:
        log_q = average_source(source, how, shares, memory, get_executor(executor), report)
    return from_log_probs(log_q, kind)


def check_how(how: str) -> None:
    """Refuse an average that is none of the six."""
    if how not in get_args(How):
        raise InputError(f"`how` must be one of {', '.join(get_args(How))}, not {how!r}.")


def normalised_weights(
    weights: ArrayLike | None, n_models: int, keys: Sequence[str] | None = None
) -> Float64:
    """`weights` with sum 1, or InputError; equal ones for None.

    A series that names the models, whose `keys` are known, is put in their order.
    """
    if n_models < 1:
        raise InputError("`X` must hold at least 1 model to average, not 0.")
    if weights is None:
        return np.full(n_models, 1 / n_models)
    values = plain_array(in_order_of(weights, keys, "weights"), "weights")
    if values.shape != (n_models,) or values.dtype.kind not in "iufb":
        raise InputError(
            f"`weights` must be one number per model, shape ({n_models},), not {values.dtype} of "
            f"shape {values.shape}."
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        bad = values[~(np.isfinite(values) & (values >= 0))][0]
        raise InputError(f"`weights` must be finite and not negative, not {bad}.")
    if not values.any():
        raise InputError("`weights` must not all be zero: there would be nothing to average.")
    scaled = values / values.max()  # first: neither tiny nor huge weights leave the range
    return np.asarray(scaled / math.fsum(scaled))


def average_source(
    source: PredictionSource,
    how: How,
    weights: Float64,
    memory: int | float | str | None,
    executor: Executor,
    report: Report,
) -> Float64:
    """Log-probabilities (n_samples, n_classes) of the average; `weights` have sum 1."""
    _, n_samples, n_classes = source.shape
    out = np.empty((n_samples, n_classes))
    models = _weighted_blocks(weights, whole=how == "bhattacharyya")

    def fill(samples: slice) -> int:
        log_q = _METHODS[how](_Slab(source, weights, models, samples))
        out[samples] = log_softmax(log_q, axis=-1)
        return len(log_q)

    done = 0
    size = _slab_samples(source, models, memory, executor.n_workers)
    slabs = (slice(n, min(n + size, n_samples)) for n in range(0, n_samples, size))
    with steady(source), closing(executor.map(fill, slabs)) as counts:
        for count in counts:
            done += count
            report(done, n_samples, f"{done:,} of {n_samples:,} samples")
    return out


def _weighted_blocks(weights: Float64, whole: bool) -> list[slice]:
    """Blocks of models to read; those without any weight are left out."""
    n_models = len(weights)
    starts = range(0, n_models, _MODELS)
    blocks = [slice(start, min(start + _MODELS, n_models)) for start in starts]
    return [slice(0, n_models)] if whole else [one for one in blocks if weights[one].any()]


def _slab_samples(
    source: PredictionSource, models: list[slice], memory: int | float | str | None, n_workers: int
) -> int:
    """Samples of a slab: as many as fit, whole chunks where they do."""
    _, n_samples, n_classes = source.shape
    budget = memory_budget(memory)
    n_models = max(one.stop - one.start for one in models)
    per_sample = n_models * n_classes * 8 * _COPIES
    fit = int(budget // n_workers // per_sample)
    if fit < 1:
        raise ResourceError(
            f"The average needs {format_bytes(per_sample)} for one sample in each of {n_workers} "
            f"threads but `memory` is {format_bytes(budget)}; pass more, or fewer threads as "
            "`executor`."
        )
    chunk = int(getattr(source, "chunk_samples", 1))
    size = min(fit, max(chunk, -(-n_samples // n_workers)))
    return size // chunk * chunk if size >= chunk else size


@dataclass(frozen=True)
class _Slab:
    """Some samples of all models that have weight, block by block."""

    source: PredictionSource
    weights: Float64
    models: list[slice]
    samples: slice

    def blocks(self) -> Iterator[tuple[Float64, Float64]]:
        """Log-probabilities (k, n, C) and weights (k,), models of weight zero left out."""
        for models in self.models:
            log_p = self.source.read(models, self.samples)
            used = self.weights[models] > 0
            log_p = log_p if used.all() else log_p[used]
            yield log_p.astype(np.float64), self.weights[models][used]


def _power_mean(slab: _Slab, power: float) -> Float64:
    """ln of (Σ w p^a)^(1/a), as a logarithm of sums of exponentials: nothing leaves the range."""
    total: Float64 | None = None
    for log_p, weights in slab.blocks():
        terms = power * log_p + np.log(weights)[:, None, None]
        part = _log_sum(terms)
        total = part if total is None else np.logaddexp(total, part)
    assert total is not None
    return total / power


def _log_sum(terms: Float64) -> Float64:
    """ln Σ exp over the first axis; ±∞ as they should be."""
    largest = terms.max(axis=0)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):  # a class that is impossible for all: ln 0 = −∞
        return np.asarray(np.log(np.exp(terms - shift).sum(axis=0)) + shift)


def _mean_log(slab: _Slab) -> Float64:
    """Σ w ln p, not normalised; −∞ where a model says 0."""
    total: Float64 | None = None
    for log_p, weights in slab.blocks():
        part = (weights[:, None, None] * log_p).sum(axis=0)
        total = part if total is None else total + part
    assert total is not None
    return total


def _arithmetic(slab: _Slab) -> Float64:
    return _power_mean(slab, _POWERS["arithmetic"])


def _sqrt(slab: _Slab) -> Float64:
    return _power_mean(slab, _POWERS["sqrt"])


def _harmonic(slab: _Slab) -> Float64:
    return _some_class_possible(_power_mean(slab, _POWERS["harmonic"]), slab, "harmonic")


def _geometric(slab: _Slab) -> Float64:
    return _some_class_possible(_mean_log(slab), slab, "geometric")


def _some_class_possible(log_q: Float64, slab: _Slab, how: str) -> Float64:
    nothing = np.isneginf(log_q).all(axis=-1)
    if nothing.any():
        raise InputError(
            f"`how`={how!r} has no value in sample {slab.samples.start + int(nothing.argmax())}: "
            "every class has probability 0 for some model; leave such models (truth) out, or "
            "choose 'arithmetic', 'sqrt' or 'bhattacharyya'."
        )
    return log_q


def _bhattacharyya(slab: _Slab) -> Float64:
    ((log_p, weights),) = slab.blocks()
    return bhattacharyya_centroid(log_p, weights, _power_mean(slab, _POWERS["arithmetic"]))


def _jeffreys(slab: _Slab) -> Float64:
    arithmetic, geometric = _power_mean(slab, _POWERS["arithmetic"]), _mean_log(slab)
    torn = (np.isneginf(geometric) & ~np.isneginf(arithmetic)).any(axis=-1)
    if torn.any():
        raise InputError(
            f"`how`='jeffreys' has no value in sample {slab.samples.start + int(torn.argmax())}: "
            "a class has probability 0 for one model and not for another, so every q is infinitely "
            "far from one of them; leave such models (truth) out, or choose 'bhattacharyya'."
        )
    return jeffreys_centroid(arithmetic, geometric)


_METHODS: dict[str, Callable[[_Slab], Float64]] = {
    "arithmetic": _arithmetic,
    "geometric": _geometric,
    "harmonic": _harmonic,
    "sqrt": _sqrt,
    "bhattacharyya": _bhattacharyya,
    "jeffreys": _jeffreys,
}
