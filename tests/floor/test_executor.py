"""Executors: every task once, as they finish; errors come through; what is none is refused."""

import threading
import time

import pytest

from inpca import InputError
from inpca.executor import SerialExecutor, ThreadExecutor, for_waiting, get_executor, n_cores


@pytest.fixture(params=["serial", 1, 3], ids=str)
def executor(request):
    return get_executor(request.param)


def test_map__gives_every_result_once(executor):
    assert sorted(executor.map(lambda task: task**2, range(100))) == [n**2 for n in range(100)]


def test_map__of_no_tasks_gives_nothing(executor):
    assert list(executor.map(abs, [])) == []


def test_map__passes_an_error_on(executor):
    def fail(task):
        if task == 5:
            raise KeyError(task)
        return task

    with pytest.raises(KeyError, match="5"):
        list(executor.map(fail, range(50)))


def test_map__on_threads_stops_after_an_error():
    begun = []

    def fail(task):
        begun.append(task)
        time.sleep(0.001)
        raise KeyError(task)

    with pytest.raises(KeyError):
        list(ThreadExecutor(2).map(fail, range(1000)))
    assert len(begun) < 100


def test_map__takes_tasks_only_as_they_are_needed():
    taken = []

    def tasks():
        for task in range(1000):
            taken.append(task)
            yield task

    results = ThreadExecutor(2).map(abs, tasks())
    next(results)
    assert len(taken) < 50
    results.close()


def test_serial_executor__keeps_the_order_and_the_thread():
    here = threading.get_ident()
    records = list(SerialExecutor().map(lambda task: (task, threading.get_ident()), range(10)))
    assert records == [(task, here) for task in range(10)]


def test_thread_executor__runs_tasks_at_the_same_time():
    meeting = threading.Barrier(3, timeout=300)
    assert len(list(ThreadExecutor(3).map(lambda _: meeting.wait(), range(3)))) == 3


def test_get_executor__takes_all_cores_by_default():
    assert get_executor().n_workers == get_executor("threads").n_workers == n_cores()
    assert get_executor(5).n_workers == 5
    mine = ThreadExecutor(2)
    assert get_executor(mine) is mine


@pytest.mark.parametrize("value", [0, -1, True, "processes", 2.5, object()])
def test_get_executor__refuses_what_is_none(value):
    with pytest.raises(InputError, match="must be"):
        get_executor(value)


def test_for_waiting__gives_threads_more_tasks_at_once_and_leaves_the_serial_one_alone():
    assert for_waiting(ThreadExecutor(2), 8).n_workers == 8
    threads, serial = ThreadExecutor(4), SerialExecutor()
    assert for_waiting(threads, 2) is threads
    assert for_waiting(serial, 8) is serial
