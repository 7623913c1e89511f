"""The figures of the example, each after one of Ciceri et al. (2024)."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from collectors.zoo.inversion_dynamics import Dynamics
from inpca.plotting import inversion as plots

# File → figures of the paper, in the order of the paper.
FIGURES = {
    "before_after.png": "Fig. 1a",
    "dynamics.png": "Fig. 1b, 1e; the middle panel is drawn as 1c and 1d",
    "pruning.png": "Fig. 2a",
    "levels.png": "Fig. 2b, 2c, 2d, 3b",
    "architectures.png": "Fig. 3e",
}


def draw(path: Path, n_panels: int, panels: Callable[[list], None]) -> None:
    columns = min(n_panels, 2 if n_panels == 4 else 3)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(5.2 * columns, 4 * rows), layout="constrained")
    panels(list(figure.subplots(rows, columns, squeeze=False).ravel()))
    figure.savefig(path, dpi=150)


def draw_before_after(axes: list, whole: Dynamics) -> None:
    before, after = ({name: values[:, at] for name, values in whole.observables.items()}
                     for at in (0, -1))  # fmt: skip
    plots.plot_before_after(before, after, axes=axes)
    for ax, title in zip(axes, ("radii", "distance of the centres")):
        ax.set_title(title)


def draw_dynamics(axes: list, whole: Dynamics, shuffled: Dynamics) -> None:
    epochs = [one.epoch for run in whole.inversions() for one in run.points.values()]
    phi = [run.phi for run in whole.inversions()]
    curves = whole.observables
    plots.plot_epochs(whole.epochs, curves, inversion=(min(epochs), max(epochs)), ax=axes[0])
    plots.plot_against_error(whole.train_error, curves, phi=(min(phi), max(phi)), ax=axes[1])
    plots.plot_epochs(shuffled.epochs, shuffled.observables, ax=axes[2])
    for ax, title in zip(axes, ("dynamics", "against the training error", "random labels")):
        ax.set_title(title)


def draw_pruning(
    axes: list, whole: Dynamics, pruned: dict[str, Dynamics], others: dict[str, Dynamics]
) -> None:
    """`pruned` in colour, every run of the first of them; `others` in grey."""
    kinds = {"all samples": whole, **pruned, **others}
    for ax, name in zip(axes, ("radius_plus", "centre_distance")):
        curves = {kind: dynamics.observables[name] for kind, dynamics in kinds.items()}
        each = (next(iter(pruned)), *others)
        plots.plot_epochs(whole.epochs, curves, each=each, grey=list(others), ax=ax)
        ax.set_ylabel(plots.NAMES[name])
        ax.set_title("radius" if name == "radius_plus" else "distance of the centres")
