"""Predictions as the estimator is given them: what they are, and some of their models."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from inpca.backend import is_elsewhere
from inpca.predictions import Floats, PredictionSource, recorded_of
from inpca.store.ensemble import Ensemble


class Rows:
    """Some models of a `PredictionSource`, itself one.

    Parameters
    ----------
    source : all models
    start, stop : which of them
    """

    def __init__(self, source: PredictionSource, start: int, stop: int) -> None:
        self._source = source
        self._start, self._stop = start, min(stop, source.shape[0])
        self.dtype = source.dtype
        self.chunk_samples = getattr(source, "chunk_samples", 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self._stop - self._start, *self._source.shape[1:])

    def read(self, models: slice, samples: slice) -> Floats:
        start, stop, _ = models.indices(self.shape[0])
        return self._source.read(slice(self._start + start, self._start + stop), samples)

    def recorded(self) -> Mapping[str, bytes]:
        """See `inpca.predictions.Watch`."""
        return recorded_of(self._source)

    def fingerprint(self) -> str:
        text = f"{self._source.fingerprint()} {self._start}:{self._stop}"
        return hashlib.sha256(text.encode()).hexdigest()


def is_source(X: Any) -> bool:
    """Whether `X` is a `PredictionSource`."""
    return hasattr(X, "read") and hasattr(X, "fingerprint") and hasattr(X, "shape")


def is_predictions(X: Any) -> bool:
    """Whether `X` holds predictions of models, rather than distances."""
    if isinstance(X, Ensemble) or is_source(X):
        return True
    return bool((X if is_elsewhere(X) else np.asarray(X)).ndim == 3)
