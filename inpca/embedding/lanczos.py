"""Block Lanczos for the eigenvalues of largest magnitude; sees only ``apply(V)``, not a matrix.

A block Krylov space with full two-pass reorthogonalisation and no restart: the passes over the
matrix are the cost, so none is thrown away (Golub & Underwood 1977; Parlett 1998, chapter 13).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from inpca.embedding.checkpoint import KrylovCheckpoint
from inpca.embedding.pairs import find_clusters, fix_signs, order_by_magnitude
from inpca.errors import InputError

Float64 = NDArray[np.float64]
Apply = Callable[[Float64], Float64]
PassReport = Callable[[int, str], None]

MAX_PASSES = 50
# Below this, relative to ‖W‖, a direction of the Krylov space is rounding, and so is a residual.
_ROUNDING = 1e-13
# What float64 leaves of a difference of squared norms.
_SQUARE_ROUNDING = 1e-12


def default_block_size(k: int, n: int) -> int:
    """Vectors per pass: 64, 128 for more than 50 wanted pairs; at most n.

    Passes to ‖r‖ ≤ 1e-6 |λ_i|, n = 2,000, a quarter of the signs negative, for k = 10 / 50, by
    block size:

    | spectrum | 32 | 64 | 128 |
    |---|---|---|---|
    | 0.8^i | 3 / 4 | 3 / 3 | 2 / 2 |
    | 0.9^i | 4 / 5 | 3 / 4 | 3 / 3 |
    | 0.97^i | 7 / 8 | 5 / 6 | 4 / 4 |
    | i⁻² | 5 / 9 | 4 / 7 | 4 / 6 |
    | i⁻¹ | 7 / 13 | 6 / 10 | 6 / 8 |
    """
    return min(n, 64 if k <= 50 else 128)


@dataclass(frozen=True)
class LanczosResult:
    """Eigenpairs and how they were reached.

    Attributes
    ----------
    eigenvalues : (k,) largest magnitude first
    eigenvectors : (n, k) orthonormal columns; the entry of largest magnitude is positive
    residuals : (k,) ‖W v − λ v‖; an eigenvalue of W lies within ‖r‖ of λ
    converged : (k,) bool, whether ‖r‖ ≤ `tol` · |λ| or rounding
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
    max_passes: int = MAX_PASSES,
    frobenius_norm: float | None = None,
    random_state: int = 0,
    report: PassReport | None = None,
    checkpoint: str | Path | None = None,
    fingerprint: str = "",
) -> LanczosResult:
    """The k eigenpairs of largest |λ| of a symmetric operator.

    Parameters
    ----------
    apply : W V for V of shape (n, b), float64
    n, k : rows of W; pairs wanted, k < n or k = n
    block_size : vectors per pass; default 64, 128 for k > 50
    tol : a pair is converged when ‖W v − λ v‖ ≤ tol · |λ| (or 1e-13 · |λ₁|, which is rounding)
    max_passes : calls of `apply` at most; the result then says what has not converged
    frobenius_norm : ‖W‖_F exactly, for the certificate `missed_bound`
    random_state : seed of the start block
    report : called with (pass, text) after each pass
    checkpoint : folder that receives each pass; a solve that is killed and called again with the
        same folder goes on after its last pass, to the same bytes
    fingerprint : what the operator is, kept in the checkpoint; another one is refused

    Notes
    -----
    Memory: (passes + 6) · n · b float64. A residual block that loses rank is filled up with
    random vectors orthogonal to all before, so that the space of a W of low rank goes on growing;
    when it is all of Rⁿ the answer is exact. Of an eigenvalue repeated more than b times, b
    copies are certain to be found; `nothing_missed` says whether there can be more.
    """
    block = default_block_size(k, n) if block_size is None else min(block_size, n)
    _check(n, k, block, tol, max_passes)
    saved = KrylovCheckpoint.at(
        checkpoint, {"n": n, "block_size": block, "seed": random_state, "operator": fingerprint}
    )
    # BLAS on one thread: a pass over the matrix costs far more than the algebra between passes,
    # and the bytes then do not depend on the number of cores.
    with threadpool_limits(1, user_api="blas"):
        space = _KrylovSpace.start(n, block, random_state)
        for step in saved.steps():
            space.add(*step)
        while True:
            if space.n_passes:
                ritz = space.ritz(k, tol)
                if report is not None:
                    report(space.n_passes, ritz.describe(tol))
                # An invariant space may hold only `block` copies of an eigenvalue; if more than
                # that are wanted, the random directions it was filled up with go first.
                unexplored = k > block and space.lost_rank
                settled = ritz.done and not unexplored
                if settled or space.is_everything or space.n_passes >= max_passes:
                    break
            space.add(*(step := space.expand(apply)))
            saved.write(space.n_passes, step)
        return _result(space, ritz, tol, frobenius_norm)


