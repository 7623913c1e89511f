"""Distances between all pairs of models: parse → plan → run."""

import logging
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.checks import usable_path
from inpca.distance.capped import note_capped
from inpca.distance.cluster import place_of, run_on_cluster
from inpca.distance.engine import Sink, run_plan
from inpca.distance.output import Target, backend_there, claimed_matrix, remove_damaged
from inpca.distance.parts import PartArgument, describe_part, parse_part, tiles_of_part
from inpca.distance.plan import Plan
from inpca.distance.planner import default_tile_size
from inpca.distance.request import ExecutorArgument, Models, Request, parse
from inpca.distance.sinks import ArraySink, MatrixSink, finish
from inpca.errors import InputError
from inpca.executor import connected
from inpca.persistence import naming_files
from inpca.predictions import Kind
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.claim import WHOLE, Part
from inpca.store.matrix import TiledMatrix

_log = logging.getLogger("inpca.distance")


@dataclass(frozen=True)
class DistanceInfo:
    """How distances were computed.

    Attributes
    ----------
    floored : contributions (pair, sample) of more than 43 nats that the floor has capped at that
    redone : parts (128 × 128 pairs, 512 samples) that the GPU's tensor kernel has left to its
        float32 kernel, because an affinity in them was small
    backend : ``"numba"`` or ``"cupy"``, also where ``"auto"`` was asked for; `plan.where` says on
        what
    why : ``"auto"`` has taken no GPU; else empty
    plan : what was computed in this call; no tiles if everything was there
    repaired : damaged tiles that were computed again, with what was wrong
    seconds : that the call took
    missing : tiles of the matrix that this `part` has left to the others, as far as they were not
        there when it ended
    """

    floored: int
    redone: int
    backend: str
    why: str
    plan: Plan
    repaired: list[str]
    seconds: float
    missing: int = 0


