"""Averages of groups, stored as runs of reference models."""

import os

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError
from inpca.geometry import grouped
from inpca.geometry.grouped import grouped_runs
from inpca.geometry.reports import compare_groups
from inpca.store.writer import RunWriter


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Only losing power could tell."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def stored(ensemble, run_id, checkpoint, sample_set="train"):
    return np.exp(ensemble.run(run_id).log_probs(sample_set, checkpoint))


def test_grouped_by_setting_and_step__are_mean_trajectories(small_ensemble):
    ids = inpca.average_groups(small_ensemble, ["architecture", "step"])
    assert ids == ["average-arithmetic-linear", "average-arithmetic-mlp"]
    for name, members in (("linear", (0, 2)), ("mlp", (1, 3))):
        for step in range(6):
            for sample_set in ("train", "test"):
                parts = [stored(small_ensemble, f"run-{u}", step, sample_set) for u in members]
                average = stored(small_ensemble, f"average-arithmetic-{name}", step, sample_set)
                np.testing.assert_allclose(average, np.mean(parts, axis=0), atol=1e-6)
    table = inpca.open_ensemble(small_ensemble.path).models
    mean = table[table["run"] == ids[1]]
    assert mean["kind"].unique() == ["reference"]
    assert mean["step"].tolist() == list(range(6))
    assert mean["architecture"].unique() == ["mlp"]
    assert mean["seed"].isna().all()  # not shared by its members
    assert mean["average"].unique() == ["arithmetic"]
    assert mean["average_of"].unique() == ["architecture, step"]
    assert (mean["n_averaged"] == 2).all()


def test_stored_averages__are_no_runs_and_are_not_averaged_again(small_ensemble):
    runs = small_ensemble.runs
    inpca.average_groups(small_ensemble, "architecture")
    assert small_ensemble.runs == runs
    before = stored(small_ensemble, "average-arithmetic-mlp", 0)
    inpca.average_groups(small_ensemble, "architecture", restart=True)
    np.testing.assert_array_equal(stored(small_ensemble, "average-arithmetic-mlp", 0), before)


def test_stored_averages__are_embedded_with_the_others(small_ensemble):
    (run_id,) = inpca.average_groups(small_ensemble.select("checkpoint == 5"), how="bhattacharyya")
    whole = inpca.open_ensemble(small_ensemble.path)
    embedding = inpca.InPCA(n_components=2).fit(whole)
    assert f"{run_id}/0" in embedding.models_.index
    members = whole.select("checkpoint == 5 and kind == 'checkpoint'")
    centroid = inpca.average(members, "bhattacharyya")
    np.testing.assert_allclose(stored(whole, run_id, 0), centroid, atol=1e-6)


def test_groups__may_be_listed(small_ensemble):
    groups = {"ends": ["run-0/5", "run-1/5"], "begin": ["run-0/0"]}
    ids = inpca.average_groups(small_ensemble, groups, "sqrt", name="mine")
    assert ids == ["mine-sqrt-ends", "mine-sqrt-begin"]
    expected = inpca.average(small_ensemble.select(groups["ends"]), "sqrt")
    np.testing.assert_allclose(stored(small_ensemble, ids[0], 0), expected, atol=1e-6)
    models = inpca.open_ensemble(small_ensemble.path).models
    assert models.loc["mine-sqrt-ends/0", "step"] == 5


def test_weights__are_one_per_model(small_ensemble):
    weights = np.exp(-small_ensemble.models["checkpoint"].to_numpy() / 2)
    expected = inpca.average(small_ensemble, weights=weights, sample_set="test")
    (run_id,) = inpca.average_groups(small_ensemble, weights=weights, sample_sets=["test"])
    np.testing.assert_allclose(stored(small_ensemble, run_id, 0, "test"), expected, atol=1e-6)
    assert list(small_ensemble.run(run_id).sample_sets) == ["test"]


def test_averages_that_are_there__are_kept(small_ensemble, monkeypatch):
    ids = inpca.average_groups(small_ensemble, "architecture")
    monkeypatch.setattr(grouped, "average_source", None)  # nothing is computed
    assert inpca.average_groups(small_ensemble, "architecture") == ids


