"""W = −½ L D L as an operator on D, dense or tiled: never formed, each tile read once a pass."""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar, cast

import numpy as np
from threadpoolctl import threadpool_limits

from inpca.backend import (
    as_float64,
    is_elsewhere,
    namespace,
    to_host,
    to_like,
    zeros_at,
)
from inpca.embedding.scale import check_digits, exponent_of, scaled
from inpca.embedding.tiles import (
    TOLERANCE,
    ArrayTiles,
    DistanceTiles,
    ExecutorArgument,
    Float64,
    ScaledTiles,
    as_tiles,
    check_finite,
    check_tile,
    map_tiles,
    place_of,
    telling_replaced,
    tiles_in_memory,
)
from inpca.executor import get_executor
from inpca.predictions import Floats
from inpca.tiling import Tile

TileReport = Callable[[int, int], None]
Result = TypeVar("Result")

# Relative error of ‖W‖_F² beyond which the sums of the first pass are not good enough and the
# centred tiles are read once more.
_NORM_ACCURACY = 1e-12
# Rows of a tile that are converted to float64 and multiplied at a time: they stay in the cache.
# 25 % faster at 64 vectors than whole tiles, 5 % at 128. A constant: it decides the order of sums.
STRIP = 256
DEVICE_STRIP = 2048  # on a device: float64 copies of 128 MiB at most
# Products of tiles that may wait, by the executor's habit of handing out 4 tasks ahead.
_RESULTS_PER_WORKER = 5


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
    A pass reads m²/2 entries. A stored tile T of bands (i, j) is used twice, T V_j and Tᵀ V_i, a
    strip at a time that is converted to float64 and stays in the cache. The first pass, whichever
    it is, also validates the entries and sums them: row means cost no pass of their own.

    Splitting V into two float32 halves and multiplying in float32 was measured: twice the rate
    and twice the work, so no faster, and no longer accumulated in float64.

    Entries too small or too large to be squared in float64 are multiplied by a power of two while
    they are worked on, so that D in any unit gives the same vectors.

    Memory: 4 arrays (m, b) float64, a tile as stored and a strip of it per worker, and the tiles
    that are read ahead.
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
        self._known: _Sums | None = None
        self._exponent = 0
        self._like = place_of(self._tiles)
        self._xp = np if self._like is None else namespace(self._like)
        self.grid = self._tiles.grid

    @property
    def n_models(self) -> int:
        """m, the rows of W."""
        return self.grid.n_models

    @property
    def row_means(self) -> Float64:
        """r_u = mean_v D_uv, shape (m,)."""
        return np.asarray(scaled(self._sums.row_means, self._exponent))

    @property
    def grand_mean(self) -> float:
        """r̄ = mean_u r_u."""
        return float(scaled(self._sums.grand_mean, self._exponent))

    @property
    def tiles(self) -> tuple[DistanceTiles, int]:
        """D times 2^−e, safe to square, and e."""
        _ = self._sums
        return self._tiles, self._exponent

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
        check_digits(math.sqrt(square) / 2, "The entries of W, by ‖W‖_F,", self._exponent)
        return float(scaled(math.sqrt(square) / 2, self._exponent))

    def apply(self, vectors: Float64) -> Float64:
        """W V for V of shape (m, b), float64; one pass over D. Both lie where D does."""
        mean = self._xp.mean
        # L D L does not see what the row means are: only the sums of V and of D V are needed.
        product = self._pass(vectors - mean(vectors, axis=0))
        product -= mean(product, axis=0)
        return cast(Float64, scaled(-0.5 * product, self._exponent))

    def working_bytes(self, block: int) -> int:
        """Memory of a pass with `block` vectors, beside the vectors themselves."""
        n_workers = get_executor(self._executor).n_workers
        side = min(self.n_models, self.grid.tile_size)
        # Per worker a strip, and the products of the tiles that are done and wait to be added.
        working = n_workers * side * (STRIP + 2 * _RESULTS_PER_WORKER * block) * 8
        if self._like is not None:
            return 0
        if isinstance(self._tiles, ArrayTiles):  # views of what the caller holds
            return working
        return working + tiles_in_memory(n_workers) * side * side * 4

    def dense(self) -> Float64:
        """W itself, shape (m, m) float64, exactly symmetric; for small m."""
        return cast(Float64, scaled(*self.dense_in_unit()))

    def dense_in_unit(self) -> tuple[Float64, int]:
        """W times 2^−e, and the e for which its entries keep all their digits; for small m."""
        centred = np.empty((self.n_models, self.n_models))
        sums = self._sums
        for tile, values in self._run(partial(self._centred_tile, sums)):
            rows, columns = self._bands(tile)
            part = -0.5 * to_host(values)
            centred[columns, rows] = part.T
            centred[rows, columns] = (part + part.T) / 2 if tile[0] == tile[1] else part
        return centred, self._exponent

    @property
    def _sums(self) -> "_Sums":
        """What the first pass sums; if there was none yet, a pass for it alone."""
        if self._known is None:
            self._pass(zeros_at(self._like, (self.n_models, 0)))
        assert self._known is not None
        return self._known

    def _pass(self, vectors: Float64) -> Float64:
        """D V, and in the first pass the sums over D; both times 2^−e, see `_exponent`."""
        measure = None if self._known else _Measurement.start(self._tiles)
        product: Float64 = self._xp.zeros_like(vectors)

        def work(tile: Tile, values: Floats) -> _Part:
            rows, columns = self._bands(tile)
            if measure is not None:
                check_finite(values, self.grid, tile)
            with np.errstate(over="ignore", invalid="ignore"):  # then all again, in another unit
                return _use(values, vectors[rows, :], vectors[columns, :], tile, measure)

        for tile, part in self._run(work):
            rows, columns = self._bands(tile)
            with np.errstate(over="ignore", invalid="ignore"):
                product[rows, :] += part.right
                if tile[0] != tile[1]:
                    product[columns, :] += part.left
                if measure is not None:
                    measure.add(part, rows, columns)
        if measure is not None:
            exponent = exponent_of(measure.largest)
            if exponent and not self._exponent:
                # Squares of these entries mean nothing in float64: all again, in another unit.
                self._tiles, self._exponent = ScaledTiles(self._tiles, -exponent), exponent
                return self._pass(vectors)
            self._check_entries(measure)
            self._known = measure.sums()
        return product

    def _check_entries(self, measure: "_Measurement") -> None:
        # What counts as rounding is known only once the largest entry is.
        tolerance = TOLERANCE[4] * measure.largest
        for tile, wrong_by in measure.wrong_by.items():
            if wrong_by > tolerance:
                values = to_host(self._tiles.read_tile(tile))
                check_tile(values, self.grid, tile, tolerance, measure.largest)

    def _centred_tile(self, sums: "_Sums", tile: Tile, stored: Floats) -> Float64:
        """(L D L) on `tile`: D_uv − r_u − r_v + r̄, with D and r taken relative to the shift c."""
        rows, columns = self._bands(tile)
        values: Float64 = as_float64(stored)
        values -= sums.shift
        values -= to_like(sums.shifted_means[rows, None], self._like)
        values -= to_like(sums.shifted_means[columns] - sums.shifted_grand_mean, self._like)
        return values

    def _centred_square(self, tile: Tile, stored: Floats) -> float:
        values = self._centred_tile(self._sums, tile, stored)
        return _square(values) * (1 if tile[0] == tile[1] else 2)

    def _run(
        self, function: Callable[[Tile, Floats], Result]
    ) -> Generator[tuple[Tile, Result], None, None]:
        """Results of `function` in tile order, with BLAS held to one thread, reported."""
        with (
            threadpool_limits(1, user_api="blas"),
            closing(map_tiles(function, self._tiles, self._executor)) as results,
        ):
            for done, item in enumerate(results, start=1):
                self._report(done, self.grid.n_tiles)
                yield item

    def _bands(self, tile: Tile) -> tuple[slice, slice]:
        return self.grid.band(tile[0]), self.grid.band(tile[1])


