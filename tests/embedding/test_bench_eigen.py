"""The benchmark of the eigensolver, on a D small enough for a test."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_eigen.py"


@pytest.mark.slow
def test_bench_eigen__prints_a_row_per_program_and_finds_the_time_like_axes() -> None:
    command = [sys.executable, SCRIPT, "--models", "300", "--components", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    rows = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if "|" in line}
    for name in ("inpca, LAPACK", "inpca, Lanczos on tiles", "scipy eigsh"):
        assert "6 of 6 right" in rows[name]
    assert "0 of 6 right" in rows["scikit-learn ClassicalMDS"]
    fsvd = rows["scikit-bio pcoa, fsvd"]
    assert "wrong sign" in fsvd or "pip install 'inpca[bench]'" in fsvd
