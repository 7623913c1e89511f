"""The two ends of a geodesic, as what they make of a model: two coordinates in every sample."""

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import LABELS, plain_array
from inpca.errors import InputError
from inpca.geometry.geodesic import SMALL_ANGLE, angles
from inpca.geometry.kernels_numba import label_coordinates, plane_coordinates
from inpca.predictions import Floats

Float64 = NDArray[np.float64]


class Ends(Protocol):
    """Start and end of a geodesic.

    Attributes
    ----------
    angles : θ of every sample, (n_samples,); one entry if all are equal
    """

    @property
    def angles(self) -> Float64: ...

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        ...

    def coordinates(self, roots: Floats, samples: slice, x: Float64, y: Float64) -> None:
        """Coordinates of √p (k, n, C), the samples `samples`, in the planes: into `x`, `y`."""
        ...

    def as_pair(self) -> "Pair":
        """The same with both models spelled out, (n_samples, n_classes) each."""
        ...


class IgnoranceToTruth:
    """From 1/C everywhere to the one-hot labels; needs nothing of size N · C."""

    def __init__(self, labels: NDArray[np.int64], n_classes: int) -> None:
        self._labels, self._n_classes = labels, n_classes
        self.angles = np.array([math.acos(1 / math.sqrt(n_classes))])
        self.nbytes = labels.nbytes

    def coordinates(self, roots: Floats, samples: slice, x: Float64, y: Float64) -> None:
        label_coordinates(roots, self._labels[samples], x, y)

    def as_pair(self) -> "Pair":
        """The same with both models spelled out."""
        shape = len(self._labels), self._n_classes
        return Pair(np.full(shape, -math.log(self._n_classes)), _truth(self._labels, shape[1]))


class Pair:
    """From one model to another: log-probabilities (n_samples, n_classes) each.

    Attributes
    ----------
    along, across : (n_samples, n_classes) orthonormal: √start, and towards √end
    """

    def __init__(self, start: Floats, end: Floats) -> None:
        along, to = np.exp(0.5 * start.astype(np.float64)), np.exp(0.5 * end.astype(np.float64))
        along /= np.linalg.norm(along, axis=-1, keepdims=True)
        to /= np.linalg.norm(to, axis=-1, keepdims=True)
        self.angles = angles(along, to)
        # Rows that coincide span no plane; their angle 0 leaves them out of every sum.
        self.angles[self.angles < SMALL_ANGLE] = 0.0
        across = to - along * np.einsum("nc,nc->n", along, to)[:, None]
        across -= along * np.einsum("nc,nc->n", along, across)[:, None]
        length = np.linalg.norm(across, axis=-1, keepdims=True)
        across /= np.where(self.angles[:, None] > 0, length, 1.0)
        self.along, self.across = along, across
        self.nbytes = along.nbytes + across.nbytes + self.angles.nbytes

    def as_pair(self) -> "Pair":
        """Itself."""
        return self

    def coordinates(self, roots: Floats, samples: slice, x: Float64, y: Float64) -> None:
        plane_coordinates(roots, self.along[samples], self.across[samples], x, y)


def make_ends(
    shape: tuple[int, int], labels: ArrayLike | None, start: Floats | None, end: Floats | None
) -> Ends:
    """The ends of a geodesic between models of `shape` (N, C).

    Parameters
    ----------
    shape : (n_samples, n_classes)
    labels : true classes (n_samples,): truth is the end
    start : log-probabilities of `shape`; None: ignorance
    end : log-probabilities of `shape`, where there are no `labels`

    Raises
    ------
    InputError
        For labels that are no classes; ends of another shape, or that coincide; if nothing, or two
        things, say where the geodesic ends.
    """
    n_samples, n_classes = shape
    if (labels is None) == (end is None):
        raise InputError(
            "`labels` (the true classes) or `end` (a model) must say where the geodesic ends; give "
            f"one, not {'none' if labels is None else 'both'}."
        )
    if labels is not None:
        true = check_labels(labels, n_samples, n_classes)
        if start is None:
            return IgnoranceToTruth(true, n_classes)
        end = _truth(true, n_classes)
    first = np.full(shape, -math.log(n_classes)) if start is None else start
    assert end is not None
    for name, model in (("start", first), ("end", end)):
        if model.shape != shape:
            raise InputError(
                f"`{name}` must be one model on the samples of `X`, shape {shape}, not "
                f"{model.shape}."
            )
    pair = Pair(first, end)
    if not pair.angles.any():
        raise InputError(
            "`start` and `end` must be different models: the geodesic between them is a point."
        )
    return pair


def check_labels(labels: ArrayLike, n_samples: int, n_classes: int) -> NDArray[np.int64]:
    """`labels` as class indices (n_samples,), or InputError."""
    values = plain_array(labels, "labels", LABELS)
    if values.shape != (n_samples,) or values.dtype.kind not in "iu":
        raise InputError(
            f"`labels` must be one whole number (class index) per sample, shape ({n_samples},), "
            f"not {values.dtype} of shape {values.shape}."
        )
    wrong = np.flatnonzero((values < 0) | (values >= n_classes))
    if len(wrong):
        raise InputError(
            f"`labels` must be classes 0 … {n_classes - 1}; sample {wrong[0]} has "
            f"{values[wrong[0]]}."
        )
    return values.astype(np.int64)


def _truth(labels: NDArray[np.int64], n_classes: int) -> Float64:
    log_p = np.full((len(labels), n_classes), -np.inf)
    log_p[np.arange(len(labels)), labels] = 0.0
    return log_p
