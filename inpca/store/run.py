"""One run on disk, read: configuration, scalars and log-probabilities of its committed checkpoints.

What is committed is what the run's root `zarr.json` says in its consolidated metadata; see
`writer.py` for how it comes there.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from inpca.errors import DamagedStoreError, InputError
from inpca.store import schema
from inpca.store.files import Damage, damaged, read_chunk
from inpca.store.group import METADATA, parse_root
from inpca.store.layout import Array, CorruptChunk, Document, ShardLayout, digest
from inpca.store.observables import ACTIVATIONS, RowArray, is_observable, of_layer, row_arrays

SUFFIX = ".zarr"
_ROWS = schema.CHECKPOINTS_PER_CHUNK


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
        try:
            content = (path / METADATA).read_bytes()
        except FileNotFoundError:
            if lost_root(path):
                raise root_error(path) from None
            raise InputError(f"`run_id` must be a recorded run; {self.id!r} is none.") from None
        attributes, self._documents = parse_root(content, path)
        schema.check_header(attributes, "run", path)
        self.config: dict[str, Any] = attributes["config"]
        self.sample_sets: dict[str, str] = attributes["sample_sets"]
        self.inputs: dict[str, Any] = attributes.get("inputs", {})
        self.n_checkpoints = int(self._documents["step"]["shape"][0])
        self._layouts = {name: self._layout(name) for name in self.sample_sets}

    def _layout(self, sample_set: str) -> ShardLayout:
        document = self._documents[f"{sample_set}/log_prob"]
        try:
            return ShardLayout.from_document(document)
        except (CorruptChunk, KeyError, TypeError) as error:
            raise damaged(self.path / sample_set / "log_prob", error, self._cure) from None

    @property
    def _cure(self) -> str:
        return cure(self.id)

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
        return [
            name
            for name, document in self._documents.items()
            if document["node_type"] == "array" and "/" not in name and name not in schema.RUN
        ]

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
            If its file is missing or damaged.
        """
        dtype = np.dtype(self._documents[name]["data_type"])
        chunks = []
        for path in self._column_files(name):
            try:
                chunks.append(read_chunk(path, dtype, (_ROWS,)))
            except CorruptChunk as error:
                raise damaged(path, error, self._cure) from None
        return np.concatenate(chunks)[: self.n_checkpoints]

    def _column_files(self, name: str) -> Iterator[Path]:
        for index in range(-(-self.n_checkpoints // _ROWS)):
            yield self.path / name / f"c.{index}"

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
        return np.stack([array.read(self.path, k, self._cure) for k in range(self.n_checkpoints)])

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
        return self.row_arrays[names[ACTIVATIONS]].read(self.path, checkpoint, self._cure)

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
        path = self._shard(sample_set, checkpoint)
        narrow = layout.dtype != np.float32
        values = np.empty(out.shape, layout.dtype) if narrow else out
        try:
            read_shard(path, layout, start, stop, values)
        except CorruptChunk as error:
            raise damaged(
                path, f"{error}; {self._what(sample_set, checkpoint)}", self._cure
            ) from None
        if narrow:
            wide = values.astype(np.float32)
            out[...] = wide - logsumexp(wide, axis=-1, keepdims=True)

    def _what(self, sample_set: str, checkpoint: int) -> str:
        return f"it holds run {self.id!r}, checkpoint {checkpoint}, sample set {sample_set!r}"

    def _shard(self, sample_set: str, checkpoint: int) -> Path:
        return shard_path(self.path, sample_set, checkpoint)

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
        """Everything of the run that is not as it was written; reads all of it."""
        scalars = [name for name in self._documents if self._is_scalar(self._documents[name])]
        found = [damage for name in scalars for damage in self._check_column(name)]
        for name in self.sample_sets:
            found += self._check_shards(name)
        for array in self.row_arrays.values():
            found += self._check_rows(array)
        return found

    def _check_rows(self, array: RowArray) -> Iterator[Damage]:
        for checkpoint in range(self.n_checkpoints):
            path = array.path(self.path, checkpoint)
            try:
                array.decode(path)
            except CorruptChunk as error:
                yield self._damage(path, error)

    @staticmethod
    def _is_scalar(document: Document) -> bool:
        return document["node_type"] == "array" and len(document["shape"]) == 1

    def _check_column(self, name: str) -> Iterator[Damage]:
        dtype = np.dtype(self._documents[name]["data_type"])
        for path in self._column_files(name):
            try:
                read_chunk(path, dtype, (_ROWS,))
            except CorruptChunk as error:
                yield self._damage(path, error)

    def _check_shards(self, sample_set: str) -> Iterator[Damage]:
        layout = self._layouts[sample_set]
        out = np.empty((layout.n_samples, layout.n_classes), layout.dtype)
        digests = self._digests_or_none(sample_set)
        for checkpoint in range(self.n_checkpoints):
            path = self._shard(sample_set, checkpoint)
            try:
                read_shard(path, layout, 0, layout.n_samples, out)
                if np.isnan(out).any():
                    raise CorruptChunk("holds NaN")
                if digests is not None and digest(out) != digests[checkpoint]:
                    raise CorruptChunk("is not what was recorded: its digest differs")
            except CorruptChunk as error:
                yield self._damage(path, error)

    def _digests_or_none(self, sample_set: str) -> NDArray[np.uint64] | None:
        """The digests, or None where their own damage is reported already."""
        name = f"{sample_set}/digest"
        return None if any(self._check_column(name)) else self.column(name)

    def _damage(self, path: Path, error: CorruptChunk) -> Damage:
        return Damage(str(path.relative_to(self.path)), f"{error}; {self._cure}")


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


def root_error(path: Path) -> DamagedStoreError:
    """The error for a run that `lost_root`."""
    run_id = path.name.removesuffix(SUFFIX)
    return damaged(path / METADATA, LOST, cure(run_id))


LOST = "is missing, though checkpoints were committed: their files are there"


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


def contiguous(part: slice, length: int, name: str) -> tuple[int, int]:
    """Start and stop of a slice with step 1 inside 0 … `length`."""
    start, stop, step = part.indices(length)
    if step != 1:
        raise InputError(f"`{name}` must be a slice with step 1, not {step}.")
    return start, max(start, stop)


def read_shard(path: Path, layout: ShardLayout, start: int, stop: int, out: Array) -> None:
    """Copy samples `start` … `stop` of the shard `path` to `out`, reading the inner chunks needed.

    Raises CorruptChunk if the file is absent, of another size, or fails a checksum that was read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != layout.n_bytes:
                raise CorruptChunk(f"has {size} bytes, not {layout.n_bytes}")
            # One read where the whole shard is one inner chunk; else the index, then the chunks.
            whole = file.read() if layout.n_chunks == 1 else None
            _check_index(file.fileno(), layout, whole)
            for index in range(start // layout.chunk_samples, -(-stop // layout.chunk_samples)):
                layout.decode(_inner_chunk(file.fileno(), layout, index, whole), index, start, out)
    except FileNotFoundError:
        raise CorruptChunk("is missing") from None
    except OSError as error:
        error.filename = os.fspath(path)  # reading, unlike opening, does not say
        raise


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
