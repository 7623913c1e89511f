"""The synthetic experiment in small: what the paper found of it, the order, and not the numbers."""

import json
import runpy
import sys
from pathlib import Path

import pytest

import inpca
from collectors.zoo.sweep import find_sweep, load_sweep

SCRIPT = Path(__file__).parents[2] / "examples" / "synthetic_manifold.py"
SHORT = [
    "--points", "1", "2", "4", "--epochs", "10", "--n-train", "300", "--n-test", "100",
    "--architectures", "student-512", "--workers", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(SCRIPT), run_name="example")


@pytest.mark.parametrize("spectrum", ["sloppy", "isotropic"])
def test_starts__from_any_number_of_points_are_as_many_runs_of_the_shipped_sweep(example, spectrum):
    trainings = load_sweep(find_sweep(f"synthetic-{spectrum}")).trainings
    used = set()
    for points in (0, 1, 2, 5, 10):
        wanted = example["starts_from"](points, 10)
        used |= wanted
        runs = [t for t in trainings if (t.init, t.seed) in wanted]
        assert len(runs) == 2 * 3 * 10
        assert len({t.init for t in runs}) == max(points, 1)
    assert used == {(t.init, t.seed) for t in trainings}


def test_full_experiment__is_the_papers(example):
    sweep = load_sweep(find_sweep("synthetic-sloppy"))
    full = example["reduced"](sweep, example["FULL"])
    assert full.trainings == sweep.trainings
    assert {t.epochs for t in full.trainings} == {200}
    assert (full.data.n_train, full.data.n_test) == (5_000, 1_000)


@pytest.mark.slow
def test_explained_stress__falls_with_the_number_of_initial_points(tmp_path, monkeypatch, capsys):
    words = [str(SCRIPT), "--output", str(tmp_path), "--inputs", "sloppy", *SHORT]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = json.loads((tmp_path / "explained_stress.json").read_text())
    for sample_set in ("train", "test"):
        root = [row["root"] for row in rows if row["set"] == sample_set]
        assert root == sorted(root, reverse=True)
        assert root[0] - root[-1] > 0.005
        assert all(row["root"] <= row["eq_8"] for row in rows)
        assert root[-1] > 0.8  # low-dimensional, wherever training begins
    assert {row["runs"] for row in rows} == {12}
    assert "ignorance       train     12" in capsys.readouterr().out
    assert inpca.open_ensemble(tmp_path / "sloppy.ensemble").check() == []
