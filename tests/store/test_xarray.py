"""Every store opens in xarray with named dimensions; warnings are errors here."""

import numpy as np
import pytest

from inpca.store.embedding import write_embedding
from inpca.store.matrix import TiledMatrix

xarray = pytest.importorskip("xarray")


def test_xarray__opens_a_run_and_its_sets(recorded):
    path = recorded.path / "runs" / "cnn.zarr"
    root = xarray.open_zarr(path)
    assert dict(root.sizes) == {"checkpoint": 4}
    assert root["step"].values.tolist() == [0, 10, 20, 30]
    assert root["train_loss"].attrs["units"] == "nat"
    assert root.attrs["config"]["architecture"] == "cnn"
    train = xarray.open_zarr(path, group="train")
    assert train["log_prob"].dims == ("checkpoint", "sample", "class")
    expected = recorded.select("run == 'cnn'").predictions().read(slice(None), slice(None))
    np.testing.assert_array_equal(train["log_prob"].values, expected)


def test_xarray__sees_only_what_is_committed(recorded, probs, monkeypatch):
    from inpca import durable

    path = recorded.path / "runs" / "mlp.zarr"
    real = durable.write_bytes

    def write_bytes(target, data, **options):
        if target == path / "zarr.json":
            raise KeyboardInterrupt
        real(target, data, **options)

    monkeypatch.setattr(durable, "write_bytes", write_bytes)
    one = {"train": probs(1)[0], "test": probs(1, 7)[0]}
    with recorded.start_run("mlp", resume=True) as writer, pytest.raises(KeyboardInterrupt):
        writer.append(one, "probs", step=9, epoch=9)
    assert (path / "train" / "log_prob" / "c.3.0.0").exists()
    for group in (None, "train", "test"):
        assert xarray.open_zarr(path, group=group).sizes["checkpoint"] == 3


def test_xarray__opens_a_run_as_a_tree(recorded):
    tree = xarray.open_datatree(recorded.path / "runs" / "cnn.zarr", engine="zarr")
    assert set(tree.children) == {"train", "test"}
    tree.close()


def test_xarray__opens_sample_sets(recorded):
    samples = xarray.open_zarr(recorded.path / "samples" / "train.zarr")
    assert samples["label"].dims == ("sample",)
    labels = recorded.sample_sets["train"].labels
    np.testing.assert_array_equal(samples["label"].values, labels)


def test_xarray__opens_a_matrix_with_its_models(recorded, tmp_path):
    models = recorded.models
    matrix = TiledMatrix.create(
        tmp_path / "D.zarr", n_models=7, tile_size=3, fingerprint="f", models=models
    )
    for tile in matrix.grid.tiles():
        matrix.write_tile(tile, np.ones(matrix.grid.shape(tile), np.float32))
    opened = xarray.open_zarr(matrix.path)
    assert opened["distance"].dims == ("model", "model_other")
    assert float(opened["distance"].sel(model="mlp/0")[6]) == 1
    table = xarray.open_zarr(matrix.path, group="models")
    assert {array.dims for array in table.values()} == {("model",)}
    assert table["architecture"].values.tolist() == models["architecture"].tolist()


def test_xarray__opens_an_embedding_with_its_models(recorded, tmp_path):
    arrays = {"coordinates": np.zeros((7, 2)), "eigenvalues": np.ones(2)}
    write_embedding(tmp_path / "e.zarr", arrays, recorded.models, {})
    opened = xarray.open_zarr(tmp_path / "e.zarr")
    assert opened["coordinates"].dims == ("model", "component")
    assert opened["eigenvalues"].attrs["units"] == "nat"
    assert opened["model"].values.tolist() == recorded.models.index.tolist()
    table = xarray.open_zarr(tmp_path / "e.zarr", group="models")
    np.testing.assert_array_equal(table["step"], recorded.models["step"])
