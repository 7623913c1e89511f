"""Map a function over tasks: serial (the reference) or on threads; all else stays in one process.

Kernels release the GIL and are serial inside, so threads over tasks use every core without
oversubscription. Results come back as they finish, in no particular order: a task carries its own
name in its record. The kernels' sums do not depend on the order, so every executor gives the same
bytes.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Protocol, TypeVar, runtime_checkable

from inpca.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks handed to the pool beyond those that run: enough to never starve, too few to fill memory.
_WAITING_PER_WORKER = 4


@runtime_checkable
class Executor(Protocol):
    """What the engines need to run tasks.

    Attributes
    ----------
    n_workers : how many tasks run at once; memory is projected for this many
    """

    @property
    def n_workers(self) -> int: ...

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield ``function(task)`` for every task, as they finish."""
        ...


class SerialExecutor:
    """One task after the other, in order, in the calling thread: the reference."""

    n_workers = 1

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield ``function(task)`` for every task, in order."""
        for task in tasks:
            yield function(task)


class ThreadExecutor:
    """A pool of threads in this process; tasks must release the GIL to gain from it.

    Parameters
    ----------
    n_workers : number of threads
    """

    def __init__(self, n_workers: int) -> None:
        if n_workers < 1:
            raise InputError(f"`n_workers` must be at least 1, not {n_workers}.")
        self.n_workers = n_workers

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they finish; the first error ends the map after running tasks end."""
        remaining = iter(tasks)
        pending: set[Future[Result]] = set()
        with ThreadPoolExecutor(self.n_workers) as pool:
            try:
                while True:
                    room = self.n_workers * (1 + _WAITING_PER_WORKER) - len(pending)
                    pending |= {pool.submit(function, task) for task in islice(remaining, room)}
                    if not pending:
                        return
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    while done:
                        yield done.pop().result()
            finally:
                for future in pending:
                    future.cancel()


def get_executor(executor: "str | int | Executor | None" = None) -> Executor:
    """The executor that the argument `executor` of a public function means.

    Parameters
    ----------
    executor : None or ``"threads"`` (threads over all cores this process may use), a number of
        threads, ``"serial"``, or any object with `n_workers` and `map`

    Raises
    ------
    InputError
        If it is none of these.
    """
    if executor is None or executor == "threads":
        return ThreadExecutor(n_cores())
    if executor == "serial":
        return SerialExecutor()
    if isinstance(executor, int) and not isinstance(executor, bool):
        return ThreadExecutor(executor)
    if isinstance(executor, Executor):
        return executor
    raise InputError(
        "`executor` must be None, 'threads', 'serial', a number of threads or an object with "
        f"`n_workers` and `map`, not {executor!r}."
    )


def n_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
