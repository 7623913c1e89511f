"""Models added to an ensemble: only their rows and columns are computed; same bytes as anew."""

import shutil
from pathlib import Path

import naive
import numpy as np
import pytest

import inpca
from inpca import InputError, ResourceError, TiledMatrix, pairwise_distances
from inpca.store import replacement
from inpca.store.claim import claimed, door

TILE = 16
N_SAMPLES, N_CLASSES = 60, 4


def predictions(n_models, seed=0):
    models = naive.random_models(n_models, N_SAMPLES, N_CLASSES, seed=seed).astype(np.float32)
    models[0] = naive.truth(np.arange(N_SAMPLES) % N_CLASSES, N_CLASSES)[0]
    models[1] = naive.truth(np.arange(N_SAMPLES) % 3, N_CLASSES)[0]
    return models


@pytest.fixture
def log_p():
    return predictions(75)


def files(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def beside(path):
    """What lies beside the matrix: nothing but its lock is left behind."""
    return {entry.name for entry in path.parent.iterdir()} - {path.name, f"{path.name}.lock"}


def write(log_p, out, **options):
    options = {"tile_size": TILE, "executor": 1, **options}
    return pairwise_distances(log_p, kind="log_probs", out=out, **options)


@pytest.mark.parametrize("n_old", [2, 15, 16, 17, 40, 48, 74])
def test_extend__gives_the_bytes_of_all_models_at_once(log_p, tmp_path, n_old):
    whole = write(log_p, tmp_path / "whole" / "d.zarr")
    out = tmp_path / "grown" / "d.zarr"
    write(log_p[:n_old], out)
    matrix, info = write(log_p, out, extend=True, tile_size=None, return_info=True)
    assert files(out) == files(whole.path)
    n_kept = n_old // TILE
    assert info.plan.n_tiles == matrix.grid.n_tiles - n_kept * (n_kept + 1) // 2
    assert matrix.verify() == []
    assert beside(out) == set()


def test_extend__of_a_finished_matrix_leaves_the_old_one_readable_by_who_has_it_open(
    log_p, tmp_path
):
    old = write(log_p[:40], tmp_path / "d.zarr")
    before = old.to_array()
    write(log_p, tmp_path / "d.zarr", extend=True)
    assert (old.to_array() == before).all()


def test_extend__of_an_unfinished_matrix_keeps_what_is_there(log_p, tmp_path):
    old = write(log_p[:48], tmp_path / "d.zarr")
    old.remove_tile((0, 1))
    matrix, info = write(log_p, tmp_path / "d.zarr", extend=True, return_info=True)
    assert info.plan.n_tiles == matrix.grid.n_tiles - 5
    assert matrix.complete


def test_extend__with_the_same_models_computes_nothing(log_p, tmp_path):
    write(log_p, tmp_path / "d.zarr", extend=True)
    before = files(tmp_path / "d.zarr")
    _, info = write(log_p, tmp_path / "d.zarr", extend=True, return_info=True)
    assert info.plan.n_tiles == 0
    assert files(tmp_path / "d.zarr") == before


def change_one(log_p):
    changed = log_p.copy()
    changed[7] = changed[8]
    return changed


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        (change_one, {}, "model 7 first"),
        (lambda log_p: log_p[::-1], {}, "model 0 first"),
        (lambda log_p: log_p[:30], {}, "begin with the 40 models"),
        (lambda log_p: log_p, {"tile_size": 32}, "tile_size 16 instead of 32"),
        (lambda log_p: log_p.astype(np.float64), {}, "dtype"),
        (lambda log_p: log_p, {"restart": True}, "pass one"),
    ],
    ids=["changed", "reordered", "fewer", "tile_size", "dtype", "restart"],
)
def test_extend__refuses_what_does_not_begin_with_the_old_models(
    log_p, tmp_path, models, options, message
):
    out = tmp_path / "d.zarr"
    write(log_p[:40], out)
    before = files(out)
    with pytest.raises(InputError, match=message):
        write(models(log_p), out, extend=True, **options)
    assert files(out) == before


def test_extend__refuses_what_it_cannot_prove(log_p, tmp_path):
    class Nameless:
        def __init__(self, models):
            self._models = inpca.predictions.ArrayPredictions(models, "log_probs")
            self.shape, self.dtype = self._models.shape, self._models.dtype
            self.read, self.fingerprint = self._models.read, self._models.fingerprint

    pairwise_distances(Nameless(log_p[:40]), out=tmp_path / "d.zarr", tile_size=TILE)
    with pytest.raises(InputError, match="no `digests`"):
        write(log_p, tmp_path / "d.zarr", extend=True)


def test_extend__needs_an_output(log_p):
    with pytest.raises(InputError, match="`extend` needs `out`"):
        pairwise_distances(log_p, kind="log_probs", extend=True)


def test_more_models__are_refused_without_extend_and_told_of_it(log_p, tmp_path):
    write(log_p[:40], tmp_path / "d.zarr")
    with pytest.raises(InputError, match=r"extend=True.*restart=True"):
        write(log_p, tmp_path / "d.zarr")


