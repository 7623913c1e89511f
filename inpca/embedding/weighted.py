"""Weighted InPCA: √w W₀ √w as an operator around W, and its eigenvectors per model."""

import math
from functools import cached_property
from typing import cast

import numpy as np

from inpca.backend import as_float64, concatenate, namespace, to_host, to_like
from inpca.embedding.centring import CentredOperator, TileReport
from inpca.embedding.pairs import Float64
from inpca.embedding.scale import check_digits, scaled
from inpca.embedding.tiles import (
    DistanceTiles,
    ExecutorArgument,
    as_tiles,
    map_tiles,
    place_of,
    telling_replaced,
)
from inpca.predictions import Floats
from inpca.tiling import Tile

# Below this share of the largest √w but one an entry of u says less than a projection does.
_LEAST_SHARE = 1e-3


class WeightedOperator:
    """√w W₀ √w as a function ``apply(V)``: the face of `CentredOperator`, for weighted models.

    W₀ = −½ L_w D L_wᵀ with L_w = I − 1 pᵀ and p = w / Σw is W centred by the weighted means.
    Since L_w L = L_w it is L_w W L_wᵀ, so that D is multiplied by `CentredOperator` alone.
    Weights that are whole numbers give what as many copies of each model would.

    All is reckoned from the heaviest model b. What is added to a row and to the column of the
    same model does not change W₀, so that D_uv − D_bu − D_bv does for D. Its row b is 0: however
    much b outweighs the others, its weight multiplies no rounding.

    Parameters
    ----------
    distances, executor, report : see `CentredOperator`
    weights : (m,) at least 0, not all 0

    Notes
    -----
    Each pass takes one vector more, p − e_b, from which the weighted row means follow: they need
    no pass of their own, and a pass that is repeated after a kill has the same bytes. The tiles of
    row b are read once more. ‖√w W₀ √w‖_F
    is summed in a pass of its own, since its sum over W₀ needs the means. Models of weight 0 need
    another, if there are any.
    """

    def __init__(
        self,
        distances: Floats | DistanceTiles,
        weights: Float64,
        executor: ExecutorArgument = None,
        report: TileReport | None = None,
    ) -> None:
        tiles = as_tiles(distances)
        self._centred = CentredOperator(tiles, executor, report)
        self._tiles = tiles
        self._executor = executor
        self._like = place_of(tiles)
        # An even power of two is taken out, that of the heaviest weight but one: this is what the
        # entries of √w W₀ √w are like, since the heaviest model is near the centre.
        second = float(np.partition(weights, -2)[-2]) if len(weights) > 1 else 0.0
        self._exponent = 2 * (math.frexp(second)[1] // 2)
        self._weights = scaled(weights, -self._exponent)
        self._roots = np.sqrt(self._weights)
        self._usual_root = math.sqrt(float(scaled(second, -self._exponent)))
        self._share = self._weights / math.fsum(self._weights)
        self._heaviest = int(weights.argmax())
        # p − e_b; as a sum of the others its entry b keeps its digits.
        self._others = self._share.copy()
        self._others[self._heaviest] = 0.0
        self._others[self._heaviest] = -math.fsum(self._others)
        self._image_of_others: Float64 | None = None

    @property
    def n_models(self) -> int:
        """m, the rows of W₀."""
        return self._centred.n_models

    @property
    def row_means(self) -> Float64:
        """r_u = Σ_v p_v D_uv, shape (m,)."""
        image = self._known_image()
        shift = math.fsum(self._others * self._centred.row_means)
        means = self._from_heaviest + (shift - 2 * image)
        means[self._heaviest] = math.fsum(self._share * self._from_heaviest)
        return np.asarray(means)

    @property
    def grand_mean(self) -> float:
        """r̄ = Σ_u p_u r_u."""
        return math.fsum(self._share * self.row_means)

    @cached_property
    def frobenius_norm(self) -> float:
        """‖√w W₀ √w‖_F = ½ √(Σ_uv w_u w_v (D_uv − r_u − r_v + r̄)²), one pass over D."""
        tiles, exponent = self._centred.tiles
        image = self._known_image()
        far = scaled(self._from_heaviest, -exponent)
        means = scaled(-2 * (image - image[self._heaviest]), -exponent)
        grand_mean = math.fsum(self._share * means)
        grid = tiles.grid

        def square(tile: Tile, stored: Floats) -> float:
            rows, columns = grid.band(tile[0]), grid.band(tile[1])
            values = as_float64(stored)
            values -= to_like(far[rows, None], self._like)
            values -= to_like(far[columns], self._like)
            if rows.start <= self._heaviest < rows.stop:
                values[self._heaviest - rows.start, :] = 0.0
            if columns.start <= self._heaviest < columns.stop:
                values[:, self._heaviest - columns.start] = 0.0
            values -= to_like(means[rows, None], self._like)
            values -= to_like(means[columns] - grand_mean, self._like)
            values *= to_like(self._roots[rows, None], self._like)
            values *= to_like(self._roots[columns], self._like)
            values *= values
            both = 1 if tile[0] == tile[1] else 2
            return both * float(namespace(values).sum(values))

        parts = map_tiles(square, tiles, self._executor)
        norm = math.sqrt(math.fsum(part for _, part in parts)) / 2
        check_digits(norm, "The entries of W, by ‖W‖_F,", exponent + self._exponent)
        return float(scaled(norm, exponent + self._exponent))

    def apply(self, vectors: Float64) -> Float64:
        """√w W₀ √w V for V of shape (m, b), float64; one pass over D. Both lie where D does."""
        product = self._image(vectors)
        product *= to_like(self._roots[:, None], self._like)
        return cast(Float64, scaled(product, self._exponent))

    def per_model(self, eigenvalues: Float64, vectors: Float64) -> Float64:
        """v = u / √w from eigenvectors u, NumPy's: coordinates are v √|λ|, for every model.

        Σ_u w_u v_u = 0 where λ is not 0, exactly, which is what makes projection blind to what is
        added to all distances of a model. A model of weight 0 has W₀ (w v) / λ, its projection;
        so has one of so little weight that u / √w would be mostly the rounding of u.
        """
        extended = eigenvalues != 0
        eigenvalues = scaled(eigenvalues, -self._exponent)
        along = self._roots @ vectors / math.fsum(self._weights)
        vectors = vectors - np.outer(self._roots, np.where(extended, along, 0.0))
        heaviest = self._roots == self._roots[self._heaviest]
        if heaviest.sum() == 1:  # its entry is the rounding of what the others add up to
            rest = np.where(heaviest, 0.0, self._roots) / self._roots[self._heaviest] @ vectors
            vectors[self._heaviest, extended] = -rest[extended]
        counts = self._roots > _LEAST_SHARE * self._usual_root
        found = np.zeros_like(vectors)
        found[counts] = vectors[counts] / self._roots[counts, None]
        if not counts.all() and extended.any():
            image = to_host(self._image(to_like(vectors[:, extended], self._like)))
            found[np.ix_(~counts, extended)] = image[~counts] / eigenvalues[extended]
        found = signed_by_counting(found, self._weights)
        return cast(Float64, scaled(found, -(self._exponent // 2)))

    def working_bytes(self, block: int) -> int:
        """Memory of a pass with `block` vectors, beside the vectors themselves."""
        return self._centred.working_bytes(block + 1) + 2 * self.n_models * (block + 1) * 8

    def dense(self) -> Float64:
        """√w W₀ √w itself, shape (m, m) float64; for small m."""
        return cast(Float64, scaled(*self.dense_in_unit()))

    def dense_in_unit(self) -> tuple[Float64, int]:
        """See `CentredOperator.dense_in_unit`."""
        tiles, exponent = self._centred.tiles
        grid = tiles.grid
        centred = np.empty((grid.n_models, grid.n_models))
        for tile, values in map_tiles(lambda _, stored: to_host(stored), tiles, self._executor):
            rows, columns = grid.band(tile[0]), grid.band(tile[1])
            centred[columns, rows] = values.T
            centred[rows, columns] = values
            if tile[0] == tile[1]:
                centred[rows, columns] = (centred[rows, columns] + centred[rows, columns].T) / 2
        far = scaled(self._from_heaviest, -exponent)
        centred -= np.add.outer(far, far)
        centred[self._heaviest, :] = 0.0
        centred[:, self._heaviest] = 0.0
        means = centred @ self._share
        centred -= np.add.outer(means, means)
        centred += math.fsum(self._share * means)
        centred *= np.multiply.outer(self._roots, self._roots)
        centred *= -0.5
        return centred, exponent + self._exponent

    @cached_property
    def _from_heaviest(self) -> Float64:
        """D_bv of the heaviest model b, (m,)."""
        grid = self._tiles.grid
        band, at = divmod(self._heaviest, grid.tile_size)
        row = np.empty(grid.n_models)
        with telling_replaced(self._tiles):
            for other in range(grid.n_bands):
                values = self._tiles.read_tile((min(band, other), max(band, other)))
                row[grid.band(other)] = to_host(values[:, at] if other < band else values[at, :])
        row[self._heaviest] = 0.0
        return row

    def _known_image(self) -> Float64:
        """W (p − e_b), of the last pass; if there was none yet, of a pass for it alone."""
        if self._image_of_others is None:
            others = to_like(self._others[:, None], self._like)
            self._image_of_others = to_host(self._centred.apply(others))[:, 0]
        return self._image_of_others

    def _image(self, vectors: Float64) -> Float64:
        """W₀ √w V."""
        xp = namespace(vectors)
        share = to_like(self._share[:, None], self._like)
        scaled = to_like(self._roots[:, None], self._like) * vectors
        scaled -= share * xp.sum(scaled, axis=0)
        scaled[self._heaviest, :] = 0.0
        scaled[self._heaviest, :] = -xp.sum(scaled, axis=0)
        others = to_like(self._others[:, None], self._like)
        image = self._centred.apply(concatenate([scaled, others], axis=1))
        self._image_of_others = np.array(to_host(image[:, -1]))
        image = image[:, :-1]
        image = image - image[self._heaviest, :]
        image -= share.T @ image
        return image


def signed_by_counting(vectors: Float64, weights: Float64) -> Float64:
    """Each column with the sign that makes its largest entry > 0 among models with a weight."""
    counting = np.where(weights[:, None] > 0, vectors, 0.0)
    largest = np.abs(counting).argmax(axis=0)
    signs = np.sign(counting[largest, np.arange(vectors.shape[1])])
    return np.asarray(vectors * np.where(signs == 0, 1.0, signs))
