"""Verbs that look at an ensemble and at the machine, or take something out."""

from typing import Annotated

import typer

import inpca
from inpca.cli.options import EnsemblePath, Json, Output, Quiet
from inpca.cli.services import print_json, print_record, say
from inpca.errors import InputError
from inpca.printable import printable_line


def info(path: EnsemblePath, as_json: Json = False) -> None:
    """Say what an ensemble holds: sample sets, runs, columns, distances, embeddings."""
    from inpca.summary import describe_ensemble, ensemble_lines

    record = describe_ensemble(inpca.open_ensemble(path))
    print_record(record, ensemble_lines(record), as_json)


def check(
    path: EnsemblePath,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="first remove what killed recorders left")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read every byte of an ensemble against its checksums and name what is damaged.

    Without --tidy nothing is written. Exit code 4 if anything is damaged.
    """
    from inpca.reporting import reporting
    from inpca.store.check import check_ensemble

    if tidy:
        inpca.open_ensemble(path).tidy()
    with reporting(not quiet, f"checking {path}") as report:
        damages = check_ensemble(path, report)
    if as_json:
        print_json([{"key": damage.key, "reason": damage.reason} for damage in damages])
    else:
        for damage in damages:
            say(printable_line(f"{damage.key}: {damage.reason}"))
        say(f"{len(damages)} damaged" if damages else "no damage found", err=True)
    if damages:
        raise typer.Exit(4)


def delete(
    path: EnsemblePath,
    runs: Annotated[list[str], typer.Argument(help="ids of the runs", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Delete runs with their predictions, for good.

    Distances and embeddings keep what they hold of them.
    """
    from inpca.store.deletion import check_is_there

    ensemble = inpca.open_ensemble(path)
    for run in runs:  # all are looked at before the first is gone
        check_is_there(ensemble.path, run)
    if not yes:
        words = f"{len(runs)} runs" if len(runs) > 1 else f"run {runs[0]}"
        _confirm(f"Delete {words} of {path} for good?")
    for run in dict.fromkeys(runs):
        ensemble.delete_run(run)
        say(f"deleted {run}", err=True)


def _confirm(question: str) -> None:
    """Go on only if the answer is yes."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # nobody there to answer
        agreed = False
    if not agreed:
        raise InputError("Nothing was deleted: the question was not answered with yes; pass --yes.")


def doctor(as_json: Json = False) -> None:
    """Say what this machine has: cores, memory, disk, BLAS, GPU, versions."""
    from inpca.backend import machine
    from inpca.summary import record_lines

    record = machine().to_dict()
    print_record(record, record_lines(record), as_json)


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

    say(write(inpca.open_ensemble(path), what, output, name=name))


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(info)
    app.command()(check)
    app.command()(delete)
    app.command()(doctor)
    app.command()(export)
