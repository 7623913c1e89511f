"""Ensemble: sample sets, runs, the models table, selection."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca import durable
from inpca.checks import usable_path
from inpca.errors import InputError
from inpca.persistence import naming_files
from inpca.predictions import Kind
from inpca.reporting import ProgressArgument, reporting
from inpca.store import schema
from inpca.store.catalogue import Catalogue, Recordings
from inpca.store.check import check_ensemble, tidy_ensemble
from inpca.store.deletion import (
    check_is_there,
    deletion_error,
    record_deletion,
    run_path,
    was_deleted,
)
from inpca.store.files import Damage, file_lock, remove, sweep, take
from inpca.store.group import METADATA
from inpca.store.manifest import (
    DTYPES,
    MANIFEST,
    MOST_CLASSES,
    make_manifest,
    read_manifest,
    write_manifest,
)
from inpca.store.predictions import Row, StoredPredictions
from inpca.store.record import record_run
from inpca.store.run import Run, recorded_again
from inpca.store.samples import (
    SampleSet,
    difference,
    make_sample_set,
    read_sample_set,
    write_sample_set,
)
from inpca.store.selection import add_references, select_rows
from inpca.store.writer import RunWriter, delete_run

PathLike = str | os.PathLike[str]


def create_ensemble(
    path: PathLike,
    *,
    sample_sets: Mapping[str, ArrayLike],
    n_classes: int,
    ids: Mapping[str, Sequence[str]] | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    exist_ok: bool = False,
) -> "Ensemble":
    """Make a new, empty ensemble.

    Parameters
    ----------
    path : folder to make, by habit ``*.ensemble``
    sample_sets : name → true classes, shape (n_samples,), in the order predictions come in
    n_classes : C
    ids : name → one name per sample, where samples have names
    dtype : type log-probabilities are stored in; float16 halves the disk and keeps 3 digits
    exist_ok : open the ensemble if it exists and has the same sample sets, classes and dtype.
        Any number of processes may do so at once.

    Raises
    ------
    InputError
        For bad labels; if the ensemble exists (without `exist_ok`) or is another one.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "my.ensemble"
    >>> ens = create_ensemble(path, sample_sets={"train": [0, 1, 1]}, n_classes=2)
    >>> p = [[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]]  # one checkpoint
    >>> ens.add_run("mlp-0", {"train": p}, config={"lr": 0.1})
    >>> ens.models.loc["mlp-0/0", "lr"].item()
    0.1
    """
    path = usable_path(path)
    sets = _make_sample_sets(sample_sets, n_classes, ids or {})
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be 'float32' or 'float16', not {dtype!r}.")
    manifest = make_manifest(sets, n_classes, dtype)
    _check_place(path, exist_ok)
    if not (path / MANIFEST).exists():
        _write_ensemble(path, sets, manifest, exist_ok)
    _check_same(path, manifest, sets)
    return Ensemble(path)


def open_ensemble(path: PathLike) -> "Ensemble":
    """Open an existing ensemble.

    Raises
    ------
    InputError
        If `path` is no ensemble, or was made by a newer version.
    DamagedStoreError
        If its sample sets are missing or damaged.
    """
    return Ensemble(usable_path(path))


class Ensemble:
    """Many runs over the same sample sets; made by `create_ensemble` or `open_ensemble`.

    The whole ensemble is live: `runs` and `models` show what is committed when they are asked
    for. A view, such as a selection, keeps the models it was made with, and refuses predictions of
    a run that was recorded again since.

    Attributes
    ----------
    path : the folder
    n_classes : C
    dtype : type the log-probabilities are stored in
    sample_sets : name → `SampleSet`
    """

    def __init__(
        self,
        path: Path,
        models: pd.DataFrame | None = None,
        recordings: Recordings | None = None,
    ) -> None:
        self.path = usable_path(path)
        manifest = read_manifest(self.path)
        self.n_classes = int(manifest["n_classes"])
        self.dtype = np.dtype(manifest["dtype"])
        self.sample_sets = {
            name: read_sample_set(_samples_path(self.path, name), name, expected)
            for name, expected in manifest["sample_sets"].items()
        }
        self._selected = models
        self._recordings = recordings or {}  # of the runs of `models`
        self._catalogue = Catalogue(self.path)

    def __repr__(self) -> str:
        sets = ", ".join(f"{name}: {len(one):,}" for name, one in self.sample_sets.items())
        return f"<Ensemble {str(self.path)!r}, {len(self):,} models, {sets}, C = {self.n_classes}>"

    def __len__(self) -> int:
        return len(self.models)

    # -- the models -------------------------------------------------------------------------------

    @property
    def models(self) -> pd.DataFrame:
        """One row per model of this view, indexed by ``run_id/checkpoint``.

        Columns run, checkpoint, kind, step, epoch, then the configuration, then the metrics.
        """
        return self._listing()[0]

    def _listing(self) -> tuple[pd.DataFrame, Recordings]:
        """A copy of the models table, and the recordings that it is of."""
        if self._selected is not None:
            return self._selected.copy(), self._recordings
        return self._catalogue.listing()

    @property
    def runs(self) -> list[str]:
        """Ids of the runs with at least one model in this view, sorted."""
        models = self.models
        return sorted(set(models.loc[models["kind"] == "checkpoint", "run"]))

    def select(self, query: "str | Sequence[str] | pd.Series[bool] | ArrayLike") -> "Ensemble":
        """A view of fewer models.

        Parameters
        ----------
        query : an expression over the columns of `models`
            (``"architecture == 'cnn' and train_error < 0.1"``), a list of model keys (their order
            is kept), or truth values, one per model

        Raises
        ------
        InputError
            For an expression that cannot be evaluated, unknown keys, or no model selected.
        """
        models, recordings = self._listing()
        if not isinstance(query, str):
            self._refuse_deleted(models, query)
        return self._view(select_rows(models, query), recordings)

    def _view(self, models: pd.DataFrame, recordings: Recordings) -> "Ensemble":
        runs = {name: recordings[name] for name in set(models["run"]) if name in recordings}
        return Ensemble(self.path, models, runs)

    def _refuse_deleted(self, models: pd.DataFrame, keys: Any) -> None:
        """Name a run that was deleted, where models of it are asked for by their keys."""
        for key in () if np.asarray(keys).dtype == bool else np.asarray(keys).ravel().tolist():
            if isinstance(key, str) and key not in models.index:
                run_id = key.rpartition("/")[0]
                if schema.is_run_id(run_id) and was_deleted(self.path, run_id):
                    raise deletion_error(run_id)
                return

    def with_references(self, *names: str) -> "Ensemble":
        """A view with reference models in front: ``"ignorance"``, ``"truth"`` (default: both)."""
        models, recordings = self._listing()
        with_them = add_references(models, names, self.sample_sets, self.n_classes)
        return self._view(with_them, recordings)

    def predictions(self, sample_set: str = "train") -> StoredPredictions:
        """The log-probabilities of the models of this view on `sample_set`, to be read in blocks.

        Raises
        ------
        InputError
            For an unknown sample set, a run that was not recorded on it, or one that was deleted
            or recorded again since this view was made.
        """
        if sample_set not in self.sample_sets:
            raise InputError(
                f"`sample_set` must be one of {', '.join(self.sample_sets)}, not {sample_set!r}."
            )
        models, recordings = self._listing()
        names = sorted(name for name in set(models["run"]) if name[0] != "@")
        runs = {name: self._run(name, recordings) for name in names}
        rows = [
            Row(str(key), runs.get(run), int(checkpoint))
            for key, run, checkpoint in zip(models.index, models["run"], models["checkpoint"])
        ]
        return StoredPredictions(rows, self.sample_sets[sample_set], self.n_classes)

    def run(self, run_id: str) -> Run:
        """Read access to one run.

        Raises
        ------
        InputError
            If there is no committed run `run_id`, or it was deleted; if this is a view with models
            of that run, which was recorded again since the view was made.
        """
        return self._run(run_id, self._recordings)

    def _run(self, run_id: str, recordings: Recordings) -> Run:
        """The run, if it begins with what was recorded when its models were listed."""
        path = run_path(self.path, run_id)
        if was_deleted(self.path, run_id):
            raise deletion_error(run_id)
        run = Run(path)
        if run_id in recordings and not run.holds(recordings[run_id]):
            raise recorded_again(run_id, "this view was made", "make the view")
        return run

    # -- recording --------------------------------------------------------------------------------

    def start_run(
        self,
        run_id: str,
        config: Mapping[str, Any] | None = None,
        *,
        resume: bool = False,
        restart: bool = False,
    ) -> RunWriter:
        """Begin to record a run; use the writer as a context.

        Parameters
        ----------
        run_id : letters, digits, ``.``, ``_``, ``-``; no other run's id but for case, and not
            ending like a file of the store (``.zarr``, ``.lock``, ``.partial``, …)
        config : scalars that describe the run; columns of the models table, in which they are
            what they are here: text, truth value, finite number, integers of any size
        resume : go on after the last committed checkpoint, if there is one
        restart : delete what was recorded under this id, and begin again

        Raises
        ------
        InputError
            If the run exists (without `resume` or `restart`), or another writer holds it; for an
            id, a key or a value that could not be stored and listed. Nothing is written then.
        """
        return RunWriter(
            self._runs_path,
            run_id,
            config,
            self.sample_sets,
            self.n_classes,
            self.dtype,
            resume=resume,
            restart=restart,
        )

    def add_run(
        self,
        run_id: str,
        predictions: Mapping[str, ArrayLike],
        kind: Kind = "probs",
        *,
        step: ArrayLike | None = None,
        epoch: ArrayLike | None = None,
        config: Mapping[str, Any] | None = None,
        metrics: Mapping[str, ArrayLike] | None = None,
        observables: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Record a whole run from arrays; it becomes visible at once, or not at all.

        Parameters
        ----------
        run_id : see `start_run`
        predictions : sample set → array of shape (n_checkpoints, n_samples, n_classes); read in
            blocks, so it may be a memory map
        kind : what the numbers are: ``"probs"``, ``"log_probs"``, ``"logits"``, ``"sqrt_probs"``
        step : steps of the checkpoints; by default 0, 1, 2, …
        epoch : epochs of the checkpoints; by default unknown (NaN)
        config : see `start_run`
        metrics : further scalars, name → (n_checkpoints,)
        observables : of hidden layers, see `RunWriter.append`; name → (n_checkpoints, …)

        Raises
        ------
        InputError
            If the run exists; for predictions that are no probabilities or do not fit the
            ensemble's sample sets. Nothing is left on disk then.
        """
        with self.start_run(run_id, config) as writer:
            record_run(writer, predictions, kind, step, epoch, metrics or {}, observables)

    def delete_run(self, run_id: str) -> None:
        """Delete a run, whole or not at all; its models and predictions are gone for good.

        Distances and embeddings that hold models of it keep what they hold, and `check` knows
        that it was deleted on purpose. What needs its predictions names the run.

        Parameters
        ----------
        run_id : a recorded run; one that has lost files may be deleted too

        Raises
        ------
        InputError
            If there is no such run, or a writer is recording it.

        Examples
        --------
        >>> import tempfile
        >>> ens = create_ensemble(tempfile.mkdtemp() + "/e", sample_sets={"a": [0]}, n_classes=2)
        >>> ens.add_run("mlp-0", {"a": [[[0.9, 0.1]]]})
        >>> ens.delete_run("mlp-0")
        >>> ens.runs
        []
        """
        path = run_path(self.path, run_id)
        lock = file_lock(self.path / ".locks" / f"{run_id}.lock")
        if not take(lock):
            raise InputError(
                f"`run_id` {run_id!r} is being recorded; stop its writer, or wait for it."
            )
        try:
            check_is_there(self.path, run_id)
            with naming_files(path):
                record_deletion(self.path, run_id)
                delete_run(path)
        finally:
            lock.release()

    # -- files ------------------------------------------------------------------------------------

    @property
    def _runs_path(self) -> Path:
        return self.path / "runs"

    def distances_path(self, name: str) -> Path:
        """Where the distance matrix `name` of this ensemble belongs."""
        return self.path / "distances" / f"{schema.check_run_id(name, '`name`')}.zarr"

    def embeddings_path(self, name: str) -> Path:
        """Where the embedding `name` of this ensemble belongs."""
        return self.path / "embeddings" / f"{schema.check_run_id(name, '`name`')}.zarr"

    def check(self, progress: ProgressArgument = None) -> list[Damage]:
        """Read every file of the ensemble; what is damaged, by key, with the cure.

        Nothing is written, and no lock is taken: writers at work are not disturbed. What is still
        to be computed, and what killed writers left, is no damage; `tidy` removes the latter.
        """
        with reporting(progress, f"checking {self.path.name}") as report:
            return check_ensemble(self.path, report)

    def tidy(self) -> None:
        """Remove what killed writers of runs left, and repeat metadata that they did not.

        Runs that are being recorded are left alone. Whatever is written next to a run tidies it
        as well, so that this is for disk space, and for readers that open single arrays.
        """
        with naming_files(self.path):
            tidy_ensemble(self.path)


