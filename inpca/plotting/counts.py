"""How many models are away from the manifold, by a column (as in Fig. 4 of the paper)."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.plotting.curves import axes
from inpca.plotting.layers import category_look
from inpca.plotting.style import as_text
from inpca.plotting.table import check_models, is_reference, read_column

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A column of numbers (epochs) is cut into this many parts.
_BINS = 8
_NONE = "no value"


def plot_counts(
    models: pd.DataFrame,
    away: ArrayLike,
    by: str = "architecture",
    stack: str | None = "optimizer",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the number of models that are away from the manifold as bars.

    Parameters
    ----------
    models : table with one row per model
    away : (n_models,) truth values: those that count, in the paper those at a distance of more
        than 2 nats per sample from truth
    by : column with one bar for each value; numbers with many values are cut into eight parts of
        equal width
    stack : column whose values the bars are divided into; None, or a column that the table lacks
        by default, for plain bars
    ax : axes to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If the table, `away` and the columns do not fit each other.
    """
    mask = np.asarray(away)
    table = check_models(models, len(np.atleast_1d(mask)))
    if mask.dtype != bool:
        raise InputError(f"`away` must hold truth values, not {mask.dtype}; write D > 2.")
    if stack is not None and stack not in table.columns and stack == "optimizer":
        stack = None
    counts = count(table, mask, by, stack)
    ax = axes(ax)
    below = np.zeros(len(counts))
    for code, name in enumerate(counts.columns):
        color = category_look(code, len(counts.columns))[0]
        hatch = ("", "//", "..", "xx", "\\\\")[code % 5]
        heights = counts[name].to_numpy(dtype=np.float64)
        ax.bar(
            range(len(counts)),
            heights,
            bottom=below,
            color=color,
            hatch=hatch,
            edgecolor="white",
            label=as_text(name),
        )
        below += heights
    for place, total in enumerate(below):
        ax.annotate(f"{total:.0f}", (place, total), ha="center", va="bottom", fontsize="small")
    steep = max((len(str(label)) for label in counts.index), default=0) * len(counts) > 50
    ax.set_xticks(
        range(len(counts)),
        [as_text(label) for label in counts.index],
        rotation=30 if steep else 0,
        ha="right" if steep else "center",
    )
    ax.set(
        xlabel=as_text(by.replace("_", " ")),
        ylabel=f"models away, of {int((~is_reference(table)).sum()):,}",
    )
    ax.set_ylim(0, 1.12 * max(1.0, float(below.max())))
    if stack is not None:
        ax.legend(title=as_text(stack), frameon=False, fontsize="small")
    return ax


def count(
    models: pd.DataFrame, away: NDArray[np.bool_], by: str, stack: str | None
) -> pd.DataFrame:
    """Models that are `away`, one row per value of `by`, one column per value of `stack`."""
    parts = np.full(len(models), "models", object) if stack is None else _labels(models, stack)[0]
    labels, order = _labels(models, by)
    frame = pd.DataFrame({"by": pd.Categorical(labels, order), "stack": parts, "away": away})
    own = frame[~is_reference(models)]
    return own.groupby(["by", "stack"], observed=True)["away"].sum().unstack(fill_value=0)


def _labels(models: pd.DataFrame, name: str) -> tuple[NDArray[np.object_], list[str]]:
    """The value of each model in words, and these words in the order of the values."""
    column = read_column(models, name)
    if column.kind == "category":
        names = [*column.categories, _NONE]
        return np.array([names[int(code)] for code in column.values], dtype=object), names
    edges = np.linspace(np.nanmin(column.values), np.nanmax(column.values), _BINS + 1)
    place = np.clip(np.searchsorted(edges, column.values, side="right") - 1, 0, _BINS - 1)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    labels = np.where(column.missing, _NONE, np.array(names, dtype=object)[place])
    return labels, [*names, _NONE]
