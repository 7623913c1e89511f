"""Embeddings by some samples alone and by the others alone."""

import naive
import numpy as np
import pytest

import inpca
from inpca.errors import InputError
from inpca.geometry.split import split_embedding

M, N, C = 30, 10, 3


@pytest.fixture
def models():
    return naive.random_models(M, N, C, seed=1)


def test_each_part__is_the_embedding_of_its_own_samples(models):
    D = inpca.pairwise_distances(models, kind="log_probs")
    found = split_embedding(models, D, [2, 3, 8], n_components=4, kind="log_probs")
    chosen = inpca.InPCA(4, kind="log_probs").fit(models[:, [2, 3, 8]])
    assert found.embeddings["chosen"].eigenvalues_ == pytest.approx(chosen.eigenvalues_)
    parts = found.explained.groupby("part")["n_samples"].first()
    assert parts.to_dict() == {"chosen": 3, "rest": 7}


def test_distances_of_the_parts__make_up_all_distances(models, tmp_path):
    D = inpca.pairwise_distances(models, kind="log_probs")
    split_embedding(models, D, np.arange(N) < 4, kind="log_probs", out=tmp_path)
    parts = {name: inpca.TiledMatrix.open(tmp_path / f"{name}.zarr").to_array() for name in
             ("chosen", "rest")}  # fmt: skip
    assert 0.4 * parts["chosen"] + 0.6 * parts["rest"] == pytest.approx(D, abs=1e-6)


def test_all_coordinates__explain_the_own_distances(models):
    D = inpca.pairwise_distances(models, kind="log_probs")
    found = split_embedding(models, D, [0, 1], n_components=M - 1, kind="log_probs").explained
    last = found[found["d"] == found["d"].max()].set_index("part")
    assert last.loc["chosen", "own"] == pytest.approx(1, abs=1e-6)
    assert last.loc["chosen", "all"] < 0.99


def test_samples__must_leave_some_and_take_some(models):
    D = inpca.pairwise_distances(models, kind="log_probs")
    with pytest.raises(InputError, match="nothing is left"):
        split_embedding(models, D, np.ones(N, bool), kind="log_probs")
    with pytest.raises(InputError, match="no sample is chosen"):
        split_embedding(models, D, np.zeros(N, bool), kind="log_probs")
    with pytest.raises(InputError, match="`D` is of 29 models"):
        split_embedding(models, D[1:, 1:], [0], kind="log_probs")


def test_new_models__are_placed_by_distances_over_the_same_samples(models, tmp_path):
    D = inpca.pairwise_distances(models, kind="log_probs")
    found = split_embedding(models, D, [2, 3, 8], kind="log_probs").embeddings["chosen"]
    own = inpca.pairwise_distances(models[:2, [2, 3, 8]], models[:, [2, 3, 8]], kind="log_probs")
    np.testing.assert_allclose(found.transform(own), found.embedding_[:2], atol=1e-6)
    found.save(tmp_path / "chosen.zarr")
    loaded = inpca.load_embedding(tmp_path / "chosen.zarr")
    assert loaded.samples_.tolist() == [2, 3, 8]
    for embedding in (found, loaded):
        with pytest.raises(InputError, match="of 3 samples, its `samples_`, alone: pass"):
            embedding.transform(models[:2])
