"""Explained stress (Eq. 8, both forms) and explained pairwise distances (Eq. 12)."""

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
