"""From D to eigenpairs: choose the solver by size and memory, run it, say how it went."""

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from inpca.backend import is_elsewhere
from inpca.distance.planner import memory_budget
from inpca.embedding.centring import CentredOperator
from inpca.embedding.dense import COPIES, dense_eigenpairs
from inpca.embedding.krylov import PassState
from inpca.embedding.lanczos import (
    LanczosResult,
    block_lanczos,
    check_effort,
    default_block_size,
)
from inpca.embedding.pairs import Float64, find_clusters, fix_signs, zero_to_rounding
from inpca.embedding.resident import ResidentTiles, solver_device
from inpca.embedding.scale import check_digits, check_range, scaled
from inpca.embedding.tiles import (
    DistanceTiles,
    ExecutorArgument,
    as_tiles,
    check_unchanged,
    place_of,
)
from inpca.embedding.weighted import WeightedOperator, signed_by_counting
from inpca.embedding.weights import weights_digest
from inpca.errors import InputError, ResourceError
from inpca.predictions import Floats
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.units import format_bytes

SOLVERS = ("auto", "dense", "lanczos")
# Up to here LAPACK needs seconds (about 10 s at 4,000 on 2 cores), and is exact.
DENSE_LIMIT = 4000
# Passes that every Lanczos solve may need; less memory than that is refused before it starts.
_FEWEST_PASSES = 6
# Passes that are announced until the residuals of two passes say more.
_USUAL_PASSES = 6

Operator = CentredOperator | WeightedOperator


class ClusterWarning(UserWarning):
    """Eigenvalues closer than the solver can tell apart; the vectors inside are arbitrary."""


@dataclass(frozen=True)
class SolveOptions:
    """What `InPCA` passes on; see its parameters."""

    solver: str = "auto"
    tol: float = 1e-6
    block_size: int | None = None
    max_passes: int = 50
    random_state: int = 0
    checkpoint: str | Path | None = None
    memory: int | float | str | None = None
    executor: ExecutorArgument = None
    progress: ProgressArgument = None
    backend: str = "numba"
    device: int | None = None


@dataclass(frozen=True)
class Solution:
    """Eigenpairs of W = −½ L D L, what projection needs of D, and how it was reached.

    With weights those of √w W₀ √w, see `WeightedOperator`.

    Attributes
    ----------
    eigenvalues, eigenvectors, residuals : (k,), (m, k), (k,). An eigenvalue that is zero to
        rounding is exactly 0. With weights the vectors are v = u / √w.
    row_means, grand_mean, frobenius_norm : r, r̄ of D and ‖W‖_F, exact; with weights weighted
    solver : ``"dense"`` or ``"lanczos"``
    n_passes : passes of the solver over D; 0 for the dense solver
    converged : (k,) bool
    clusters : see `LanczosResult`
    missed_bound : see `LanczosResult`; 0 for the dense solver, which misses none
    weights : (m,) of the models, or None
    """

    eigenvalues: Float64
    eigenvectors: Float64
    residuals: Float64
    row_means: Float64
    grand_mean: float
    frobenius_norm: float
    solver: str
    n_passes: int
    converged: np.ndarray
    clusters: tuple[tuple[int, int], ...]
    missed_bound: float
    weights: Float64 | None = None

    def of_rows(self, rows: NDArray[np.intp]) -> "Solution":
        """The same for the models in another order: model i is row ``rows[i]`` of D."""
        vectors = self.eigenvectors[rows]
        weights = None if self.weights is None else self.weights[rows]
        return replace(
            self,
            eigenvectors=(
                fix_signs(vectors) if weights is None else signed_by_counting(vectors, weights)
            ),
            row_means=self.row_means[rows],
            weights=weights,
        )


