"""Flat curves of training: progress against error and epoch, widths of tubes, explained distances.

Each function takes plain arrays and tables, draws into `ax` or makes a figure of its own, and
returns the axes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.layers import Look, category_look, draw_models, read_look
from inpca.plotting.scene import Scene
from inpca.plotting.style import require
from inpca.plotting.table import check_models, is_reference
from inpca.store.settings import setting_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_progress_error(
    models: pd.DataFrame,
    progress: ArrayLike,
    error: str = "train_error",
    color: str | None = "architecture",
    *,
    r_squared: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the error of each model against its progress (as in Fig. 8 of the paper).

    Parameters
    ----------
    models : table with one row per model
    progress : (n_models,) progress of each, Eq. 4
    error : column of the table, on the vertical axis
    color : column to colour by, None for one colour
    r_squared : written into the picture if given, with the straight line (least squares) that it
        is of; see `inpca.geometry.reports.r_squared`
    ax : axes to draw into, made by pyplot if not given

    Raises
    ------
    InputError
        If the table, `progress` and the columns do not fit each other.
    """
    s = _per_model(progress, check_models(models, len(np.atleast_1d(progress))), "progress")
    y = _column(models, error)
    own = ~is_reference(models)
    ax = axes(ax)
    scene = _flat_scene(models, s, y)
    look = read_look(scene, color, None)
    draw_models(ax, scene, (1, 2), look)
    known = own & np.isfinite(s) & np.isfinite(y)
    if r_squared is not None:
        slope, start = np.polyfit(s[known], y[known], 1)
        ends = np.array([s[known].min(), s[known].max()])
        looks: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2}
        ax.plot(ends, start + slope * ends, label="straight line", **looks)
        ax.set_title(f"R² = {r_squared:.3f}, straight line through {int(known.sum()):,} models")
    _explain(ax, look)
    ax.set(xlabel="progress s", ylabel=style.as_text(error.replace("_", " ")), xlim=(-0.02, 1.02))
    return ax


