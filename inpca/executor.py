"""Map a function over tasks: serial (the reference), on threads, or on a Dask cluster.

Kernels release the GIL and are serial inside, so threads over tasks use every core without
oversubscription. Results come back as they finish, in no particular order: a task carries its own
name in its record. The kernels' sums do not depend on the order, so every executor gives the same
bytes. Whatever ends a map early (an error, Ctrl-C) lets the tasks that run come to their end; a
second Ctrl-C does not wait for them.
"""

import os
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

from inpca.errors import InputError, ResourceError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks handed to the pool beyond those that run: enough to never starve, too few to fill memory.
_WAITING_PER_WORKER = 4
# Between two looks at whether the cluster is still there.
_POLL_SECONDS = 5.0


@runtime_checkable
class Executor(Protocol):
    """What the engines need to run tasks.

    Attributes
    ----------
    n_workers : how many tasks run at once; memory is projected for this many
    """

    @property
    def n_workers(self) -> int: ...

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """Yield ``function(task)`` for every task, as they finish."""
        ...


class SerialExecutor:
    """One task after the other, in order, in the calling thread: the reference."""

    n_workers = 1

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
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

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """Yield results as they finish; the first error ends the map after running tasks end."""
        remaining = iter(tasks)
        pending: set[Future[Result]] = set()
        pool = ThreadPoolExecutor(self.n_workers)
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
            try:
                pool.shutdown(wait=True, cancel_futures=True)
            except KeyboardInterrupt:  # the second: the caller does not want to wait
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def for_waiting(executor: Executor, n_workers: int) -> Executor:
    """`executor` for tasks that wait for the disk: more threads at once, where it has threads."""
    if isinstance(executor, ThreadExecutor) and n_workers > executor.n_workers:
        return ThreadExecutor(n_workers)
    return executor


