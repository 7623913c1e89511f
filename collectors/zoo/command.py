"""The verb `sweep`: train the runs that a file asks for into an ensemble."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inpca.cli.services import print_json, say, say_fields
from inpca.errors import InputError
from inpca.units import count

if TYPE_CHECKING:
    from collectors.zoo.pool import SweepResult
    from collectors.zoo.sweep import Sweep


def register(app: typer.Typer) -> None:
    """Add the verb `sweep` to the command line."""

    @app.command()
    def sweep(
        file: Annotated[
            str,
            typer.Argument(
                metavar="SWEEP", help="a .yaml file, or a shipped one: digits, cifar10, …"
            ),
        ],
        ensemble: Annotated[
            Path | None, typer.Argument(help="the ensemble's folder; created if there is none")
        ] = None,
        part: Annotated[
            str, typer.Option(help="only part i of k, as i/k: for several machines at once")
        ] = "1/1",
        workers: Annotated[
            int, typer.Option("--workers", "-w", min=0, help="processes; 0: one for each core")
        ] = 0,
        data: Annotated[
            Path | None, typer.Option(help="where the data lie, if not where the file says")
        ] = None,
        device: Annotated[str, typer.Option(help="where to train, in torch's words")] = "cpu",
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="only say how many runs and models, how much disk")
        ] = False,
        list_: Annotated[
            bool, typer.Option("--list", help="only list the runs, and what is there of each")
        ] = False,
        retry_failed: Annotated[
            bool, typer.Option("--retry-failed", help="train again what diverged before")
        ] = False,
        restart: Annotated[
            bool, typer.Option("--restart", help="train all again, whatever is there")
        ] = False,
        as_json: Annotated[bool, typer.Option("--json", help="print JSON, for scripts")] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="no progress on standard error")
        ] = False,
    ) -> None:
        """Train what a sweep file asks for and ENSEMBLE does not hold yet; needs torch.

        What the file may say: docs/sweeps.md. A run that diverges is recorded as failed and the
        sweep goes on; it ends with exit code 3 if a run that was asked for has failed.
        """
        from collectors.zoo.sweep import find_sweep, load_sweep

        asked = load_sweep(find_sweep(file), data_path=data).part(*_part(part))
        if dry_run or list_:
            from collectors.zoo.trial import try_sweep

            try_sweep(asked)
            _show(asked, ensemble, listing=list_, as_json=as_json)
            return
        if ensemble is None:
            raise InputError("`ensemble` is missing: the folder to sweep into (or --dry-run).")
        from collectors.zoo.pool import run_sweep

        result = run_sweep(
            asked,
            ensemble,
            workers=workers or None,
            device=device,
            retry_failed=retry_failed,
            restart=restart,
            progress=not quiet,
        )
        if as_json:
            print_json(asdict(result))
        else:
            say(_summary(result))
        if result.failed:
            raise InputError(
                f"{count(len(result.failed), 'run')} of {len(asked.trainings):,} failed, for the "
                "reasons above; change the file, or leave them out: what is trained stays."
            )


def _part(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise InputError(f"`part` must be i/k, such as 1/4, not {text!r}.")
    return int(number), int(of)


def _show(sweep: "Sweep", ensemble: Path | None, *, listing: bool, as_json: bool) -> None:
    """Print the plan, or each run with its state; train nothing."""
    from collectors.zoo.states import failures, states
    from collectors.zoo.sweep import plan

    planned = plan(sweep)
    n_train = planned.samples["train"]
    found = (
        {training.run: "missing" for training in sweep.trainings}
        if ensemble is None
        else dict(states(sweep.trainings, ensemble, n_train))
    )
    reasons = {} if ensemble is None else failures(sweep.trainings, ensemble)
    if as_json:
        content = {**asdict(planned), "states": found, "failed": reasons}
        print_json(content)
    elif listing:
        for training in sweep.trainings:
            n_models = len(training.steps(n_train))
            words = [training.run, str(n_models), found[training.run], reasons.get(training.run)]
            say_fields(filter(None, words))
    else:
        say("\n".join(_plan_lines(sweep, ensemble)))


def _plan_lines(sweep: "Sweep", ensemble: Path | None) -> list[str]:
    from collectors.zoo.states import states
    from collectors.zoo.sweep import plan
    from inpca.units import format_bytes

    planned = plan(sweep)
    sets = ", ".join(f"{name} {number:,}" for name, number in planned.samples.items())
    lines = [
        f"Sweep    {sweep.name}, data {sweep.data.name} ({sets})",
        f"Runs     {planned.n_runs:,}",
        f"Models   {planned.n_models:,}",
        f"Disk     {format_bytes(planned.n_bytes)}",
    ]
    if ensemble is not None:
        found = Counter(states(sweep.trainings, ensemble, planned.samples["train"]).values())
        there = ", ".join(f"{number:,} {state}" for state, number in sorted(found.items()))
        lines.append(f"There    {there}")
    return lines


def _summary(result: "SweepResult") -> str:
    lines = [
        f"trained now     {len(result.trained):>6,}",
        f"there before    {len(result.present):>6,}",
        f"elsewhere       {len(result.elsewhere):>6,}",
        f"failed          {len(result.failed):>6,}",
    ]
    return "\n".join([*lines, *(f"  {run}: {why}" for run, why in result.failed.items())])
