"""Why are manifolds low-dimensional: the data, or where training begins? (First paper, Discussion.)

Students learn what a random teacher says of "sloppy" and of isotropic Gaussian inputs. They start
near ignorance, or from 1, 2, 5 or 10 common initial points far away from it. For each start, this
embeds as many trajectories and prints how much of the stress ten dimensions explain, by both of its
definitions, beside what the paper reports.

python examples/synthetic_manifold.py                      # all of it: hours on two cores
python examples/synthetic_manifold.py --reduced            # the same shape, in about ten minutes
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from collectors.zoo.pool import run_sweep
from collectors.zoo.sweep import Sweep, find_sweep, load_sweep
from inpca import InPCA, open_ensemble, pairwise_distances

N_DIMS = 10
# Explained stress in ten dimensions, near ignorance and from ten points.
PAPER = {0: "87 %", 10: "85 %"}


@dataclass(frozen=True)
class Reduction:
    """How much of the experiment is done.

    Attributes
    ----------
    points : numbers of initial points; each divides the largest, which is also the number of runs
        of each student and optimizer from every start
    epochs, n_train, n_test : of each training
    architectures : the students
    """

    points: tuple[int, ...] = (1, 2, 5, 10)
    epochs: int = 200
    n_train: int = 5_000
    n_test: int = 1_000
    architectures: tuple[str, ...] = ("student-512", "student-512-512")

    @property
    def n_runs(self) -> int:
        return max(self.points)


FULL = Reduction()
REDUCED = Reduction(points=(1, 2, 4), epochs=60, n_train=2_000)


def starts_from(points: int, n_runs: int) -> set[tuple[str, int]]:
    """(init, seed) of the `n_runs` trainings that start from so many points; 0: near ignorance."""
    if points == 0:
        return {("default", seed) for seed in range(n_runs)}
    seeds = range(n_runs // points)
    return {(f"point-{point}", seed) for point in range(points) for seed in seeds}


def reduced(sweep: Sweep, how: Reduction) -> Sweep:
    """Those trainings of the shipped sweep that are wanted, as long as they are wanted."""
    wanted = set().union(*(starts_from(points, how.n_runs) for points in (0, *how.points)))
    trainings = tuple(
        replace(training, epochs=how.epochs)
        for training in sweep.trainings
        if (training.init, training.seed) in wanted and training.architecture in how.architectures
    )
    data = replace(sweep.data, n_train=how.n_train, n_test=how.n_test)
    return replace(sweep, data=data, trainings=trainings)


def explained(ensemble: Path, runs: Iterable[str], sample_set: str) -> tuple[float, float]:
    """Explained stress of ten dimensions, Eq. 8 and its root form, of all models of `runs`."""
    view = open_ensemble(ensemble).select(f"run in {list(runs)!r}")
    distances = pairwise_distances(view, sample_set=sample_set, progress=True)
    embedding = InPCA(n_components=N_DIMS, metric="precomputed", progress=True).fit(distances)
    last = N_DIMS - 1
    return embedding.explained_stress_[last], embedding.explained_stress_root_[last]


def measure(spectrum: str, output: Path, how: Reduction, workers: int | None) -> list[dict]:
    """Train what is missing, then one row for each start and sample set."""
    sweep = reduced(load_sweep(find_sweep(f"synthetic-{spectrum}")), how)
    ensemble = output / f"{spectrum}.ensemble"
    result = run_sweep(sweep, ensemble, workers=workers, progress=True)
    for run, reason in result.failed.items():
        print(f"left out: {run}: {reason}")
    rows = []
    for points in (0, *how.points):
        wanted = starts_from(points, how.n_runs)
        runs = [
            training.run
            for training in sweep.trainings
            if (training.init, training.seed) in wanted and training.run not in result.failed
        ]
        for sample_set in ("train", "test"):
            eq_8, root = explained(ensemble, runs, sample_set)
            rows.append(
                {
                    "inputs": spectrum,
                    "points": points,
                    "set": sample_set,
                    "runs": len(runs),
                    "eq_8": float(eq_8),
                    "root": float(root),
                }
            )
    return rows


def table(rows: list[dict]) -> list[str]:
    """The lines to print."""
    lines = [
        f"explained stress in {N_DIMS} dimensions",
        f"{'inputs':<11}{'start':<16}{'set':<7}{'runs':>5}{'Eq. 8':>9}{'root':>9}{'paper':>8}",
    ]
    for row in rows:
        points = row["points"]
        start = f"{points} point{'s' * (points != 1)}" if points else "ignorance"
        lines.append(
            f"{row['inputs']:<11}{start:<16}{row['set']:<7}{row['runs']:>5}"
            f"{100 * row['eq_8']:>7.1f} %{100 * row['root']:>7.1f} %{PAPER.get(points, ''):>8}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("synthetic-output"))
    parser.add_argument("--inputs", nargs="+", default=["sloppy", "isotropic"])
    parser.add_argument("--workers", type=int, default=None, help="one for each core by default")
    parser.add_argument("--reduced", action="store_true", help="fewer, shorter trainings")
    parser.add_argument("--points", type=int, nargs="+", help="numbers of initial points")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--n-train", type=int)
    parser.add_argument("--n-test", type=int)
    parser.add_argument("--architectures", nargs="+")
    args = parser.parse_args()

    given = {name: getattr(args, name) for name in vars(FULL) if getattr(args, name) is not None}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    how = replace(REDUCED if args.reduced else FULL, **given)
    args.output.mkdir(parents=True, exist_ok=True)
    rows = [
        row for spectrum in args.inputs for row in measure(spectrum, args.output, how, args.workers)
    ]
    (args.output / "explained_stress.json").write_text(json.dumps(rows, indent=2))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
