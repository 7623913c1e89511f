"""The models table as arrays: a pandas DataFrame into members of a Zarr group and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.errors import DamagedStoreError, InputError
from inpca.store import schema
from inpca.store.group import Member
from inpca.store.settings import beyond_float64, nullable_integer_array, nullable_integers

MODEL_DIMS = ("model",)
_NULLABLE = tuple(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))


def table_members(models: pd.DataFrame) -> dict[str, Member]:
    """One array with dimension ``model`` per column of `models`, and ``model`` for its index.

    Raises
    ------
    InputError
        For a column's name that could not be an array's, or a column that holds objects.
    """
    members = {"model": Member(MODEL_DIMS, [str(key) for key in models.index] or _no_text())}
    for name in models.columns:
        schema.check_name(name, "A column of `models`")
        if name == "model":
            raise InputError("`models` must not have a column 'model': that is its index.")
        members[name] = _column_member(name, models[name])
    return members


def _no_text() -> Any:
    return np.empty(0, np.dtypes.StringDType())


def _column_member(name: str, column: "pd.Series[Any]") -> Member:
    missing = column.isna().to_numpy(bool)
    present = [value for value, gone in zip(column.tolist(), missing) if not gone]
    if _all_text(present) or isinstance(column.dtype, pd.StringDtype):
        _check_unicode(name, present)
        sentinel = _sentinel(set(present))
        texts = [sentinel if gone else value for value, gone in zip(column.tolist(), missing)]
        return Member(MODEL_DIMS, texts, {"missing_value": sentinel} if missing.any() else {})
    if pd.api.types.is_bool_dtype(column.dtype) and missing.any():
        numbers = column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        return Member(MODEL_DIMS, numbers, {"encoding": "boolean"})
    if nullable_integers(column):
        return _integer_member(name, column, missing)
    if pd.api.types.is_numeric_dtype(column.dtype):
        if missing.any():
            return Member(MODEL_DIMS, column.to_numpy(np.float64, na_value=np.nan))
        return Member(MODEL_DIMS, column.to_numpy(_plain_dtype(column)))
    return Member(MODEL_DIMS, _as_json(name, column, missing) or _no_text(), {"encoding": "json"})


def _integer_member(name: str, column: "pd.Series[Any]", missing: NDArray[np.bool_]) -> Member:
    """Integers of which some may be missing, exactly.

    As float64 with NaN, which every reader of Zarr understands, where that holds them all; beyond
    2⁵³ as text.
    """
    dtype = {"dtype": str(column.dtype)}
    if beyond_float64(column):
        return Member(MODEL_DIMS, _as_json(name, column, missing), {"encoding": "json"} | dtype)
    numbers = column.to_numpy(np.float64, na_value=np.nan)
    return Member(MODEL_DIMS, numbers, {"encoding": "integer"} | dtype)


def _all_text(values: Sequence[Any]) -> bool:
    return len(values) > 0 and all(isinstance(value, str) for value in values)


def _check_unicode(name: str, texts: Sequence[str]) -> None:
    """Refuse texts that UTF-8, as which they are stored, cannot hold."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"Column {name!r} of `models` must be Unicode text, not {text!r}; drop or mend it."
            ) from None


def _sentinel(values: set[str]) -> str:
    """A text that stands for a missing one; it is none of `values`."""
    sentinel = "<NA>"
    while sentinel in values:
        sentinel = f"<{sentinel}>"
    return sentinel


def _plain_dtype(column: "pd.Series[Any]") -> np.dtype[Any]:
    """NumPy's type of a column without missing values, pandas' nullable types included."""
    dtype: Any = column.dtype
    plain: np.dtype[Any] = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    return plain


def _as_json(name: str, column: "pd.Series[Any]", missing: Sequence[bool] | Any) -> list[str]:
    """Mixed scalars, such as a setting that is a number in one run and text in another."""
    values = [None if gone else value for value, gone in zip(column.tolist(), missing)]
    _check_unicode(name, [value for value in values if isinstance(value, str)])
    for value in values:
        if not isinstance(value, str | bool | int | float | None):
            raise InputError(
                f"Column {name!r} of `models` must hold text, numbers or truth values, not "
                f"{type(value).__name__}; drop or convert it."
            )
    return [json.dumps(value) for value in values]


def table_from_members(members: Mapping[str, Member]) -> pd.DataFrame:
    """The models table that `table_members` stored."""
    index = pd.Index(members["model"].values.tolist(), name="model", dtype="str")
    columns = {name: _column(member) for name, member in members.items() if name != "model"}
    return pd.DataFrame(columns, index=index)


def _column(member: Member) -> Any:
    values, attributes = member.values, member.attributes
    encoding, dtype = attributes.get("encoding"), attributes.get("dtype")
    if encoding == "boolean":
        return pd.array([None if np.isnan(value) else bool(value) for value in values], "boolean")
    if encoding == "integer":
        return _integers([None if np.isnan(value) else int(value) for value in values], dtype)
    if encoding == "json":
        decoded = [json.loads(text) for text in values.tolist()]
        return pd.array(decoded, "object") if dtype is None else _integers(decoded, dtype)
    if values.dtype.kind == "T":
        missing = attributes.get("missing_value")
        return pd.array([None if text == missing else text for text in values.tolist()], "str")
    return values.copy()


def _integers(values: list[int | None], dtype: Any) -> Any:
    """Integers in the nullable type that they were stored from."""
    if dtype not in _NULLABLE:
        raise DamagedStoreError(
            f"A column of the models table is of type {dtype!r}, not {', '.join(_NULLABLE)}; "
            "make again what holds the table."
        )
    return nullable_integer_array(values, dtype)
