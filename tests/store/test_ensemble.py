"""Ensembles: making, opening, the models table, selection, predictions."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca.errors import DamagedStoreError, InputError
from inpca.store.schema import FORMAT_VERSION

N, C = 30, 4
LABELS = {"train": np.arange(N) % C}


def make(path, labels=None, **options):
    options = {"n_classes": C, **options}
    return inpca.create_ensemble(path, sample_sets=labels or LABELS, **options)


# -- making and opening ---------------------------------------------------------------------------


def test_create_ensemble__keeps_labels_and_ids(tmp_path):
    ids = {"train": [f"image-{i}é" for i in range(N)]}
    make(tmp_path / "e", ids=ids)
    opened = inpca.open_ensemble(tmp_path / "e")
    np.testing.assert_array_equal(opened.sample_sets["train"].labels, LABELS["train"])
    assert opened.sample_sets["train"].ids == tuple(ids["train"])
    assert opened.n_classes == C
    assert len(opened.sample_sets["train"]) == N
    assert opened.runs == []
    assert len(opened.models) == 0
    assert "train: 30" in repr(opened)


def test_create_ensemble__at_a_path_that_is_taken__is_refused(tmp_path):
    make(tmp_path / "e")
    with pytest.raises(InputError, match="exist_ok=True"):
        make(tmp_path / "e")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="other files"):
        make(tmp_path / "mine", exist_ok=True)
    with pytest.raises(InputError, match="is a file"):
        make(tmp_path / "mine" / "thesis.tex")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_create_ensemble__again_with_the_same_samples__opens_it(tmp_path):
    make(tmp_path / "e").add_run("a", {"train": np.full((1, N, C), 1 / C)})
    assert make(tmp_path / "e", exist_ok=True).runs == ["a"]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"train": (np.arange(N) + 1) % C}, {}, r"sample_sets\['train'\].*same order"),
        ({"train": np.arange(29) % C}, {}, r"29 samples, not 30"),
        ({"valid": LABELS["train"]}, {}, r"train.*valid"),
        (LABELS, {"ids": {"train": [str(i) for i in range(N)]}}, "same ids"),
        (LABELS, {"n_classes": 5}, "`n_classes`.*4.*5"),
        (LABELS, {"dtype": "float16"}, "`dtype`.*float32.*float16"),
    ],
)
def test_create_ensemble__again_with_other_samples__is_refused(tmp_path, labels, options, message):
    make(tmp_path / "e")
    with pytest.raises(InputError, match=message):
        make(tmp_path / "e", labels, exist_ok=True, **options)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"train": [0, 1, 4]}, {}, "sample 2 has label 4"),
        ({"train": [0, -1]}, {}, "label -1"),
        ({"train": [0.5, 1]}, {}, "whole numbers"),
        ({"train": [np.nan, 1]}, {}, "whole numbers"),
        ({"train": ["a"]}, {}, "whole numbers"),
        ({"train": []}, {}, "at least one"),
        ({"train": np.eye(3)}, {}, "shape"),
        ({"a/b": [0]}, {}, "'a/b'"),
        ({"step": [0]}, {}, "'step'"),
        (LABELS, {"n_classes": 1}, "`n_classes`"),
        (LABELS, {"dtype": "float8"}, "`dtype`"),
        (LABELS, {"ids": {"train": ["a"]}}, "30 labels, 1 ids"),
        (LABELS, {"ids": {"test": ["a"]}}, "`ids`"),
    ],
)
def test_create_ensemble__refuses_bad_sample_sets_and_writes_nothing(
    tmp_path, labels, options, message
):
    with pytest.raises(InputError, match=message):
        make(tmp_path / "e", labels, **options)
    assert not (tmp_path / "e").exists()


def test_create_ensemble__after_a_creator_was_killed__begins_again(tmp_path):
    make(tmp_path / "e")
    (tmp_path / "e" / "ensemble.json").rename(tmp_path / "e" / "ensemble.json.7.partial")
    with pytest.raises(InputError, match=r"no ensemble\.json"):
        inpca.open_ensemble(tmp_path / "e")
    assert make(tmp_path / "e").runs == []
    assert not list((tmp_path / "e").rglob("*.partial"))


@pytest.mark.parametrize("name", ["nothing", "folder", "file"])
def test_open_ensemble__of_what_is_none__is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=rf"`path`.*{name}"):
        inpca.open_ensemble(tmp_path / name)


def test_open_ensemble__of_a_newer_version__says_upgrade(tmp_path):
    make(tmp_path / "e")
    manifest = tmp_path / "e" / "ensemble.json"
    content = json.loads(manifest.read_text())
    content["inpca"]["format_version"] = FORMAT_VERSION + 1
    manifest.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"version \d.*upgrade inpca"):
        inpca.open_ensemble(tmp_path / "e")


def test_run_of_a_newer_version__says_upgrade(recorded):
    root = recorded.path / "runs" / "cnn.zarr" / "zarr.json"
    content = json.loads(root.read_text())
    content["attributes"]["inpca"]["format_version"] = FORMAT_VERSION + 1
    root.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"version \d.*upgrade inpca"):
        recorded.run("cnn")


@pytest.mark.parametrize("content", ["", "{}", "[]", "{\x00"])
def test_open_ensemble__with_a_broken_manifest__is_an_error(tmp_path, content):
    make(tmp_path / "e")
    (tmp_path / "e" / "ensemble.json").write_text(content)
    with pytest.raises((DamagedStoreError, InputError), match=r"ensemble.json|store of kind"):
        inpca.open_ensemble(tmp_path / "e")


# -- the models table -----------------------------------------------------------------------------


def test_models__has_configuration_and_metrics_as_columns(recorded):
    models = recorded.models
    assert models.index.name == "model"
    assert models.index.tolist() == [f"cnn/{i}" for i in range(4)] + [f"mlp/{i}" for i in range(3)]
    assert models.columns.tolist() == [
        *("run", "checkpoint", "kind", "step", "epoch", "architecture", "lr", "augment", "depth"),
        *("train_loss", "train_error", "test_loss", "test_error"),
    ]
    assert models["lr"].isna().tolist() == [False] * 4 + [True] * 3
    assert models.loc["mlp/1", ["depth", "step"]].tolist() == [2, 10]


def test_models_of_runs_with_settings_of_other_kinds__keep_every_value(ensemble):
    for run, value in (("a", 1), ("b", "one"), ("c", None), ("d", True)):
        predictions = {"train": np.full((1, N, C), 1 / C)}
        ensemble.add_run(run, predictions, config={"setting": value})
    values = ensemble.models["setting"].tolist()
    assert values == [1, "one", None, True]
    assert [type(value) for value in values] == [int, str, type(None), bool]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("architecture == 'cnn' and step >= 20", ["cnn/2", "cnn/3"]),
        ("depth == 2", ["mlp/0", "mlp/1", "mlp/2"]),
        ("augment", ["cnn/0", "cnn/1", "cnn/2", "cnn/3"]),
        ("run == 'mlp' and checkpoint == 0", ["mlp/0"]),
        ("model == 'cnn/3'", ["cnn/3"]),
        (["mlp/2", "cnn/0"], ["mlp/2", "cnn/0"]),
        ([True] + [False] * 6, ["cnn/0"]),
    ],
)
def test_select__keeps_the_models_asked_for(recorded, query, expected):
    view = recorded.select(query)
    assert view.models.index.tolist() == expected
    assert view.predictions().names == expected
    assert view.runs == sorted({key.split("/")[0] for key in expected})


def test_select__by_truth_values_of_a_column(recorded):
    view = recorded.select(recorded.models["step"] > 10)
    assert view.models.index.tolist() == ["cnn/2", "cnn/3", "mlp/2"]
    assert view.select("run == 'mlp'").models.index.tolist() == ["mlp/2"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("colour == 'red'", "colour.*columns are run"),
        ("step >", "cannot be evaluated"),
        ("step + 1", "true or false"),
        ("step > @limit", "cannot be evaluated"),
        ("step > 1000", "selects none of the 7"),
        (["cnn/9"], "'cnn/9'"),
        (["cnn/0", "cnn/0"], "duplicates"),
        ([True, False], "one truth value per model"),
        (pd.Series([True] * 7), "index"),
        ([], "none of the 7"),
    ],
)
def test_select__refuses_a_bad_query(recorded, query, message):
    with pytest.raises(InputError, match=rf"`query`.*{message}"):
        recorded.select(query)


def test_ensemble__is_live_and_a_selection_is_not(recorded, probs):
    view = recorded.select("step >= 0")
    recorded.add_run("new", {"train": probs(1)})
    assert "new" in recorded.runs
    assert "new" not in view.runs
    assert len(view) == 7


# -- catalogue ------------------------------------------------------------------------------------


def settle(ensemble):
    """Make the runs look as if they had been committed long ago, so that they are cached."""
    import os

    for root in (ensemble.path / "runs").glob("*/zarr.json"):
        os.utime(root, ns=(0, root.stat().st_mtime_ns - 10**10))


@pytest.mark.parametrize("change", [b"", b"garbage", None, "truncate", "flip"])
def test_catalogue__deleted_or_garbage__is_made_again(recorded, change):
    settle(recorded)
    expected = recorded.models
    path = recorded.path / "catalogue"
    content = path.read_bytes()
    if change is None:
        path.unlink()
    elif change == "truncate":
        path.write_bytes(content[:-5])
    elif change == "flip":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        path.write_bytes(change)
    pd.testing.assert_frame_equal(inpca.open_ensemble(recorded.path).models, expected)
    assert path.read_bytes() == content


def test_catalogue__is_used(recorded, monkeypatch):
    settle(recorded)
    expected = recorded.models
    monkeypatch.setattr("inpca.store.catalogue.Run", None)
    pd.testing.assert_frame_equal(recorded.models, expected)
    pd.testing.assert_frame_equal(inpca.open_ensemble(recorded.path).models, expected)


def test_catalogue__is_not_believed_when_old(recorded, probs):
    settle(recorded)
    old = recorded.models
    with recorded.start_run("cnn", resume=True) as writer:
        writer.append({"train": probs(1)[0], "test": probs(1, 7)[0]}, "probs", step=99, epoch=9)
    settle(recorded)
    assert len(recorded.models) == len(old) + 1
    with recorded.start_run("mlp", restart=True) as writer:
        assert recorded.runs == ["cnn"]
        writer.append({"train": probs(1)[0]}, "probs", step=5, epoch=1)
    assert recorded.models.loc[["mlp/0"], "step"].tolist() == [5]


# -- predictions ----------------------------------------------------------------------------------


def test_predictions__reads_any_block(recorded):
    source = recorded.predictions("train")
    assert source.shape == (7, N, C)
    assert source.dtype == np.float32
    whole = source.read(slice(None), slice(None))
    for models, samples in ((slice(2, 6), slice(0, 10)), (slice(6, 9), slice(29, 30))):
        np.testing.assert_array_equal(source.read(models, samples), whole[models, samples])
    assert source.read(slice(3, 3), slice(4, 4)).shape == (0, 0, C)
    run = recorded.run("mlp")
    np.testing.assert_array_equal(whole[5], run.log_probs("train", 1))
    with pytest.raises(InputError, match="step 1"):
        source.read(slice(0, 4, 2), slice(None))


def test_predictions__of_large_sample_sets__are_read_in_inner_chunks(tmp_path, rng):
    # 40,000 × 10 float32 are four inner chunks.
    labels = {"train": np.zeros(40_000, int)}
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets=labels, n_classes=10)
    logits = rng.normal(size=(2, 40_000, 10)).astype(np.float32)
    ensemble.add_run("a", {"train": logits}, "logits")
    source = ensemble.predictions()
    assert source.chunk_samples == 10_000
    whole = source.read(slice(None), slice(None))
    np.testing.assert_allclose(np.exp(whole).sum(axis=-1), 1, atol=1e-5)
    for samples in (slice(0, 1), slice(9_999, 10_001), slice(5, 39_999), slice(30_000, None)):
        np.testing.assert_array_equal(source.read(slice(None), samples), whole[:, samples])
    assert ensemble.check() == []


def test_predictions__of_references__are_made_up(recorded):
    view = recorded.select("run == 'cnn'").with_references()
    assert view.models.index[:2].tolist() == ["@ignorance", "@truth"]
    assert view.models["kind"].tolist() == ["reference"] * 2 + ["checkpoint"] * 4
    assert view.runs == ["cnn"]
    read = view.predictions("test").read(slice(0, 2), slice(2, 7))
    np.testing.assert_allclose(read[0], -math.log(C), rtol=1e-6)
    labels = recorded.sample_sets["test"].labels[2:7]
    np.testing.assert_array_equal(np.exp(read[1]), np.eye(C)[labels])
    assert view.models.loc["@ignorance", "train_loss"] == pytest.approx(math.log(C))
    assert view.models.loc["@truth", ["train_loss", "test_error"]].tolist() == [0, 0]
    assert view.with_references().models.index.tolist() == view.models.index.tolist()
    assert view.select("kind == 'checkpoint'").models.index[0] == "cnn/0"
    with pytest.raises(InputError, match="'nonsense'"):
        recorded.with_references("nonsense")


def test_fingerprint__changes_with_models_order_samples_and_numbers(recorded, probs):
    views = [
        recorded.predictions("train"),
        recorded.predictions("test"),
        recorded.select("run == 'cnn'").predictions(),
        recorded.select(["cnn/0", "cnn/1"]).predictions(),
        recorded.select(["cnn/1", "cnn/0"]).predictions(),
        recorded.with_references().predictions(),
    ]
    prints = {view.fingerprint() for view in views}
    assert len(prints) == len(views)
    assert inpca.open_ensemble(recorded.path).predictions().fingerprint() in prints


def test_predictions__refuses_unknown_sets_and_runs_without_them(recorded, probs):
    with pytest.raises(InputError, match=r"`sample_set`.*train, test.*'valid'"):
        recorded.predictions("valid")
    recorded.add_run("half", {"test": probs(1, 7)})
    with pytest.raises(InputError, match="'train' was not recorded by run 'half'"):
        recorded.predictions("train")
    assert recorded.predictions("test").shape[0] == 8


def test_predictions__of_a_run_from_another_ensemble__is_refused(recorded, tmp_path):
    labels = {"train": (np.arange(N) + 1) % C, "test": np.arange(7) % C}
    other = inpca.create_ensemble(tmp_path / "other", sample_sets=labels, n_classes=C)
    (recorded.path / "runs" / "cnn.zarr").rename(other.path / "runs" / "cnn.zarr")
    with pytest.raises(InputError, match=r"'cnn'.*other labels, ids or order of 'train'"):
        other.predictions("train")


def test_run__refuses_unknown_runs_sets_and_checkpoints(recorded):
    with pytest.raises(InputError, match=r"`run_id`.*'vit'"):
        recorded.run("vit")
    with pytest.raises(InputError, match="`sample_set`"):
        recorded.run("cnn").log_probs("valid", 0)
    for checkpoint in (-1, 4):
        with pytest.raises(InputError, match=rf"`checkpoint`.*0 … 3.*{checkpoint}"):
            recorded.run("cnn").log_probs("train", checkpoint)
