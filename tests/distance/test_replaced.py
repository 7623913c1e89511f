"""A run that is recorded again: never a finished number of the old and the new, and its name."""

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError, TiledMatrix, pairwise_distances
from inpca.distance.cluster import _open, compute_block, place_of
from inpca.distance.sinks import is_finished
from inpca.geometry.attribution import attribution
from inpca.geometry.tube import distances_to_geodesic, tube_widths
from inpca.predictions import ArrayPredictions
from inpca.store.predictions import StoredPredictions
from inpca.store.run import Run

TILE, N_SAMPLES, N_CLASSES, N_CHECKPOINTS = 16, 600, 3, 20


def predictions(seed, n_models=N_CHECKPOINTS):
    draw = np.random.default_rng(seed)
    return draw.dirichlet(np.ones(N_CLASSES), size=(n_models, N_SAMPLES)).astype(np.float32)


def record_again(ensemble, run="b", seed=99, n_models=N_CHECKPOINTS):
    with ensemble.start_run(run, restart=True) as writer:
        for step, model in enumerate(predictions(seed, n_models)):
            writer.append({"train": model, "test": model}, "probs", step=step, epoch=step)


@pytest.fixture
def ensemble(tmp_path):
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(
        tmp_path / "e", sample_sets={"train": labels, "test": labels}, n_classes=N_CLASSES
    )
    for seed, run in enumerate(("a", "b", "d")):
        ensemble.add_run(run, {"train": predictions(seed), "test": predictions(seed + 50)})
    return ensemble


def replaced_after(monkeypatch, ensemble, n_reads, replace=record_again):
    """Let `replace` happen after so many reads, whatever reads."""
    counts = {"reads": 0}
    real = Run.read_into

    def read_into(self, *arguments):
        counts["reads"] += 1
        if counts["reads"] == n_reads:
            replace(ensemble)
        return real(self, *arguments)

    monkeypatch.setattr(Run, "read_into", read_into)


def delete_run(ensemble):
    import shutil

    shutil.rmtree(ensemble.path / "runs" / "b.zarr")


@pytest.mark.parametrize("replace", [record_again, delete_run])
@pytest.mark.parametrize("n_reads", [1, 25, 61])
def test_distances__of_a_run_recorded_again_meanwhile_are_refused(
    ensemble, monkeypatch, n_reads, replace
):
    replaced_after(monkeypatch, ensemble, n_reads, replace)
    with pytest.raises(InputError, match=r"Run 'b' was recorded again, or deleted.*call again"):
        pairwise_distances(ensemble, tile_size=TILE, memory="2MB", executor="serial")


@pytest.mark.parametrize("part", [None, "1/2"])
@pytest.mark.parametrize("n_reads", [1, 25, 101])
def test_a_stored_matrix__of_a_run_recorded_again_meanwhile_is_not_finished(
    ensemble, monkeypatch, tmp_path, n_reads, part
):
    """The tiles that are there are those of the old predictions, to the last bit."""
    whole = pairwise_distances(ensemble, out=tmp_path / "whole.zarr", tile_size=TILE)
    replaced_after(monkeypatch, ensemble, n_reads)
    options = {"out": tmp_path / "d.zarr", "tile_size": TILE, "memory": "2MB", "part": part}
    with pytest.raises(InputError, match="Run 'b' was recorded again"):
        pairwise_distances(ensemble, executor="serial", **options)
    matrix = TiledMatrix.open(tmp_path / "d.zarr")
    assert matrix.missing()
    assert not is_finished(matrix)
    for tile in set(matrix.grid.tiles()) - set(matrix.missing()):
        assert np.array_equal(matrix.read_tile(tile), whole.read_tile(tile))
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"model 'b/0' first: run 'b' was recorded again"):
        pairwise_distances(ensemble, **options)
    again = pairwise_distances(ensemble, out=tmp_path / "d.zarr", restart=True, tile_size=TILE)
    assert np.array_equal(np.asarray(again), pairwise_distances(ensemble).astype(np.float32))


