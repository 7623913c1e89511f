"""One way to report progress: a callable ``report(done, total, text)``.

`progress=None` is silent, `progress=True` draws a bar on standard error, anything callable is
called. Engines open one `reporting(...)` and call `report` as often as they like. (Not named after
the argument: a module `inpca.progress` would hide the function of that name, Eq. 4.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inpca.printable import printable_line

Report = Callable[[float, float, str], None]
ProgressArgument = bool | Report | None


@contextmanager
def reporting(progress: ProgressArgument, title: str) -> Iterator[Report]:
    """Yield ``report(done, total, text)`` for the argument `progress` of a public function."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar(title) as report:
            yield report
    else:
        yield _silent


def _silent(done: float, total: float, text: str) -> None:
    """Report nothing."""


@contextmanager
def _bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    # Names of files and runs are no markup: "[red]" in one colours nothing.
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    bars = Progress(*columns, console=Console(stderr=True))
    task = bars.add_task(printable_line(title), total=None, text="")

    def report(done: float, total: float, text: str) -> None:
        bars.start()  # drawn when there is something to tell: a refused argument shows no bar
        bars.update(task, completed=done, total=total, text=printable_line(text))

    try:
        yield report
        # Only reached when nothing was raised: the work is done, whatever was told last.
        total = bars.tasks[task].total or 1
        bars.update(task, completed=total, total=total, text="")
    finally:
        if bars.live.is_started:
            bars.stop()
