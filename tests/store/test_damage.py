"""Whatever happens to a file of an ensemble is found, named, and never read as a number."""

import shutil

import pytest

import inpca
from inpca.errors import DamagedStoreError
from inpca.summary import describe_ensemble


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def flip_index(path):
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)


HARM = [flip, zero, truncate, empty, delete]


@pytest.mark.parametrize("harm", [*HARM, flip_index])
def test_harmed_shard__is_found_and_named(recorded, harm):
    key = "runs/mlp.zarr/train/log_prob/c.1.0.0"
    source = recorded.predictions("train")
    harm(recorded.path / key)
    with pytest.raises(
        DamagedStoreError,
        match=r"c\.1\.0\.0.*run 'mlp', checkpoint 1, sample set 'train'.*restart=True",
    ):
        source.read(slice(None), slice(None))
    found = recorded.check()
    assert [damage.key for damage in found] == [key]
    assert "restart=True" in found[0].reason
    source.read(slice(0, 5), slice(None))  # the others are as they were


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("name", ["step", "train_loss"])
def test_harmed_scalar__is_found_and_named(recorded, harm, name):
    harm(recorded.path / "runs" / "cnn.zarr" / name / "c.0")
    with pytest.raises(DamagedStoreError, match=rf"cnn\.zarr/{name}/c\.0"):
        _ = inpca.open_ensemble(recorded.path).models
    assert [damage.key for damage in recorded.check()] == [f"runs/cnn.zarr/{name}/c.0"]


@pytest.mark.parametrize("harm", HARM)
def test_harmed_digest__is_found_and_named(recorded, harm):
    harm(recorded.path / "runs/cnn.zarr/test/digest/c.0")
    with pytest.raises(DamagedStoreError, match=r"test/digest/c\.0"):
        recorded.predictions("test").fingerprint()
    assert [damage.key for damage in recorded.check()] == ["runs/cnn.zarr/test/digest/c.0"]


def test_swapped_shards__are_found_by_their_digest(recorded):
    folder = recorded.path / "runs/cnn.zarr/test/log_prob"
    shutil.copy(folder / "c.1.0.0", folder / "c.2.0.0")
    found = recorded.check()
    assert [damage.key for damage in found] == ["runs/cnn.zarr/test/log_prob/c.2.0.0"]
    assert "not the chunk that was written here" in found[0].reason
    with pytest.raises(DamagedStoreError, match="not the chunk that was written here"):
        recorded.run("cnn").log_probs("test", 2, slice(0, 3))


@pytest.mark.parametrize("harm", [empty, truncate, zero])
def test_harmed_root__is_found_and_named(recorded, harm):
    harm(recorded.path / "runs/cnn.zarr/zarr.json")
    with pytest.raises(DamagedStoreError, match=r"cnn\.zarr/zarr\.json"):
        recorded.run("cnn")
    assert [damage.key for damage in recorded.check()] == ["runs/cnn.zarr/zarr.json"]


@pytest.mark.parametrize("harm", HARM)
def test_harmed_labels__are_found_and_named(recorded, harm):
    harm(recorded.path / "samples/train.zarr/label/c.0")
    with pytest.raises(DamagedStoreError, match=r"train\.zarr/label/c\.0"):
        inpca.open_ensemble(recorded.path)
    assert [damage.key for damage in recorded.check()] == ["samples/train.zarr/label/c.0"]


def test_deleted_or_exchanged_sample_set__is_an_error(recorded):
    samples = recorded.path / "samples"
    shutil.move(samples / "train.zarr", samples / "gone")
    with pytest.raises(DamagedStoreError, match="'train' is missing"):
        inpca.open_ensemble(recorded.path)
    shutil.copytree(samples / "test.zarr", samples / "train.zarr")
    with pytest.raises(DamagedStoreError, match=r"'train'.*is not the one"):
        inpca.open_ensemble(recorded.path)


def test_check__of_a_whole_ensemble__finds_nothing(recorded):
    assert recorded.check() == []


def test_hidden_files_of_a_desktop__are_in_nobodys_way(recorded):
    inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))
    inpca.InPCA(2).fit(recorded).save(recorded.embeddings_path("train"))
    for folder in [recorded.path, *(one for one in recorded.path.rglob("*") if one.is_dir())]:
        for name in (".DS_Store", "._cnn.zarr", "Thumbs.db"):
            (folder / name).write_bytes(b"of a desktop")
    ensemble = inpca.open_ensemble(recorded.path)
    assert ensemble.check() == []
    assert len(ensemble.models) == 7
    assert list(describe_ensemble(ensemble)["distances"]) == ["train"]
    ensemble.tidy()
    assert ensemble.check() == []
