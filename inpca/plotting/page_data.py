"""What the interactive page draws, as plain numbers and words for `page.js`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.plotting import style
from inpca.plotting.scene import Path, Scene, broken_line
from inpca.plotting.style import EmbeddingLike, percent
from inpca.plotting.table import Column, colorable, reference_name

# More coordinates than these are not offered: nobody looks at them, and the page would be large.
MAX_AXES = 10
# Names of projected runs are written into the picture up to this many.
_MAX_LABELS = 12
_FIRST = ("architecture", "model_name", "optimizer")


def picture_data(
    embedding: EmbeddingLike, scene: Scene, color_columns: Sequence[str] | None, max_models: int
) -> dict[str, Any]:
    """Everything that `page.js` reads, ready for JSON; models are thinned to `max_models`."""
    columns = _columns(scene, color_columns)
    lines, thinned = _thin(scene.paths, scene.embedded, max_models)
    later, later_thinned = _thin(scene.projected_paths, scene.projected, max_models)
    references = np.flatnonzero(scene.reference)
    kept = np.unique(np.concatenate([lines[lines >= 0], later[later >= 0], references]))
    place = np.full(len(scene.points) + 1, -1)
    place[kept] = np.arange(len(kept))
    keys = scene.keys
    kind = np.where(scene.reference, 1, np.where(scene.projected, 2, 0))
    return {
        "n_rows": len(kept),
        "points": [_rounded(axis) for axis in scene.points[kept, :MAX_AXES].T],
        "names": [keys[row] for row in kept],
        "kind": kind[kept].tolist(),
        "lines": place[lines].tolist(),
        "projected_lines": place[later].tolist(),
        "projected_labels": _labels(scene, place),
        "references": [
            {
                "row": int(place[row]),
                "key": keys[row],
                "name": reference_name(keys[row]),
                "symbol": style.REFERENCE_SHAPES.get(keys[row], style.OTHER_REFERENCE).symbol,
            }
            for row in np.flatnonzero(scene.named)
        ],
        "crowd": {
            "rows": place[np.flatnonzero(scene.crowd)].tolist(),
            "name": scene.crowd_name,
            "symbol": style.OTHER_REFERENCE.symbol,
        },
        "columns": [_column_data(column, offered, kept) for column, offered in columns],
        "start_column": _start(scene, color_columns),
        "axes": _axes(embedding, min(scene.points.shape[1], MAX_AXES)),
        "spectrum": _spectrum(embedding),
        "look": _look(),
        "note": " ".join(filter(None, [thinned, later_thinned])),
    }


def default_color(scene: Scene) -> str | None:
    """The column to begin with: the architecture, or else the first category, or else none."""
    names = colorable(scene.table)
    for name in _FIRST:
        if name in names:
            return name
    few = (scene.column(name) for name in names if name not in ("run", "checkpoint"))
    for column in few:
        if column.kind == "category" and 1 < len(column.categories) <= style.MAX_CATEGORIES:
            return column.name
    return "run" if "run" in names and len(scene.paths) <= style.MAX_CATEGORIES else None


def _columns(scene: Scene, color_columns: Sequence[str] | None) -> list[tuple[Column, bool]]:
    """All columns for the hover text, each with whether it is offered as a colour."""
    offered = colorable(scene.table) if color_columns is None else list(color_columns)
    rest = [name for name in colorable(scene.table) if name not in offered]
    return [(scene.column(name), name in offered) for name in offered + rest]


def _start(scene: Scene, color_columns: Sequence[str] | None) -> str | None:
    if color_columns is None:
        return default_color(scene)
    return color_columns[0] if color_columns else None


def _thin(paths: list[Path], members: NDArray[np.bool_], most: int) -> tuple[NDArray[np.intp], str]:
    """Rows of the lines to draw, −1 between runs, and a note where models were left out.

    First and last checkpoint of a run are always kept, the others evenly. Models of no run are
    lines of one point.
    """
    joined = np.zeros(len(members), dtype=bool)
    for _, rows in paths:
        joined[rows] = True
    alone = [("", np.array([row])) for row in np.flatnonzero(members & ~joined)]
    everything = [*paths, *alone]
    total = int(members.sum())
    if total <= most:
        return broken_line(everything), ""
    chosen = [everything[k] for k in _evenly(len(everything), max(1, most // 2))]
    each = max(2, most // len(chosen))
    thinned = [(run, rows[_evenly(len(rows), each)]) for run, rows in chosen]
    shown = sum(len(rows) for _, rows in thinned)
    where = f"at most {each} checkpoints of each run"
    if len(chosen) < len(everything):
        where += f", and {len(chosen):,} of {len(everything):,} runs, evenly chosen"
    return broken_line(thinned), (
        f"Thinned: {shown:,} of {total:,} models are drawn ({where}; first and last checkpoints "
        "are kept). The embedding, its eigenvalues and its explained stress are those of all."
    )


def _evenly(n_items: int, n_kept: int) -> NDArray[np.intp]:
    """Evenly spaced positions, first and last included."""
    if n_items <= n_kept:
        return np.arange(n_items)
    return np.unique(np.linspace(0, n_items - 1, n_kept).round().astype(np.intp))


def _labels(scene: Scene, place: NDArray[np.intp]) -> list[dict[str, Any]]:
    """Where the name of each projected run is written: in its middle, the ends are crowded."""
    if len(scene.projected_paths) > _MAX_LABELS:
        return []
    drawn = [(run, rows[place[rows] >= 0]) for run, rows in scene.projected_paths]
    return [
        {"name": run, "row": int(place[rows[len(rows) // 2]])} for run, rows in drawn if len(rows)
    ]


def _column_data(column: Column, offered: bool, kept: NDArray[np.intp]) -> dict[str, Any]:
    values = column.values[kept]
    number = column.kind == "number"
    return {
        "name": column.name,
        "kind": column.kind,
        "values": _rounded(values) if number else values.astype(int).tolist(),
        "categories": list(column.categories),
        "follows_runs": column.follows_runs,
        "suggest_log": column.suggests_log,
        "offered": offered,
    }


def _rounded(values: NDArray[np.float64]) -> list[float | None]:
    """Six significant digits, as JSON has them; null for NaN."""
    return [None if value != value else _short(float(f"{value:.6g}")) for value in values.tolist()]


def _short(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _axes(embedding: EmbeddingLike, count: int) -> list[dict[str, str]]:
    values = np.asarray(embedding.eigenvalues_)
    return [
        {
            "label": style.axis_label(embedding, number, join="<br>"),
            "short": f"{number} ({style.character(values[number - 1])})",
        }
        for number in range(1, count + 1)
    ]


def _spectrum(embedding: EmbeddingLike) -> list[dict[str, Any]]:
    root, eq8 = style.stress_of(embedding, "root"), style.stress_of(embedding, "eq8")
    values = np.asarray(embedding.eigenvalues_, dtype=np.float64)
    return [
        {
            "rank": rank,
            "eigenvalue": float(value),
            "sign": int(np.sign(value)),
            "root": percent(root[rank - 1]),
            "eq8": percent(eq8[rank - 1]),
        }
        for rank, value in enumerate(values, start=1)
    ]


def _look() -> dict[str, Any]:
    return {
        "colors": style.COLORS,
        "symbols": [shape.symbol for shape in style.SHAPES],
        "no_value": style.NO_VALUE,
        "no_value_symbol": style.NO_VALUE_SHAPE.symbol,
        "projected_symbol": style.PROJECTED_SHAPE.symbol,
        "space_like": style.SPACE_LIKE,
        "time_like": style.TIME_LIKE,
        "max_categories": style.MAX_CATEGORIES,
    }
