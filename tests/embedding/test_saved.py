"""Embeddings of ensembles and of tiles on disk, saved, opened again, and projected into."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError
from inpca.embedding.pairs import fix_signs
from inpca.store.embedding import write_embedding

ARRAYS = ("embedding_", "eigenvalues_", "eigenvectors_", "signature_", "residuals_",
          "explained_stress_", "explained_stress_root_", "row_means_", "converged_")  # fmt: skip
NUMBERS = ("grand_mean_", "frobenius_norm_", "solver_", "n_passes_", "clusters_",
           "missed_bound_", "n_features_in_")  # fmt: skip


def probs(m: int, n: int = 8, c: int = 3, seed: int = 0) -> np.ndarray:
    p = np.random.default_rng(seed).dirichlet(np.ones(c), size=(m, n))
    return p


def tiled(path: Path, d: np.ndarray, tile_size: int = 16) -> inpca.TiledMatrix:
    matrix = inpca.TiledMatrix.create(
        path, n_models=len(d), tile_size=tile_size, fingerprint="made by hand"
    )
    for i, j in matrix.grid.tiles():
        matrix.write_tile((i, j), d[matrix.grid.band(i), matrix.grid.band(j)])
    return matrix


def few_ulp(expected: np.ndarray) -> object:
    """What two calls of BLAS on the same numbers give: nobody promises the same rounding."""
    return pytest.approx(expected, rel=1e-13, abs=1e-14)


def assert_same(one: inpca.InPCA, other: inpca.InPCA) -> None:
    for name in ARRAYS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    for name in NUMBERS:
        assert getattr(one, name) == getattr(other, name), name


# --- tiles on disk ---------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
def test_embedding_of_tiles__is_that_of_the_same_matrix_in_memory(
    tmp_path: Path, solver: str
) -> None:
    d = inpca.pairwise_distances(probs(150)).astype(np.float32)
    options = {"n_components": 4, "solver": solver, "tol": 1e-9}
    ours = inpca.InPCA(**options).fit(tiled(tmp_path / "d.zarr", d))
    theirs = inpca.InPCA(metric="precomputed", **options).fit(d)
    assert ours.eigenvalues_ == pytest.approx(theirs.eigenvalues_, abs=1e-12)
    assert ours.embedding_ == pytest.approx(theirs.embedding_, abs=1e-8)
    assert ours.frobenius_norm_ == pytest.approx(theirs.frobenius_norm_, rel=1e-12)
    assert ours.transform(d[:7]) == pytest.approx(ours.embedding_[:7], abs=1e-7)


def test_embedding_of_tiles__is_the_same_bytes_for_any_number_of_threads(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs(150)).astype(np.float32)
    matrix = tiled(tmp_path / "d.zarr", d)
    fits = [
        inpca.InPCA(n_components=3, solver="lanczos", executor=workers).fit(matrix)
        for workers in ("serial", 1, 3)
    ]
    assert_same(fits[0], fits[1])
    assert_same(fits[0], fits[2])


def test_unfinished_tiles__are_refused_with_the_cure(tmp_path: Path) -> None:
    matrix = tiled(tmp_path / "d.zarr", inpca.pairwise_distances(probs(40)))
    matrix.remove_tile((0, 1))
    with pytest.raises(InputError, match=r"lacks 1 of 6 tiles still to be computed"):
        inpca.InPCA().fit(matrix)


def test_damaged_tile__is_named(tmp_path: Path) -> None:
    matrix = tiled(tmp_path / "d.zarr", inpca.pairwise_distances(probs(40)))
    path = matrix.path / "distance" / "c.0.1"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(inpca.DamagedStoreError, match=r"c\.0\.1"):
        inpca.InPCA().fit(matrix)


def test_explained_pairwise_distances__read_tiles_or_an_array(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs(50)).astype(np.float32)
    matrix = tiled(tmp_path / "d.zarr", d)
    embedding = inpca.InPCA(n_components=3).fit(matrix)
    arguments = embedding.embedding_, embedding.signature_
    on_disk = inpca.explained_pairwise_distances(matrix, *arguments)
    assert on_disk == pytest.approx(inpca.explained_pairwise_distances(d, *arguments), rel=1e-12)


# --- ensembles -------------------------------------------------------------------------------


@pytest.fixture
def old_and_new(small_ensemble: inpca.Ensemble) -> tuple[inpca.Ensemble, inpca.Ensemble]:
    """Runs to embed, and a run to project."""
    return small_ensemble.select("run != 'run-3'"), small_ensemble.select("run == 'run-3'")


def test_embedding_of_an_ensemble__is_that_of_its_predictions(
    small_ensemble: inpca.Ensemble,
) -> None:
    source = small_ensemble.predictions("train")
    array = source.read(slice(0, source.shape[0]), slice(0, source.shape[1]))
    ours = inpca.InPCA(n_components=3).fit(small_ensemble)
    theirs = inpca.InPCA(n_components=3, kind="log_probs").fit(array)
    assert ours.embedding_ == pytest.approx(theirs.embedding_, abs=1e-6)
    assert ours.models_ is not None
    assert ours.models_.index.tolist() == source.names


def test_ignorance_and_truth__are_embedded_along(small_ensemble: inpca.Ensemble) -> None:
    view = small_ensemble.with_references()
    embedding = inpca.InPCA(n_components=len(view) - 1).fit(view)
    assert embedding.models_ is not None
    assert embedding.models_.index[:2].tolist() == ["@ignorance", "@truth"]
    x = embedding.embedding_
    between = ((x[0] - x[1]) ** 2) @ embedding.signature_
    assert between == pytest.approx(0.5 * np.log(small_ensemble.n_classes), abs=1e-6)
    # d_B(P, P*) is half the cross-entropy, which every collector records.
    losses = embedding.models_["train_loss"].to_numpy()[2:]
    to_truth = ((x[2:] - x[1]) ** 2) @ embedding.signature_
    assert to_truth == pytest.approx(losses / 2, abs=1e-6)


@pytest.mark.parametrize("on_disk", [False, True])
def test_saved_embedding_of_an_ensemble__projects_new_runs_by_itself(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble], on_disk: bool
) -> None:
    old, new = old_and_new
    old = old.with_references()
    place = old.distances_path("train") if on_disk else None
    embedding = inpca.InPCA(n_components=3, distances=place).fit(old)
    expected = embedding.transform(new)
    embedding.save(old.embeddings_path("train"))
    loaded = inpca.load_embedding(old.embeddings_path("train"))
    assert_same(loaded, embedding)
    assert loaded.get_params()["n_components"] == 3
    assert loaded.models_ is not None
    assert loaded.models_.index.equals(old.models.index)
    assert loaded.transform(new) == pytest.approx(expected, abs=1e-12)
    assert loaded.transform(old) == pytest.approx(embedding.embedding_, abs=2e-6)
    if on_disk:
        assert inpca.TiledMatrix.open(place).complete


def test_saved_embedding_of_finished_tiles__finds_the_ensemble_around_them(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble],
) -> None:
    old, new = old_and_new
    matrix = inpca.pairwise_distances(old, out=old.distances_path("train"))
    embedding = inpca.InPCA(n_components=3, metric="precomputed").fit(matrix)
    embedding.save(old.embeddings_path("train"))
    loaded = inpca.load_embedding(old.embeddings_path("train"))
    expected = inpca.InPCA(n_components=3).fit(old).transform(new)
    assert loaded.transform(new) == pytest.approx(expected, abs=1e-5)


def test_ensemble_that_was_moved__still_projects(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble], tmp_path: Path
) -> None:
    old, new = old_and_new
    embedding = inpca.InPCA(n_components=3).fit(old)
    expected = embedding.transform(new)
    embedding.save(old.embeddings_path("train"))
    moved = tmp_path / "elsewhere" / "moved.ensemble"
    moved.parent.mkdir()
    shutil.move(old.path, moved)
    ensemble = inpca.open_ensemble(moved)
    loaded = inpca.load_embedding(ensemble.embeddings_path("train"))
    result = loaded.transform(ensemble.select("run == 'run-3'"))
    assert result == pytest.approx(expected, abs=1e-12)


def test_run_recorded_anew_since__is_refused(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble],
) -> None:
    old, new = old_and_new
    inpca.InPCA(n_components=3).fit(old).save(old.embeddings_path("train"))
    ensemble = inpca.open_ensemble(old.path)
    with ensemble.start_run("run-0", restart=True) as writer:
        for step in range(6):
            writer.append(
                {"train": probs(1, 40)[0], "test": probs(1, 20)[0]}, "probs", step=step, epoch=step
            )
    loaded = inpca.load_embedding(old.embeddings_path("train"))
    with pytest.raises(InputError, match="other fingerprint"):
        loaded.transform(new)


def test_training_run_deleted_since__is_refused_with_the_cure(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble],
) -> None:
    old, new = old_and_new
    inpca.InPCA(n_components=3).fit(old).save(old.embeddings_path("train"))
    shutil.rmtree(old.path / "runs" / "run-0.zarr")
    loaded = inpca.load_embedding(old.embeddings_path("train"))
    with pytest.raises(InputError, match=r"no longer in .*pass the distances"):
        loaded.transform(new)


def test_new_models_with_samples_in_another_order__are_refused(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    labels = small_ensemble.sample_sets["train"].labels[::-1]
    other = inpca.create_ensemble(
        tmp_path / "other.ensemble", sample_sets={"train": labels}, n_classes=3
    )
    other.add_run("run-9", {"train": probs(2, 40)})
    embedding = inpca.InPCA(n_components=2).fit(small_ensemble)
    with pytest.raises(InputError, match="other samples, or another order"):
        embedding.transform(other)


# --- arrays ----------------------------------------------------------------------------------


def test_saved_embedding_of_an_array__takes_distances_or_its_training_predictions(
    tmp_path: Path,
) -> None:
    p, new = probs(20), probs(4, seed=1)
    embedding = inpca.InPCA(n_components=3).fit(p)
    expected = embedding.transform(new)
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    assert loaded.transform(inpca.pairwise_distances(new, p)) == pytest.approx(expected)
    with pytest.raises(InputError, match=r"pass the distances .* \(new models, 20\)"):
        loaded.transform(new)
    with_training = inpca.load_embedding(tmp_path / "e.zarr", training=p)
    assert with_training.transform(new) == few_ulp(expected)


def test_other_training_predictions__are_refused(tmp_path: Path) -> None:
    p = probs(20)
    inpca.InPCA(n_components=3).fit(p).save(tmp_path / "e.zarr")
    with pytest.raises(InputError, match="`training` must be the predictions"):
        inpca.load_embedding(tmp_path / "e.zarr", training=p[::-1])


def test_saved_precomputed_embedding__transforms_distances(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs(20))
    embedding = inpca.InPCA(n_components=3, metric="precomputed").fit(d)
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    assert_same(loaded, embedding)
    assert loaded.transform(d) == few_ulp(embedding.transform(d))


def test_embedding__knows_the_divergence_of_its_distances(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    matrix = inpca.pairwise_distances(small_ensemble, metric="jeffreys", out=tmp_path / "j.zarr")
    embedding = inpca.InPCA(2).fit(matrix)
    assert embedding.metric_ == "jeffreys"
    embedding.save(tmp_path / "e.zarr")
    assert inpca.load_embedding(tmp_path / "e.zarr").metric_ == "jeffreys"
    assert inpca.InPCA(2, metric="hellinger2").fit(probs(5)).metric_ == "hellinger2"
    assert inpca.InPCA(2, metric="precomputed").fit(np.asarray(matrix)).metric_ is None


def test_saving_twice__is_refused_unless_asked_for(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs(20))
    inpca.InPCA(n_components=3, metric="precomputed").fit(d).save(tmp_path / "e.zarr")
    other = inpca.InPCA(n_components=2, metric="precomputed").fit(d)
    with pytest.raises(InputError, match="exists already"):
        other.save(tmp_path / "e.zarr")
    other.save(tmp_path / "e.zarr", overwrite=True)
    assert inpca.load_embedding(tmp_path / "e.zarr").embedding_.shape == (20, 2)


def test_path_that_is_no_embedding__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be an embedding made by inpca"):
        inpca.load_embedding(tmp_path)


def test_embedding_that_another_program_wrote__is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    write_embedding(tmp_path / "e.zarr", {"coordinates": np.zeros((3, 1))}, None, {})
    with pytest.raises(InputError, match=r"lacks clusters, converged, eigenvalues"):
        inpca.load_embedding(tmp_path / "e.zarr")


def test_pickled_embedding_of_an_ensemble__projects_the_same(
    old_and_new: tuple[inpca.Ensemble, inpca.Ensemble],
) -> None:
    old, new = old_and_new
    embedding = inpca.InPCA(n_components=3).fit(old)
    again = pickle.loads(pickle.dumps(embedding))
    assert again.transform(new) == few_ulp(embedding.transform(new))


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
@pytest.mark.parametrize("weights", [None, np.arange(20.0)])
def test_loaded_arrays__lie_in_memory_as_the_fitted_ones_do(
    solver: str, weights: np.ndarray | None, tmp_path: Path
) -> None:
    # Products of the same bytes in another layout are rounded in another way.
    d = inpca.pairwise_distances(probs(20))
    embedding = inpca.InPCA(n_components=3, metric="precomputed", solver=solver)
    embedding.fit(d, weights=weights).join("test", d)
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    pickled = pickle.loads(pickle.dumps(embedding))
    for other in (loaded, pickled):
        assert_same(other, embedding)
        for name in ARRAYS:
            one, theirs = getattr(embedding, name), getattr(other, name)
            assert one.flags.c_contiguous, name
            assert (one.dtype, one.strides) == (theirs.dtype, theirs.strides), name
        assert other.joint_["test"].strides == embedding.joint_["test"].strides


def test_saved_embedding__opens_with_xarray(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    d = inpca.pairwise_distances(probs(20))
    embedding = inpca.InPCA(n_components=3, metric="precomputed").fit(d)
    embedding.save(tmp_path / "e.zarr")
    with xarray.open_zarr(tmp_path / "e.zarr") as data:
        assert data["coordinates"].dims == ("model", "component")
        assert (data["coordinates"].values == embedding.embedding_).all()
        assert data["eigenvalues"].attrs["units"] == "nat"


def test_transform_in_small_memory__goes_batch_by_batch_to_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p, new = probs(60), probs(20, seed=1)
    embedding = inpca.InPCA(n_components=3).fit(p)
    expected = embedding.transform(new)
    seven_rows = 4 * 8 * 60 * 7
    monkeypatch.setattr("inpca.embedding.placing.memory_budget", lambda memory: seven_rows)
    rows: list[int] = []
    monkeypatch.setattr(
        "inpca.embedding.placing.pairwise_distances",
        lambda X, Y, **options: (
            rows.append(X.shape[0]) or inpca.pairwise_distances(X, Y, **options)
        ),
    )
    assert embedding.transform(new) == pytest.approx(expected, abs=1e-12)
    assert rows == [7, 7, 6]


def test_eigenvectors_in_the_store__keep_the_sign_convention(tmp_path: Path) -> None:
    d = inpca.pairwise_distances(probs(20))
    embedding = inpca.InPCA(n_components=3, metric="precomputed").fit(d)
    assert (fix_signs(embedding.eigenvectors_) == embedding.eigenvectors_).all()
