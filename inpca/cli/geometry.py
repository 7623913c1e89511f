"""Verbs on the geometry of training: progress and averages."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Memory, Query, Quiet, SampleSet, Workers
from inpca.cli.services import check_output, models, print_csv, print_json, print_table, say
from inpca.errors import InputError

Restart = Annotated[
    bool, typer.Option("--restart", help="replace averages that are there under these names")
]


def progress(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    select: Query = "",
    start: Annotated[
        str,
        typer.Option("--start", help="a model's key, or 'first' of its own run; default ignorance"),
    ] = "",
    end: Annotated[
        str, typer.Option("--end", help="a model's key, or 'last' of its own run; default truth")
    ] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV file")] = None,
    memory: Memory = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Progress of every model from ignorance to truth, beside its error and loss, and their R².

    R² is that of the trainings: stored averages have a row, of kind "reference", but do not count.
    """
    from inpca.geometry.reports import progress_fit, progress_table

    if as_csv and as_json:
        raise InputError("`--csv` and `--json` are two ways to print one table; give one.")
    check_output(output)
    table = progress_table(
        models(path, select, references=False),
        sample_set=sample_set,
        start=start or None,
        end=end or None,
        memory=memory or None,
        executor=workers or None,
        progress=not quiet,
    )
    fit, n_models = progress_fit(table)
    if as_json:
        rows = cast(list[dict[str, Any]], table.reset_index().to_dict(orient="records"))
        print_json({"r_squared": _number(fit), "models": [_plain(row) for row in rows]})
    elif as_csv or output is not None:
        print_csv(table, output)
        say(_fit_line(fit, n_models), err=True)
    else:
        print_table(table.reset_index(), as_json=False)
        say(_fit_line(fit, n_models))


def _fit_line(fit: float, n_models: int) -> str:
    if n_models < 3:
        return f"no R² of progress against error: it needs 3 models of runs, not {n_models}"
    if fit != fit:
        return f"no R²: progress or error is the same for all {n_models:,} models"
    return f"R² of progress against error, {n_models:,} models: {fit:.3f}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it: what is missing is null."""
    return {key: _number(value) for key, value in row.items()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value


def average(
    path: EnsemblePath,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", "-b", help="a column; models that agree in all such are averaged"),
    ] = None,
    how: Annotated[
        str,
        typer.Option(help="arithmetic, geometric, harmonic, sqrt, bhattacharyya or jeffreys"),
    ] = "arithmetic",
    select: Query = "",
    compare: Annotated[
        bool,
        typer.Option("--compare", help="store nothing; print error and loss of every average"),
    ] = False,
    sample_set: Annotated[
        str, typer.Option("--sample-set", "-s", help="only this sample set; default: all")
    ] = "",
    name: Annotated[str, typer.Option("--name", "-n", help="how the new runs' ids begin")] = (
        "average"
    ),
    restart: Restart = False,
    memory: Memory = "",
    workers: Workers = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Average the predictions of groups of models, and store the averages as reference models.

    With --by architecture --by step: the mean trajectory of each architecture. Without --by: all
    models are one group. A killed call goes on where it ended.
    """
    from inpca.geometry.grouped import average_groups
    from inpca.geometry.reports import compare_groups

    ensemble = models(path, select, references=False)
    sets = [sample_set] if sample_set else None
    options: dict[str, Any] = {
        "memory": memory or None,
        "executor": workers or None,
        "progress": not quiet,
    }
    if compare:
        print_table(compare_groups(ensemble, by or (), sample_sets=sets, **options), as_json)
        return
    ids = average_groups(
        ensemble,
        by or (),
        how,  # type: ignore[arg-type]  # any text: refused by name
        name=name,
        sample_sets=sets,
        restart=restart,
        **options,
    )
    whole = inpca.open_ensemble(path).models
    table = whole[whole["run"].isin(ids)]
    metrics = [f"{one}_{kind}" for one in _sets(path) for kind in ("error", "loss")]
    shown = ["run", "checkpoint", "step", "epoch", "n_averaged"]
    print_table(table[shown + [one for one in metrics if one in table.columns]], as_json)


def _sets(path: Path) -> list[str]:
    return list(inpca.open_ensemble(path).sample_sets)


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(progress)
    app.command()(average)
