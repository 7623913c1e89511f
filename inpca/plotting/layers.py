"""The layers of a matplotlib picture: lines, points, projected models, reference models.

The same calls draw into flat and into three-dimensional axes: coordinates go in as ``*xyz.T``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.scene import Scene, broken_line, line_points
from inpca.plotting.style import require
from inpca.plotting.table import Column, reference_name

# Labels of lines begin with an underscore, which keeps them out of legends by themselves.
LINE_OF = "_line of "
_AGAIN = "_again"
_PALE = 0.3


@dataclass(frozen=True)
class Look:
    """How the models of one picture are coloured.

    Attributes
    ----------
    column : what the colours say; None for one colour
    norm, cmap : of a numeric column, otherwise None
    pale : whether this is the second drawing of the same models, which no legend repeats
    """

    column: Column | None
    norm: Any = None
    cmap: str = "viridis"
    pale: bool = False

    @property
    def opacity(self) -> float:
        """Of points and lines, relative to what it is otherwise."""
        return _PALE if self.pale else 1.0


def read_look(scene: Scene, color: str | None, log_color: bool | None) -> Look:
    """Choose colours for the column `color`; None for `log_color` goes by the column's values.

    Raises
    ------
    InputError
        If the column does not exist, has more categories than can be told apart, or `log_color`
        is asked of what has no logarithm.
    """
    if color is None:
        return Look(None)
    column = scene.column(color)
    if column.kind == "category":
        _check_categories(column, bool(log_color))
        return Look(column)
    values = column.values[~column.missing]
    if log_color is None:
        log_color = column.suggests_log
    if log_color and (values <= 0).any():
        raise InputError(
            f"`log_color` needs positive values but {int((values <= 0).sum())} of {len(values)} "
            f"in {color!r} are not; use log_color=False or another column."
        )
    colors = require("matplotlib.colors")
    low, high = (values.min(), values.max()) if len(values) else (1.0, 2.0)
    norm = colors.LogNorm(low, high) if log_color else colors.Normalize(low, high)
    return Look(column, norm)


def _check_categories(column: Column, log_color: bool) -> None:
    if log_color:
        raise InputError(f"`log_color` needs a column of numbers; {column.name!r} is none.")
    if len(column.categories) > style.MAX_CATEGORIES:
        raise InputError(
            f"`color` = {column.name!r} has {len(column.categories)} values, more than the "
            f"{style.MAX_CATEGORIES} that can be told apart; colour by a column with fewer."
        )


def draw_models(ax: Any, scene: Scene, components: tuple[int, ...], look: Look) -> None:
    """Draw trajectories and points of embedded and projected models, with labels for a legend."""
    points = scene.points[:, [number - 1 for number in components]]
    size = 14.0 if len(points) <= 3000 else 5.0
    if look.column is None:
        _line(ax, points, broken_line(scene.paths), style.COLORS[0], "-", look, "models")
        _dots(ax, points[scene.embedded], style.COLORS[0], style.SHAPES[0], size, look, "models")
    elif look.column.kind == "category":
        _draw_categories(ax, scene, points, look, size)
    else:
        _draw_numbers(ax, scene, points, look, size)
    _draw_projected(ax, scene, points, look)


def draw_again(ax: Any, scene: Scene, components: tuple[int, ...], look: Look) -> None:
    """Draw models once more, pale: `scene` has them where they are on another sample set.

    Parameters
    ----------
    look : of the picture, whose first rows are those of `scene`
    """
    column = look.column
    if column is not None:
        column = replace(column, values=column.values[: len(scene.points)])
    draw_models(ax, scene, components, replace(look, column=column, pale=True))
    points = scene.points[:, [number - 1 for number in components]]
    for row in np.flatnonzero(scene.named):
        shape = style.REFERENCE_SHAPES.get(scene.keys[row], style.OTHER_REFERENCE)
        looks = {"s": 40, "marker": shape.marker, "edgecolors": "0.5", "linewidths": 1.0}
        looks["facecolors"] = "0.6" if shape.filled else "none"
        ax.scatter(*points[row][:, None], zorder=4, **looks, **_flat(ax))


def name_again(ax: Any, names: Iterable[str], n_axes: int) -> None:
    """Name what `draw_again` has drawn: an entry of the legend for each sample set."""
    nowhere: list[list[float]] = [[]] * n_axes
    for name in names:
        ax.scatter(
            *nowhere,
            c="black",
            alpha=_PALE,
            s=20,
            label=f"{style.as_text(name)} (pale)",
            **_flat(ax),
        )


def _draw_categories(
    ax: Any, scene: Scene, points: NDArray[np.float64], look: Look, size: float
) -> None:
    column = look.column
    assert column is not None
    if not column.follows_runs:
        _line(ax, points, broken_line(scene.paths), style.NO_VALUE, "-", look)
    for code, name in enumerate((*column.categories, "no value")):
        here = (column.values == code) if code < len(column.categories) else column.missing
        color, shape, dash = category_look(code, len(column.categories))
        rows = np.flatnonzero(here & scene.embedded)
        if not len(rows):
            continue
        if column.follows_runs:
            own = [path for path in scene.paths if here[path[1][0]]]
            _line(ax, points, broken_line(own), color, dash, look, name)
        _dots(ax, points[rows], color, shape, size, look, name)


def category_look(code: int, n_categories: int) -> tuple[str, style.Shape, str]:
    """Colour, shape and line style of a category; grey for "no value"."""
    if code >= n_categories:
        return style.NO_VALUE, style.NO_VALUE_SHAPE, ":"
    return (
        style.COLORS[code % len(style.COLORS)],
        style.SHAPES[code % len(style.SHAPES)],
        style.LINE_STYLES[code % len(style.LINE_STYLES)],
    )


def _draw_numbers(
    ax: Any, scene: Scene, points: NDArray[np.float64], look: Look, size: float
) -> None:
    assert look.column is not None
    _line(ax, points, broken_line(scene.paths), style.NO_VALUE, "-", look)
    missing = look.column.missing & scene.embedded
    if missing.any():
        name = f"no value ({missing.sum()} models)"
        _dots(ax, points[missing], style.NO_VALUE, style.NO_VALUE_SHAPE, size, look, name)
    there = ~look.column.missing & scene.embedded
    values = {"c": look.column.values[there], "cmap": look.cmap, "norm": look.norm}
    values["alpha"] = look.opacity
    ax.scatter(*points[there].T, s=size, linewidths=0, zorder=3, **_flat(ax), **values)


def _draw_projected(ax: Any, scene: Scene, points: NDArray[np.float64], look: Look) -> None:
    if not scene.projected.any():
        return
    _line(ax, points, broken_line(scene.projected_paths), "black", "--", look, alpha=0.8)
    label = "projected (held out)"
    looks = {
        "s": 26,
        "marker": style.PROJECTED_SHAPE.marker,
        "edgecolors": "black",
        "linewidths": 0.8,
        "zorder": 4,
    }
    faces = _faces(look, np.flatnonzero(scene.projected))
    ax.scatter(*points[scene.projected].T, facecolors=faces, **looks, **_flat(ax))
    # The legend shows shape and line alone, not the colour of the first point.
    nowhere: list[list[float]] = [[]] * points.shape[1]
    handle = {
        "marker": style.PROJECTED_SHAPE.marker,
        "markersize": 5,
        "markerfacecolor": "white",
        "linestyle": "--",
    }
    ax.plot(*nowhere, color="black", linewidth=0.8, label=label, **handle)


def _faces(look: Look, rows: NDArray[np.intp]) -> list[Any]:
    """Face colour of each projected model: what its value has among the embedded ones."""
    column = look.column
    if column is None:
        return ["white"] * len(rows)
    if column.kind == "category":
        count = len(column.categories)
        codes = [int(code) if code >= 0 else count for code in column.values[rows]]
        return [category_look(code, count)[0] for code in codes]
    cmap = require("matplotlib").colormaps[look.cmap]
    return [
        style.NO_VALUE if np.isnan(value) else cmap(float(look.norm(value)))
        for value in column.values[rows]
    ]


def draw_references(
    ax: Any, scene: Scene, components: tuple[int, ...], inside: NDArray[np.bool_] | None = None
) -> None:
    """Draw ignorance, truth and other reference models as black symbols; `labels` names them.

    Many of them (stored averages) are small open squares under one name. `inside` (n,): which of
    those with a name are within the frame; all by default.
    """
    points = scene.points[:, [number - 1 for number in components]]
    if scene.crowd.any():
        ax.scatter(
            *points[scene.crowd].T,
            s=14,
            marker=style.OTHER_REFERENCE.marker,
            facecolors="none",
            edgecolors="0.2",
            linewidths=0.8,
            zorder=4,
            label=scene.crowd_name,
            **_flat(ax),
        )
    for row in np.flatnonzero(scene.named):
        if inside is not None and not inside[row]:
            continue
        key = scene.keys[row]
        shape = style.REFERENCE_SHAPES.get(key, style.OTHER_REFERENCE)
        ax.scatter(
            *points[row][:, None],
            s=75,
            marker=shape.marker,
            facecolors="black" if shape.filled else "white",
            edgecolors="white" if shape.filled else "black",
            linewidths=0.8 if shape.filled else 2,
            zorder=6,
            label=style.as_text(reference_name(key)),
            **_flat(ax),
        )


def draw_curve(
    ax: Any, curve: ArrayLike, components: tuple[int, ...], label: str = "geodesic P₀ to P*"
) -> None:
    """Draw a black curve through given coordinates, (n_points, n_components), over the models."""
    points = np.asarray(curve, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < max(components) or not np.isfinite(points).all():
        raise InputError(
            "`geodesic` must hold finite coordinates (n_points, n_components) with at least "
            f"{max(components)} components, not shape {points.shape}; project points of "
            "inpca.geodesic with InPCA.transform."
        )
    chosen = points[:, [number - 1 for number in components]]
    ax.plot(*chosen.T, color="black", linewidth=1.8, zorder=5, label=label)


def _line(
    ax: Any,
    points: NDArray[np.float64],
    rows: NDArray[np.intp],
    color: str,
    dash: str,
    look: Look,
    name: str = "",
    alpha: float = 0.45,
) -> None:
    if len(rows):
        xyz = line_points(points, rows).T
        looks = {"color": color, "linestyle": dash, "linewidth": 0.8}
        label = _AGAIN if look.pale else LINE_OF + style.as_text(name)
        ax.plot(*xyz, label=label, alpha=alpha * look.opacity, zorder=2, **looks)


def _dots(
    ax: Any,
    points: NDArray[np.float64],
    color: str,
    shape: style.Shape,
    size: float,
    look: Look,
    name: str,
) -> None:
    looks: dict[str, Any] = {"s": size, "marker": shape.marker, "zorder": 3}
    looks |= {"label": _AGAIN if look.pale else style.as_text(name), "alpha": 0.85 * look.opacity}
    looks |= {"facecolors": color if shape.filled else "none", "edgecolors": color}
    # An open shape of the same size would look smaller.
    looks |= {"linewidths": 0} if shape.filled else {"linewidths": 0.9, "s": 1.15 * size}
    ax.scatter(*points.T, **looks, **_flat(ax))


def _flat(ax: Any) -> dict[str, bool]:
    """Three-dimensional axes fade distant points, which would change what a colour says."""
    return {"depthshade": False} if hasattr(ax, "get_zlim") else {}