class ClusterExecutor:
    """Tasks on an existing `dask.distributed` cluster, a window of them at a time.

    A task should take 0.1 s or more and return a small record: results are released at once. It
    must not be needed that it runs only once: when a worker dies the scheduler gives its tasks to
    others.

    Parameters
    ----------
    client : a `distributed.Client`, or the address of a scheduler, ``"tcp://host:8786"``
    patience : seconds to wait for a scheduler, or for a first worker, that does not answer

    Raises
    ------
    InputError
        If `distributed` is not installed, or the address is none.
    ResourceError
        If no scheduler answers there, or it has no workers.
    """

    def __init__(self, client: Any, patience: float = 30.0) -> None:
        self._patience = patience
        self._owned = isinstance(client, str)
        self._client = _connect(client, patience) if self._owned else client
        try:
            self._workers = self._wait_for_workers()
        except BaseException:
            self.close()
            raise

    @property
    def n_workers(self) -> int:
        """Threads of all workers, when it was made."""
        return sum(int(worker["nthreads"]) for worker in self._workers)

    def task_memory(self, memory: int | None) -> int:
        """Bytes that one task may use: an equal share of `memory`, the budget of each worker.

        None: half of what the smallest worker may use.

        Raises
        ------
        InputError
            If `memory` is None and a worker has no limit.
        """
        threads = max(int(worker["nthreads"]) for worker in self._workers)
        if memory is None:
            limits = [int(worker.get("memory_limit") or 0) for worker in self._workers]
            if not min(limits):
                raise InputError(
                    "`memory` must be given for a cluster whose workers have no memory limit: what "
                    "each worker may use, such as memory='8GB'."
                )
            memory = min(limits) // 2
        return memory // threads

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Generator[Result, None, None]:
        """Yield results as they finish; errors name the task by its text.

        Raises
        ------
        ResourceError
            If the scheduler goes away, no worker is left, or a task kills its workers.
        """
        remaining = iter(tasks)
        pending: dict[str, tuple[Any, Task]] = {}
        done: queue.Queue[Any] = queue.Queue()
        window = self.n_workers + -(-self.n_workers // 4)
        try:
            while True:
                for task in islice(remaining, window - len(pending)):
                    future = self._client.submit(function, task, pure=False)
                    pending[future.key] = future, task
                    future.add_done_callback(done.put)
                if not pending:
                    return
                future, task = pending.pop(self._next(done).key)
                result = self._result(future, task)
                future.release()
                yield result
        finally:
            self._drain(done, pending)

    def close(self) -> None:
        """Leave the cluster, if it was entered here."""
        if self._owned:
            self._client.close(timeout=2)

    def _next(self, done: "queue.Queue[Any]") -> Any:
        """The next future that has ended; an error if none can end any more."""
        while True:
            try:
                return done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._wait_for_workers()

    def _result(self, future: Any, task: Any) -> Any:
        from distributed import CancelledError, KilledWorker

        try:
            return future.result(timeout=self._patience)
        except KilledWorker as error:
            raise ResourceError(
                f"{task} has killed every worker that it was given to ({error}); look at the "
                "workers' logs (memory is the usual reason: lower `memory`), then call again: what "
                "is finished is kept."
            ) from None
        except (CancelledError, TimeoutError) as error:
            raise self._gone(error) from None
        except Exception as error:
            error.add_note(f"in {task}, on a worker of {self._address}")
            raise

    def _wait_for_workers(self) -> list[dict[str, Any]]:
        """What each worker has; waits `patience` for the first."""
        end = time.monotonic() + self._patience
        while True:
            workers = self._ask_for_workers()
            if workers:
                return workers
            if time.monotonic() > end:
                raise ResourceError(
                    f"The scheduler at {self._address} has no workers; start some "
                    f"(dask worker {self._address}), then call again: what is finished is kept."
                )
            time.sleep(0.2)

    def _ask_for_workers(self) -> list[dict[str, Any]]:
        if self._client.status != "running":
            raise self._gone(f"the client is {self._client.status}")
        try:
            identity = self._client.sync(
                self._client.scheduler.identity, n_workers=-1, callback_timeout=self._patience
            )
        except (OSError, TimeoutError) as error:
            raise self._gone(error) from None
        return list(identity["workers"].values())

    def _gone(self, why: object) -> ResourceError:
        return ResourceError(
            f"The scheduler at {self._address} does not answer ({why}); see that it runs, then "
            "call again: what is finished is kept."
        )

    @property
    def _address(self) -> str:
        scheduler = self._client.scheduler
        return str(scheduler.address if scheduler is not None else "(closed)")

    def _drain(self, done: "queue.Queue[Any]", pending: dict[str, Any]) -> None:
        """Let the tasks that run come to their end, while there is someone to run them."""
        try:
            while pending:
                pending.pop(self._next(done).key)[0].release()
        except ResourceError:
            pass  # nobody is left to wait for; what went wrong is being raised already
        finally:
            for future, _ in pending.values():
                future.release()


def _connect(address: str, patience: float) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            f"`executor` {address!r} is a cluster's address, which needs `distributed`: "
            "pip install 'inpca[distributed]'."
        ) from None
    try:
        return Client(address, timeout=patience, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ResourceError(
            f"Nobody answers at the scheduler's address {address} ({error}); start one "
            "(dask scheduler), or correct the address."
        ) from None
    except ValueError as error:
        raise InputError(
            f"`executor` {address!r} must be a scheduler's address such as 'tcp://host:8786' "
            f"({error})."
        ) from None


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
    if _is_cluster(executor):
        raise InputError("`executor` must not be a cluster here: only distances run on one.")
    if isinstance(executor, Executor):
        return executor
    raise InputError(
        "`executor` must be None, 'threads', 'serial', a number of threads, a scheduler's address "
        "'tcp://…', a distributed.Client, or an object with `n_workers` and `map`, not "
        f"{executor!r}."
    )


@contextmanager
def connected(executor: Any) -> Iterator[Executor]:
    """`get_executor`, and a cluster where `executor` is one; left again at the end.

    Parameters
    ----------
    executor : as for `get_executor`; or a `distributed.Client`, or a scheduler's address

    Raises
    ------
    InputError, ResourceError
        See `ClusterExecutor`.
    """
    if not _is_cluster(executor):
        yield get_executor(executor)
        return
    cluster = executor if isinstance(executor, ClusterExecutor) else ClusterExecutor(executor)
    try:
        yield cluster
    finally:
        cluster.close()


def _is_cluster(executor: object) -> bool:
    """Whether this is a cluster, told without importing dask."""
    if isinstance(executor, str):
        return ":" in executor
    module = type(executor).__module__.partition(".")[0]
    return isinstance(executor, ClusterExecutor) or module == "distributed"


def n_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
