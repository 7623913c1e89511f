"""Settings of runs: which two are the same, and the column of the models table that holds them.

A setting is a truth value, a number or a text. Python calls `True` and `1` equal and NumPy keeps
integers as float64 where one is missing; here they stay apart, and integers stay exact.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

# Below this float64 tells every integer from its neighbours; from here on some meet in one.
_FIRST_TO_MEET = 2**53

Key = tuple[int, Any]


def setting_key(value: Any) -> Key:
    """What a value is compared and sorted by: truth values, then numbers, then texts.

    Examples
    --------
    >>> setting_key(True) == setting_key(1), setting_key(1) == setting_key(1.0)
    (False, True)
    >>> sorted([3, "3", True], key=setting_key)
    [True, 3, '3']
    """
    if isinstance(value, bool | np.bool_):
        return 0, bool(value)
    if isinstance(value, str):
        return 2, value
    return 1, value


def same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configurations have the same keys and values, `True` and `1` told apart."""
    return one.keys() == other.keys() and all(
        setting_key(value) == setting_key(other[name]) for name, value in one.items()
    )


def setting_labels(values: Sequence[Any]) -> list[str]:
    """Each value as text, such that different values have different texts.

    Examples
    --------
    >>> setting_labels([3, 0.5, "a"]), setting_labels([3, "3"])
    (['3', '0.5', 'a'], ['3', "'3'"])
    """
    shown = {setting_key(value): str(value) for value in values}
    alike = Counter(shown.values())
    labels = {key: text if alike[text] == 1 else repr(key[1]) for key, text in shown.items()}
    return [labels[setting_key(value)] for value in values]


def kinds_apart(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of mixed kinds as texts that differ where the values do; any other as it is."""
    if column.dtype != object:
        return column
    here = column.notna().to_numpy(bool)
    texts = np.full(len(column), None, dtype=object)
    texts[here] = setting_labels(column[here].tolist())
    return pd.Series(texts, column.index, dtype="str")


def setting_column(values: Sequence[Any]) -> Any:
    """Values in the narrowest type that holds them all exactly; None is missing.

    Truth values become bool, texts str, integers int64 or uint64, each in its nullable form where
    some are missing. Numbers with a fraction among them become float64. Whatever these cannot hold
    exactly, and a mixture of truth values, numbers and texts, stays as it is (object).
    """
    values = list(values)
    present = [value for value in values if value is not None]
    whole = len(present) == len(values)
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return pd.array(values, dtype="bool" if whole else "boolean")
    if kinds == {str}:
        return pd.array(values, dtype="str")
    if kinds == {int}:
        return _integer_column(values)
    if kinds and kinds <= {int, float} and all(_is_exact(value) for value in present):
        return np.array(values, np.float64)
    return pd.array(_objects(values), dtype="object")


def _integer_column(values: list[int | None]) -> Any:
    present = [value for value in values if value is not None]
    whole = len(present) == len(values)
    least, most = min(present), max(present)
    if least >= -(2**63) and most < 2**63:
        return np.array(values, np.int64) if whole else nullable_integer_array(values, "Int64")
    if least >= 0 and most < 2**64:
        return np.array(values, np.uint64) if whole else nullable_integer_array(values, "UInt64")
    return pd.array(_objects(values), dtype="object")


def nullable_integer_array(values: Sequence[int | None], dtype: str) -> Any:
    """Integers and None in pandas' `dtype`; a detour through float64 would lose digits."""
    missing = np.array([value is None for value in values], bool)
    filled = [0 if value is None else value for value in values]
    return pd.arrays.IntegerArray(np.array(filled, np.dtype(dtype.lower())), missing)


def _objects(values: list[Any]) -> Any:
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects


def _is_exact(value: float) -> bool:
    """Whether float64 holds the number exactly."""
    try:
        return float(value) == value or value != value
    except OverflowError:
        return False


def nullable_integers(column: "pd.Series[Any]") -> bool:
    """Whether a column is one of pandas' integers that may be missing."""
    extension = pd.api.types.is_extension_array_dtype(column.dtype)
    return bool(extension and pd.api.types.is_integer_dtype(column.dtype))


def beyond_float64(column: "pd.Series[Any]") -> bool:
    """Whether a column holds integers that others would meet in float64."""
    if column.dtype == object:
        whole = (value for value in column if isinstance(value, int))
        return any(abs(value) >= _FIRST_TO_MEET for value in whole)
    if not pd.api.types.is_integer_dtype(column.dtype):
        return False
    present = column.dropna()
    if not len(present):
        return False
    return int(present.max()) >= _FIRST_TO_MEET or int(present.min()) <= -_FIRST_TO_MEET