def _check(n: int, k: int, block: int, tol: float, max_passes: int) -> None:
    if not 1 <= k <= n:
        raise InputError(f"`k` must be in 1 … n = {n}, not {k}.")
    if block < 1:
        raise InputError(f"`block_size` must be at least 1, not {block}.")
    if not tol > 0:
        raise InputError(f"`tol` must be positive, not {tol}.")
    if block * max_passes < k:
        raise InputError(
            f"`max_passes` = {max_passes} passes of {block} vectors span at most "
            f"{block * max_passes} dimensions, fewer than the {k} pairs wanted; raise either."
        )


def _result(
    space: "_KrylovSpace", ritz: "_Ritz", tol: float, frobenius_norm: float | None
) -> LanczosResult:
    vectors = fix_signs(space.combine(ritz.weights))
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


@dataclass
class _Ritz:
    """The wanted pairs of the projected matrix, in the basis of the Krylov space."""

    values: Float64
    weights: Float64
    residuals: Float64
    converged: NDArray[np.bool_]
    wanted: int

    @property
    def done(self) -> bool:
        return len(self.values) == self.wanted and bool(self.converged.all())

    def describe(self, tol: float) -> str:
        relative = self.residuals.max() / max(abs(self.values[0]), np.finfo(float).tiny)
        return (
            f"residual {relative:.1e}, {int(self.converged.sum())} of {self.wanted} pairs "
            f"converged to {tol:.0e}"
        )


