"""Small ensembles, and a process of one's own, for the tests of the store room."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import inpca

N, C = 30, 4


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only losing power could tell; the tests that kill run in processes of their own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def probs(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Make random probabilities of shape (n_checkpoints, n_samples, n_classes)."""

    def make(n_checkpoints: int, n_samples: int = N, n_classes: int = C) -> np.ndarray:
        return rng.dirichlet(np.ones(n_classes), size=(n_checkpoints, n_samples))

    return make


@pytest.fixture
def ensemble(tmp_path: Path) -> inpca.Ensemble:
    """An empty ensemble with two sample sets."""
    return inpca.create_ensemble(
        tmp_path / "a.ensemble",
        sample_sets={"train": np.arange(N) % C, "test": np.arange(7) % C},
        n_classes=C,
    )


@pytest.fixture
def recorded(ensemble: inpca.Ensemble, probs: Callable[..., np.ndarray]) -> inpca.Ensemble:
    """Two runs with different configurations: 'cnn' (4 checkpoints) and 'mlp' (3)."""
    for run, count, config in (
        ("cnn", 4, {"architecture": "cnn", "lr": 0.1, "augment": True}),
        ("mlp", 3, {"architecture": "mlp", "depth": 2}),
    ):
        ensemble.add_run(
            run,
            {"train": probs(count), "test": probs(count, 7)},
            config=config,
            step=np.arange(count) * 10,
            epoch=np.arange(count) / 2,
        )
    return ensemble


@pytest.fixture
def script() -> Callable[..., str]:
    """Run Python code in a process of its own with the given arguments; return its output."""

    def run(code: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=800,  # thousands of fsyncs: minutes on a disk that is busy
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
