"""The narrative examples run as they stand, on one small ensemble that the first of them makes."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "geometry"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
def test_examples__run_on_one_ensemble(tmp_path):
    assert "digits_ensemble.py" in SCRIPTS
    for script in ["digits_ensemble.py", *(s for s in SCRIPTS if s != "digits_ensemble.py")]:
        command = [sys.executable, str(EXAMPLES / script), "--seeds", "2", "--epochs", "6"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        assert done.stdout
    pictures = {path.stem for path in (tmp_path / "digits-pictures").iterdir()}
    assert {"manifold", "corner", "progress-error", "joint", "four-point", "dendrogram"} <= pictures
