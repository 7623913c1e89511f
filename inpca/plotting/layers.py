"""The layers of a matplotlib picture: lines, points, projected models, reference models.

The same calls draw into flat and into three-dimensional axes: coordinates go in as ``*xyz.T``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.scene import Scene, broken_line, line_points
from inpca.plotting.style import require
from inpca.plotting.table import Column, reference_name

_REFERENCE_MARKERS = {"@ignorance": "o", "@truth": "*"}


@dataclass(frozen=True)
class Look:
    """How the models of one picture are coloured.

    Attributes
    ----------
    column : what the colours say; None for one colour
    norm, cmap : of a numeric column, otherwise None
    """

    column: Column | None
    norm: Any = None
    cmap: str = "viridis"


def read_look(scene: Scene, color: str | None, log_color: bool) -> Look:
    """Choose colours for the column `color`.

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
        _check_categories(column, log_color)
        return Look(column)
    values = column.values[~column.missing]
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
        _line(ax, points, broken_line(scene.paths), style.COLORS[0], "-")
        _dots(ax, points[scene.embedded], style.COLORS[0], "o", size, "models")
    elif look.column.kind == "category":
        _draw_categories(ax, scene, points, look.column, size)
    else:
        _draw_numbers(ax, scene, points, look, size)
    _draw_projected(ax, scene, points, look)


def _draw_categories(
    ax: Any, scene: Scene, points: NDArray[np.float64], column: Column, size: float
) -> None:
    if not column.follows_runs:
        _line(ax, points, broken_line(scene.paths), style.NO_VALUE, "-")
    for code, name in enumerate((*column.categories, "no value")):
        here = (column.values == code) if code < len(column.categories) else column.missing
        color, marker, dash = category_look(code, len(column.categories))
        rows = np.flatnonzero(here & scene.embedded)
        if not len(rows):
            continue
        if column.follows_runs:
            own = [path for path in scene.paths if here[path[1][0]]]
            _line(ax, points, broken_line(own), color, dash)
        _dots(ax, points[rows], color, marker, size, name)


def category_look(code: int, n_categories: int) -> tuple[str, str, str]:
    """Colour, marker and line style of a category; grey for "no value"."""
    if code >= n_categories:
        return style.NO_VALUE, ".", ":"
    return (
        style.COLORS[code % len(style.COLORS)],
        style.MARKERS[code % len(style.MARKERS)],
        style.LINE_STYLES[code % len(style.LINE_STYLES)],
    )


def _draw_numbers(
    ax: Any, scene: Scene, points: NDArray[np.float64], look: Look, size: float
) -> None:
    assert look.column is not None
    _line(ax, points, broken_line(scene.paths), style.NO_VALUE, "-")
    missing = look.column.missing & scene.embedded
    if missing.any():
        _dots(ax, points[missing], style.NO_VALUE, "x", size, f"no value ({missing.sum()} models)")
    there = ~look.column.missing & scene.embedded
    values = {"c": look.column.values[there], "cmap": look.cmap, "norm": look.norm}
    ax.scatter(*points[there].T, s=size, linewidths=0, zorder=3, **_flat(ax), **values)


def _draw_projected(ax: Any, scene: Scene, points: NDArray[np.float64], look: Look) -> None:
    if not scene.projected.any():
        return
    _line(ax, points, broken_line(scene.projected_paths), "black", "--", alpha=0.8)
    label = "projected (held out)"
    looks = {"s": 26, "marker": "D", "edgecolors": "black", "linewidths": 0.8, "zorder": 4}
    faces = _faces(look, np.flatnonzero(scene.projected))
    ax.scatter(*points[scene.projected].T, facecolors=faces, **looks, **_flat(ax))
    # The legend shows shape and line alone, not the colour of the first point.
    nowhere: list[list[float]] = [[]] * points.shape[1]
    handle = {"marker": "D", "markersize": 5, "markerfacecolor": "white", "linestyle": "--"}
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
    """Draw ignorance, truth and other reference models as black symbols with their names.

    `inside` (n,): which of them are within the frame; all by default.
    """
    points = scene.points[:, [number - 1 for number in components]]
    for row in np.flatnonzero(scene.reference):
        if inside is not None and not inside[row]:
            continue
        key = scene.keys[row]
        name = reference_name(key)
        star = _REFERENCE_MARKERS.get(key, "s") == "*"
        ax.scatter(
            *points[row][:, None],
            s=190 if star else 75,
            marker=_REFERENCE_MARKERS.get(key, "s"),
            facecolors="black" if star else "white",
            edgecolors="white" if star else "black",
            linewidths=0.8 if star else 2,
            zorder=6,
            label=name,
            **_flat(ax),
        )
        _name(ax, points[row], name)


def _name(ax: Any, point: NDArray[np.float64], name: str) -> None:
    """Write the name of a reference model beside it, towards the middle of a flat picture."""
    halo = [require("matplotlib.patheffects").withStroke(linewidth=3, foreground="white")]
    looks = {"fontsize": 10, "fontweight": "bold", "path_effects": halo, "zorder": 7}
    if len(point) == 3:
        ax.text(*point, f"  {name}", **looks)
        return
    low, high = ax.get_xlim()
    right = point[0] > (low + high) / 2
    # Truth above and the others below their symbols: the two may lie on top of each other.
    below = not name.startswith("truth")
    looks |= {"ha": "right" if right else "left", "va": "top" if below else "bottom"}
    shift = (-6 if right else 6, -9 if below else 9)
    ax.annotate(name, point, xytext=shift, textcoords="offset points", **looks)


def _line(
    ax: Any,
    points: NDArray[np.float64],
    rows: NDArray[np.intp],
    color: str,
    dash: str,
    alpha: float = 0.45,
) -> None:
    if len(rows):
        xyz = line_points(points, rows).T
        ax.plot(*xyz, color=color, linestyle=dash, linewidth=0.8, alpha=alpha, zorder=2)


def _dots(
    ax: Any, points: NDArray[np.float64], color: str, marker: str, size: float, label: str
) -> None:
    looks = {"s": size, "marker": marker, "label": label, "alpha": 0.85, "zorder": 3}
    width = 0.9 if marker == "x" else 0
    ax.scatter(*points.T, color=color, linewidths=width, **looks, **_flat(ax))


def _flat(ax: Any) -> dict[str, bool]:
    """Three-dimensional axes fade distant points, which would change what a colour says."""
    return {"depthshade": False} if hasattr(ax, "get_zlim") else {}
