"""Progress of many models by inpca, beside a loop of scipy.optimize.minimize_scalar per model.

    python benchmarks/bench_geometry.py [--models 2000] [--samples 10000] [--classes 10] [--loop 5]

Makes an ensemble of that size on disk, then measures, in one process and in this order:
the loop, as the published code does it (every evaluation makes a point of the geodesic and takes
its distance to the model over all samples and classes), on a few models and scaled to all; the same
loop on the two affinities of each sample alone, computed beforehand; only reading every prediction,
with as many threads; and `inpca.progress`, which reads them too. Prints the times and ratios.
"""

import argparse
import datetime
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

import inpca
from inpca.backend import machine
from inpca.executor import get_executor
from inpca.units import format_bytes, format_seconds

CHECKPOINTS = 50


def make_ensemble(path: Path, n_models: int, n_samples: int, n_classes: int) -> inpca.Ensemble:
    """Made-up runs from ignorance towards the labels, each with its own errors."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_samples)
    ensemble = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=n_classes)
    truth = np.eye(n_classes, dtype=np.float32)[labels]
    for first in range(0, n_models, CHECKPOINTS):
        count = min(CHECKPOINTS, n_models - first)
        own = rng.normal(size=(n_samples, n_classes)).astype(np.float32)
        hardness = rng.gamma(2.0, 0.5, size=(n_samples, 1)).astype(np.float32)
        ramp = np.linspace(0, 12, count, dtype=np.float32)[:, None, None]
        logits = ramp * (truth / (0.2 + hardness)) + 0.5 * np.sqrt(ramp) * own
        run = {"train": log_softmax(logits, axis=-1)}
        ensemble.add_run(f"run-{first // CHECKPOINTS:04d}", run, kind="log_probs")
    return inpca.open_ensemble(path)


def loop_over_predictions(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Eq. 4 model by model, each point of the geodesic spelled out; `p` (m, N, C)."""
    n_classes = p.shape[-1]
    start = np.full(p.shape[1:], n_classes**-0.5)
    end = np.eye(n_classes)[labels]
    angle = np.arccos((start * end).sum(axis=-1, keepdims=True))
    out = np.empty(len(p))
    for u, model in enumerate(p):
        root = np.sqrt(model)

        def distance(t: float, root: np.ndarray = root) -> float:
            point = (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)
            return float(np.arccos(np.minimum((point * root).sum(axis=-1), 1)).mean())

        out[u] = minimize_scalar(distance, bounds=(0, 1), method="bounded").x
    return out


def loop_over_affinities(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same from two affinities per sample; `p` (m, N, C)."""
    n_classes = p.shape[-1]
    angle = np.arccos(n_classes**-0.5)
    roots = np.sqrt(p)
    to_start = roots.sum(axis=-1) * n_classes**-0.5
    to_end = np.take_along_axis(roots, labels[None, :, None], axis=-1)[..., 0]
    out = np.empty(len(p))
    for u in range(len(p)):

        def distance(t: float, u: int = u) -> float:
            overlap = np.sin((1 - t) * angle) * to_start[u] + np.sin(t * angle) * to_end[u]
            return float(np.arccos(np.minimum(overlap / np.sin(angle), 1)).mean())

        out[u] = minimize_scalar(distance, bounds=(0, 1), method="bounded").x
    return out


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The least of some times."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def read_all(ensemble: inpca.Ensemble) -> None:
    """Every prediction, nothing else, on all cores."""
    source = ensemble.predictions("train")
    models = [slice(u, u + 10) for u in range(0, source.shape[0], 10)]
    for _ in get_executor().map(lambda one: source.read(one, slice(None)).shape, models):
        pass


def measure(folder: Path, sizes: argparse.Namespace) -> dict[str, object]:
    """One record with all times and ratios."""
    ensemble = make_ensemble(folder / "b.ensemble", sizes.models, sizes.samples, sizes.classes)
    labels = ensemble.sample_sets["train"].labels
    few = slice(sizes.models // 3, sizes.models // 3 + sizes.loop)
    some = np.exp(ensemble.predictions("train").read(few, slice(None)).astype(np.float64))
    inpca.progress(some[:1], labels)  # compiles
    scale = sizes.models / len(some)
    spelled = scale * seconds(lambda: loop_over_predictions(some, labels), sizes.repeats)
    affine = scale * seconds(lambda: loop_over_affinities(some, labels), sizes.repeats)
    reading = seconds(lambda: read_all(ensemble), sizes.repeats)
    ours = seconds(lambda: inpca.progress(ensemble), sizes.repeats)
    error = np.abs(inpca.progress(ensemble)[few] - loop_over_predictions(some, labels)).max()
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{machine().processor}, {machine().cores} cores",
        "models": sizes.models,
        "samples": sizes.samples,
        "classes": sizes.classes,
        "loop_seconds": spelled,
        "loop_on_affinities_seconds": affine,
        "reading_seconds": reading,
        "progress_seconds": ours,
        "times_faster_than_loop": spelled / ours,
        "times_faster_than_loop_on_affinities": affine / ours,
        "progress_over_reading": ours / reading,
        "largest_difference": float(error),
    }


def lines(record: dict[str, object]) -> str:
    """The record for people."""
    n_bytes = 4 * record["models"] * record["samples"] * record["classes"]  # type: ignore[operator]
    about = f"{record['models']:,} models × {record['samples']:,} × {record['classes']}"
    rows = [f"{record['machine']}, {record['date']}; {about}, {format_bytes(n_bytes)} on disk"]
    for name, label in (
        ("loop_seconds", "minimize_scalar per model, scaled"),
        ("loop_on_affinities_seconds", "the same on two affinities per sample"),
        ("reading_seconds", "only reading"),
        ("progress_seconds", "inpca.progress"),
    ):
        rows.append(f"  {label:<40} {format_seconds(record[name])}")  # type: ignore[arg-type]
    for name, label, form in (
        ("times_faster_than_loop", "faster than the loop, times", ".0f"),
        ("times_faster_than_loop_on_affinities", "faster than the loop on affinities", ".1f"),
        ("progress_over_reading", "progress / reading", ".2f"),
        ("largest_difference", "largest difference of progress", ".1e"),
    ):
        rows.append(f"  {label:<40} {record[name]:{form}}")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--loop", type=int, default=5, help="models that the loops are timed on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the ensemble goes; default a new one")
    parser.add_argument("--json", action="store_true")
    sizes = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=sizes.folder) as folder:
        record = measure(Path(folder), sizes)
    print(json.dumps(record, indent=2) if sizes.json else lines(record))


if __name__ == "__main__":
    main()
