"""Runs at equal progress as what the distance engine reads: one source for each value.

Nothing of it is kept: a model at progress s is interpolated from its two checkpoints whenever a
block of it is read, so that the predictions of an ensemble are never in memory.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.kernels_numba import compiled
from inpca.geometry.geodesic import between
from inpca.predictions import Floats, PredictionSource, recorded_of

Average = Callable[[Floats], Floats]
_PIECE_BYTES = 4_000_000  # of a group's predictions that are averaged at a time


class ReindexedModels:
    """A `PredictionSource` of every run at one value of progress.

    Parameters
    ----------
    base : the checkpoints of all runs
    before, after : (R,) the checkpoints, as models of `base`, that each run is between
    fraction : (R,) α of Eq. 3 between them; 0: at `before`
    identity : gives the fingerprint of `base`, which may take long
    """

    def __init__(
        self,
        base: PredictionSource,
        before: NDArray[np.intp],
        after: NDArray[np.intp],
        fraction: NDArray[np.float64],
        identity: Callable[[], str] | None = None,
    ) -> None:
        self._base, self._before, self._after, self._fraction = base, before, after, fraction
        self._identity = identity or base.fingerprint
        self.shape = (len(before), *base.shape[1:])
        self.dtype = base.dtype
        self.chunk_samples = getattr(base, "chunk_samples", 1)

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block, (n models, n samples, n_classes)."""
        first, last, _ = models.indices(self.shape[0])
        start, stop, _ = samples.indices(self.shape[1])
        out = np.empty((last - first, stop - start, self.shape[2]), self.dtype)
        for values, run in zip(out, range(first, last)):
            self._read_model(run, samples, values)
        return out

    def _read_model(self, run: int, samples: slice, out: Floats) -> None:
        log_p = _one(self._base, self._before[run], samples)
        if self._fraction[run] == 0:
            out[...] = log_p
            return
        log_q = _one(self._base, self._after[run], samples)
        half = self.dtype.type(0.5)
        with np.errstate(under="ignore", divide="ignore"):  # −∞ is probability zero
            blend(np.exp(half * log_p), np.exp(half * log_q), float(self._fraction[run]), out)
            np.log(out, out=out)
        out *= 2

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self._base)

    def fingerprint(self) -> str:
        """Of the checkpoints and of where between them."""
        digest = hashlib.sha256(f"between checkpoints {self._identity()}".encode())
        for array in (self._before, self._after):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        digest.update(np.ascontiguousarray(self._fraction).tobytes())
        return digest.hexdigest()


def _one(base: PredictionSource, model: int, samples: slice) -> Floats:
    block: Floats = base.read(slice(int(model), int(model) + 1), samples)[0]
    return block


@compiled
def blend(x: Any, y: Any, fraction: float, out: Any) -> None:
    """√p of the point `fraction` of the geodesic between two models: `geodesic.between`, compiled.

    x, y, out : (n, C) √p, of one precision; the angle, from the chord, is in float64.
    """
    n_samples, n_classes = x.shape
    for n in range(n_samples):
        square = 0.0
        for c in range(n_classes):
            difference = np.float64(x[n, c]) - np.float64(y[n, c])
            square += difference * difference
        angle = 2.0 * np.arcsin(min(np.sqrt(0.5), 0.5 * np.sqrt(square)))
        a, b = 1.0 - fraction, fraction
        if angle > 0.0:
            whole = np.sin(angle)
            a, b = np.sin(a * angle) / whole, np.sin(b * angle) / whole
        for c in range(n_classes):
            out[n, c] = a * x[n, c] + b * y[n, c]


class AveragedModels:
    """A `PredictionSource` of the average of each group of models of another source.

    Parameters
    ----------
    base : the models
    groups : models of `base` in each group
    average : (k, n, C) log-probabilities → those of their average, (n, C)
    name : of the average, for the fingerprint
    """

    def __init__(
        self,
        base: PredictionSource,
        groups: Sequence[NDArray[np.intp]],
        average: Average,
        name: str,
    ) -> None:
        self._base, self._groups, self._average, self._name = base, groups, average, name
        self.shape = (len(groups), *base.shape[1:])
        self.dtype = base.dtype
        self.chunk_samples = getattr(base, "chunk_samples", 1)

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block, (n models, n samples, n_classes)."""
        first, last, _ = models.indices(self.shape[0])
        start, stop, _ = samples.indices(self.shape[1])
        out = np.empty((last - first, stop - start, self.shape[2]), self.dtype)
        for values, group in zip(out, self._groups[first:last]):
            step = max(1, _PIECE_BYTES // (len(group) * self.shape[2] * self.dtype.itemsize))
            for begin in range(start, stop, step):
                part = slice(begin, min(begin + step, stop))
                block = np.stack([_one(self._base, model, part) for model in group])
                values[begin - start : part.stop - start] = self._average(block)
        return out

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self._base)

    def fingerprint(self) -> str:
        """Of the models, of their groups and of the kind of average."""
        digest = hashlib.sha256(f"{self._name} average {self._base.fingerprint()}".encode())
        for group in self._groups:
            digest.update(f"|{group.tolist()}".encode())
        return digest.hexdigest()


class GeodesicModel:
    """A `PredictionSource` of one point of the geodesic from ignorance to truth.

    Parameters
    ----------
    labels : (n_samples,) true classes
    n_classes : C
    s : its progress, in [0, 1]
    dtype : that `read` returns
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        n_classes: int,
        s: float,
        dtype: np.dtype[np.floating],
    ) -> None:
        self.shape = (1, len(labels), n_classes)
        self.dtype = dtype
        self._labels, self._s = labels, s
        truth = np.full(n_classes, -np.inf)
        truth[0] = 0.0
        ignorance = np.full(n_classes, -np.log(n_classes))
        # The same two numbers in every sample: at the label, and everywhere else.
        self._at_label, self._elsewhere = between(ignorance, truth, s)[:2]

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block, (1, n samples, n_classes)."""
        labels = self._labels[samples]
        out = np.full((1, len(labels), self.shape[2]), self._elsewhere, self.dtype)
        out[0, np.arange(len(labels)), labels] = self._at_label
        return out[models]

    def fingerprint(self) -> str:
        """Of the labels and of the place on the geodesic."""
        digest = hashlib.sha256(f"geodesic {self.shape} {self._s!r}".encode())
        digest.update(np.ascontiguousarray(self._labels, np.int64).tobytes())
        return digest.hexdigest()
