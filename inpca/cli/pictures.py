"""Verbs that draw an ensemble."""

from pathlib import Path
from typing import Annotated

import typer

import inpca
from inpca.cli.options import EnsemblePath, Memory, Output, Quiet, Workers

EmbeddingName = Annotated[str, typer.Option("--name", "-n", help="the embedding")]
Color = Annotated[str, typer.Option("--color", "-c", help="the column that gives the colour")]


def plot(
    path: EnsemblePath,
    figure: Annotated[
        str,
        typer.Argument(
            help="pairs, 3d, manifold, spectrum, corner, counts, progress-error, progress-epoch, "
            "explained, samples, joint, four-point, dendrogram, trajectories, importance, tubes, "
            "shares, or page (interactive)"
        ),
    ] = "pairs",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="the file; default <figure>.png, page.html"),
    ] = None,
    name: EmbeddingName = "train",
    color: Color = "",
    memory: Memory = "",
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Draw one figure of an ensemble. What it needs beside the embedding is computed."""
    from inpca.plotting.gallery import draw, picture_called
    from inpca.plotting.report import check_figure_path, save_figure, write_figure
    from inpca.plotting.subject import Subject

    subject = Subject(
        inpca.open_ensemble(path), name, color, memory or None, workers or None, not quiet
    )
    if figure == "page":
        target = output or Path("page.html")
        typer.echo(
            save_figure(figure, target, subject.embedding, subject.models, color=color or None)
        )
        return
    target = output or Path(f"{figure}.png")
    picture_called(figure)
    check_figure_path(target)
    typer.echo(write_figure(draw(figure, subject), target))


def report(
    path: EnsemblePath,
    output: Output = Path("report.html"),
    name: EmbeddingName = "train",
    color: Color = "",
    brief: Annotated[
        bool, typer.Option("--brief", help="only the figures of the embedding itself")
    ] = False,
    memory: Memory = "",
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Write one page that stands alone: every figure that the ensemble allows, the numbers."""
    from inpca.plotting.gallery import GALLERY, available, draw, too_heavy
    from inpca.plotting.page import page_path
    from inpca.plotting.report import build_report
    from inpca.plotting.subject import Subject
    from inpca.reporting import reporting

    page_path(output)
    subject = Subject(inpca.open_ensemble(path), name, color, memory or None, workers or None)
    more = {}
    names = [] if brief else [one for one in available(subject) if one not in _IN_EVERY_REPORT]
    for one in [one for one in names if too_heavy(one, subject)]:
        typer.echo(f"left out, it takes long: inpca plot {path} {one}", err=True)
        names.remove(one)
    with reporting(not quiet, "report") as tell:
        for done, one in enumerate(names):
            tell(done, len(names), one)
            more[GALLERY[one].caption] = draw(one, subject)
        tell(len(names), len(names), "done")
    typer.echo(
        build_report(
            output,
            subject.embedding,
            subject.models,
            title=path.name,
            more=more,
        )
    )


# What `build_report` draws of any embedding.
_IN_EVERY_REPORT = {"pairs", "3d", "spectrum"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(plot)
    app.command()(report)
