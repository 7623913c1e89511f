"""The same models on two sample sets in one picture (Eq. 10), in memory, on disk, and back."""

from pathlib import Path

import naive
import numpy as np
import pytest
from numpy.typing import NDArray

import inpca
from inpca import InputError
from inpca.embedding.tiles import ArrayTiles

Array = NDArray[np.float64]


def two_sets(m: int = 30, seed: int = 0) -> tuple[Array, Array]:
    """Distances of models on two sets of samples, where they do similar things."""
    train = naive.random_models(m, 4, 3, seed=seed, sharpness=5.0)
    test = train[:, :3] + 0.3 * np.random.default_rng(seed).normal(size=(m, 3, 3))
    test -= np.log(np.exp(test).sum(axis=-1, keepdims=True))
    return naive.distance(train), naive.distance(test)


def fit(d: Array, k: int, weights: object = None, **options: object) -> inpca.InPCA:
    estimator = inpca.InPCA(k, metric="precomputed", executor="serial", **options)
    return estimator.fit(d, weights=weights)


@pytest.mark.parametrize("tile_size", [1, 7, 100])
def test_joint_embedding__is_equation_10_for_any_tiling(tile_size: int) -> None:
    train, test = two_sets()
    embedding = fit(train, 12)
    assert set(embedding.signature_) == {-1, 1}
    theirs = naive.joint_embedding(test, train, 12)
    own = naive.embedding(train, 12)[0]
    ours = embedding.join("test", ArrayTiles(test, tile_size))
    signs = np.sign((own * embedding.embedding_).sum(axis=0))
    assert ours == pytest.approx(theirs * signs, abs=1e-9)
    assert embedding.joint_["test"] is ours


def test_distances_on_a_device__give_the_same() -> None:
    strict = pytest.importorskip("array_api_strict")
    train, test = two_sets()
    embedding = fit(train, 5)
    there = strict.asarray(test, device=strict.Device("device1"))
    assert embedding.join("test", there) == pytest.approx(embedding.transform(test), abs=1e-10)
    explained = inpca.explained_pairwise_distances(
        there, embedding.joint_["test"], embedding.signature_
    )
    assert explained == pytest.approx(
        inpca.explained_pairwise_distances(test, embedding.joint_["test"], embedding.signature_)
    )


def test_models_that_differ_alike_on_both_sets__lie_where_they_lie() -> None:
    train, _ = two_sets()
    embedding = fit(train, 8)
    assert embedding.join("test", train) == pytest.approx(embedding.embedding_, abs=1e-10)


@pytest.mark.parametrize("weights", [None, np.arange(30.0)], ids=["equal", "weighted"])
def test_joint_embedding__is_the_projection_of_the_rows_of_the_other_distances(
    weights: Array | None,
) -> None:
    train, test = two_sets()
    embedding = fit(train, 8, weights)
    assert embedding.join("test", test) == pytest.approx(embedding.transform(test), abs=1e-10)


def test_joint_coordinates__are_saved_and_more_models_project_among_them(tmp_path: Path) -> None:
    train, test = two_sets()
    embedding = fit(train, 3)
    expected = embedding.join("test", test)
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    assert loaded.joint_.keys() == {"test"}
    assert loaded.joint_["test"].tobytes() == expected.tobytes()
    assert loaded.transform(test[:4]) == pytest.approx(expected[:4], abs=1e-10)
    assert loaded.join("again", test) == pytest.approx(expected, abs=1e-10)


def test_fitting_again__forgets_the_other_sets() -> None:
    train, test = two_sets()
    embedding = fit(train, 3)
    embedding.join("test", test)
    assert embedding.fit(train).joint_ == {}


# --- ensembles -------------------------------------------------------------------------------


def matrix(view: inpca.Ensemble, sample_set: str, name: str) -> inpca.TiledMatrix:
    place = view.distances_path(name)
    return inpca.pairwise_distances(view, sample_set=sample_set, out=place, tile_size=5)


def test_models_on_disk__are_found_by_their_keys_in_any_order(
    small_ensemble: inpca.Ensemble,
) -> None:
    train, test = matrix(small_ensemble, "train", "train"), matrix(small_ensemble, "test", "test")
    keys = ["run-3/2", "run-0/1", "run-2/5", "run-0/0", "run-1/3"]
    embedding = inpca.InPCA(2).fit(train, models=keys)
    ours = embedding.join("test", test)
    positions = test.models.index.get_indexer(keys)
    d = test.to_array()[np.ix_(positions, positions)]
    assert ours == pytest.approx(embedding.transform(d), abs=1e-9)


def test_another_list_of_models__is_refused_by_the_first_that_lacks(
    small_ensemble: inpca.Ensemble,
) -> None:
    embedding = inpca.InPCA(2).fit(small_ensemble.with_references())
    test = matrix(small_ensemble, "test", "test")
    with pytest.raises(InputError, match=r"lacks 2 of 26, the first of them '@ignorance'"):
        embedding.join("test", test)


def test_unfinished_distances__are_refused(small_ensemble: inpca.Ensemble) -> None:
    embedding = inpca.InPCA(2).fit(small_ensemble)
    test = matrix(small_ensemble, "test", "test")
    test.remove_tile((0, 1))
    with pytest.raises(inpca.DamagedStoreError, match="lacks 1 of"):
        embedding.join("test", test)


# --- bad input -------------------------------------------------------------------------------


def test_other_number_of_models__is_refused() -> None:
    train, test = two_sets()
    with pytest.raises(InputError, match=r"between the 30 models of the embedding.*not between 29"):
        fit(train, 3).join("test", test[1:, 1:])


def test_array_that_is_no_distances__is_refused() -> None:
    train, test = two_sets()
    test[3, 4] += 1
    with pytest.raises(InputError, match="D is not symmetric"):
        fit(train, 3).join("test", test)


def test_name_that_could_not_be_an_array__is_refused() -> None:
    train, test = two_sets()
    with pytest.raises(InputError, match="`name` must be letters"):
        fit(train, 3).join("../test", test)
