"""Verbs that draw an embedding."""

from pathlib import Path
from typing import Annotated

import typer

import inpca
from inpca.cli.options import EnsemblePath, Output


def plot(
    path: EnsemblePath,
    figure: Annotated[str, typer.Argument(help="pairs, 3d, spectrum or page")] = "pairs",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="the file; default inpca.png, a page inpca.html"),
    ] = None,
    name: Annotated[str, typer.Option("--name", "-n", help="the embedding")] = "train",
    color: Annotated[
        str, typer.Option("--color", "-c", help="the column that gives the colour")
    ] = "",
) -> None:
    """Draw one figure of an embedding."""
    from inpca.plotting.report import save_figure

    ensemble = inpca.open_ensemble(path)
    embedding = inpca.load_embedding(ensemble.embeddings_path(name))
    target = output or Path("inpca.html" if figure == "page" else "inpca.png")
    typer.echo(save_figure(figure, target, embedding, embedding.models_, color=color or None))


def report(
    path: EnsemblePath,
    output: Output = Path("report.html"),
    name: Annotated[str, typer.Option("--name", "-n", help="the embedding")] = "train",
) -> None:
    """Write one page that stands alone: the picture, the spectrum, the numbers."""
    from inpca.plotting.report import build_report

    ensemble = inpca.open_ensemble(path)
    embedding = inpca.load_embedding(ensemble.embeddings_path(name))
    typer.echo(build_report(output, embedding, embedding.models_, title=path.name))


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(plot)
    app.command()(report)
