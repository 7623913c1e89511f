"""The block Krylov space of an operator: how it grows by a pass, and the pairs it knows."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from inpca.backend import (
    as_float64,
    concatenate,
    is_elsewhere,
    namespace,
    to_host,
    to_like,
    zeros_at,
)
from inpca.embedding.pairs import Float64, order_by_magnitude
from inpca.embedding.scale import check_range, column_norms, exponent_of, scaled
from inpca.errors import InputError

Apply = Callable[[Float64], Float64]

# Below this, relative to ‖W‖, a direction of the Krylov space is rounding, and so is a residual.
_ROUNDING = 1e-13
# What float64 leaves of a difference of squared norms.
_SQUARE_ROUNDING = 1e-12


@dataclass(frozen=True)
class PassState:
    """What a pass has reached.

    Attributes
    ----------
    n_passes : passes so far
    residuals : ‖W v − λ v‖ of each wanted pair that the space can give
    n_converged, n_wanted : pairs
    worst, allowed : residual of the pair furthest from converging and what it may be, over |λ₁|
    """

    n_passes: int
    residuals: Float64
    n_converged: int
    n_wanted: int
    worst: float
    allowed: float

    def describe(self) -> str:
        """``41/50 converged, worst residual 2.1e-05 |λ₁|``."""
        return f"{self.n_converged}/{self.n_wanted} converged, worst residual {self.worst:.1e} |λ₁|"


@dataclass(frozen=True)
class ConvergenceRule:
    """How many pairs are wanted, and when one is good enough."""

    k: int
    tol: float
    relative_to: str

    def allowed(self, values: Float64) -> Float64:
        """The residual that each pair may have."""
        largest = abs(values[0])
        scale = np.abs(values) if self.relative_to == "each" else np.full(len(values), largest)
        return np.asarray(np.maximum(self.tol * scale, _ROUNDING * largest))


@dataclass
class RitzPairs:
    """The wanted pairs of the projected matrix, in the basis of the Krylov space."""

    values: Float64
    weights: Float64
    residuals: Float64
    allowed: Float64
    wanted: int

    @property
    def converged(self) -> NDArray[np.bool_]:
        return self.residuals <= self.allowed

    @property
    def done(self) -> bool:
        return len(self.values) == self.wanted and bool(self.converged.all())

    def state(self, n_passes: int) -> PassState:
        scale = max(abs(float(self.values[0])), np.finfo(float).tiny)
        worst = int(np.argmax(self.residuals / np.maximum(self.allowed, np.finfo(float).tiny)))
        return PassState(
            n_passes=n_passes,
            residuals=self.residuals,
            n_converged=int(self.converged.sum()),
            n_wanted=self.wanted,
            worst=float(self.residuals[worst]) / scale,
            allowed=float(self.allowed[worst]) / scale,
        )


@dataclass
class KrylovSpace:
    """Q = [Q_0 … Q_j] with W Q = Q T + Q_{j+1} R Eᵀ, E picking the last block.

    `blocks` are Q_0 … Q_{j+1} (the last is empty when the space is everything), `columns` the
    block columns Qᵀ W Q_j of T from the diagonal up, `coupling` is R.

    The blocks lie where the operator's vectors do, on a GPU perhaps; all that has the size of the
    space and not of the vectors is NumPy's.
    """

    n: int
    seed: int
    blocks: list[Float64]
    columns: list[Float64] = field(default_factory=list)
    coupling: Float64 = field(default_factory=lambda: np.empty((0, 0)))
    _norm: float = 0.0

    @classmethod
    def start(
        cls, n: int, block: int, seed: int, near: Float64 | None = None, like: Any = None
    ) -> "KrylovSpace":
        """Random vectors, after as many of `near` as the block takes, if there are any.

        They lie where `like` does; None: they are NumPy's.
        """
        first = np.random.default_rng([seed, 0]).standard_normal((n, block))
        if near is not None:
            first[:, : near.shape[1]] = near[:, :block]
        first = to_like(first, like)
        return cls(n, seed, [namespace(first).linalg.qr(first)[0]])

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
        sizes = column_norms(self.coupling.T)
        return bool((sizes <= _ROUNDING * self._norm).any())

    def expand(self, apply: Apply) -> tuple[Float64, Float64, Float64]:
        """One pass: the next block column of T, the next block of Q, and R."""
        rest = as_float64(apply(self.blocks[-1]))
        xp = namespace(rest)
        if not bool(xp.all(xp.isfinite(rest))):
            raise InputError("The operator gave NaN or infinite values; check D for them.")
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            column = self._project_out(rest)
            # Twice is enough (Parlett): the second pass removes what rounding left of the first.
            column += self._project_out(rest)
        check_range(column, "The products of Lanczos")
        following = self._next_block(rest, max(self._norm, float(np.linalg.norm(column, 2))))
        return column, following, to_host(following.T @ rest)

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
            part = block.T @ vectors
            vectors -= block @ part
            parts.append(to_host(part))
        return np.concatenate(parts)

    def _next_block(self, rest: Float64, norm: float) -> Float64:
        """Orthonormal columns: the range of `rest`, filled up with random directions."""
        width = min(self.blocks[0].shape[1], self.n - sum(q.shape[1] for q in self.blocks))
        # The range by a small SVD: that of `rest` itself takes 3 times as long.
        xp = namespace(rest)
        basis, factor = xp.linalg.qr(rest)
        left, sizes, _ = np.linalg.svd(to_host(factor))
        new = left[:, sizes > _ROUNDING * norm]
        kept = (basis @ to_like(new, rest))[:, : min(width, new.shape[1])]
        random = np.random.default_rng([self.seed, self.n_passes + 1])
        fill = random.standard_normal((self.n, width - kept.shape[1]))
        block = concatenate([kept, to_like(fill, rest)], axis=1)
        # Small directions of `rest` were scaled up, and their rounding with them; random ones
        # were never orthogonal.
        for _ in range(2):
            self._project_out(block)
            block = xp.linalg.qr(block)[0]
        return block if is_elsewhere(block) else np.ascontiguousarray(block)

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

    def ritz(self, rule: ConvergenceRule) -> RitzPairs:
        """The pairs of largest |θ| with residuals ‖W v − θ v‖ = ‖R y_last‖."""
        values, weights = np.linalg.eigh(self.projected())
        order = order_by_magnitude(values)[: rule.k]
        values, weights = values[order], weights[:, order]
        last = self.columns[-1].shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            uncovered = self.coupling @ weights[-last:]
        check_range(uncovered, "The residuals")
        residuals = column_norms(uncovered)
        return RitzPairs(values, weights, residuals, rule.allowed(values), rule.k)

    def combine(self, weights: Float64) -> Float64:
        """Q Y, the Ritz vectors, (n, k), NumPy's."""
        vectors = zeros_at(self.blocks[0], (self.n, weights.shape[1]))
        start = 0
        for block in self.blocks[: self.n_passes]:
            stop = start + block.shape[1]
            vectors += block @ to_like(weights[start:stop], block)
            start = stop
        return cast(Float64, to_host(vectors))

    def missed_bound(self, frobenius_norm: float) -> float:
        """τ + ‖R‖ with τ² = ‖W‖_F² − ‖T‖_F² − 2‖R‖_F², the part of W outside the space.

        W is T on the space, R between it and its complement, and at most τ on the complement
        (Frobenius bounds the spectral norm), so that an eigenvector the space does not know has
        |λ| ≤ τ + ‖R‖. Rounding of the difference is added to τ².
        """
        if self.is_everything:
            return 0.0
        exponent = exponent_of(frobenius_norm)
        norm, projected, coupling = (
            scaled(part, -exponent) for part in (frobenius_norm, self.projected(), self.coupling)
        )
        known = np.linalg.norm(projected) ** 2 + 2 * np.linalg.norm(coupling) ** 2
        outside = max(norm**2 - float(known), 0.0) + _SQUARE_ROUNDING * norm**2
        bound = math.sqrt(outside) + float(np.linalg.norm(coupling, 2))
        return float(scaled(bound, exponent))