@dataclass
class _Part:
    """What one tile adds to a pass; in the first one also to the sums, and what is wrong in it."""

    tile: Tile
    right: Float64
    left: Float64
    row_sums: Float64
    column_sums: Float64
    square: float = 0.0
    wrong_by: float = 0.0
    largest: float = 0.0


def _use(
    values: Floats, v_rows: Float64, v_columns: Float64, tile: Tile, measure: "_Measurement | None"
) -> _Part:
    """T V_j and Tᵀ V_i, strip by strip, and on request the sums over T − c."""
    xp = namespace(values)
    (n_rows, n_columns), b = values.shape, v_rows.shape[1]
    on_diagonal = tile[0] == tile[1]
    shapes: tuple[tuple[int, ...], ...] = ((n_rows, b), (n_columns, b), (n_rows,), (n_columns,))
    part = _Part(tile, *(zeros_at(values, shape) for shape in shapes))
    height = DEVICE_STRIP if is_elsewhere(values) else STRIP
    for start in range(0, n_rows, height):
        rows = slice(start, min(start + height, n_rows))
        strip = as_float64(values[rows, :])
        if b:
            part.right[rows, :] = strip @ v_columns
            if not on_diagonal:
                part.left += strip.T @ v_rows[rows, :]
        if measure is not None:
            part.largest = max(part.largest, float(xp.max(xp.abs(strip))))
            part.wrong_by = max(part.wrong_by, -float(xp.min(strip)))
            strip -= measure.shift
            part.row_sums[rows] = xp.sum(strip, axis=1)
            part.column_sums += xp.sum(strip, axis=0)
            part.square += _square(strip)
    if on_diagonal and measure is not None:
        # In the standard it is one of linalg's; cupy and NumPy have it here.
        diagonal = xp.diagonal if hasattr(xp, "diagonal") else xp.linalg.diagonal
        part.wrong_by = max(part.wrong_by, float(xp.max(xp.abs(diagonal(values)))))
    return part


