"""Verbs that embed models and project new ones."""

from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import Backend, Device, EnsemblePath, Json, Memory, Quiet, Workers
from inpca.cli.services import check_output, one_embedding, print_csv, print_table, say
from inpca.errors import InputError


def embed(
    path: EnsemblePath,
    name: Annotated[
        str, typer.Option("--name", "-n", help="which distances; also the result's name")
    ] = "train",
    components: Annotated[int, typer.Option("--components", "-k", help="coordinates to keep")] = 10,
    select: Annotated[
        str,
        typer.Option(
            "--select",
            help="only the models for which this query holds, in pandas' words, and the reference "
            "models",
        ),
    ] = "",
    references: Annotated[
        bool, typer.Option(help="keep the reference models (ignorance, truth), if there are any")
    ] = True,
    save_as: Annotated[
        str, typer.Option("--save-as", help="name of the result; default: that of the distances")
    ] = "",
    warm_start: Annotated[
        str, typer.Option("--warm-start", help="a former embedding to start the solver from")
    ] = "",
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            help="column that says how often a model counts; 0 projects it, like reference models",
        ),
    ] = "",
    weigh_references: Annotated[
        bool,
        typer.Option(
            "--weigh-references",
            help="with --weights, reference models (stored averages too) count by their values",
        ),
    ] = False,
    solver: Annotated[str, typer.Option(help="auto, dense or lanczos")] = "auto",
    tol: Annotated[float, typer.Option(help="residual to reach, relative to λ")] = 1e-6,
    memory: Memory = "",
    workers: Workers = 0,
    backend: Backend = "numba",
    device: Device = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="throw away the passes of a killed call")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed the models of a finished distance matrix; print eigenvalues and explained stress.

    Each pass over the distances is kept until the embedding is saved: a killed call goes on.
    With --select only some of the models, without computing distances again; the reference models
    stay among them unless --no-references is given. Name that result with --save-as.
    """
    if (select or not references) and not save_as:
        option = "--select" if select else "--no-references"
        raise InputError(f"`{option}` makes another embedding; name it with `--save-as`.")
    from inpca.embedding.checkpoint import KrylovCheckpoint
    from inpca.embedding.selection import without_references
    from inpca.summary import describe_embedding

    ensemble = inpca.open_ensemble(path)
    matrix = inpca.TiledMatrix.open(ensemble.distances_path(name))
    result = ensemble.embeddings_path(save_as or name)
    former = ensemble.embeddings_path(warm_start) if warm_start else None
    counts = _column(matrix, weights) if weigh_references else (weights or None)
    models = (select or None) if references else without_references(matrix, select or None)
    passes = result.with_suffix(".passes")
    with one_embedding(ensemble, result, held=passes):  # two solves would mix their passes
        if restart:
            KrylovCheckpoint.at(passes, {}).clear()
        embedding = inpca.InPCA(
            n_components=components,
            metric="precomputed",
            solver=solver,
            tol=tol,
            checkpoint=passes,
            memory=memory or None,
            executor=workers or None,
            progress=not quiet,
            backend=backend,
            device=device,
        ).fit(matrix, models=models, init=former, weights=counts)
        if result.exists():
            say(f"replacing the embedding {result.name}", err=True)
        embedding.save(result, overwrite=True)
    if remark := _remark_on_capped(matrix, embedding):
        say(remark, err=True)
    if weights:
        say(_weighted_line(embedding.weights_, weights), err=True)
    print_table(describe_embedding(embedding), as_json)


def _column(matrix: Any, name: str) -> Any:
    """A column of the models table as it is, by model; reference models that have none weigh 0."""
    if not name:
        raise InputError("`--weigh-references` needs a column; name it with `--weights`.")
    import pandas as pd

    from inpca.embedding.weights import is_reference

    models = matrix.models
    if models is None or name not in models or not pd.api.types.is_numeric_dtype(models[name]):
        return name  # refused with the other columns that are none
    return models[name].mask(is_reference(models) & models[name].isna().to_numpy(), 0)


def _remark_on_capped(matrix: Any, embedding: Any) -> str:
    """Which of the embedded runs are behind contributions that the distances capped."""
    from inpca.distance.capped import read_capped

    found = read_capped(matrix)
    if found is None or embedding.models_ is None:
        return ""
    shown = found.among(set(embedding.models_["run"]))
    return f"{shown.sentence()} --save-as NAME" if shown.shares else ""


def _weighted_line(weights: Any, column: str) -> str:
    """That the embedding is a weighted one, which its table does not show."""
    n_projected = int((weights == 0).sum())
    return (
        f"weighted by {column!r}: {len(weights) - n_projected:,} models count, {n_projected:,} of "
        "weight 0 are projected; eigenvalues and stress are weighted"
    )


def project(
    path: EnsemblePath,
    select: Annotated[str, typer.Option("--select", help="which models to project")],
    name: Annotated[str, typer.Option("--name", "-n", help="the embedding")] = "train",
    source: Annotated[
        Path | None, typer.Option("--from", help="another ensemble that holds the models")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file")] = None,
    memory: Memory = "",
    quiet: Quiet = False,
) -> None:
    """Coordinates of new models in an embedding that exists, as CSV."""
    check_output(output)
    from inpca.summary import coordinates_table

    embedding = inpca.load_embedding(inpca.open_ensemble(path).embeddings_path(name))
    embedding.set_params(memory=memory or None, progress=not quiet)
    models = inpca.open_ensemble(source or path).select(select)
    table = coordinates_table(embedding.transform(models), embedding.signature_, models.models)
    print_csv(table, output)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(embed)
    app.command()(project)
