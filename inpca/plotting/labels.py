"""Names of reference models, written close to their symbols where they cover least.

Where there is room is known only once the layout is settled, so names come last.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.plotting.scene import Scene, line_points
from inpca.plotting.style import as_text, require
from inpca.plotting.table import reference_name

# Distances of a name from its symbol that are tried, in points; those from the third on get a line.
_DISTANCES = (8.0, 13.0, 22.0, 34.0, 50.0, 70.0)
_LEADER_FROM = 20.0
_DIRECTIONS = 16
# One more point of distance is worth as much as covering this many models or bits of line.
_COST_OF_DISTANCE = 0.6
# More obstacles than these are not counted; an even choice of them says as much.
_MAX_OBSTACLES = 20_000
_HEIGHT_OUTSIDE = 0.13


@dataclass(frozen=True)
class _Place:
    """Where a point of space is drawn, for `annotate`; follows when the view is turned."""

    ax: Any
    point: tuple[float, ...]

    def __call__(self, renderer: Any) -> Any:
        shift = require("matplotlib.transforms").Affine2D().translate(*_flat(self.ax, self.point))
        return shift + self.ax.transData


def write_names(
    ax: Any, scene: Scene, components: tuple[int, ...], inside: NDArray[np.bool_] | None = None
) -> None:
    """Write the names of reference models that are `inside` (n,); the layout must be settled.

    Each name goes where it covers the fewest models, lines and other names, rather near than far;
    if it has to go far, a thin line leads back to its symbol.
    """
    points = scene.points[:, [number - 1 for number in components]]
    rows = [row for row in np.flatnonzero(scene.named) if inside is None or inside[row]]
    obstacles = _obstacles(ax, scene, points)
    taken = [text.get_window_extent() for text in ax.texts] + _axis_words(ax)
    for row in rows:
        note = _note(ax, points[row], reference_name(scene.keys[row]))
        shift, distance = _best_shift(ax, _pixels(ax, points[row][None])[0], note, obstacles, taken)
        note.set_position(tuple(shift))
        note.arrow_patch.set_visible(distance >= _LEADER_FROM)
        taken.append(_text_box(note))


def point_outside(
    ax: Any,
    points: NDArray[np.float64],
    names: list[str],
    limits: NDArray[np.float64],
) -> None:
    """Arrows at the edge of the frame towards reference models (k, 2) beyond it, one below another.

    `limits` (2, 2): lower and upper limits of the two axes.
    """
    middle, half = limits.mean(axis=0), (limits[1] - limits[0]) / 2
    way = (points - middle) / half
    way = way / np.abs(way).max(axis=1, keepdims=True)
    tips, tails = 0.5 + 0.49 * way, 0.5 + 0.40 * way
    for row, height in zip(*_apart(tails[:, 1])):
        left = tails[row, 0] < 0.5
        ax.annotate(
            f"{as_text(names[row])} is outside,\nat ({points[row, 0]:.2g}, {points[row, 1]:.2g})",
            tips[row],
            xytext=(np.clip(tails[row, 0], 0.1, 0.9), height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha="left" if left else "right",
            va="center",
            fontsize=9,
            arrowprops={"arrowstyle": "-|>", "color": "black", "shrinkA": 2},
            zorder=7,
        )


def _apart(heights: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows from low to high, and heights near theirs that leave room for two lines each."""
    order = np.argsort(heights, kind="stable")
    # Pushed up from below, then all down again as far as the frame asks.
    steps = _HEIGHT_OUTSIDE * np.arange(len(order))
    spread = np.maximum.accumulate(np.maximum(heights[order], 0.08) - steps) + steps
    return order, np.minimum(spread, 0.92 - steps[::-1])


def _note(ax: Any, point: NDArray[np.float64], name: str) -> Any:
    halo = [require("matplotlib.patheffects").withStroke(linewidth=3, foreground="white")]
    flat = len(point) == 2
    leader = {"arrowstyle": "-", "linewidth": 0.7, "color": "black", "shrinkA": 0, "shrinkB": 5}
    note = ax.annotate(
        as_text(name),
        tuple(point) if flat else (0, 0),
        xycoords="data" if flat else _Place(ax, tuple(point)),
        xytext=(0, 0),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=10,
        fontweight="bold",
        path_effects=halo,
        arrowprops=leader,
        zorder=7,
    )
    note.set_in_layout(False)
    return note


def _best_shift(
    ax: Any,
    at: NDArray[np.float64],
    note: Any,
    obstacles: NDArray[np.float64],
    taken: list[Any],
) -> tuple[NDArray[np.float64], float]:
    """Shift of the middle of a name from its symbol, and how far its edge is from it; in points."""
    per_point = ax.figure.dpi / 72
    box = _text_box(note)
    half = np.array([box.width, box.height]) / 2 + 3 * per_point
    frame = ax.get_window_extent() if not hasattr(ax, "get_zlim") else ax.get_figure().bbox
    turns = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    best, far, least = np.zeros(2), 0.0, np.inf
    for distance in _DISTANCES:
        for turn in turns:
            way = np.array([np.cos(turn), np.sin(turn)])
            # The distance is that between the symbol and the edge of the name.
            edge = np.min(half / np.maximum(np.abs(way), 1e-9))
            middle = at + way * (edge + distance * per_point)
            low, high = middle - half, middle + half
            if (low < frame.min).any() or (high > frame.max).any():
                continue
            covered = ((obstacles > low) & (obstacles < high)).all(axis=1).sum()
            hidden = sum(_overlap(low, high, other) for other in taken)
            cost = covered + 1000 * hidden + _COST_OF_DISTANCE * distance
            if cost < least:
                best, far, least = (middle - at) / per_point, distance, cost
    return best, far


def _axis_words(ax: Any) -> list[Any]:
    """Boxes of ticks and labels, which in three dimensions stand inside the frame."""
    if not hasattr(ax, "get_zlim"):
        return []
    axes = (ax.xaxis, ax.yaxis, ax.zaxis)
    # Not get_ticklabels(), which would put them where flat axes have them.
    words = [tick.label1 for axis in axes for tick in axis.majorTicks]
    words += [axis.label for axis in axes]
    return [text.get_window_extent() for text in words if text.get_text()]


def _overlap(low: NDArray[np.float64], high: NDArray[np.float64], other: Any) -> bool:
    return bool((low < other.max).all() and (high > other.min).all())


def _text_box(note: Any) -> Any:
    """The box of the text alone, without the line that leads to it."""
    note.get_window_extent()  # puts the text where it belongs
    text = require("matplotlib.text").Text
    return text.get_window_extent(note)


def _obstacles(ax: Any, scene: Scene, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (k, 2) of models, and of points on the lines between them."""
    parts = [_pixels(ax, points)]
    for _, rows in scene.paths + scene.projected_paths:
        line = _pixels(ax, line_points(points, rows))
        parts += [line[:-1] + share * (line[1:] - line[:-1]) for share in (0.25, 0.5, 0.75)]
    every = np.concatenate(parts)
    return every[:: -(-len(every) // _MAX_OBSTACLES)]


def _pixels(ax: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.stack(_flat(ax, points.T), axis=-1)
    return np.asarray(ax.transData.transform(flat), dtype=np.float64)


def _flat(ax: Any, axes: Any) -> Any:
    """Two coordinates as they are, three by the view of the picture."""
    if len(axes) == 2:
        return axes
    return require("mpl_toolkits.mplot3d.proj3d").proj_transform(*axes, ax.get_proj())[:2]
