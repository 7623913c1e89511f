"""The verb of the inversion dynamics."""

import json
from pathlib import Path
from typing import Annotated

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Query, SampleSet
from inpca.cli.services import print_table


def inversion(
    path: EnsemblePath,
    sample_set: SampleSet = "train",
    layer: Annotated[
        str, typer.Option("--layer", "-l", help="which hidden layer, where several were recorded")
    ] = "",
    method: Annotated[
        str, typer.Option(help="argmin, or unimodal for noisy observables")
    ] = "argmin",
    by: Annotated[
        str, typer.Option("--by", help="the setting whose values are compared as architectures")
    ] = "architecture",
    select: Query = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="also draw the dynamics into this file")
    ] = None,
    as_json: Json = False,
) -> None:
    """Inversion epoch t*, φ and stragglers of every run, and how conserved the stragglers are."""
    from inpca.geometry.inversion_runs import conservation_table, inversion_table, invert_runs
    from inpca.plotting.inversion import save_dynamics

    ensemble = inpca.open_ensemble(path)
    if select:
        ensemble = ensemble.select(select)
    runs = invert_runs(ensemble, sample_set, layer=layer or None, method=method)  # type: ignore[arg-type]
    table, pairs = inversion_table(runs), conservation_table(runs, by)
    if as_json:
        parts = {"runs": table, "conservation": pairs}
        records = {name: json.loads(one.to_json(orient="records")) for name, one in parts.items()}
        typer.echo(json.dumps(records, indent=2))
    else:
        print_table(table, as_json=False)
        typer.echo()
        print_table(pairs, as_json=False)
    if output is not None:
        typer.echo(save_dynamics(runs, output), err=True)


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(inversion)
