"""The examples run as they stand and leave an ensemble that is whole."""

import runpy
import sys
from pathlib import Path

import pytest

import inpca

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "runs"),
    [
        ("digits_torch.py", ["mlp-sgd-0"]),
        ("digits_sklearn.py", ["forest-10-0", "forest-100-0", "mlp-0", "sgd-0"]),
    ],
)
def test_example__leaves_a_whole_ensemble(tmp_path, monkeypatch, script, runs):
    path = tmp_path / "digits.ensemble"
    monkeypatch.setattr(sys, "argv", [script, "--ensemble", str(path), "--epochs", "2"])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    ensemble = inpca.open_ensemble(path)
    assert ensemble.runs == runs
    assert ensemble.check() == []
