"""Progress of a sweep: one bar over all runs, and one for each run that is being trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from inpca.printable import printable_line
from inpca.reporting import ProgressArgument, Report, reporting


class SweepProgress(Protocol):
    """What is told while a sweep runs."""

    def overall(self, done: int, total: int, text: str) -> None:
        """`done` of `total` runs are there; `text` names the last one."""

    def step(self, run: str, step: int, last: int) -> None:
        """`run` has made `step` of `last` updates."""

    def end(self, run: str) -> None:
        """`run` is trained, or has failed."""


class _Called:
    """Tells a plain ``report(done, total, text)`` of the whole runs only."""

    def __init__(self, report: Report) -> None:
        self.overall = report

    def step(self, run: str, step: int, last: int) -> None:
        """Not told."""

    def end(self, run: str) -> None:
        """Not told."""


class _Bars:
    """Bars on standard error, drawn from the first thing that is told."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._all = bars.add_task("sweep", total=None, text="")
        self._tasks: dict[str, Any] = {}

    def overall(self, done: int, total: int, text: str) -> None:
        self._bars.start()
        told = f"{done}/{total} {printable_line(text)}"
        self._bars.update(self._all, completed=done, total=total, text=told)

    def step(self, run: str, step: int, last: int) -> None:
        if run not in self._tasks:
            self._tasks[run] = self._bars.add_task(printable_line(run), total=last, text="")
        self._bars.update(self._tasks[run], completed=step, text=f"{step}/{last}")

    def end(self, run: str) -> None:
        if run in self._tasks:
            self._bars.remove_task(self._tasks.pop(run))


@contextmanager
def sweep_progress(progress: ProgressArgument) -> Iterator[SweepProgress]:
    """What the argument `progress` stands for: None, True for bars, or a callable."""
    if progress is not True:
        with reporting(progress, "sweep") as report:
            yield _Called(report)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    try:
        yield _Bars(bars)
    finally:
        if bars.live.is_started:
            bars.stop()
