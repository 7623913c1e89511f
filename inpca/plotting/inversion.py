"""Pictures of the inversion dynamics, as Figs. 1 to 3 of Ciceri et al. (2024) have them.

Each function draws into the axes it is given, or makes some, and returns them.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.durable import replacing
from inpca.errors import InputError
from inpca.geometry.finite_size import FractionLimit
from inpca.geometry.inversion import over_classes
from inpca.geometry.inversion_runs import DEFAULT_BY, RunInversion, group_runs
from inpca.plotting import panels
from inpca.plotting.style import COLORS, as_text, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

NAMES = {
    "radius_plus": "$R_+$",
    "radius_minus": "$R_-$",
    "centre_distance": "$D$",
    "radius": "median radius",
    "centre_distances": "median centre distance",
    "train_error": "training error",
    "test_error": "test error",
}
_MAX_ROWS = 6
_GREY, _GREY_STYLES = "0.45", ("--", ":", "-.")


def plot_epochs(
    epochs: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    inversion: tuple[float, float] | None = None,
    each: bool | Collection[str] = False,
    grey: Collection[str] = (),
    ax: "Axes | None" = None,
) -> "Axes":
    """Observables, or errors, against the epoch on a logarithmic axis (Fig. 1b, e, 2a, 3d).

    Parameters
    ----------
    epochs : (n_checkpoints,); epoch 0 is drawn at 0, left of a linear stretch to the first
    curves : name → (n_runs, n_checkpoints), or (n_checkpoints,); the mean is a line, two standard
        deviations a band
    inversion : first and last inversion epoch, shaded
    each : draw every run as a thin line instead of mean and band; of all curves, or of those named
    grey : names of curves that are there for comparison, drawn in grey behind the others
    ax : axes to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        For a curve of another length, and for a name in `each` or `grey` that is no curve.
    """
    times = np.asarray(epochs, dtype=np.float64)
    thin = curves if each is True else each or ()
    for argument, names in (("each", thin), ("grey", grey)):
        unknown = sorted(set(names) - set(curves))
        if unknown:
            raise InputError(
                f"`{argument}` must name some of `curves`, {', '.join(curves)}, not {unknown[0]!r}."
            )
    ax = _axes(ax)
    coloured = [name for name in curves if name not in grey]
    for name, values in curves.items():
        runs = _runs(values, len(times), name)
        if name in grey:  # lines are at 2
            style = _GREY_STYLES[list(grey).index(name) % 3]
            looks = {"color": _GREY, "linestyle": style, "zorder": 1.5}
        else:
            looks = panels.looks(coloured.index(name))
        panels.draw_runs(ax, times, runs, NAMES.get(name, as_text(name)), looks, name in thin)
    panels.log_epochs(ax, times)
    if inversion is not None:
        panels.shade(ax, *inversion)
    panels.finish(ax)
    return ax


def plot_against_error(
    train_error: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    phi: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Observables against the training error, every run a line (Fig. 1c, d, 3a, c).

    Training goes from the right to the left.

    Parameters
    ----------
    train_error : (n_runs, n_checkpoints), or (n_checkpoints,)
    curves : name → of the same shape
    phi : smallest and largest training error at the inversion, shaded
    ax : axes to draw into, made by pyplot if not given
    """
    error = np.atleast_2d(np.asarray(train_error, dtype=np.float64))
    ax = _axes(ax)
    for number, (name, values) in enumerate(curves.items()):
        runs = _runs(values, error.shape[1], name)
        if runs.shape != error.shape:
            raise InputError(
                f"`curves[{name!r}]` must have the shape of `train_error`, {error.shape}, not "
                f"{runs.shape}."
            )
        for position, (x, y) in enumerate(zip(error, runs)):
            label = NAMES.get(name, as_text(name)) if position == 0 else None
            ax.plot(x, y, label=label, alpha=max(0.25, 1 / len(runs)), **panels.looks(number))
    if phi is not None:
        panels.shade(ax, *phi)
    ax.set_xlabel(r"training error $\epsilon_{tr}$")
    panels.finish(ax)
    return ax


def plot_before_after(
    before: Mapping[str, ArrayLike],
    after: Mapping[str, ArrayLike],
    *,
    axes: "Sequence[Axes] | None" = None,
) -> "list[Axes]":
    """The two radii, and the distances, of many runs before and after training (Fig. 1a).

    Parameters
    ----------
    before, after : radius_plus, radius_minus, centre_distance → (n_runs,)
    axes : two axes to draw into, for the radii and for the distance; made if not given
    """
    if axes is None:
        figure = require("matplotlib.pyplot").figure(figsize=(5, 7), layout="constrained")
        axes = list(figure.subplots(2, 1))
    radii, distances = axes
    both = [np.asarray(values["centre_distance"]) for values in (before, after)]
    bins = np.histogram_bin_edges(np.concatenate(both), 30).tolist()
    for number, (name, values) in enumerate({"before": before, "after": after}.items()):
        looks: dict[str, Any] = {"color": COLORS[number], "alpha": 0.7}
        plus, minus = (np.asarray(values[f"radius_{sign}"]) for sign in ("plus", "minus"))
        radii.scatter(plus, minus, s=18, label=f"{name} training", marker="os"[number], **looks)
        hatch = ("", "//")[number]
        distances.hist(both[number], bins, label=f"{name} training", hatch=hatch, **looks)
    radii.set(xlabel="$R_+$", ylabel="$R_-$")
    distances.set(xlabel="$D$", ylabel="runs")
    distances.yaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True))
    for one in axes:
        panels.finish(one)
    return list(axes)


