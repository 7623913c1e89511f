"""Growth: some models of a matrix embedded from it, and a start from a former embedding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError
from inpca.embedding.selection import SelectedDistances, SelectedGrid
from inpca.store.matrix import TiledMatrix


@pytest.fixture
def no_distances(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call to forbid computing distances from there on."""

    def forbid() -> None:
        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("distances were computed again")

        monkeypatch.setattr("inpca.embedding.inputs.pairwise_distances", refuse)

    return forbid


def matrix_of(view: inpca.Ensemble, tile_size: int = 5) -> TiledMatrix:
    return inpca.pairwise_distances(view, out=view.distances_path("train"), tile_size=tile_size)


def assert_close(one: inpca.InPCA, other: inpca.InPCA) -> None:
    assert one.eigenvalues_ == pytest.approx(other.eigenvalues_, abs=1e-7)
    assert one.embedding_ == pytest.approx(other.embedding_, abs=1e-5)
    assert one.row_means_ == pytest.approx(other.row_means_, abs=1e-6)
    assert one.frobenius_norm_ == pytest.approx(other.frobenius_norm_, rel=1e-6)


# --- selections ------------------------------------------------------------------------------


def test_selected_distances__are_rows_and_columns_of_the_matrix(
    small_ensemble: inpca.Ensemble,
) -> None:
    matrix = matrix_of(small_ensemble)
    positions = np.array([0, 1, 2, 3, 4, 11, 13, 23])
    selected = SelectedDistances(matrix, positions)
    grid = selected.grid
    assert [grid.band(i) for i in range(grid.n_bands)] == [slice(0, 5), slice(5, 7), slice(7, 8)]
    expected = matrix.to_array()[np.ix_(positions, positions)]
    for i, j in grid.tiles():
        values = selected.read_tile((i, j))
        assert values.shape == grid.shape((i, j))
        assert (values == expected[grid.band(i), grid.band(j)]).all()
    assert SelectedGrid(8, 5, (0, 5, 7)) == grid


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
def test_selected_models__are_embedded_as_if_alone(
    small_ensemble: inpca.Ensemble, no_distances: Callable[[], None], solver: str
) -> None:
    view = small_ensemble.with_references()
    query = "architecture == 'mlp' and checkpoint > 0"
    alone = inpca.InPCA(n_components=3).fit(small_ensemble.select(query).with_references())
    matrix = matrix_of(view)
    no_distances()
    ours = inpca.InPCA(n_components=3, solver=solver, tol=1e-9).fit(matrix, models=query)
    assert_close(ours, alone)
    assert ours.models_ is not None
    assert ours.models_.index.tolist() == alone.models_.index.tolist()
    assert ours.n_features_in_ == len(ours.models_)


def test_selection_of_an_ensemble__uses_the_distances_of_all(
    small_ensemble: inpca.Ensemble, no_distances: Callable[[], None]
) -> None:
    keys = ["run-2/3", "run-0/1", "run-3/5", "run-0/0", "run-1/2"]  # in an order of their own
    view = small_ensemble.select(keys)
    alone = inpca.InPCA(n_components=3).fit(view)
    matrix = matrix_of(small_ensemble.with_references())
    no_distances()
    ours = inpca.InPCA(n_components=3, distances=matrix.path).fit(view)
    assert_close(ours, alone)
    assert ours.models_ is not None
    assert ours.models_.index.tolist() == keys
    by_keys = inpca.InPCA(n_components=3).fit(matrix, models=keys)
    assert by_keys.embedding_ == pytest.approx(ours.embedding_, abs=1e-12)


def test_saved_selection__projects_new_models_by_itself(small_ensemble: inpca.Ensemble) -> None:
    old, new = small_ensemble.select("run != 'run-3'"), small_ensemble.select("run == 'run-3'")
    expected = inpca.InPCA(n_components=3).fit(old).transform(new)
    matrix = matrix_of(small_ensemble)
    ours = inpca.InPCA(n_components=3).fit(matrix, models="run != 'run-3'")
    ours.save(small_ensemble.embeddings_path("old"))
    loaded = inpca.load_embedding(small_ensemble.embeddings_path("old"))
    assert loaded.transform(new) == pytest.approx(expected, abs=1e-5)


def test_saved_selection_of_models_recorded_anew__refuses_to_project(
    small_ensemble: inpca.Ensemble,
) -> None:
    new = small_ensemble.select("run == 'run-3'")
    matrix = matrix_of(small_ensemble)
    with small_ensemble.start_run("run-0", restart=True) as writer:
        for step in range(6):
            flat = {name: np.full((n, 3), 1 / 3) for name, n in (("train", 40), ("test", 20))}
            writer.append(flat, "probs", step=step, epoch=step)
    embedding = inpca.InPCA(n_components=3).fit(matrix, models="run != 'run-3'")
    embedding.save(small_ensemble.embeddings_path("old"))
    loaded = inpca.load_embedding(small_ensemble.embeddings_path("old"))
    for one in (embedding, loaded):
        with pytest.raises(InputError, match="other fingerprint"):
            one.transform(new)
    view = inpca.open_ensemble(small_ensemble.path).select("run != 'run-3'")
    with pytest.raises(InputError, match=r"other predictions of 6 of the models, .* 'run-0/0'"):
        inpca.InPCA(distances=matrix.path).fit(view)


