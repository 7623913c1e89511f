"""Alignment of two embeddings of the same models: Kabsch–Umeyama within the signature."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import orthogonal_procrustes

from inpca.checks import plain_array, refuse_masked, same_names
from inpca.embedding.scale import column_norms, exponent_of, scaled
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers
from inpca.predictions import as_floats

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Alignment:
    """X moved onto Y: X rotation + shift.

    Attributes
    ----------
    coordinates : (m, k) X moved, nats^½
    rotation : (k, k) orthogonal; only space-like axes turn among themselves, and time-like ones,
        so every Minkowski distance stays as it is
    shift : (k,) nats^½
    rmsd : root mean square over models of what is left, Euclidean over all k coordinates, nats^½
    """

    coordinates: Float64
    rotation: Float64
    shift: Float64
    rmsd: float

    def transform(self, points: ArrayLike) -> Float64:
        """Move other points (n, k) of the embedding X in the same way."""
        return np.asarray(real_numbers(points, "points") @ self.rotation + self.shift)


def align(X: Any, Y: Any, signature: ArrayLike | None = None) -> Alignment:
    """Move the embedding `X` onto `Y` as closely as a motion of Minkowski space's blocks can.

    The translation, rotations and flips of axes that minimise the RMSD (Kabsch–Umeyama, without
    scaling), found apart for the space-like and for the time-like block: a rotation that mixed
    them would change distances.

    Parameters
    ----------
    X, Y : coordinates (m, k) of the same models in the same order, or fitted `InPCA` estimators
    signature : (k,) +1 space-like, −1 time-like, of both; of estimators their own

    Returns
    -------
    `Alignment`

    Raises
    ------
    InputError
        For coordinates of different shapes, or embeddings with different signatures.

    Notes
    -----
    Flips are allowed because the signs of coordinates are arbitrary; a coordinate of `X` that is
    missing in `Y` can be neither rotated nor flipped into it.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])
    >>> result = align(X, 5 - X, [1, -1])
    >>> round(result.rmsd, 12), result.rotation.tolist()
    (0.0, [[-1.0, 0.0], [0.0, -1.0]])
    """
    same_names(X, Y, ("X", "Y"))
    signs = _signature(X, Y, signature)
    x, y = _coordinates(X, "X"), _coordinates(Y, "Y")
    if x.shape != y.shape:
        raise InputError(
            f"`X` and `Y` must be coordinates of the same models, as many of them, not {x.shape} "
            f"and {y.shape}; cut both to the same columns."
        )
    if signs.shape != x.shape[1:] or not np.isin(signs, (-1, 1)).all():
        raise InputError(
            f"`signature` must hold +1 or −1 for each of the {x.shape[1]} coordinates, not {signs}."
        )
    centre_x, centre_y = x.mean(axis=0), y.mean(axis=0)
    rotation = np.zeros((len(signs), len(signs)))
    for sign in (1, -1):
        block = np.flatnonzero(signs == sign)
        if len(block):
            left, right = (_unit_size(part[:, block]) for part in (x - centre_x, y - centre_y))
            rotation[np.ix_(block, block)] = orthogonal_procrustes(left, right)[0]
    shift = centre_y - centre_x @ rotation
    moved = x @ rotation + shift
    rmsd = float(column_norms((moved - y).reshape(-1, 1))[0]) / math.sqrt(len(y))
    return Alignment(moved, rotation, shift, rmsd)


def _unit_size(values: Float64) -> Float64:
    """Coordinates of another size but the same shape, whose products float64 can hold."""
    return np.asarray(scaled(values, -exponent_of(float(np.abs(values).max()))))


def counterparts(
    signature: ArrayLike, other: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Leading coordinates of two embeddings that can lie on each other: those of the same sign.

    Parameters
    ----------
    signature, other : (k,) and (l,) +1 space-like, −1 time-like

    Returns
    -------
    Positions in `signature`, increasing, and in `other`: the first space-like coordinate of one
    with the first of the other, and so on; what is left over on either side is in neither.

    Examples
    --------
    >>> import numpy as np
    >>> mine, theirs = counterparts([1, 1, -1], [1, 1, 1, 1, -1])
    >>> mine.tolist(), theirs.tolist()
    ([0, 1, 2], [0, 1, 4])
    """
    mine, theirs = np.asarray(signature), np.asarray(other)
    found: list[tuple[int, int]] = []
    for sign in (1, -1):
        found += zip(np.flatnonzero(mine == sign).tolist(), np.flatnonzero(theirs == sign).tolist())
    both = np.array(sorted(found), dtype=np.intp).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _coordinates(embedding: Any, name: str) -> Float64:
    values = getattr(embedding, "embedding_", embedding)
    refuse_masked(values, name)
    values = as_floats(values, name).astype(np.float64)
    if values.ndim != 2 or not values.size:
        raise InputError(f"`{name}` must be coordinates (n_models, k), not shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError(f"`{name}` has NaN or infinite coordinates; leave those models out.")
    return values


def _signature(X: Any, Y: Any, signature: ArrayLike | None) -> NDArray[Any]:
    """The one signature that all of `signature`, `X` and `Y` that have one agree on."""
    own = {"X": getattr(X, "signature_", None), "Y": getattr(Y, "signature_", None)}
    known = {name: np.asarray(one) for name, one in own.items() if one is not None}
    if signature is not None:
        known["signature"] = plain_array(signature, "signature")
    if not known:
        raise InputError("`signature` must be given: +1 or −1 for each coordinate of `X` and `Y`.")
    (first, signs), *others = known.items()
    for name, other in others:
        if not np.array_equal(signs, other):
            raise InputError(
                f"`X` and `Y` must have the same signature, but that of `{first}` is "
                f"{signs.tolist()} and that of `{name}` {other.tolist()}; keep, or reorder, the "
                "components of both so that space-like meets space-like."
            )
    return signs