def plot_levels(
    levels: ArrayLike,
    curves: Mapping[str, ArrayLike],
    *,
    phi: tuple[float, float] | None = None,
    ylabel: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """What is measured after training without S(t(ε_tr)), against ε_tr (Fig. 2b, c, d).

    Parameters
    ----------
    levels : training errors ε_tr that chose what was left out, (n_levels,)
    curves : name → (n_runs, n_levels), or (n_levels,), such as the observables at the end, test
        errors under noise, or a z-score; the mean is a line with points, two standard deviations
        a band
    phi : smallest and largest training error at the inversion, shaded
    ax : axes to draw into, made by pyplot if not given
    """
    x = np.asarray(levels, dtype=np.float64)
    ax = _axes(ax)
    for number, (name, values) in enumerate(curves.items()):
        runs = _runs(values, len(x), name)
        looks = panels.looks(number)
        marker = "osDv^"[number % 5]
        ax.plot(
            x, runs.mean(axis=0), marker=marker, ms=4, label=NAMES.get(name, as_text(name)), **looks
        )
        panels.band(ax, x, runs, looks["color"])
    if phi is not None:
        panels.shade(ax, *phi)
    ax.set_xlabel(r"$\epsilon_{tr}$ at which the samples left out were misclassified")
    ax.set_ylabel(ylabel)
    panels.finish(ax)
    return ax


def plot_fraction_limit(
    sizes: ArrayLike,
    fractions: Mapping[str, ArrayLike],
    limits: Mapping[str, FractionLimit] | None = None,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Fraction of stragglers against the size of the training set, with its fit (Fig. 3b).

    Parameters
    ----------
    sizes : P, (n_sizes,)
    fractions : data set → φ, (n_runs, n_sizes) or (n_sizes,); bars are two standard deviations
    limits : data set → its fit by `inpca.inversion.fraction_limit`, drawn dashed with its limit
    ax : axes to draw into, made by pyplot if not given
    """
    x = np.asarray(sizes, dtype=np.float64)
    ax = _axes(ax)
    ax.set_xscale("log")
    for number, (name, values) in enumerate(fractions.items()):
        runs = _runs(values, len(x), name)
        color = COLORS[number % len(COLORS)]
        spread = 2 * runs.std(axis=0)
        marker = "osDv^"[number % 5]
        ax.errorbar(
            x, runs.mean(axis=0), spread, fmt=marker, color=color, capsize=3, label=as_text(name)
        )
        limit = (limits or {}).get(name)
        if limit is not None:
            dense = np.geomspace(x.min(), 4 * x.max(), 200)
            said = rf"$\phi_\infty$ = {limit.phi:.3f} ± {limit.phi_error:.3f}"
            ax.plot(dense, limit.at(dense), "--", color=color, label=said)
            ax.axhline(limit.phi, color=color, lw=0.6, alpha=0.6)
    ax.set_xticks(x, [f"{size:g}" for size in x], rotation=45)
    ax.set_xticks([], minor=True)
    ax.set(xlabel="size of the training set $P$", ylabel=r"fraction of stragglers $\phi$")
    panels.finish(ax, below=False)
    return ax


def plot_fractions(
    parameters: ArrayLike,
    fractions: ArrayLike,
    errors: ArrayLike,
    names: Sequence[str],
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Fraction of stragglers of architectures against their number of weights (Fig. 3e).

    Parameters
    ----------
    parameters, fractions, errors : of each architecture, (n,); bars are two errors
    names : what its colour stands for, such as the depth, (n,); a faint line joins those that
        share it, in the order given
    """
    ax = _axes(ax)
    x, y, bars = (
        np.asarray(values, dtype=np.float64) for values in (parameters, fractions, errors)
    )
    for number, name in enumerate(dict.fromkeys(names)):
        rows = np.array([one == name for one in names])
        ax.plot(x[rows], y[rows], lw=0.8, alpha=0.5, color=COLORS[number % len(COLORS)])
        ax.errorbar(
            x[rows],
            y[rows],
            2 * bars[rows],
            fmt="osDv^"[number % 5],
            color=COLORS[number % len(COLORS)],
            capsize=3,
            label=as_text(name),
        )
    ax.set_xscale("log")
    ax.set(xlabel="weights", ylabel=r"fraction of stragglers $\phi$")
    panels.finish(ax)
    return ax


def plot_dynamics(
    runs: Sequence[RunInversion], *, by: str | None = None, figure: "Figure | None" = None
) -> "Figure":
    """Observables and training error of all runs of an ensemble (Figs. 1b and 3a).

    Two panels, or a row of two for each value of the setting `by`, with the same axes.

    Parameters
    ----------
    runs : of `inpca.geometry.inversion_runs.invert_runs`; those without observables are left out
    by : key of the configuration, see `inpca.geometry.inversion_runs.group_runs`
    figure : figure to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If no run has observables, or `by`; if `by` has more than 6 values.
    """
    groups = _shown_groups(runs, by)
    if figure is None:
        figure = require("matplotlib.pyplot").figure(**_page(groups))
    axes = figure.subplots(len(groups), 2, squeeze=False, sharex="col", sharey=True)
    for (name, group), (left, right) in zip(groups.items(), axes):
        _draw_group(group, left, right)
        if len(groups) > 1:
            left.set_title(as_text(f"{by or DEFAULT_BY}: {name}"), loc="left")
    times = np.concatenate([one.epochs for group in groups.values() for one in group])
    for left, right in axes:
        panels.log_epochs(left, times)
        for ax in (left, right):
            ax.tick_params(labelbottom=True, labelleft=True)  # each row is read by itself
            panels.finish(ax)
    return figure


def save_dynamics(
    runs: Sequence[RunInversion],
    path: str | os.PathLike[str],
    dpi: int = 200,
    *,
    by: str | None = None,
) -> Path:
    """Draw `plot_dynamics` into the file `path`, of the kind that its ending says."""
    target = Path(path)
    kinds = require("matplotlib.backend_bases").FigureCanvasBase.get_supported_filetypes()
    if target.suffix.lstrip(".").lower() not in kinds:
        raise InputError(
            f"`path` must end in one of {', '.join(sorted(kinds))}, not {target.suffix!r}."
        )
    if not target.parent.is_dir():
        raise InputError(f"`path` is in a folder that does not exist: {target.parent}.")
    figure = require("matplotlib.figure").Figure(**_page(_shown_groups(runs, by)))
    with replacing(target) as partial:
        plot_dynamics(runs, by=by, figure=figure).savefig(partial, dpi=dpi)
    return target


def _shown_groups(runs: Sequence[RunInversion], by: str | None) -> dict[str, list[RunInversion]]:
    shown = [one for one in runs if one.inversion is not None]
    if not shown:
        raise InputError("`runs` must have at least one with observables of a hidden layer.")
    groups = group_runs(shown, by)
    if len(groups) > _MAX_ROWS:
        raise InputError(
            f"`by` must be a setting of at most {_MAX_ROWS} values, a row of panels each, and "
            f"{by or DEFAULT_BY!r} has {len(groups)}; draw another, or choose some of the runs."
        )
    return groups


def _page(groups: Collection[str]) -> dict[str, Any]:
    return {"figsize": (10, 4.2 * len(groups)), "layout": "constrained"}


def _draw_group(group: Sequence[RunInversion], left: Any, right: Any) -> None:
    for one in group:
        for number, (name, values) in enumerate(_scalars(one).items()):
            looks = {**panels.looks(number), "alpha": max(0.25, 1 / len(group))}
            label = NAMES.get(name, as_text(name)) if one is group[0] else None
            left.plot(one.epochs, values, label=label, **looks)
            right.plot(one.train_error, values, label=label, **looks)
    right.set_xlabel(_error_label(group))
    turned = [one.inversion for one in group if one.inversion is not None and one.inversion.found]
    if turned:
        epochs = [point.epoch for each in turned for point in each.points.values()]
        panels.shade(left, min(epochs), max(epochs))
        phi = [each.phi for each in turned]
        panels.shade(right, min(phi), max(phi))


def _error_label(runs: Sequence[RunInversion]) -> str:
    """Pruned runs have the error on samples that they were not trained on in theirs."""
    pruned = any(one.pruned for one in runs)
    return "error on all samples recorded" if pruned else r"training error $\epsilon_{tr}$"


def _scalars(one: RunInversion) -> dict[str, Floats]:
    """Curves of a run; of more than two classes the medians over classes and pairs."""
    return {name: over_classes(values) for name, values in one.observables.items()}


def _axes(ax: "Axes | None") -> Any:
    if ax is not None:
        return ax
    figure = require("matplotlib.pyplot").figure(figsize=(5.5, 4.2), layout="constrained")
    return figure.add_subplot()


def _runs(values: ArrayLike, length: int, name: str) -> Floats:
    runs = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if runs.ndim != 2 or runs.shape[1] != length:
        raise InputError(
            f"`{name}` must have shape (n_runs, {length}) or ({length},), not {np.shape(values)}."
        )
    return runs
