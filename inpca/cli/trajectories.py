"""The verb that compares whole trainings."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Memory, Name, Query, Quiet, SampleSet, Workers
from inpca.cli.services import check_output, models, print_csv, print_json, say


class What(StrEnum):
    """What is printed."""

    distances = "distances"
    widths = "widths"
    geodesic = "geodesic"
    importance = "importance"


def trajectories(
    path: EnsemblePath,
    what: Annotated[
        What,
        typer.Argument(
            help="distances; widths of the tubes around mean trajectories; distances to the "
            "geodesic; importance of each setting"
        ),
    ] = What.distances,
    sample_set: SampleSet = "train",
    name: Name = "",
    select: Query = "",
    points: Annotated[
        int, typer.Option("--points", "-p", help="how many values of s, evenly")
    ] = 50,
    first: Annotated[
        float | None,
        typer.Option("--from", help="first value of s; default: 0, or what all runs reach"),
    ] = None,
    last: Annotated[
        float | None,
        typer.Option("--to", help="last value of s; default: 1, or what all runs reach"),
    ] = None,
    index: Annotated[
        str, typer.Option(help="what s is: progress, or a column of the models such as epoch")
    ] = "progress",
    by: Annotated[
        str,
        typer.Option(
            help="columns to group by, a,b,c, or 'seed' to average over seeds; default: no groups"
        ),
    ] = "",
    by_s: Annotated[bool, typer.Option("--by-s", help="a row for every value of s")] = False,
    metric: Annotated[str, typer.Option(help="the divergence")] = "bhattacharyya",
    outside: Annotated[
        str, typer.Option(help="beyond what a run reaches: hold, stretch or error")
    ] = "hold",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file")] = None,
    memory: Memory = "",
    workers: Workers = 0,
    restart: Annotated[bool, typer.Option("--restart", help="throw away what is there")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs at equal progress (Eq. 5); as CSV, one row for each pair.

    A distance is the mean over the values of s. Where a run does not reach a value it counts with
    its nearest checkpoint (see --outside); how many runs do so is said on standard error, and with
    --by-s widths and geodesic have a column "reached", the share of runs that reach each value.
    Distances are kept in the ensemble as trajectories/<name>.zarr; a killed call goes on.
    """
    check_output(output)
    ensemble = models(path, select, references=False)
    options: dict[str, Any] = {
        "index": index,
        "sample_set": sample_set,
        "outside": outside,
        "span": (first, last),
        "memory": memory or None,
        "executor": workers or None,
        "metric": metric,
        "progress": not quiet,
    }
    groups = None if by in ("", "seed") else by.split(",")
    if what in (What.distances, What.importance):
        from inpca.store.trajectories import trajectories_path

        place = trajectories_path(path, name or sample_set)
        found = inpca.trajectory_distances(ensemble, points, out=place, restart=restart, **options)
        _say_counts(found)
        if what is What.importance:
            table = _importance(found if not by else found.grouped(groups))
        else:
            table = _pairs(found.grouped(groups) if by else found, by_s)
    else:
        table = _along(what, ensemble, points, groups, by_s, options)
    if as_json:
        print_json(table.reset_index().to_dict(orient="records"))
    else:
        print_csv(table, output)


def _say_counts(found: Any) -> None:
    """How many runs are held, on standard error; backward steps are logged by the library."""
    n_runs = int((found.outside > 0).sum())
    if n_runs:
        say(
            f"{n_runs} of {len(found.outside)} runs do not reach every value of s; there their "
            "nearest checkpoint is held and counts (see --outside, --from, --to)",
            err=True,
        )


def _pairs(found: Any, by_s: bool) -> Any:
    import numpy as np
    import pandas as pd

    first, second = np.triu_indices(len(found), k=1)
    names = found.runs.index
    kind = names.name
    pair = {kind: names[first], f"other_{kind}": names[second]}
    if not by_s:
        return pd.DataFrame({**pair, "distance": found.integrated[first, second]}).set_index(kind)
    parts = [
        pd.DataFrame({**pair, "s": value, "distance": found.at(number)[first, second]})
        for number, value in enumerate(found.s)
    ]
    return pd.concat(parts, ignore_index=True).set_index(kind)


def _along(
    what: What, ensemble: Any, points: int, groups: Any, by_s: bool, options: dict[str, Any]
) -> Any:
    import numpy as np
    import pandas as pd

    from inpca.trajectories import distances_to_geodesic, tube_widths

    if what is What.widths:
        found: Any = tube_widths(ensemble, groups, points, **options)
        values, index, reached = found.widths, found.groups.index, found.share_reached
    else:
        found = distances_to_geodesic(ensemble, points, **options)
        values, index, reached = found.distances, found.runs.index, found.reached.astype(float)
    _say_counts(found)
    if by_s:
        columns = {
            "s": np.tile(found.s, len(index)),
            "distance": values.ravel(),
            "reached": reached.ravel(),
        }
        return pd.DataFrame(columns, index=index.repeat(len(found.s)))
    from inpca.geometry.trajectory_distances import trapezoid_weights

    return pd.DataFrame({"distance": values @ trapezoid_weights(found.s)}, index=index)


def _importance(found: Any) -> Any:
    from inpca.trajectories import configuration_importance

    result = configuration_importance(found)
    say(f"R² {result.score:.3f} on {result.n_pairs} held-out pairs", err=True)
    return result.table


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(trajectories)
