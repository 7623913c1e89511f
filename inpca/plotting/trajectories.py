"""Whole trajectories: their dendrogram, what tells them apart (as in Fig. 7 of the paper)."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.curves import axes
from inpca.plotting.layers import category_look
from inpca.plotting.style import require
from inpca.plotting.table import read_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Names of so many leaves can still be read.
_MOST_NAMES = 60


def plot_dendrogram(
    linkage: ArrayLike,
    trajectories: pd.DataFrame,
    color: str | None = "architecture",
    *,
    label: str = "distance between trajectories",
    figure: "Figure | None" = None,
) -> "Figure":
    """Draw the tree of a hierarchical clustering with a bar that says what each leaf is.

    Parameters
    ----------
    linkage : (n − 1, 4), as `scipy.cluster.hierarchy.linkage` returns it
    trajectories : table with one row per trajectory (n), its configuration in columns
    color : column that the bar shows; None for none
    label : words on the axis of distances
    figure : figure to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If the tree has another number of leaves than the table has rows.
    """
    from scipy.cluster.hierarchy import dendrogram

    tree = np.asarray(linkage, dtype=np.float64)
    if tree.ndim != 2 or tree.shape != (len(trajectories) - 1, 4):
        raise InputError(
            f"`linkage` must have shape ({len(trajectories) - 1}, 4) for the "
            f"{len(trajectories)} rows of `trajectories`, not {tree.shape}."
        )
    if figure is None:
        width = min(16.0, max(6.4, 0.16 * len(trajectories)))
        figure = require("matplotlib.pyplot").figure(figsize=(width, 4.8), layout="constrained")
    ratios = [1.0] if color is None else [1.0, 0.06]
    panels = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    drawn = dendrogram(
        tree, ax=panels[0], no_labels=True, color_threshold=0, above_threshold_color="0.25"
    )
    panels[0].set_ylabel(label)
    panels[0].spines[["top", "right", "bottom"]].set_visible(False)
    leaves = np.asarray(drawn["leaves"])
    if color is not None:
        _leaf_bar(panels[1], trajectories, color, leaves)
    _leaf_names(panels[-1], trajectories, leaves)
    return figure


def _leaf_bar(ax: Any, trajectories: pd.DataFrame, color: str, leaves: Any) -> None:
    """A bar below the leaves; the legend stands outside, under everything."""
    column = read_column(trajectories, color)
    if column.kind == "number":
        mesh = ax.imshow(
            column.values[leaves][None],
            aspect="auto",
            extent=(0, 10 * len(leaves), 0, 1),
            cmap="viridis",
        )
        ax.figure.colorbar(mesh, ax=ax.figure.axes, label=style.as_text(color), shrink=0.6)
    else:
        names = (*column.categories, "no value")
        for code, name in enumerate(names):
            here = np.flatnonzero(column.values[leaves] == code)
            if code == len(names) - 1:
                here = np.flatnonzero(column.missing[leaves])
            if len(here):
                face = category_look(code, len(column.categories))[0]
                ax.bar(10 * here + 5, 1, width=10, color=face, label=style.as_text(name))
        ax.figure.legend(
            loc="outside lower center",
            ncols=min(6, len(names)),
            frameon=False,
            title=style.as_text(color),
        )
    ax.set(yticks=[], xlim=(0, 10 * len(leaves)))
    ax.spines[:].set_visible(False)
    ax.tick_params(bottom=False)


def _leaf_names(ax: Any, trajectories: pd.DataFrame, leaves: Any) -> None:
    if len(leaves) > _MOST_NAMES:
        ax.set_xticks([])
        ax.set_xlabel(f"{len(leaves)} trajectories")
        return
    names = [style.as_text(trajectories.index[leaf]) for leaf in leaves]
    size = "small" if len(leaves) <= 25 else "xx-small"
    ax.set_xticks(10 * np.arange(len(leaves)) + 5, names, rotation=90, fontsize=size)


def plot_importance(
    importance: pd.DataFrame,
    *,
    mean: str = "importance",
    spread: str = "deviation",
    p_value: str = "p_value",
    least: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how much each configuration column tells trajectories apart, largest on top.

    Parameters
    ----------
    importance : one row per column of the configuration, with the columns `mean`, `spread` (the
        bar's whisker) and, if it has one, `p_value`, written beside the bar
    least : the smallest P that can be found: 1 / (1 + n_repeats) where shuffles are counted; such a
        P is written "P ≤"
    """
    for needed in (mean, spread):
        if needed not in importance.columns:
            raise InputError(
                f"`importance` has no column {needed!r}; its columns are: "
                f"{', '.join(map(str, importance.columns))}."
            )
    table = importance.sort_values(mean)
    ax = axes(ax, (6.4, 0.5 + 0.5 * max(3, len(table))))
    ax.barh(
        range(len(table)),
        table[mean],
        xerr=table[spread],
        color=style.COLORS[0],
        capsize=3,
        height=0.6,
    )
    ax.set_yticks(
        range(len(table)), [style.as_text(name).replace("_", " ") for name in table.index]
    )
    if p_value in table.columns:
        for place, (height, width, p) in enumerate(
            zip(table[mean], table[spread], table[p_value], strict=True)
        ):
            ax.annotate(
                _p_words(float(p), least),
                (max(0.0, height + width), place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
        ax.margins(x=0.25)
    ax.axvline(0, color="0.6", linewidth=0.8)
    ax.set_xlabel("permutation importance")
    return ax


def _p_words(p: float, least: float | None) -> str:
    if least is not None and p <= least * (1 + 1e-9):
        # Rounded up: what is written is still a bound.
        return f"P ≤ {np.ceil(least * 1000) / 1000:.3f}"
    return "P < 0.001" if p < 1e-3 else f"P = {p:.3f}"
