"""A figure that fits a three-dimensional picture.

Axes in three dimensions are a square with a box somewhere inside, and no layout of matplotlib knows
where. Here the box and its labels are measured, and the paper is cut to them.
"""

from typing import Any

from inpca.plotting.style import require

_MARGIN = 0.12  # inches
_BAR_WIDTH = 1.15  # inches that the colour bar and its words need
# The size of the box changes what its labels take, which do not grow with it.
_ROUNDS = 3


def space_axes(figure: Any) -> Any:
    """Three-dimensional axes in a figure without a layout engine, to be trimmed once drawn."""
    require("mpl_toolkits.mplot3d")  # registers the projection "3d"
    figure.set_layout_engine("none")
    return figure.add_axes((0, 0, 1, 1), projection="3d")


def bar_axes(ax: Any) -> Any:
    """Axes for the colour bar of trimmed axes."""
    return ax.figure.add_axes((0.9, 0.3, 0.02, 0.5))


def trim(ax: Any, bar: Any = None) -> None:
    """Let the box fill the width of its figure, and cut the height to box and legend."""
    figure = ax.figure
    width = figure.get_figwidth()
    for _ in range(_ROUNDS):
        figure.draw_without_rendering()
        inches = figure.dpi_scale_trans.inverted()
        box = _content(ax).transformed(inches)
        below = sum(one.get_window_extent().transformed(inches).height for one in figure.legends)
        room = width - 2 * _MARGIN - (0 if bar is None else _BAR_WIDTH)
        square = ax.get_window_extent().transformed(inches)
        # Labels keep their size: what is left of the box is scaled.
        factor = room / box.width
        side = square.width * factor
        height = box.height * factor + below + 2 * _MARGIN
        left = _MARGIN + (square.x0 - box.x0) * factor
        bottom = _MARGIN + below + (square.y0 - box.y0) * factor
        figure.set_figheight(height)
        ax.set_position((left / width, bottom / height, side / width, side / height))
        if bar is not None:
            middle = (below + _MARGIN + box.height * factor / 2) / height
            tall = 0.75 * box.height * factor / height
            start = (width - _BAR_WIDTH) / width
            bar.set_position((start, middle - tall / 2, 0.2 / width, tall))


def _content(ax: Any) -> Any:
    """What is drawn, in pixels: the three axes with their words, which enclose all models."""
    boxes = [axis.get_tightbbox() for axis in (ax.xaxis, ax.yaxis, ax.zaxis)]
    corners = require("mpl_toolkits.mplot3d.proj3d").proj_transform(*_corners(ax), ax.get_proj())
    bbox = require("matplotlib.transforms").Bbox
    pixels = ax.transData.transform(list(zip(corners[0], corners[1])))
    return bbox.union([*boxes, bbox([pixels.min(axis=0), pixels.max(axis=0)])])


def _corners(ax: Any) -> Any:
    x, y, z = ax.get_xlim(), ax.get_ylim(), ax.get_zlim()
    return tuple(zip(*((a, b, c) for a in x for b in y for c in z)))
