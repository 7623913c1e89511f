"""Weights of models: how often each of them counts in an embedding."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.embedding.pairs import Float64
from inpca.errors import InputError

Weights = ArrayLike | str


def read_weights(weights: Weights, models: pd.DataFrame | None, m: int) -> Float64:
    """The weights of m models as an array, checked.

    Parameters
    ----------
    weights : (m,), or the name of a column of `models`, where a reference model, which has no
        value there, has weight 0: it is projected. A Series with the models' keys is matched by
        them
    models : table of the models, or None
    m : their number

    Raises
    ------
    InputError
        If they are not m finite numbers of at least 0, or all are 0; names the first bad model.
    """
    if isinstance(weights, pd.Series) and models is not None:
        weights = _by_key(weights, models)
    numbers = _column(weights, models) if isinstance(weights, str) else _array(weights)
    if numbers.shape != (m,):
        raise InputError(
            f"`weights` must have one number for each of the {m} models, not shape {numbers.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(bad):
        which = f"model {bad[0]}" if models is None else f"model {models.index[bad[0]]!r}"
        raise InputError(
            f"`weights` must be finite and at least 0, but that of {which} is {numbers[bad[0]]} "
            f"({len(bad)} such in all); a model that is not to count has weight 0."
        )
    if not numbers.any():
        raise InputError("`weights` are all 0; give at least two models a weight.")
    return numbers


def check_rank(k: int, weights: Float64) -> None:
    """Refuse `k` coordinates of models of which too few have a weight."""
    counting = int(np.count_nonzero(weights))
    if k >= counting:
        raise InputError(
            f"`n_components` must be less than the number of models with a weight above 0, "
            f"which is {counting}, not {k}."
        )


def counted_vectors(vectors: Float64, weights: Float64 | None) -> Float64:
    """w v: the eigenvectors as a sum over models takes them."""
    return vectors if weights is None else np.asarray(vectors * weights[:, None])


def weights_digest(weights: Float64) -> str:
    """What tells a solve with these weights from others."""
    return hashlib.sha256(np.ascontiguousarray(weights).data).hexdigest()


def _array(weights: Any) -> Float64:
    try:
        return np.array(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`weights` must be numbers, one per model, or the name of a column, not {weights!r}."
        ) from error


def _by_key(weights: "pd.Series[float]", models: pd.DataFrame) -> "pd.Series[float]":
    """In the order of the models, where the index are keys; numbers, or NaN where it lacks one."""
    if isinstance(weights.index, pd.RangeIndex):
        return weights
    return weights.reindex(models.index)


def _column(name: str, models: pd.DataFrame | None) -> Float64:
    if models is None:
        raise InputError(
            f"`weights` {name!r} names a column, but these models have no table; pass an array."
        )
    if name not in models.columns:
        raise InputError(
            f"`weights` must be one of the columns {', '.join(map(str, models.columns))}, not "
            f"{name!r}; or pass an array."
        )
    column = models[name]
    if not pd.api.types.is_numeric_dtype(column):
        raise InputError(f"`weights` {name!r} must be a column of numbers, not {column.dtype}.")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    is_reference = models.index.astype(str).str.startswith("@")
    numbers[is_reference & np.isnan(numbers)] = 0
    return numbers
