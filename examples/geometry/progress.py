"""How far has each network come on its way from ignorance to truth?

python examples/geometry/progress.py

Progress (Eq. 4 of Mao et al. 2024) is the place of the nearest point on the geodesic between the
two. It is a clock that all trainings share, whatever their batch size or learning rate.
"""

import numpy as np
from digits_ensemble import from_command_line

import inpca


def main() -> None:
    ensemble = from_command_line(__doc__)

    # One pass over the predictions gives the progress of every model, error and loss beside it.
    table = inpca.progress_table(ensemble, sample_set="train")
    last = table.groupby("run").tail(1)
    print(last[["run", "epoch", "progress", "error", "loss"]].to_string(index=False))

    # Progress tells the error well, but not exactly: a confident network can be wrong.
    for name in ("train", "test"):
        table = inpca.progress_table(ensemble, sample_set=name)
        r2 = inpca.r_squared(table["progress"], table["error"])
        print(f"{name}: R² of progress against error {r2:.3f}, {len(table)} models")

    # On the geodesic itself progress is the parameter, whatever the labels.
    labels = ensemble.sample_sets["train"].labels
    truth = np.eye(ensemble.n_classes)[labels]
    ignorance = np.full_like(truth, 1 / ensemble.n_classes)
    points = inpca.geodesic(ignorance, truth, [0.1, 0.5, 0.9])
    print("on the geodesic:", inpca.progress(points, labels).round(6))

    # Against other ends: how far between its own first and last checkpoint is each model?
    own_way = inpca.progress(ensemble, start="first", end="last")
    first_run = ensemble.models["run"] == ensemble.runs[0]
    print(f"{ensemble.runs[0]} on its own way:", own_way[first_run].round(2))

    # Some samples are learnt early, others late: progress of each by itself.
    late = inpca.sample_progress(ensemble)[-1]
    order = np.argsort(late)
    print("furthest behind at the end:", order[:5], late[order[:5]].round(3))


if __name__ == "__main__":
    main()
