"""Import a folder of the archive, and account for every file in it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collectors.distance_files import import_distances
from collectors.formats import read_labels
from collectors.published.index import models_table, read_index
from collectors.published.names import SETS, is_run_file, run_id, settings_in_name
from collectors.published.runs import PublishedRun, read_run
from collectors.torch_files import load_torch
from inpca import create_ensemble, open_ensemble
from inpca.errors import DamagedStoreError, InputError
from inpca.reporting import ProgressArgument, reporting
from inpca.store.ensemble import Ensemble
from inpca.store.record import record_run

PathLike = str | os.PathLike[str]
Labels = Mapping[str, NDArray[np.int64]]
Status = Literal["imported", "present", "ignored", "failed"]

_RESULTS = ("r_", "dists_", "dist_", "corr_", "nan_models_", "w_")


@dataclass(frozen=True)
class Account:
    """What became of one file.

    Attributes
    ----------
    file : path within the folder
    status : ``"imported"``; ``"present"``, imported by a former call; ``"ignored"``, nothing that
        could be imported; ``"failed"``, should have been imported and was not
    target : the run's id, or the matrix' path; empty where there is none
    reason : why it was not, or what to know of how it was
    """

    file: str
    status: Status
    target: str = ""
    reason: str = ""


def import_archive(
    folder: PathLike,
    ensemble: PathLike,
    *,
    labels: Mapping[str, PathLike] | None = None,
    allow_pickle: bool = False,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> list[Account]:
    """Import all that can be read of an archive, and account for every file in it.

    A run is imported whole or not at all, as is what is written of a matrix; what is there from a
    former call is left alone. Memory: the predictions of one run; for matrices see
    `collectors.distance_files.import_distances`.

    Parameters
    ----------
    folder : the archive, or a part of it; folders within it are looked into
    ensemble : where runs go, and matrices (``distances/<name>.zarr``, as `inpca.TiledMatrix`);
        without runs it becomes a folder of matrices, and no ensemble
    labels : for each sample set that is wanted (``"train"``, ``"test"``) a ``.npy`` file with the
        true classes in the order of the predictions; runs cannot be imported without
    allow_pickle : load tables of pandas and other objects, and so run any program in these files;
        see `collectors.torch_files`
    restart : replace runs and matrices that exist
    progress : None, True for a bar on standard error, or a callable (done, total, text)

    Returns
    -------
    an account for each file, in the order of their names

    Raises
    ------
    InputError
        If `folder` is none, or `labels` are not those of the ensemble or of unknown sets. What is
        wrong with a file is in its account, and raises nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"`folder` must be the folder of an archive; {folder} is none.")
    known = _read_labels(labels or {})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    job = _Job(folder, Path(ensemble), known, allow_pickle, restart)
    _check_labels(job.ensemble(), known)
    accounts = []
    with reporting(progress, "import") as report:
        for done, file in enumerate(files):
            report(done, len(files), file.name)
            accounts.append(job.account(file))
        report(len(files), len(files), "")
    return accounts


def _read_labels(labels: Mapping[str, PathLike]) -> dict[str, NDArray[np.int64]]:
    unknown = sorted(set(labels) - set(SETS))
    if unknown:
        raise InputError(f"`labels` must be of the sets {', '.join(SETS)}, not {unknown[0]!r}.")
    return {name: read_labels(Path(path)) for name, path in labels.items()}


@dataclass
class _Job:
    """One import: where from, where to, how."""

    folder: Path
    target: Path
    labels: Labels
    allow_pickle: bool
    restart: bool

    def account(self, file: Path) -> Account:
        """Import one file if it can be; say what became of it."""
        name = file.relative_to(self.folder).as_posix()
        try:
            if is_run_file(file):
                return self._run(file, name)
            if file.name.startswith("w_") and file.suffix in (".h5", ".hdf5"):
                return self._matrix(file, name)
        except (InputError, DamagedStoreError) as error:
            return Account(name, "failed", "", str(error))
        return Account(name, "ignored", "", _why_ignored(file))

    # -- runs -------------------------------------------------------------------------------------

    def _run(self, file: Path, name: str) -> Account:
        if not self.labels:
            raise InputError(
                f"{file} holds no labels; pass labels={{'train': FILE.npy, …}} "
                "(--labels train=FILE.npy), in the order of the predictions."
            )
        settings = settings_in_name(file)
        name_of_run = run_id(settings)
        there = self.ensemble()
        if there is not None and name_of_run in there.runs and not self.restart:
            return Account(name, "present", name_of_run)
        content = load_torch(file, allow_pickle=self.allow_pickle)
        run = read_run(content, settings, self.labels, file)
        self._write(name_of_run, run, there)
        return Account(name, "imported", name_of_run, run.note)

    def ensemble(self) -> Ensemble | None:
        """The ensemble as it is now, if there is one yet."""
        return open_ensemble(self.target) if (self.target / "ensemble.json").is_file() else None

    def _write(self, name: str, run: PublishedRun, there: Ensemble | None) -> None:
        target = there or create_ensemble(
            self.target, sample_sets=self.labels, n_classes=run.n_classes, exist_ok=True
        )
        with target.start_run(name, run.config, restart=self.restart) as writer:
            record_run(writer, run.log_probs, "log_probs", run.step, run.epoch, run.metrics)

    # -- matrices ---------------------------------------------------------------------------------

    def _matrix(self, file: Path, name: str) -> Account:
        out = self.target / "distances" / f"{file.stem.removeprefix('w_')}.zarr"
        present = out.exists() and not self.restart
        models, note = self._index(file)
        key = file.stem.split("_")[1]
        sample_set = {word: each for each, word in SETS.items()}.get(key)
        import_distances(file, out, models=models, sample_set=sample_set, restart=self.restart)
        return Account(name, "present" if present else "imported", str(out), note)

    def _index(self, file: Path) -> tuple[pd.DataFrame | None, str]:
        """The models table of a matrix, and what to know of it."""
        stem = file.stem.removeprefix("w_")
        names = [f"didx_{stem}", f"didx_{stem.split('_', 1)[-1]}"]
        for index in (file.with_name(name + suffix) for name in names for suffix in (".csv", ".p")):
            if index.is_file():
                return self._models(index, file), f"with {index.name}"
        return None, f"without a table of its models: there is no {names[0]}.p or .csv beside it"

    def _models(self, index: Path, file: Path) -> pd.DataFrame:
        try:
            return models_table(read_index(index, allow_pickle=self.allow_pickle))
        except InputError as error:
            raise InputError(
                f"{error} (Its matrix can be imported without it: `inpca import-distances "
                f"{file} OUT`; or save the table as {index.stem}.csv.)"
            ) from error


def _why_ignored(file: Path) -> str:
    if file.name.startswith("didx_"):
        return "an index table; it is read with the matrix w_… of its name"
    if file.name.startswith(_RESULTS):
        return "a result or a part of one; it can be computed from runs or distances"
    return "no run ({…}.p), distance matrix (w_….h5) or index table (didx_….p)"


def _check_labels(target: Ensemble | None, labels: Labels) -> None:
    """Refuse labels that are not those of an ensemble, where there is one."""
    if target is None:
        return
    for name, values in labels.items():
        there = target.sample_sets.get(name)
        if there is None or not np.array_equal(there.labels, values):
            raise InputError(
                f"`labels` of set {name!r} are not those of the ensemble {target.path}; import "
                "into an ensemble of its own."
            )
