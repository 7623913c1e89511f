"""Stores of format 1, written by inpca before documents were sealed, still serve.

`tests/data/format_1.tar.gz` was written by the last commit of that format: three runs, a finished
matrix, one that lacks two tiles, an embedding, trajectories; and, beside it, what was in them.
"""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca.errors import DamagedStoreError
from inpca.store.matrix import TiledMatrix

DATA = Path(__file__).parent.parent / "data" / "format_1.tar.gz"


@pytest.fixture
def old(tmp_path):
    with tarfile.open(DATA) as archive:
        archive.extractall(tmp_path, filter="data")
    return inpca.open_ensemble(tmp_path / "format_1.ensemble")


@pytest.fixture
def expected(old):
    with np.load(old.path.parent / "expected.npz") as file:
        return dict(file)


def version(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]["inpca"]["format_version"]


def test_old_store__reads_as_it_was_written_and_checks_clean(old, expected):
    assert old.check() == []
    assert old.models.index.tolist() == expected["models"].tolist()
    assert old.models["augment"].tolist() == [False] * 6 + [True] * 6 + [False] * 6
    np.testing.assert_array_equal(old.run("b-0").log_probs("train", 5), expected["log_prob"])
    matrix = TiledMatrix.open(old.distances_path("train"))
    np.testing.assert_array_equal(matrix.to_array(), expected["D"])
    embedding = inpca.load_embedding(old.embeddings_path("train"))
    np.testing.assert_array_equal(embedding.embedding_, expected["coordinates"])
    assert old.run("a-0").observables()["radius"].shape == (6, 3)


def test_old_run__goes_on_and_is_sealed_from_then(old):
    before = old.run("a-0").log_probs("train", 3)
    with old.start_run("a-0", resume=True) as writer:
        hidden = {"train/radius": np.ones(3), "train/centre_distances": np.ones((3, 3))}
        p = {"train": np.full((24, 3), 1 / 3), "test": np.full((6, 3), 1 / 3)}
        writer.append(p, "probs", step=6, epoch=6, observables=hidden)
    assert version(old.path / "runs" / "a-0.zarr") == 2
    assert old.check() == []
    assert old.run("a-0").n_checkpoints == 7
    np.testing.assert_array_equal(old.run("a-0").log_probs("train", 3), before)
    # Its shards have no index, but the digests that they always had.
    shards = old.path / "runs" / "a-0.zarr" / "train" / "log_prob"
    shutil.copy(shards / "c.2.0.0", shards / "c.3.0.0")
    with pytest.raises(DamagedStoreError, match="digest"):
        old.run("a-0").log_probs("train", 3)


def test_old_unfinished_matrix__is_finished_with_the_same_numbers(old, expected):
    path = old.distances_path("begun")
    assert len(TiledMatrix.open(path).missing()) == 2
    matrix = inpca.pairwise_distances(old, out=path)
    np.testing.assert_allclose(matrix.to_array(), expected["D"], rtol=0, atol=1e-6)
    assert old.check() == []


def test_old_matrix__is_extended(old, expected):
    old.add_run("c", {"train": np.full((2, 24, 3), 1 / 3), "test": np.full((2, 6, 3), 1 / 3)})
    path = old.distances_path("train")
    matrix = inpca.pairwise_distances(old, out=path, extend=True)
    assert matrix.shape == (20, 20)
    np.testing.assert_allclose(matrix.to_array()[:18, :18], expected["D"], rtol=0, atol=1e-6)
    assert old.check() == []


def test_old_embedding__projects_and_is_saved_again(old, expected):
    embedding = inpca.load_embedding(old.embeddings_path("train"))
    new = embedding.transform(old.select(["a-0/0", "b-0/5"]))
    wanted = expected["coordinates"][[0, 17]]
    np.testing.assert_allclose(new, wanted, atol=1e-5)
    embedding.save(old.embeddings_path("train"), overwrite=True)
    assert version(old.embeddings_path("train")) == 2
    assert old.check() == []


def test_old_trajectories__go_on(old):
    path = old.path / "trajectories" / "train.zarr"
    shutil.rmtree(path / "0002.zarr")
    found = inpca.trajectory_distances(old, s=[0.2, 0.4, 0.6], out=path)
    assert len(found.s) == 3
    assert old.check() == []
