"""Names and texts that could not be stored, listed or kept are refused before they are written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca.errors import DamagedStoreError, InputError
from inpca.store.documents import sealed

N, C = 30, 4
UNIFORM = np.full((1, N, C), 1 / C)
LABELS = np.arange(N) % C
BAD_TEXTS = ["\ud800", "a\x00b", "\x1b[31mred", "a\rb", "\x7f", "\x9b", "a\udfff"]
LEFTOVERS = ["norm.12.partial", "norm.partial", "norm.7.next", "a.next", "x.lock", "X.PARTIAL"]
NO_NAMES = [*BAD_TEXTS, b"norm", None, 3, "", "a/b", "..", "__x", "zarr.json", *LEFTOVERS]


def runs(ensemble):
    return sorted(path.name for path in (ensemble.path / "runs").iterdir())


@pytest.mark.parametrize("text", BAD_TEXTS, ids=ascii)
def test_text_that_files_cannot_hold__is_refused_as_setting_and_id(ensemble, tmp_path, text):
    with pytest.raises(InputError, match=r"`config\['note'\]` must be text without control"):
        ensemble.start_run("a", {"note": text})
    assert runs(ensemble) == []
    with pytest.raises(InputError, match=r"`ids\['train'\]`"):
        inpca.create_ensemble(
            tmp_path / "e", sample_sets={"train": [0]}, n_classes=2, ids={"train": [text]}
        )
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("value", [b"a", None, 1.5, True, ["a"]], ids=repr)
def test_sample_id__that_is_no_text_is_refused(tmp_path, value):
    with pytest.raises(InputError, match=r"An id in `ids\['train'\]` must be text, not"):
        inpca.create_ensemble(
            tmp_path / "e", sample_sets={"train": [0]}, n_classes=2, ids={"train": [value]}
        )
    assert not (tmp_path / "e").exists()


def test_sample_ids__may_be_whole_numbers(tmp_path):
    ids = {"train": [3, np.int64(4)]}
    ens = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2, ids=ids)
    assert ens.sample_sets["train"].ids == ("3", "4")


@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_name_that_is_no_array_s__is_refused_wherever_it_comes_in(ensemble, tmp_path, name):
    with pytest.raises(InputError, match="A key of `config`"):
        ensemble.start_run("a", {name: 1})
    with pytest.raises(InputError, match="A key of `metrics`"):
        ensemble.add_run("a", {"train": UNIFORM}, metrics={name: [1]})
    assert runs(ensemble) == []
    with pytest.raises(InputError, match="A key of `sample_sets`"):
        inpca.create_ensemble(tmp_path / "e", sample_sets={name: [0]}, n_classes=2)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("layer", [*BAD_TEXTS, "a/b", *LEFTOVERS], ids=ascii)
def test_layer__whose_name_is_no_array_s_is_refused(ensemble, layer):
    observables = {f"train/radius_plus.{layer}": [1.0]}
    with pytest.raises(InputError, match="name of an observable"):
        ensemble.add_run("a", {"train": UNIFORM}, observables=observables)
    assert runs(ensemble) == []


@pytest.mark.parametrize(
    "run_id", [*BAD_TEXTS, b"a", None, "a.partial", "a.5.partial", "a.next", "a.lock", "a.zarr",
               "a.sweep"], ids=ascii,
)  # fmt: skip
def test_run_id__that_is_no_folder_of_its_own_is_refused(ensemble, run_id):
    with pytest.raises(InputError, match="`run_id`"):
        ensemble.start_run(run_id)
    assert runs(ensemble) == []


def test_run_id__that_differs_only_in_case_is_refused(recorded, probs):
    with pytest.raises(InputError, match="differs only in case from the run 'cnn'"):
        recorded.start_run("CNN")
    with recorded.start_run("new") as writer:
        writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=0)
        with pytest.raises(InputError, match="'new'"):
            recorded.start_run("New")
    recorded.start_run("cnn", resume=True).close()
    recorded.start_run("cnn", restart=True).close()


@pytest.mark.parametrize("ending", [".zarr", ".lock"])
def test_run_of_an_older_inpca__keeps_its_name(ensemble, monkeypatch, ending):
    run_id = f"cnn{ending}"
    with monkeypatch.context() as patch:
        patch.setattr("inpca.store.schema.check_new_run_id", lambda *arguments: None)
        ensemble.add_run(run_id, {"train": UNIFORM})
    assert ensemble.runs == [run_id]
    assert ensemble.predictions().shape[0] == 1
    with ensemble.start_run(run_id, resume=True) as writer:
        assert writer.n_checkpoints == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "train_loss"], "'train_loss'.*another set's loss"),
        (["a_Error", "a"], "another set's loss"),
        (["train", "Train"], "only in case"),
    ],
)
def test_sample_sets__that_would_share_a_folder_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        inpca.create_ensemble(
            tmp_path / "e", sample_sets={name: [0] for name in names}, n_classes=2
        )
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    "name",
    ["average", "average_of", "average_source", "n_averaged", "run", "kind", "model", "epoch",
     "checkpoint", "step", "test_error"],
)  # fmt: skip
def test_name_that_the_models_table_uses__is_refused_as_setting_and_metric(ensemble, name):
    with pytest.raises(InputError, match=f"{name!r}, which the models table uses itself"):
        ensemble.start_run("a", {name: 1})
    with pytest.raises(InputError, match=f"`metrics` must not have the key {name!r}"):
        ensemble.add_run("a", {"train": UNIFORM}, metrics={name: [1]})
    assert runs(ensemble) == []


def rewrite_config(ensemble, run_id, config):
    """Give a run the settings that an older inpca would have let in."""
    root = ensemble.path / "runs" / f"{run_id}.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["config"] = config
    root.write_bytes(sealed(content))


def test_run_of_an_older_inpca_with_a_setting_average_of__is_a_run(recorded):
    rewrite_config(recorded, "cnn", {"average_of": "mine"})
    assert recorded.runs == ["cnn", "mlp"]
    assert recorded.models.loc["cnn/0", "average_of"] == "mine"


def test_text_of_an_older_inpca_that_is_no_unicode__is_named_when_it_is_frozen(recorded):
    rewrite_config(recorded, "cnn", {"note": "\ud800"})
    with pytest.raises((InputError, DamagedStoreError), match="'note'"):
        inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))
    assert not recorded.distances_path("train").exists()


def test_text_with_tab_and_line_feed__is_kept(ensemble):
    note = "first\tline\nsecond, “quoted” `$x$` é 𝛼"
    ensemble.add_run("a", {"train": UNIFORM}, config={"note": note})
    assert ensemble.models["note"].tolist() == [note]
    assert ensemble.select(f"note == {note!r}").runs == ["a"]


# -- deleting -------------------------------------------------------------------------------------


def test_delete_run__removes_it_and_check_knows_of_it(recorded, monkeypatch):
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    everything = recorded.with_references()
    matrix = inpca.pairwise_distances(everything, out=recorded.distances_path("train"))
    before = matrix.to_array()
    embedding = inpca.InPCA(n_components=2).fit(matrix)
    embedding.save(recorded.embeddings_path("train"))
    recorded.delete_run("cnn")
    assert recorded.runs == ["mlp"]
    assert runs(recorded) == ["mlp.zarr"]
    assert inpca.open_ensemble(recorded.path).check() == []
    matrix = inpca.TiledMatrix.open(matrix.path)
    np.testing.assert_array_equal(matrix.to_array(), before)
    pd.testing.assert_frame_equal(matrix.models, everything.models)
    loaded = inpca.load_embedding(recorded.embeddings_path("train"))
    np.testing.assert_array_equal(loaded.embedding_, embedding.embedding_)
    again = inpca.InPCA(n_components=2).fit(matrix)
    np.testing.assert_allclose(again.embedding_, embedding.embedding_)


def test_deleted_run__is_named_when_its_predictions_are_needed(recorded):
    matrix = inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))
    inpca.InPCA(n_components=2).fit(matrix).save(recorded.embeddings_path("train"))
    view = recorded.select("run == 'cnn'")
    keys = list(view.models.index)
    recorded.delete_run("cnn")
    gone = "Run 'cnn' was deleted"
    with pytest.raises(InputError, match=gone):
        view.predictions()
    with pytest.raises(InputError, match=gone):
        recorded.run("cnn")
    with pytest.raises(InputError, match=gone):
        recorded.select(keys)
    loaded = inpca.load_embedding(recorded.embeddings_path("train"))
    with pytest.raises(InputError, match=gone):
        loaded.transform(recorded)


def test_deleted_run_recorded_again__is_a_run_like_any_other(recorded):
    inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))
    recorded.delete_run("cnn")
    recorded.start_run("cnn").close()  # nothing committed: it is still the deleted one
    assert recorded.check() == []
    recorded.add_run("cnn", {"train": UNIFORM, "test": UNIFORM[:, :7]})
    assert recorded.runs == ["cnn", "mlp"]
    shutil.rmtree(recorded.path / "runs" / "cnn.zarr")
    assert [damage.key for damage in recorded.check()] == ["runs/cnn.zarr"]


@pytest.mark.parametrize(
    ("run_id", "message"),
    [("vit", "'vit' is none"), ("../runs", "letters"), ("@truth", "letters")],
)
def test_delete_run__of_what_is_no_run_is_refused(recorded, run_id, message):
    with pytest.raises(InputError, match=message):
        recorded.delete_run(run_id)
    assert recorded.runs == ["cnn", "mlp"]
    assert not (recorded.path / "deleted").exists()


def test_delete_run__twice_says_so(recorded):
    recorded.delete_run("cnn")
    with pytest.raises(InputError, match="'cnn' was deleted already"):
        recorded.delete_run("cnn")


def test_delete_run__while_it_is_recorded_is_refused(recorded):
    with (
        recorded.start_run("cnn", resume=True),
        pytest.raises(InputError, match="'cnn' is being recorded"),
    ):
        inpca.open_ensemble(recorded.path).delete_run("cnn")
    assert recorded.runs == ["cnn", "mlp"]


def test_delete_run__of_a_damaged_run_mends_the_ensemble(recorded):
    (recorded.path / "runs" / "cnn.zarr" / "zarr.json").unlink()
    recorded.delete_run("cnn")
    assert recorded.runs == ["mlp"]
    assert recorded.check() == []


def test_deletion_that_was_cut_off_before_the_run_went__leaves_it_whole(recorded, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("inpca.store.ensemble.delete_run", killed)
        with pytest.raises(KeyboardInterrupt):
            recorded.delete_run("cnn")
    assert recorded.runs == ["cnn", "mlp"]
    assert recorded.run("cnn").n_checkpoints == 4
    assert recorded.check() == []
    recorded.delete_run("cnn")
    assert recorded.runs == ["mlp"]
