"""The legend below a picture, as many columns as its words leave room for, and the colour bar."""

from typing import Any

import numpy as np

from inpca.plotting.layers import LINE_OF, Look
from inpca.plotting.style import as_text, require

# Of matplotlib's legend, in units of its font size: length of a handle, gaps behind it and
# between columns, padding on both sides.
_HANDLE, _HANDLE_GAP, _COLUMN_GAP, _SIDES = 2.6, 0.8, 2.0, 1.6
# Names are cut down to so many characters before a legend runs over its edges.
_LEAST = 12


def explain(figure: Any, axes: list[Any], look: Look, bar: Any = None) -> None:
    """One legend below the picture, and the colour bar of a numeric column.

    Parameters
    ----------
    figure : or part of one, that the legend belongs to
    axes : what it explains
    bar : axes of the colour bar, made beside `axes` if not given
    """
    if look.column is not None and look.column.kind == "number":
        mappable = require("matplotlib.cm").ScalarMappable(look.norm, look.cmap)
        log = " (log scale)" if type(look.norm).__name__ == "LogNorm" else ""
        # Three-dimensional axes write their last label outside of the box that layouts know of.
        pad = 0.14 if hasattr(axes[0], "get_zlim") else 0.02
        where = {"ax": axes, "shrink": 0.75, "pad": pad} if bar is None else {"cax": bar}
        figure.colorbar(mappable, label=as_text(look.column.name) + log, **where)
    named = _handles(axes)
    if named:
        title = (
            as_text(look.column.name) if look.column and look.column.kind == "category" else None
        )
        root = figure.get_figure(root=True)
        columns, names = _fitted(figure, list(named))
        legend = figure.legend(
            list(named.values()),
            names,
            loc="lower center" if root.get_layout_engine() is None else "outside lower center",
            ncols=columns,
            frameon=False,
            title=title,
            markerscale=1.3,
            handlelength=_HANDLE,
            handletextpad=_HANDLE_GAP,
            columnspacing=_COLUMN_GAP,
        )
        legend.set_in_layout(True)


def _handles(axes: list[Any]) -> dict[str, Any]:
    """What the legend shows for each name: its points, over its line if it has one."""
    named: dict[str, Any] = {}
    for ax in axes:
        lines = {line.get_label(): line for line in ax.lines}
        for handle, label in zip(*ax.get_legend_handles_labels()):
            line = lines.get(LINE_OF + label)
            named.setdefault(label, handle if line is None else (line, handle))
    return named


def _fitted(figure: Any, names: list[str]) -> tuple[int, list[str]]:
    """Columns of the legend, evenly filled, and its names, cut if one alone is too wide."""
    size = require("matplotlib.font_manager").FontProperties(
        size=require("matplotlib").rcParams["legend.fontsize"]
    )
    em = size.get_size_in_points()
    room = 72 * figure.bbox.width / figure.get_figure(root=True).dpi - _SIDES * em
    widths = _widths(figure, names, size)
    extra = (_HANDLE + _HANDLE_GAP) * em
    for most in range(len(names), 0, -1):
        columns = -(-len(names) // -(-len(names) // most))
        parts = np.array_split(widths, columns)  # as matplotlib divides them
        if sum(part.max() + extra for part in parts) + (columns - 1) * _COLUMN_GAP * em <= room:
            return columns, names
    return 1, [_cut(name, width, room - extra) for name, width in zip(names, widths)]


def _widths(figure: Any, names: list[str], font: Any) -> Any:
    """Width of each name in points."""
    root = figure.get_figure(root=True)
    text = require("matplotlib.text").Text(fontproperties=font)
    text.set_figure(root)
    found = []
    for name in names:
        text.set_text(name)
        found.append(72 * text.get_window_extent().width / root.dpi)
    return np.array(found)


def _cut(name: str, width: float, room: float) -> str:
    """The name with its middle left out, so that it fits; ends tell similar names apart."""
    if width <= room:
        return name
    kept = max(_LEAST, int(len(name) * room / width) - 2)
    return f"{name[: -(-kept // 2)]}…{name[len(name) - kept // 2 :]}"
