"""The benchmark of progress still runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_geometry.py"


@pytest.mark.slow
def test_benchmark__reports_every_time_and_agrees_with_the_loop() -> None:
    sizes = ["--models", "6", "--samples", "200", "--loop", "2", "--repeats", "1", "--json"]
    command = [sys.executable, str(BENCHMARK), *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["progress_over_reading"] > 0
    assert record["times_faster_than_loop"] > 0
    assert record["largest_difference"] < 2e-5
