"""The report: the interactive picture, the figures for print and the numbers, on one page."""

import base64
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.durable import write_result
from inpca.errors import InputError
from inpca.plotting import figures, style
from inpca.plotting.page import (
    html_table,
    interactive_page,
    lead,
    note,
    page_path,
    picture_html,
    write_page,
)
from inpca.plotting.page_data import default_color, picture_data
from inpca.plotting.scene import Scene, read_scene
from inpca.plotting.style import EmbeddingLike, percent, require
from inpca.plotting.table import Column, colorable

# Coordinates in the table of numbers.
_MAX_ROWS = 50
# Metrics by which a picture is coloured in the report, the first that exists.
_LOSSES = ("train_loss", "test_loss", "loss")


def build_report(
    path: str | os.PathLike[str],
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    *,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    color_columns: Sequence[str] | None = None,
    title: str = "InPCA",
    numbers: Mapping[str, object] | None = None,
    more: Mapping[str, Any] | None = None,
    max_models: int = 10_000,
    remark: str = "",
) -> Path:
    """Write one self-contained page with the interactive picture, the figures and the numbers.

    Parameters
    ----------
    numbers : more lines for the table of numbers, name → value
    more : further figures of matplotlib, caption → figure; they are closed
    path, embedding, models, projected, projected_models, color_columns, title, max_models, remark :
        see `inpca.plotting.page.interactive_page`

    Returns
    -------
    The path that was written.

    Raises
    ------
    InputError
        If tables, coordinates and columns do not fit each other, or the folder does not exist.
    """
    page_path(path)
    scene = read_scene(embedding, models, projected, projected_models)
    data = picture_data(embedding, scene, color_columns, max_models)
    drawn = partial(_figures, embedding, models, projected, projected_models)
    body = [
        lead(scene),
        note(remark),
        note(data["note"]),
        picture_html(embedding, scene),
        "<h2>Figures</h2>",
        *drawn(scene, data["start_column"]),
        *(_picture(figure, caption) for caption, figure in (more or {}).items()),
        "<h2>Numbers</h2>",
        _overview(embedding, scene, numbers or {}),
        _coordinates(embedding),
        *_outcomes(scene),
    ]
    return write_page(path, title, "\n".join(body), data)


def save_figure(
    figure: str,
    path: str | os.PathLike[str],
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    *,
    color: str | None = None,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    dpi: int = 200,
    remark: str = "",
) -> Path:
    """Draw one picture into a file: "pairs", "3d", "spectrum" or "page".

    Parameters
    ----------
    figure : which picture; "page" writes HTML and needs the ending .html, the others write what
        the ending of `path` says
    color : column to colour by; chosen by the table if not given
    remark : what a page should say of the models at its top

    Raises
    ------
    InputError
        For an unknown `figure`, an ending that does not fit it, a missing column.
    """
    others: dict[str, Any] = {"projected": projected, "projected_models": projected_models}
    target = Path(path)
    if figure == "page":
        title = target.stem
        columns = _color_first(models, color)
        return interactive_page(
            target, embedding, models, color_columns=columns, title=title, remark=remark, **others
        )
    chosen = color or default_color(read_scene(embedding, models, **others))
    drawings: dict[str, Callable[[], Any]] = {
        "pairs": lambda: _pairs(embedding, models, chosen, **others),
        "3d": lambda: _three(embedding, models, chosen, **others),
        "spectrum": lambda: _spectrum(embedding),
    }
    if figure not in drawings:
        raise InputError(f"`figure` must be pairs, 3d, spectrum or page, not {figure!r}.")
    check_figure_path(target)
    return write_figure(drawings[figure](), target, dpi)


def write_figure(drawn: Any, path: str | os.PathLike[str], dpi: int = 200) -> Path:
    """Write a figure of matplotlib in the format of the ending of `path`, whole or not at all.

    Raises
    ------
    InputError
        For an ending that matplotlib does not write, or a folder that does not exist.
    """
    target = Path(path)
    check_figure_path(target, drawn.canvas.get_supported_filetypes())
    write_result(target, _rendered(drawn, target.suffix.lstrip(".").lower(), dpi))
    require("matplotlib.pyplot").close(drawn)
    return target


def check_figure_path(target: Path, known: Iterable[str] | None = None) -> None:
    """Refuse a path that no figure can be written to: before it is drawn, which may take long."""
    if known is None:
        known = require("matplotlib.backend_bases").FigureCanvasBase.filetypes
    if target.suffix.lstrip(".").lower() not in known:
        raise InputError(
            f"`path` must end in one of .{', .'.join(known)} for a figure, not {target.name!r}; "
            "only the figure 'page' is written as .html."
        )
    if not target.parent.is_dir():
        raise InputError(f"`path` is in a folder that does not exist, {target.parent}; make it.")


# --- figures ---------------------------------------------------------------------------------


def _figures(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    projected: ArrayLike | None,
    projected_models: pd.DataFrame | None,
    scene: Scene,
    color: str | None,
) -> list[str]:
    others: dict[str, Any] = {"projected": projected, "projected_models": projected_models}
    color = _drawable(scene, color)
    said = f", coloured by {color}" if color else ""
    parts = [
        _picture(
            _pairs(embedding, models, color, **others),
            f"Pairs of the first coordinates{said}. Lines join the checkpoints of a run.",
        )
    ]
    loss = next((name for name in _LOSSES if name in colorable(scene.table)), None)
    if loss is not None and loss != color:
        drawn = _pairs(embedding, models, loss, **others)
        parts.append(_picture(drawn, f"The same, coloured by {loss}."))
    if scene.points.shape[1] >= 3:
        drawn = _three(embedding, models, color, **others)
        parts.append(_picture(drawn, f"The first three coordinates{said}."))
    words = "Eigenvalues of W by magnitude. Time-like (negative) ones are diamonds."
    return [*parts, _picture(_spectrum(embedding), words)]


