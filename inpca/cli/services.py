"""What several verbs do alike: open the models, choose who computes, print."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

import inpca
from inpca.errors import InputError


def models(path: Path, select: str, references: bool) -> Any:
    ensemble = inpca.open_ensemble(path)
    if select:
        ensemble = ensemble.select(select)
    return ensemble.with_references() if references else ensemble


def executor(scheduler: str, workers: int) -> str | int | None:
    """Where to compute: on the cluster at an address, or on threads of this machine."""
    if scheduler and workers:
        raise InputError("`--workers` are threads here, `--scheduler` has its own; give one.")
    if scheduler and ":" not in scheduler:
        raise InputError(f"`--scheduler` must be an address like tcp://host:8786, not {scheduler}.")
    return scheduler or workers or None


@contextmanager
def one_embedding(ensemble: Any, place: Path, held: Path | None = None) -> Iterator[None]:
    """Be the only verb that solves for, joins to or replaces the embedding at `place`.

    Parameters
    ----------
    held : what an error names; default: `place`
    """
    from inpca.store.claim import alone

    with alone(held or place, ensemble.path / ".locks" / "embeddings" / f"{place.stem}.lock"):
        yield


def print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, default=_as_json))


def _as_json(value: object) -> str | None:
    """What JSON has no word for: a missing integer of pandas is null, anything else its text."""
    import pandas as pd

    return None if value is pd.NA else str(value)


def print_record(record: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """A record for scripts, or its lines for people."""
    if as_json:
        print_json(record)
    else:
        typer.echo("\n".join(lines))


def print_table(table: Any, as_json: bool) -> None:
    if as_json:
        print_json(table.to_dict(orient="records"))
    else:
        typer.echo(table.to_string(index=False))


def print_csv(table: Any, output: Path | None) -> None:
    if output is None:
        table.to_csv(sys.stdout)
        return
    table.to_csv(output)
    typer.echo(output)
