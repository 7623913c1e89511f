"""The interactive page: one HTML file that needs no network and no server.

Python writes the numbers once, as JSON; `page.js` draws them with plotly, whose source is put
into the page. A content security policy in the page forbids every request.
"""

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.durable import write_result
from inpca.errors import InputError
from inpca.plotting import style
from inpca.plotting.divergence import divergence_words, metric_of
from inpca.plotting.page_data import picture_data
from inpca.plotting.scene import Scene, read_scene
from inpca.plotting.style import EmbeddingLike, percent, require
from inpca.plotting.table import reference_name


def interactive_page(
    path: str | os.PathLike[str],
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    *,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    color_columns: Sequence[str] | None = None,
    title: str = "InPCA",
    max_models: int = 10_000,
    remark: str = "",
) -> Path:
    """Write one self-contained page: the models in three dimensions, the spectrum, the words.

    Parameters
    ----------
    path : the file to write, replaced as a whole
    embedding : fitted `InPCA`, or anything with its attributes; at least 2 components
    models : table with one row per embedded model; see `inpca.plotting.table`
    projected : (k, n_components) coordinates of held-out models, as `InPCA.transform` gives them
    projected_models : their table, k rows
    color_columns : columns offered for colour, the first one shown; all by default. The others
        still appear when the pointer is on a model.
    title : heading of the page
    max_models : larger ensembles are thinned to about this many models; the page says so
    remark : what the page should say of the models at its top

    Returns
    -------
    The path that was written.

    Raises
    ------
    InputError
        If tables, coordinates and columns do not fit each other, the folder does not exist, or
        the path ends in something else than .html.
    """
    page_path(path)
    scene = read_scene(embedding, models, projected, projected_models)
    picture = picture_data(embedding, scene, color_columns, max_models)
    body = "\n".join(
        [lead(scene), note(remark), note(picture["note"]), picture_html(embedding, scene)]
    )
    return write_page(path, title, body, picture)


def write_page(path: str | os.PathLike[str], title: str, body: str, data: dict[str, Any]) -> Path:
    """Write a page around `body`, which holds the elements of `picture_html`."""
    target = page_path(path)
    here = Path(__file__).parent
    read = {name: (here / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js")}
    # "</script>" inside a name would end the script; "<" is the only character that can begin it.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    page = Template(read["page.html"]).substitute(
        title=escape(title),
        css=read["page.css"],
        body=body,
        data=text.replace("<", "\\u003c"),
        plotly=require("plotly.offline").get_plotlyjs(),
        script=read["page.js"],
    )
    write_result(target, page.encode("utf-8", "backslashreplace"))
    return target


def page_path(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that is no place for a page, before anything is computed for it."""
    target = Path(path)
    if target.suffix.lower() != ".html":
        raise InputError(
            f"`path` must end in .html for a page, not {target.name!r}; use {target.stem}.html, "
            "or draw pairs, 3d or spectrum."
        )
    if not target.parent.is_dir():
        raise InputError(f"`path` is in a folder that does not exist, {target.parent}; make it.")
    return target


def lead(scene: Scene) -> str:
    """One sentence of what is on the page."""
    parts = [f"{_count(int(scene.embedded.sum()), 'model')} of {_count(len(scene.paths), 'run')}"]
    if not scene.paths:
        parts = [_count(int(scene.embedded.sum()), "model")]
    if scene.projected.any():
        held = _count(int(scene.projected.sum()), "held-out model")
        parts.append(f"{held} of {_count(len(scene.projected_paths), 'run')}, projected")
    names = [reference_name(scene.keys[row]) for row in np.flatnonzero(scene.named)]
    names += [scene.crowd_name] if scene.crowd.any() else []
    return f'<p class="lead">{escape("; ".join(parts + names))}.</p>'


def note(text: str) -> str:
    """A paragraph that cannot be overlooked; nothing for no text."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def picture_html(embedding: EmbeddingLike, scene: Scene) -> str:
    """Controls, picture, spectrum and explanation; `page.js` finds them by their ids."""
    template = Template((Path(__file__).parent / "picture.html").read_text("utf-8"))
    values = np.asarray(embedding.eigenvalues_, dtype=np.float64)
    shown = min(3, len(values))
    return template.substitute(
        stress_table=stress_table(embedding),
        shown=shown,
        distance=escape(divergence_words(metric_of(embedding))),
        root=percent(style.stress_of(embedding, "root")[shown - 1]),
        eq8=percent(style.stress_of(embedding, "eq8")[shown - 1]),
        time_like=_sign_words(values),
        projected=_PROJECTED_WORDS if scene.projected.any() else "",
    )


_PROJECTED_WORDS = (
    "Diamonds with a black edge, joined by black lines, are held-out models: they were placed "
    "among the others afterwards and did not move them."
)


def stress_table(embedding: EmbeddingLike) -> str:
    """Explained stress at ranks 1, 3, 10, 25, 50 by both definitions, as an HTML table."""
    root, eq8 = style.stress_of(embedding, "root"), style.stress_of(embedding, "eq8")
    rows = [
        [str(rank), percent(root[rank - 1]), percent(eq8[rank - 1])]
        for rank in style.stress_ranks(len(root))
    ]
    return html_table("Explained stress", ["coordinates", "root form", "Eq. 8"], rows)


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts as HTML."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _sign_words(eigenvalues: NDArray[np.float64]) -> str:
    zero = _listed(eigenvalues == 0)
    has_none = f" A coordinate of eigenvalue zero has no sign; here: {zero}." if zero else ""
    time_like = _listed(eigenvalues < 0)
    if not time_like:
        return f"None of the {len(eigenvalues)} kept coordinates is time-like here.{has_none}"
    noun = "coordinate" if (eigenvalues < 0).sum() == 1 else "coordinates"
    return f"Time-like here: {noun} {time_like}, of {len(eigenvalues)}.{has_none}"


def _listed(chosen: NDArray[np.bool_]) -> str:
    """Numbers of the chosen coordinates, the first ten."""
    numbers = [str(k + 1) for k in np.flatnonzero(chosen)]
    return ", ".join(numbers[:10]) + (" …" if len(numbers) > 10 else "")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
