"""Reading all of an ensemble to find what is damaged."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from inpca import durable
from inpca.errors import InpcaError
from inpca.store.catalogue import find_runs, listed_runs
from inpca.store.files import Damage, file_lock, remove, sweep, take, where_writable
from inpca.store.group import METADATA, check_members, read_member, read_root, repeat_metadata
from inpca.store.run import LOST, SUFFIX, Run, cure


def check_ensemble(path: Path) -> list[Damage]:
    """Damage of the sample sets and runs of the ensemble at `path`; keys are relative to it."""
    found = []
    for store in sorted((path / "samples").iterdir()):
        found += _check_store(path, store, partial(check_members, store))
    with where_writable():  # what is out of order there is no damage
        _sweep_deleted(path)
    runs, lost = find_runs(path / "runs")
    for run_id in runs:
        run = path / "runs" / f"{run_id}{SUFFIX}"
        found += _check_store(path, run, partial(_check_run, path, run_id))
    for run_id in lost:
        found.append(Damage(f"runs/{run_id}{SUFFIX}/{METADATA}", f"{LOST}; {cure(run_id)}"))
    return found + _missing_runs(path, {*runs, *lost})


def _missing_runs(path: Path, there: Collection[str]) -> list[Damage]:
    """Runs of which nothing is left, where something still names them.

    The frozen lists of distances and embeddings do for ever. The catalogue does until the models
    are listed next: it is derived from what is there.
    """
    named: dict[str, list[str]] = {}
    for store in (*(path / "distances").glob("*.zarr"), *(path / "embeddings").glob("*.zarr")):
        for run_id in _frozen_runs(store) - {*there}:
            named.setdefault(run_id, []).append(str(store.relative_to(path)))
    for run_id in listed_runs(path).keys() - {*there}:
        named.setdefault(run_id, []).append("catalogue")
    return [
        Damage(
            f"runs/{run_id}{SUFFIX}",
            f"is missing, but {' and '.join(sorted(names))} name{'s' * (len(names) == 1)} models "
            "of it; restore it from a copy or record it again; or, if it was removed on purpose, "
            "compute again what names it (a catalogue follows by itself)",
        )
        for run_id, names in sorted(named.items())
    ]


def _frozen_runs(store: Path) -> set[str]:
    """Runs of the models that a matrix or embedding was made of; none where it has no list."""
    try:
        documents = read_root(store)[1]
        if "model" not in documents:
            return set()
        keys = read_member(store / "model", documents["model"]).values.tolist()
    except (InpcaError, OSError):
        return set()  # damage of that store itself, which its own check names
    runs = {str(key).rpartition("/")[0] for key in keys}
    return {run_id for run_id in runs if run_id}


def _check_run(path: Path, run_id: str) -> list[Damage]:
    run = Run(path / "runs" / f"{run_id}{SUFFIX}")
    with where_writable():  # what is out of order there is no damage
        tidy_run(path, run_id)
    return run.check()


def _check_store(path: Path, store: Path, check: Callable[[], list[Damage]]) -> list[Damage]:
    """Run `check`; metadata that cannot be read at all is one damage of the whole store."""
    key = str(store.relative_to(path))
    try:
        return [Damage(f"{key}/{damage.key}", damage.reason) for damage in check()]
    except (InpcaError, OSError) as error:
        return [Damage(f"{key}/zarr.json", str(error))]


def _sweep_deleted(path: Path) -> None:
    """Remove the rest of runs whose deletion was cut off, unless a writer is at it."""
    for leftover in (path / "runs").glob(f"*{SUFFIX}.*"):
        if not durable.is_partial(leftover.name):
            continue
        run_id = leftover.name.rpartition(f"{SUFFIX}.")[0]
        lock = file_lock(path / ".locks" / f"{run_id}.lock")
        if take(lock):
            try:
                remove(leftover)
            finally:
                lock.release()


def tidy_run(path: Path, run_id: str) -> None:
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
