"""TiledMatrix: tiles on disk."""

import json

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inpca.errors import DamagedStoreError, InputError, ResourceError
from inpca.store.matrix import TiledMatrix
from inpca.store.schema import FORMAT_VERSION

M, T = 11, 4


def symmetric(rng, n_models):
    half = rng.normal(size=(n_models, n_models)).astype(np.float32)
    return half + half.T


def fill(matrix, values):
    for i, j in matrix.grid.tiles():
        matrix.write_tile((i, j), values[matrix.grid.band(i), matrix.grid.band(j)])


@pytest.fixture
def full(tmp_path, rng):
    """A complete matrix of 11 models in tiles of 4, and its values."""
    values = symmetric(rng, M)
    matrix = TiledMatrix.create(tmp_path / "D.zarr", n_models=M, tile_size=T, fingerprint="f")
    fill(matrix, values)
    return matrix, values


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(n_models=st.integers(1, 13), tile_size=st.integers(1, 15), data=st.data())
def test_matrix__gives_back_what_was_written(tmp_path_factory, n_models, tile_size, data):
    path = tmp_path_factory.mktemp("matrix") / "D.zarr"
    values = symmetric(np.random.default_rng(0), n_models)
    matrix = TiledMatrix.create(path, n_models=n_models, tile_size=tile_size, fingerprint="f")
    assert matrix.missing() == list(matrix.grid.tiles())
    fill(matrix, values)
    matrix = TiledMatrix.open(path)
    assert matrix.complete
    assert matrix.verify() == []
    np.testing.assert_array_equal(matrix.to_array(), values)
    np.testing.assert_array_equal(np.asarray(matrix), values)
    start = data.draw(st.integers(0, n_models))
    stop = data.draw(st.integers(start, n_models))
    np.testing.assert_array_equal(matrix.rows(slice(start, stop)), values[start:stop])


def test_tile__is_exactly_its_numbers_and_a_checksum(full):
    matrix, _ = full
    sizes = {path.stat().st_size for path in (matrix.path / "distance").glob("c.*")}
    assert sizes == {T * T * 4 + 4}


def test_zarr__reads_the_tiles(full):
    matrix, values = full
    read = zarr.open_array(matrix.path / "distance", mode="r")[...]
    written = np.zeros((M, M), bool)
    for i, j in matrix.grid.tiles():
        written[matrix.grid.band(i), matrix.grid.band(j)] = True
    np.testing.assert_array_equal(read[written], values[written])
    assert np.isnan(read[~written]).all()


def test_models_attrs_and_fingerprint__are_kept(tmp_path, recorded):
    models = recorded.with_references().models
    path = tmp_path / "D.zarr"
    created = TiledMatrix.create(
        path,
        n_models=9,
        tile_size=T,
        fingerprint="abc",
        models=models,
        attrs={"metric": "bhattacharyya", "floored": np.int64(3)},
    )
    created.update_attrs({"seconds": 1.5, "metric": "other"})
    opened = TiledMatrix.open(path)
    pd.testing.assert_frame_equal(opened.models, models)
    assert opened.fingerprint == "abc"
    assert opened.attrs == {"metric": "other", "floored": 3, "seconds": 1.5}
    assert created.attrs == opened.attrs
    assert opened.shape == (9, 9)
    assert len(opened) == 9
    assert opened.dtype == np.float32


def test_create__refuses_what_does_not_fit(tmp_path, full):
    matrix, _ = full
    with pytest.raises(InputError, match=r"exists already.*overwrite=True"):
        TiledMatrix.create(matrix.path, n_models=M, tile_size=T, fingerprint="f")
    with pytest.raises(InputError, match="`models` must have 3 rows, not 1"):
        TiledMatrix.create(
            tmp_path / "new", n_models=3, tile_size=T, fingerprint="f", models=pd.DataFrame([1])
        )
    with pytest.raises(InputError, match="`tile_size` must be at least 1"):
        TiledMatrix.create(tmp_path / "new", n_models=3, tile_size=0, fingerprint="f")
    with pytest.raises(InputError, match="`attrs`"):
        TiledMatrix.create(
            tmp_path / "new", n_models=3, tile_size=1, fingerprint="f", attrs={"a": object()}
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["D.zarr", "D.zarr.lock"]


def test_create__overwrites_a_matrix_but_nothing_else(tmp_path, full):
    matrix, _ = full
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    options = {"n_models": 3, "tile_size": 2, "fingerprint": "g", "overwrite": True}
    with pytest.raises(InputError, match="matrix"):
        TiledMatrix.create(tmp_path / "mine", **options)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    assert TiledMatrix.create(matrix.path, **options).missing() == [(0, 0), (0, 1), (1, 1)]


def test_create__does_not_overwrite_a_matrix_at_work(full):
    matrix, _ = full
    with matrix.lock(), pytest.raises(ResourceError, match="another process"):
        TiledMatrix.create(matrix.path, n_models=3, tile_size=2, fingerprint="g", overwrite=True)
    assert matrix.complete


@pytest.mark.parametrize("name", ["nothing", "folder", "file"])
def test_open__of_what_is_no_matrix__is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=rf"`path`.*{name}"):
        TiledMatrix.open(tmp_path / name)


