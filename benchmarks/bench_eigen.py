"""Eigenpairs of the same D by inpca, scipy, scikit-bio and scikit-learn, each in its own process.

    python benchmarks/bench_eigen.py [--models 4000 10000] [--components 20] [--limit 3600]

Prints a table: time, processor time of all threads, peak memory, error of the eigenvalues, and
what became of the time-like axes (negative eigenvalues) that the reference, LAPACK on all of W,
has among the first components. Time starts when D is in memory, or its tiles are on disk, in the
form that the program takes; memory is that of the whole process, Python, libraries and D included.
scikit-bio is optional: pip install 'inpca[bench]'.
"""

import argparse
import datetime
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import inpca
from inpca.backend import machine
from inpca.units import format_bytes, format_seconds

N_SAMPLES, N_CLASSES, N_CHECKPOINTS, N_FAMILIES = 200, 10, 50, 8
TOL = 1e-6
REFERENCE = "inpca, LAPACK"


def trainings(n_models: int, seed: int = 0) -> np.ndarray:
    """Log-probabilities of made-up runs, (n_models, samples, classes) float32.

    Each goes from ignorance to truth, by a detour it shares with its family and by its own, and
    ends saturated: a seventh of its probabilities are below 1e-26.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, N_CLASSES, N_SAMPLES)
    truth = np.eye(N_CLASSES)[labels] - 1 / N_CLASSES
    shape = (N_SAMPLES, N_CLASSES)
    families = rng.normal(size=(N_FAMILIES, *shape))
    hardness = rng.gamma(2.0, 0.5, size=N_SAMPLES)[:, None]
    time_ = np.linspace(0, 1, N_CHECKPOINTS)[:, None, None]
    out = np.empty((-(-n_models // N_CHECKPOINTS), N_CHECKPOINTS, *shape), np.float32)
    for run in range(len(out)):
        own, wave = rng.normal(size=shape), rng.normal(size=shape)
        s = time_ ** (1 / rng.uniform(0.6, 2.0))
        logits = 40 * s**2 * truth / hardness + 6 * np.sin(np.pi * s) * families[run % N_FAMILIES]
        logits += 2 * s * own + 1.5 * s * (1 - s) * np.cos(9 * s) * wave
        logits -= logits.max(axis=-1, keepdims=True)
        out[run] = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return out.reshape(-1, *shape)[:n_models]


Answer = tuple[tuple[float, float], Any, str]


# --- the methods: each returns its eigenvalues, and how it got there -------------------------


def _lanczos(folder: Path, k: int) -> Answer:
    embedding = inpca.InPCA(n_components=k, solver="lanczos", tol=TOL)
    matrix = inpca.TiledMatrix.open(folder / "d.zarr")
    seconds = clock(lambda: embedding.fit(matrix))
    return seconds, embedding.eigenvalues_, f"{embedding.n_passes_} passes of 128"


def _warm(folder: Path, k: int) -> Answer:
    d = np.load(folder / "d.npy", mmap_mode="r")
    n_old = int(0.98 * len(d)) // N_CHECKPOINTS * N_CHECKPOINTS
    options = {"n_components": k, "solver": "lanczos", "tol": TOL, "metric": "precomputed"}
    old = inpca.InPCA(**options).fit(np.array(d[:n_old, :n_old]))
    vectors = np.zeros((len(d), k))
    vectors[:n_old] = old.eigenvectors_
    old.eigenvectors_ = vectors
    embedding, whole = inpca.InPCA(**options), np.array(d)
    seconds = clock(lambda: embedding.fit(whole, init=old))
    return seconds, embedding.eigenvalues_, f"{embedding.n_passes_} passes of 128"


def _dense(folder: Path, k: int) -> Answer:
    embedding = inpca.InPCA(n_components=k, solver="dense", metric="precomputed", memory="1TB")
    d = np.load(folder / "d.npy")
    return clock(lambda: embedding.fit(d)), embedding.eigenvalues_, ""


def _eigsh(folder: Path, k: int) -> Answer:
    from scipy.sparse.linalg import LinearOperator, eigsh

    d = np.load(folder / "d.npy")
    calls: list[int] = []

    def apply(v: np.ndarray) -> np.ndarray:
        calls.append(1)
        product = d @ (v - v.mean())
        return -0.5 * (product - product.mean())

    found: list[np.ndarray] = []
    operator = LinearOperator(d.shape, matvec=apply, dtype=d.dtype)
    seconds = clock(
        lambda: found.append(eigsh(operator, k, which="LM", tol=TOL, return_eigenvectors=True)[0])
    )
    return seconds, found[0], f"{len(calls)} passes of 1"


def _pcoa(method: str) -> Callable[[Path, int], Answer]:
    def run(folder: Path, k: int) -> Answer:
        from skbio import DistanceMatrix
        from skbio.stats.ordination import pcoa

        d = DistanceMatrix(np.sqrt(np.maximum(np.load(folder / "d.npy"), 0)))
        found: list[Any] = []
        # fsvd draws random numbers: seeded, so that the table is the same again.
        options = {"seed": 0} if method == "fsvd" else {}
        call = lambda: found.append(pcoa(d, method=method, dimensions=k, **options))  # noqa: E731
        return clock(call), np.asarray(found[0].eigvals), ""

    return run


def _classical(folder: Path, k: int) -> Answer:
    from sklearn.manifold import ClassicalMDS

    estimator = ClassicalMDS(n_components=k, metric="precomputed")
    d = np.sqrt(np.maximum(np.load(folder / "d.npy"), 0))
    return clock(lambda: estimator.fit(d)), estimator.eigenvalues_, ""


METHODS: dict[str, Callable[[Path, int], Answer]] = {
    REFERENCE: _dense,
    "inpca, Lanczos on tiles": _lanczos,
    "inpca, Lanczos, warm start from 98 % of the models": _warm,
    "scipy eigsh": _eigsh,
    "scikit-bio pcoa, eigh": _pcoa("eigh"),
    "scikit-bio pcoa, fsvd": _pcoa("fsvd"),
    "scikit-learn ClassicalMDS": _classical,
}


def clock(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds that a call takes, and seconds of processor time that all its threads take."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


# --- running and judging ---------------------------------------------------------------------


def in_a_process(name: str, folder: Path, k: int, limit: float) -> dict[str, Any] | str:
    """What the method gives in a process of its own, or why it gives nothing."""
    if name.startswith("scikit-bio") and importlib.util.find_spec("skbio") is None:
        return "scikit-bio is not installed: pip install 'inpca[bench]'"
    command = [sys.executable, __file__, "--one", name, str(folder), "--components", str(k)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {format_seconds(limit)}"
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one(name: str, folder: Path, k: int) -> None:
    """Run one method and print what it gave."""
    warnings.simplefilter("ignore")
    seconds, values, note = METHODS[name](folder, k)
    peak = peak_memory()
    values = np.asarray(values, dtype=float).tolist()
    print(json.dumps({"seconds": seconds, "peak": peak, "values": values, "note": note}))


def peak_memory() -> int:
    """Bytes that this process had at most."""
    status = Path("/proc/self/status")
    if status.exists():  # where there is one, ru_maxrss begins with the parent's peak
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def verdict(values: np.ndarray, expected: np.ndarray) -> tuple[str, str]:
    """Largest error of an eigenvalue over |λ₁|, and what became of the time-like axes."""
    near = 1e-5 * abs(expected[0])

    def has(value: float) -> bool:
        return bool(np.abs(values - value).min() <= near)

    time_like = expected[expected < 0]
    right = sum(has(value) for value in time_like)
    flipped = sum(not has(value) and has(-value) for value in time_like)
    lost = len(time_like) - right - flipped
    told = [f"{right} of {len(time_like)} right"]
    told += [f"{flipped} with the wrong sign"] if flipped else []
    told += [f"{lost} lost"] if lost else []
    ordered = values[np.argsort(-np.abs(values), kind="stable")][: len(expected)]
    error = np.abs(ordered - expected[: len(ordered)]).max() / abs(expected[0])
    return f"{error:.0e}", ", ".join(told)


def table(n_models: int, k: int, limit: float, folder: Path) -> list[str]:
    """The lines of the table for one D."""
    lines = [
        "| method | time | processor time | peak memory | worst error / λ₁ | time-like axes | |",
        "|---|---|---|---|---|---|",
    ]
    matrix = inpca.pairwise_distances(
        trainings(n_models), kind="log_probs", out=folder / "d.zarr", restart=True
    )
    np.save(folder / "d.npy", matrix.to_array().astype(np.float64))
    expected: np.ndarray | None = None
    for name in METHODS:
        found = in_a_process(name, folder, k, limit)
        if isinstance(found, str):
            lines.append(f"| {name} | {found} | | | | | |")
            continue
        values = np.array(found["values"])
        if expected is None:
            expected = values
        error, axes = verdict(values, expected)
        if expected is values:
            error = "reference" if name == REFERENCE else "reference: LAPACK gave none"
        times = " | ".join(format_seconds(seconds) for seconds in found["seconds"])
        lines.append(
            f"| {name} | {times} | {format_bytes(found['peak'])} | {error} | {axes} "
            f"| {found['note']} |"
        )
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[4000, 10_000])
    parser.add_argument("--components", type=int, default=20)
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one method")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], Path(options.one[1]), options.components)
        return
    here = machine()
    print(f"{here.processor}, {here.cores} cores, {'; '.join(here.blas)}, {datetime.date.today()}")
    if hasattr(os, "getloadavg"):
        print(f"load before: {os.getloadavg()[0]:.1f}")
    for n_models in options.models:
        with tempfile.TemporaryDirectory() as folder:
            lines = table(n_models, options.components, options.limit, Path(folder))
        print(f"\n{n_models:,} models, {options.components} components, tol {TOL:.0e}\n")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
