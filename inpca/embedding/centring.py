"""W = −½ L D L as an operator on D, dense or tiled: never formed, each tile read once a pass."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from inpca.embedding.tiles import (
    TOLERANCE,
    DistanceTiles,
    ExecutorArgument,
    Float64,
    as_tiles,
    check_finite,
    check_tile,
    map_tiles,
)
from inpca.predictions import Floats
from inpca.tiling import Tile

TileReport = Callable[[int, int], None]
Result = TypeVar("Result")

# Relative error of ‖W‖_F² beyond which the sums of the first pass are not good enough and the
# centred tiles are read once more.
_NORM_ACCURACY = 1e-12


class CentredOperator:
    """W = −½ L D L (Eq. 6) as a function ``apply(V)``, with its row means and exact norm.

    Parameters
    ----------
    distances : (m, m) array, or a `TiledMatrix`. Only the upper triangle is read; it must be
        symmetric (`check_distances` verifies an array).
    executor : see `inpca.executor.get_executor`; threads run over tiles, BLAS runs serially
        inside each. The number of workers does not change a byte of any result.
    report : called with (tiles done, tiles in all) during each pass

    Notes
    -----
    A pass reads m²/2 entries. A stored tile T of bands (i, j) is converted to float64 and used
    twice, T V_j and Tᵀ V_i. Memory: 4 arrays (m, b) float64 and two tiles per worker.
    """

    def __init__(
        self,
        distances: Floats | DistanceTiles,
        executor: ExecutorArgument = None,
        report: TileReport | None = None,
    ) -> None:
        self._tiles = as_tiles(distances)
        self._executor = executor
        self._report = report or _silent
        self.grid = self._tiles.grid

    @property
    def n_models(self) -> int:
        """m, the rows of W."""
        return self.grid.n_models

    @property
    def row_means(self) -> Float64:
        """r_u = mean_v D_uv, shape (m,)."""
        return self._sums.row_means

    @property
    def grand_mean(self) -> float:
        """r̄ = mean_u r_u."""
        return self._sums.grand_mean

    @cached_property
    def frobenius_norm(self) -> float:
        """‖W‖_F, exact to 1e-12 relative: no truncated sum over eigenvalues.

        ‖W‖_F² = (‖D − c‖_F² − 2m Σ(r_u − c)² + m² (r̄ − c)²) / 4 from the first pass, for a
        constant c near the mean of D, because L D L does not see c and the difference then
        cancels little. If it still cancels more than float64 can spare, the tiles are read once
        more and ‖W‖_F² = ¼ Σ (D_uv − r_u − r_v + r̄)² is summed directly.
        """
        sums = self._sums
        square = sums.centred_square()
        if sums.rounding() > _NORM_ACCURACY * square:
            square = math.fsum(part for _, part in self._run(self._centred_square))
        return math.sqrt(square) / 2

    def apply(self, vectors: Float64) -> Float64:
        """W V for V of shape (m, b), float64; one pass over D."""
        centred = vectors - vectors.mean(axis=0)
        product = np.zeros_like(centred)

        def multiply(tile: Tile) -> tuple[Float64, Float64 | None]:
            values = self._read(tile)
            rows, columns = self._bands(tile)
            right = values @ centred[columns]
            return right, None if tile[0] == tile[1] else values.T @ centred[rows]

        for tile, (right, left) in self._run(multiply):
            rows, columns = self._bands(tile)
            product[rows] += right
            if left is not None:
                product[columns] += left
        product -= product.mean(axis=0)
        return np.asarray(-0.5 * product)

    def dense(self) -> Float64:
        """W itself, shape (m, m) float64, exactly symmetric; for small m."""
        centred = np.empty((self.n_models, self.n_models))
        for tile in self.grid.tiles():
            rows, columns = self._bands(tile)
            centred[rows, columns] = -0.5 * self._centred_tile(tile)
            centred[columns, rows] = centred[rows, columns].T
        return centred

    @cached_property
    def _sums(self) -> "_Sums":
        """The first pass: validates every tile and sums D − c and (D − c)²."""
        shift = _mean_off_diagonal(self._read((0, 0)))
        row_sums = np.zeros(self.n_models)
        parts = []
        for tile, part in self._run(lambda tile: self._measure(tile, shift)):
            rows, columns = self._bands(tile)
            row_sums[rows] += part.row_sums
            if tile[0] != tile[1]:
                row_sums[columns] += part.column_sums
            parts.append(part)
        self._check_entries(parts)
        return _Sums(shift, row_sums / self.n_models, math.fsum(part.square for part in parts))

    def _measure(self, tile: Tile, shift: float) -> "_Part":
        values = self._read(tile)
        check_finite(values, self.grid, tile)
        twice = 1 if tile[0] == tile[1] else 2
        diagonal = np.abs(np.diagonal(values)).max() if twice == 1 else 0.0
        least, largest = values.min(), values.max()
        values = values - shift
        return _Part(
            tile=tile,
            row_sums=values.sum(axis=1),
            column_sums=values.sum(axis=0),
            square=twice * float(np.vdot(values, values)),
            wrong_by=float(max(diagonal, -least)),
            largest=float(max(largest, -least)),
        )

    def _check_entries(self, parts: list["_Part"]) -> None:
        # What counts as rounding is known only once the largest entry is.
        tolerance = TOLERANCE[4] * max(part.largest for part in parts)
        for part in parts:
            if part.wrong_by > tolerance:
                check_tile(self._read(part.tile), self.grid, part.tile, tolerance)

    def _centred_tile(self, tile: Tile) -> Float64:
        """(L D L) on `tile`: D_uv − r_u − r_v + r̄, with D and r taken relative to the shift c."""
        rows, columns = self._bands(tile)
        sums = self._sums
        values = self._read(tile) - sums.shift
        values -= sums.shifted_means[rows, None]
        values -= sums.shifted_means[columns] - sums.shifted_grand_mean
        return values

    def _centred_square(self, tile: Tile) -> float:
        values = self._centred_tile(tile)
        return float(np.vdot(values, values)) * (1 if tile[0] == tile[1] else 2)

    def _run(self, function: Callable[[Tile], Result]) -> Iterator[tuple[Tile, Result]]:
        """Results of `function` in tile order, with BLAS held to one thread, reported."""
        with threadpool_limits(1, user_api="blas"):
            results = map_tiles(function, self.grid.tiles(), self._executor)
            for done, item in enumerate(results, start=1):
                self._report(done, self.grid.n_tiles)
                yield item

    def _bands(self, tile: Tile) -> tuple[slice, slice]:
        return self.grid.band(tile[0]), self.grid.band(tile[1])

    def _read(self, tile: Tile) -> Float64:
        return np.asarray(self._tiles.read_tile(tile), dtype=np.float64)


@dataclass(frozen=True)
class _Part:
    """What one tile adds to the first pass, and how far its entries are from those of a D."""

    tile: Tile
    row_sums: Float64
    column_sums: Float64
    square: float
    wrong_by: float
    largest: float


@dataclass(frozen=True)
class _Sums:
    """What the first pass over D − c gives."""

    shift: float
    shifted_means: Float64
    shifted_square: float

    @property
    def row_means(self) -> Float64:
        return self.shifted_means + self.shift

    @property
    def shifted_grand_mean(self) -> float:
        return math.fsum(self.shifted_means) / len(self.shifted_means)

    @property
    def grand_mean(self) -> float:
        return self.shifted_grand_mean + self.shift

    def centred_square(self) -> float:
        """‖L D L‖_F² from the sums; may be lost to cancellation, see `rounding`."""
        m = len(self.shifted_means)
        rows = math.fsum(self.shifted_means**2)
        return math.fsum((self.shifted_square, -2 * m * rows, (m * self.shifted_grand_mean) ** 2))

    def rounding(self) -> float:
        """How wrong `centred_square` may be: each of its terms is right to about 4 roundings."""
        return 4 * float(np.finfo(float).eps) * self.shifted_square


def _mean_off_diagonal(values: Float64) -> float:
    n = len(values)
    return float((values.sum() - np.trace(values)) / (n * n - n)) if n > 1 else 0.0


def _silent(done: int, total: int) -> None:
    """Report nothing."""