def plot_progress_epoch(
    models: pd.DataFrame,
    progress: ArrayLike,
    by: str | Sequence[str] = "architecture",
    *,
    time: str = "epoch",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw progress against the epoch, one band per configuration (as in Fig. 9 of the paper).

    The line is the mean over the runs of a group, the band reaches from the lowest to the highest
    of them; a group is what has the same values in the columns `by`. Epochs at which not all runs
    of a group have a checkpoint are means over those that have.

    Raises
    ------
    InputError
        If the table, `progress` and the columns do not fit each other.
    """
    s = _per_model(progress, check_models(models, len(np.atleast_1d(progress))), "progress")
    columns = [by] if isinstance(by, str) else list(by)
    own = ~is_reference(models)
    frame = pd.DataFrame({"t": _column(models, time), "s": s})[own]
    ax = axes(ax)
    names = _group_names(models[own], columns)
    groups = sorted(names.unique())
    _refuse_too_many(groups, columns)
    for code, name in enumerate(groups):
        color, shape, dash = category_look(code, len(groups))
        found = frame[(names == name).to_numpy()].groupby("t")["s"].agg(["mean", "min", "max"])
        ax.fill_between(found.index, found["min"], found["max"], color=color, alpha=0.2, lw=0)
        looks: dict[str, Any] = {"marker": shape.marker, "markersize": 3, "linewidth": 1.2}
        looks |= {} if shape.filled else {"markerfacecolor": "none"}
        ax.plot(
            found.index,
            found["mean"],
            color=color,
            linestyle=dash,
            label=style.as_text(name),
            **looks,
        )
    ax.set(xlabel=style.as_text(time), ylabel="progress s", ylim=(-0.02, 1.02))
    band = "line: mean of the runs\nband: lowest to highest run"
    title = f"{style.as_text(', '.join(columns))}\n{band}"
    ax.legend(title=title, frameon=False, fontsize="small", title_fontsize="small")
    return ax


def plot_along_progress(
    s: ArrayLike,
    values: "Mapping[str, ArrayLike]",
    label: str = "distance",
    *,
    held: "Mapping[str, ArrayLike] | None" = None,
    bands: "Mapping[str, ArrayLike] | None" = None,
    log: bool = False,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw curves over progress: widths of tubes, distances to the geodesic.

    Parameters
    ----------
    s : (n_points,) values of progress
    values : name of each curve → (n_points,), NaN where it has no value
    held : name of a curve → (n_points,) truth values: where a run does not reach `s` and stands
        still at its first or last checkpoint; there the curve is pale and dotted
    bands : name of a curve → (2, n_points), its lower and upper edge
    label : words on the vertical axis
    log : logarithmic vertical axis

    Raises
    ------
    InputError
        If a curve has another number of points than `s`.
    """
    where = np.asarray(s, dtype=np.float64)
    ax = axes(ax)
    _refuse_too_many(list(values), ["values"])
    for code, (name, curve) in enumerate(values.items()):
        y = np.asarray(curve, dtype=np.float64)
        if y.shape != where.shape:
            raise InputError(f"`values` {name!r} has shape {y.shape} but `s` has {where.shape}.")
        color, _, dash = category_look(code, len(values))
        still = _held(held, name, where)
        reached = np.where(still, np.nan, y)
        ax.plot(
            where, reached, color=color, linestyle=dash, label=style.as_text(name), linewidth=1.4
        )
        if still.any():
            # With the points next to it, so that the curve has no gap.
            near = still | np.append(still[1:], False) | np.append(False, still[:-1])
            looks: dict[str, Any] = {"color": color, "linestyle": ":", "linewidth": 1.0}
            ax.plot(where, np.where(near, y, np.nan), alpha=0.5, zorder=1, **looks)
        if bands is not None and name in bands:
            low, high = np.asarray(bands[name], dtype=np.float64)
            ax.fill_between(where, low, high, color=color, alpha=0.2, lw=0)
    ax.set(xlabel="progress s", ylabel=label, xlim=(-0.02, 1.02))
    if log:
        ax.set_yscale("log")
    if any(_held(held, name, where).any() for name in values):
        words = "held: beyond a run's reach"
        ax.plot([], [], color="0.4", linestyle=":", linewidth=1.0, label=words)
    ax.legend(frameon=False, fontsize="small")
    return ax


def _held(
    held: "Mapping[str, ArrayLike] | None", name: str, s: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Where the curve `name` stands still, (n_points,); nowhere if nothing is said of it."""
    if held is None or name not in held:
        return np.zeros(len(s), dtype=bool)
    mask = np.asarray(held[name])
    if mask.dtype != bool or mask.shape != s.shape:
        raise InputError(
            f"`held` {name!r} must hold {len(s)} truth values, not {mask.dtype} of shape "
            f"{mask.shape}."
        )
    return mask


def plot_explained_distances(
    explained: "Mapping[str, ArrayLike]",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw explained pairwise distances (Eq. 12) against the number of coordinates.

    Parameters
    ----------
    explained : name of an embedding → (n_components,), for d = 1, 2, … coordinates; it is not
        monotone in d (as in Figs. 10 and 11C of the paper)
    """
    ax = axes(ax)
    _refuse_too_many(list(explained), ["explained"])
    most = 1
    for code, (name, values) in enumerate(explained.items()):
        y = np.asarray(values, dtype=np.float64)
        most = max(most, len(y))
        color, shape, dash = category_look(code, len(explained))
        looks: dict[str, Any] = {} if shape.filled else {"markerfacecolor": "none"}
        rank = np.arange(1, len(y) + 1)
        ax.plot(
            rank,
            y,
            color=color,
            linestyle=dash,
            marker=shape.marker,
            label=style.as_text(name),
            **looks,
        )
    ax.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True))
    ax.set(xlabel="coordinates d", ylabel="explained pairwise distances, Eq. 12")
    ax.set_xlim(0.5, most + 0.5)
    ax.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def plot_explained_by_samples(
    table: pd.DataFrame,
    *,
    value: str = "explained",
    by: str = "d",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how well embeddings of some samples explain all of D (as in Fig. 6B of the paper).

    Parameters
    ----------
    table : one row per subset of samples and number of coordinates, with the columns
        ``n_samples``, `by` and `value`; repeats with other samples make the band
    """
    for column in ("n_samples", value, by):
        _column(table, column)
    ax = axes(ax)
    groups = sorted(table[by].unique())
    _refuse_too_many(groups, [by])
    for code, group in enumerate(groups):
        color, shape, dash = category_look(code, len(groups))
        found = table[table[by] == group].groupby("n_samples")[value].agg(["mean", "min", "max"])
        ax.fill_between(found.index, found["min"], found["max"], color=color, alpha=0.2, lw=0)
        looks: dict[str, Any] = {} if shape.filled else {"markerfacecolor": "none"}
        ax.plot(
            found.index,
            found["mean"],
            color=color,
            linestyle=dash,
            marker=shape.marker,
            label=style.as_text(group),
            **looks,
        )
    ax.set(xscale="log", xlabel="samples in the embedding")
    ax.set_ylabel("explained pairwise distances of all samples")
    ax.legend(title="coordinates", frameon=False, fontsize="small")
    return ax


# --- shared ----------------------------------------------------------------------------------


def axes(ax: "Axes | None", size: tuple[float, float] = (6.4, 4.6)) -> Any:
    """`ax`, or axes in a new figure of `size` inches."""
    if ax is not None:
        return ax
    return require("matplotlib.pyplot").figure(figsize=size, layout="constrained").add_subplot()


def _per_model(values: ArrayLike, models: pd.DataFrame, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(models),):
        raise InputError(
            f"`{name}` must have one value for each of the {len(models):,} models, not shape "
            f"{array.shape}."
        )
    return array


def _column(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in table.columns:
        raise InputError(
            f"The table has no column {name!r}; its columns are: "
            f"{', '.join(map(str, table.columns)) or 'none'}."
        )
    return table[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _group_names(models: pd.DataFrame, columns: Sequence[str]) -> "pd.Series[str]":
    for column in columns:
        if column not in models.columns:
            raise InputError(
                f"`by` names the column {column!r}, which the table lacks; its columns are: "
                f"{', '.join(map(str, models.columns))}."
            )
    parts = [
        pd.Series(setting_labels(models[column].tolist()), models.index, dtype="str")
        for column in columns
    ]
    names = parts[0]
    for part in parts[1:]:
        names = names + ", " + part
    return names


def _refuse_too_many(groups: Sequence[object], columns: Sequence[str]) -> None:
    if not len(groups):
        raise InputError(f"`{', '.join(columns)}` gives no group to draw.")
    if len(groups) > style.MAX_CATEGORIES:
        raise InputError(
            f"`{', '.join(columns)}` gives {len(groups)} groups, more than the "
            f"{style.MAX_CATEGORIES} that can be told apart; take fewer columns."
        )


def _flat_scene(models: pd.DataFrame, x: NDArray[np.float64], y: NDArray[np.float64]) -> Scene:
    """The models as points of the plane, so that they are coloured as in every other picture."""
    nobody = np.zeros(len(models), dtype=bool)
    return Scene(np.stack([x, y], axis=1), models, is_reference(models), nobody, [], [])


def _explain(ax: Any, look: Look) -> None:
    if look.column is not None and look.column.kind == "number":
        mappable = require("matplotlib.cm").ScalarMappable(look.norm, look.cmap)
        ax.figure.colorbar(mappable, ax=ax, label=style.as_text(look.column.name.replace("_", " ")))
        if len(ax.lines):
            ax.legend(frameon=False, fontsize="small")
    elif look.column is not None:
        title = style.as_text(look.column.name.replace("_", " "))
        ax.legend(title=title, frameon=False, fontsize="small", markerscale=1.4)