def test_a_worker__notices_that_a_run_was_recorded_again_between_two_tasks(ensemble, tmp_path):
    from inpca.distance.cluster import BlockTask

    matrix = pairwise_distances(ensemble, out=tmp_path / "d.zarr", tile_size=TILE)
    place = place_of(ensemble.path, matrix, "train")
    for tile in ((0, 0), (0, 1)):
        matrix.remove_tile(tile)
    _open.cache_clear()
    compute_block(BlockTask(place, ((0, 0),), 10**9, "bhattacharyya", "numba"))
    record_again(ensemble)
    with pytest.raises(InputError, match="Run 'b' was recorded again"):
        compute_block(BlockTask(place, ((0, 1),), 10**9, "bhattacharyya", "numba"))
    assert matrix.missing() == [(0, 1)]


COMPUTED = {
    "progress": lambda ensemble: inpca.progress(ensemble, executor="serial"),
    "progress on each run's own way": lambda ensemble: inpca.progress(ensemble, end="last"),
    "progress of samples": inpca.sample_progress,
    "average": lambda ensemble: inpca.average(ensemble, executor="serial"),
    "centroid": lambda ensemble: inpca.average(ensemble, "bhattacharyya", executor="serial"),
    "fewer classes": lambda ensemble: pairwise_distances(inpca.project_classes(ensemble, 2)),
    "trajectories": lambda ensemble: inpca.trajectory_distances(ensemble, s=3, executor="serial"),
    "trajectories one by one": lambda ensemble: inpca.trajectory_distances(
        ensemble, s=3, metric="jeffreys", executor="serial"
    ),
    "tube": lambda ensemble: tube_widths(ensemble, s=3, executor="serial"),
    "from the geodesic": lambda ensemble: distances_to_geodesic(ensemble, s=3, executor="serial"),
    "columns": lambda ensemble: pairwise_distances(predictions(3), ensemble),
}


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("n_reads", [2, 59])
def test_what_is_computed__of_a_run_recorded_again_meanwhile_is_refused(
    ensemble, monkeypatch, name, n_reads
):
    replaced_after(monkeypatch, ensemble, n_reads)
    with pytest.raises(InputError, match="Run 'b' was recorded again"):
        COMPUTED[name](ensemble)


def test_attribution__of_a_run_recorded_again_meanwhile_is_refused(ensemble, monkeypatch):
    embedding = inpca.InPCA(2).fit(ensemble)
    replaced_after(monkeypatch, ensemble, 59)
    with pytest.raises(InputError, match="Run 'b' was recorded again"):
        attribution(ensemble, embedding, executor="serial")


def test_stored_trajectories__of_a_run_recorded_again_meanwhile_are_not_gone_on_with(
    ensemble, monkeypatch, tmp_path
):
    options = {"s": 9, "out": tmp_path / "t.zarr", "executor": "serial"}
    replaced_after(monkeypatch, ensemble, 75)
    with pytest.raises(InputError, match="Run 'b' was recorded again"):
        inpca.trajectory_distances(ensemble, **options)
    monkeypatch.undo()
    with pytest.raises(InputError, match="computed from something else"):
        inpca.trajectory_distances(ensemble, **options)


def test_a_run_that_goes_on__meanwhile_changes_nothing(ensemble, monkeypatch):
    expected = pairwise_distances(ensemble)

    def go_on(ensemble):
        with ensemble.start_run("b", resume=True) as writer:
            both = {"train": predictions(5, 1)[0], "test": predictions(6, 1)[0]}
            writer.append(both, "probs", step=20, epoch=20)

    view = ensemble.select(list(ensemble.models.index))
    replaced_after(monkeypatch, ensemble, 30, go_on)
    assert np.array_equal(pairwise_distances(view, executor="serial"), expected)


