"""What we write is Zarr: zarr reads it, and writes the same bytes."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from inpca.errors import InputError
from inpca.store import layout
from inpca.store.layout import CorruptChunk, ShardLayout


def zarr_array(path, document):
    """The array that zarr makes from one of our documents."""
    (path / "zarr.json").write_bytes(layout.to_json(document))
    return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("n_samples", "chunk"), [(30, 30), (30, 7), (30, 10), (1, 1)])
def test_shard__is_byte_for_byte_what_zarr_writes(tmp_path, rng, dtype, n_samples, chunk):
    shard = ShardLayout(n_samples, 3, np.dtype(dtype), chunk)
    values = rng.normal(size=(n_samples, 3)).astype(dtype)
    zarr_array(tmp_path, shard.document(2, {}))[1] = values
    assert (tmp_path / "c.1.0.0").read_bytes() == shard.encode(values)


def test_shard_document__is_what_zarr_writes(tmp_path):
    array = zarr.create_array(
        tmp_path,
        shape=(2, 30, 3),
        shards=(1, 35, 3),
        chunks=(1, 7, 3),
        dtype="float32",
        filters=None,
        compressors=Crc32cCodec(),
        fill_value=np.nan,
        chunk_key_encoding={"name": "default", "separator": "."},
        dimension_names=("checkpoint", "sample", "class"),
    )
    document = ShardLayout(30, 3, np.dtype("float32"), 7).document(2, {})
    assert array.metadata.to_dict() == zarr_array_metadata(tmp_path, document)


def zarr_array_metadata(tmp_path, document):
    folder = tmp_path / "ours"
    folder.mkdir()
    return zarr_array(folder, document).metadata.to_dict()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(5),
        np.arange(6.0).reshape(2, 3),
        np.array([True, False]),
        np.array([1, 2], np.uint64),
        np.array(["a", "", "Größe"], np.dtypes.StringDType()),
    ],
    ids=lambda values: values.dtype.name,
)
def test_chunk__is_read_by_zarr_and_by_us(tmp_path, values):
    dims = [f"d{axis}" for axis in range(values.ndim)]
    document = layout.array_document(values.shape, values.dtype, dims, values.shape)
    key = ".".join(["c", *["0"] * values.ndim])
    (tmp_path / key).write_bytes(layout.encode(values))
    np.testing.assert_array_equal(zarr_array(tmp_path, document)[...], values)
    read = layout.decode(layout.encode(values), values.dtype, values.shape)
    np.testing.assert_array_equal(read, values)


@given(st.integers(1, 300_000), st.integers(2, 1000))
def test_plan__cuts_samples_into_whole_chunks_of_bounded_size(n_samples, n_classes):
    shard = ShardLayout.plan(n_samples, n_classes, np.dtype("float32"))
    assert shard.n_chunks * shard.chunk_samples >= n_samples
    assert (shard.n_chunks - 1) * shard.chunk_samples < n_samples  # no chunk of padding alone
    assert shard.chunk_bytes <= 2**19 + 4 * n_classes + 4


@settings(max_examples=200)
@given(st.data())
def test_decode__finds_any_flipped_byte(data):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    chunk = bytearray(layout.encode(values))
    position = data.draw(st.integers(0, len(chunk) - 1))
    chunk[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptChunk, match="checksum"):
        layout.decode(bytes(chunk), values.dtype, values.shape)


@pytest.mark.parametrize("length", [0, 3, 4, 51, 53])
def test_decode__finds_a_wrong_length(length):
    with pytest.raises(CorruptChunk, match="bytes"):
        layout.decode(bytes(length), np.dtype("float32"), (4, 3))


def test_decode__finds_a_zeroed_chunk():
    with pytest.raises(CorruptChunk, match="checksum"):
        layout.decode(bytes(52), np.dtype("float32"), (4, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_to_json__refuses_what_json_cannot_hold(value):
    with pytest.raises(InputError, match="`attrs`"):
        layout.to_json({"a": value})
