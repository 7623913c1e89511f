"""Verbs that draw an ensemble."""

from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import EnsemblePath, Memory, Output, Query, Quiet, Workers
from inpca.cli.services import say
from inpca.errors import InputError

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
    select: Query = "",
    away: Annotated[
        float | None,
        typer.Option(help="counts: how far from truth, in nats per sample; default 2"),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(help="corner: how near to a point of the geodesic; default 0.15"),
    ] = None,
    at: Annotated[
        str, typer.Option(help="four-point, explained: two values of progress; default 0.3,0.7")
    ] = "",
    sigma: Annotated[
        float | None,
        typer.Option(help="four-point, explained: width of the averages; default 0.05"),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            "--points",
            "-p",
            help="dendrogram, trajectories, importance, tubes: values of s; default: those that "
            "are stored, or 25",
        ),
    ] = None,
    memory: Memory = "",
    workers: Workers = 0,
    quiet: Quiet = False,
) -> None:
    """Draw one figure of an ensemble. What it needs beside the embedding is computed."""
    from inpca.plotting.gallery import check_color, draw, refuse_unheeded
    from inpca.plotting.report import check_figure_path, save_figure, write_figure
    from inpca.plotting.settings import Settings
    from inpca.plotting.subject import Subject
    from inpca.reporting import reporting

    numbers: dict[str, Any] = {
        "select": select or None,
        "away": away,
        "within": within,
        "at": _pair(at) if at else None,
        "sigma": sigma,
        "points": points,
    }
    given = {option: value for option, value in numbers.items() if value is not None}
    target = output or Path("page.html" if figure == "page" else f"{figure}.png")
    if figure != "page":
        refuse_unheeded(figure, [*given, *(["color"] if color else [])])
        check_figure_path(target)
    elif given:
        raise InputError(
            f"`--{next(iter(given))}` says nothing to the page, which shows every model of the "
            "embedding; leave it out."
        )
    settings, ensemble = Settings(**given), inpca.open_ensemble(path)
    # One bar for everything that a picture computes, whatever that is.
    with reporting(not quiet, figure) as tell:
        subject = Subject(
            ensemble, name, color, memory or None, workers or None, tell, settings=settings
        )
        if figure == "page":
            written = save_figure(
                figure,
                target,
                subject.embedding,
                subject.models,
                color=color or None,
                remark=subject.remark,
            )
        else:
            check_color(figure, subject)
            written = write_figure(draw(figure, subject), target)
    say(written)


def _pair(text: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"`--at` must be two values of progress such as 0.3,0.7, not {text!r}."
        ) from error
    return first, second


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
        say(f"left out, it takes long: inpca plot {path} {one}", err=True)
        names.remove(one)
    with reporting(not quiet, "report") as tell:
        for done, one in enumerate(names):
            tell(done, len(names), one)
            more[GALLERY[one].caption] = draw(one, subject)
        tell(len(names), len(names), "done")
    say(
        build_report(
            output,
            subject.embedding,
            subject.models,
            title=path.name,
            more=more,
            remark=subject.remark,
        )
    )


# What `build_report` draws of any embedding.
_IN_EVERY_REPORT = {"pairs", "3d", "spectrum"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(plot)
    app.command()(report)
