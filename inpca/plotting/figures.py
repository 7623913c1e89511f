"""Figures for print: pairs of coordinates, three dimensions, the spectrum (matplotlib).

Each function draws into what it is given, or makes a figure of its own, and returns it. Nothing
is saved: ``figure.savefig("pairs.png", dpi=200)``.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.plotting import style
from inpca.plotting.divergence import metric_of, with_unit
from inpca.plotting.labels import point_outside, write_names
from inpca.plotting.layers import (
    Look,
    draw_again,
    draw_curve,
    draw_models,
    draw_references,
    name_again,
    read_look,
)
from inpca.plotting.legend import explain
from inpca.plotting.scene import Scene, read_scene
from inpca.plotting.space import bar_axes, space_axes, trim
from inpca.plotting.style import EmbeddingLike, Stress, require
from inpca.plotting.table import reference_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

# A reference model that would squeeze all others below this share of an axis is left outside the
# frame, with an arrow that says where it is.
_SQUEEZE = 0.4
# Models whose spread along an axis is below this share of the widest one coincide there: what is
# left is rounding, and nothing to zoom into.
_ROUNDING = 1e-6
# Axes whose spans differ by less than this get the same scale.
_SAME_SCALE = 2.0
# Up to so many coordinates each has its tick in the spectrum.
_FEW_RANKS = 6
# An axis of fewer decades than these has too few powers of ten on it.
_DECADES = 2.0


def plot_pairs(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    color: str | None = "architecture",
    *,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    components: Sequence[int] = (1, 2, 3),
    log_color: bool | None = None,
    geodesic: ArrayLike | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw each pair of the first three coordinates side by side (as in Fig. 3A of the paper).

    Checkpoints of a run are joined by a thin line in the order of training; reference models are
    black symbols with their names; projected models are diamonds with a black edge.

    Parameters
    ----------
    embedding : fitted `InPCA`, or anything with its attributes
    models : table with one row per embedded model; see `inpca.plotting.table`
    color : column to colour by, None for one colour
    projected : (k, n_components) coordinates of held-out models
    projected_models : their table, k rows
    components : numbers of the coordinates, counted from 1; those beyond what the embedding has
        are left out when `components` is not given
    log_color : logarithmic colours; by default for positive numbers that span more than a factor
        of 50, as losses do
    geodesic : (n_points, n_components) coordinates of points on the geodesic from ignorance to
        truth (or of any other curve), drawn as a black line
    figure : figure to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If tables, coordinates and `color` do not fit each other.
    """
    scene = read_scene(embedding, models, projected, projected_models)
    look = read_look(scene, color, log_color)
    numbers = _components(tuple(components), scene.points.shape[1])
    pairs = list(combinations(numbers, 2))
    if figure is None:
        figure = require("matplotlib.pyplot").figure(**pairs_paper(len(pairs)))
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    insides = []
    for ax, pair in zip(panels, pairs):
        insides.append(draw_pair(ax, embedding, scene, pair, look, geodesic))
    explain(figure, list(panels), look)
    _root(figure).draw_without_rendering()
    for ax, pair, inside in zip(panels, pairs, insides):
        write_names(ax, scene, pair, inside)
    return figure


def draw_pair(
    ax: Any,
    embedding: EmbeddingLike,
    scene: Scene,
    pair: tuple[int, int],
    look: Look,
    geodesic: ArrayLike | None = None,
) -> NDArray[np.bool_]:
    """Draw one pair of coordinates; (n,) who is inside the frame, for `write_names`."""
    draw_models(ax, scene, pair, look)
    inside = _frame(ax, scene, pair)
    if geodesic is not None:
        limits = ax.get_xlim(), ax.get_ylim()
        draw_curve(ax, geodesic, pair)
        ax.set(xlim=limits[0], ylim=limits[1])
    draw_references(ax, scene, pair, inside)
    ax.set_xlabel(style.axis_label(embedding, pair[0], join="\n"))
    ax.set_ylabel(style.axis_label(embedding, pair[1], join="\n"))
    ax.grid(alpha=0.25)
    return inside


