"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

EnsemblePath = Annotated[Path, typer.Argument(help="the ensemble's folder", show_default=False)]
SampleSet = Annotated[str, typer.Option("--sample-set", "-s", help="which sample set")]
Name = Annotated[str, typer.Option("--name", "-n", help="name of the result; default: sample set")]
Query = Annotated[
    str,
    typer.Option("--select", help="only the models for which this query holds, in pandas' words"),
]
References = Annotated[bool, typer.Option(help="put ignorance and truth among the models")]
Memory = Annotated[
    str,
    typer.Option("--memory", "-m", help="memory to use, e.g. 4GB; default: half of what is free"),
]
Workers = Annotated[
    int, typer.Option("--workers", "-w", min=0, help="threads; 0: one for each core")
]
TileSize = Annotated[int, typer.Option(help="rows of a tile on disk; 0: chosen from the size")]
Backend = Annotated[
    str, typer.Option("--backend", help="numba: the CPU, cupy: an NVIDIA GPU, auto: GPU if any")
]
Device = Annotated[int | None, typer.Option("--device", help="number of the GPU, of several")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress on standard error")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]
Output = Annotated[Path, typer.Option("--output", "-o", help="the file to write")]
