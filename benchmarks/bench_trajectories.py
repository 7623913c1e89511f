"""How fast all trajectory distances are, beside `pairwise_distances` on as many pairs.

    python benchmarks/bench_trajectories.py [--runs 64] [--points 50] [--checkpoints 20]
        [--samples 10000] [--classes 10] [--repetitions 5] [--cpu]

The runs lie in an ensemble on disk, and so do the models that `pairwise_distances` takes, as many
as give the same number of pairs, some 449. Trajectories read runs · checkpoints models and
interpolate runs · points for them, so the ratio falls with the number of checkpoints. Progress is
known beforehand, and told by itself. Every repetition measures everything once; figures are
medians, ratios medians of ratios within one repetition. `--cpu`: one thread's processor time
instead of wall time.
"""

import argparse
import datetime
import statistics
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

import inpca
from inpca.backend import machine


def make(path: Path, n_runs: int, shape: tuple[int, int, int]) -> inpca.Ensemble:
    """An ensemble of made-up runs from ignorance to the labels."""
    n_checkpoints, n_samples, n_classes = shape
    labels = np.arange(n_samples) % n_classes
    ensemble = inpca.create_ensemble(
        path, sample_sets={"train": labels}, n_classes=n_classes, exist_ok=True
    )
    truth = np.eye(n_classes, dtype=np.float32)[labels]
    s = np.linspace(0, 1, n_checkpoints, dtype=np.float32)[:, None, None]
    for run in range(n_runs):
        noise = np.random.default_rng(run).standard_normal((n_samples, n_classes), np.float32)
        ensemble.add_run(f"run-{run:04}", {"train": 8 * s * truth + s * noise}, kind="logits")
    return inpca.open_ensemble(path)


def main() -> None:
    arguments = parse()
    now = time.process_time if arguments.cpu else time.perf_counter
    executor = "serial" if arguments.cpu else None
    n_runs, n_points = arguments.runs, arguments.points
    n_pairs = n_runs * (n_runs - 1) // 2 * n_points
    n_models = round((1 + (1 + 8 * n_pairs) ** 0.5) / 2)
    shape = (arguments.checkpoints, arguments.samples, arguments.classes)
    clock = "processor" if arguments.cpu else "wall"
    print(f"{machine().processor}, {datetime.date.today()}, {clock} time")
    with tempfile.TemporaryDirectory() as folder:
        ensemble = make(Path(folder, "e.ensemble"), n_runs, shape)
        flat = ensemble.select(list(np.resize(ensemble.models.index, n_models)))
        index = np.split(inpca.progress(ensemble), n_runs)
        seconds: dict[str, list[float]] = defaultdict(list)
        whole = partial(
            inpca.trajectory_distances, ensemble, n_points, index=index, executor=executor
        )
        jobs = {
            "pairwise": partial(inpca.pairwise_distances, flat, executor=executor),
            "trajectories": whole,
            "progress of all checkpoints": partial(inpca.progress, ensemble, executor=executor),
        }
        for job in jobs.values():
            job()
        for _ in range(arguments.repetitions):
            for name, job in jobs.items():
                start = now()
                job()
                seconds[name].append(now() - start)
    print(f"{n_pairs:,} pairs: {n_runs} runs × {n_points} values of s; {n_models} models")
    for name, times in seconds.items():
        print(f"{name:<38} {statistics.median(times):8.3f} s")
    ratios = [a / b for a, b in zip(seconds["pairwise"], seconds["trajectories"])]
    print(f"speed of trajectories / pairwise       {statistics.median(ratios):8.2f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=64)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
