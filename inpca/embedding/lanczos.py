"""Block Lanczos for the eigenvalues of largest magnitude; sees only ``apply(V)``, not a matrix.

A block Krylov space with full two-pass reorthogonalisation and no restart: the passes over the
matrix are the cost, so none is thrown away (Golub & Underwood 1977; Parlett 1998, chapter 13).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from inpca.backend import to_host, to_like
from inpca.embedding.checkpoint import KrylovCheckpoint
from inpca.embedding.krylov import Apply, ConvergenceRule, KrylovSpace, PassState, RitzPairs
from inpca.embedding.pairs import Float64, check_pairs, find_clusters, fix_signs
from inpca.errors import InputError

PassReport = Callable[[PassState], None]

MAX_PASSES = 50
RELATIVE_TO = ("each", "largest")


def default_block_size(k: int, n: int) -> int:
    """Vectors per pass: 128, at most n.

    Passes to ‖r‖ ≤ 1e-6 |λ₁| and, after the slash, to ‖r‖ ≤ 1e-6 |λ_i| of each, n = 2,000, a
    quarter of the signs negative; the last line is D of made-up trainings, n = 4,000:

    | spectrum | k | 32 | 64 | 96 | 128 | 192 |
    |---|---|---|---|---|---|---|
    | 0.8^i | 10 | 3/3 | 3/3 | 2/2 | 2/2 | 2/2 |
    | | 50 | 4/5 | 3/3 | 2/3 | 2/2 | 2/2 |
    | 0.9^i | 10 | 4/4 | 3/3 | 3/3 | 3/3 | 2/2 |
    | | 50 | 5/5 | 3/4 | 3/3 | 3/3 | 2/2 |
    | 0.97^i | 10 | 7/7 | 5/5 | 4/4 | 4/4 | 3/3 |
    | | 50 | 8/8 | 5/6 | 4/5 | 4/4 | 3/3 |
    | i⁻² | 10 | 4/5 | 4/4 | 3/4 | 3/4 | 3/4 |
    | | 50 | 7/9 | 5/7 | 4/6 | 4/5 | 3/5 |
    | i⁻¹ | 10 | 7/7 | 6/6 | 5/6 | 5/6 | 5/5 |
    | | 50 | 11/13 | 8/10 | 7/9 | 6/8 | 6/7 |
    | trainings | 10 | | 4/5 | 4/4 | 4/4 | |
    | | 50 | | 5/8 | 5/7 | 5/6 | |

    At 128 the arithmetic of a pass takes about as long as reading D from a disk of 0.8 GB/s, so
    that fewer vectors would save no time. A start block of W times a random block on a few bands
    of D (5 % of a pass) saves a pass for k = 10 and none for k = 50 on the trainings: not worth
    its code.
    """
    return min(n, 128)


@dataclass(frozen=True)
class LanczosResult:
    """Eigenpairs and how they were reached.

    Attributes
    ----------
    eigenvalues : (k,) largest magnitude first
    eigenvectors : (n, k) orthonormal columns; the entry of largest magnitude is positive
    residuals : (k,) ‖W v − λ v‖; an eigenvalue of W lies within ‖r‖ of λ
    converged : (k,) bool, whether ‖r‖ ≤ `tol` · |λ| (or |λ₁|, as asked for) or rounding
    n_passes : calls of ``apply``
    block_size, krylov_dimension : vectors per pass; dimension of the space searched
    exhausted : the space is all of Rⁿ: the answer is exact
    clusters : pairs (i, j) of kept eigenvalues closer than 10 residuals: their plane is
        determined, the vectors inside it are not
    missed_bound : no eigenvalue outside the result's has a larger magnitude than this, from
        ‖W‖_F; None if the norm was not given
    nothing_missed : whether `missed_bound` < |λ_k|; None without it. False means not proven.
    """

    eigenvalues: Float64
    eigenvectors: Float64
    residuals: Float64
    converged: NDArray[np.bool_]
    tol: float
    n_passes: int
    block_size: int
    krylov_dimension: int
    exhausted: bool
    clusters: tuple[tuple[int, int], ...]
    missed_bound: float | None

    @property
    def bounds(self) -> Float64:
        """|Δλ| ≤ ‖r‖, shape (k,)."""
        return self.residuals

    @property
    def nothing_missed(self) -> bool | None:
        if self.exhausted:
            return True
        if self.missed_bound is None:
            return None
        return self.missed_bound < abs(float(self.eigenvalues[-1]))

    def describe(self) -> str:
        """One line on how the result was reached."""
        return (
            f"{int(self.converged.sum())} of {len(self.converged)} pairs converged to "
            f"{self.tol:.1e} in {self.n_passes} passes of {self.block_size} vectors; largest "
            f"residual {self.residuals.max():.2e}"
        )


def block_lanczos(
    apply: Apply,
    n: int,
    k: int,
    *,
    block_size: int | None = None,
    tol: float = 1e-6,
    relative_to: str = "each",
    max_passes: int = MAX_PASSES,
    frobenius_norm: float | Callable[[], float] | None = None,
    start: Float64 | None = None,
    random_state: int = 0,
    report: PassReport | None = None,
    checkpoint: str | Path | None = None,
    fingerprint: str = "",
    like: Any = None,
) -> LanczosResult:
    """The k eigenpairs of largest |λ| of a symmetric operator.

    Parameters
    ----------
    apply : W V for V of shape (n, b), float64
    n, k : rows of W; pairs wanted, k < n or k = n
    block_size : vectors per pass; default 128
    tol : a pair is converged when ‖W v − λ v‖ ≤ tol · |λ| (or 1e-13 · |λ₁|, which is rounding)
    relative_to : ``"each"``: |λ| is the pair's own, so that every coordinate is known to `tol`;
        ``"largest"``: |λ₁|, as eigensolvers commonly promise, in fewer passes
    max_passes : calls of `apply` at most; the result then says what has not converged
    frobenius_norm : ‖W‖_F exactly, for the certificate `missed_bound`; a function is called once
        the passes are done
    start : vectors (n, any number) that are close to those wanted; random ones fill up the block
    random_state : seed of the start block
    report : called after each pass
    checkpoint : folder that receives each pass; a solve that is killed and called again with the
        same folder goes on after its last pass, to the same bytes
    fingerprint : what the operator is, kept in the checkpoint; another one is refused
    like : an array that lies where `apply` takes its vectors and gives W V, on a GPU perhaps: the
        Krylov space then lies there too. None: NumPy's. The result is NumPy's in any case

    Notes
    -----
    Memory: (passes + 6) · n · b float64. A residual block that loses rank is filled up with
    random vectors orthogonal to all before, so that the space of a W of low rank goes on growing;
    when it is all of Rⁿ the answer is exact. Of an eigenvalue repeated more than b times, b
    copies are certain to be found; `nothing_missed` says whether there can be more.
    """
    block = default_block_size(k, n) if block_size is None else min(block_size, n)
    _check(n, k, block, tol, relative_to, max_passes, start)
    rule = ConvergenceRule(k, tol, relative_to)
    saved = KrylovCheckpoint.at(checkpoint, _identity(n, block, random_state, start, fingerprint))
    # BLAS on one thread: a pass over the matrix costs far more than the algebra between passes,
    # and the bytes then do not depend on the number of cores.
    with threadpool_limits(1, user_api="blas"):
        space = KrylovSpace.start(n, block, random_state, start, like)
        for column, following, coupling in saved.steps():
            space.add(column, to_like(following, like), coupling)
        while True:
            if space.n_passes:
                ritz = space.ritz(rule)
                if report is not None:
                    report(ritz.state(space.n_passes))
                # An invariant space may hold only `block` copies of an eigenvalue; if more than
                # that are wanted, the random directions it was filled up with go first.
                unexplored = k > block and space.lost_rank
                settled = ritz.done and not unexplored
                if settled or space.is_everything or space.n_passes >= max_passes:
                    break
            column, following, coupling = space.expand(apply)
            space.add(column, following, coupling)
            saved.write(space.n_passes, (column, to_host(following), coupling))
        return _result(
            space, ritz, tol, frobenius_norm() if callable(frobenius_norm) else frobenius_norm
        )


def _identity(
    n: int, block: int, seed: int, start: Float64 | None, fingerprint: str
) -> dict[str, Any]:
    """What a pass that is kept belongs to."""
    digest = "" if start is None else hashlib.sha256(np.ascontiguousarray(start).data).hexdigest()
    return {
        "n": n, "block_size": block, "seed": seed, "start": digest, "operator": fingerprint
    }  # fmt: skip


def check_effort(tol: float, block_size: int | None, max_passes: int) -> None:
    """Refuse what asks for less than nothing, whatever solves."""
    if not tol > 0:
        raise InputError(f"`tol` must be positive, not {tol}.")
    if block_size is not None and block_size < 1:
        raise InputError(f"`block_size` must be at least 1, not {block_size}.")
    if max_passes < 1:
        raise InputError(f"`max_passes` must be at least 1, not {max_passes}.")


def _check(
    n: int,
    k: int,
    block: int,
    tol: float,
    relative_to: str,
    max_passes: int,
    start: Float64 | None,
) -> None:
    if not 1 <= k <= n:
        raise InputError(f"`k` must be in 1 … n = {n}, not {k}.")
    check_effort(tol, block, max_passes)
    if relative_to not in RELATIVE_TO:
        raise InputError(
            f"`relative_to` must be one of {', '.join(RELATIVE_TO)}, not {relative_to!r}."
        )
    if start is not None and (start.ndim != 2 or len(start) != n or not np.isfinite(start).all()):
        raise InputError(
            f"`start` must hold finite vectors of {n} entries as columns, not shape {start.shape}."
        )
    if block * max_passes < k:
        raise InputError(
            f"`max_passes` = {max_passes} passes of {block} vectors span at most "
            f"{block * max_passes} dimensions, fewer than the {k} pairs wanted; raise either."
        )


def _result(
    space: KrylovSpace, ritz: RitzPairs, tol: float, frobenius_norm: float | None
) -> LanczosResult:
    vectors = fix_signs(space.combine(ritz.weights))
    check_pairs(ritz.values, vectors, ritz.wanted, "Lanczos")
    return LanczosResult(
        eigenvalues=ritz.values,
        eigenvectors=vectors,
        residuals=ritz.residuals,
        converged=ritz.converged,
        tol=tol,
        n_passes=space.n_passes,
        block_size=space.blocks[0].shape[1],
        krylov_dimension=space.dimension,
        exhausted=space.is_everything,
        clusters=find_clusters(ritz.values, ritz.residuals),
        missed_bound=None if frobenius_norm is None else space.missed_bound(frobenius_norm),
    )
