"""Weights of models: copies, projections, both solvers, on disk and back; bad weights."""

from pathlib import Path

import naive
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import inpca
from inpca import InputError
from inpca.backend import to_host
from inpca.embedding.solve import SolveOptions, solve
from inpca.embedding.tiles import ArrayTiles
from inpca.embedding.weighted import WeightedOperator

Array = NDArray[np.float64]
SOLVERS = ["dense", "lanczos"]


def distances(m: int, seed: int = 0, n: int = 3) -> Array:
    return naive.distance(naive.random_models(m, n, 3, seed=seed, sharpness=8.0))


def fit(d: Array, k: int, weights: object = None, **options: object) -> inpca.InPCA:
    estimator = inpca.InPCA(
        n_components=k, metric="precomputed", executor="serial", tol=1e-10, **options
    )
    return estimator.fit(d, weights=weights)


def same_columns(ours: Array, theirs: Array) -> Array:
    return ours * np.sign((ours * theirs).sum(axis=0))


# --- identities ------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_whole_weights__are_as_many_copies(solver: str, seed: int) -> None:
    d = distances(14, seed)
    counts = np.random.default_rng(seed).integers(1, 4, size=14)
    copies = np.repeat(np.arange(14), counts)
    ours, theirs = fit(d, 5, counts, solver=solver), fit(d[np.ix_(copies, copies)], 5)
    assert ours.eigenvalues_ == pytest.approx(theirs.eigenvalues_, abs=1e-11)
    assert same_columns(ours.embedding_[copies], theirs.embedding_) == pytest.approx(
        theirs.embedding_, abs=1e-6
    )
    assert ours.explained_stress_ == pytest.approx(theirs.explained_stress_, abs=1e-11)
    assert ours.explained_stress_root_ == pytest.approx(theirs.explained_stress_root_, abs=1e-11)
    assert ours.row_means_[copies] == pytest.approx(theirs.row_means_, abs=1e-12)
    assert ours.grand_mean_ == pytest.approx(theirs.grand_mean_, abs=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_weight_zero__is_a_projection(solver: str) -> None:
    d = distances(40)
    counting = np.arange(40) % 3 != 0
    weights = np.where(counting, 1.0, 0.0)
    ours = fit(d, 10, weights, solver=solver)
    alone = fit(d[np.ix_(counting, counting)], 10, solver=solver)
    assert set(alone.signature_) == {-1, 1}
    assert ours.eigenvalues_ == pytest.approx(alone.eigenvalues_, abs=1e-11)
    assert ours.embedding_[counting] == pytest.approx(alone.embedding_, abs=1e-7)
    projected = alone.transform(d[~counting][:, counting])
    assert ours.embedding_[~counting] == pytest.approx(projected, abs=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_weighted_embedding__is_its_definition(solver: str, seed: int) -> None:
    d = distances(16, seed)
    weights = np.random.default_rng(seed).uniform(0.01, 5, size=16)
    ours = fit(d, 4, weights, solver=solver)
    coordinates, values = naive.weighted_embedding(d, weights, 4)
    assert ours.eigenvalues_ == pytest.approx(values[:4], abs=1e-11)
    assert same_columns(coordinates, ours.embedding_) == pytest.approx(ours.embedding_, abs=1e-6)
    assert ours.frobenius_norm_ == pytest.approx(np.linalg.norm(values), rel=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
def test_projection_of_a_training_model__is_its_own_coordinates(solver: str) -> None:
    d = distances(60)
    weights = np.random.default_rng(0).choice([0.0, 0.3, 2.0, 7.0], size=60)
    embedding = fit(d, 8, weights, solver=solver)
    assert set(embedding.signature_) == {-1, 1}
    assert embedding.transform(d) == pytest.approx(embedding.embedding_, abs=1e-7)
    # What is added to all distances of a model changes nothing: Σ w v = 0.
    assert embedding.transform(d + 5.0) == pytest.approx(embedding.embedding_, abs=1e-7)


def test_weighted_embedding__is_isometric_at_full_rank() -> None:
    d = distances(12, n=3)
    x = fit(d, 11, np.arange(1.0, 13.0))
    between = ((x.embedding_[:, None] - x.embedding_[None]) ** 2) @ x.signature_
    assert between == pytest.approx(d, abs=1e-10)
    assert x.explained_stress_[-1] == pytest.approx(1, abs=1e-12)
    explained = inpca.explained_pairwise_distances(d, x.embedding_, x.signature_)
    assert explained[-1] == pytest.approx(1, abs=1e-10)


def test_equal_weights__change_only_the_scale_of_eigenvalues() -> None:
    d = distances(20)
    plain, ours = fit(d, 4), fit(d, 4, np.full(20, 2.5))
    assert ours.eigenvalues_ == pytest.approx(2.5 * plain.eigenvalues_, rel=1e-11)
    assert ours.embedding_ == pytest.approx(plain.embedding_, abs=1e-10)
    assert ours.explained_stress_ == pytest.approx(plain.explained_stress_, abs=1e-12)


@pytest.mark.parametrize("tile_size", [1, 7, 64])
def test_operator__is_its_dense_form_for_any_tiling(tile_size: int) -> None:
    d = distances(30)
    weights = np.random.default_rng(1).uniform(0, 3, size=30)
    operator = WeightedOperator(ArrayTiles(d, tile_size), weights, "serial")
    vectors = np.random.default_rng(2).normal(size=(30, 5))
    dense = operator.dense()
    assert dense == pytest.approx(dense.T, abs=1e-14)
    assert operator.apply(vectors) == pytest.approx(dense @ vectors, abs=1e-12)
    assert operator.frobenius_norm == pytest.approx(np.linalg.norm(dense), rel=1e-12)
    share = weights / weights.sum()
    assert operator.row_means == pytest.approx(d @ share, abs=1e-14)
    assert operator.grand_mean == pytest.approx(share @ d @ share, abs=1e-14)


def test_operator__works_where_the_distances_are() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    d = distances(30)
    weights = np.random.default_rng(1).choice([0.0, 1.0, 2.5], size=30)
    there = strict.asarray(d, device=device)
    ours, theirs = WeightedOperator(there, weights), WeightedOperator(d, weights)
    vectors = np.random.default_rng(2).normal(size=(30, 5))
    image = ours.apply(strict.asarray(vectors, device=device))
    assert image.device == device
    assert to_host(image) == pytest.approx(theirs.apply(vectors), abs=1e-12)
    assert ours.frobenius_norm == pytest.approx(theirs.frobenius_norm, rel=1e-12)
    solutions = [
        solve(one, 3, SolveOptions(solver="lanczos", tol=1e-10), weights=weights)
        for one in (there, d)
    ]
    assert solutions[0].eigenvalues == pytest.approx(solutions[1].eigenvalues, abs=1e-10)
    assert solutions[0].eigenvectors == pytest.approx(solutions[1].eigenvectors, abs=1e-7)


# --- out of core, resume, warm start ----------------------------------------------------------


def as_matrix(path: Path, d: Array, models: pd.DataFrame | None = None) -> inpca.TiledMatrix:
    matrix = inpca.TiledMatrix.create(
        path, n_models=len(d), tile_size=16, fingerprint="made by hand", models=models
    )
    for i, j in matrix.grid.tiles():
        matrix.write_tile((i, j), d[matrix.grid.band(i), matrix.grid.band(j)])
    return matrix


@pytest.mark.parametrize("solver", SOLVERS)
def test_tiles_on_disk__give_the_same_as_the_array(tmp_path: Path, solver: str) -> None:
    d = distances(70).astype(np.float32)
    weights = np.random.default_rng(3).uniform(0, 2, size=70)
    matrix = as_matrix(tmp_path / "d.zarr", d)
    options = {"n_components": 4, "metric": "precomputed", "solver": solver, "tol": 1e-10}
    ours = inpca.InPCA(**options).fit(matrix, weights=weights)
    theirs = inpca.InPCA(**options).fit(d, weights=weights)
    assert ours.eigenvalues_ == pytest.approx(theirs.eigenvalues_, abs=1e-11)
    assert ours.embedding_ == pytest.approx(theirs.embedding_, abs=1e-7)
    few = [inpca.InPCA(**options, executor=n).fit(matrix, weights=weights) for n in (1, 3)]
    assert few[0].row_means_.tobytes() == few[1].row_means_.tobytes()
    assert few[0].embedding_ == pytest.approx(few[1].embedding_, abs=1e-9)
    if solver == "lanczos":  # LAPACK has threads of its own
        assert few[0].embedding_.tobytes() == few[1].embedding_.tobytes()


def test_selected_models__take_their_weights_in_their_own_order(
    small_ensemble: inpca.Ensemble,
) -> None:
    place = small_ensemble.distances_path("train")
    matrix = inpca.pairwise_distances(small_ensemble, out=place, tile_size=5)
    keys = ["run-3/2", "run-0/1", "run-2/5", "run-0/0", "run-1/3"]
    weights = [1.0, 0.0, 2.0, 3.0, 1.0]
    ours = inpca.InPCA(2).fit(matrix, models=keys, weights=weights)
    positions = matrix.models.index.get_indexer(keys)
    d = matrix.to_array()[np.ix_(positions, positions)]
    theirs = fit(d, 2, weights)
    assert ours.embedding_ == pytest.approx(theirs.embedding_, abs=1e-9)
    assert ours.weights_.tolist() == weights
    assert ours.transform(d) == pytest.approx(theirs.transform(d), abs=1e-9)


def test_checkpoint__goes_on_to_the_same_bytes_and_knows_the_weights(tmp_path: Path) -> None:
    d = distances(200, n=3)
    weights = np.random.default_rng(4).uniform(0, 2, size=200)
    options = {"solver": "lanczos", "block_size": 8}
    whole = fit(d, 3, weights, **options)
    folder = tmp_path / "passes"
    with pytest.warns(UserWarning, match="have not converged"):
        fit(d, 3, weights, **options, checkpoint=folder, max_passes=2)
    resumed = fit(d, 3, weights, **options, checkpoint=folder)
    assert resumed.n_passes_ == whole.n_passes_
    assert resumed.embedding_.tobytes() == whole.embedding_.tobytes()
    with pytest.raises(InputError, match="belongs to another solve"):
        fit(d, 3, weights + 1, **options, checkpoint=folder)
    with pytest.raises(InputError, match="belongs to another solve"):
        fit(d, 3, **options, checkpoint=folder)


def test_warm_start__from_the_answer_needs_fewer_passes() -> None:
    d = distances(300, n=3)
    weights = np.random.default_rng(5).uniform(0, 2, size=300)
    estimator = inpca.InPCA(3, metric="precomputed", solver="lanczos", block_size=6)
    cold = estimator.fit(d, weights=weights)
    passes = cold.n_passes_
    former = fit(d, 6, weights)
    warm = estimator.fit(d, weights=weights, init=former)
    assert warm.n_passes_ < passes
    assert warm.eigenvalues_ == pytest.approx(former.eigenvalues_[:3], rel=1e-9)


def test_saved_weighted_embedding__projects_as_before(tmp_path: Path) -> None:
    d = distances(25)
    embedding = fit(d, 3, np.arange(25.0))
    embedding.save(tmp_path / "e.zarr")
    loaded = inpca.load_embedding(tmp_path / "e.zarr")
    assert (loaded.weights_ == np.arange(25.0)).all()
    assert loaded.transform(d) == pytest.approx(embedding.transform(d), rel=1e-13, abs=1e-14)
    plain = fit(d, 3)
    plain.save(tmp_path / "plain.zarr")
    assert inpca.load_embedding(tmp_path / "plain.zarr").weights_ is None


# --- columns, predictions --------------------------------------------------------------------


def test_column_of_the_models__is_weights_and_references_are_projected(
    small_ensemble: inpca.Ensemble,
) -> None:
    view = small_ensemble.with_references()
    ours = inpca.InPCA(3).fit(view, weights="step")
    assert ours.weights_[:2].tolist() == [0, 0]
    assert ours.weights_[2:] == pytest.approx(view.models["step"].to_numpy(float)[2:])
    assert ours.transform(view) == pytest.approx(ours.embedding_, abs=2e-6)


def test_column__gives_reference_models_no_weight_whatever_it_says(
    small_ensemble: inpca.Ensemble,
) -> None:
    inpca.average_groups(small_ensemble, ["architecture", "step"])
    view = inpca.open_ensemble(small_ensemble.path).with_references()
    averages = view.models["run"].str.startswith("average").to_numpy()
    references = averages | view.models.index.str.startswith("@")
    # Averages have a step of their own, ignorance and truth a loss.
    for column in ("step", "train_loss"):
        assert view.models[column].to_numpy(float)[references][-1] > 0
        ours = inpca.InPCA(3).fit(view, weights=column)
        assert (ours.weights_[references] == 0).all()
        trained = view.models[column].to_numpy(float)[~references]
        assert ours.weights_[~references] == pytest.approx(trained)
        alone = inpca.InPCA(3).fit(
            view.select(list(view.models.index[~references])), weights=column
        )
        assert ours.eigenvalues_ == pytest.approx(alone.eigenvalues_, rel=1e-6)
    asked = inpca.InPCA(3).fit(view, weights=view.models["train_loss"])
    assert asked.weights_ == pytest.approx(view.models["train_loss"].to_numpy(float))


def test_series__is_matched_by_the_models_keys(small_ensemble: inpca.Ensemble) -> None:
    keys = small_ensemble.models.index
    series = pd.Series(np.arange(24.0), index=keys)
    ours = inpca.InPCA(2).fit(small_ensemble, weights=series.sample(frac=1, random_state=0))
    assert ours.weights_.tolist() == list(range(24))
    assert (
        inpca.InPCA(2).fit(small_ensemble, weights=series.reset_index(drop=True)).weights_[3] == 3
    )
    with pytest.raises(InputError, match="model 'run-3/5' is nan"):
        inpca.InPCA(2).fit(small_ensemble, weights=series.iloc[:-1])


# --- bad weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2, 3], r"one number for each of the 8 models, not shape \(3,\)"),
        ([1] * 7 + [-1], r"at least 0, but that of model 7 is -1\.0 \(1 such in all\)"),
        ([1] * 7 + [np.nan], "finite and at least 0, but that of model 7 is nan"),
        ([np.inf] + [1] * 7, "but that of model 0 is inf"),
        ([0] * 8, "are all 0"),
        ([0] * 6 + [1, 1], "number of models with a weight above 0, which is 2, not 2"),
        (["a"] * 8, "must be real numbers"),
        ("seed", "names a column, but these models have no table"),
    ],
    ids=["few", "negative", "nan", "infinite", "zero", "rank", "text", "column"],
)
def test_bad_weights__are_refused(weights: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(distances(8), 2, weights)


@pytest.mark.parametrize(
    ("column", "message"),
    [("speed", "must be one of the columns"), ("architecture", "must be a column of numbers")],
)
def test_bad_column__is_refused(small_ensemble: inpca.Ensemble, column: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        inpca.InPCA(2).fit(small_ensemble, weights=column)
