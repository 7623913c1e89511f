"""Import of distance matrices: D comes out as D, whatever form it has; what is none is named."""

import h5py
import numpy as np
import pytest

import inpca
from collectors.distance_files import import_distances
from inpca import InputError

M = 23


@pytest.fixture
def distances():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), size=(M, 7))
    return inpca.pairwise_distances(p)


def write(path, values, name="w"):
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values, chunks=True)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".npy"])
@pytest.mark.parametrize("tile_size", [4, 7, 64])
def test_import_distances__what_a_file_holds_comes_out(tmp_path, distances, suffix, tile_size):
    file = write(tmp_path / f"w_yh_all{suffix}", distances)
    matrix = import_distances(file, tmp_path / "d.zarr", tile_size=tile_size, sample_set="train")
    assert matrix.complete
    assert not matrix.verify()
    assert matrix.attrs["finished"] is True
    assert (matrix.attrs["metric"], matrix.attrs["sample_set"]) == ("bhattacharyya", "train")
    found = matrix.to_array()
    np.testing.assert_allclose(found, distances, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0).all()


def test_import_distances__embed_as_the_array_does(tmp_path, distances):
    matrix = import_distances(write(tmp_path / "w.h5", distances), tmp_path / "d.zarr")
    of_matrix = inpca.InPCA(n_components=3, metric="precomputed").fit(matrix)
    of_array = inpca.InPCA(n_components=3, metric="precomputed").fit(matrix.to_array())
    expected = inpca.InPCA(n_components=3, metric="precomputed").fit(distances)
    np.testing.assert_allclose(of_matrix.eigenvalues_, expected.eigenvalues_, rtol=1e-5)
    np.testing.assert_allclose(of_array.eigenvalues_, expected.eigenvalues_, rtol=1e-5)


def test_import_distances__w_is_turned_back_only_when_told_to(tmp_path, distances):
    L = np.eye(M) - 1 / M
    file = write(tmp_path / "w.h5", -0.5 * L @ distances @ L)
    with pytest.raises(InputError, match="holds the centred W, not distances D"):
        import_distances(file, tmp_path / "d.zarr")
    assert not (tmp_path / "d.zarr").exists()
    matrix = import_distances(file, tmp_path / "d.zarr", centred=True, tile_size=5)
    np.testing.assert_allclose(matrix.to_array(), distances, rtol=1e-5, atol=1e-7)
    file = write(tmp_path / "d.h5", distances)
    with pytest.raises(InputError, match="does not hold the centred W"):
        import_distances(file, tmp_path / "e.zarr", centred=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_import_distances__low_precision_and_rounding_are_taken(tmp_path, distances, dtype):
    noise = np.random.default_rng(1).normal(0, 1e-7, (M, M))
    file = write(tmp_path / "w.h5", (distances + noise).astype(dtype))
    found = import_distances(file, tmp_path / "d.zarr", tile_size=6).to_array()
    np.testing.assert_allclose(found, distances, rtol=2e-3 if dtype == np.float16 else 1e-5)
    assert (np.diag(found) == 0).all()


def test_import_distances__goes_on_after_a_kill(tmp_path, distances, monkeypatch):
    file = write(tmp_path / "w.h5", distances)
    whole = import_distances(file, tmp_path / "whole.zarr", tile_size=5)
    write_tile, written = inpca.TiledMatrix.write_tile, []

    def killed(self, tile, values):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(tile)
        write_tile(self, tile, values)

    monkeypatch.setattr(inpca.TiledMatrix, "write_tile", killed)
    with pytest.raises(KeyboardInterrupt):
        import_distances(file, tmp_path / "d.zarr", tile_size=5)
    assert inpca.TiledMatrix.open(tmp_path / "d.zarr").attrs["finished"] is False
    monkeypatch.undo()
    matrix = import_distances(file, tmp_path / "d.zarr", tile_size=5)
    assert matrix.attrs["finished"] is True
    np.testing.assert_array_equal(matrix.to_array(), whole.to_array())


def test_import_distances__leaves_another_matrix_alone(tmp_path, distances):
    import_distances(write(tmp_path / "a.h5", distances), tmp_path / "d.zarr")
    other = write(tmp_path / "b.h5", distances * 2)
    with pytest.raises(InputError, match=r"is of other distances than .*b\.h5"):
        import_distances(other, tmp_path / "d.zarr")
    matrix = import_distances(other, tmp_path / "d.zarr", restart=True)
    np.testing.assert_allclose(matrix.to_array(), distances * 2, rtol=1e-6)


def changed(distances, change):
    values = distances.copy()
    change(values)
    return values


def put(pair, value, *, both=True):
    def change(values):
        values[pair] = value
        if both:
            values[pair[::-1]] = value

    return change


def leave_a_block(values):
    values[3:6, 12:20] = 0
    values[12:20, 3:6] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put((2, 9), np.nan), "NaN or infinite entries, the first between models 2 and 9"),
        (
            put((9, 2), np.inf, both=False),
            "NaN or infinite entries, the first between models",
        ),
        (put((4, 17), 9.0, both=False), "not symmetric: the distances from model 4 to 17"),
        (put((1, 13), -0.4), r"negative entry, -0\.4 between models 1 and 13"),
        (put((8, 8), 0.3), r"has 0\.3 between model 8 and itself"),
        (leave_a_block, r"models 3 and 1\d are at distance 0, but .* never filled"),
    ],
    ids=["nan", "inf", "asymmetric", "negative", "diagonal", "unfilled"],
)
@pytest.mark.parametrize("tile_size", [5, 64])
def test_import_distances__names_what_is_no_distance(
    tmp_path, distances, change, message, tile_size
):
    file = write(tmp_path / "bad.h5", changed(distances, change))
    with pytest.raises(InputError, match=rf"bad\.h5 .*{message}"):
        import_distances(file, tmp_path / "d.zarr", tile_size=tile_size)
    assert not (tmp_path / "d.zarr").exists()


def test_import_distances__models_that_are_alike_may_be_at_distance_zero(tmp_path, distances):
    rows = [*range(M), 3, 3]
    file = write(tmp_path / "w.h5", distances[np.ix_(rows, rows)])
    found = import_distances(file, tmp_path / "d.zarr", tile_size=6).to_array()
    assert found[3, M] == found[M, M + 1] == 0


def test_import_distances__names_files_of_another_kind(tmp_path, distances):
    out = tmp_path / "d.zarr"
    with pytest.raises(InputError, match=r"must be a square matrix .* shape \(23, 22\)"):
        import_distances(write(tmp_path / "a.h5", distances[:, 1:]), out)
    with pytest.raises(InputError, match=r"no dataset 'w'; it holds d; say which"):
        import_distances(write(tmp_path / "b.h5", distances, "d"), out)
    with pytest.raises(InputError, match="not int64 of shape"):
        import_distances(write(tmp_path / "c.npy", np.eye(4, dtype=np.int64)), out)
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.h5 cannot be read"):
        import_distances(tmp_path / "cut.h5", out)
    with pytest.raises(InputError, match="There is no file"):
        import_distances(tmp_path / "gone.h5", out)
    (tmp_path / "a.txt").write_text("0 1")
    with pytest.raises(InputError, match=r"must end in \.h5"):
        import_distances(tmp_path / "a.txt", out)
    assert not out.exists()
