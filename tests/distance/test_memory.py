"""The budget is kept: measured, in a process of its own."""

import json
import subprocess
import sys

import pytest

JOB = """
import json, sys
import numpy as np
import inpca

n_models, n_samples, n_classes, n_runs = 12_000, 500, 10, 24
if sys.argv[2] == "make":
    labels = np.arange(n_samples) % n_classes
    ensemble = inpca.create_ensemble(
        sys.argv[1] + "/e", sample_sets={"train": labels}, n_classes=n_classes
    )
    for run in range(n_runs):
        logits = np.random.default_rng(run).normal(
            size=(n_models // n_runs, n_samples, n_classes)
        ).astype(np.float32)
        ensemble.add_run(f"run-{run:02}", {"train": 2 * logits}, kind="logits")
    # Compiled here and loaded there: the compiler's own memory is no part of the budget.
    inpca.pairwise_distances(ensemble.select(["run-00/0", "run-00/1"]))
else:
    ensemble = inpca.open_ensemble(sys.argv[1] + "/e")
    matrix, info = inpca.pairwise_distances(
        ensemble, out=sys.argv[1] + "/d.zarr", memory="300MB", return_info=True
    )
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({
        "peak": peak, "complete": matrix.complete, "needed": info.plan.memory_needed,
        "tile_size": matrix.grid.tile_size, "seconds": info.seconds,
        "blocks": len(info.plan.blocks),
    }))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_distances__of_an_ensemble_larger_than_the_budget_keep_to_it(tmp_path):
    """240 MB of predictions and 288 MB of D under 300 MB, 250 MB for the interpreter."""
    for step in ("make", "measure"):
        command = [sys.executable, "-c", JOB, str(tmp_path), step]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(result.stdout)
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["complete"]
    assert found["blocks"] > 1
    assert found["needed"] <= 300_000_000
    assert found["peak"] <= 300_000_000 + 250_000_000
