"""--backend and --device on a machine whose GPUs, if any, are hidden."""

import json
import os
import subprocess
import sys

import pytest

import inpca

HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}


def run(*arguments, code=0):
    command = [sys.executable, "-c", "from inpca.cli import main; main()", *map(str, arguments)]
    environment = os.environ | HIDDEN
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == code, done.stderr
    return done


def test_auto__says_where_it_computes_and_why(small_ensemble: inpca.Ensemble) -> None:
    done = run("distances", small_ensemble.path, "--backend", "auto")
    assert "on the CPU (" in done.stderr.replace("\n", " ")
    record = json.loads(run("plan", small_ensemble.path, "--backend", "auto", "--json").stdout)
    assert (record["backend"], record["device"]) == ("numba", None)


@pytest.mark.parametrize("verb", ["plan", "distances"])
def test_cupy__without_a_gpu_is_an_error_with_the_cure(verb, small_ensemble) -> None:
    error = run(verb, small_ensemble.path, "--backend", "cupy", code=5).stderr
    assert "backend='numba'" in error or "pip install" in error or "CUDA_VISIBLE_DEVICES" in error
    assert not small_ensemble.distances_path("train").exists()
