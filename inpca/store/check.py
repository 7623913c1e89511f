"""Reading all of an ensemble to find what is damaged."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from inpca.errors import InpcaError
from inpca.store.catalogue import run_stamps
from inpca.store.files import Damage, file_lock, sweep, take, where_writable
from inpca.store.group import check_members, repeat_metadata
from inpca.store.run import SUFFIX, Run


def check_ensemble(path: Path) -> list[Damage]:
    """Damage of the sample sets and runs of the ensemble at `path`; keys are relative to it."""
    found = []
    for store in sorted((path / "samples").iterdir()):
        found += _check_store(path, store, partial(check_members, store))
    for run_id in run_stamps(path / "runs"):
        run = path / "runs" / f"{run_id}{SUFFIX}"
        found += _check_store(path, run, partial(_check_run, path, run_id))
    return found


def _check_run(path: Path, run_id: str) -> list[Damage]:
    run = Run(path / "runs" / f"{run_id}{SUFFIX}")
    with where_writable():  # what is out of order there is no damage
        _tidy(path, run_id)
    return run.check()


def _check_store(path: Path, store: Path, check: Callable[[], list[Damage]]) -> list[Damage]:
    """Run `check`; metadata that cannot be read at all is one damage of the whole store."""
    key = str(store.relative_to(path))
    try:
        return [Damage(f"{key}/{damage.key}", damage.reason) for damage in check()]
    except (InpcaError, OSError) as error:
        return [Damage(f"{key}/zarr.json", str(error))]


def _tidy(path: Path, run_id: str) -> None:
    """Put a run in order after a killed writer, unless a writer is at work there.

    Leftovers go, and the `zarr.json` of arrays and sub-groups, which only repeat the root's and
    are written after it, are made to say the same again.
    """
    lock = file_lock(path / ".locks" / f"{run_id}.lock")
    if take(lock):
        try:
            run = path / "runs" / f"{run_id}{SUFFIX}"
            sweep(run)
            repeat_metadata(run)
        finally:
            lock.release()
