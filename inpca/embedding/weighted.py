"""Weighted InPCA: √w W₀ √w as an operator around W, and its eigenvectors per model."""

import math
from functools import cached_property
from typing import cast

import numpy as np

from inpca.backend import as_float64, concatenate, namespace, to_host, to_like
from inpca.embedding.centring import CentredOperator, TileReport
from inpca.embedding.pairs import Float64
from inpca.embedding.scale import exponent_of, scaled
from inpca.embedding.tiles import DistanceTiles, ExecutorArgument, as_tiles, map_tiles, place_of
from inpca.predictions import Floats
from inpca.tiling import Tile

# Below this share of the largest √w an entry of u says less than a projection does.
_LEAST_SHARE = 1e-3


class WeightedOperator:
    """√w W₀ √w as a function ``apply(V)``: the face of `CentredOperator`, for weighted models.

    W₀ = −½ L_w D L_wᵀ with L_w = I − 1 pᵀ and p = w / Σw is W centred by the weighted means.
    Since L_w L = L_w it is L_w W L_wᵀ, so that D is multiplied by `CentredOperator` alone.
    Weights that are whole numbers give what as many copies of each model would.

    Parameters
    ----------
    distances, executor, report : see `CentredOperator`
    weights : (m,) at least 0, not all 0

    Notes
    -----
    Each pass takes one vector more, p, from which the weighted row means follow: they need no
    pass of their own, and a pass that is repeated after a kill has the same bytes. ‖√w W₀ √w‖_F
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
        self._executor = executor
        self._like = place_of(tiles)
        # An even power of two is taken out of weights whose products float64 could not hold.
        self._exponent = exponent_of(float(weights.max()), even=True)
        self._weights = scaled(weights, -self._exponent)
        self._roots = np.sqrt(self._weights)
        self._share = self._weights / math.fsum(self._weights)
        self._image_of_share: Float64 | None = None

    @property
    def n_models(self) -> int:
        """m, the rows of W₀."""
        return self._centred.n_models

    @property
    def row_means(self) -> Float64:
        """r_u = Σ_v p_v D_uv, shape (m,)."""
        if self._image_of_share is None:
            share = to_like(self._share[:, None], self._like)
            self._image_of_share = to_host(self._centred.apply(share))[:, 0]
        plain = self._centred.row_means
        shift = math.fsum(self._share * plain) - self._centred.grand_mean
        return np.asarray(plain - 2 * self._image_of_share + shift)

    @property
    def grand_mean(self) -> float:
        """r̄ = Σ_u p_u r_u."""
        return math.fsum(self._share * self.row_means)

    @cached_property
    def frobenius_norm(self) -> float:
        """‖√w W₀ √w‖_F = ½ √(Σ_uv w_u w_v (D_uv − r_u − r_v + r̄)²), one pass over D."""
        tiles, exponent = self._centred.tiles
        means, grand_mean = scaled(self.row_means, -exponent), scaled(self.grand_mean, -exponent)
        grid = tiles.grid

        def square(tile: Tile, stored: Floats) -> float:
            rows, columns = grid.band(tile[0]), grid.band(tile[1])
            values = as_float64(stored)
            values -= to_like(means[rows, None], self._like)
            values -= to_like(means[columns] - grand_mean, self._like)
            values *= values
            left, right = (to_like(self._weights[band], self._like) for band in (rows, columns))
            both = 1 if tile[0] == tile[1] else 2
            return both * float(left @ (values @ right))

        parts = map_tiles(square, tiles, self._executor)
        norm = math.sqrt(math.fsum(part for _, part in parts)) / 2
        return float(scaled(scaled(norm, exponent), self._exponent))

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
        counts = self._roots > _LEAST_SHARE * self._roots.max()
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
        centred = self._centred.dense()
        means = centred @ self._share
        centred -= np.add.outer(means, means)
        centred += math.fsum(self._share * means)
        centred *= np.multiply.outer(self._roots, self._roots)
        return cast(Float64, scaled(centred, self._exponent))

    def _image(self, vectors: Float64) -> Float64:
        """W₀ √w V."""
        xp = namespace(vectors)
        share = to_like(self._share[:, None], self._like)
        scaled = to_like(self._roots[:, None], self._like) * vectors
        scaled -= share * xp.sum(scaled, axis=0)
        image = self._centred.apply(concatenate([scaled, share], axis=1))
        self._image_of_share = np.array(to_host(image[:, -1]))
        image = image[:, :-1]
        image -= share.T @ image
        return image


def signed_by_counting(vectors: Float64, weights: Float64) -> Float64:
    """Each column with the sign that makes its largest entry > 0 among models with a weight."""
    counting = np.where(weights[:, None] > 0, vectors, 0.0)
    largest = np.abs(counting).argmax(axis=0)
    signs = np.sign(counting[largest, np.arange(vectors.shape[1])])
    return np.asarray(vectors * np.where(signs == 0, 1.0, signs))
