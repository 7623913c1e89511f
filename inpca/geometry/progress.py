"""Progress: where a model is on its way from ignorance to truth (Eq. 4).

s_w = argmin over α in [0, 1] of (1/N) Σ_n arccos(x_n cos(αθ_n) + y_n sin(αθ_n)), where x_n, y_n
are the model's coordinates in the plane of the geodesic in sample n: two numbers, not C. With
r cos φ = x and r sin φ = y each term is arccos(r cos(αθ − φ)). √p has no negative entries, so
|αθ − φ| ≤ π/2, where this is convex: the sum has one minimum, and its slope changes sign once.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.distance.planner import memory_budget
from inpca.distance.request import Models, source_of
from inpca.errors import InputError, ResourceError
from inpca.executor import Executor, get_executor
from inpca.geometry import namespace
from inpca.geometry.ends import Ends, make_ends
from inpca.geometry.kernels_numba import nearest, square_roots
from inpca.geometry.routes import End, Route, routes
from inpca.predictions import Floats, Kind, PredictionSource, steady, to_log_probs
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.ensemble import Ensemble
from inpca.units import format_bytes

Float64 = NDArray[np.float64]
ExecutorArgument = str | int | Executor | None

# Of predictions read at a time by a thread: stays in its own cache while it is worked on, and
# memory of this size is not asked for anew from the system, which cost as much as the arithmetic.
# Not less than a chunk on disk: 512 KiB, twice that in memory where it is of float16.
_BLOCK_BYTES = 1_100_000
_TASK_BLOCKS = 8
# Bytes in memory for each byte read: what is read, its square root, and what a source in memory
# needs to make logarithms of it.
_COPIES = 6


def progress(
    X: Models,
    labels: ArrayLike | None = None,
    *,
    kind: Kind = "probs",
    sample_set: str = "train",
    start: End = None,
    end: End = None,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    progress: ProgressArgument = None,
) -> Any:
    """Position of each model's nearest point on a geodesic, by default ignorance → truth (Eq. 4).

    Parameters
    ----------
    X : predictions (n_models, n_samples, n_classes) of `kind`, an `Ensemble`, or any
        `PredictionSource`. An array of cupy, or of another namespace of the array API, is worked
        on where it is
    labels : (n_samples,) true classes, the geodesic's end; of an ensemble its sample set's unless
        others are given (another task's truth)
    kind : of `X`, `start` and `end`: ``"probs"``, ``"log_probs"``, ``"logits"`` or
        ``"sqrt_probs"``
    sample_set : of ensembles
    start : predictions (n_samples, n_classes) to begin at; default ignorance. Of an ensemble also
        a model's key, ``"run-3/0"``, or ``"first"``: each model's own run's first checkpoint.
        Reference models (ignorance, truth, stored averages) have no run of their own: NaN, and a
        warning is logged
    end : predictions to end at, instead of `labels`. Of an ensemble also a model's key, or
        ``"last"``: each model's own run's last checkpoint
    memory : bytes allowed, such as ``"2GB"``; default half of what is available
    executor : None (threads over all cores), a number of threads, or ``"serial"``
    progress : True, or ``callable(done, total, text)``

    Returns
    -------
    s : (n_models,) float64 in [0, 1], to 1e-10; one of them where several points are equally
        near. In the namespace of `X` where that is an array

    Raises
    ------
    InputError
        For labels that are no classes, ends that are no models of the same samples, or that
        coincide.
    ResourceError
        If `memory` is not enough for one model.

    Notes
    -----
    The minimum is unique but for ties (the sum is convex in α), and found where its derivative
    changes sign. Samples where start and end coincide do not count. Every prediction is read
    once; in memory are a few models per thread.

    Examples
    --------
    >>> halfway = [[[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]]]
    >>> progress(halfway, [0, 1, 0]).round(3)
    array([0.262])
    """
    xp = namespace.foreign_namespace(X)
    if xp is not None:
        return _in_namespace(X, labels, start, end, kind, xp)
    workers = get_executor(executor)
    source = source_of(X, kind, sample_set, "X")
    models = X if isinstance(X, Ensemble) else source
    with reporting(progress, "progress") as report, steady(source):
        return _along(routes(models, labels, start, end, kind, sample_set), memory, workers, report)


def sample_progress(
    X: Models,
    labels: ArrayLike | None = None,
    *,
    kind: Kind = "probs",
    sample_set: str = "train",
    start: End = None,
    end: End = None,
    memory: int | float | str | None = None,
) -> Float64:
    """Position of each model's nearest point on the geodesic, in every sample by itself.

    The parameters are those of `progress`.

    Returns
    -------
    (n_models, n_samples) float64 in [0, 1]; NaN in samples where start and end coincide, or where
    a model overlaps with neither: all points are equally near; and of reference models on their
    own run's way, which they do not have

    Raises
    ------
    InputError
        As `progress`.
    ResourceError
        If the result, and one model beside it, are larger than `memory`.

    Notes
    -----
    In memory are the result, 8 bytes for each model and sample, and one block of models.
    """
    source = source_of(X, kind, sample_set, "X")
    budget = memory_budget(memory)
    _check_result(source.shape, budget)
    out = np.full(source.shape[:2], np.nan)
    with steady(source):
        models = X if isinstance(X, Ensemble) else source
        for route in routes(models, labels, start, end, kind, sample_set):
            if route.ends is not None:
                _place_samples(route, route.ends, budget, out)
    return out


def _place_samples(route: Route, ends: Ends, budget: int, out: Float64) -> None:
    """Positions of the models of `route` in every sample, into their rows of `out`."""
    n_models, n_samples = route.source.shape[:2]
    # Of a block there are x, y, what `arctan2` makes of them and truth values: no more than six
    # numbers beside the result.
    cut = _cut(route.source, budget, 1, plane_numbers=6, held=out.nbytes + ends.nbytes)
    angles = np.broadcast_to(ends.angles, n_samples)
    for models in _blocks(n_models, cut.models):
        x, y = plane(route.source, ends, models, cut)
        nowhere = (x == 0) & (y == 0) | (angles == 0)
        np.arctan2(y, x, out=x)
        with np.errstate(divide="ignore", invalid="ignore"):  # angle 0 is nowhere
            x /= angles
        np.clip(x, 0.0, 1.0, out=x)
        x[nowhere] = np.nan
        out[route.rows[models]] = x


def _check_result(shape: tuple[int, int, int], budget: int) -> None:
    needed = 8 * shape[0] * shape[1]
    if needed > budget:
        raise ResourceError(
            f"Progress of every sample needs {format_bytes(needed)} but `memory` is "
            f"{format_bytes(budget)}; take fewer models at a time."
        )


def _along(
    ways: Iterator[Route], memory: int | float | str | None, workers: Executor, report: Report
) -> Float64:
    parts = [
        (
            one.rows,
            np.nan
            if one.ends is None
            else nearest_positions(one.source, one.ends, memory, workers, report),
        )
        for one in ways
    ]
    out = np.empty(sum(len(rows) for rows, _ in parts))
    for rows, values in parts:
        out[rows] = values
    return out


def _in_namespace(
    X: Any, labels: ArrayLike | None, start: End, end: End, kind: Kind, xp: Any
) -> Any:
    if X.ndim != 3 or 0 in X.shape:
        raise InputError(f"`X` must have shape (n_models, n_samples, n_classes), not {X.shape}.")
    models = {}
    for name, given in (("start", start), ("end", end)):
        if isinstance(given, str):
            raise InputError(f"`{name}` can be named only for an Ensemble, not {given!r}.")
        models[name] = None if given is None else to_log_probs(given, kind, name=name)
    ends = make_ends(X.shape[1:], labels, models["start"], models["end"])
    return namespace.positions(X, kind, ends.as_pair(), xp)


@dataclass(frozen=True)
class Cut:
    """How predictions are read: `models` at a time, each in pieces of `samples`."""

    models: int
    samples: int


def nearest_positions(
    source: PredictionSource,
    ends: Ends,
    memory: int | float | str | None,
    executor: Executor,
    report: Report,
) -> Float64:
    """Positions (n_models,) on the geodesic of `ends`, in one pass over `source`."""
    n_models = source.shape[0]
    cut = _cut(source, memory_budget(memory), executor.n_workers, held=ends.nbytes + 8 * n_models)
    positions = np.empty(n_models)

    def place(task: slice) -> int:
        for models in _blocks(task.stop, cut.models, task.start):
            x, y = plane(source, ends, models, cut)
            nearest(x, y, ends.angles, positions[models])
        return int(task.stop - task.start)

    done = 0
    size = cut.models * max(1, min(_TASK_BLOCKS, n_models // (4 * executor.n_workers * cut.models)))
    with closing(executor.map(place, _blocks(n_models, size))) as counts:
        for count in counts:
            done += count
            report(done, n_models, f"{done:,} of {n_models:,} models")
    return positions


def plane(source: PredictionSource, ends: Ends, models: slice, cut: Any) -> tuple[Float64, Float64]:
    """Coordinates of `models` in the geodesic's plane of every sample, (k, n_samples) each."""
    n_samples = source.shape[1]
    x, y = np.empty((2, models.stop - models.start, n_samples))
    for samples in _blocks(n_samples, cut.samples):
        roots = _square_roots(source.read(models, samples))
        ends.coordinates(roots, samples, x[:, samples], y[:, samples])
    return x, y


def _square_roots(log_p: Floats) -> Floats:
    if log_p.dtype != np.float32:
        return np.asarray(np.exp(0.5 * log_p))
    roots = np.empty(log_p.shape, np.float32)
    square_roots(log_p.reshape(-1), roots.reshape(-1))
    return roots


def _cut(
    source: PredictionSource,
    memory: int,
    n_workers: int,
    *,
    plane_numbers: int = 2,
    held: int = 0,
) -> Cut:
    """How to read within `memory`, of which `held` bytes are taken by what lasts.

    Of each model and sample that is worked on there are `plane_numbers` in memory.
    """
    n_models, n_samples, n_classes = source.shape
    share = max(0, memory - held) // n_workers
    per_sample = n_classes * source.dtype.itemsize
    plane_bytes = plane_numbers * 8 * n_samples
    block = min(_BLOCK_BYTES, (share - plane_bytes) // _COPIES)
    if block < per_sample:
        raise ResourceError(
            f"Progress needs {format_bytes(plane_bytes + _COPIES * per_sample)} for each of "
            f"{n_workers} threads, beside {format_bytes(held)} for the result and the ends, but "
            f"`memory` is {format_bytes(memory)}; pass more, or fewer threads as `executor`."
        )
    if block < n_samples * per_sample:
        chunk = int(getattr(source, "chunk_samples", 1))
        samples = block // per_sample
        return Cut(1, max(samples // chunk * chunk, min(samples, n_samples)))
    one_model = plane_bytes + _COPIES * n_samples * per_sample
    models = min(block // (n_samples * per_sample), share // one_model)
    return Cut(max(1, min(models, -(-n_models // n_workers))), n_samples)


def _blocks(stop: int, size: int, first: int = 0) -> Iterator[slice]:
    return (slice(start, min(start + size, stop)) for start in range(first, stop, size))
