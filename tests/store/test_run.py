"""A run: recording, the commit protocol, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

import inpca
from inpca.errors import InputError
from inpca.store.group import read_root
from inpca.store.run import shard_path

N, C = 30, 4


def record(writer, probs, count, first=0):
    for index in range(first, first + count):
        predictions = {"train": probs(1)[0], "test": probs(1, 7)[0]}
        writer.append(predictions, "probs", step=index, epoch=index / 2)


# -- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_add_run__stores_the_same_log_probabilities_whatever_the_kind(ensemble, probs, kind):
    p = {"train": probs(3), "test": probs(3, 7)}
    convert = {
        "probs": lambda x: x,
        "log_probs": np.log,
        "logits": lambda x: np.log(x) + 3,
        "sqrt_probs": np.sqrt,
    }[kind]
    ensemble.add_run("a", {name: convert(values) for name, values in p.items()}, kind)
    for name, values in p.items():
        for checkpoint in range(3):
            read = ensemble.run("a").log_probs(name, checkpoint)
            np.testing.assert_allclose(read, np.log(values[checkpoint]), rtol=1e-6, atol=1e-6)


def test_append__gives_the_same_files_as_add_run(ensemble, probs):
    p = {"train": probs(3), "test": probs(3, 7)}
    ensemble.add_run("whole", p, step=[0, 5, 9], epoch=[0, 0.5, 1], metrics={"norm": [1, 2, 3]})
    with ensemble.start_run("each") as writer:
        for i, (step, epoch) in enumerate([(0, 0), (5, 0.5), (9, 1)]):
            one = {name: values[i] for name, values in p.items()}
            writer.append(one, "probs", step=step, epoch=epoch, metrics={"norm": i + 1})
    whole, each = (ensemble.path / "runs" / f"{name}.zarr" for name in ("whole", "each"))
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(each) for path in each.rglob("*") if path.is_file())
    files.remove(Path("zarr.json"))  # which names its owner
    for file in files:
        assert (whole / file).read_bytes() == (each / file).read_bytes(), file
    roots = [read_root(path) for path in (whole, each)]
    assert roots[0].index == roots[1].index
    assert roots[0].documents == roots[1].documents


def test_append__computes_loss_and_error(ensemble, probs):
    logits = np.random.default_rng(1).normal(size=(N, C))
    labels = ensemble.sample_sets["train"].labels
    with ensemble.start_run("a") as writer:
        writer.append({"train": logits}, "logits", step=0, epoch=0)
    row = ensemble.models.loc["a/0"]
    picked = log_softmax(logits, axis=1)[np.arange(N), labels]
    assert row["train_loss"] == pytest.approx(-picked.mean(), rel=1e-6)
    assert row["train_error"] == np.mean(logits.argmax(axis=1) != labels)


def test_append__of_certain_and_wrong_predictions__stores_minus_infinity_and_infinite_loss(
    ensemble,
):
    labels = ensemble.sample_sets["train"].labels
    with ensemble.start_run("a") as writer:
        writer.append({"train": np.eye(C)[labels]}, "probs", step=0, epoch=0)
        writer.append({"train": np.eye(C)[(labels + 1) % C]}, "probs", step=1, epoch=0)
    assert ensemble.models["train_loss"].tolist() == [0, np.inf]
    assert np.isneginf(ensemble.run("a").log_probs("train", 1)).sum() == N * (C - 1)


def test_run__gives_back_what_was_recorded(recorded):
    run = recorded.run("cnn")
    assert run.config == {"architecture": "cnn", "lr": 0.1, "augment": True}
    assert run.step.tolist() == [0, 10, 20, 30]
    assert run.epoch.tolist() == [0, 0.5, 1, 1.5]
    assert run.n_checkpoints == 4
    assert list(run.metrics) == ["train_loss", "train_error", "test_loss", "test_error"]


def test_metric_that_comes_late__is_missing_before(ensemble, probs):
    with ensemble.start_run("a") as writer:
        record(writer, probs, 2)
        one = {"train": probs(1)[0], "test": probs(1, 7)[0]}
        writer.append(one, "probs", step=2, epoch=1, metrics={"norm": 5})
        record(writer, probs, 1, first=3)
    np.testing.assert_array_equal(ensemble.models["norm"], [np.nan, np.nan, 5, np.nan])


def test_run_of_more_checkpoints_than_a_chunk__keeps_every_scalar(ensemble, rng):
    logits = rng.normal(size=(1030, 7, C))
    ensemble.add_run("a", {"test": logits}, "logits", step=np.arange(1030) * 3)
    with ensemble.start_run("a", resume=True) as writer:
        writer.append({"test": logits[0]}, "logits", step=9999, epoch=0, metrics={"late": 1})
    run = ensemble.run("a")
    assert run.step.tolist() == [*range(0, 3090, 3), 9999]
    assert run.metrics["late"].notna().tolist() == [False] * 1030 + [True]
    assert run.check() == []


def test_float16_ensemble__gives_normalised_rows_within_its_precision(tmp_path, probs):
    labels = {"train": np.arange(N) % C}
    path = tmp_path / "half.ensemble"
    ensemble = inpca.create_ensemble(path, sample_sets=labels, n_classes=C, dtype="float16")
    p = probs(2)
    ensemble.add_run("a", {"train": p})
    read = ensemble.predictions().read(slice(None), slice(5, 20))
    assert read.dtype == np.float32
    np.testing.assert_allclose(np.exp(read).sum(axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(np.exp(read), p[:, 5:20], atol=2e-3)
    assert ensemble.check() == []
    assert shard_path(path / "runs/a.zarr", "train", 0).stat().st_size < N * C * 4


def test_float16_ensemble__refuses_what_it_cannot_hold(tmp_path):
    labels = {"train": np.arange(N) % C}
    ensemble = inpca.create_ensemble(
        tmp_path / "e", sample_sets=labels, n_classes=C, dtype="float16"
    )
    logits = np.zeros((1, N, C))
    logits[..., 0] = 1e5
    with pytest.raises(InputError, match="float32"):
        ensemble.add_run("a", {"train": logits}, "logits")
    assert ensemble.runs == []


# -- what is visible ------------------------------------------------------------------------------


def test_run__is_visible_from_its_first_checkpoint_on(ensemble, probs):
    other = inpca.open_ensemble(ensemble.path)
    with ensemble.start_run("a") as writer:
        assert other.runs == []
        with pytest.raises(InputError, match="'a'"):
            other.run("a")
        record(writer, probs, 1)
        assert other.runs == ["a"]
        record(writer, probs, 2, first=1)
        assert len(other.models) == 3


def test_writer_that_commits_nothing__leaves_nothing(ensemble):
    with ensemble.start_run("a"):
        pass
    assert list((ensemble.path / "runs").iterdir()) == []


def test_run_opened_before_a_commit__keeps_to_what_it_saw(recorded, probs):
    run, source = recorded.run("mlp"), recorded.predictions()
    before = source.fingerprint()
    with recorded.start_run("mlp", resume=True) as writer:
        record(writer, probs, 1, first=3)
    assert run.n_checkpoints == 3
    assert source.shape[0] == 7
    assert source.fingerprint() == before
    assert recorded.predictions().shape[0] == 8


def test_every_zarr_json__is_sealed_and_agrees_with_the_root_once_the_writer_is_closed(
    ensemble, probs
):
    path = ensemble.path / "runs" / "a.zarr"
    for index in range(3):
        with ensemble.start_run("a", resume=True) as writer:
            record(writer, probs, 1, first=index)
            assert ensemble.check() == []
        root = json.loads((path / "zarr.json").read_bytes())
        for name, document in root["consolidated_metadata"]["metadata"].items():
            own = json.loads((path / name / "zarr.json").read_bytes())
            if document["node_type"] == "array":
                assert len(own["attributes"].pop("inpca_checksum")) == 8
                assert own == document
                assert own["shape"][0] == index + 1


# -- one writer, one id ---------------------------------------------------------------------------


def test_start_run__of_a_recorded_run__is_refused(recorded):
    with pytest.raises(InputError, match=r"'cnn' exists already.*resume=True.*restart=True"):
        recorded.start_run("cnn")
    with pytest.raises(InputError, match="exists already"):
        recorded.add_run("cnn", {"train": np.full((1, N, C), 1 / C)})
    assert recorded.run("cnn").n_checkpoints == 4


def test_start_run__while_another_writer_holds_it__is_refused(ensemble, probs):
    with (
        ensemble.start_run("a") as writer,
        pytest.raises(InputError, match="'a' is being recorded by another writer"),
    ):
        inpca.open_ensemble(ensemble.path).start_run("a", restart=True)
    writer.close()  # a second time: nothing happens
    with ensemble.start_run("a") as writer:
        record(writer, probs, 1)


def test_resume__goes_on_after_the_last_checkpoint(recorded, probs):
    with recorded.start_run("mlp", resume=True) as writer:
        assert writer.n_checkpoints == 3
        record(writer, probs, 2, first=3)
    assert recorded.run("mlp").step.tolist() == [0, 10, 20, 3, 4]
    assert recorded.run("mlp").config == {"architecture": "mlp", "depth": 2}
    assert recorded.check() == []


def test_resume__of_nothing__begins(ensemble, probs):
    with ensemble.start_run("a", {"lr": 1.0}, resume=True) as writer:
        record(writer, probs, 1)
    assert ensemble.run("a").config == {"lr": 1.0}


def test_resume__with_another_config__is_refused(recorded):
    with pytest.raises(InputError, match=r"`config`.*'mlp'"):
        recorded.start_run("mlp", {"depth": 3}, resume=True)


def test_restart__replaces_the_run_and_changes_the_fingerprint(recorded, probs):
    before = recorded.predictions().fingerprint()
    with recorded.start_run("mlp", {"depth": 9}, restart=True) as writer:
        assert recorded.runs == ["cnn"]
        record(writer, probs, 3)
    assert recorded.run("mlp").config == {"depth": 9}
    assert recorded.predictions().shape[0] == 7
    assert recorded.predictions().fingerprint() != before


def test_resume_and_restart__together_are_refused(recorded):
    with pytest.raises(InputError, match="`resume` and `restart`"):
        recorded.start_run("mlp", resume=True, restart=True)


# -- what is refused, and leaves nothing ----------------------------------------------------------

UNIFORM = np.full((2, N, C), 1 / C)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"train": np.full((2, 29, C), 1 / C)}, r"'a' has 29 samples.*'train' set has 30"),
        ({"train": np.full((2, N, 5), 1 / 5)}, r"'a' has 5 classes.*ensemble has 4"),
        ({"valid": UNIFORM}, r"train, test.*valid"),
        ({}, "at least one sample set"),
        ({"train": UNIFORM[0]}, r"n_checkpoints"),
        ({"train": UNIFORM, "test": np.full((1, 7, C), 1 / C)}, "as many checkpoints"),
        ({"train": np.where(np.arange(N)[:, None] == 3, np.nan, UNIFORM)}, "NaN.*sample 3"),
        ({"train": UNIFORM * 0.9}, "sum to 1"),
        ({"train": UNIFORM - 0.3}, "negative"),
        ({"train": np.full((2, N, C), "x")}, "real numbers"),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_add_run__refuses_bad_predictions_and_leaves_nothing(ensemble, predictions, message):
    with pytest.raises(InputError, match=message):
        ensemble.add_run("a", predictions)
    assert list((ensemble.path / "runs").iterdir()) == []


def test_add_run__names_the_bad_checkpoint_and_leaves_nothing(ensemble):
    many = np.full((40, N, C), 1 / C)
    many[33, 5] = [0.5, 0.5, 0.5, 0.5]
    with pytest.raises(InputError, match="model 33, sample 5"):
        ensemble.add_run("a", {"train": many})
    assert ensemble.runs == []


def test_append__that_is_refused__leaves_the_writer_as_it_was(ensemble, probs):
    with ensemble.start_run("a") as writer:
        record(writer, probs, 2)
        for bad, message in (
            ({"train": probs(1)[0]}, "same sample sets"),
            ({"train": probs(1)[0], "test": np.full((7, C), np.nan)}, "NaN"),
        ):
            with pytest.raises(InputError, match=message):
                writer.append(bad, "probs", step=9, epoch=9)
        record(writer, probs, 1, first=2)
    assert ensemble.run("a").step.tolist() == [0, 1, 2]
    assert ensemble.check() == []


@pytest.mark.parametrize("run_id", ["", "@truth", ".hidden", "a/b", "a b", "ü", "x" * 201, 7])
def test_run_id__that_could_be_no_file_name__is_refused(ensemble, run_id):
    with pytest.raises(InputError, match="`run_id`"):
        ensemble.start_run(run_id)
    assert list((ensemble.path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"optimizer": {"lr": 1}}, r"config\['optimizer'\].*dict"),
        ({"sizes": [1, 2]}, "list"),
        ({"lr": float("nan")}, "finite"),
        ({"step": 1}, "'step'"),
        ({"train_loss": 1}, "'train_loss'"),
        ({"a/b": 1}, "'a/b'"),
    ],
)
def test_config__that_could_be_no_column__is_refused(ensemble, config, message):
    with pytest.raises(InputError, match=message):
        ensemble.start_run("a", config)


def test_config__takes_numpy_scalars(ensemble):
    config = {"seed": np.int64(3), "lr": np.float32(0.5), "on": np.bool_(True), "none": None}
    ensemble.add_run("a", {"train": UNIFORM}, config=config)
    assert ensemble.run("a").config == {"seed": 3, "lr": 0.5, "on": True, "none": None}


@pytest.mark.parametrize("name", ["train_loss", "step", "train", "lr", "a/b"])
def test_metric__with_a_name_that_is_taken__is_refused(ensemble, name):
    with pytest.raises(InputError, match="`metrics`"):
        ensemble.add_run("a", {"train": UNIFORM}, config={"lr": 1}, metrics={name: [1, 2]})


@pytest.mark.parametrize("argument", ["step", "epoch"])
def test_add_run__refuses_scalars_of_another_length(ensemble, argument):
    with pytest.raises(InputError, match=f"`{argument}`"):
        ensemble.add_run("a", {"train": UNIFORM}, **{argument: [1, 2, 3]})


def test_add_run__refuses_steps_that_are_not_whole(ensemble):
    with pytest.raises(InputError, match="whole"):
        ensemble.add_run("a", {"train": UNIFORM}, step=[0, 0.5])
