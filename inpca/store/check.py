"""Reading all of an ensemble to find what is damaged: nothing is written, nobody is disturbed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from inpca import durable
from inpca.errors import DamagedStoreError, InpcaError, InputError
from inpca.reporting import Report
from inpca.store.catalogue import catalogue_damage, find_runs, listed_runs
from inpca.store.deletion import deleted_runs, lost_root
from inpca.store.embedding import check_embedding
from inpca.store.files import Damage, file_lock, remove, sweep, take
from inpca.store.group import METADATA, check_members, read_member, read_root, repeat_metadata
from inpca.store.layout import CorruptChunk
from inpca.store.manifest import MANIFEST, read_manifest
from inpca.store.matrix import check_matrix
from inpca.store.replacement import half_replaced
from inpca.store.run import LOST, SUFFIX, Run, cure
from inpca.store.samples import read_sample_set
from inpca.store.trajectories import check_trajectories

# A store that is written while it is read is read again; after so many times, what is found counts.
_TIMES = 20
_KINDS = {"distances": "matrix", "embeddings": "embedding", "trajectories": "trajectories"}
Check = Callable[[Path], list[Damage]]


def check_ensemble(path: Path, report: Report | None = None) -> list[Damage]:
    """Damage of everything in the ensemble at `path`, by key relative to it.

    Sample sets, runs, distances, embeddings and trajectory distances; what is still to be computed
    is none.

    Parameters
    ----------
    report : called as ``report(done, total, key)`` with stores as unit

    Raises
    ------
    InputError
        If there is no ensemble at `path`.
    """
    try:
        sets = read_manifest(path)["sample_sets"]
    except DamagedStoreError as error:
        return [Damage(MANIFEST, str(error))]
    try:
        runs, lost = find_runs(path / "runs")
    except DamagedStoreError as error:
        return [Damage("runs", str(error))]
    checks: list[tuple[Path, Check]] = [
        (path / "samples" / f"{name}.zarr", _check_samples(name, sets[name])) for name in sets
    ]
    checks += [(path / "runs" / f"{run_id}{SUFFIX}", check_run) for run_id in runs]
    checks += [(store, check_matrix) for store in stores_in(path, "distances")]
    checks += [(store, check_embedding) for store in stores_in(path, "embeddings")]
    checks += [(store, check_trajectories) for store in stores_in(path, "trajectories")]
    found = []
    for done, (store, check) in enumerate(checks, start=1):
        found += _check_store(path, store, check)
        if report is not None:
            report(done, len(checks), store.relative_to(path).as_posix())
    for run_id in lost:
        found.append(Damage(f"runs/{run_id}{SUFFIX}/{METADATA}", f"{LOST}; {cure(run_id)}"))
    found += [
        Damage(folder, "is no folder; restore it from a copy")
        for folder in _KINDS
        if os.path.lexists(path / folder) and not (path / folder).is_dir()
    ]
    return found + _missing_runs(path) + catalogue_damage(path)


def stores_in(path: Path, folder: str) -> list[Path]:
    """The stores in a folder of the ensemble, and those whose replacement was cut off."""
    place = path / folder
    # A desktop's hidden files, such as ._name.zarr, are none.
    there = {store for store in place.glob("*.zarr") if not store.name.startswith(".")}
    return sorted({*there, *half_replaced(place, _KINDS[folder])})


def _check_store(path: Path, store: Path, check: Check) -> list[Damage]:
    """Run `check`; a store that cannot be opened at all is one damage."""
    key = store.relative_to(path).as_posix()
    try:
        return [Damage(f"{key}/{damage.key}", damage.reason) for damage in check(store)]
    except (InpcaError, OSError, CorruptChunk) as error:
        return [Damage(f"{key}/{METADATA}", str(error))]


def _check_samples(name: str, expected: dict[str, object]) -> Check:
    def check(store: Path) -> list[Damage]:
        found = check_members(read_root(store))
        if not found:
            read_sample_set(store, name, expected)
        return found

    return check


def check_run(store: Path) -> list[Damage]:
    """Damage of a run, by key relative to it, even while a writer is at work there.

    One that is deleted meanwhile has none.
    """
    found: list[Damage] = []
    for _ in range(_TIMES):
        try:
            run = Run(store)
            found = run.check()
        except InputError:
            if (store / METADATA).exists():
                raise
            return []
        except DamagedStoreError:
            if _is_gone(store):
                return []
            raise
        if not found or not run.is_replaced:
            break
    return [] if _is_gone(store) else found


def _is_gone(run: Path) -> bool:
    return not (run / METADATA).exists() and not lost_root(run)


def _missing_runs(path: Path) -> list[Damage]:
    """Runs of which nothing is left, where something still names them.

    The frozen lists of distances and embeddings do for ever. The catalogue does until the models
    are listed next: it is derived from what is there.
    """
    named: dict[str, list[str]] = {}
    for store in (*stores_in(path, "distances"), *stores_in(path, "embeddings")):
        for run_id in _frozen_runs(store):
            named.setdefault(run_id, []).append(str(store.relative_to(path)))
    for run_id in listed_runs(path):
        named.setdefault(run_id, []).append("catalogue")
    # Looked at last: a run may be deleted, or recorded, while all is read.
    runs, lost = find_runs(path / "runs")
    for run_id in {*runs, *lost, *deleted_runs(path)} & named.keys():
        del named[run_id]
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
        root = read_root(store)
        if "model" not in root.arrays:
            return set()
        keys = read_member(root, "model").values.tolist()
    except (InpcaError, OSError):
        return set()  # damage of that store itself, which its own check names
    runs = {str(key).rpartition("/")[0] for key in keys}
    return {run_id for run_id in runs if run_id}


# -- putting in order -----------------------------------------------------------------------------


def tidy_ensemble(path: Path) -> None:
    """Remove what killed writers of runs left, and repeat their metadata; not of those at work."""
    for run_id in find_runs(path / "runs")[0]:
        tidy_run(path, run_id)
    for leftover in list(_deleted(path)):
        run_id = leftover.name.rpartition(f"{SUFFIX}.")[0]
        lock = file_lock(path / ".locks" / f"{run_id}.lock")
        if take(lock):
            try:
                remove(leftover)
            finally:
                lock.release()


def _deleted(path: Path) -> Iterator[Path]:
    """The rest of runs whose deletion was cut off."""
    for leftover in (path / "runs").iterdir():
        if durable.is_partial(leftover.name):
            yield leftover


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