def solve(
    distances: Floats | DistanceTiles,
    k: int,
    options: SolveOptions,
    fingerprint: str = "",
    start: Float64 | None = None,
    weights: Float64 | None = None,
) -> Solution:
    """The k eigenpairs of largest |λ| of W = −½ L D L, or with weights of √w W₀ √w.

    Parameters
    ----------
    distances : (m, m) array that `check_distances` accepts, or a `TiledMatrix`
    fingerprint : what D is; only a checkpoint needs it
    start : see `block_lanczos`; the dense solver needs none. With weights vectors v = u / √w
    weights : (m,) that `read_weights` accepts, in the order of the rows of D

    Raises
    ------
    InputError
        For a `tol` that is not positive, and the like, also where the solver has no use for it.
        If a matrix on disk was replaced by another one meanwhile.
    ResourceError
        If the solver asked for, or any, does not fit `options.memory`; or D the GPU; if the pairs
        that LAPACK gives are none.

    Warns
    -----
    ConvergenceWarning
        If a residual is above `tol` after the last pass; names the pairs and their residuals.
    ClusterWarning
        If Lanczos cannot tell eigenvalues apart, or may lack copies of a repeated one.
    """
    check_effort(options.tol, options.block_size, options.max_passes)
    budget = memory_budget(options.memory)
    tiles = as_tiles(distances)
    solver = _choose_solver(tiles.grid.n_models, k, options, budget)
    place = solver_device(options.backend, options.device)
    with reporting(options.progress, "embedding") as report, place as device:
        narrator = _Narrator(report)
        if device is not None and solver == "lanczos" and not is_elsewhere(distances):
            narrator.stage(0, _USUAL_PASSES, f"D goes to {device.name}")
            distances = ResidentTiles(distances, device, options.executor)
            # Passes of another backend have other bytes.
            budget, fingerprint = distances.free, f"{fingerprint} on a GPU"
        operator: Operator
        if weights is None:
            operator = CentredOperator(distances, options.executor, narrator.tile)
        else:
            operator = WeightedOperator(distances, weights, options.executor, narrator.tile)
            fingerprint = f"{fingerprint} weights {weights_digest(weights)}"
            start = None if start is None else start * np.sqrt(weights)[:, None]
        if solver == "dense":
            solution = _solve_dense(operator, k, narrator)
        else:
            like = place_of(as_tiles(distances))
            solution = _solve_lanczos(
                operator, k, options, budget, narrator, fingerprint, start, like
            )
        if isinstance(operator, WeightedOperator):
            vectors = operator.per_model(solution.eigenvalues, solution.eigenvectors)
            solution = replace(solution, eigenvectors=vectors, weights=weights)
        check_unchanged(tiles)
        return solution


