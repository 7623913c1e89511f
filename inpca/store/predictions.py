"""Predictions of many runs, read from disk as one block: what the distance engine streams."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InpcaError, InputError
from inpca.store.files import damaged
from inpca.store.run import Run, contiguous, cure
from inpca.store.samples import SampleSet

IGNORANCE, TRUTH = "@ignorance", "@truth"
REFERENCES = (IGNORANCE, TRUTH)


@dataclass(frozen=True)
class Row:
    """One model: a checkpoint of a run, or a reference model (its run is None)."""

    key: str
    run: Run | None
    checkpoint: int


class StoredPredictions:
    """Log-probabilities of the models of an ensemble on one sample set, read when asked for.

    A `PredictionSource`; safe to read from several threads. It keeps to what was committed when
    it was made.

    Attributes
    ----------
    names : keys of the models, in order
    shape : (n_models, n_samples, n_classes)
    dtype : float32
    chunk_samples : samples that lie together on disk: reading fewer costs as much
    """

    def __init__(self, rows: Sequence[Row], sample_set: SampleSet, n_classes: int) -> None:
        self._rows = list(rows)
        self._set = sample_set
        self.names = [row.key for row in self._rows]
        self.shape = (len(self._rows), len(sample_set), n_classes)
        self.dtype: np.dtype[np.floating] = np.dtype(np.float32)
        self._check_rows()
        chunks = [row.run.layout(sample_set.name).chunk_samples for row in self._rows if row.run]
        self.chunk_samples = max(chunks, default=len(sample_set))

    def _check_rows(self) -> None:
        for row in self._rows:
            if row.run is None:
                continue
            row.run.check_checkpoint(row.checkpoint)
            if row.run.sample_sets.get(self._set.name) != self._set.fingerprint:
                self._refuse(row.run)
            layout = row.run.layout(self._set.name)
            if (layout.n_samples, layout.n_classes) != self.shape[1:]:
                raise damaged(
                    row.run.path,
                    f"has predictions of shape {(layout.n_samples, layout.n_classes)}, not "
                    f"{self.shape[1:]} as its ensemble",
                    cure(row.run.id),
                )

    def _refuse(self, run: Run) -> None:
        name = self._set.name
        if name not in run.sample_sets:
            raise InputError(
                f"`sample_set` {name!r} was not recorded by run {run.id!r}, which has "
                f"{', '.join(run.sample_sets)}; leave that run out with select(), or re-collect it."
            )
        raise InputError(
            f"Run {run.id!r} was recorded on other labels, ids or order of {name!r} than the "
            "ensemble's; re-collect it or open it as its own ensemble."
        )

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, models: slice, samples: slice) -> NDArray[np.float32]:
        """Log-probabilities of a block, shape (n models, n samples, n_classes), C-ordered.

        Raises
        ------
        InputError
            If a run was deleted or recorded again since.
        DamagedStoreError
            If a checkpoint's file is missing, truncated, or does not match its checksum.
        """
        first, last = contiguous(models, self.shape[0], "models")
        start, stop = contiguous(samples, self.shape[1], "samples")
        out = np.empty((last - first, stop - start, self.shape[2]), np.float32)
        for row, values in zip(self._rows[first:last], out):
            if row.run is None:
                _fill_reference(row.key, self._set.labels[start:stop], values)
            else:
                row.run.read_into(self._set.name, row.checkpoint, start, stop, values)
        return out

    def fingerprint(self) -> str:
        """Digest of the sample set and of every model's stored predictions, in order."""
        digests = self._recorded()
        text = f"stored {self._set.fingerprint} {self.shape} {self.dtype.str}"
        digest = hashlib.sha256(text.encode())
        for row in self._rows:
            content = row.key if row.run is None else int(digests[row.run.id][row.checkpoint])
            digest.update(f"|{content}".encode())
        return digest.hexdigest()

    def digests(self) -> NDArray[np.uint64]:
        """Identity of each model on this sample set, shape (n_models,)."""
        recorded = self._recorded()
        common = hashlib.sha256(f"stored {self._set.fingerprint} {self.shape[1:]}".encode())
        found = np.empty(len(self._rows), np.uint64)
        for number, row in enumerate(self._rows):
            digest = common.copy()
            content = row.key if row.run is None else int(recorded[row.run.id][row.checkpoint])
            digest.update(f"|{content}".encode())
            found[number] = int.from_bytes(digest.digest()[:8], "little")
        return found

    def recorded(self) -> dict[str, bytes]:
        """Digests of every run's checkpoints, run id → bytes, as they are on disk now.

        Empty for a run whose digests cannot be read: it is being recorded again, or damaged, which
        reading its predictions tells.
        """
        found = {}
        for run in {row.run.id: row.run for row in self._rows if row.run is not None}.values():
            try:
                found[run.id] = run.digests(self._set.name).tobytes()
            except (InpcaError, OSError):
                found[run.id] = b""
        return found

    def _recorded(self) -> Mapping[str, NDArray[np.uint64]]:
        runs = {row.run.id: row.run for row in self._rows if row.run is not None}
        return {name: run.digests(self._set.name) for name, run in runs.items()}


def _fill_reference(key: str, labels: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """Log-probabilities of ignorance, −ln C, or of truth, 0 at the label and −∞ elsewhere."""
    if key == IGNORANCE:
        out[...] = -math.log(out.shape[1])
    else:
        out[...] = -np.inf
        out[np.arange(len(labels)), labels] = 0.0
