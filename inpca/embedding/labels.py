"""What a container says beside its numbers: masks and names. Heeded or refused, never dropped."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.checks import refuse_masked
from inpca.errors import InputError

_CURE = "give them in the order of the models, without names (`.to_numpy()`)"


def as_frame(values: Any) -> pd.DataFrame | None:
    """A table with named rows and columns (pandas, xarray) as a DataFrame; None for other things.

    Names that count from 0 in steps of 1 are positions: they say nothing.
    """
    if isinstance(values, pd.DataFrame):
        return values
    if _is_data_array(values) and values.ndim == 2:
        frame: pd.DataFrame = values.to_pandas()
        return frame
    return None


def with_names_sklearn_knows(values: Any) -> Any:
    """`values`; a table with names that scikit-learn refuses (no texts, or twice), as an array."""
    if isinstance(values, pd.DataFrame) and not (
        values.columns.is_unique and all(type(one) is str for one in values.columns)
    ):
        return values.to_numpy()
    return values


def as_series(values: Any) -> "pd.Series[Any] | None":
    """A named vector (pandas, xarray) as a Series; None for other things."""
    if isinstance(values, pd.Series):
        return values
    if _is_data_array(values) and values.ndim == 1:
        series: pd.Series[Any] = values.to_pandas()
        return series
    return None


def named_square(values: Any, name: str) -> tuple[Any, pd.Index | None]:
    """A matrix between models with its columns in the order of its rows, and the models' names.

    Parameters
    ----------
    values : array, DataFrame or two-dimensional DataArray
    name : of the argument, for messages

    Returns
    -------
    matrix : `values` itself if it is no table, otherwise a DataFrame
    names : of its rows; None if it has none

    Raises
    ------
    InputError
        If entries are masked, or rows and columns are of different models.
    """
    refuse_masked(values, name)
    frame = as_frame(values)
    if frame is None or frame.shape[0] != frame.shape[1]:
        return (values if frame is None else frame), None
    rows, columns = frame.index, frame.columns
    for names in (rows, columns):
        _refuse_repeated(names, name)
    if are_positions(rows) and not _same_names(rows, columns):
        return frame, columns
    order = positions_of(rows, columns, name, "the names of its rows")
    aligned = frame if order is None else frame.iloc[:, order]
    return aligned.set_axis(rows, axis=1), None if are_positions(rows) else rows


def positions_of(
    wanted: pd.Index | None, there: pd.Index, name: str, of: str
) -> NDArray[np.intp] | None:
    """Where each of the `wanted` names is in `there`; None if they are in the same order already.

    Parameters
    ----------
    wanted : names, each of which must be there once, and no other; None: nothing has names, and
        positions stand for them
    there : names of the rows or columns of the argument `name`
    of : what the wanted names are of, for messages

    Raises
    ------
    InputError
        If the names differ, or repeat. Positions that are not names of anything are in order.
    """
    _refuse_repeated(there, name)
    expected = pd.RangeIndex(len(there)) if wanted is None else wanted
    if there.equals(expected):
        return None
    if _same_names(expected, there):
        return np.asarray(there.get_indexer(expected), dtype=np.intp)
    if are_positions(there):
        return None
    unknown, lacking = there[~there.isin(expected)], expected[~expected.isin(there)]
    which = f"{unknown[0]!r} is none of them" if len(unknown) else f"{lacking[0]!r} is missing"
    known = "the models have no names" if wanted is None else which
    raise InputError(
        f"`{name}` has names {there[0]!r} … {there[-1]!r}, which must be {of}: {known}; rename "
        f"them, or {_CURE}."
    )


def _refuse_repeated(there: pd.Index, name: str) -> None:
    if not there.is_unique:
        repeated = there[there.duplicated()][0]
        raise InputError(
            f"`{name}` must name each model once, but {repeated!r} is there more than once; "
            f"{_CURE}."
        )


def _same_names(one: pd.Index, other: pd.Index) -> bool:
    """Whether both hold the same names, each once, in whatever order."""
    if len(one) != len(other) or not one.is_unique or not other.is_unique:
        return False
    return bool((other.get_indexer(one) >= 0).all())


def are_positions(names: pd.Index) -> bool:
    """Whether the names count from 0 in steps of 1, which says nothing."""
    return bool(names.equals(pd.RangeIndex(len(names))))


def _is_data_array(values: Any) -> bool:
    """Whether it is xarray's, which need not be installed."""
    return all(hasattr(values, name) for name in ("coords", "dims", "to_pandas"))
