"""The command line: each verb parses, calls one function of the library, prints.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 ok, 2 usage,
3 bad input, 4 damaged store, 5 resources, 130 interrupted (the errors carry their own code).
Verbs that make ensembles (`demo`, `import`) come from the entry-point group `inpca.commands`.
"""

import json
import os
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

import inpca
from inpca.errors import InpcaError, InputError

if TYPE_CHECKING:
    from inpca.distance.plan import Plan

app = typer.Typer(
    name="inpca",
    help="One picture of every model you ever trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EnsemblePath = Annotated[Path, typer.Argument(help="the ensemble's folder", show_default=False)]
SampleSet = Annotated[str, typer.Option("--sample-set", "-s", help="which sample set")]
Name = Annotated[str, typer.Option("--name", "-n", help="name of the result; default: sample set")]
Query = Annotated[
    str,
    typer.Option("--select", help="only the models for which this query holds, in pandas' words"),
]
References = Annotated[bool, typer.Option(help="put ignorance and truth among the models")]
Memory = Annotated[
    str,
    typer.Option("--memory", "-m", help="memory to use, e.g. 4GB; default: half of what is free"),
]
Workers = Annotated[
    int, typer.Option("--workers", "-w", min=0, help="threads; 0: one for each core")
]
TileSize = Annotated[int, typer.Option(help="rows of a tile on disk; 0: chosen from the size")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress on standard error")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
Output = Annotated[Path, typer.Option("--output", "-o", help="the file to write")]


def main() -> None:
    """Entry point of the program `inpca`: errors become one line and an exit code."""
    for entry in entry_points(group="inpca.commands"):
        entry.load()(app)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except InpcaError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C lets running tasks come to their end; the second does not wait for them."""
    signal.signal(signal.SIGINT, _stop_at_once)
    typer.echo("interrupted: finishing what runs; Ctrl-C again stops at once", err=True)
    raise KeyboardInterrupt


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    # Whatever is half done is not visible on disk: there is nothing to tidy up.
    os._exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inpca {inpca.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """One picture of every model you ever trained."""


# --- looking ---------------------------------------------------------------------------------


@app.command()
def info(path: EnsemblePath, as_json: Json = False) -> None:
    """Say what an ensemble holds: sample sets, runs, columns, distances, embeddings."""
    from inpca.summary import describe_ensemble, ensemble_lines

    record = describe_ensemble(inpca.open_ensemble(path))
    _print_record(record, ensemble_lines(record), as_json)


@app.command()
def check(path: EnsemblePath, as_json: Json = False, quiet: Quiet = False) -> None:
    """Read every byte of an ensemble against its checksums and name what is damaged.

    Exit code 4 if anything is.
    """
    from inpca.summary import check_ensemble

    damages = check_ensemble(inpca.open_ensemble(path), progress=not quiet)
    if as_json:
        _print_json([{"key": damage.key, "reason": damage.reason} for damage in damages])
    else:
        for damage in damages:
            typer.echo(f"{damage.key}: {damage.reason}")
        typer.echo(f"{len(damages)} damaged" if damages else "no damage found", err=True)
    if damages:
        raise typer.Exit(4)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has: cores, memory, disk, BLAS, GPU, versions."""
    from inpca.backend import machine
    from inpca.summary import record_lines

    record = machine().to_dict()
    _print_record(record, record_lines(record), as_json)


# --- computing -------------------------------------------------------------------------------


@app.command()
def plan(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    select: Query = "",
    references: References = True,
    memory: Memory = "",
    tile_size: TileSize = 0,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Say what `distances` would take: reads, memory, disk, time. Refuses what does not fit."""
    from inpca.distance.planner import plan_distances

    predictions = _models(path, select, references).predictions(sample_set)
    plan: Plan = plan_distances(
        predictions.shape,
        memory=memory or None,
        tile_size=tile_size or None,
        n_workers=workers or None,
        folder=path,
        chunk_samples=predictions.chunk_samples,
    )
    _print_record(plan.as_record(), plan.describe(), as_json)


@app.command()
def distances(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    name: Name = "",
    select: Query = "",
    references: References = True,
    metric: Annotated[str, typer.Option(help="the divergence")] = "bhattacharyya",
    memory: Memory = "",
    tile_size: TileSize = 0,
    workers: Workers = 0,
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="a Dask cluster's address, e.g. tcp://host:8786")
    ] = "",
    part: Annotated[
        str, typer.Option("--part", help="compute part i/k, e.g. 3/16; others do the rest")
    ] = "",
    extend: Annotated[
        bool, typer.Option("--extend", help="keep what is there, add the models it lacks")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what is there")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="verify what is there, recompute what is damaged")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compute the distance matrix of all models, or go on where a former call ended."""
    ensemble = _models(path, select, references)
    matrix = inpca.pairwise_distances(
        ensemble,
        metric=metric,
        sample_set=sample_set,
        out=ensemble.distances_path(name or sample_set),
        memory=memory or None,
        tile_size=tile_size or None,
        executor=_executor(scheduler, workers),
        part=part or None,
        extend=extend,
        restart=restart,
        repair=repair,
        progress=not quiet,
    )
    typer.echo(matrix.path)


@app.command()
def embed(
    path: EnsemblePath,
    name: Annotated[
        str, typer.Option("--name", "-n", help="which distances; also the result's name")
    ] = "train",
    components: Annotated[int, typer.Option("--components", "-k", help="coordinates to keep")] = 10,
    select: Query = "",
    save_as: Annotated[
        str, typer.Option("--save-as", help="name of the result; default: that of the distances")
    ] = "",
    warm_start: Annotated[
        str, typer.Option("--warm-start", help="a former embedding to start the solver from")
    ] = "",
    solver: Annotated[str, typer.Option(help="auto, dense or lanczos")] = "auto",
    tol: Annotated[float, typer.Option(help="residual to reach, relative to λ")] = 1e-6,
    memory: Memory = "",
    workers: Workers = 0,
    restart: Annotated[
        bool, typer.Option("--restart", help="throw away the passes of a killed call")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Embed the models of a finished distance matrix; print eigenvalues and explained stress.

    Each pass over the distances is kept until the embedding is saved: a killed call goes on.
    With --select only some of the models, without computing distances again; name that result
    with --save-as.
    """
    from inpca.embedding.checkpoint import KrylovCheckpoint
    from inpca.summary import describe_embedding

    if select and not save_as:
        raise InputError("`--select` makes another embedding; name it with `--save-as`.")
    ensemble = inpca.open_ensemble(path)
    matrix = inpca.TiledMatrix.open(ensemble.distances_path(name))
    result = ensemble.embeddings_path(save_as or name)
    former = ensemble.embeddings_path(warm_start) if warm_start else None
    passes = result.with_suffix(".passes")
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
    ).fit(matrix, models=select or None, init=former)
    if result.exists():
        typer.echo(f"replacing the embedding {result.name}", err=True)
    embedding.save(result, overwrite=True)
    _print_table(describe_embedding(embedding), as_json)


@app.command()
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
    from inpca.summary import coordinates_table

    if output is not None and not output.parent.is_dir():
        raise InputError(f"`--output` is in a folder that does not exist: {output.parent}.")
    embedding = inpca.load_embedding(inpca.open_ensemble(path).embeddings_path(name))
    embedding.set_params(memory=memory or None, progress=not quiet)
    models = inpca.open_ensemble(source or path).select(select)
    table = coordinates_table(embedding.transform(models), embedding.signature_, models.models)
    _print_csv(table, output)


# --- showing ---------------------------------------------------------------------------------


@app.command()
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


@app.command()
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


@app.command()
def export(
    path: EnsemblePath,
    what: Annotated[str, typer.Argument(help="models, distances or embedding")],
    output: Output,
    name: Annotated[
        str, typer.Option("--name", "-n", help="which distances or embedding")
    ] = "train",
) -> None:
    """Write models, distances or an embedding as CSV, npz or HDF5, by the file's ending."""
    from inpca.export import export as write

    typer.echo(write(inpca.open_ensemble(path), what, output, name=name))


# --- small services --------------------------------------------------------------------------


def _models(path: Path, select: str, references: bool) -> Any:
    ensemble = inpca.open_ensemble(path)
    if select:
        ensemble = ensemble.select(select)
    return ensemble.with_references() if references else ensemble


def _executor(scheduler: str, workers: int) -> str | int | None:
    """Where to compute: on the cluster at an address, or on threads of this machine."""
    if scheduler and workers:
        raise InputError("`--workers` are threads here, `--scheduler` has its own; give one.")
    if scheduler and ":" not in scheduler:
        raise InputError(f"`--scheduler` must be an address like tcp://host:8786, not {scheduler}.")
    return scheduler or workers or None


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, default=str))


def _print_record(record: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """A record for scripts, or its lines for people."""
    if as_json:
        _print_json(record)
    else:
        typer.echo("\n".join(lines))


def _print_table(table: Any, as_json: bool) -> None:
    if as_json:
        _print_json(table.to_dict(orient="records"))
    else:
        typer.echo(table.to_string(index=False))


def _print_csv(table: Any, output: Path | None) -> None:
    if output is None:
        table.to_csv(sys.stdout)
        return
    table.to_csv(output)
    typer.echo(output)
