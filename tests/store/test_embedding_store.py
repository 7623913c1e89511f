"""Saved embeddings: whole or absent, and readable by themselves."""

import numpy as np
import pandas as pd
import pytest

from inpca.errors import DamagedStoreError, InputError
from inpca.store import schema
from inpca.store.embedding import check_embedding, read_embedding, write_embedding


@pytest.fixture
def saved(tmp_path, recorded, rng):
    path = tmp_path / "emb.zarr"
    arrays = {
        "coordinates": rng.normal(size=(7, 3)),
        "eigenvalues": np.array([3.0, -2.0, 1.0]),
        "signature": np.array([1, -1, 1]),
        "row_means": rng.normal(size=7),
        "landmarks": (("landmark",), np.array([4, 2])),
    }
    write_embedding(path, arrays, recorded.models, {"grand_mean": 0.5, "metric": "bhattacharyya"})
    return path, arrays, recorded.models


def test_embedding__is_read_as_written(saved):
    path, arrays, models = saved
    read, table, attrs = read_embedding(path)
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values[1] if name == "landmarks" else values)
    pd.testing.assert_frame_equal(table, models)
    assert attrs == {"grand_mean": 0.5, "metric": "bhattacharyya"}
    assert check_embedding(path) == []


def test_embedding__without_models_is_fine(tmp_path):
    write_embedding(tmp_path / "e", {"coordinates": np.zeros((2, 1))}, None, {})
    assert read_embedding(tmp_path / "e")[1] is None


def test_write_embedding__that_fails__leaves_what_was_there(saved, monkeypatch):
    path, arrays, models = saved

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("inpca.store.layout.encode", fail)
    with pytest.raises(OSError, match="disk full"):
        write_embedding(path, arrays, models, {"new": 1}, overwrite=True)
    assert read_embedding(path)[2] == {"grand_mean": 0.5, "metric": "bhattacharyya"}


@pytest.mark.parametrize(
    ("arrays", "models", "attrs", "message"),
    [
        ({"foo": np.zeros(2)}, None, {}, r"arrays\['foo'\].*not declared"),
        ({"coordinates": np.zeros((2, 3)), "row_means": np.zeros(4)}, None, {}, "2 along 'model'"),
        ({"coordinates": np.zeros(2)}, None, {}, "Dimensions"),
        ({"coordinates": np.zeros((2, 3))}, pd.DataFrame([1]), {}, "`models` must have 2 rows"),
        ({"coordinates": np.zeros((2, 3))}, None, {"a": float("nan")}, "`attrs`"),
        ({"x": (("a",), np.array([object()]))}, None, {}, "numbers or text"),
    ],
)
def test_write_embedding__refuses_what_does_not_fit_and_writes_nothing(
    tmp_path, arrays, models, attrs, message
):
    with pytest.raises(InputError, match=message):
        write_embedding(tmp_path / "e", arrays, models, attrs)
    assert list(tmp_path.iterdir()) == []


def test_write_embedding__replaces_only_an_embedding_and_only_when_told(saved, tmp_path):
    path, arrays, models = saved
    with pytest.raises(InputError, match="overwrite=True"):
        write_embedding(path, arrays, models, {})
    write_embedding(path, arrays, models, {"second": True}, overwrite=True)
    assert read_embedding(path)[2] == {"second": True}
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="embedding"):
        write_embedding(tmp_path / "mine", arrays, models, {}, overwrite=True)


@pytest.mark.parametrize("key", ["coordinates/c.0.0", "models/run/c.0"])
@pytest.mark.parametrize("harm", ["flip", "delete", "truncate"])
def test_harmed_embedding__is_found_and_named(saved, key, harm):
    path, _, _ = saved
    content = (path / key).read_bytes()
    if harm == "flip":
        (path / key).write_bytes(content[:6] + bytes([content[6] ^ 1]) + content[7:])
    elif harm == "truncate":
        (path / key).write_bytes(content[:10])
    else:
        (path / key).unlink()
    with pytest.raises(DamagedStoreError, match=key):
        read_embedding(path)
    assert [damage.key for damage in check_embedding(path)] == [key]


def test_read_embedding__of_what_is_none__is_refused(tmp_path, recorded):
    for path in (tmp_path / "nothing", recorded.path / "runs" / "cnn.zarr"):
        with pytest.raises(InputError, match="`path`"):
            read_embedding(path)


def test_schema__says_of_every_array_what_it_is():
    for group in (schema.SAMPLES, schema.RUN, schema.RUN_SET, schema.MATRIX, schema.EMBEDDING):
        for name, column in group.items():
            assert column.name == name
            assert column.dims
            assert column.unit
            assert column.meaning