def test_open__of_a_run__is_refused(recorded):
    with pytest.raises(InputError, match="kind 'matrix'"):
        TiledMatrix.open(recorded.path / "runs" / "cnn.zarr")


def test_open__of_a_newer_version__says_upgrade(full):
    matrix, _ = full
    root = matrix.path / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["inpca"]["format_version"] = FORMAT_VERSION + 1
    root.write_text(json.dumps(content))
    with pytest.raises(InputError, match="upgrade inpca"):
        TiledMatrix.open(matrix.path)


@pytest.mark.parametrize("harm", ["flip", "zero", "truncate", "delete"])
def test_harmed_tile__is_found_named_and_can_be_written_again(full, harm):
    matrix, values = full
    file = matrix.path / "distance" / "c.0.2"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[5] ^= 1
        file.write_bytes(content)
    elif harm == "zero":
        file.write_bytes(bytes(len(content)))
    elif harm == "truncate":
        file.write_bytes(content[:-1])
    else:
        file.unlink()
    with pytest.raises(DamagedStoreError, match=r"c\.0\.2.*tile \(0, 2\).*repair=True"):
        matrix.read_tile((0, 2))
    with pytest.raises(DamagedStoreError, match=r"c\.0\.2"):
        matrix.rows(slice(9, 10))
    seen = []
    found = matrix.verify(lambda done, total, text: seen.append((done, total)))
    assert [damage.key for damage in found] == ["distance/c.0.2"]
    assert seen == [(i, 6) for i in range(1, 7)]
    assert matrix.missing() == ([(0, 2)] if harm in ("truncate", "delete") else [])
    matrix.remove_tile((0, 2))
    assert matrix.missing() == [(0, 2)]
    matrix.write_tile((0, 2), values[:4, 8:])
    assert matrix.verify() == []
    np.testing.assert_array_equal(matrix.to_array(), values)


def test_verify__finds_nan_and_a_harmed_list_of_models(tmp_path, recorded):
    from inpca.store import layout
    from inpca.store.matrix_layout import tile_seal

    matrix = TiledMatrix.create(
        tmp_path / "D.zarr", n_models=7, tile_size=7, fingerprint="f", models=recorded.models
    )
    bad = np.zeros((7, 7), np.float32)
    bad[2, 3] = np.nan
    chunk = layout.encode(bad)
    (matrix.path / "distance" / "c.0.0").write_bytes(chunk)
    seal = np.full((1, 1), tile_seal("f", (0, 0), layout.checksum_of(chunk), 0), np.uint64)
    (matrix.path / "seal").mkdir(exist_ok=True)
    (matrix.path / "seal" / "c.0.0").write_bytes(layout.encode(seal))
    (matrix.path / "models" / "run" / "c.0").write_bytes(b"")
    found = {damage.key: damage.reason for damage in matrix.verify()}
    assert "NaN" in found.pop("distance/c.0.0")
    assert list(found) == ["models/run/c.0"]
    with pytest.raises(DamagedStoreError, match=r"models/run/c.0"):
        _ = matrix.models


def test_write_tile__refuses_what_is_no_tile(full):
    matrix, _ = full
    for tile in ((1, 0), (0, 3), (-1, 0)):
        with pytest.raises(InputError, match="`tile`"):
            matrix.write_tile(tile, np.zeros((T, T), np.float32))
    with pytest.raises(InputError, match=r"shape \(4, 3\), not \(4, 4\)"):
        matrix.write_tile((0, 2), np.zeros((T, T), np.float32))
    with pytest.raises(InputError, match="NaN"):
        matrix.write_tile((0, 0), np.full((T, T), np.nan, np.float32))


def test_lock__refuses_a_second_engine_and_sweeps_leftovers(full):
    matrix, _ = full
    leftover = matrix.path / "distance" / "c.0.0.77.partial"
    leftover.write_bytes(b"half")
    assert matrix.complete
    with matrix.lock():
        assert not leftover.exists()
        with (
            pytest.raises(ResourceError, match="another process"),
            TiledMatrix.open(matrix.path).lock(),
        ):
            pass
    with matrix.lock():
        pass


def test_matrix_killed_while_writing_a_tile__has_it_whole_or_not_at_all(tmp_path, script):
    code = """
import os, signal, sys
import numpy as np
from inpca.store.matrix import TiledMatrix
matrix = TiledMatrix.create(sys.argv[1], n_models=8, tile_size=4, fingerprint="f")
tiles = list(matrix.grid.tiles())
for moment in (1, 2, 3):
    child = os.fork()
    if child == 0:
        calls, real = [0], os.fsync
        def fsync(descriptor):
            calls[0] += 1
            if calls[0] == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)
        os.fsync = fsync
        matrix.write_tile(tiles[moment - 1], np.ones((4, 4), np.float32))
        os._exit(0)
    os.waitpid(child, 0)
print([tile for tile in tiles if tile not in matrix.missing()])
with matrix.lock():
    assert not [name for name in os.listdir(matrix.path / "distance") if "partial" in name]
"""
    # Killed at the file's fsync: absent. At the folder's, after the rename: whole.
    assert script(code, tmp_path / "D.zarr").strip() == "[(0, 1), (1, 1)]"
