"""One run on disk, read: configuration, scalars and log-probabilities of its committed checkpoints.

What is committed is what the run's root `zarr.json` says in its consolidated metadata; see
`writer.py` for how it comes there.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from inpca.errors import DamagedStoreError, InpcaError, InputError
from inpca.store import schema
from inpca.store.deletion import deletion_error, lost_root, was_deleted
from inpca.store.files import Damage, check_folder, damaged, open_file, read_bytes, read_chunk
from inpca.store.group import METADATA, Root, check_inner, read_root
from inpca.store.layout import (
    ANOTHERS,
    NOT_OURS,
    Array,
    CorruptChunk,
    Document,
    ShardLayout,
    array_document,
    checksum,
    checksum_of,
    digest,
)
from inpca.store.observables import ACTIVATIONS, RowArray, is_observable, of_layer, row_arrays

SUFFIX = schema.RUN_SUFFIX
_ROWS = schema.CHECKPOINTS_PER_CHUNK
_DAMAGES = 1000  # files of one array that a check names one by one


@dataclass(frozen=True)
class Recording:
    """What identifies the checkpoints that a run had once: appending to it changes nothing of it.

    Attributes
    ----------
    n_checkpoints : number of checkpoints that were committed
    columns : names of the columns that the run had
    digest : of its configuration, and of these columns of these checkpoints: steps, metrics,
        digests of the predictions
    """

    n_checkpoints: int
    columns: tuple[str, ...]
    digest: str


class Run:
    """The committed checkpoints of one run, as they were when this object was made.

    Parameters
    ----------
    path : the run's folder, ``runs/<run_id>.zarr``

    Attributes
    ----------
    id : the run's id
    config : its configuration
    sample_sets : fingerprint of every sample set it was recorded on
    n_checkpoints : number of committed checkpoints
    inputs : what its models were shown, as a collector noted it; empty where none did

    Raises
    ------
    InputError
        If no checkpoint of the run is committed.
    DamagedStoreError
        If its metadata cannot be read, or is gone although checkpoints were committed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name.removesuffix(SUFFIX)
        self._cure = cure(self.id)
        try:
            check_folder(path)
            self._root = read_root(path, self._cure)
        except CorruptChunk as error:
            raise damaged(path, error, self._cure) from None
        except (FileNotFoundError, NotADirectoryError):
            if lost_root(path):
                raise root_error(path) from None
            raise InputError(f"`run_id` must be a recorded run; {self.id!r} is none.") from None
        self._documents = self._root.documents
        header = schema.check_header(self._root.attributes, "run", path)
        try:
            self.config, self.sample_sets = check_attributes(self._root.attributes, self.id)
            self.inputs: dict[str, Any] = self._root.attributes.get("inputs", {})
            self.n_checkpoints = int(self._documents["step"]["shape"][0])
            self._layouts = {name: self._layout(name) for name in self.sample_sets}
            self._check(header)
        except CorruptChunk as error:
            raise damaged(path / METADATA, error, self._cure) from None
        except KeyError as error:
            raise damaged(path / METADATA, f"has no array {error}", self._cure) from None
        self._checksums: dict[str, Array] = {}

    def _layout(self, sample_set: str) -> ShardLayout:
        return ShardLayout.from_document(self._documents[f"{sample_set}/log_prob"])

    def _check(self, header: Mapping[str, Any]) -> None:
        """Refuse arrays that do not fit one another, or lead out of the run."""
        if self.n_checkpoints < 1:
            raise CorruptChunk("says that no checkpoint is committed")
        for name, layout in self._layouts.items():
            check_folder(self.path / name)
            if layout.n_classes != header.get("n_classes", layout.n_classes):
                raise CorruptChunk(f"says that {name!r} has {layout.n_classes} classes")
            if self._documents[f"{name}/digest"]["data_type"] != "uint64":
                raise CorruptChunk(f"describes digests of {name!r} that are none")
        for name, document in self._root.arrays.items():
            if self._is_column(name) and document != column_document(
                document["data_type"], document["shape"], document
            ):
                raise CorruptChunk(f"describes {name!r}, which {NOT_OURS}")

    # -- scalars ----------------------------------------------------------------------------------

    @property
    def step(self) -> NDArray[np.int64]:
        """Optimizer steps of each checkpoint, shape (n_checkpoints,)."""
        return self.column("step")

    @property
    def epoch(self) -> NDArray[np.float64]:
        """Epochs of each checkpoint, shape (n_checkpoints,)."""
        return self.column("epoch")

    @property
    def metric_names(self) -> list[str]:
        """The scalar metrics recorded with every checkpoint, in the order they were recorded."""
        return [name for name in self._root.arrays if "/" not in name and name not in schema.RUN]

    @property
    def checksum_names(self) -> list[str]:
        """The columns that are the index of arrays with one file per checkpoint."""
        return [name for name in self._root.arrays if schema.is_checksums(name)]

    @property
    def metrics(self) -> pd.DataFrame:
        """Scalar metrics, one row per checkpoint, one column per metric."""
        index = pd.RangeIndex(self.n_checkpoints, name="checkpoint")
        return pd.DataFrame({name: self.column(name) for name in self.metric_names}, index=index)

    def digests(self, sample_set: str) -> NDArray[np.uint64]:
        """Digest of each checkpoint's stored predictions, shape (n_checkpoints,)."""
        self._check_set(sample_set)
        return self.column(f"{sample_set}/digest")

    def column(self, name: str) -> Array:
        """A scalar of every checkpoint, shape (n_checkpoints,): ``"step"``, a metric, …

        Raises
        ------
        DamagedStoreError
            If its file is missing, damaged, or another's.
        """
        return np.concatenate([self._part(name, number) for number in range(self._n_parts)])

    def _part(self, name: str, number: int) -> Array:
        """The committed rows in one file of a column; DamagedStoreError for others."""
        try:
            return self._read_part(name, number)
        except CorruptChunk as error:
            path = self.path / column_key(name, number, self._documents[name]["shape"])
            raise self._damaged(path, error) from None

    @property
    def _n_parts(self) -> int:
        """Number of files that each column lies in."""
        return -(-self.n_checkpoints // _ROWS)

    def _read_part(self, name: str, number: int) -> Array:
        """The committed rows in one file of a column; CorruptChunk if they are not as written.

        The index knows their checksum, not the file's: a writer that is at work, or was killed,
        may have put rows behind them that are not committed.
        """
        document = self._documents[name]
        shape = document["shape"]
        key = column_key(name, number, shape)
        rows = read_chunk(self.path / key, np.dtype(document["data_type"]), (_ROWS, *shape[1:]))
        committed = rows[: self.n_checkpoints - number * _ROWS]
        expected = self._root.expected(key)
        if expected is not None and expected != rows_checksum(committed):
            raise CorruptChunk(ANOTHERS)
        return committed

    def _is_column(self, name: str) -> bool:
        document = self._documents[name]
        return len(document["shape"]) == 1 or schema.is_checksums(name)

    def _damaged(self, path: Path, error: object) -> InpcaError:
        """The error for damage; a run deleted or recorded again meanwhile looks like it."""
        if not self.is_replaced:
            return damaged(path, error, self._cure)
        if schema.is_run_id(self.id) and was_deleted(path_of_ensemble(self.path), self.id):
            return deletion_error(self.id)
        try:
            now = Run(self.path)
            # Without an index, in format 1, nothing tells what the columns were.
            again = self._root.index is None or not now.holds(self.recording)
        except (InpcaError, OSError):  # gone, or damaged: nothing says that it was on purpose
            anew = "if the run was recorded anew while it was read, open it again; else "
            return damaged(path, error, f"{anew}{self._cure}")
        return recorded_again(self.id) if again else damaged(path, error, self._cure)

    # -- recording --------------------------------------------------------------------------------

    @property
    def recording(self) -> Recording:
        """What identifies this recording of the run, as far as it goes; from the root alone.

        In a run of format 1, which has no index, the columns are read.
        """
        names = tuple(name for name in self._root.arrays if self._is_column(name))
        return Recording(self.n_checkpoints, names, self._identity(names, self.n_checkpoints))

    def holds(self, recording: Recording) -> bool:
        """Whether the run begins with `recording`: it is the same, or was appended to.

        Raises
        ------
        DamagedStoreError
            If it was appended to, and a column cannot be read.
        """
        known = set(recording.columns) <= self._root.arrays.keys()
        if not known or recording.n_checkpoints > self.n_checkpoints:
            return False
        return self._identity(recording.columns, recording.n_checkpoints) == recording.digest

    def _identity(self, names: Sequence[str], n_checkpoints: int) -> str:
        """Digest of the first checkpoints, as they are in some columns, and the configuration."""
        sums = {name: self._part_checksums(name, n_checkpoints) for name in names}
        text = json.dumps([self.config, self.sample_sets, n_checkpoints, sums], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _part_checksums(self, name: str, n_checkpoints: int) -> list[int]:
        """Checksum of the rows of the first checkpoints in each file of a column."""
        shape = self._documents[name]["shape"]
        found = []
        for number in range(-(-n_checkpoints // _ROWS)):
            start, stop = number * _ROWS, min((number + 1) * _ROWS, n_checkpoints)
            whole = stop == min((number + 1) * _ROWS, self.n_checkpoints)
            known = self._root.expected(column_key(name, number, shape)) if whole else None
            if known is None:
                known = rows_checksum(self._part(name, number)[: stop - start])
            found.append(known)
        return found

    @property
    def is_replaced(self) -> bool:
        """Whether the run was written since it was opened."""
        return is_replaced(self._root)

    def _expected(self, name: str, checkpoint: int) -> Sequence[int] | None:
        """Checksums of the inner chunks of one checkpoint of the array `name`; None without."""
        index = schema.checksums_column(name).name
        if index not in self._documents:
            return None
        if index not in self._checksums:
            self._checksums[index] = self.column(index)
        values: Sequence[int] = self._checksums[index][checkpoint].tolist()
        return values

    # -- hidden layers ----------------------------------------------------------------------------

    @property
    def observable_names(self) -> list[str]:
        """What was recorded of hidden layers, ``<set>/<observable>`` or ``….<layer>``."""
        return [name for name, document in self._documents.items() if is_observable(name, document)]

    def has_observables(self, sample_set: str) -> bool:
        """Whether observables of hidden layers were recorded on `sample_set`."""
        return any(name.startswith(f"{sample_set}/") for name in self.observable_names)

    @property
    def row_arrays(self) -> dict[str, RowArray]:
        """Those of them that have more than one number per checkpoint."""
        return row_arrays(self._documents)

    def observables(self, sample_set: str = "train", layer: str | None = None) -> dict[str, Array]:
        """Radii and centre distances of a hidden layer, name → (n_checkpoints, …).

        Parameters
        ----------
        sample_set : which samples
        layer : which layer, where several were recorded

        Raises
        ------
        InputError
            If none were recorded, or not of that set and layer.
        DamagedStoreError
            If a file is missing or damaged.
        """
        names = of_layer(self.observable_names, sample_set, layer)
        arrays = self.row_arrays
        return {
            own: self._rows(arrays[name]) if name in arrays else self.column(name)
            for own, name in names.items()
            if own != ACTIVATIONS
        }

    def _rows(self, array: RowArray) -> Array:
        return np.stack([self._row(array, k) for k in range(self.n_checkpoints)])

    def _row(self, array: RowArray, checkpoint: int) -> Array:
        try:
            return self._read_row(array, checkpoint)
        except CorruptChunk as error:
            raise self._damaged(array.path(self.path, checkpoint), error) from None

    def _read_row(self, array: RowArray, checkpoint: int) -> Array:
        expected = self._expected(array.name, checkpoint)
        return array.read(self.path, checkpoint, expected[0] if expected else None)

    def activations(
        self, checkpoint: int, sample_set: str = "train", layer: str | None = None
    ) -> NDArray[np.float32]:
        """Activations of a hidden layer at one checkpoint, (n_samples, n_units).

        Raises
        ------
        InputError, DamagedStoreError
            As `observables`; if activations were not asked for when the run was recorded.
        """
        names = of_layer(self.observable_names, sample_set, layer)
        self.check_checkpoint(checkpoint)
        if ACTIVATIONS not in names:
            raise InputError(
                f"Run {self.id!r} has observables but no activations in {sample_set!r}; record it "
                "with HiddenRecorder(…, activations=True)."
            )
        return self._row(self.row_arrays[names[ACTIVATIONS]], checkpoint)

    # -- predictions ------------------------------------------------------------------------------

    def layout(self, sample_set: str) -> ShardLayout:
        """How the predictions on `sample_set` are cut: N, C, type, samples in an inner chunk."""
        self._check_set(sample_set)
        return self._layouts[sample_set]

    def log_probs(
        self, sample_set: str, checkpoint: int, samples: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Log-probabilities of one checkpoint, shape (n_samples, n_classes).

        Raises
        ------
        InputError
            For an unknown sample set or a checkpoint that is not committed.
        DamagedStoreError
            If the checkpoint's file is missing, truncated, or does not match its checksum.
        """
        layout = self.layout(sample_set)
        self.check_checkpoint(checkpoint)
        start, stop = contiguous(samples, layout.n_samples, "samples")
        try:
            self._shard_file(sample_set, checkpoint).close()  # before memory is taken for it
        except CorruptChunk as error:
            raise self._shard_error(sample_set, checkpoint, error) from None
        out = np.empty((stop - start, layout.n_classes), np.float32)
        self.read_into(sample_set, checkpoint, start, stop, out)
        return out

    def read_into(
        self, sample_set: str, checkpoint: int, start: int, stop: int, out: NDArray[np.float32]
    ) -> None:
        """Read samples `start` … `stop` of one checkpoint into `out`; bounds are the caller's."""
        layout = self._layouts[sample_set]
        if stop <= start:
            return
        narrow = layout.dtype != np.float32
        values = np.empty(out.shape, layout.dtype) if narrow else out
        try:
            self._read_shard(sample_set, checkpoint, start, stop, values)
        except CorruptChunk as error:
            raise self._shard_error(sample_set, checkpoint, error) from None
        if narrow:
            wide = values.astype(np.float32)
            out[...] = wide - logsumexp(wide, axis=-1, keepdims=True)

    def _read_shard(
        self, sample_set: str, checkpoint: int, start: int, stop: int, out: Array
    ) -> None:
        """As `read_into`, in the type on disk; CorruptChunk if it is not what was recorded."""
        layout = self._layouts[sample_set]
        expected = self._expected(f"{sample_set}/log_prob", checkpoint)
        with self._shard_file(sample_set, checkpoint) as file:
            read_shard(file, layout, start, stop, out, expected)
        # A run of format 1 has no index, but the digest of each checkpoint as a whole.
        whole = (start, stop) == (0, layout.n_samples)
        if expected is None and whole and digest(out) != self.digests(sample_set)[checkpoint]:
            raise CorruptChunk("is not what was recorded: its digest differs")

    def _shard_file(self, sample_set: str, checkpoint: int) -> FileIO:
        """The file of a checkpoint, open; CorruptChunk if it is absent or of another size."""
        file = open_file(shard_path(self.path, sample_set, checkpoint))
        size, expected = os.fstat(file.fileno()).st_size, self._layouts[sample_set].n_bytes
        if size != expected:
            file.close()
            raise CorruptChunk(f"has {size} bytes, not {expected}")
        return file

    def _shard_error(self, sample_set: str, checkpoint: int, error: CorruptChunk) -> InpcaError:
        what = f"it holds run {self.id!r}, checkpoint {checkpoint}, sample set {sample_set!r}"
        return self._damaged(shard_path(self.path, sample_set, checkpoint), f"{error}; {what}")

    def _check_set(self, sample_set: str) -> None:
        if sample_set not in self.sample_sets:
            raise InputError(
                f"`sample_set` must be one that run {self.id!r} was recorded on "
                f"({', '.join(self.sample_sets)}), not {sample_set!r}."
            )

    def check_checkpoint(self, checkpoint: int) -> None:
        """Refuse a checkpoint that is not committed."""
        if not 0 <= checkpoint < self.n_checkpoints:
            raise InputError(
                f"`checkpoint` must be in 0 … {self.n_checkpoints - 1} for run {self.id!r}, not "
                f"{checkpoint}."
            )

    # -- check ------------------------------------------------------------------------------------

    def check(self) -> list[Damage]:
        """Everything of the run that is not as it was written; reads all of it, writes nothing.

        What is found where the run `is_replaced` meanwhile may be no damage: open it again.
        """
        found = check_inner(self._root)
        for name in self._root.arrays:
            if self._is_column(name):
                found += self._check_files(partial(self._column_file, name), self._n_parts)
        # Shards and rows are held against columns: damage of those is reported already.
        columns = {damage.key.rpartition("/")[0] for damage in found}
        for name in self.sample_sets:
            if columns.isdisjoint((f"{name}/digest", f"{name}/checksum.log_prob")):
                found += self._check_files(partial(self._shard, name), self.n_checkpoints)
        for array in self.row_arrays.values():
            if schema.checksums_column(array.name).name not in columns:
                found += self._check_files(partial(self._row_file, array), self.n_checkpoints)
        return found

    def _check_files(
        self, file: Callable[[int], tuple[Path, Callable[[], Any]]], count: int
    ) -> list[Damage]:
        """Read files 0 … `count`; of a thousand damaged ones the rest is not counted one by one."""
        found: list[Damage] = []
        for number in range(count):
            path, read = file(number)
            try:
                read()
            except CorruptChunk as error:
                key = path.relative_to(self.path).as_posix()
                rest = count - number - 1
                if len(found) == _DAMAGES and rest:
                    reason = f"{error}; the {rest:,} after it were not read; {self._cure}"
                    return [*found, Damage(key, reason)]
                found.append(Damage(key, f"{error}; {self._cure}"))
        return found

    def _column_file(self, name: str, number: int) -> tuple[Path, Callable[[], Any]]:
        key = column_key(name, number, self._documents[name]["shape"])
        return self.path / key, partial(self._read_part, name, number)

    def _row_file(self, array: RowArray, checkpoint: int) -> tuple[Path, Callable[[], Any]]:
        return array.path(self.path, checkpoint), partial(self._read_row, array, checkpoint)

    def _shard(self, sample_set: str, checkpoint: int) -> tuple[Path, Callable[[], Any]]:
        path = shard_path(self.path, sample_set, checkpoint)
        return path, partial(self._check_shard, sample_set, checkpoint)

    def _check_shard(self, sample_set: str, checkpoint: int) -> None:
        layout = self._layouts[sample_set]
        self._shard_file(sample_set, checkpoint).close()  # before memory is taken for it
        out = np.empty((layout.n_samples, layout.n_classes), layout.dtype)
        self._read_shard(sample_set, checkpoint, 0, layout.n_samples, out)
        if np.isnan(out).any():
            raise CorruptChunk("holds NaN")
        if digest(out) != self.digests(sample_set)[checkpoint]:
            raise CorruptChunk("is not what was recorded: its digest differs")


def root_error(path: Path) -> DamagedStoreError:
    """The error for a run that `lost_root`."""
    run_id = path.name.removesuffix(SUFFIX)
    return damaged(path / METADATA, LOST, cure(run_id))


LOST = "is missing, though checkpoints were committed: their files are there"


def path_of_ensemble(run: Path) -> Path:
    """The folder of the ensemble that the run in the folder `run` belongs to."""
    return run.parent.parent


def recorded_again(run_id: str, since: str = "it was opened", again: str = "open it") -> InputError:
    """The error for a run whose place another recording took."""
    return InputError(
        f"Run {run_id!r} was recorded again since {since}; {again} again, and compute again what "
        "was made of the old recording."
    )


def cure(run_id: str) -> str:
    """What to do about damage of a run."""
    return (
        f"restore it from a copy, or delete the folder runs/{run_id}{SUFFIX} and record run "
        f"{run_id!r} again (start_run({run_id!r}, restart=True), or `inpca import FILE ENSEMBLE "
        f"--run {run_id} --restart`)"
    )


def shard_path(run: Path, sample_set: str, checkpoint: int) -> Path:
    """The file of one checkpoint's predictions."""
    return run / sample_set / "log_prob" / f"c.{checkpoint}.0.0"


def column_key(name: str, number: int, shape: Sequence[int]) -> str:
    """The key of file `number` of a column, of which `shape` is the whole."""
    return f"{name}/" + ".".join(["c", str(number), *["0"] * (len(shape) - 1)])


def column_document(dtype: str, shape: Sequence[int], like: Document | schema.Column) -> Document:
    """The `zarr.json` of a column of a run: a chunk holds 1,024 checkpoints.

    `like` gives the dimensions and attributes.
    """
    if isinstance(like, schema.Column):
        dims: Sequence[str] = like.dims
        attributes: Mapping[str, Any] = like.attributes
    else:
        dims, attributes = like["dimension_names"], like["attributes"]
    return array_document(shape, np.dtype(dtype), dims, (_ROWS, *shape[1:]), attributes=attributes)


def rows_checksum(rows: Array) -> int:
    """The CRC-32C of committed rows of a column, which the index of the run holds."""
    return checksum_of(checksum(np.ascontiguousarray(rows)))


def check_attributes(
    attributes: Mapping[str, Any], run_id: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Configuration and sample sets of a run, as its root has them; CorruptChunk for others."""
    config, sets = attributes.get("config"), attributes.get("sample_sets")
    owner = attributes["inpca"].get("run", run_id)
    if owner != run_id:
        raise CorruptChunk(f"is that of the run {owner!r}, in the folder of {run_id!r}")
    if not isinstance(config, dict) or not all(
        isinstance(value, str | bool | int | float | None) for value in config.values()
    ):
        raise CorruptChunk("has no configuration that inpca writes")
    if not isinstance(sets, dict) or not sets or not all(isinstance(s, str) for s in sets.values()):
        raise CorruptChunk("has no sample sets that inpca writes")
    if not isinstance(attributes.get("inputs", {}), dict):
        raise CorruptChunk("has no inputs that inpca writes")
    return config, sets


def is_replaced(root: Root) -> bool:
    """Whether the store has another root by now: it was written again since it was opened."""
    try:
        return read_bytes(root.path / METADATA) != root.content
    except CorruptChunk:
        return True


def contiguous(part: slice, length: int, name: str) -> tuple[int, int]:
    """Start and stop of a slice with step 1 inside 0 … `length`."""
    start, stop, step = part.indices(length)
    if step != 1:
        raise InputError(f"`{name}` must be a slice with step 1, not {step}.")
    return start, max(start, stop)


def read_shard(
    file: FileIO,
    layout: ShardLayout,
    start: int,
    stop: int,
    out: Array,
    expected: Sequence[int] | None,
) -> None:
    """Copy samples `start` … `stop` of a shard to `out`, reading the inner chunks needed.

    Raises CorruptChunk where a checksum fails, or is not the `expected` one of its inner chunk.
    """
    # One read where the whole shard is one inner chunk; else the index, then the chunks.
    whole = file.read() if layout.n_chunks == 1 else None
    _check_index(file.fileno(), layout, whole)
    for index in range(start // layout.chunk_samples, -(-stop // layout.chunk_samples)):
        data = _inner_chunk(file.fileno(), layout, index, whole)
        layout.decode(data, index, start, out, None if expected is None else expected[index])


def _check_index(descriptor: int, layout: ShardLayout, whole: bytes | None) -> None:
    length = len(layout.index)
    position = layout.n_bytes - length
    index = os.pread(descriptor, length, position) if whole is None else whole[position:]
    if index != layout.index:
        raise CorruptChunk("has a damaged index of chunks")


def _inner_chunk(
    descriptor: int, layout: ShardLayout, index: int, whole: bytes | None
) -> bytes | memoryview:
    if whole is not None:
        return memoryview(whole)[: layout.chunk_bytes]  # not copied
    return os.pread(descriptor, layout.chunk_bytes, index * layout.chunk_bytes)
