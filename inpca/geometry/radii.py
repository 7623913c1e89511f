"""Class manifolds: gyration radii and distances of the centres of unit-normalised activations.

The formulas are those of Ciceri et al. (2024). A class manifold is the set of the activations of
one class, each divided by its norm (Eq. 1); its squared gyration radius, half the mean squared
distance over all pairs (Eq. 9), is the mean of ‖x − x̄‖², which costs no pairs. Moments are merged
batch by batch, so that activations never have to be in memory together.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import LABELS, plain_array
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers
from inpca.units import count

Zeros = Literal["raise", "drop"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassManifolds:
    """Size and place of the class manifolds of one layer; leading axes are checkpoints, runs, ….

    Attributes
    ----------
    classes : the labels, sorted, (n_classes,)
    radius : gyration radius of each class, (…, n_classes); between 0 and 1
    centre_distances : distance of the centres of each pair of classes, (…, n_classes, n_classes)
    n_dropped : samples left out because their activation is zero, (…)
    """

    classes: NDArray[np.int64]
    radius: Floats
    centre_distances: Floats
    n_dropped: NDArray[np.int64]

    @property
    def radius_plus(self) -> Floats:
        """R₊, the radius of the class with the larger label, of two; shape (…)."""
        return self._of_two(self.radius[..., -1])

    @property
    def radius_minus(self) -> Floats:
        """R₋, the radius of the class with the smaller label, of two; shape (…)."""
        return self._of_two(self.radius[..., 0])

    @property
    def centre_distance(self) -> Floats:
        """D, the distance between the two centres (Eq. 10); shape (…)."""
        return self._of_two(self.centre_distances[..., 0, -1])

    def _of_two(self, values: Floats) -> Floats:
        if len(self.classes) != 2:
            raise InputError(
                f"R₊, R₋ and D are of two classes, not {len(self.classes)}; take `radius` and "
                "`centre_distances`, or labels of two kinds such as `labels % 2`."
            )
        return values

    @property
    def observables(self) -> dict[str, Floats]:
        """The observables by the names they are stored under: three for two classes, else two."""
        if len(self.classes) != 2:
            return {"radius": self.radius, "centre_distances": self.centre_distances}
        return {
            "radius_plus": self.radius_plus,
            "radius_minus": self.radius_minus,
            "centre_distance": self.centre_distance,
        }


def radii(activations: ArrayLike, labels: ArrayLike, *, zeros: Zeros = "raise") -> ClassManifolds:
    """Gyration radii and centre distances of the class manifolds (Eqs. 1, 9, 10).

    Memory: two copies of `activations` in float64.

    Parameters
    ----------
    activations : (…, n_samples, n_units), of one layer; leading axes are checkpoints, runs, …
    labels : class of each sample, (n_samples,)
    zeros : what to do with an activation that is zero in every unit, and so has no direction:
        ``"raise"``, or ``"drop"`` the sample there and count it

    Raises
    ------
    InputError
        For shapes that do not fit, NaN or infinite activations, a single class, a class without
        any sample that has a direction.

    Examples
    --------
    >>> found = radii([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [-5.0, 0.0]], [1, 1, 0, 0])
    >>> found.radius.round(3), found.centre_distance.round(3)
    (array([0.   , 0.707]), np.float64(1.581))
    """
    values = real_numbers(activations, "activations")
    if values.ndim < 2:
        raise InputError(
            f"`activations` must have shape (…, n_samples, n_units), not {values.shape}."
        )
    moments = Moments(zeros=zeros)
    moments.add(values, labels)
    return moments.manifolds()


@dataclass
class Moments:
    """Count, centre and scatter of every class, from batches of samples.

    Attributes
    ----------
    zeros : see `radii`
    n_samples : samples added so far
    """

    zeros: Zeros = "raise"
    n_samples: int = 0
    _classes: dict[int, tuple[Floats, Floats, Floats]] = field(default_factory=dict)
    _n_dropped: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.zeros not in ("raise", "drop"):
            raise InputError(f"`zeros` must be 'raise' or 'drop', not {self.zeros!r}.")

    def add(self, activations: ArrayLike, labels: ArrayLike) -> None:
        """Add a batch, (…, n_samples, n_units), of the same leading axes and units every time."""
        values = real_numbers(activations, "activations")
        classes = _check_labels(labels, values.shape[-2])
        units, kept = self._unit_vectors(values)
        for label in np.unique(classes):
            rows = classes == label
            batch = _moments(units[..., rows, :], kept[..., rows])
            before = self._classes.get(int(label))
            self._classes[int(label)] = batch if before is None else _merge(before, batch)
        dropped = (~kept).sum(axis=-1)
        self._n_dropped = dropped if self._n_dropped is None else self._n_dropped + dropped
        self.n_samples += values.shape[-2]

    def _unit_vectors(self, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Every sample over its norm, and which have one; zero where it is zero."""
        finite = np.asarray(np.isfinite(values).all(axis=-1))
        if not finite.all():
            raise InputError(
                f"`activations` has NaN or infinite values in {self._where(~finite)}; "
                "its training diverged."
            )
        # Divided by the largest entry first: squares neither overflow nor vanish.
        largest = np.abs(values).max(axis=-1, keepdims=True, initial=0.0)
        kept = np.asarray(largest[..., 0] > 0)
        if self.zeros == "raise" and not kept.all():
            raise InputError(
                f"`activations` is zero in every unit in {self._where(~kept)}, which has no "
                "direction; take another layer (one before the rectification), or leave such "
                "samples out with zeros='drop'."
            )
        scaled = values / np.where(largest > 0, largest, 1.0)
        norm = np.linalg.norm(scaled, axis=-1, keepdims=True)
        return scaled / np.where(norm > 0, norm, 1.0), kept

    def _where(self, bad: NDArray[np.bool_]) -> str:
        sample = self.n_samples + int(np.argwhere(bad)[0][-1])
        return f"sample {sample} ({count(int(bad.sum()), 'sample')} in all)"

    def manifolds(self) -> ClassManifolds:
        """Radii and distances of what was added so far."""
        classes = np.array(sorted(self._classes), np.int64)
        if len(classes) < 2:
            raise InputError(
                f"`labels` must have at least two classes, not only {classes.tolist()}: there is "
                "no distance between centres of one."
            )
        parts = [self._classes[int(label)] for label in classes]
        for label, (number, _, _) in zip(classes, parts):
            if not (number > 0).all():
                raise InputError(
                    f"Class {label} has no sample whose activation is not zero; take another layer."
                )
        radius = np.stack([np.sqrt(scatter / number) for number, _, scatter in parts], axis=-1)
        centres = np.stack([centre for _, centre, _ in parts], axis=-2)
        between = np.linalg.norm(centres[..., :, None, :] - centres[..., None, :, :], axis=-1)
        assert self._n_dropped is not None  # set with the first class
        return ClassManifolds(classes, radius, between, np.asarray(self._n_dropped, np.int64))


