"""Two sets of coordinates side by side: few points and all of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.errors import InputError
from inpca.plotting.figures import plot_3d
from inpca.plotting.style import EmbeddingLike, Placed, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Where the axes stand in their half of the figure, and how much of it the box fills.
_INSIDE, _ZOOM = (-0.02, 0.14, 0.98, 0.82), 0.88


def plot_beside(
    embedding: EmbeddingLike,
    pictures: Mapping[str, tuple[ArrayLike, pd.DataFrame]],
    color: str | None = "architecture",
    *,
    components: Sequence[int] | Mapping[str, Sequence[int]] = (1, 2, 3),
    geodesics: Mapping[str, ArrayLike] | None = None,
    embeddings: Mapping[str, EmbeddingLike] | None = None,
    view: tuple[float, float] = (22.0, -60.0),
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw several sets of models in one embedding's coordinates, side by side, at one scale.

    For models that were projected into the embedding of four points beside the embedding of all
    (Fig. 11 of the paper), aligned by `inpca.align`. For train and test in one picture (Fig. 6A)
    see ``again`` of `plot_3d`.

    Parameters
    ----------
    embedding : whose coordinates they are
    pictures : title → (coordinates (n, n_components), table of n rows)
    color, view : see `plot_3d`
    components : three coordinates, of all pictures or title → those of that one
    geodesics : title → (n_points, n_components) coordinates of a curve in that picture
    embeddings : title → embedding whose coordinates that picture has, if it is another one

    Raises
    ------
    InputError
        If coordinates, tables and columns do not fit each other.
    """
    if not pictures:
        raise InputError("`pictures` must hold at least one (coordinates, table).")
    others = embeddings or {}
    placed = {
        title: Placed.of(others.get(title, embedding), points)
        for title, (points, _) in pictures.items()
    }
    if figure is None:
        size = (5.8 * len(pictures), 5.4)
        figure = require("matplotlib.pyplot").figure(figsize=size)
    panels: Any = figure.subfigures(1, len(pictures), squeeze=False)[0]
    drawn = []
    for panel, (title, (_, table)) in zip(panels, pictures.items()):
        ax = panel.add_axes(_INSIDE, projection="3d")
        panel.suptitle(title)
        curve = (geodesics or {}).get(title)
        shown = components[title] if isinstance(components, Mapping) else components
        plot_3d(placed[title], table, color, components=shown, view=view, geodesic=curve, ax=ax)
        # The words of the axes stand outside of the box: leave room for them.
        ax.set_box_aspect(None, zoom=_ZOOM)
        drawn.append(ax)
    _same_scale(drawn)
    return figure


def _same_scale(drawn: list[Any]) -> None:
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim"), ("get_zlim", "set_zlim")):
        limits = np.array([getattr(ax, get)() for ax in drawn])
        for ax in drawn:
            getattr(ax, put)(limits.min(), limits.max())