def test_extend__waits_for_other_parts_of_the_old_matrix(log_p, tmp_path):
    out = tmp_path / "d.zarr"
    write(log_p[:40], out)
    with door(out):
        held = claimed(out, (1, 2))
        held.__enter__()
    try:
        with pytest.raises(ResourceError, match="while other processes"):
            write(log_p, out, extend=True, part=(2, 2))
    finally:
        held.__exit__(None, None, None)


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_extend__killed_while_the_matrix_is_replaced__goes_on(log_p, tmp_path, monkeypatch, step):
    """Before the commit, between the two renames, and before the old folder is removed."""
    whole = write(log_p, tmp_path / "whole" / "d.zarr")
    out = tmp_path / "grown" / "d.zarr"
    write(log_p[:40], out)

    class Killed(BaseException):
        pass

    def stop(*arguments):
        raise Killed

    real = replacement.os.rename

    def rename(source, target):
        if step == "before" or (step == "between" and Path(source).suffix == ".next"):
            raise Killed
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(replacement.os, "rename", rename)
        patch.setattr(replacement, "remove", stop if step == "after" else shutil.rmtree)
        with pytest.raises(Killed):
            write(log_p, out, extend=True)
    if step == "between":
        with pytest.raises(InputError, match="is being replaced; if the call"):
            TiledMatrix.open(out)
    else:
        assert len(TiledMatrix.open(out)) == {"before": 40, "after": 75}[step]
    assert len(beside(out)) >= 1
    write(log_p, out, extend=True)
    assert files(out) == files(whole.path)
    assert beside(out) == set()


# --- ensembles ----------------------------------------------------------------------------------


@pytest.fixture
def ensemble(tmp_path):
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(
        tmp_path / "e", sample_sets={"train": labels}, n_classes=N_CLASSES
    )
    for number, run in enumerate(("b", "d")):
        ensemble.add_run(run, {"train": predictions(20, seed=number)}, kind="log_probs")
    return ensemble


def test_extend__of_an_ensemble_keeps_its_order_and_appends_what_is_new(ensemble):
    """New runs sort between the old ones, and an old run has gone on: the rows stay."""
    out = ensemble.distances_path("train")
    old = pairwise_distances(ensemble.with_references(), out=out, tile_size=TILE)
    keys = list(old.models.index)
    ensemble.add_run("c", {"train": predictions(9, seed=2)}, kind="log_probs")
    with ensemble.start_run("b", resume=True) as writer:
        writer.append({"train": predictions(2, seed=3)[1]}, "log_probs", step=20, epoch=20)
    larger = ensemble.with_references()
    matrix, info = pairwise_distances(larger, out=out, extend=True, return_info=True)
    new = ["b/20", *(f"c/{number}" for number in range(9))]
    assert list(matrix.models.index) == [*keys, *new]
    assert info.plan.n_tiles == matrix.grid.n_tiles - 3
    whole = pairwise_distances(
        larger.select([*keys, *new]), out=ensemble.distances_path("whole"), tile_size=TILE
    )
    assert files(out) == files(whole.path)
    _, info = pairwise_distances(larger, out=out, extend=True, return_info=True)
    assert info.plan.n_tiles == 0


def test_extend__of_an_ensemble_that_lacks_a_model_names_it(ensemble):
    out = ensemble.distances_path("train")
    pairwise_distances(ensemble, out=out, tile_size=TILE)
    with pytest.raises(InputError, match="'b/0' first"):
        pairwise_distances(ensemble.select("run == 'd'"), out=out, extend=True)


def test_extend__of_an_ensemble_whose_run_was_recorded_again_names_the_model(ensemble):
    out = ensemble.distances_path("train")
    pairwise_distances(ensemble, out=out, tile_size=TILE)
    with ensemble.start_run("d", restart=True) as writer:
        for step, model in enumerate(predictions(20, seed=9)):
            writer.append({"train": model}, "log_probs", step=step, epoch=step)
    with pytest.raises(InputError, match="model 'd/2' first"):  # 0 and 1 are the same
        pairwise_distances(ensemble, out=out, extend=True)


def test_refusal__tells_models_that_were_added_by_name_and_number(tmp_path):
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(
        tmp_path / "e", sample_sets={"train": labels}, n_classes=N_CLASSES
    )
    models = np.exp(predictions(6).astype(float))
    ensemble.add_run("first", {"train": models[:4]})
    inpca.pairwise_distances(inpca.open_ensemble(tmp_path / "e"), out=tmp_path / "d.zarr")
    ensemble.add_run("second", {"train": models[4:]})
    grown = inpca.open_ensemble(tmp_path / "e")
    with pytest.raises(
        InputError, match=r"4 models instead of 6: 2 added, 'second/0' first.*extend=True"
    ):
        inpca.pairwise_distances(grown, out=tmp_path / "d.zarr")
    with pytest.raises(InputError, match="the same models in another order"):
        inpca.pairwise_distances(
            grown.select(["first/1", "first/0", "first/2", "first/3"]), out=tmp_path / "d.zarr"
        )