def test_a_killed_call__is_gone_on_with(small_ensemble, monkeypatch):
    append, calls = RunWriter.append, []

    def dying(self, *arguments, **options):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(1)
        append(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            inpca.average_groups(small_ensemble, ["architecture", "step"])
    assert small_ensemble.run("average-arithmetic-linear").n_checkpoints == 4
    ids = inpca.average_groups(small_ensemble, ["architecture", "step"])
    inpca.average_groups(small_ensemble, ["architecture", "step"], name="whole")
    for run_id in ids:
        for step in range(6):
            whole = stored(small_ensemble, run_id.replace("average", "whole", 1), step)
            np.testing.assert_array_equal(stored(small_ensemble, run_id, step), whole)


def test_averages_of_other_models_under_the_same_name__are_refused(small_ensemble):
    inpca.average_groups(small_ensemble, "architecture")
    fewer = small_ensemble.select("checkpoint > 2")
    with pytest.raises(InputError, match=r"is there already .* restart=True"):
        inpca.average_groups(fewer, "architecture")
    inpca.average_groups(fewer, "architecture", restart=True)
    expected = inpca.average(fewer.select("architecture == 'mlp' and kind == 'checkpoint'"))
    np.testing.assert_allclose(
        stored(small_ensemble, "average-arithmetic-mlp", 0), expected, atol=1e-6
    )


def test_a_run_of_that_name_that_is_no_average__is_refused(small_ensemble):
    p = np.full((1, 40, 3), 1 / 3)
    small_ensemble.add_run("mine-sqrt-x", {"train": p, "test": p[:, :20]})
    with pytest.raises(InputError, match=r"is there already and holds something else"):
        inpca.average_groups(small_ensemble, {"x": ["run-0/0"]}, "sqrt", name="mine")


def test_compare_groups__has_a_row_for_each_average(small_ensemble):
    last = small_ensemble.select("checkpoint == 5")
    table = compare_groups(last, "architecture")
    assert len(table) == 2 * 2 * 6
    assert set(table["group"]) == {"linear", "mlp"}
    assert (table["models"] == 2).all()
    assert ((table["error"] >= 0) & (table["error"] <= 1)).all()


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("colour", "`by` must name columns of the models table"),
        ({"none": []}, "group 'none' is empty"),
        ({"a": ["run-9/0"]}, "unknown to the ensemble: 'run-9/0'"),
        ({"a": ["run-0/0", "run-0/0"]}, "listed twice"),
        ({"a b": ["run-0/0"], "a_b": ["run-0/1"]}, "would both be called 'average-arithmetic-a_b'"),
    ],
    ids=["column", "empty", "unknown", "twice", "same name"],
)
def test_bad_groups__are_refused(small_ensemble, by, words):
    with pytest.raises(InputError, match=words):
        inpca.average_groups(small_ensemble, by)


def test_models_without_the_setting__are_refused(small_ensemble):
    p = np.full((1, 40, 3), 1 / 3)
    small_ensemble.add_run("other", {"train": p, "test": p[:, :20]}, config={"depth": 3})
    with pytest.raises(
        InputError, match=r"`by`: 1 models have no 'architecture', such as 'other/0'"
    ):
        inpca.average_groups(small_ensemble, "architecture")


def test_weights_that_are_zero_in_a_group__are_refused(small_ensemble):
    weights = (small_ensemble.models["architecture"] == "mlp").to_numpy(float)
    with pytest.raises(InputError, match="all zero in group 'linear'"):
        inpca.average_groups(small_ensemble, "architecture", weights=weights)
    with pytest.raises(InputError, match="`weights` must be one number per model"):
        inpca.average_groups(small_ensemble, weights=[1, 2])


def test_references_alone__have_nothing_to_average(small_ensemble):
    view = small_ensemble.with_references().select(["@ignorance", "@truth"])
    with pytest.raises(InputError, match="not references alone"):
        inpca.average_groups(view)


def test_groups__have_mean_step_and_epoch_and_equal_weights():
    models = pd.DataFrame(
        {
            "run": ["a", "b", "c"],
            "checkpoint": 0,
            "kind": "checkpoint",
            "step": [10, 13, 20],
            "epoch": [1.0, 2.0, 3.0],
            "size": ["s", "s", "l"],
        },
        index=["a/0", "b/0", "c/0"],
    )
    large, small = grouped_runs(models, "size")
    assert (large.name, small.name) == ("l", "s")
    (group,) = small.groups
    assert (group.step, group.epoch, group.weights.tolist()) == (12, 1.5, [0.5, 0.5])


def test_epoch_of_an_average__is_unknown_where_that_of_a_member_is(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    uniform = {"train": np.full((1, 2, 2), 0.5)}
    for run_id, step, epoch in (("a", 0, np.nan), ("b", 5, 5.0), ("c", 0, 1.0), ("d", 1, 3.0)):
        ensemble.add_run(run_id, uniform, step=[step], epoch=[epoch])
    (all_of_them,) = inpca.average_groups(ensemble, {"all": ["a/0", "b/0", "c/0", "d/0"]})
    (known,) = inpca.average_groups(ensemble, {"known": ["b/0", "c/0", "d/0"]})
    assert ensemble.run(all_of_them).step.tolist() == [2]  # of 1.5
    assert np.isnan(ensemble.run(all_of_them).epoch).tolist() == [True]
    assert ensemble.run(known).epoch.tolist() == [3.0]
