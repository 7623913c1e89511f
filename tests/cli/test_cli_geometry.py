"""The verbs progress and average."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import inpca
from inpca.cli import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def refused(*arguments: object) -> str:
    with pytest.raises(inpca.InputError) as caught:
        run(*arguments)
    return str(caught.value)


def test_progress__is_printed_with_error_loss_and_fit(small_ensemble: inpca.Ensemble) -> None:
    record = json.loads(run("progress", small_ensemble.path, "-s", "test", "--json", "-q").stdout)
    table = pd.DataFrame(record["models"]).set_index("model")
    expected = inpca.progress_table(small_ensemble, sample_set="test")
    pd.testing.assert_frame_equal(table[["progress", "error", "loss"]], expected.iloc[:, -3:])
    fit = inpca.r_squared(expected["progress"], expected["error"])
    assert record["r_squared"] == pytest.approx(fit)


def test_progress__as_csv_and_of_chosen_models_between_chosen_ends(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    options = ["--select", "seed == 1", "--start", "first", "--end", "run-0/5", "-q"]
    done = run("progress", small_ensemble.path, "--csv", *options)
    table = pd.read_csv(io.StringIO(done.stdout), index_col="model")
    some = small_ensemble.select("seed == 1")
    expected = inpca.progress(some, start="first", end="run-0/5")
    np.testing.assert_allclose(table["progress"], expected, atol=1e-12)
    assert "R² of progress against error, 12 models" in done.stderr
    output = tmp_path / "progress.csv"
    run("progress", small_ensemble.path, "-o", output, *options)
    assert output.read_text() == done.stdout


def test_progress__for_people_ends_with_the_fit(small_ensemble: inpca.Ensemble) -> None:
    lines = run("progress", small_ensemble.path, "-q").stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "run", "checkpoint"]
    assert len(lines) == 26
    assert lines[-1].startswith("R² of progress against error, 24 models: 0.")


def test_progress__does_not_count_stored_averages_as_trainings(
    small_ensemble: inpca.Ensemble,
) -> None:
    before = json.loads(run("progress", small_ensemble.path, "--json", "-q").stdout)
    run("average", small_ensemble.path, "--by", "architecture", "--by", "step", "-q")
    after = json.loads(run("progress", small_ensemble.path, "--json", "-q").stdout)
    assert after["r_squared"] == before["r_squared"]
    assert len(after["models"]) == 36
    own_way = json.loads(
        run("progress", small_ensemble.path, "--start", "first", "--json", "-q").stdout
    )
    unknown = [row["kind"] for row in own_way["models"] if row["progress"] is None]
    assert unknown == ["reference"] * 12


def test_progress__of_one_model_says_why_there_is_no_fit(small_ensemble: inpca.Ensemble) -> None:
    out = run("progress", small_ensemble.path, "--select", "step == 0 and seed == 0", "-q").stdout
    assert "no R² of progress against error: it needs 3 models of runs, not 2" in out
    assert "nan" not in out


def test_progress__refuses_what_it_cannot_do(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    assert "give one" in refused("progress", path, "--csv", "--json")
    assert "`start` must be" in refused("progress", path, "--start", "run-7/0")
    assert "folder that does not exist" in refused("progress", path, "-o", "no/x.csv")


def test_average__stores_and_prints_what_it_made(small_ensemble: inpca.Ensemble) -> None:
    command = ["average", small_ensemble.path, "--by", "architecture", "--by", "step", "-q"]
    rows = json.loads(run(*command, "--how", "geometric", "--json").stdout)
    assert len(rows) == 12
    assert {row["run"] for row in rows} == {f"average-geometric-{a}" for a in ("linear", "mlp")}
    assert all(row["n_averaged"] == 2 and 0 <= row["test_error"] <= 1 for row in rows)
    again = run(*command, "--how", "geometric").stdout
    assert "average-geometric-mlp" in again


def test_average__compares_without_storing(small_ensemble: inpca.Ensemble) -> None:
    before = inpca.open_ensemble(small_ensemble.path).models
    options = ["--select", "checkpoint == 5", "--compare", "-s", "test", "--json", "-q"]
    rows = json.loads(run("average", small_ensemble.path, *options).stdout)
    assert {row["average"] for row in rows} >= {"arithmetic", "jeffreys", "bhattacharyya"}
    pd.testing.assert_frame_equal(inpca.open_ensemble(small_ensemble.path).models, before)


def test_average__refuses_what_it_cannot_do(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    assert "`how` must be one of" in refused("average", path, "--how", "median")
    assert "`by` must name columns" in refused("average", path, "--by", "colour")
    told = refused("average", path, "--by", "achitecture")
    assert "not 'achitecture'; the nearest first: architecture, " in told