def plot_3d(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    color: str | None = "architecture",
    *,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    components: Sequence[int] = (1, 2, 3),
    log_color: bool | None = None,
    geodesic: ArrayLike | None = None,
    again: Mapping[str, ArrayLike] | None = None,
    view: tuple[float, float] = (22.0, -60.0),
    figure: "Figure | None" = None,
    ax: "Axes3D | None" = None,
) -> "Axes3D":
    """Draw three coordinates in one picture (as in Fig. 2A of the paper).

    `again`: name of another sample set → (n_models, n_components), the embedded models on it, drawn
    pale in the same colours (train and test in one picture, Fig. 6A of the paper): what
    `InPCA.join` returns. `view` is elevation and azimuth in degrees. `figure`, made by pyplot if
    not given, is filled and cut to the height of what is in it: save it without
    ``bbox_inches="tight"``, which would add the empty corners of a three-dimensional frame. With
    `ax`, which must have ``projection="3d"``, the picture is one part of a figure that is left as
    it is. For the other parameters and the errors see `plot_pairs`.
    """
    scene = read_scene(embedding, models, projected, projected_models, at_least=3)
    look = read_look(scene, color, log_color)
    numbers = style.check_components(tuple(components), scene.points.shape[1])
    fitted = ax is None
    if ax is None:
        ax = space_axes(figure or require("matplotlib.pyplot").figure(figsize=(8, 6)))
    shown = [scene.points]
    for name, points in (again or {}).items():
        there = read_scene(embedding, models).moved(points, name)
        draw_again(ax, there, numbers, look)
        shown.append(there.points)
    draw_models(ax, scene, numbers, look)
    if geodesic is not None:
        draw_curve(ax, geodesic, numbers)
    draw_references(ax, scene, numbers)
    name_again(ax, again or {}, 3)
    drawn = np.concatenate(shown)[:, [number - 1 for number in numbers]]
    _widen(ax, drawn, float(_span(scene.points).max()))
    for axis, number in zip((ax.xaxis, ax.yaxis, ax.zaxis), numbers):
        axis.set_label_text(style.axis_label(embedding, number, join="\n"))
        axis.labelpad = 14
        axis.set_major_formatter(_plain_numbers())
        axis.set_tick_params(pad=3)
    ax.view_init(*view)
    ax.computed_zorder = False  # reference models stay on top, whatever the view
    sides = _box(drawn)
    ax.set_box_aspect(sides, zoom=1.0)
    ticks = require("matplotlib.ticker").MaxNLocator
    most = 6 if fitted else 4
    for axis, side in zip((ax.xaxis, ax.yaxis, ax.zaxis), sides):
        # Ticks at both ends of an axis would touch those of the next one at the corner.
        numbers_on = 3 if side < 0.7 else most
        axis.set_major_locator(ticks(numbers_on, steps=[1, 2, 2.5, 5, 10], prune="both"))
    bar = bar_axes(ax) if fitted and look.norm is not None else None
    explain(ax.figure, [ax], look, bar)
    if fitted:
        trim(ax, bar)
    _root(ax.figure).draw_without_rendering()
    write_names(ax, scene, numbers)
    return ax