def pairwise_distances(
    X: Models,
    Y: Models | None = None,
    *,
    metric: str = "bhattacharyya",
    kind: Kind = "probs",
    sample_set: str = "train",
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    executor: ExecutorArgument = None,
    tile_size: int | None = None,
    resume: bool = True,
    restart: bool = False,
    repair: bool = False,
    extend: bool = False,
    part: PartArgument = None,
    progress: ProgressArgument = None,
    backend: str = "numba",
    device: int | None = None,
    return_info: bool = False,
) -> Any:
    """Distances between all pairs of models, in memory or as tiles on disk.

    D_uv = −(1/N) Σ_n ln Σ_c √p_u[n,c] √p_v[n,c], nats per sample (Eq. 2), self-normalised by
    D_uv −= (D_uu + D_vv)/2: identical models are at distance exactly 0. Rounding can make the
    distance of near-copies negative, by less than 1e-7; it is left so, because cutting at zero
    would bias what is computed from it. Other divergences by `metric`; all are of squared type.

    Parameters
    ----------
    X : predictions (n_models, n_samples, n_classes) of `kind`, an `Ensemble`, or any
        `PredictionSource`
    Y : other models on the same samples; D then is rectangular, (models of X, models of Y)
    metric : the divergence: ``"bhattacharyya"``, ``"jeffreys"``, ``"hellinger2"``,
        ``"geodesic"``, ``"geodesic2"``, ``"jensen-shannon"``, ``"euclidean"`` (mean squared
        difference), or of an order 0 < α < 1 ``"chernoff:0.3"``, ``"renyi:0.8"``; defined in
        `inpca.distance.divergences`, compared in the concepts
    kind : of arrays: ``"probs"``, ``"log_probs"``, ``"logits"`` or ``"sqrt_probs"``
    sample_set : of ensembles
    out : folder of a `TiledMatrix`; a killed job goes on where it ended when called again. A matrix
        that has grown (`extend`) keeps its own order of an ensemble's models, see
        `TiledMatrix.models`
    memory : bytes allowed beside the interpreter, such as ``"8GB"``; default half of what is
        available. The bytes of D do not depend on it
    executor : None (threads over all cores), a number of threads, ``"serial"``; with an
        `Ensemble` and `out` also a `distributed.Client` or its scheduler's address
        ``"tcp://host:8786"``: workers must see both under the same paths, and `memory` is each
        worker's
    tile_size : rows and columns of a tile; best a multiple of 256
    resume : go on with the matrix at `out`; False: refuse if there is one
    restart : delete the matrix at `out` first
    repair : verify the tiles at `out` and compute the damaged ones again
    extend : where the matrix at `out` is of some of the models, compute the rows and columns of
        the others alone. Its models stay first, in its order (`TiledMatrix.models`); they are
        proven to be the same by the identity recorded of each. Begins, or goes on, otherwise
    part : ``(i, k)`` or ``"i/k"``, counted from 1: compute part i of k, for job arrays. The k
        processes may run at any time, at once or not, and fill one `out`; nothing is merged
    progress : True, or ``callable(done, total, text)``
    backend : ``"numba"``, the CPU; ``"cupy"``, an NVIDIA GPU; ``"auto"``: what the matrix at `out`
        was begun with, else the GPU where there is one that can compute this, and which it was is
        logged, told by `progress` and kept in `DistanceInfo`. A GPU computes float32 predictions
        in this process: for more of them call once for each, with `part` and `device`
    device : number of the GPU, of several
    return_info : return (D, `DistanceInfo`)

    Returns
    -------
    D : (n_models, n_models) or (models of X, models of Y) float64 array; with `out` a
        `TiledMatrix` (float32)

    Raises
    ------
    InputError
        For bad arguments or predictions, or if `out` was computed from something else; if runs
        were recorded again while they were read: the tiles that would be of both recordings are
        not written, and the matrix is not marked as finished.
    ResourceError
        If memory or disk does not suffice, another process is writing `out`, or the operating
        system refuses a file; an input or output error is tried again first. If there is no GPU
        that can be used.

    Notes
    -----
    √p is floored at 2⁻⁶². A contribution of more than 43 nats, where the floor decides, is
    counted: a warning is logged, `DistanceInfo.floored` and ``attrs["floored"]`` of the matrix
    hold the number, and the runs of an ensemble that are behind them are named. float32 predictions
    are computed in float32 and summed in float64: errors are below 3e-7 for any number of classes.
    A GPU sums classes in float32, one after the other: where all have the same probability, the
    worst case, it errs by up to 7e-7 for 100 classes, 7e-6 for 1,000, 1e-4 for 20,000.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    >>> D = pairwise_distances(p)
    >>> bool(np.isclose(D[0, 1], 0.5 * np.log(2)))
    True
    """
    start = time.perf_counter()
    which = parse_part(part)
    _refuse_combinations(restart=restart, repair=repair, extend=extend, part=which)
    with connected(executor) as workers, reporting(progress, "distances") as report:
        target = (
            None if out is None else Target(usable_path(out, "out"), which, resume, restart, extend)
        )
        if target is not None and backend == "auto":
            backend = backend_there(target) or backend
        request = parse(X, Y, metric, kind, sample_set, memory, workers, tile_size, backend, device)
        result: Any
        repaired: list[str] = []
        if target is None:
            _refuse_without_out(
                restart=restart,
                repair=repair,
                extend=extend,
                part=which != WHOLE,
                cluster=request.on_cluster,
            )
            result, plan, floored, redone = _in_memory(request, report)
        else:
            _refuse_what_is_not_stored(request)
            with naming_files(target.path), claimed_matrix(request, target) as (request, matrix):
                repaired = remove_damaged(matrix, report) if repair else []
                plan, floored, redone = _fill(request, matrix, which, report)
            result = TiledMatrix.open(target.path)
    missing = 0 if which == WHOLE else _tell_of_part(which, plan, result)
    if floored:
        stored, of = None if target is None else result, request.divergence
        _log.warning(
            "%d of %d contributions %s%s",
            floored,
            request.n_pairs * request.shape[1],
            of.capped,
            note_capped(request.ensemble, sample_set, of, floored, stored),
        )
    seconds = time.perf_counter() - start
    choice = request.choice
    info = DistanceInfo(
        floored, redone, choice.backend, choice.why, plan, repaired, seconds, missing
    )
    return (result, info) if return_info else result