@dataclass
class _KrylovSpace:
    """Q = [Q_0 … Q_j] with W Q = Q T + Q_{j+1} R Eᵀ, E picking the last block.

    `blocks` are Q_0 … Q_{j+1} (the last is empty when the space is everything), `columns` the
    block columns Qᵀ W Q_j of T from the diagonal up, `coupling` is R.
    """

    n: int
    seed: int
    blocks: list[Float64]
    columns: list[Float64] = field(default_factory=list)
    coupling: Float64 = field(default_factory=lambda: np.empty((0, 0)))
    _norm: float = 0.0

    @classmethod
    def start(cls, n: int, block: int, seed: int) -> "_KrylovSpace":
        random = np.random.default_rng([seed, 0]).standard_normal((n, block))
        return cls(n, seed, [np.linalg.qr(random)[0]])

    @property
    def n_passes(self) -> int:
        return len(self.columns)

    @property
    def dimension(self) -> int:
        """Columns of Q for which W Q is known."""
        return sum(block.shape[1] for block in self.blocks[: self.n_passes])

    @property
    def is_everything(self) -> bool:
        return self.dimension == self.n

    @property
    def lost_rank(self) -> bool:
        """Whether the last pass left fewer new directions than a block has."""
        sizes = np.linalg.norm(self.coupling, axis=1)
        return bool((sizes <= _ROUNDING * self._norm).any())

    def expand(self, apply: Apply) -> tuple[Float64, Float64, Float64]:
        """One pass: the next block column of T, the next block of Q, and R."""
        rest = np.array(apply(self.blocks[-1]), dtype=np.float64)
        if not np.isfinite(rest).all():
            raise InputError("The operator gave NaN or infinite values; check D for them.")
        column = self._project_out(rest)
        # Twice is enough (Parlett): the second pass removes what rounding left of the first.
        column += self._project_out(rest)
        following = self._next_block(rest, max(self._norm, float(np.linalg.norm(column, 2))))
        return column, following, following.T @ rest

    def add(self, column: Float64, following: Float64, coupling: Float64) -> None:
        """Take in the result of a pass."""
        self.columns.append(column)
        self.blocks.append(following)
        self.coupling = coupling
        self._norm = max(self._norm, float(np.linalg.norm(column, 2)))

    def _project_out(self, vectors: Float64) -> Float64:
        """Subtract from `vectors`, in place, their part in the space; return its coefficients."""
        parts = []
        for block in self.blocks:
            parts.append(block.T @ vectors)
            vectors -= block @ parts[-1]
        return np.concatenate(parts)

    def _next_block(self, rest: Float64, norm: float) -> Float64:
        """Orthonormal columns: the range of `rest`, filled up with random directions."""
        width = min(self.blocks[0].shape[1], self.n - sum(q.shape[1] for q in self.blocks))
        left, sizes, _ = np.linalg.svd(rest, full_matrices=False)
        kept = left[:, sizes > _ROUNDING * norm][:, :width]
        random = np.random.default_rng([self.seed, self.n_passes + 1])
        fill = random.standard_normal((self.n, width - kept.shape[1]))
        block = np.concatenate([kept, fill], axis=1)
        # Small directions of `rest` were scaled up, and their rounding with them; random ones
        # were never orthogonal.
        for _ in range(2):
            self._project_out(block)
            block = np.linalg.qr(block)[0]
        return np.ascontiguousarray(block)

    def projected(self) -> Float64:
        """T = Qᵀ W Q, symmetric, (dimension, dimension)."""
        full = np.zeros((self.dimension, self.dimension))
        stop = 0
        for column in self.columns:
            start, stop = stop, stop + column.shape[1]
            full[:stop, start:stop] = column
            full[start:stop, :start] = column[:start].T
            full[start:stop, start:stop] = (column[start:] + column[start:].T) / 2
        return full

    def ritz(self, k: int, tol: float) -> _Ritz:
        """The pairs of largest |θ| with residuals ‖W v − θ v‖ = ‖R y_last‖."""
        values, weights = np.linalg.eigh(self.projected())
        order = order_by_magnitude(values)[:k]
        values, weights = values[order], weights[:, order]
        last = self.columns[-1].shape[1]
        residuals = np.linalg.norm(self.coupling @ weights[-last:], axis=0)
        floor = _ROUNDING * abs(values[0])
        return _Ritz(
            values, weights, residuals, residuals <= np.maximum(tol * abs(values), floor), k
        )

    def combine(self, weights: Float64) -> Float64:
        """Q Y, the Ritz vectors, (n, k)."""
        vectors = np.zeros((self.n, weights.shape[1]))
        start = 0
        for block in self.blocks[: self.n_passes]:
            stop = start + block.shape[1]
            vectors += block @ weights[start:stop]
            start = stop
        return vectors

    def missed_bound(self, frobenius_norm: float) -> float:
        """τ + ‖R‖ with τ² = ‖W‖_F² − ‖T‖_F² − 2‖R‖_F², the part of W outside the space.

        W is T on the space, R between it and its complement, and at most τ on the complement
        (Frobenius bounds the spectral norm), so that an eigenvector the space does not know has
        |λ| ≤ τ + ‖R‖. Rounding of the difference is added to τ².
        """
        if self.is_everything:
            return 0.0
        known = np.linalg.norm(self.projected()) ** 2 + 2 * np.linalg.norm(self.coupling) ** 2
        outside = max(frobenius_norm**2 - float(known), 0.0) + _SQUARE_ROUNDING * frobenius_norm**2
        return math.sqrt(outside) + float(np.linalg.norm(self.coupling, 2))
