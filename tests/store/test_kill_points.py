"""Every writer killed at every operation on disk, refused each of them, and two of them at once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import kill_points
import pytest

# Killed at each point in seconds; of the others every so many points are tried in `make test`.
QUICK = ("delete_run", "catalogue", "create_ensemble")
SPARSE = {"append": 13, "save-overwrite": 53, "matrix-overwrite": 31, "trajectories-restart": 149}
# The catalogue is done without where it is refused: tests/store/test_read_only.py.
FAILED = ("create_ensemble", "add_run", "append", "delete_run", "save-overwrite")
FAILED += ("matrix-create", "matrix-overwrite", "delete_trajectories")
# Writers of so many operations that every so many are tried; all of them by hand:
# python tests/kill_points.py kill NAME FOLDER
EVERY = {"four_point": 7, "join": 7, "save": 3, "save-overwrite": 3, "distances": 3}
EVERY |= {"distances-extend": 3, "distances-restart": 5, "trajectories": 5}
EVERY |= {"trajectories-resume": 5, "trajectories-restart": 5, "delete_trajectories": 3}
PAIRS_QUICK = ("overwrite-overwrite", "catalogue")


def slow_but(names: tuple[str, ...], all_names: tuple[str, ...]) -> list[object]:
    return [
        name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in all_names
    ]


@pytest.fixture
def tried(tmp_path: Path) -> Callable[..., list[str]]:
    """Run the harness in a process of its own: it forks, and replaces functions of `os`."""

    def run(mode: str, name: str, every: int = 1) -> list[str]:
        done = subprocess.run(
            [sys.executable, kill_points.__file__, mode, name, str(tmp_path), str(every)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=890,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        states: list[str] = json.loads(done.stdout.splitlines()[-1])
        return states

    return run


@pytest.mark.parametrize("name", slow_but(QUICK, tuple(kill_points.WRITERS)))
def test_writer__killed_at_any_operation__loses_nothing_and_can_be_called_again(tried, name):
    states = tried("kill", name, EVERY.get(name, 1))
    assert len(states) > 5
    assert states[-1] == "after"
    # Once it is committed it stays so, whatever comes after.
    assert "before" not in states[states.index("after") :]


@pytest.mark.parametrize("name", SPARSE)
def test_writer__killed_now_and_then__loses_nothing_and_can_be_called_again(tried, name):
    assert tried("kill", name, SPARSE[name])[-1] == "after"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", FAILED)
def test_writer__refused_any_operation__raises_only_what_is_not_done(tried, name, mode):
    """ENOSPC for good from some operation on; EIO at one of them alone."""
    assert tried(mode, name)[-1] == "after"


@pytest.mark.parametrize("mode", ["EIO", "ENOSPC"])
def test_append__refused_an_operation__gives_one_checkpoint_when_it_is_repeated(tried, mode):
    assert tried(mode, "append", 7)[-1] == "after"


@pytest.mark.parametrize("name", slow_but(PAIRS_QUICK, tuple(kill_points.PAIRS)))
def test_two_writers_at_once__are_both_whole_or_one_is_refused_by_name(tried, name):
    assert len(tried("two", name)) == 8


def test_reader__beside_a_writer_that_replaces__gets_one_embedding_or_the_other(tried):
    assert set(tried("read", "save-overwrite")) <= {"1", "2", "3"}
