"""The job of `benchmarks/full_scale.py` at a hundredth of its size, killed once in each phase."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import inpca

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "full_scale.py"
MEMORY = "60MB"  # several blocks, as the full size has
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peaks of memory are read from /proc"
)


def full_scale(folder: Path, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARK), str(folder), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "full_scale.json").read_text()))


def results(folder: Path) -> dict[str, bytes]:
    """Every file of the ensemble, by name; without locks, and what is derived from the rest."""
    ensemble = folder / "full.ensemble"
    return {
        str(path.relative_to(ensemble)): path.read_bytes()
        for path in sorted(ensemble.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != "catalogue"
    }


@pytest.mark.slow
def test_full_scale__gives_the_same_bytes_when_each_phase_is_killed(tmp_path: Path) -> None:
    options = ("--scale", "0.01", "--memory", MEMORY)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    table = full_scale(killed, *options, "--kill").stdout
    full_scale(whole, *options)
    assert all(word in table for word in ("| make |", "| distances |", "| embed |", "time-like"))

    phases = record(killed)["phases"]
    assert [phases[name]["kills"] for name in ("make", "distances", "embed")] == [1, 1, 1]
    assert record(whole)["n_models"] == record(killed)["n_models"] == 1517
    assert record(killed)["extra"]["plan"]["n_blocks"] > 1
    assert record(killed)["extra"]["embedding"]["converged"] == 50

    expected, found = results(whole), results(killed)
    assert found.keys() == expected.keys()  # nothing of a killed call is left behind
    assert [name for name in expected if found[name] != expected[name]] == []

    # An interpreter with everything imported takes about 300 MB beside what `--memory` allows.
    for name in ("distances", "embed"):
        assert 60e6 < phases[name]["peak_bytes"] < 460e6

    again = full_scale(killed, *options, "--kill", "--clean")
    assert again.stderr.count("done before") == 3
    assert again.stdout == table
    assert not (killed / "full.ensemble").exists()


@pytest.mark.slow
def test_full_scale__makes_runs_that_learn(tmp_path: Path) -> None:
    full_scale(tmp_path, "--scale", "0.001", "--make-only")
    models = inpca.open_ensemble(tmp_path / "full.ensemble").models
    losses = models.groupby("run")["train_loss"].agg(["first", "last"])
    assert (abs(losses["first"] - math.log(10)) < 0.3).all()  # ignorance
    assert (losses["last"] < 0.75 * losses["first"]).all()


def test_full_scale__has_exactly_151407_models_in_runs_of_62_to_73(benchmark: ModuleType) -> None:
    counts = benchmark.checkpoint_counts(settings(benchmark, 1.0))
    assert len(counts) == 2296
    assert counts.sum() == 151_407
    assert (counts.min(), counts.max()) == (62, 73)
    assert benchmark.run_config(0) != benchmark.run_config(2295)


def test_full_scale__refuses_a_disk_that_is_too_small(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = benchmark.Job(tmp_path, settings(benchmark, 1.0))
    full = SimpleNamespace(free=50_000_000_000)
    monkeypatch.setattr(benchmark.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(SystemExit, match=r"need 56.0 GB more on disk but 50.0 GB are free"):
        job.check_disk()
    benchmark.Job(tmp_path, settings(benchmark, 0.5)).check_disk()


def test_full_scale__refuses_a_folder_with_another_job(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    benchmark.Job(tmp_path, settings(benchmark, 0.01)).note()
    with pytest.raises(SystemExit, match="other settings"):
        benchmark.Job(tmp_path, settings(benchmark, 0.02))


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    return importlib.import_module("full_scale")


def settings(benchmark: ModuleType, scale: float) -> Any:
    return benchmark.Settings(scale, MEMORY, 50, 0, 2, kill=False)