def _tell_of_part(part: Part, plan: Plan, matrix: TiledMatrix) -> int:
    """Log what a part of `matrix` has computed; returns how many tiles are still missing."""
    n_tiles, missing = matrix.grid.n_tiles, len(matrix.missing())
    _log.info("%s", describe_part(part, plan.n_tiles, missing, n_tiles))
    if part[1] > n_tiles:
        _log.warning(
            "%d parts are more than the %d tiles of %s: %d of them have nothing to compute",
            part[1],
            n_tiles,
            matrix.path,
            part[1] - n_tiles,
        )
    return missing


def _refuse_without_out(**arguments: bool) -> None:
    for name, value in arguments.items():
        if value:
            raise InputError(f"`{name}` needs `out`: it is about distances on disk.")


def _refuse_combinations(*, restart: bool, repair: bool, extend: bool, part: Part) -> None:
    if part != WHOLE and (restart or repair):
        name = "restart" if restart else "repair"
        raise InputError(
            f"`part` {part[0]}/{part[1]} must not {name} what the other parts share; call once "
            f"without `part` and with {name}=True."
        )
    if restart and extend:
        raise InputError("`extend` goes on with what is there, `restart` deletes it; pass one.")


def _refuse_what_is_not_stored(request: Request) -> None:
    if request.on_cluster and request.ensemble is None:
        raise InputError(
            "`X` must be an Ensemble on a cluster, whose workers read it themselves; store the "
            "predictions in one (inpca.create_ensemble), or leave out `executor`."
        )
    if request.n_columns is not None:
        raise InputError(
            "`out` holds the symmetric matrix of one set of models; leave out `Y`, or leave out "
            "`out` and get an array."
        )


def _in_memory(request: Request, report: Report) -> tuple[NDArray[np.float64], Plan, int, int]:
    most = max(request.n_rows, request.n_columns or 0)
    plan = request.plan(request.tile_size or default_tile_size(most), stored=False)
    request.check_fits(plan, None)
    sink = ArraySink(plan.bands, plan.n_models)
    redone = _run(request, plan, sink, report)
    return sink.array, plan, sink.floored, redone


def _fill(
    request: Request, matrix: TiledMatrix, part: Part, report: Report
) -> tuple[Plan, int, int]:
    """Compute the missing tiles of part `part` of `matrix`."""
    mine = tiles_of_part(matrix.grid, part)
    missing = [tile for tile in matrix.missing() if tile in mine]
    plan, redone = request.plan(matrix.grid.tile_size, missing, stored=True, out=matrix.path), 0
    request.check_fits(plan, matrix.path)
    if request.on_cluster and request.ensemble is not None:
        place = place_of(request.ensemble.path, matrix, request.sample_set)
        metric, backend = request.divergence.name, request.choice.backend
        run_on_cluster(plan, place, metric, backend, request.executor, report)
    else:
        redone = _run(request, plan, MatrixSink(matrix), report)
    request.watch.check()
    try:
        request.check_unchanged()
    except InputError:
        for block in plan.blocks:
            for tile in block.tiles:
                matrix.remove_tile(tile)
        raise
    return plan, finish(matrix), redone


def _run(request: Request, plan: Plan, sink: Sink, report: Report) -> int:
    """Every tile of `plan` to `sink`, here; returns what had to be done again."""
    source, divergence, executor = request.source, request.divergence, request.executor
    backend, watch = request.choice.backend, request.watch
    return run_plan(plan, source, divergence, sink, executor, report, backend, watch)
