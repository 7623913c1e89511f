"""One pair of coordinates, coloured in several ways side by side (as in Fig. 3 of the paper)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.errors import InputError
from inpca.plotting.figures import draw_pair
from inpca.plotting.labels import write_names
from inpca.plotting.layers import read_look
from inpca.plotting.legend import explain
from inpca.plotting.scene import read_scene
from inpca.plotting.style import EmbeddingLike, as_text, check_components, require
from inpca.plotting.table import colorable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What the paper's figure shows, as far as the table has it.
_COLUMNS = ("architecture", "train_loss", "train_error")
_FAR = "no point"
# Inches of a part of the figure: its width, the side of its axes, what is left of and above them,
# what the words below them need before the legend, and where the colour bar is.
_WIDTH, _SIDE, _LEFT, _ABOVE, _BELOW = 5.6, 3.5, 0.9, 0.4, 0.75
_BAR, _BAR_WIDTH = 0.12, 0.14


def plot_corner(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    colors: Sequence[str] | None = None,
    *,
    near: Mapping[str, ArrayLike] | None = None,
    within: float = 0.15,
    unit: str = "",
    components: tuple[int, int] = (1, 2),
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw two coordinates once for each column, and once by nearness to chosen points.

    Parameters
    ----------
    embedding : fitted `InPCA`, or anything with its attributes
    models : table with one row per embedded model
    colors : columns; by default architecture, train loss and train error, as far as they exist
    near : name of a point → (n_models,) distances of all models from it; a model is coloured by
        the nearest of the points that is closer than `within`
    within : how near that is; the paper's 0.15 is of Bhattacharyya distances
    unit : of these distances, written behind `within`
    components : the two coordinates, counted from 1
    figure : figure to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If tables, columns and distances do not fit each other, or nothing is left to colour by.
    """
    scene = read_scene(embedding, models)
    columns = list(_COLUMNS if colors is None else colors)
    if colors is None:
        columns = [name for name in columns if name in colorable(scene.table)]
    table = models
    if near:
        title = _near_title(within, unit)
        table = models.assign(**{title: nearest(near, within, len(models))})
        columns.append(title)
    if not columns:
        raise InputError(
            f"`colors` must name columns of `models`, which has none of {', '.join(_COLUMNS)}; its "
            f"columns are: {', '.join(map(str, models.columns))}."
        )
    check_components(components, scene.points.shape[1])
    across, down = min(2, len(columns)), -(-len(columns) // 2)
    if figure is None:
        figure = require("matplotlib.pyplot").figure(
            figsize=(_WIDTH * across, (_ABOVE + _SIDE + _BELOW) * down)
        )
        fitted = True
    else:
        fitted = False
    # Layouts would make each part as large as its own words allow: the axes are to line up.
    figure.set_layout_engine("none")
    panels: Any = figure.subfigures(down, across, squeeze=False)
    drawn = []
    for panel, column in zip(panels.ravel(), columns):
        own = read_scene(embedding, table)
        look = read_look(own, column, None)
        ax = panel.add_axes((0, 0, 1, 1))
        bar = None if look.norm is None else panel.add_axes((0, 0, 1, 1), label="<colorbar>")
        inside = draw_pair(ax, embedding, own, components, look)
        ax.set_title(as_text(column.replace("_", " ")), fontsize=11)
        explain(panel, [ax], look, bar)
        drawn.append((panel, own, ax, bar, inside))
    _line_up(figure, [(panel, ax, bar) for panel, _, ax, bar, _ in drawn], down, fitted)
    figure.draw_without_rendering()
    for _, own, ax, _, inside in drawn:
        write_names(ax, own, components, inside)
    return figure


def _line_up(figure: Any, parts: list[Any], down: int, fitted: bool) -> None:
    """Give the axes of all parts the same place, above the highest of the legends."""
    figure.draw_without_rendering()
    dpi = figure.dpi
    below = _BELOW + max(
        (one.get_window_extent().height / dpi for panel, *_ in parts for one in panel.legends),
        default=0.0,
    )
    if fitted:
        figure.set_figheight((_ABOVE + _SIDE + below) * down)
    for panel, ax, bar in parts:
        width, height = panel.bbox.width / dpi, panel.bbox.height / dpi
        side = max(0.5, min(_SIDE, height - _ABOVE - below, width - _LEFT - 1.0))
        ax.set_position((_LEFT / width, below / height, side / width, side / height))
        for legend in panel.legends:
            legend.set_loc("upper center")
            top = ((_LEFT + side / 2) / width, (below - _BELOW + 0.1) / height)
            legend.set_bbox_to_anchor(top, transform=panel.transSubfigure)
        if bar is not None:
            left = (_LEFT + side + _BAR) / width
            bar.set_position((left, below / height, _BAR_WIDTH / width, side / height))


def nearest(near: Mapping[str, ArrayLike], within: float, n_models: int) -> list[str]:
    """Name of the nearest point closer than `within` for each model, "no point" where none is."""
    names = list(near)
    distances = np.stack([np.asarray(near[name], dtype=np.float64) for name in names])
    if distances.shape != (len(names), n_models):
        raise InputError(
            f"`near` must hold one distance for each of the {n_models:,} models, not shape "
            f"{distances.shape[1:]}."
        )
    closest = distances.argmin(axis=0)
    inside = distances.min(axis=0) < within
    return [names[k] if ok else _FAR for k, ok in zip(closest, inside)]


def _near_title(within: float, unit: str) -> str:
    return f"nearer than {within:g} {unit} to".replace("  ", " ")
