"""The ensemble that the examples of this folder share: networks that learn to read digits.

Twelve networks of scikit-learn (four widths, three seeds) on its own 8 × 8 digits, recorded at
about 15 points of their training. It is made once, in half a minute, and found again.
"""

import argparse
from pathlib import Path

from sklearn.neural_network import MLPClassifier

import inpca
from collectors.schedule import every
from collectors.sklearn import record_partial_fit
from collectors.zoo.data import digits

WIDTHS = {"tiny": (4,), "small": (16,), "large": (128,), "deep": (64, 64)}


def digits_ensemble(path: str | Path, seeds: int = 3, epochs: int = 15) -> inpca.Ensemble:
    """The trainings of the ensemble at `path`; whatever it lacks is trained first."""
    sets = {name: (split.x.reshape(-1, 64), split.y) for name, split in digits().items()}
    labels = {name: y for name, (_, y) in sets.items()}
    there = inpca.create_ensemble(path, sample_sets=labels, n_classes=10, exist_ok=True).runs
    for architecture, hidden in WIDTHS.items():
        for seed in range(seeds):
            run = f"{architecture}-{seed}"
            if run not in there:
                record_partial_fit(
                    MLPClassifier(hidden, learning_rate_init=2e-3, random_state=seed),
                    path,
                    run,
                    sets,
                    config={"architecture": architecture, "seed": seed},
                    epochs=epochs,
                    schedule=every(20),  # about once an epoch
                    random_state=seed,
                )
    # Averages that were stored later are reference models: no trainings.
    return inpca.open_ensemble(path).select("kind != 'reference'")


def distances_of(ensemble: inpca.Ensemble, sample_set: str = "train") -> inpca.TiledMatrix:
    """Distances between all models, ignorance and truth among them: computed once."""
    out = ensemble.distances_path(sample_set)
    return inpca.pairwise_distances(ensemble.with_references(), sample_set=sample_set, out=out)


def from_command_line(text: str | None) -> inpca.Ensemble:
    """The ensemble that an example is told to use."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ensemble", default="digits.ensemble", help="made if it is not there")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    return digits_ensemble(arguments.ensemble, arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    made = from_command_line(__doc__)
    print(f"{len(made.runs)} runs, {len(made.models)} models in {made.path}")
