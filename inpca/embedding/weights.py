"""Weights of models: how often each of them counts in an embedding."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import real_numbers, refuse_masked
from inpca.embedding.labels import are_positions, as_series
from inpca.embedding.pairs import Float64
from inpca.errors import InputError

Weights = ArrayLike | str

# Between the heaviest model and the next; beyond, products of weights leave float64.
_LARGEST_RATIO = 1e300


def read_weights(
    weights: Weights, models: pd.DataFrame | None, m: int, names: pd.Index | None = None
) -> Float64:
    """The weights of m models as an array, checked.

    Parameters
    ----------
    weights : (m,), or the name of a column of `models`. A column gives no weight to reference
        models (ignorance, truth, stored averages), whatever stands there: they are projected.
        A Series (or DataArray) is matched by the names of the models, and gives all of them
        the weight that it says
    models : table of the models, or None
    m : their number
    names : of the models, where there is no table of them

    Raises
    ------
    InputError
        If they are not m finite numbers of at least 0, are masked, or all are 0; names the first
        bad model. If a Series is of other models.
    """
    refuse_masked(weights, "weights")
    names = names if models is None else models.index
    series = as_series(weights)
    if series is not None:
        weights = _by_name(series, names, m)
    numbers = _column(weights, models) if isinstance(weights, str) else _array(weights)
    if numbers.shape != (m,):
        raise InputError(
            f"`weights` must have one number for each of the {m} models, not shape {numbers.shape}."
        )
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if len(bad):
        which = f"model {bad[0]}" if names is None else f"model {names[bad[0]]!r}"
        raise InputError(
            f"`weights` must be finite and at least 0, but that of {which} is {numbers[bad[0]]} "
            f"({len(bad)} such in all); a model that is not to count has weight 0."
        )
    if not numbers.any():
        raise InputError("`weights` are all 0; give at least two models a weight.")
    _check_ratio(numbers, names)
    return numbers


def _check_ratio(numbers: Float64, names: pd.Index | None) -> None:
    """Refuse a model that outweighs all others by more than float64 can tell."""
    heaviest, next_one = (int(i) for i in np.argsort(-numbers, kind="stable")[:2])
    if 0 < numbers[next_one] < numbers[heaviest] / _LARGEST_RATIO:
        which = heaviest if names is None else repr(names[heaviest])
        raise InputError(
            f"`weights` must not differ by more than {_LARGEST_RATIO:.0e} between the heaviest "
            f"model and the next, but that of model {which} is {numbers[heaviest]:.3g}, and the "
            f"next {numbers[next_one]:.3g}; give it less weight."
        )


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
    if weights is None or isinstance(weights, Mapping):
        raise InputError(
            f"`weights` must be numbers, one per model, or the name of a column, not {weights!r}."
        )
    if isinstance(weights, pd.Series):  # aligned; a model that it lacks is NaN, and named later
        weights = weights.to_numpy(
            None if weights.dtype.kind not in "iuf" else np.float64, na_value=np.nan
        )
    return np.array(real_numbers(weights, "weights"))


def _by_name(weights: "pd.Series[float]", names: pd.Index | None, m: int) -> "pd.Series[float]":
    """In the order of the models, NaN where one is missing; as they are if the index is positions.

    Other models may be among them. Where models have no names, their positions are.
    """
    index = weights.index
    if not index.is_unique:
        raise InputError(
            f"`weights` must name each model once, but {index[index.duplicated()][0]!r} is there "
            "more than once; give one weight for each model."
        )
    wanted = pd.RangeIndex(m) if names is None else names
    if are_positions(index) and not wanted.isin(index).all():
        return weights
    if names is None and not (len(index) == m and wanted.isin(index).all()):
        raise InputError(
            f"`weights` is a Series with names ({index[0]!r} first), but these {m} models have "
            "none; give an array in the order of the models (`.to_numpy()`)."
        )
    return weights.reindex(wanted)


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
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
        raise InputError(f"`weights` {name!r} must be a column of numbers, not {column.dtype}.")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    numbers[is_reference(models)] = 0
    return numbers


def is_reference(models: pd.DataFrame) -> NDArray[np.bool_]:
    """(n_models,) which rows are no trainings: ignorance, truth, stored averages."""
    found = np.array([str(key).startswith("@") for key in models.index], dtype=bool)
    if "kind" in models.columns:
        found |= (models["kind"].astype(str) == "reference").to_numpy(dtype=bool)
    return found
