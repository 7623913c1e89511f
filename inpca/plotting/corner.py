"""One pair of coordinates, coloured in several ways side by side (as in Fig. 3 of the paper)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.errors import InputError
from inpca.plotting.figures import plot_pairs
from inpca.plotting.scene import read_scene
from inpca.plotting.style import EmbeddingLike, require
from inpca.plotting.table import colorable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What the paper's figure shows, as far as the table has it.
_COLUMNS = ("architecture", "train_loss", "train_error")
_FAR = "no point"


def plot_corner(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    colors: Sequence[str] | None = None,
    *,
    near: Mapping[str, ArrayLike] | None = None,
    within: float = 0.15,
    components: tuple[int, int] = (1, 2),
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw two coordinates once for each column, and once by nearness to chosen points.

    Parameters
    ----------
    embedding : fitted `InPCA`, or anything with its attributes
    models : table with one row per embedded model
    colors : columns; by default architecture, train loss and train error, as far as they exist
    near : name of a point → (n_models,) distances of all models from it, in nats per sample; a
        model is coloured by the nearest of the points that is closer than `within`
    within : how near that is; the paper's 0.15
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
        table = models.assign(**{_near_title(within): nearest(near, within, len(models))})
        columns.append(_near_title(within))
    if not columns:
        raise InputError(
            f"`colors` must name columns of `models`, which has none of {', '.join(_COLUMNS)}; its "
            f"columns are: {', '.join(map(str, models.columns))}."
        )
    if figure is None:
        size = (5.2 * min(2, len(columns)) + 0.6, 5.4 * -(-len(columns) // 2))
        figure = require("matplotlib.pyplot").figure(figsize=size, layout="constrained")
    rows = -(-len(columns) // 2)
    panels: Any = figure.subfigures(rows, min(2, len(columns)), squeeze=False)
    for panel, column in zip(panels.ravel(), columns):
        plot_pairs(embedding, table, column, components=components, figure=panel)
        panel.suptitle(column.replace("_", " "), fontsize=11)
    return figure


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


def _near_title(within: float) -> str:
    return f"nearer than {within:g} to"