def _pairs(embedding: EmbeddingLike, models: pd.DataFrame, color: str | None, **rest: Any) -> Any:
    n_pairs = 3 if np.shape(embedding.embedding_)[1] >= 3 else 1
    drawn = _figure(**figures.pairs_paper(n_pairs))
    return figures.plot_pairs(embedding, models, color, figure=drawn, **rest)


def _three(embedding: EmbeddingLike, models: pd.DataFrame, color: str | None, **rest: Any) -> Any:
    drawn = _figure((8, 6))
    figures.plot_3d(embedding, models, color, figure=drawn, **rest)
    return drawn


def _spectrum(embedding: EmbeddingLike) -> Any:
    drawn = _figure((7, 4.8))
    figures.plot_spectrum(embedding, ax=drawn.add_subplot())
    return drawn


def _figure(figsize: tuple[float, float], layout: Any = "constrained") -> Any:
    """A figure that pyplot does not know of, so that nothing has to be closed."""
    return require("matplotlib.figure").Figure(figsize=figsize, layout=layout)


def _rendered(drawn: Any, ending: str, dpi: int) -> bytes:
    buffer = io.BytesIO()
    # "tight" would count the empty corners of three-dimensional axes, which are cut already.
    cut = None if any(hasattr(ax, "get_zlim") for ax in drawn.axes) else "tight"
    drawn.savefig(buffer, format=ending, dpi=dpi, bbox_inches=cut, facecolor="white")
    return buffer.getvalue()


def _picture(drawn: Any, caption: str) -> str:
    image = base64.b64encode(_rendered(drawn, "png", 130)).decode("ascii")
    require("matplotlib.pyplot").close(drawn)
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{image}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _drawable(scene: Scene, color: str | None) -> str | None:
    """`color` if a figure for print can show it; a page offers more values than paper can."""
    if color is None:
        return None
    column = scene.column(color)
    return color if len(column.categories) <= style.MAX_CATEGORIES else default_color(scene)


def _color_first(models: pd.DataFrame, color: str | None) -> list[str] | None:
    if color is None:
        return None
    return [color, *(name for name in colorable(models) if name != color)]


# --- numbers ---------------------------------------------------------------------------------


def _overview(embedding: EmbeddingLike, scene: Scene, numbers: Mapping[str, object]) -> str:
    values = np.asarray(embedding.eigenvalues_)
    rows = [
        ["models in the embedding", f"{len(scene.points) - int(scene.projected.sum()):,}"],
        ["of which reference models", f"{int(scene.reference.sum()):,}"],
        ["runs", f"{len(scene.paths):,}"],
        ["models projected", f"{int(scene.projected.sum()):,}"],
        ["coordinates kept", f"{len(values)}"],
        ["of which time-like", f"{int((values < 0).sum())}"],
        ["of which zero", f"{int((values == 0).sum())}"],
    ]
    rows += [[str(name), _told(value)] for name, value in numbers.items()]
    return html_table("Overview", ["what", "how many"], rows)


def _coordinates(embedding: EmbeddingLike) -> str:
    values = np.asarray(embedding.eigenvalues_, dtype=np.float64)
    share = style.shares(embedding)
    root, eq8 = style.stress_of(embedding, "root"), style.stress_of(embedding, "eq8")
    residuals = getattr(embedding, "residuals_", None)
    head = ["coordinate", "eigenvalue", "signature", "share of Σλ²", "root form", "Eq. 8"]
    rows = [
        [
            str(k + 1),
            f"{values[k]:.6g}",
            style.character(values[k]),
            percent(share[k]),
            percent(root[k]),
            percent(eq8[k]),
        ]
        for k in range(min(len(values), _MAX_ROWS))
    ]
    if residuals is not None:
        head.append("residual")
        for row, residual in zip(rows, np.asarray(residuals, dtype=np.float64)):
            row.append(f"{residual:.1e}")
    more = f"; the first {_MAX_ROWS} of {len(values)}" if len(values) > _MAX_ROWS else ""
    caption = f"Coordinates, with the explained stress up to each of them{more}"
    return html_table(caption, head, rows)


def _outcomes(scene: Scene) -> list[str]:
    """Means over the last checkpoints of the runs, for each value of the first category."""
    color = default_color(scene)
    ends = np.array([rows[-1] for _, rows in scene.paths + scene.projected_paths], dtype=np.intp)
    if color is None or not len(ends):
        return []
    column = scene.column(color)
    metrics = [c for c in map(scene.column, colorable(scene.table)) if _is_metric(c)]
    if column.kind != "category" or not metrics:
        return []
    rows = []
    for code, name in enumerate(column.categories):
        mine = ends[column.values[ends] == code]
        means = [_mean(metric.values[mine]) for metric in metrics]
        rows.append([name, f"{len(mine)}", *means])
    caption = "Last checkpoints of the runs, held-out ones included: means"
    return [html_table(caption, [color, "runs", *(m.name for m in metrics)], rows)]


def _is_metric(column: Column) -> bool:
    return column.kind == "number" and not column.follows_runs


def _mean(values: Any) -> str:
    known = values[~np.isnan(values)]
    return f"{known.mean():.4g}" if len(known) else "–"


def _told(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)