class _Narrator:
    """How far the solve is, in passes over D; those that are left are estimated.

    The number of pairs that have converged says little of what is left; the worst residual falls
    by a steady factor per pass, from which the passes to come follow.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.finished, self._of, self._text = 0, 1, ""
        self._former: PassState | None = None

    def stage(self, finished: int, of: int, text: str) -> None:
        """`finished` of about `of` passes are done, and now comes what `text` says."""
        self.finished, self._of, self._text = finished, of, text
        self._report(finished, of, text)

    def tile(self, done: int, total: int) -> None:
        self._report(self.finished + done / total, self._of, self._text)

    def solver_pass(self, state: PassState) -> None:
        done = state.n_passes
        passes_left = _passes_left(self._former, state)
        self._former = state
        self.stage(done, done + passes_left, f"pass {done + 1}: {state.describe()}")


def _passes_left(former: PassState | None, state: PassState) -> int:
    """Passes until the worst residual is what it may be, if it goes on falling as it did."""
    if state.n_converged == state.n_wanted:
        return 0
    if former is None or not 0 < state.allowed < state.worst < former.worst:
        return max(1, _USUAL_PASSES - state.n_passes)
    return math.ceil(math.log(state.worst / state.allowed) / math.log(former.worst / state.worst))


def _choose_solver(m: int, k: int, options: SolveOptions, budget: int) -> str:
    if options.solver not in SOLVERS:
        raise InputError(f"`solver` must be one of {', '.join(SOLVERS)}, not {options.solver!r}.")
    needed = COPIES * m * m * 8
    if options.solver == "dense" and needed > budget:
        raise ResourceError(
            f"solver='dense' needs {format_bytes(needed)} for {m} models but `memory` is "
            f"{format_bytes(budget)}; use solver='lanczos'."
        )
    if options.solver != "auto":
        return options.solver
    # A Krylov space for most of the spectrum is the whole space: LAPACK does that better.
    worthwhile = m <= DENSE_LIMIT or 4 * k >= m
    return "dense" if worthwhile and needed <= budget else "lanczos"


def _solve_dense(operator: Operator, k: int, narrator: _Narrator) -> Solution:
    narrator.stage(0, 3, "row means")
    _ = operator.row_means
    narrator.stage(1, 3, "centring")
    centred, exponent = operator.dense_in_unit()
    narrator.stage(2, 3, "eigenvalues")
    values, vectors, residuals = dense_eigenpairs(centred, k)
    values, residuals = scaled(values, exponent), scaled(residuals, exponent)
    check_range(values, "The eigenvalues")
    solution = _solution(
        operator, values, vectors, residuals,
        solver="dense", n_passes=0, converged=np.ones(k, dtype=bool),
        clusters=find_clusters(values, residuals), missed_bound=0.0,
    )  # fmt: skip
    narrator.stage(3, 3, f"{k} pairs of a dense matrix")
    return solution


def _solve_lanczos(
    operator: Operator,
    k: int,
    options: SolveOptions,
    budget: int,
    narrator: _Narrator,
    fingerprint: str,
    start: Float64 | None,
    like: Any,
) -> Solution:
    m = operator.n_models
    block = min(m, options.block_size or default_block_size(k, m))
    passes = min(options.max_passes, _passes_that_fit(operator, k, block, budget, like is not None))
    narrator.stage(0, _USUAL_PASSES, "pass 1")

    def norm() -> float:
        # The sums came with the first pass, unless that was made before this process was killed.
        narrator.stage(narrator.finished, narrator.finished + 1, "row means and ‖W‖")
        return operator.frobenius_norm

    result = block_lanczos(
        operator.apply,
        m,
        k,
        block_size=block,
        tol=options.tol,
        max_passes=passes,
        frobenius_norm=norm,
        start=start,
        random_state=options.random_state,
        report=narrator.solver_pass,
        checkpoint=options.checkpoint,
        fingerprint=fingerprint,
        like=like,
    )
    _warn(result, limited_by_memory=passes < options.max_passes)
    narrator.stage(result.n_passes, result.n_passes, result.describe())
    missed_bound = 0.0 if result.missed_bound is None else result.missed_bound
    return _solution(
        operator, result.eigenvalues, result.eigenvectors, result.residuals,
        solver="lanczos", n_passes=result.n_passes, converged=result.converged,
        clusters=result.clusters, missed_bound=missed_bound,
    )  # fmt: skip


def _passes_that_fit(operator: Operator, k: int, block: int, budget: int, on_device: bool) -> int:
    """Passes whose Krylov blocks fit beside the tiles and the vectors that are always there."""
    m = operator.n_models
    # V, L V and W V; the block and its factors while it is made orthogonal; the result twice.
    fixed = operator.working_bytes(block) + 6 * m * block * 8 + 2 * m * k * 8
    per_pass = m * block * 8
    enough = max(_FEWEST_PASSES, -(-k // block) + 2)
    enough = min(enough, -(-m // block))
    if fixed + enough * per_pass > budget:
        cure = "raise `memory`, or lower `block_size` or the number of workers"
        has = f"`memory` is {format_bytes(budget)}"
        if on_device:
            cure = "lower `block_size`, choose another `device`, or backend='numba'"
            has = f"beside D {format_bytes(budget)} are free on the GPU"
        raise ResourceError(
            f"Lanczos needs {format_bytes(fixed + enough * per_pass)} for {m} models and {block} "
            f"vectors a pass but {has}; {cure}."
        )
    return int((budget - fixed) // per_pass)


def _warn(result: LanczosResult, limited_by_memory: bool) -> None:
    if not result.converged.all():
        open_pairs = np.flatnonzero(~result.converged)
        named = ", ".join(f"{i} (‖r‖ = {result.residuals[i]:.1e})" for i in open_pairs[:10])
        cure = "raise `memory`" if limited_by_memory else "raise `max_passes` or `tol`"
        warnings.warn(
            f"{len(open_pairs)} of {len(result.converged)} pairs have not converged to "
            f"tol = {result.tol:.1e} in {result.n_passes} passes: {named}"
            f"{', …' if len(open_pairs) > 10 else ''}; each eigenvalue is within its residual of "
            f"a true one; {cure}.",
            ConvergenceWarning,
            stacklevel=5,
        )
    if result.block_size < len(result.converged) and not result.nothing_missed:
        warnings.warn(
            f"An eigenvalue that repeats more than {result.block_size} times (`block_size`) may "
            "lack copies: it is not proven that no larger one was missed (`missed_bound_`); raise "
            f"`block_size` to {len(result.converged)}.",
            ClusterWarning,
            stacklevel=5,
        )
    # Pairs that have not converged are named above; their large residuals make no cluster.
    clusters = [(i, j) for i, j in result.clusters if result.converged[i] and result.converged[j]]
    if clusters:
        named = ", ".join(f"{i} and {j}" for i, j in clusters[:10])
        warnings.warn(
            f"Eigenvalues {named} are closer than 10 residuals: the space they span is "
            "determined, the axes inside it are not; lower `tol` to tell them apart.",
            ClusterWarning,
            stacklevel=5,
        )


def _solution(
    operator: Operator,
    values: Float64,
    vectors: Float64,
    residuals: Float64,
    *,
    solver: str,
    n_passes: int,
    converged: np.ndarray,
    clusters: tuple[tuple[int, int], ...],
    missed_bound: float,
) -> Solution:
    check_range(values, "The eigenvalues")
    check_range(operator.frobenius_norm, "‖W‖_F")
    values = np.where(zero_to_rounding(values, operator.n_models), 0.0, values)
    check_digits(values, "The eigenvalues")
    return Solution(
        eigenvalues=values,
        eigenvectors=vectors,
        residuals=residuals,
        row_means=operator.row_means,
        grand_mean=operator.grand_mean,
        frobenius_norm=operator.frobenius_norm,
        solver=solver,
        n_passes=n_passes,
        converged=converged,
        clusters=clusters,
        missed_bound=missed_bound,
    )
