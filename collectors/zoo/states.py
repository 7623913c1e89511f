"""What an ensemble holds of a sweep: which trainings are done, cut off, failed, or not begun."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from numpy.typing import ArrayLike

from collectors.zoo.training import Training
from inpca import create_ensemble, durable, open_ensemble
from inpca.errors import DamagedStoreError, InputError
from inpca.opening import parse_json, read_regular
from inpca.store.ensemble import Ensemble
from inpca.store.writer import delete_run

State = Literal["done", "cut off", "failed", "missing"]

FAILED = "failed"


def prepare(ensemble: Path, labels: Mapping[str, ArrayLike], n_classes: int) -> Ensemble:
    """The ensemble for these sample sets; made where there is none, by any number of processes."""
    return create_ensemble(ensemble, sample_sets=labels, n_classes=n_classes, exist_ok=True)


def states(trainings: Iterable[Training], ensemble: Path, n_train: int) -> dict[str, State]:
    """State of each training by its run.

    Raises
    ------
    InputError
        If the ensemble holds one of the runs with another configuration.
    """
    wanted = list(trainings)
    if not (ensemble / "ensemble.json").is_file():
        return {training.run: "missing" for training in wanted}
    found = open_ensemble(ensemble)
    present = set(found.runs)
    return {
        training.run: _state(training, found, n_train, training.run in present)
        for training in wanted
    }


def is_done(training: Training, ensemble: Path, n_train: int) -> bool:
    """Whether the run is there, whole; asked of the run alone."""
    if not (ensemble / "runs" / f"{training.run}.zarr" / "zarr.json").is_file():
        return False
    return _state(training, open_ensemble(ensemble), n_train, True) == "done"


def _state(training: Training, ensemble: Ensemble, n_train: int, present: bool) -> State:
    if failure(training, ensemble.path) is not None:
        return "failed"
    if not present:
        return "missing"
    run = ensemble.run(training.run)
    if run.config != training.config:
        changed = sorted(
            key
            for key in {*run.config, *training.config}
            if run.config.get(key) != training.config.get(key)
        )
        told = ", ".join(
            f"{key} {run.config.get(key)!r} (now {training.config.get(key)!r})" for key in changed
        )
        raise InputError(
            f"Run {training.run!r} of {ensemble.path} was trained with {told}; sweep into another "
            "ensemble, or start again (--restart)."
        )
    return "done" if run.step.tolist() == training.steps(n_train) else "cut off"


# --- failures --------------------------------------------------------------------------------


def failure(training: Training, ensemble: Path) -> str | None:
    """Why this very training failed, if it did; what failed with other settings does not count.

    Raises
    ------
    DamagedStoreError
        If the record cannot be read.
    """
    path = _record(training.run, ensemble)
    try:
        record = parse_json(read_regular(path), "it")
        same = record["config"] == training.config
        return str(record["reason"]) if same else None
    except (InputError, KeyError, TypeError) as error:
        if not path.exists():  # most trainings have none, and another process may remove it
            return None
        raise DamagedStoreError(
            f"{path} cannot be read ({error}); remove it, and the run is trained again."
        ) from error


def failures(trainings: Iterable[Training], ensemble: Path) -> dict[str, str]:
    """Run → why it failed, of those trainings that did."""
    reasons = {training.run: failure(training, ensemble) for training in trainings}
    return {run: reason for run, reason in reasons.items() if reason is not None}


def record_failure(training: Training, ensemble: Path, reason: str) -> None:
    """Remove what the training recorded until it failed, then write down why it did."""
    delete_run(ensemble / "runs" / f"{training.run}.zarr")
    path = _record(training.run, ensemble)
    path.parent.mkdir(exist_ok=True)
    content = {"run": training.run, "reason": reason, "config": training.config}
    durable.write_bytes(path, json.dumps(content, indent=2).encode())


def forget_failure(training: Training, ensemble: Path) -> None:
    """Remove the record, before the run is trained again."""
    _record(training.run, ensemble).unlink(missing_ok=True)


def _record(run: str, ensemble: Path) -> Path:
    return ensemble / FAILED / f"{run}.json"
