"""What several verbs do alike: open the models, choose who computes, print."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import typer

import inpca
from inpca.errors import InputError
from inpca.printable import printable, printable_line


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


def say(text: object = "", *, err: bool = False) -> None:
    """Print a message or a result; the one way from this program to a terminal.

    What a terminal would obey, in a setting or a name from a stranger's file, is written out.
    """
    typer.echo(printable(text), err=err)


def say_fields(fields: Iterable[object]) -> None:
    """Print a line of fields with tabs between them, as programs read it."""
    say("\t".join(map(printable_line, fields)))


def print_json(value: object) -> None:
    """Print JSON; what is missing, and a number that is not finite, is null."""
    text = json.dumps(_as_json(value), indent=2, allow_nan=False)
    # All but ASCII is escaped by itself; "delete" is not, and would be no JSON once written out.
    say(text.replace("\x7f", "\\u007f"))


def _as_json(value: Any) -> Any:
    """`value` in what JSON has words for: what is none of numbers, lists, … is its text."""
    import numpy as np
    import pandas as pd

    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not isfinite(value)):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def print_record(record: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """A record for scripts, or its lines for people."""
    if as_json:
        print_json(record)
    else:
        say("\n".join(lines))


def print_table(table: Any, as_json: bool) -> None:
    if as_json:
        print_json(table.to_dict(orient="records"))
    else:
        say(table.rename(columns=printable_line).to_string(index=False))


def check_output(output: Path | None, option: str = "--output") -> None:
    """Refuse, before any work, a place where nothing can be written."""
    if output is not None and not output.parent.is_dir():
        raise InputError(f"`{option}` is in a folder that does not exist: {output.parent}.")
    if output is not None and output.is_dir():
        raise InputError(f"`{option}` must be a file; {output} is a folder.")


def print_csv(table: Any, output: Path | None) -> None:
    from inpca.csv_files import csv_text, write_csv

    if output is None:
        say(csv_text(table).removesuffix("\n"))
        return
    write_csv(table, output)
    say(output)
