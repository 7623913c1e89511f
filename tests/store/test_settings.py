"""Settings: one name in two uses, one key in two kinds, and back as they went in."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import inpca
from inpca.errors import DamagedStoreError, InputError
from inpca.geometry.grouped import grouped_runs
from inpca.store.catalogue import models_table
from inpca.store.group import read_group, write_group
from inpca.store.settings import kinds_apart, same_settings, setting_column, setting_labels
from inpca.store.table import table_from_members, table_members
from inpca.summary import describe_ensemble

N, C = 30, 4
UNIFORM = np.full((1, N, C), 1 / C)


def record(ensemble, configs):
    for number, config in enumerate(configs):
        ensemble.add_run(f"r{number}", {"train": UNIFORM}, config=config)


# -- a setting here, a metric there ---------------------------------------------------------------


def test_name_that_is_setting_and_metric__is_one_column(ensemble):
    ensemble.add_run("a", {"train": UNIFORM}, config={"lr": 0.1})
    ensemble.add_run("b", {"train": UNIFORM.repeat(2, axis=0)}, metrics={"lr": [0.5, np.nan]})
    ensemble.add_run("c", {"train": UNIFORM})
    models = ensemble.models
    assert models.columns.tolist().count("lr") == 1
    np.testing.assert_array_equal(models["lr"], [0.1, 0.5, np.nan, np.nan])
    assert ensemble.select("lr == 0.5").models.index.tolist() == ["b/0"]


def test_name_that_is_text_here_and_metric_there__keeps_both(ensemble):
    ensemble.add_run("a", {"train": UNIFORM}, config={"lr": "cosine"})
    ensemble.add_run("b", {"train": UNIFORM}, metrics={"lr": [0.5]})
    assert ensemble.models["lr"].tolist() == ["cosine", 0.5]


def test_metric_with_the_name_of_a_setting__is_refused_on_resuming_as_well(ensemble):
    ensemble.add_run("a", {"train": UNIFORM}, config={"lr": 0.1})
    with (
        ensemble.start_run("a", resume=True) as writer,
        pytest.raises(InputError, match="`metrics` must not have the key 'lr'"),
    ):
        writer.append({"train": UNIFORM[0]}, "probs", step=1, epoch=0, metrics={"lr": 1})


def test_run_that_has_a_name_in_both_uses__is_named():
    columns = {"step": [0], "epoch": [0.0], "lr": [0.5]}
    entries = {"bad": {"config": {"lr": 0.1}, "columns": columns}}
    with pytest.raises(DamagedStoreError, match=r"Run 'bad' has 'lr' as a setting and as a metric"):
        models_table(entries)


# -- kinds ----------------------------------------------------------------------------------------

MIXED = [{"x": value} for value in (True, 1, "1", "True", 0, False, 1.5)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("x == True", ["r0"]),
        ("x == 1", ["r1"]),
        ("x == 1.0", ["r1"]),
        ("x == '1'", ["r2"]),
        ("x == 'True'", ["r3"]),
        ("x == 0", ["r4"]),
        ("x == False", ["r5"]),
        ("x in [1, 'True']", ["r1", "r3"]),
        ("x in [True]", ["r0"]),
        ("x != 1", ["r0", "r2", "r3", "r4", "r5", "r6"]),
    ],
)
def test_select__tells_truth_values_numbers_and_texts_apart(ensemble, query, expected):
    record(ensemble, MIXED)
    assert ensemble.select(query).runs == expected


@pytest.mark.parametrize("query", ["x > 0", "x <= '1'", "x < True"])
def test_select__puts_no_order_between_kinds(ensemble, query):
    record(ensemble, MIXED)
    with pytest.raises(InputError, match="cannot be evaluated"):
        ensemble.select(query)


@pytest.mark.parametrize("x", [("3", 3), (True, 1), (False, "False")], ids=repr)
def test_groups__tell_truth_values_numbers_and_texts_apart(ensemble, x):
    record(ensemble, [{"x": x[0]}, {"x": x[1]}, {"x": x[0]}])
    sizes = [len(run.groups[0].keys) for run in grouped_runs(ensemble.models, "x")]
    assert sorted(sizes) == [1, 2]


def test_average_of_settings_that_only_look_alike__does_not_share_them(ensemble):
    record(ensemble, [{"x": True, "y": 2}, {"x": 1, "y": 2}])
    (run_id,) = inpca.average_groups(ensemble)
    config = ensemble.run(run_id).config
    assert "x" not in config
    assert config["y"] == 2


def test_resume__with_true_for_one_is_refused(ensemble):
    ensemble.add_run("a", {"train": UNIFORM}, config={"x": True})
    with pytest.raises(InputError, match="`config`"):
        ensemble.start_run("a", {"x": 1}, resume=True)
    ensemble.start_run("a", {"x": True}, resume=True).close()


def test_info__counts_values_of_different_kinds_apart(ensemble):
    record(ensemble, [{"x": 3}, {"x": "3"}])
    described = describe_ensemble(ensemble)["columns"]["x"]
    assert described == {"n_values": 2, "values": ["3", "'3'"]}


def test_same_settings__have_the_same_keys_values_and_kinds():
    assert same_settings({"a": 1, "b": None}, {"b": None, "a": 1.0})
    assert not same_settings({"a": 1}, {"a": True})
    assert not same_settings({"a": 1}, {"a": "1"})
    assert not same_settings({"a": None}, {})


def test_setting_labels__of_different_values_are_different():
    assert setting_labels([True, "True", 3, "3", "a", 3]) == [
        "True",
        "'True'",
        "3",
        "'3'",
        "a",
        "3",
    ]


def test_kinds_apart__differ_where_values_do_and_are_missing_where_they_are():
    column = pd.Series(setting_column([True, 1, "1", None, 1]), index=list("abcde"))
    texts = kinds_apart(column)
    assert texts.nunique() == 3
    assert texts["b"] == texts["e"]
    assert texts.isna().tolist() == [False, False, False, True, False]
    whole = pd.Series([1, 2])
    assert kinds_apart(whole) is whole


# -- what goes in comes back ----------------------------------------------------------------------

TEXTS = st.text(max_size=8) | st.sampled_from(
    ["<NA>", "nan", "None", "$x$", "a`b", "@x", "'\"\\", ""]
)
VALUES = (
    st.booleans()
    | st.integers()
    | st.integers(2**53 - 2, 2**53 + 2)
    | st.integers(2**63 - 2, 2**63 + 2)
    | st.floats()
    | TEXTS
    | st.none()
)
KEYS = st.text("abC1_. +=-", min_size=1, max_size=5) | st.sampled_from(["seed", "lr", "lambda"])


def same(read, value):
    return type(read) is type(value) and read == value


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(config=st.dictionaries(KEYS, VALUES, max_size=4), other=VALUES)
def test_accepted_config__reads_back_listed_frozen_and_selected(ensemble, tmp_path, config, other):
    beside = dict.fromkeys(config, other)
    try:
        ensemble.start_run("a", config, restart=True).close()
        ensemble.start_run("b", beside, restart=True).close()
    except InputError:
        return
    for run_id, settings_ in (("a", config), ("b", beside)):
        with ensemble.start_run(run_id, settings_, restart=True) as writer:
            writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=0)
    assert ensemble.run("a").config == config
    alone = ensemble.select(["a/0"]).models
    both = ensemble.models
    for models in (both, alone):
        frozen = table_from_members(table_members(models))
        pd.testing.assert_frame_equal(frozen, models, check_dtype=models is both)
    for key, value in config.items():
        read = both[key].tolist()[0]
        if value is None:
            assert pd.isna(read)
            continue
        numbers = {type(value), type(other)} == {int, float}  # a number is a number
        assert read == value if numbers else same(read, value)
        chosen = ensemble.select(f"`{key}` == {value!r}").models.index
        assert "a/0" in chosen
        assert ("b/0" in chosen) == same_settings({"x": value}, {"x": other})


def test_columns_of_every_type__go_through_the_disk(ensemble, tmp_path):
    configs = [
        {"i": 1, "u": 2**63, "b": True, "f": 0.5, "s": "a", "o": 10**30, "m": True},
        {"m": 1},
        {"m": "1"},
    ]
    record(ensemble, configs)
    for models in (ensemble.models, ensemble.with_references().models):
        path = tmp_path / str(len(models))
        write_group(path, table_members(models), {})
        pd.testing.assert_frame_equal(table_from_members(read_group(path)[1]), models)
