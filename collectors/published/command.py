"""The verbs `import-archive` and `import-distances`."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from collectors.archive import AllowPickle, pairs
from inpca.cli.services import print_json, say, say_fields
from inpca.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""

    @app.command("import-archive")
    def import_archive(
        folder: Annotated[Path, typer.Argument(help="the archive, or a part of it")],
        ensemble: Annotated[
            Path, typer.Argument(help="the ensemble's folder; created if there is none")
        ],
        labels: Annotated[
            list[str] | None,
            typer.Option(help="train=FILE.npy or test=FILE.npy, true classes; repeatable"),
        ] = None,
        allow_pickle: AllowPickle = False,
        restart: Annotated[
            bool, typer.Option("--restart", help="replace runs and matrices that exist")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="print JSON, for scripts")] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Import the archive published with the paper; account for every file in it.

        Ends with exit code 3 if a file that should have been imported was not. Needs torch.
        """
        from collectors.published.folder import import_archive as import_folder

        accounts = import_folder(
            folder,
            ensemble,
            labels=pairs(labels or [], "--labels"),
            allow_pickle=allow_pickle,
            restart=restart,
            progress=not quiet,
        )
        if as_json:
            print_json([asdict(account) for account in accounts])
        else:
            for account in accounts:
                say_fields(filter(None, asdict(account).values()))
        counts = Counter(account.status for account in accounts)
        if counts["failed"]:
            raise InputError(
                f"{counts['failed']} of {len(accounts)} files could not be imported; the account "
                "above says why."
            )

    @app.command("import-distances")
    def import_distances(
        file: Annotated[Path, typer.Argument(help=".h5 or .npy with a square matrix")],
        out: Annotated[
            Path, typer.Argument(help="folder to make: ENSEMBLE/distances/NAME.zarr, or any")
        ],
        dataset: Annotated[str, typer.Option(help="name of the matrix in an HDF5 file")] = "w",
        centred: Annotated[
            bool, typer.Option("--centred", help="the file holds W, not D: turn it back into D")
        ] = False,
        tile_size: Annotated[int, typer.Option(min=1, help="rows of a tile")] = 1024,
        restart: Annotated[
            bool, typer.Option("--restart", help="replace a matrix that is there")
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Import a matrix of distances that another program computed."""
        from collectors.distance_files import import_distances as import_file

        matrix = import_file(
            file,
            out,
            dataset=dataset,
            centred=centred,
            tile_size=tile_size,
            restart=restart,
            progress=not quiet,
        )
        say(matrix.path)
