"""Runs behind capped contributions: found, named once, left out by the selection that is told."""

import logging

import numpy as np
import pytest
from typer.testing import CliRunner

import inpca
from inpca.cli import app
from inpca.distance.capped import find_capped, read_capped
from inpca.distance.divergences import BHATTACHARYYA, JEFFREYS
from tests import naive

N, C = 20, 5


def saturated(n_checkpoints, share, seed=9):
    """Log-probabilities that leave the true class out in a share of the samples."""
    random = np.random.default_rng(seed)
    log_p = naive.random_models(n_checkpoints, N, C, seed=seed)
    wrong = np.flatnonzero(np.arange(N) < share * N)
    log_p[:, wrong] = -np.inf
    log_p[:, wrong, (labels()[wrong] + random.integers(1, C)) % C] = 0
    return log_p


def labels():
    return np.arange(N) % C


@pytest.fixture
def ensemble(tmp_path):
    made = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels()}, n_classes=C)
    for run in range(3):
        predictions = naive.random_models(4, N, C, seed=run)
        made.add_run(f"good-{run}", {"train": predictions}, kind="log_probs", config={"seed": run})
    made.add_run("diverged", {"train": saturated(4, 0.75)}, kind="log_probs", config={"seed": 3})
    return made


def test_capped__names_the_run_and_the_selection_that_leaves_it_out(ensemble, caplog):
    view = ensemble.with_references()
    matrix = inpca.pairwise_distances(view, out=ensemble.distances_path("train"))
    found = read_capped(inpca.TiledMatrix.open(matrix.path))
    assert found.shares == {"diverged": 0.75}
    assert found.floored == inpca.TiledMatrix.open(matrix.path).attrs["floored"] > 0
    assert "behind capped contributions: 'diverged' (75% of its predictions" in caplog.text
    assert "--select \"run != 'diverged'\"" in caplog.text
    caplog.clear()
    inpca.pairwise_distances(ensemble.select(found.query).with_references())
    assert caplog.text == ""


def test_capped__in_memory_names_the_run_too(ensemble, caplog):
    inpca.pairwise_distances(ensemble.with_references())
    assert "'diverged' (75%" in caplog.text


def test_capped__every_capped_contribution_has_a_prediction_that_is_counted(ensemble):
    """Without the models that are counted in a sample nothing is capped there."""
    log_p = np.concatenate([ensemble.run(run).log_probs("train", 3)[None] for run in ensemble.runs])
    log_p = np.concatenate([log_p, naive.random_models(40, N, C, sharpness=60)])
    affinity = np.exp(0.5 * (log_p[:, None] + log_p[None])).sum(-1)
    unlikely = log_p[:, np.arange(N), labels()] <= np.log(2.0**-62)
    capped = affinity <= 2.0**-62
    assert capped.any()
    assert (capped <= (unlikely[:, None] | unlikely[None])).all()


@pytest.mark.parametrize("divergence", [BHATTACHARYYA, JEFFREYS])
def test_capped__several_runs_are_named_the_worst_first(ensemble, divergence):
    ensemble.add_run("other", {"train": saturated(2, 1.0)}, kind="log_probs")
    found = find_capped(ensemble, "train", divergence, 7)
    assert found.shares == {"other": 1.0, "diverged": 0.75}
    assert found.query == "run not in ['diverged', 'other']"
    assert set(ensemble.select(found.query).runs) == {"good-0", "good-1", "good-2"}
    assert "'other' (100% of its predictions give" in found.sentence()
    assert list(found.among(["diverged"]).shares) == ["diverged"]


def test_capped__few_predictions_of_many_runs_name_none(ensemble):
    few = naive.random_models(200, N, C)
    few[0] = saturated(1, 0.1)[0]
    ensemble.add_run("slip", {"train": few}, kind="log_probs")
    found = find_capped(ensemble.select("run == 'slip'"), "train", BHATTACHARYYA, 7)
    assert found.shares == {}
    assert found.sentence() == (
        "capped contributions come from 1 run, none with more than 1% of its predictions"
    )


def test_read_capped__of_a_stranger_is_checked(ensemble):
    matrix = inpca.pairwise_distances(ensemble.with_references(), out=ensemble.path / "D.zarr")
    for wrong in (3, {}, {"shares": {"\x1b[31m": 1}, "floored": 1, "others": 0, "affinity": True}):
        matrix.update_attrs({"capped_runs": wrong})
        assert read_capped(inpca.TiledMatrix.open(matrix.path)) is None


def invoke(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def test_verbs__name_the_run_in_terminal_and_page(ensemble, caplog, tmp_path):
    caplog.set_level(logging.WARNING)
    path = ensemble.path
    invoke("distances", path, "--quiet")
    assert caplog.text.count("'diverged' (75%") == 1
    assert "'diverged' (75%" in invoke("info", path).stdout
    told = invoke("embed", path, "-k", "3", "--quiet").stderr
    assert told.count("'diverged' (75%") == 1
    assert "--save-as NAME" in told
    without = ["--select", "run != 'diverged'", "--save-as", "without"]
    assert "diverged" not in invoke("embed", path, "-k", "3", "--quiet", *without).stderr
    for verb in (["plot", path, "page"], ["report", path, "--brief"]):
        page = tmp_path / "page.html"
        invoke(*verb, "-o", page, "--quiet")
        assert "Behind capped contributions: &#x27;diverged&#x27; (75%" in page.read_text()
        invoke(*verb, "-o", page, "--quiet", "--name", "without")
        assert "capped contributions: " not in page.read_text()
