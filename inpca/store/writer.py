"""Writing a run: the commit protocol.

Order of an append: the new checkpoints' shards and the chunks of scalars are written and fsynced;
then the run's root `zarr.json`, whose consolidated metadata holds the length of every array, is
replaced by one atomic, durable rename. That rename is the commit: whatever happens before it
leaves the run as it was. The arrays' and sub-groups' own `zarr.json` only repeat the root's and
are written after it, so that nobody ever sees a checkpoint that is not committed.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca import durable
from inpca.checks import PREDICTIONS, plain_array
from inpca.errors import InputError
from inpca.predictions import Kind
from inpca.store import layout, schema
from inpca.store.claim import sweep_beside
from inpca.store.deletion import forget_deletion, lost_root, record_deletion
from inpca.store.files import (
    after_commit,
    commit_bytes,
    file_lock,
    holds,
    remove,
    sweep,
    take,
)
from inpca.store.group import METADATA, inner_files, repeat_metadata, root_bytes
from inpca.store.intake import (
    Intake,
    check_is_mapping,
    check_metrics_mapping,
    epoch_number,
    exact_number,
    whole_number,
)
from inpca.store.layout import Document, ShardLayout
from inpca.store.observables import RowArray, check_observables, declaration
from inpca.store.run import (
    SUFFIX,
    Run,
    column_document,
    column_key,
    root_error,
    rows_checksum,
    shard_path,
)
from inpca.store.samples import SampleSet
from inpca.store.settings import same_settings

_ROWS = schema.CHECKPOINTS_PER_CHUNK
# A link in a stranger's ensemble leads nowhere.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW


class RunWriter:
    """Records the checkpoints of one run; made by `Ensemble.start_run`, used as a context.

    The writer holds a file lock as long as it is open, so that a run has one writer.

    Attributes
    ----------
    id : the run's id
    n_checkpoints : number of committed checkpoints
    inputs : what the run's models are shown, as a collector notes it: sample set → anything JSON
        can hold; committed with the next checkpoint
    """

    def __init__(
        self,
        runs: Path,
        run_id: str,
        config: Mapping[str, Any] | None,
        sample_sets: Mapping[str, SampleSet],
        n_classes: int,
        dtype: np.dtype[Any],
        *,
        resume: bool = False,
        restart: bool = False,
        averages: bool = False,
    ) -> None:
        if resume and restart:
            raise InputError("`resume` and `restart` must not both be True; choose one.")
        self.id = schema.check_run_id(run_id)
        self.path = runs / f"{run_id}{SUFFIX}"
        self._config = schema.check_config(config, sample_sets, averages)
        taken = {*schema.taken_columns(sample_sets, averages), *sample_sets}
        self._intake = Intake(run_id, dict(sample_sets), n_classes, dtype, taken)
        self._columns: dict[str, list[Any]] = {}
        self._set_names: list[str] = []
        self._columns_on_disk: set[str] = set()
        self._layouts: dict[str, ShardLayout] = {}
        self._observables: set[str] = set()
        self._arrays: dict[str, RowArray] = {}
        self._n_committed = 0
        self._index: dict[str, int] = {}  # checksum of the committed rows in each file of a column
        self._has_checksums = True  # not in a run that was begun in format 1
        self.inputs: dict[str, Any] = {}
        self._lock = file_lock(runs.parent / ".locks" / f"{run_id}.lock")
        if not take(self._lock):
            raise InputError(
                f"`run_id` {run_id!r} is being recorded by another writer; choose another id."
            )
        try:
            self._begin(config, resume, restart)
        except BaseException:
            self._lock.release()
            raise

    @property
    def n_checkpoints(self) -> int:
        return self._n_committed

    def _begin(self, config: Mapping[str, Any] | None, resume: bool, restart: bool) -> None:
        committed = (self.path / METADATA).exists()
        if not restart and lost_root(self.path):
            raise root_error(self.path)
        if not committed:
            schema.check_new_run_id(self.id, run_ids(self.path.parent))
        if restart or not committed:
            if committed or lost_root(self.path):  # on purpose: it does not look lost meanwhile
                record_deletion(self.path.parent.parent, self.id)
            delete_run(self.path)
        elif resume:
            self._resume(Run(self.path), config)
        else:
            raise InputError(
                f"`run_id` {self.id!r} exists already; choose another id (--run), go on after its "
                "last checkpoint with resume=True, or delete and record it again with "
                "restart=True (--restart)."
            )

    def _resume(self, run: Run, config: Mapping[str, Any] | None) -> None:
        if config is not None and not same_settings(self._config, run.config):
            raise InputError(
                f"`config` must be the one that run {self.id!r} was started with ({run.config}), "
                f"not {self._config}; leave it out, or use another run id."
            )
        sweep(self.path)
        repeat_metadata(self.path)
        self._config, self.inputs = run.config, run.inputs
        self._set_names = list(run.sample_sets)
        self._layouts = {name: run.layout(name) for name in self._set_names}
        self._n_committed = run.n_checkpoints
        names = ["step", "epoch", *run.metric_names, *(f"{n}/digest" for n in self._set_names)]
        self._arrays = run.row_arrays
        self._observables = set(run.observable_names)
        names += sorted(self._observables - set(self._arrays))
        names += run.checksum_names
        self._has_checksums = bool(run.checksum_names)
        self._columns = {name: run.column(name).tolist() for name in names}
        self._columns_on_disk = set(names)
        for name in names:
            self._index_column(name, 0, self._n_committed)

    # -- recording --------------------------------------------------------------------------------

    def append(
        self,
        predictions: Mapping[str, ArrayLike],
        kind: Kind = "log_probs",
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
        observables: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Record one checkpoint; when this returns it is committed.

        Parameters
        ----------
        predictions : sample set → array of shape (n_samples, n_classes)
        kind : what the numbers are: ``"probs"``, ``"log_probs"``, ``"logits"``, ``"sqrt_probs"``
        step : optimizer steps done; a whole number that fits into int64
        epoch : passes over the training set done; may be a fraction
        metrics : further scalars that float64 holds exactly; loss and error of every sample set
            are computed here
        observables : of hidden layers, ``<set>/<observable>`` or ``<set>/<observable>.<layer>`` →
            value; the observables and their dimensions are in `inpca.store.schema.OBSERVABLES`

        Raises
        ------
        InputError
            For predictions that are no probabilities, of another number of samples or classes, or
            for a sample set that the ensemble does not have; for a step, epoch or metric that
            could not be stored exactly, or a metric whose name is taken; for observables that are
            not finite or not those of the checkpoints before. Nothing is written then.
        """
        check_is_mapping(predictions)
        block = {
            name: plain_array(values, f"predictions[{name!r}]", PREDICTIONS)[None]
            for name, values in predictions.items()
        }
        rows = {name: [value] for name, value in check_metrics_mapping(metrics).items()}
        hidden = {
            name: plain_array(values, f"observables[{name!r}]")[None]
            for name, values in (observables or {}).items()
        }
        with self.transaction():
            self.stage(block, kind, [step], [epoch], rows, hidden)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is staged inside, or forget it all if that fails."""
        try:
            yield
            first = self._n_committed == 0
            self._commit()
            if first:  # a run of this id is no longer one that was deleted
                with after_commit(self.path):
                    forget_deletion(self.path.parent.parent, self.id)
        except BaseException:
            self._forget_staged()
            raise

    def stage(
        self,
        predictions: Mapping[str, ArrayLike],
        kind: Kind,
        step: Sequence[int],
        epoch: Sequence[float],
        metrics: Mapping[str, Sequence[float]],
        observables: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Write the shards of some checkpoints, inside a `transaction`.

        `predictions` have shape (k, n_samples, n_classes), the scalars length k, `observables`
        (k, …).
        """
        first = len(self._columns.get("step", ()))
        self._intake.check_same_sets(self._set_names, predictions.keys())
        self._intake.check_metrics(metrics, self._config)
        losses = {name: self._columns.get(f"{name}_loss", []) for name in predictions}
        blocks = self._intake.blocks(predictions, kind, first, losses)
        scalars, arrays = check_observables(
            observables or {}, self._observables, self._arrays, list(blocks), len(step), first
        )
        columns: dict[str, list[Any]] = {
            "step": [whole_number(value, "`step`") for value in step],
            "epoch": [epoch_number(value) for value in epoch],
        }
        for name, block in blocks.items():
            columns |= self._intake.metrics_of(name, block)
        for name, values in metrics.items():
            columns[name] = [exact_number(value, f"`metrics[{name!r}]`") for value in values]
        columns |= scalars
        for name, block in blocks.items():
            columns |= self._write_shards(name, block, first)
        columns |= self._write_arrays(arrays, first)
        self._observables = {*scalars, *arrays}
        self._extend(columns, first, len(step))
        self._set_names = list(blocks)

    def _write_shards(
        self, sample_set: str, block: NDArray[np.floating], first: int
    ) -> dict[str, list[Any]]:
        """Write one file per checkpoint, not yet fsynced; return the columns of their identity."""
        shards = self._layout(sample_set)
        path = shard_path(self.path, sample_set, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        checksums = []
        for offset, values in enumerate(block):
            shard = shards.encode(values)
            # In place: until the commit nobody reads this key, whatever a killed writer left there.
            _write_all(shard_path(self.path, sample_set, first + offset), shard)
            checksums.append(shards.checksums(shard).tolist())
        columns: dict[str, list[Any]] = {
            f"{sample_set}/digest": [layout.digest(values) for values in block]
        }
        return columns | self._checksums(f"{sample_set}/log_prob", checksums)

    def _write_arrays(self, arrays: Mapping[str, NDArray[Any]], first: int) -> dict[str, list[Any]]:
        """Write one file per checkpoint of each array, not yet fsynced; return their checksums."""
        columns: dict[str, list[Any]] = {}
        for name, block in arrays.items():
            array = self._arrays.setdefault(name, RowArray(name, block.shape[1:]))
            array.path(self.path, 0).parent.mkdir(parents=True, exist_ok=True)
            checksums = []
            for offset, values in enumerate(block):
                chunk = array.encode(values)
                _write_all(array.path(self.path, first + offset), chunk)
                checksums.append([layout.checksum_of(chunk)])
            columns |= self._checksums(name, checksums)
        return columns

    def _checksums(self, name: str, rows: list[list[int]]) -> dict[str, list[Any]]:
        """The index of the array `name`, as a column; none where the run has no such index."""
        return {schema.checksums_column(name).name: rows} if self._has_checksums else {}

    def _layout(self, sample_set: str) -> ShardLayout:
        """The layout the run was begun with; planned once, where this is its beginning."""
        if sample_set not in self._layouts:
            intake = self._intake
            n_samples = len(intake.sample_sets[sample_set])
            self._layouts[sample_set] = ShardLayout.plan(n_samples, intake.n_classes, intake.dtype)
        return self._layouts[sample_set]

    def _extend(self, columns: Mapping[str, list[Any]], first: int, count: int) -> None:
        """Add rows to the columns; a metric that comes or goes is NaN where it was not given."""
        for name in columns:
            self._columns.setdefault(name, [math.nan] * first)
        for name, values in self._columns.items():
            values += columns.get(name, [math.nan] * count)

    # -- commit -----------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Make everything staged visible, at once and durably."""
        n_checkpoints = len(self._columns["step"])
        durable.write_files(self._chunks(n_checkpoints), self._shards(n_checkpoints))
        if self._n_committed == 0:  # the folders are new as well
            durable.sync_all([self.path.parent, *(self.path / name for name in self._set_names)])
        documents = self._documents(n_checkpoints)
        root = root_bytes(documents, self._attributes(), self._index)
        try:
            commit_bytes(self.path / METADATA, root)
        except BaseException:
            # Ctrl-C may come after the rename: what is on disk decides, not what was about to be.
            if holds(self.path / METADATA, root):
                self._n_committed, self._columns_on_disk = n_checkpoints, set(self._columns)
            raise
        first = self._n_committed == 0
        self._n_committed, self._columns_on_disk = n_checkpoints, set(self._columns)
        if first:  # later `close` repeats what is committed
            with after_commit(self.path):
                for path, content in inner_files(self.path, documents).items():
                    durable.write_bytes(path, content, sync=False)

    def _forget_staged(self) -> None:
        for name in set(self._columns) - self._columns_on_disk:
            del self._columns[name]
        for values in self._columns.values():
            del values[self._n_committed :]
        self._index = {}
        for name in self._columns:
            self._index_column(name, 0, self._n_committed)
        if self._n_committed == 0:
            self._set_names, self._observables, self._arrays = [], set(), {}

    def _shards(self, n_checkpoints: int) -> list[Path]:
        """The files of the staged checkpoints."""
        new = range(self._n_committed, n_checkpoints)
        shards = [shard_path(self.path, name, index) for name in self._set_names for index in new]
        return shards + [array.path(self.path, k) for array in self._arrays.values() for k in new]

    def _chunks(self, n_checkpoints: int) -> dict[Path, bytes]:
        """The chunks of scalars that have new rows."""
        chunks = {}
        for name, values in self._columns.items():
            dtype = np.dtype(self._declaration(name).dtype)
            first = self._n_committed if name in self._columns_on_disk else 0
            (self.path / name).mkdir(parents=True, exist_ok=True)
            for number in range(first // _ROWS, -(-n_checkpoints // _ROWS)):
                rows = np.array(values[number * _ROWS : (number + 1) * _ROWS], dtype)
                chunk = np.full((_ROWS, *rows.shape[1:]), np.nan if dtype.kind == "f" else 0, dtype)
                chunk[: len(rows)] = rows
                chunks[self.path / column_key(name, number, rows.shape)] = layout.encode(chunk)
            self._index_column(name, first, n_checkpoints)
        return chunks

    def _index_column(self, name: str, first: int, stop: int) -> None:
        """Note the checksum of the rows in each file of a column that has some of first … stop."""
        dtype, values = np.dtype(self._declaration(name).dtype), self._columns[name]
        for number in range(first // _ROWS, -(-stop // _ROWS)):
            rows = np.array(values[number * _ROWS : min(stop, (number + 1) * _ROWS)], dtype)
            self._index[column_key(name, number, rows.shape)] = rows_checksum(rows)

    def _declaration(self, name: str) -> schema.Column:
        if name.endswith("/digest"):
            return schema.RUN_SET["digest"]
        if schema.is_checksums(name):
            return schema.checksums_column(name.replace("/checksum.", "/", 1))
        if name in self._observables:
            return declaration(name)
        return schema.RUN.get(name) or schema.metric_column(name, self._intake.sample_sets)

    def _documents(self, n_checkpoints: int) -> dict[str, Document]:
        """The `zarr.json` of every array, by its path inside the run."""
        documents = {}
        for name in self._columns:
            column = self._declaration(name)
            shape = (n_checkpoints, *np.shape(self._columns[name][0]))
            documents[name] = column_document(column.dtype, shape, column)
        for name in self._set_names:
            attributes = schema.RUN_SET["log_prob"].attributes
            document = self._layout(name).document(n_checkpoints, attributes)
            documents[f"{name}/log_prob"] = document
        return documents | {n: a.document(n_checkpoints) for n, a in self._arrays.items()}

    def _attributes(self) -> dict[str, Any]:
        sets = self._intake.sample_sets
        return {
            "inpca": schema.header("run", run=self.id, n_classes=self._intake.n_classes),
            "config": self._config,
            "sample_sets": {name: sets[name].fingerprint for name in self._set_names},
            **({"inputs": self.inputs} if self.inputs else {}),
        }

    # -- end --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the run; what was never committed is removed. Calling it again does nothing."""
        if not self._lock.is_locked:
            return
        try:
            if self._n_committed:
                with after_commit(self.path):
                    repeat_metadata(self.path)
            elif not (self.path / METADATA).exists():  # else a commit of which nobody could tell
                with after_commit(self.path.parent):
                    remove(self.path)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def delete_run(path: Path) -> None:
    """Delete a run, and what is left of one deleted before: whole or not at all.

    It is moved away first, durably: a run without its root would look damaged, not deleted. That
    rename is the deletion; what cannot be removed then is swept by the next writer.
    """
    if os.path.lexists(path):
        os.rename(path, durable.partial_path(path))
    with after_commit(path):
        if path.parent.exists():
            durable.sync_folder(path.parent)
            sweep_beside(path)


def run_ids(runs: Path) -> list[str]:
    """Ids of all runs in the folder `runs`, begun ones included."""
    names = os.listdir(runs)
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def _write_all(path: Path, data: bytes) -> None:
    """Write a new file, not fsynced; truncated first if a killed writer left one."""
    with open(path, "wb", opener=_open_there) as file:
        file.write(data)


def _open_there(path: str, _: int) -> int:
    return os.open(path, _WRITE, 0o666)