class Changing:
    """A source of its own kind, whose predictions change while they are read."""

    def __init__(self, models):
        self._models, self._reads = models, 0
        self.shape, self.dtype = models.shape, np.dtype(np.float32)

    def read(self, models, samples):
        self._reads += 1
        if self._reads == 2:
            self._models = self._models[::-1]
        return ArrayPredictions(self._models).read(models, samples)

    def fingerprint(self):
        return ArrayPredictions(self._models).fingerprint()


def test_a_source_of_another_kind__that_changes_meanwhile_is_refused(tmp_path):
    source = Changing(predictions(0, 40))
    with pytest.raises(InputError, match="`X` has other predictions than when"):
        pairwise_distances(source, out=tmp_path / "d.zarr", tile_size=TILE, executor="serial")
    matrix = TiledMatrix.open(tmp_path / "d.zarr")
    assert len(matrix.missing()) == matrix.grid.n_tiles
    assert not is_finished(matrix)


# -- what a refusal says --------------------------------------------------------------------------


def grown(ensemble, out):
    """A matrix with a run in the middle that came last."""
    pairwise_distances(ensemble, out=out, tile_size=TILE)
    ensemble.add_run("c", {"train": predictions(7), "test": predictions(8)})
    return pairwise_distances(ensemble, out=out, extend=True)


def test_a_matrix_that_has_grown__is_gone_on_with_in_its_own_order(ensemble, tmp_path):
    out = tmp_path / "d.zarr"
    order = list(grown(ensemble, out).models.index)
    assert order != list(ensemble.models.index)
    matrix, info = pairwise_distances(ensemble, out=out, return_info=True)
    assert info.plan.n_tiles == 0
    assert list(matrix.models.index) == order
    whole = np.asarray(matrix)
    matrix.remove_tile((0, 2))
    matrix, info = pairwise_distances(ensemble, out=out, return_info=True)
    assert info.plan.n_tiles == 1
    assert np.array_equal(np.asarray(matrix), whole)
    view = ensemble.select("run != 'x'")
    assert pairwise_distances(view, out=out, return_info=True)[1].plan.n_tiles == 0


def test_an_order_that_was_chosen__is_not_replaced_by_the_matrix_own(ensemble, tmp_path):
    grown(ensemble, tmp_path / "d.zarr")
    chosen = ensemble.select(list(ensemble.models.index)[::-1])
    with pytest.raises(InputError, match="the same models in another order"):
        pairwise_distances(chosen, out=tmp_path / "d.zarr")


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize("n_models", [N_CHECKPOINTS, 5])
def test_a_run_recorded_again_after_growth__is_named_first(ensemble, tmp_path, n_models, extend):
    grown(ensemble, tmp_path / "d.zarr")
    record_again(ensemble, "a", n_models=n_models)
    with pytest.raises(InputError) as refusal:
        pairwise_distances(ensemble, out=tmp_path / "d.zarr", extend=extend)
    text = str(refusal.value)
    assert f"{n_models} models have other predictions now, model 'a/0' first" in text
    told = text.index("run 'a' was recorded again")
    for later in ("order", "no longer", "not among", "instead"):
        assert text.find(later) == -1 or text.index(later) > told
    assert "if models have been added" not in text


def test_another_sample_set__is_said_to_be_one(ensemble, tmp_path):
    pairwise_distances(ensemble, out=tmp_path / "d.zarr", tile_size=TILE)
    with pytest.raises(InputError, match="sample set 'train' instead of 'test'"):
        pairwise_distances(ensemble, out=tmp_path / "d.zarr", sample_set="test")


def test_what_was_recorded__is_told_by_every_kind_of_view(ensemble):
    source = ensemble.predictions("train")
    assert isinstance(source, StoredPredictions)
    assert set(source.recorded()) == {"a", "b", "d"}
    views = [inpca.project_classes(source, 2)]
    assert all(view.recorded() == source.recorded() for view in views)
    assert pd.Series(source.recorded()).map(len).eq(8 * N_CHECKPOINTS).all()
