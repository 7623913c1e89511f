"""What is known of runs that were deleted on purpose, so that they do not look lost.

Before a run is moved away a record of its deletion, ``deleted/<run>.json``, is made durable;
whoever finds the run gone, though a matrix or the catalogue names models of it, looks there. A
record counts only while there is no run of that id, so a deletion that was cut off before the run
went leaves the run as it was; recording the id anew takes the record away.
"""

import os
from pathlib import Path

from inpca import durable
from inpca.errors import InputError
from inpca.store import layout, schema
from inpca.store.claim import sweep_beside
from inpca.store.files import damaged, remove
from inpca.store.group import METADATA

_FOLDER = "deleted"
_RECORD = ".json"


def check_is_there(ensemble: Path, run_id: str) -> None:
    """Refuse a run of which no checkpoint was ever committed; a damaged one may be deleted."""
    path = run_path(ensemble, run_id)
    if (path / METADATA).exists() or lost_root(path):
        return
    if was_deleted(ensemble, run_id):
        raise InputError(f"`run_id` {run_id!r} was deleted already.")
    raise InputError(
        f"`run_id` must be a recorded run; {run_id!r} is none; look at ens.runs, or `inpca info "
        "ENSEMBLE`."
    )


def run_path(ensemble: Path, run_id: str) -> Path:
    """The folder of a run."""
    return ensemble / "runs" / f"{schema.check_run_id(run_id)}{schema.RUN_SUFFIX}"


def lost_root(path: Path) -> bool:
    """Whether something was committed to the run at `path` whose root `zarr.json` is gone.

    The `zarr.json` of its arrays tell: they are written after the root's, and a run is deleted by
    moving it away whole. What a writer left that never committed has none of them.
    """
    try:
        committed = any((path / name / METADATA).exists() for name in os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    # Looked at last: a first commit may have come between.
    return committed and not (path / METADATA).exists()


def record_deletion(ensemble: Path, run_id: str) -> None:
    """Make it durable that a run is about to be deleted; only behind the run's lock."""
    path = _record_path(ensemble, run_id)
    path.parent.mkdir(exist_ok=True)
    sweep_beside(path)
    durable.sync_folder(ensemble)
    durable.write_bytes(path, layout.to_json({"inpca": schema.header("deletion"), "run": run_id}))


def forget_deletion(ensemble: Path, run_id: str) -> None:
    """Take the record away, if there is one: the run is recorded again."""
    remove(_record_path(ensemble, run_id))


def was_deleted(ensemble: Path, run_id: str) -> bool:
    """Whether a run is gone because it was deleted on purpose."""
    return not run_path(ensemble, run_id).exists() and _record_path(ensemble, run_id).exists()


def deletion_error(run_id: str) -> InputError:
    """The error for a run that `was_deleted`."""
    return InputError(
        f"Run {run_id!r} was deleted, and its predictions with it; leave its models out "
        "(select()), or record it again under that id."
    )


def deleted_runs(ensemble: Path) -> set[str]:
    """Ids of all runs that were deleted on purpose and not recorded again."""
    try:
        names = os.listdir(ensemble / _FOLDER)
    except FileNotFoundError:
        return set()
    except NotADirectoryError:
        raise damaged(ensemble / _FOLDER, "is no folder", "delete it") from None
    ids = {name.removesuffix(_RECORD) for name in names if name.endswith(_RECORD)}
    return {run_id for run_id in ids if schema.is_run_id(run_id) and was_deleted(ensemble, run_id)}


def _record_path(ensemble: Path, run_id: str) -> Path:
    return ensemble / _FOLDER / f"{run_id}{_RECORD}"
