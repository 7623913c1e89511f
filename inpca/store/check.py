"""Reading all of an ensemble to find what is damaged."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from inpca.errors import InpcaError
from inpca.store.catalogue import run_stamps
from inpca.store.files import Damage, file_lock, sweep, take
from inpca.store.group import check_members
from inpca.store.run import SUFFIX, Run


def check_ensemble(path: Path) -> list[Damage]:
    """Damage of the sample sets and runs of the ensemble at `path`; keys are relative to it."""
    found = []
    for store in sorted((path / "samples").iterdir()):
        found += _check_store(path, store, partial(check_members, store))
    for run_id in run_stamps(path / "runs"):
        run = path / "runs" / f"{run_id}{SUFFIX}"
        _sweep_run(path, run_id)
        found += _check_store(path, run, partial(_check_run, run))
    return found


def _check_run(run: Path) -> list[Damage]:
    return Run(run).check()


def _check_store(path: Path, store: Path, check: Callable[[], list[Damage]]) -> list[Damage]:
    """Run `check`; metadata that cannot be read at all is one damage of the whole store."""
    key = str(store.relative_to(path))
    try:
        return [Damage(f"{key}/{damage.key}", damage.reason) for damage in check()]
    except (InpcaError, OSError) as error:
        return [Damage(f"{key}/zarr.json", str(error))]


def _sweep_run(path: Path, run_id: str) -> None:
    """Remove a killed writer's leftovers, unless a writer is at work there."""
    lock = file_lock(path / ".locks" / f"{run_id}.lock")
    if take(lock):
        try:
            sweep(path / "runs" / f"{run_id}{SUFFIX}")
        finally:
            lock.release()
