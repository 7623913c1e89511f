"""The command line: each verb parses, calls one function of the library, prints.

Data goes to standard output, progress and messages to standard error. Exit codes: 0 ok, 2 usage,
3 bad input, 4 damaged store, 5 resources, 130 interrupted (the errors carry their own code).
Verbs that make ensembles (`demo`, `import`) come from the entry-point group `inpca.commands`.
"""

import os
import signal
import sys
from importlib.metadata import entry_points
from types import FrameType
from typing import Annotated, NoReturn

import typer

import inpca
from inpca.cli import (
    attribution,
    distances,
    embeddings,
    embeddings_more,
    ensembles,
    geometry,
    inversion,
    pictures,
    trajectories,
)
from inpca.cli.services import say
from inpca.errors import InpcaError, ResourceError
from inpca.persistence import named
from inpca.printable import print_plainly

# In the order of `inpca --help`.
_GROUPS = (
    ensembles,
    distances,
    embeddings,
    embeddings_more,
    geometry,
    inversion,
    attribution,
    pictures,
    trajectories,
)

app = typer.Typer(
    name="inpca",
    help="One picture of every model you ever trained.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point of the program `inpca`: errors become one line and an exit code."""
    for entry in entry_points(group="inpca.commands"):
        entry.load()(app)
    signal.signal(signal.SIGINT, _interrupt)
    print_plainly()
    try:
        app()
    except InpcaError as error:
        _fail(error)
    except OSError as error:  # a full disk, a file that may not be read: no traceback
        _fail(named(error))
    except MemoryError:
        _fail(ResourceError("The memory ran out; take less at once (--memory) or more machine."))


def _fail(error: InpcaError) -> NoReturn:
    say(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C lets running tasks come to their end; the second does not wait for them."""
    signal.signal(signal.SIGINT, _stop_at_once)
    say("interrupted: finishing what runs; Ctrl-C again stops at once", err=True)
    raise KeyboardInterrupt


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    # Whatever is half done is not visible on disk: there is nothing to tidy up.
    os._exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"inpca {inpca.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """One picture of every model you ever trained."""


for _group in _GROUPS:
    _group.register(app)
