"""Verbs that plan and compute distances."""

from typing import TYPE_CHECKING, Annotated

import typer

import inpca
from inpca.cli.options import (
    Backend,
    Device,
    EnsemblePath,
    Json,
    Memory,
    Name,
    Query,
    Quiet,
    References,
    SampleSet,
    TileSize,
    Workers,
)
from inpca.cli.services import executor, models, print_record, say

if TYPE_CHECKING:
    from inpca.distance.plan import Plan

METRIC = (
    "the divergence: bhattacharyya, jeffreys, hellinger2, geodesic, geodesic2, jensen-shannon, "
    "euclidean, or with an order chernoff:0.3, renyi:0.8"
)


def plan(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    select: Query = "",
    references: References = True,
    memory: Memory = "",
    tile_size: TileSize = 0,
    workers: Workers = 0,
    backend: Backend = "numba",
    device: Device = None,
    metric: Annotated[str, typer.Option(help=METRIC)] = "bhattacharyya",
    as_json: Json = False,
) -> None:
    """Say what `distances` would take: reads, memory, disk, time. Refuses what does not fit."""
    from inpca.distance.planner import plan_distances

    predictions = models(path, select, references).predictions(sample_set)
    plan: Plan = plan_distances(
        predictions.shape,
        memory=memory or None,
        tile_size=tile_size or None,
        n_workers=workers or None,
        folder=path,
        chunk_samples=predictions.chunk_samples,
        backend=backend,
        device=device,
        metric=metric,
    )
    print_record(plan.as_record(), plan.describe(), as_json)


def distances(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    name: Name = "",
    select: Query = "",
    references: References = True,
    metric: Annotated[str, typer.Option(help=METRIC)] = "bhattacharyya",
    memory: Memory = "",
    tile_size: TileSize = 0,
    workers: Workers = 0,
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="a Dask cluster's address, e.g. tcp://host:8786")
    ] = "",
    backend: Backend = "numba",
    device: Device = None,
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
    ensemble = models(path, select, references)
    matrix, info = inpca.pairwise_distances(
        ensemble,
        metric=metric,
        sample_set=sample_set,
        out=ensemble.distances_path(name or sample_set),
        memory=memory or None,
        tile_size=tile_size or None,
        executor=executor(scheduler, workers),
        part=part or None,
        extend=extend,
        restart=restart,
        repair=repair,
        progress=not quiet,
        backend=backend,
        device=device,
        return_info=True,
    )
    if backend != "numba" and not quiet:
        because = f" ({info.why})" if info.why else ""
        where = f"{info.plan.n_tiles} tiles on {info.plan.where}{because}"
        say(f"computed {where}", err=True)
    if part and not quiet:
        from inpca.distance.parts import describe_part, parse_part

        n_tiles = matrix.grid.n_tiles
        said = describe_part(parse_part(part), info.plan.n_tiles, info.missing, n_tiles)
        say(said, err=True)
    say(matrix.path)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(plan)
    app.command()(distances)
