"""What a query selects where settings are missing, masked, or integers of any size."""

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError

UNIFORM = np.full((1, 2, 2), 0.5)
CONFIGS = {
    "a": {"flag": True, "other": True, "n": 1},
    "b": {"flag": False, "other": False, "n": 2},
    "c": {"n": 3, "late": True},
    "d": {"flag": True, "other": False},
}


@pytest.fixture
def settings(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    for run_id, config in CONFIGS.items():
        ensemble.add_run(run_id, {"train": UNIFORM}, config=config)
    return ensemble


@pytest.mark.parametrize(
    ("query", "runs"),
    [
        ("flag == True", "ad"),
        ("flag != True", "bc"),
        ("flag == False", "b"),
        ("flag != False", "acd"),
        ("flag", "ad"),
        ("not flag", "bc"),
        ("~flag", "bc"),
        ("not (flag == True)", "bc"),
        ("not not flag", "ad"),
        ("flag and n > 0", "a"),
        ("n > 0 and not flag", "bc"),
        ("flag | n > 2", "acd"),
        ("flag == other", "ab"),
        ("flag != other", "cd"),
        ("flag in [True]", "ad"),
        ("flag not in [True]", "bc"),
        ("flag > False", "ad"),
        ("flag.isna()", "c"),
        ("flag.notna() and not late", "abd"),
        ("n != 1", "bcd"),
    ],
)
def test_missing_truth_value__differs_from_all_and_does_not_hold(settings, query, runs):
    assert settings.select(query).runs == list(runs)
    assert settings.with_references().select(f"({query}) and run not in ['@x']").runs == list(runs)


def test_mask__of_a_masked_array_is_not_forgotten(settings):
    truths = [True, False, True, True]
    with pytest.raises(InputError, match="`query` has 1 masked entry, the first at 2"):
        settings.select(np.ma.masked_array(truths, [False, False, True, False]))
    assert settings.select(np.ma.masked_array(truths)).runs == ["a", "c", "d"]


def test_missing_entry_of_truth_values__selects_nothing_as_in_a_query(settings):
    mask = settings.models["n"] > 1
    assert mask.isna().any()
    for same in (mask, mask.array, mask.to_numpy(), [False, True, True, None]):
        assert settings.select(same).runs == settings.select("n > 1").runs == ["b", "c"]
    with pytest.raises(InputError, match="1 of 2; leave them out"):
        settings.select(["a/0", None])


@pytest.mark.parametrize("numbers", [[1, 0, 1, 1], np.ones(4), pd.array([1, 0, 1, 1], "Int64")])
def test_numbers__are_no_truth_values(settings, numbers):
    with pytest.raises(InputError, match="truth values, not numbers"):
        settings.select(numbers)


def test_steps_beyond_float64__have_arithmetic_and_stay_exact(settings):
    big = 2**53 + 1
    settings.add_run("e", {"train": UNIFORM}, step=[big])
    settings.add_run("f", {"train": UNIFORM}, step=[big - 1])
    assert settings.select("step % 100 == 0").runs == ["a", "b", "c", "d"]
    assert settings.select(f"step % 2 == 1 and step - 1 == {big - 1}").runs == ["e"]
    assert settings.select(f"step == {big}").runs == ["e"]
    view = settings.with_references()  # whose steps are missing
    assert view.models["step"].dtype == "Int64"
    assert view.select("step % 100 == 0").runs == ["a", "b", "c", "d"]
    assert view.select(f"step % 2 == 1 and 1 + step * 1 == {big + 1} and step < 1e17").runs == ["e"]
    assert view.select("step % 2 != 1").models["run"].tolist() == ["@ignorance", "@truth", *"abcdf"]
    assert view.select("step / 2 > 1 or -step + 1 == 1").runs == list("abcdef")
    assert view.select("step - step == 0").runs == list("abcdef")