def test_distances_of_another_sample_set__are_refused(small_ensemble: inpca.Ensemble) -> None:
    matrix = matrix_of(small_ensemble)
    view = small_ensemble.select("run != 'run-3'")
    with pytest.raises(InputError, match="computed with sample_set='train', not 'test'"):
        inpca.InPCA(distances=matrix.path, sample_set="test").fit(view)


def test_selection__needs_only_its_own_tiles(small_ensemble: inpca.Ensemble) -> None:
    matrix = matrix_of(small_ensemble, tile_size=6)  # a run is a band
    matrix.remove_tile((0, 3))
    inpca.InPCA().fit(matrix, models="run != 'run-3'")
    with pytest.raises(inpca.DamagedStoreError, match=r"lacks 1 of 3 tiles that it had.*\(0, 3\)"):
        inpca.InPCA().fit(matrix, models="run in ('run-0', 'run-3')")


def test_bad_selections__are_refused(small_ensemble: inpca.Ensemble, tmp_path: Path) -> None:
    matrix = matrix_of(small_ensemble)
    for query, message in (
        ("no_such == 1", "the columns are"),
        ("seed > 99", "selects none"),
        (["run-9/0"], "run-9/0"),
        (["run-0/0"], "at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            inpca.InPCA().fit(matrix, models=query)
    with pytest.raises(InputError, match=r"of an ensemble embed ens\.select"):
        inpca.InPCA().fit(small_ensemble, models="seed == 0")
    bare = inpca.pairwise_distances(np.full((3, 2, 2), 0.5), out=tmp_path / "d.zarr")
    with pytest.raises(InputError, match="was computed from an array"):
        inpca.InPCA().fit(bare, models="seed == 0")


# --- a start from a former embedding ---------------------------------------------------------


def trainings(n_runs: int, seed: int = 0) -> np.ndarray:
    """Logits of runs of 20 checkpoints from ignorance towards saturation."""
    rng = np.random.default_rng(seed)
    truth = np.eye(4)[np.arange(30) % 4]
    t = np.linspace(0, 1, 20)[:, None, None]
    runs = []
    for _ in range(n_runs):
        detour, end, wave = (rng.normal(size=(30, 4)) for _ in range(3))
        runs.append(20 * t**2 * truth + 4 * t * (1 - t) * detour + t * end + np.sin(9 * t) * wave)
    return np.concatenate(runs)


@pytest.fixture
def grown(tmp_path: Path) -> inpca.Ensemble:
    """35 runs: 700 models."""
    ensemble = inpca.create_ensemble(
        tmp_path / "grown.ensemble", sample_sets={"train": np.arange(30) % 4}, n_classes=4
    )
    for run, logits in enumerate(np.split(trainings(35), 35)):
        ensemble.add_run(f"run-{run:02}", {"train": logits}, kind="logits")
    return inpca.open_ensemble(ensemble.path)


def test_warm_start__saves_passes(grown: inpca.Ensemble) -> None:
    matrix = matrix_of(grown, tile_size=128)
    options = {"n_components": 10, "solver": "lanczos", "block_size": 48}
    cold = inpca.InPCA(**options).fit(matrix)
    again = inpca.InPCA(**options).fit(matrix, init=cold)
    former = inpca.InPCA(**options).fit(matrix, models="run != 'run-34'")
    warm = inpca.InPCA(**options).fit(matrix, init=former)
    assert again.n_passes_ == 1
    assert warm.n_passes_ < cold.n_passes_
    for embedding in (again, warm):
        assert embedding.eigenvalues_ == pytest.approx(cold.eigenvalues_, rel=1e-9)
        assert embedding.embedding_ == pytest.approx(cold.embedding_, abs=1e-4)


def test_warm_start__matches_rows_by_key_whatever_the_order(grown: inpca.Ensemble) -> None:
    matrix = matrix_of(grown, tile_size=128)
    former = inpca.InPCA(n_components=5, tol=1e-9).fit(matrix)
    former.save(grown.embeddings_path("train"))
    keys = [str(key) for key in reversed(grown.models.index)]
    ours = inpca.InPCA(n_components=5, solver="lanczos").fit(
        matrix, models=keys, init=grown.embeddings_path("train")
    )
    assert ours.n_passes_ == 1
    assert ours.embedding_[::-1] == pytest.approx(former.embedding_, abs=1e-5)


def test_former_embedding_of_other_models__is_refused() -> None:
    d = inpca.pairwise_distances(trainings(3), kind="logits")
    former = inpca.InPCA(n_components=2, metric="precomputed").fit(d[:20, :20])
    with pytest.raises(InputError, match="embedding of 20 models, `X` has 60, and not both know"):
        inpca.InPCA(n_components=2, metric="precomputed").fit(d, init=former)


def test_former_embedding_without_a_model_in_common__is_refused(
    small_ensemble: inpca.Ensemble,
) -> None:
    former = inpca.InPCA(n_components=2).fit(small_ensemble.select("run == 'run-0'"))
    with pytest.raises(InputError, match=r"it shares none \(its first is 'run-0/0'\)"):
        inpca.InPCA(n_components=2).fit(small_ensemble.select("run == 'run-1'"), init=former)
