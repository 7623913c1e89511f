"""`inpca trajectories`, run as a user runs it."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import inpca


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from inpca.cli import main; main()", "trajectories"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_trajectories__prints_pairs_and_keeps_them(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    done = run(path, "--points", 5, "--quiet")
    table = pd.read_csv(io.StringIO(done.stdout))
    assert table.columns.tolist() == ["run", "other_run", "distance"]
    expected = inpca.trajectory_distances(small_ensemble, 5).integrated
    assert np.allclose(table["distance"], expected[np.triu_indices(4, 1)], atol=1e-6)
    kept = inpca.trajectories.load_trajectory_distances(path / "trajectories" / "train.zarr")
    assert np.allclose(kept.integrated, expected, atol=1e-6)
    assert "do not reach every value of s" in done.stderr
    done = run(path, "--points", 4, "--quiet", code=3)
    assert "restart" in done.stderr
    rows = json.loads(
        run(path, "-p", 4, "--restart", "--by", "seed", "--by-s", "--json", "-q").stdout
    )
    assert [row["s"] for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert {(row["group"], row["other_group"]) for row in rows} == {("linear", "mlp")}


def test_trajectories__prints_tubes_and_distances_to_the_geodesic(
    small_ensemble: inpca.Ensemble, tmp_path
) -> None:
    path = small_ensemble.path
    run(path, "widths", "-p", 3, "-q", "--output", tmp_path / "widths.csv")
    widths = pd.read_csv(tmp_path / "widths.csv", index_col="group")
    assert widths.index.tolist() == ["linear", "mlp"]
    done = run(path, "geodesic", "-p", 3, "-q", "--by-s")
    along = pd.read_csv(io.StringIO(done.stdout))
    assert along.columns.tolist() == ["run", "s", "distance", "reached"]
    assert along["reached"].isin([0, 1]).all()
    assert not along.loc[along["s"] == 1, "reached"].any()
    assert along.loc[along["s"] == 0.5, "reached"].all()
    assert "4 of 4 runs do not reach every value of s" in done.stderr


def test_trajectories__at_equal_steps(small_ensemble: inpca.Ensemble, tmp_path) -> None:
    path = small_ensemble.path
    run(path, "widths", "--index", "step", "-p", 3, "-q", "--by-s", "-o", tmp_path / "w.csv")
    widths = pd.read_csv(tmp_path / "w.csv")
    assert widths["s"].tolist() == [0, 2.5, 5] * 2
    assert widths["reached"].tolist() == [1] * 6
    options = ("--index", "step", "-p", 2, "--from", 1, "--to", 4, "-q", "--by-s")
    table = pd.read_csv(io.StringIO(run(path, "distances", *options).stdout))
    assert table["s"].unique().tolist() == [1, 4]


def test_trajectories__prints_the_importance_of_settings(small_ensemble: inpca.Ensemble) -> None:
    done = run(small_ensemble.path, "importance", "-p", 3, "-q", "--json")
    assert [row["setting"] for row in json.loads(done.stdout)] == ["architecture"]
    assert "held-out pairs" in done.stderr
