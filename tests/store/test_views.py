"""Views of an ensemble whose runs are recorded again, deleted, or go on."""

import numpy as np
import pytest

import inpca
from inpca import DamagedStoreError, InputError

AGAIN = "Run 'cnn' was recorded again since this view was made; make the view again"

VIEWS = {
    "references": lambda ensemble: ensemble.with_references(),
    "selection": lambda ensemble: ensemble.select("run == 'cnn'"),
    "keys": lambda ensemble: ensemble.select(["cnn/0", "mlp/0", "mlp/1"]),
    "view of a view": lambda ensemble: ensemble.with_references().select("step >= 0"),
}


def record_again(ensemble, probs, seed_config=None, metrics=None):
    with ensemble.start_run("cnn", seed_config or {"lr": 0.5}, restart=True) as writer:
        for step in range(4):
            both = {"train": probs(1)[0], "test": probs(1, 7)[0]}
            writer.append(both, "probs", step=step * 10, epoch=step / 2, metrics=metrics)


@pytest.mark.parametrize("name", VIEWS)
def test_view__refuses_predictions_of_a_run_recorded_again(recorded, probs, name):
    view = VIEWS[name](recorded)
    view.predictions()
    record_again(recorded, probs)
    with pytest.raises(InputError, match=AGAIN):
        view.predictions()
    with pytest.raises(InputError, match=AGAIN):
        view.run("cnn")
    VIEWS[name](recorded).predictions()
    recorded.predictions()


def test_view__refuses_a_run_with_other_settings_or_metrics_alone(recorded):
    run = recorded.run("cnn")
    same = {
        name: np.exp([run.log_probs(name, k) for k in range(4)], dtype=np.float64)
        for name in ("train", "test")
    }
    for name in same:
        same[name] /= same[name].sum(axis=-1, keepdims=True)

    def again(config, metrics):
        recorded.delete_run("cnn")
        recorded.add_run("cnn", same, config=config, metrics=metrics)

    again({"lr": 1}, {"score": np.arange(4.0)})
    view = recorded.select("run == 'cnn'")
    again({"lr": 1}, {"score": np.arange(4.0)})
    view.predictions()  # the same, to the last bit
    for other in (({"lr": True}, {"score": np.arange(4.0)}), ({"lr": 1}, {"score": np.ones(4)})):
        again(*other)
        with pytest.raises(InputError, match=AGAIN):
            view.predictions()


COMPUTED = {
    "distances": lambda view, path: inpca.pairwise_distances(view, out=path / "d.zarr"),
    "embedding": lambda view, path: inpca.InPCA(2).fit(view),
    "progress": lambda view, path: inpca.progress_table(view),
    "averages": lambda view, path: inpca.average_groups(view, "run"),
    "average": lambda view, path: inpca.average(view),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_nothing_is_computed__from_a_view_of_a_run_recorded_again(recorded, probs, tmp_path, name):
    view = recorded.with_references()
    record_again(recorded, probs)
    with pytest.raises(InputError, match=AGAIN):
        COMPUTED[name](view, tmp_path)
    assert not (tmp_path / "d.zarr").exists()
    assert recorded.runs == ["cnn", "mlp"]


def test_view__holds_while_its_run_goes_on(ensemble, probs):
    def append(writer, n, **metrics):
        for _ in range(n):
            both = {"train": probs(1)[0], "test": probs(1, 7)[0]}
            writer.append(both, "probs", step=writer.n_checkpoints, epoch=0.5, metrics=metrics)

    with ensemble.start_run("cnn", {"lr": 0.1}) as writer:
        append(writer, 2)
        view = ensemble.with_references()
        append(writer, 1, late=3.0)  # a column that the view did not know
        before = view.predictions().read(slice(0, 4), slice(0, 5))
    with ensemble.start_run("cnn", resume=True) as writer:
        append(writer, 1)
    assert np.array_equal(view.predictions().read(slice(0, 4), slice(0, 5)), before)
    assert view.run("cnn").n_checkpoints == 4
    with ensemble.start_run("cnn", {"lr": 0.1}, restart=True) as writer:
        append(writer, 1)
        with pytest.raises(InputError, match=AGAIN):
            view.predictions()


def test_view__names_a_run_that_was_deleted(recorded):
    view = recorded.with_references()
    recorded.delete_run("cnn")
    with pytest.raises(InputError, match="Run 'cnn' was deleted"):
        view.predictions()


def test_catalogue_of_an_older_version__without_recordings_is_read_again(recorded, monkeypatch):
    from inpca.store import catalogue

    monkeypatch.setattr(catalogue, "_SETTLED_NS", -(10**18))
    recorded.models.to_numpy()
    entries = catalogue._load(recorded.path / "catalogue")
    assert entries.keys() == {"cnn", "mlp"}
    for entry in entries.values():
        del entry["recording"]
    catalogue._save(recorded.path / "catalogue", entries)
    assert catalogue._load(recorded.path / "catalogue") == {}
    inpca.open_ensemble(recorded.path).with_references().predictions()


@pytest.fixture
def used(recorded):
    """An embedding that has read the predictions it was made from."""
    embedding = inpca.InPCA(2).fit(recorded)
    embedding.transform(recorded)
    return embedding


def test_open_predictions__name_a_run_that_was_deleted(recorded, used):
    source, run = recorded.predictions(), recorded.run("cnn")
    recorded.delete_run("cnn")
    for read in (
        lambda: used.transform(recorded),
        lambda: source.read(slice(0, 1), slice(0, 1)),
        lambda: run.log_probs("train", 0),
        lambda: run.metrics,
    ):
        with pytest.raises(InputError, match="Run 'cnn' was deleted"):
            read()


def test_open_predictions__name_a_run_that_was_recorded_again(recorded, used, probs):
    run = recorded.run("cnn")
    record_again(recorded, probs)
    for read in (lambda: used.transform(recorded), lambda: run.log_probs("train", 0)):
        with pytest.raises(InputError, match="Run 'cnn' was recorded again since it was opened"):
            read()


def test_damage_of_a_run_that_went_on__is_damage(recorded, probs):
    run = recorded.run("cnn")
    with recorded.start_run("cnn", resume=True) as writer:
        writer.append({"train": probs(1)[0], "test": probs(1, 7)[0]}, "probs", step=50, epoch=9.0)
    (run.path / "train" / "log_prob" / "c.0.0.0").unlink()
    with pytest.raises(DamagedStoreError, match="restore it from a copy"):
        run.log_probs("train", 0)