def _square(values: Float64) -> float:
    """Σ x², where `values` is."""
    if is_elsewhere(values):
        return float(namespace(values).sum(values * values))
    return float(np.vdot(values, values))


@dataclass
class _Measurement:
    """The sums over D − c as the first pass adds them up, tile by tile in order."""

    shift: float
    row_sums: Float64
    squares: list[float] = field(default_factory=list)
    wrong_by: dict[Tile, float] = field(default_factory=dict)
    largest: float = 0.0

    @classmethod
    def start(cls, tiles: DistanceTiles) -> "_Measurement":
        with telling_replaced(tiles):
            first = np.asarray(to_host(tiles.read_tile((0, 0))), dtype=np.float64)
        check_finite(first, tiles.grid, (0, 0))
        sums = zeros_at(place_of(tiles), (tiles.grid.n_models,))
        with np.errstate(over="ignore", invalid="ignore"):
            return cls(_mean_off_diagonal(first), sums)

    def add(self, part: _Part, rows: slice, columns: slice) -> None:
        on_diagonal = part.tile[0] == part.tile[1]
        self.row_sums[rows] += part.row_sums
        if not on_diagonal:
            self.row_sums[columns] += part.column_sums
        self.squares.append(part.square if on_diagonal else 2 * part.square)
        self.wrong_by[part.tile] = part.wrong_by
        self.largest = max(self.largest, part.largest)

    def sums(self) -> "_Sums":
        sums = to_host(self.row_sums)
        return _Sums(self.shift, sums / len(sums), math.fsum(self.squares))


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