def _check_labels(labels: ArrayLike, n_samples: int) -> NDArray[np.int64]:
    values = plain_array(labels, "labels", LABELS)
    if values.shape != (n_samples,) or values.dtype.kind not in "iub" or not n_samples:
        raise InputError(
            f"`labels` must be the class of each sample, whole numbers of shape ({n_samples or 1}"
            f",), not {values.dtype} of shape {values.shape}."
        )
    if values.max() > np.iinfo(np.int64).max:
        raise InputError(f"`labels` must be class indices, not {values.max()}.")
    return values.astype(np.int64)


def _moments(units: Floats, kept: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Number (…), centre (…, n_units) and Σ‖x − x̄‖² (…) of unit vectors; zeros do not count."""
    number = kept.sum(axis=-1).astype(np.float64)
    centre = units.sum(axis=-2) / np.maximum(number, 1.0)[..., None]
    away = (units - centre[..., None, :]) * kept[..., None]
    return number, centre, np.einsum("...nh,...nh->...", away, away)


def _merge(
    first: tuple[Floats, Floats, Floats], second: tuple[Floats, Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    """Moments of two sets together (Chan, Golub & LeVeque 1983): nothing cancels."""
    number = first[0] + second[0]
    share = second[0] / np.maximum(number, 1.0)
    step = second[1] - first[1]
    centre = first[1] + share[..., None] * step
    scatter = first[2] + second[2] + first[0] * share * np.einsum("...h,...h->...", step, step)
    return number, centre, scatter