# -- making and opening ---------------------------------------------------------------------------


def _make_sample_sets(
    sample_sets: Mapping[str, ArrayLike], n_classes: int, ids: Mapping[str, Sequence[str]]
) -> dict[str, SampleSet]:
    if int(n_classes) != n_classes or not 2 <= n_classes <= MOST_CLASSES:
        raise InputError(
            f"`n_classes` must be a whole number of 2 … {MOST_CLASSES:,}, not {n_classes}."
        )
    if not sample_sets:
        raise InputError("`sample_sets` must have at least one set, such as {'train': labels}.")
    unknown = [name for name in ids if name not in sample_sets]
    if unknown:
        raise InputError(
            f"`ids` must be for sample sets ({', '.join(sample_sets)}), not {unknown}."
        )
    sets = {
        name: make_sample_set(name, labels, n_classes, ids.get(name))
        for name, labels in sample_sets.items()
    }
    schema.check_set_names(sets)
    return sets


def _check_place(path: Path, exist_ok: bool) -> None:
    """Refuse, before anything is written, a path that holds something else."""
    if path.exists() and not path.is_dir():
        raise InputError(f"`path` {path} is a file; choose another.")
    if (path / MANIFEST).exists():
        if not exist_ok:
            raise InputError(f"`path` {path} exists already; open it, or pass exist_ok=True.")
    elif path.is_dir():
        # Without a manifest a folder is ours only if a creator is at work there, or was killed.
        others = {name for name in os.listdir(path) if not name.startswith(MANIFEST)}
        if others - _BEFORE_MANIFEST:
            raise InputError(f"`path` {path} is a folder with other files in it; choose another.")


