"""Integers are stored, listed, selected, grouped and exported in all their digits, or refused."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import inpca
from collectors.archive import import_arrays
from inpca.errors import InputError
from inpca.export import export
from inpca.geometry.grouped import grouped_runs
from inpca.store.catalogue import models_table
from inpca.store.group import Member, read_group, write_group
from inpca.store.settings import setting_column
from inpca.store.table import table_from_members, table_members
from inpca.summary import describe_ensemble, ensemble_lines

N, C = 30, 4
UNIFORM = np.full((1, N, C), 1 / C)
BIG = 2**53


def record(ensemble, **configs):
    """A run of one checkpoint for each configuration, by run id."""
    for run_id, config in configs.items():
        ensemble.add_run(run_id, {"train": UNIFORM}, config=config)
    return ensemble.models


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seeds",
    [
        (2**63,),
        (2**64 - 1, 0),
        (2**64, -1),
        (2**63, -1),
        (10**30, 3, None),
        (BIG + 1, BIG, None),
        (2**64 - 1, 2**64 - 2, None),
        (BIG + 1, 0.5),
        (-(2**63), 2**63 - 1),
    ],
    ids=str,
)
def test_seeds__of_any_size_are_listed_frozen_and_selected_exactly(ensemble, tmp_path, seeds):
    configs = {f"r{k}": {} if one is None else {"seed": one} for k, one in enumerate(seeds)}
    models = record(ensemble, **configs)
    write_group(tmp_path / "g", table_members(models), {})
    frozen = table_from_members(read_group(tmp_path / "g")[1])
    pd.testing.assert_frame_equal(frozen, models)
    for k, seed in enumerate(seeds):
        if seed is None:
            assert pd.isna(models.loc[f"r{k}/0", "seed"])
            continue
        assert models.loc[f"r{k}/0", "seed"] == seed
        assert ensemble.select(f"seed == {seed}").runs == [f"r{k}"]
        assert ensemble.select(f"seed in [{seed}]").runs == [f"r{k}"]
    assert ensemble.check() == []


def test_missing_integer__differs_from_every_number_and_leaves_integers(ensemble):
    models = record(ensemble, a={"seed": 3}, b={"seed": 4}, c={})
    assert models["seed"].dtype == "Int64"
    assert ensemble.select("seed != 3").runs == ["b", "c"]
    assert ensemble.select("not (seed == 3)").runs == ["b", "c"]
    assert ensemble.select("seed < 4").runs == ["a"]
    assert ensemble.select("seed % 2 == 0 and seed + 1 == 5").runs == ["b"]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.int8(-7), -7),
        (np.array(5), 5),
        (np.bool_(True), True),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.str_("cnn"), "cnn"),
    ],
)
def test_setting_of_numpy__is_kept_as_what_it_is(ensemble, given, read):
    value = record(ensemble, a={"x": given})["x"].tolist()[0]
    assert (value, type(value)) == (read, type(read))


@pytest.mark.parametrize(
    "value",
    [np.longdouble(1), np.ma.masked, np.timedelta64(5, "ns"), np.datetime64("2020"), 1j, 10**5000],
    ids=lambda value: type(value).__name__,
)
def test_setting_that_is_no_number_of_json__is_refused_by_name(ensemble, value):
    with pytest.raises(InputError, match=r"`config\['x'\]`"):
        ensemble.start_run("a", {"x": value})
    assert list((ensemble.path / "runs").iterdir()) == []


def test_config__that_is_no_mapping_is_refused(ensemble):
    with pytest.raises(InputError, match="`config` must be a mapping"):
        ensemble.start_run("a", [("lr", 1)])


def test_averages_of_seeds_beyond_float64__are_apart(ensemble):
    record(ensemble, a={"seed": BIG}, b={"seed": BIG + 1}, c={})
    ids = inpca.average_groups(ensemble.select(["a/0", "b/0"]), "seed")
    assert ids == [f"average-arithmetic-{BIG}", f"average-arithmetic-{BIG + 1}"]
    assert ensemble.run(ids[1]).config["seed"] == BIG + 1


def test_step_of_an_average__is_exact(ensemble):
    steps = [BIG + 1, BIG + 3]
    for run_id, step in zip("ab", steps):
        ensemble.add_run(run_id, {"train": UNIFORM}, step=[step])
    (run,) = grouped_runs(ensemble.models, ())
    assert run.groups[0].step == BIG + 2


def test_references__leave_integers_whole(ensemble, tmp_path):
    ensemble.add_run("a", {"train": UNIFORM}, step=[BIG + 1], config={"seed": 2**63, "on": True})
    models = ensemble.with_references().models
    assert models["step"].dtype == "Int64"
    assert models["seed"].dtype == "UInt64"
    assert [models.loc["a/0", name] for name in ("step", "seed")] == [BIG + 1, 2**63]
    assert all(pd.isna(models.loc["@truth", name]) for name in ("step", "seed"))
    write_group(tmp_path / "g", table_members(models), {})
    pd.testing.assert_frame_equal(table_from_members(read_group(tmp_path / "g")[1]), models)
    again = ensemble.with_references().with_references("truth").models
    assert again.loc["a/0", "step"] == BIG + 1


def test_distances_and_embedding__keep_the_digits_of_their_models(ensemble):
    record(ensemble, a={"seed": BIG + 1}, b={"seed": BIG}, c={})
    view = ensemble.with_references()
    matrix = inpca.pairwise_distances(view, out=ensemble.distances_path("train"))
    pd.testing.assert_frame_equal(matrix.models, view.models)
    embedding = inpca.InPCA(n_components=1).fit(matrix)
    embedding.save(ensemble.embeddings_path("train"))
    models = inpca.load_embedding(ensemble.embeddings_path("train")).models_
    pd.testing.assert_frame_equal(models, view.models)


def test_table_of_an_older_store__is_readable():
    members = {
        "model": Member(("model",), ["a/0", "@truth"]),
        "step": Member(("model",), np.array([3, np.nan])),
        "seed": Member(("model",), np.array([3, 4])),
        "mixed": Member(("model",), ["1", "null"], {"encoding": "json"}),
    }
    table = table_from_members(members)
    np.testing.assert_array_equal(table["step"], [3, np.nan])
    assert table["seed"].tolist() == [3, 4]
    assert table["mixed"].tolist() == [1, None]


def test_catalogue__keeps_integers_of_any_size(ensemble, monkeypatch):
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    expected = record(ensemble, a={"seed": 10**30}, b={"seed": 2**63})
    assert (ensemble.path / "catalogue").exists()
    monkeypatch.setattr("inpca.store.catalogue.Run", None)
    pd.testing.assert_frame_equal(inpca.open_ensemble(ensemble.path).models, expected)


# -- export and summary ---------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_export__writes_every_digit(ensemble, tmp_path, ending):
    record(ensemble, a={"seed": BIG + 1, "big": 2**64 - 1}, b={"big": 1})
    path = export(ensemble, "models", tmp_path / f"models.{ending}")
    if ending == "csv":
        table = pd.read_csv(path, index_col=0, dtype=str, keep_default_na=False)
        seeds, bigs = table["seed"].tolist(), table["big"].tolist()
    else:
        with np.load(path) as arrays:
            seeds, bigs = arrays["seed"].tolist(), arrays["big"].astype(str).tolist()
    assert seeds == [str(BIG + 1), ""]
    assert bigs == [str(2**64 - 1), "1"]


def test_export__of_small_missing_integers_stays_numeric(ensemble, tmp_path):
    record(ensemble, a={"seed": 3}, b={})
    with np.load(export(ensemble, "models", tmp_path / "models.npz")) as arrays:
        np.testing.assert_array_equal(arrays["seed"], [3, np.nan])


def test_info__shows_every_digit(ensemble):
    record(ensemble, a={"seed": BIG + 1, "width": 12345}, b={"seed": BIG, "width": 12345})
    described = json.loads(json.dumps(describe_ensemble(ensemble)))
    assert described["columns"]["seed"] == {"min": BIG, "max": BIG + 1}
    lines = "\n".join(ensemble_lines(described))
    assert f"{BIG} … {BIG + 1}" in lines
    assert "12345" in lines


# -- steps, epochs, metrics -----------------------------------------------------------------------

BAD_STEPS = [
    2**63,
    np.uint64(2**64 - 1),
    -(2**63) - 1,
    1e300,
    2.7,
    math.nan,
    math.inf,
    True,
    "3",
    None,
    [1],
    np.ma.masked,
]


@pytest.mark.parametrize("step", BAD_STEPS, ids=repr)
def test_step__that_is_no_int64_is_refused_by_name_and_leaves_nothing(ensemble, step):
    with (
        ensemble.start_run("a") as writer,
        pytest.raises(InputError, match="`step` must be whole numbers"),
    ):
        writer.append({"train": UNIFORM[0]}, "probs", step=step, epoch=0)
    with pytest.raises(InputError, match="`step`"):
        ensemble.add_run("a", {"train": UNIFORM}, step=[step])
    assert list((ensemble.path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "steps",
    [
        np.array([2**63 - 1, BIG + 1]),
        np.array([BIG + 1, 1], np.uint64),
        [BIG + 1, 1.0],
        (2**63 - 1, -(2**63)),
        np.array([3.0, 2.0], np.float32),
        pd.Series([BIG + 1, 2], dtype="Int64"),
        [np.int8(3), np.array(4)],
    ],
    ids=lambda steps: type(steps).__name__,
)
def test_steps__are_stored_exactly_whatever_holds_them(ensemble, steps):
    ensemble.add_run("a", {"train": UNIFORM.repeat(2, axis=0)}, step=steps)
    assert ensemble.models["step"].tolist() == [int(step) for step in steps]


@pytest.mark.parametrize(
    "steps",
    [
        np.array([1, 2**64 - 1], np.uint64),
        np.ma.array([1, 2], mask=[False, True]),
        pd.Series([1, None], dtype="Int64"),
        np.array([1, 2], "timedelta64[s]"),
        "12",
        7,
    ],
    ids=lambda steps: type(steps).__name__,
)
def test_steps__that_are_no_whole_numbers_each_are_refused(ensemble, steps):
    with pytest.raises(InputError, match="`step`"):
        ensemble.add_run("a", {"train": UNIFORM.repeat(2, axis=0)}, step=steps)
    assert list((ensemble.path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (np.array([1, 2**64 - 1], np.uint64), "whole numbers"),
        (np.array([0, 1e300]), "whole numbers"),
        (np.array([5, 3], np.uint64), "5 is followed by 3"),
        (np.array([BIG + 1, BIG]), f"{BIG + 1} is followed by {BIG}"),
    ],
)
def test_steps_of_a_file__that_are_no_int64_are_refused(tmp_path, step, message):
    predictions = UNIFORM.repeat(2, axis=0)
    labels = np.arange(N) % C
    np.savez(tmp_path / "a.npz", predictions=predictions, labels=labels, step=step)
    with pytest.raises(InputError, match=f"`step` in .*a.npz.*{message}"):
        import_arrays([tmp_path / "a.npz"], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_steps_of_a_file__are_stored_exactly(tmp_path):
    step = np.array([BIG + 1, BIG + 3], np.uint64)
    labels = np.arange(N) % C
    np.savez(tmp_path / "a.npz", predictions=UNIFORM.repeat(2, axis=0), labels=labels, step=step)
    import_arrays([tmp_path / "a.npz"], tmp_path / "e")
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [BIG + 1, BIG + 3]


class Tensor:
    """As a tensor of torch without dimensions."""

    shape = ()
    dtype = "torch.float32"

    def item(self):
        return 0.5


GOOD_METRICS = [
    0.25,
    3,
    2**60,
    True,
    math.inf,
    -math.inf,
    math.nan,
    np.float32(0.1),
    np.float16(0.1),
    np.uint64(2**63),
    np.array(0.25),
    Tensor(),
]


@pytest.mark.parametrize("value", GOOD_METRICS, ids=lambda value: type(value).__name__)
def test_metric__that_float64_holds_is_stored_exactly(ensemble, value):
    with ensemble.start_run("a") as writer:
        writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=0, metrics={"m": value})
    ensemble.add_run("b", {"train": UNIFORM}, metrics={"m": [value]})
    expected = value.item() if hasattr(value, "item") else value
    np.testing.assert_array_equal(ensemble.models["m"].tolist(), [float(expected)] * 2)


BAD_METRICS = [
    BIG + 1,
    np.uint64(2**64 - 1),
    10**400,
    "0.5",
    None,
    1j,
    [0.5],
    np.array([0.5]),
    np.longdouble(1) / 3,
    np.ma.masked,
    np.timedelta64(5, "ns"),
    b"1",
    10**5000,
]


@pytest.mark.parametrize("value", BAD_METRICS, ids=lambda value: type(value).__name__)
def test_metric__that_float64_does_not_hold_is_refused_by_name_and_leaves_nothing(ensemble, value):
    with (
        ensemble.start_run("a") as writer,
        pytest.raises(InputError, match=r"`metrics\['m'\]`"),
    ):
        writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=0, metrics={"m": value})
    with pytest.raises(InputError, match=r"`metrics\['m'\]`"):
        ensemble.add_run("a", {"train": UNIFORM}, metrics={"m": [value]})
    assert list((ensemble.path / "runs").iterdir()) == []


def test_metrics_in_a_list__are_not_rounded_by_what_stands_beside_them(ensemble):
    with pytest.raises(InputError, match="float64 holds exactly"):
        ensemble.add_run("a", {"train": UNIFORM.repeat(2, axis=0)}, metrics={"m": [BIG + 1, 0.5]})


@pytest.mark.parametrize("epoch", [math.inf, "1", None, BIG + 1, [1.0]], ids=repr)
def test_epoch__that_is_no_finite_number_is_refused(ensemble, epoch):
    with (
        ensemble.start_run("a") as writer,
        pytest.raises(InputError, match="`epoch`"),
    ):
        writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=epoch)


def test_metrics__that_name_nothing_are_refused(ensemble):
    with (
        ensemble.start_run("a") as writer,
        pytest.raises(InputError, match="`metrics` must be a mapping"),
    ):
        writer.append({"train": UNIFORM[0]}, "probs", step=0, epoch=0, metrics=[1.0])


# -- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([2**63], "uint64"),
        ([2**63, None], "UInt64"),
        ([2**64], "object"),
        ([2**63, -1], "object"),
        ([1, 0.5], "float64"),
        ([BIG + 1, 0.5], "object"),
        ([10**400, 0.5], "object"),
        ([True, None], "boolean"),
        ([True, 1], "object"),
        ([1, "1"], "object"),
        ([None], "object"),
    ],
    ids=str,
)
def test_setting_column__has_the_narrowest_type_that_holds_every_value(values, dtype):
    column = pd.Series(setting_column(values))
    assert column.dtype == dtype
    for read, value in zip(column.tolist(), values):
        assert pd.isna(read) if value is None else read == value


def test_models_table__of_runs_without_settings_has_none():
    entries = {"a": {"config": {}, "columns": {"step": [0], "epoch": [0.0]}}}
    assert "seed" not in models_table(entries).columns
