"""The verb of the inversion dynamics."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Query, SampleSet
from inpca.cli.services import print_json, print_table, say
from inpca.errors import InputError


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
        str,
        typer.Option(
            "--by",
            help="the setting whose values are compared; default: architecture",
            show_default=False,
        ),
    ] = "",
    select: Query = "",
    details: Annotated[
        bool, typer.Option("--details", help="of more than two classes: also each class and pair")
    ] = False,
    stragglers: Annotated[
        Path | None,
        typer.Option(
            "--stragglers",
            help="write the numbers, from 0, of the samples that are stragglers of more than half "
            "of the runs that invert, one a line",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            help="write into this folder what a sweep's `keep` takes: training without these "
            "stragglers, and without as many samples at random",
        ),
    ] = None,
    run: Annotated[
        str, typer.Option("--run", help="--stragglers, --plan: those of this run instead")
    ] = "",
    seed: Annotated[int, typer.Option(help="--plan: seed of the samples at random")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also draw the dynamics into this file, a row of panels for each value of --by",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Inversion epoch t*, φ and stragglers of every run, and how conserved the stragglers are."""
    from inpca.geometry import inversion_runs as of_runs
    from inpca.plotting.inversion import save_dynamics

    _check_targets(stragglers, plan, run)
    ensemble = inpca.open_ensemble(path)
    if select:
        ensemble = ensemble.select(select)
    runs = of_runs.invert_runs(ensemble, sample_set, layer=layer or None, method=method)  # type: ignore[arg-type]
    table = of_runs.inversion_table(runs, details=details or as_json)
    pairs = of_runs.conservation_table(runs, by or None)
    notes = [of_runs.conservation_note(runs, pairs), of_runs.pruned_note(runs)]
    _show(table, pairs, notes, as_json)
    if stragglers is not None or plan is not None:
        mask = of_runs.common_stragglers(runs, run or None)
        _write(mask, sample_set, seed, stragglers, plan)
    if output is not None:
        say(save_dynamics(runs, output, by=by or None), err=True)


def _check_targets(stragglers: Path | None, plan: Path | None, run: str) -> None:
    """Before anything is read: whether what is asked for can be written."""
    if run and stragglers is None and plan is None:
        raise InputError("`--run` chooses whose stragglers to write; give --stragglers or --plan.")
    for name, target in (("--stragglers", stragglers), ("--plan", plan)):
        if target is not None and not target.absolute().parent.is_dir():
            raise InputError(f"`{name}` is in a folder that does not exist: {target.parent}.")
    if stragglers is not None and stragglers.is_dir():
        raise InputError(f"`--stragglers` must be a file; {stragglers} is a folder.")
    if plan is not None and plan.exists() and not plan.is_dir():
        raise InputError(f"`--plan` must be a folder; {plan} is a file.")


def _show(table: Any, pairs: Any, notes: list[str], as_json: bool) -> None:
    if as_json:
        parts = {"runs": table, "conservation": pairs}
        records = {name: json.loads(one.to_json(orient="records")) for name, one in parts.items()}
        print_json(records)
    else:
        print_table(table, as_json=False)
        if not pairs.empty:
            say()
            print_table(pairs, as_json=False)
    for note in filter(None, notes):
        say(note, err=True)


def _write(
    mask: Any, sample_set: str, seed: int, stragglers: Path | None, plan: Path | None
) -> None:
    """The stragglers' numbers, and the plans of training without them, each a file of its own."""
    from inpca.durable import write_result
    from inpca.geometry.pruning import pruning_plan

    if stragglers is not None:
        numbers = mask.nonzero()[0].tolist()
        write_result(stragglers, "".join(f"{number}\n" for number in numbers).encode())
        say(f"{stragglers}: {len(numbers)} of {len(mask)} samples", err=True)
    if plan is not None:
        entries = pruning_plan({"stragglers": mask}, sample_set=sample_set, seed=seed, whole=False)
        plan.mkdir(exist_ok=True)
        for name, entry in entries.items():
            write_result(plan / f"{name}.json", json.dumps(entry).encode())
            say(plan / f"{name}.json", err=True)


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command()(inversion)