def plot_spectrum(
    embedding: EmbeddingLike,
    *,
    stress: Stress = "both",
    ranks: Sequence[int] = style.STRESS_RANKS,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw |eigenvalues| against their rank, with the explained stress (as in Fig. 2B).

    Time-like (negative) eigenvalues have another colour and another marker.

    Parameters
    ----------
    embedding : fitted `InPCA`, or anything with its attributes
    stress : which explained stress is written: "root", the form 1 − √(1 − Σλ²/‖W‖²) that the
        published figures were made with, "eq8", Eq. 8 as printed, or "both"
    ranks : ranks at which it is written, as far as they exist
    ax : axes to draw into, made by pyplot if not given
    """
    style.check_stress(stress)
    values = np.asarray(embedding.eigenvalues_, dtype=np.float64)
    if ax is None:
        figure = require("matplotlib.pyplot").figure(figsize=(7, 4.8), layout="constrained")
        ax = figure.add_subplot()
    rank = np.arange(1, len(values) + 1)
    some = values != 0
    ax.set(xscale="log", yscale="log")
    ax.plot(rank[some], np.abs(values[some]), color="0.75", linewidth=0.8, zorder=1)
    for time_like, name, color, marker in (
        (False, "space-like, +", style.SPACE_LIKE, "o"),
        (True, "time-like, −", style.TIME_LIKE, "D"),
    ):
        here = some & ((values < 0) == time_like)
        if here.any():
            ax.scatter(rank[here], np.abs(values[here]), c=color, marker=marker, label=name, s=34)
    if not some.all():
        ax.plot([], [], " ", label=f"zero, not drawn: {(~some).sum()} of {len(values)}")
    shown = [number for number in ranks if number <= len(values)] or [len(values)]
    _write_stress(ax, embedding, stress, shown)
    ax.set_xlabel("rank of the coordinate, by |eigenvalue|")
    ax.set_ylabel(with_unit("|eigenvalue| of W", metric_of(embedding)))
    _few_decades(ax, np.abs(values[some]))
    ax.legend(loc="lower left", frameon=False)
    return ax


def _few_decades(ax: Any, values: NDArray[np.float64]) -> None:
    """Plain numbers on a logarithmic axis that holds few powers of ten."""
    decades = np.ptp(np.log10(values)) if len(values) > 1 else 0.0
    if not 0 < decades < _DECADES:
        return
    ticker = require("matplotlib.ticker")
    # Within a decade numbers such as 2, 2.5, 3 are as good as powers.
    some = ticker.MaxNLocator(5) if decades < 1 else ticker.LogLocator(subs=(1.0, 2.0, 5.0))
    ax.yaxis.set_major_locator(some)
    ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())


def pairs_paper(n_pairs: int) -> dict[str, Any]:
    """Size and layout of a figure of pairs, as keyword arguments of matplotlib's ``figure``."""
    engine = require("matplotlib.layout_engine").ConstrainedLayoutEngine
    # Square panels move a little after the layout is made: leave room above the legend.
    return {"figsize": (4.7 * n_pairs + 0.4, 5.1), "layout": engine(compress=True, h_pad=0.1)}


def _write_stress(ax: Any, embedding: EmbeddingLike, stress: Stress, ranks: list[int]) -> None:
    """Write the explained stress above the axes, at its ranks, and say which definition it is."""
    forms = ["root", "eq8"] if stress == "both" else [stress]
    ticker = require("matplotlib.ticker")
    n_values = len(embedding.eigenvalues_)
    few = list(range(1, n_values + 1)) if n_values <= _FEW_RANKS else ranks
    ax.xaxis.set_major_locator(ticker.FixedLocator(few))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.set_xlim(0.8, max(ranks[-1], n_values) * 1.25)
    for row, form in enumerate(reversed(forms)):
        values = style.stress_of(embedding, form)
        for rank in ranks:
            text = style.brief_percent(values[rank - 1])
            looks = {"color": "black", "fontweight": "bold"} if row == len(forms) - 1 else {}
            ax.annotate(
                text,
                (rank, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 6 + 15 * row),
                textcoords="offset points",
                ha="center",
                **({"color": "0.35"} | looks),
            )
    for rank in ranks:
        ax.axvline(rank, color="0.9", linewidth=0.8, zorder=0)
    lines = [f"{style.STRESS_WORDS[form]}" for form in forms]
    where = ["bold row: ", "grey row: "] if len(forms) == 2 else [""]
    said = "\n".join(w + line for w, line in zip(where, lines))
    ax.set_title(f"Explained stress up to each rank\n{said}", fontsize=10, pad=14 + 15 * len(forms))


def _components(asked: tuple[int, ...], available: int) -> tuple[int, ...]:
    if asked == (1, 2, 3):
        asked = asked[:available]
    return style.check_components(asked, available)


def _frame(ax: Any, scene: Scene, pair: tuple[int, int]) -> NDArray[np.bool_]:
    """Set the limits, and point to the references that are left out; (n,) who is inside."""
    points = scene.points[:, [number - 1 for number in pair]]
    widest = float(_span(scene.points).max())
    inside = ~scene.named
    if not inside.any() or not _squeezed(points, inside, widest):
        inside = np.ones(len(points), dtype=bool)
    low, high = points[inside].min(axis=0), points[inside].max(axis=0)
    inside = inside | ((points >= low) & (points <= high)).all(axis=1)
    middle, half = (low + high) / 2, 0.58 * _drawn_span(high - low, widest)
    if half.max() < _SAME_SCALE * half.min():
        half = np.full(2, half.max())
    limits = np.stack([middle - half, middle + half])
    ax.set(xlim=limits[:, 0], ylim=limits[:, 1], box_aspect=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(require("matplotlib.ticker").MaxNLocator(5))
        axis.set_major_formatter(_plain_numbers())
    out = np.flatnonzero(~inside)
    point_outside(ax, points[out], [reference_name(scene.keys[row]) for row in out], limits)
    return np.asarray(inside)


def _squeezed(points: NDArray[np.float64], own: NDArray[np.bool_], widest: float) -> bool:
    """Whether references would leave to the `own` models a small part of an axis only."""
    spread = _span(points[own])
    return bool(((spread < _SQUEEZE * _span(points)) & (spread > _ROUNDING * widest)).any())


def _drawn_span(span: NDArray[np.float64], widest: float) -> NDArray[np.float64]:
    """Spans of the two axes of a panel; one in which all coincide gets the scale of the other."""
    coincide = span <= _ROUNDING * widest
    if not coincide.any():
        return span
    return np.full(2, span.max() if not coincide.all() else widest or 1.0)


def _widen(ax: Any, points: NDArray[np.float64], widest: float) -> None:
    """Limits of those of three axes along which all models coincide, as `_drawn_span` has them."""
    for values, limit in zip(points.T, (ax.set_xlim, ax.set_ylim, ax.set_zlim)):
        if np.ptp(values) <= _ROUNDING * widest:
            limit(values.mean() - 0.3 * (widest or 1.0), values.mean() + 0.3 * (widest or 1.0))


def _plain_numbers() -> Any:
    """Numbers on the ticks as they are: no offset and no factor to add in the head."""
    formatter = require("matplotlib.ticker").ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter


def _root(figure: Any) -> Any:
    return figure.get_figure(root=True)


def _span(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.ptp(points, axis=0))


def _box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sides of the 3-D box: equal scales, as long as no side is below 45 % of the longest."""
    sides = _span(points)
    return np.maximum(sides / max(float(sides.max()), 1e-300), 0.45)