_BEFORE_MANIFEST = {".locks", "samples", "runs", "distances", "embeddings"}


def _write_ensemble(
    path: Path, sets: Mapping[str, SampleSet], manifest: dict[str, Any], exist_ok: bool
) -> None:
    """The parts first, the manifest last: without it the folder is no ensemble."""
    with file_lock(path / ".locks" / "create.lock"):
        if (path / MANIFEST).exists():  # another process was first
            _check_place(path, exist_ok)
            return
        sweep(path)
        for folder in ("samples", "runs", "distances", "embeddings"):
            (path / folder).mkdir(exist_ok=True)
        _remove_other_sets(path / "samples", sets)
        for name, sample_set in sets.items():
            write_sample_set(_samples_path(path, name), sample_set)
        durable.sync_folder(path.parent)
        write_manifest(path, manifest)


def _remove_other_sets(samples: Path, sets: Mapping[str, SampleSet]) -> None:
    """Remove what a killed creator of another ensemble left: a sample set, never anything else."""
    others = [store for store in samples.glob("*.zarr") if store.stem not in sets]
    for store in (one for one in others if one.is_dir() and not one.is_symlink()):
        if {entry.name for entry in store.iterdir()} <= {METADATA, *schema.SAMPLES}:
            remove(store)


def _samples_path(path: Path, name: str) -> Path:
    return path / "samples" / f"{name}.zarr"


def _check_same(path: Path, manifest: Mapping[str, Any], sets: Mapping[str, SampleSet]) -> None:
    existing = read_manifest(path)
    for name in ("n_classes", "dtype"):
        if existing[name] != manifest[name]:
            raise InputError(
                f"`{name}` must be that of the ensemble {path}, {existing[name]}, not "
                f"{manifest[name]}."
            )
    ours, theirs = manifest["sample_sets"], existing["sample_sets"]
    if set(ours) != set(theirs):
        raise InputError(
            f"`sample_sets` must be those of the ensemble {path} ({', '.join(theirs)}), not "
            f"{', '.join(ours)}."
        )
    for name, one in ours.items():
        if one != theirs[name]:
            stored = read_sample_set(_samples_path(path, name), name, theirs[name])
            raise InputError(
                f"`sample_sets[{name!r}]` must be the ensemble's, same labels, same ids, same "
                f"order; {difference(sets[name], stored)}; use those, or make another ensemble."
            )
