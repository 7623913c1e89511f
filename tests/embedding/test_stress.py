"""Explained stress (Eq. 8, both forms) and explained pairwise distances (Eq. 12)."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import inpca
from inpca import InputError
from inpca.embedding.stress import (
    explained_pairwise_distances,
    explained_stress,
    explained_stress_root,
)
from inpca.embedding.tiles import ArrayTiles
from inpca.tiling import TileGrid

Array = NDArray[np.float64]


def test_explained_stress__is_equation_8() -> None:
    values = np.array([3.0, -2.0, 1.0, -0.5])
    norm = float(np.linalg.norm(values))
    expected = [1 - (values[d:] ** 2).sum() / (values**2).sum() for d in range(1, 5)]
    assert explained_stress(values, norm) == pytest.approx(expected)
    assert explained_stress_root(values, norm) == pytest.approx(
        [1 - np.sqrt(1 - min(one, 1)) for one in expected], abs=1e-7
    )


def test_explained_stress__needs_only_the_kept_eigenvalues_and_the_norm() -> None:
    values = np.array([3.0, -2.0, 1.0, -0.5])
    norm = float(np.linalg.norm(values))
    assert explained_stress(values[:2], norm) == pytest.approx(explained_stress(values, norm)[:2])


def test_nothing_to_explain__is_explained() -> None:
    assert explained_stress([0.0, 0.0], 0.0).tolist() == [1, 1]
    assert explained_stress_root([0.0, 0.0], 0.0).tolist() == [1, 1]


def equation_12(d: Array, x: Array, signature: Array) -> Array:
    """As printed, forming everything."""
    result = []
    for k in range(1, x.shape[1] + 1):
        squares = ((x[:, None, :k] - x[None, :, :k]) ** 2) @ signature[:k]
        result.append(1 - np.abs(d - squares).sum() / d.sum())
    return np.array(result)


@given(
    m=st.integers(2, 40),
    k=st.integers(1, 6),
    tile_size=st.integers(1, 45),
    seed=st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_explained_pairwise_distances__are_equation_12_for_any_tiling(
    m: int, k: int, tile_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    d = rng.uniform(0.1, 1, size=(m, m))
    d = (d + d.T) * (1 - np.eye(m))
    x, signature = rng.normal(size=(m, k)), rng.choice([-1, 1], size=k)
    tiles = ArrayTiles(d, tile_size)
    ours = explained_pairwise_distances(tiles, x, signature, executor="serial")
    assert ours == pytest.approx(equation_12(d, x, signature), rel=1e-10)


def test_explained_pairwise_distances__of_the_full_embedding_are_1() -> None:
    rng = np.random.default_rng(0)
    d = rng.uniform(0.5, 1, size=(300, 300))
    d = (d + d.T) * (1 - np.eye(300))
    embedding = inpca.InPCA(n_components=299, metric="precomputed").fit(d)
    explained = inpca.explained_pairwise_distances(d, embedding.embedding_, embedding.signature_)
    assert explained[-1] == pytest.approx(1, abs=1e-10)
    assert explained[:3] == pytest.approx(
        equation_12(d, embedding.embedding_[:, :3], embedding.signature_[:3])
    )


def test_every_worker_count__gives_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 4))
    d = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    results = [
        explained_pairwise_distances(ArrayTiles(d, 16), x, [1, 1, 1, 1], executor=n).tobytes()
        for n in ("serial", 1, 3)
    ]
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("x", "signature", "message"),
    [
        (np.zeros((4, 2)), [1, 1], r"`embedding` must have shape \(3, k\)"),
        (np.zeros((3, 2)), [1], "`signature` must hold"),
        (np.zeros((3, 2)), [1, 0], "`signature` must hold"),
    ],
)
def test_bad_arguments__are_refused(x: Array, signature: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        explained_pairwise_distances(1 - np.eye(3), x, signature)


def test_zero_distances__are_refused() -> None:
    with pytest.raises(InputError, match="zero everywhere"):
        explained_pairwise_distances(np.zeros((3, 3)), np.zeros((3, 1)), [1])


# --- weights, projected models, memory --------------------------------------------------------


def squares(x: Array, signature: Array) -> Array:
    return ((x[:, None] - x[None]) ** 2) @ signature


@given(seed=st.integers(0, 20), tile_size=st.integers(1, 20))
@settings(max_examples=15, deadline=None)
def test_weights__count_models_as_often_as_copies_would(seed: int, tile_size: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.uniform(0.1, 1, size=(15, 15))
    d = (d + d.T) * (1 - np.eye(15))
    x, signature = rng.normal(size=(15, 3)), np.array([1, -1, 1])
    weights = rng.integers(0, 4, size=15)
    copies = np.repeat(np.arange(15), weights)
    ours = explained_pairwise_distances(ArrayTiles(d, tile_size), x, signature, weights=weights)
    theirs = explained_pairwise_distances(d[np.ix_(copies, copies)], x[copies], signature)
    assert ours == pytest.approx(theirs, rel=1e-10)


def test_projected_models__are_explained_by_the_same_function() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(40, 2)), np.zeros((40, 1))], axis=1)
    d = squares(x, np.array([1.0, -1.0, 1.0]))
    d = np.maximum(d, 0)  # a divergence: light-like pairs are at distance zero
    embedding = inpca.InPCA(3, metric="precomputed").fit(d[:10, :10])
    projected = embedding.transform(d[:, :10])
    ours = explained_pairwise_distances(d, projected, embedding.signature_)
    assert ours == pytest.approx(equation_12(d, projected, embedding.signature_), rel=1e-10)


class Computed:
    """Distances of points on a line, computed when a tile is read: nothing is in memory."""

    def __init__(self, n_models: int, tile_size: int) -> None:
        self.grid = TileGrid(n_models, tile_size)
        self.x = np.random.default_rng(0).normal(size=n_models).astype(np.float32)

    def read_tile(self, tile: tuple[int, int]) -> Array:
        rows, columns = self.x[self.grid.band(tile[0])], self.x[self.grid.band(tile[1])]
        return np.subtract.outer(rows, columns) ** 2


@pytest.mark.parametrize("weights", [None, np.ones(3000)], ids=["equal", "weighted"])
def test_memory__is_that_of_a_few_tiles(weights: Array | None) -> None:
    tiles = Computed(3000, 128)
    points = np.stack([tiles.x, np.zeros(3000)], axis=1)
    tracemalloc.start()
    try:
        explained = explained_pairwise_distances(
            tiles, points, [1, 1], weights=weights, executor="serial"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert explained == pytest.approx(1, abs=1e-6)
    assert peak < 2_000_000  # D itself has 36 MB


def test_bad_weights__are_refused() -> None:
    with pytest.raises(InputError, match="`weights` are all 0"):
        explained_pairwise_distances(1 - np.eye(3), np.ones((3, 1)), [1], weights=[0, 0, 0])
