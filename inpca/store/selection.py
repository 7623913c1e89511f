"""Choosing rows of the models table, and adding the reference models to it."""

import math
import operator
import tokenize
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import refuse_masked
from inpca.errors import InputError
from inpca.store.catalogue import check_key
from inpca.store.predictions import IGNORANCE, REFERENCES
from inpca.store.samples import SampleSet
from inpca.store.settings import Key, beyond_float64, nullable_integers, setting_key


def select_rows(models: pd.DataFrame, query: "str | Sequence[str] | ArrayLike") -> pd.DataFrame:
    """The rows of `models` that `query` names; see `Ensemble.select`."""
    if isinstance(query, str):
        chosen = models[_evaluate(models, query)]
    else:
        chosen = _by_values(models, query)
    if chosen.empty:
        raise InputError(
            f"`query` {_shown(query)} selects none of the {len(models):,} models; look at "
            "ens.models, or `inpca info ENSEMBLE`."
        )
    return chosen.copy()


def _shown(query: Any) -> str:
    return repr(query) if isinstance(query, str) else f"({type(query).__name__})"


def _evaluate(models: pd.DataFrame, query: str) -> "pd.Series[bool]":
    table = _exact(models, query)
    try:
        # Empty scopes: a query means the same wherever it is called from.
        mask = table.eval(query, local_dict={}, global_dict={}, engine="python")
    except Exception as error:  # pandas raises a dozen kinds for a bad expression
        raise InputError(
            f"`query` {query!r} cannot be evaluated ({type(error).__name__}: {error}); the columns "
            f"are {', '.join(models.columns)}; text goes in quotes."
        ) from error
    if not isinstance(mask, pd.Series) or mask.dtype not in ("bool", "boolean"):
        raise InputError(
            f'`query` {query!r} must be true or false for each model, such as "step > 100"; the '
            f"columns are {', '.join(models.columns)}."
        )
    return mask.fillna(False).astype(bool)


class _Typed:
    """A value that equals another only of its own kind: Python takes `True` and `1` for equal."""

    __slots__ = ("key",)

    def __init__(self, value: Any) -> None:
        self.key = setting_key(value)

    def __eq__(self, other: object) -> bool:
        return self.key == _key(other)

    def __hash__(self) -> int:
        return hash(self.key[1])

    def __lt__(self, other: Any) -> bool:
        return bool(self._value_beside(other) < _key(other)[1])

    def __le__(self, other: Any) -> bool:
        return bool(self._value_beside(other) <= _key(other)[1])

    def __gt__(self, other: Any) -> bool:
        return bool(self._value_beside(other) > _key(other)[1])

    def __ge__(self, other: Any) -> bool:
        return bool(self._value_beside(other) >= _key(other)[1])

    def _value_beside(self, other: object) -> Any:
        if self.key[0] != _key(other)[0]:
            raise TypeError("truth values, numbers and texts have no order among them")
        return self.key[1]


class _Flags(pd.arrays.BooleanArray):
    """Truth values of which some are missing, in a logic of two values.

    A missing one differs from every value, as missing numbers and texts do, and does not hold.
    """

    def _two_valued(self) -> NDArray[np.bool_]:
        return self.to_numpy(bool, na_value=False)

    def _nullable(self) -> pd.arrays.BooleanArray:
        return pd.arrays.BooleanArray(self._two_valued(), np.asarray(self.isna()))

    def _cmp_method(self, other: Any, op: Any) -> NDArray[np.bool_]:
        plain = other._nullable() if isinstance(other, _Flags) else other
        compared = op(self._nullable(), plain)
        found: NDArray[np.bool_] = compared.to_numpy(bool, na_value=op is operator.ne)
        return found

    def _logical_method(self, other: Any, op: Any) -> NDArray[np.bool_]:
        plain = other._two_valued() if isinstance(other, _Flags) else other
        found: NDArray[np.bool_] = op(self._two_valued(), plain)
        return found

    def __invert__(self) -> "_Flags":
        truths = ~self._two_valued()
        return _Flags(truths, np.zeros_like(truths))


class _Whole(pd.arrays.IntegerArray):
    """Integers of which some are missing: exact, and a missing one differs from every number."""

    def _nullable(self) -> pd.arrays.IntegerArray:
        values = self.to_numpy(np.dtype(self.dtype.name.lower()), na_value=0)
        return pd.arrays.IntegerArray(values, np.asarray(self.isna()))

    def _cmp_method(self, other: Any, op: Any) -> NDArray[np.bool_]:
        compared = op(self._nullable(), other._nullable() if isinstance(other, _Whole) else other)
        found: NDArray[np.bool_] = compared.to_numpy(bool, na_value=op is operator.ne)
        return found

    def _arith_method(self, other: Any, op: Any) -> Any:
        result = op(self._nullable(), other._nullable() if isinstance(other, _Whole) else other)
        return _whole(result) if pd.api.types.is_integer_dtype(result.dtype) else _floats(result)


def _whole(values: Any) -> _Whole:
    """Integers of pandas, some missing, as `_Whole`."""
    plain = values.to_numpy(np.dtype(values.dtype.name.lower()), na_value=0)
    return _Whole(plain, np.asarray(values.isna()))


def _floats(values: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.to_numpy(np.float64, na_value=np.nan)
    return found


def _key(value: object) -> Key:
    return value.key if isinstance(value, _Typed) else setting_key(value)


def _exact(models: pd.DataFrame, query: str) -> pd.DataFrame:
    """`models`, its columns in `query` such that comparisons are exact and of one kind.

    Integers that float64 cannot hold are compared as Python's own; where the query calculates, with
    integers of 64 bits. A missing one differs from all others, like every missing number, and so
    does a missing truth value.
    """
    columns = {}
    calculates = _calculates(query)
    for name in models.columns:
        column = models[name]
        if name not in query:
            continue
        if column.dtype == object and _mixes_kinds(column):
            columns[name] = column.map(_Typed, na_action="ignore")
        elif column.dtype == "boolean":
            truths = column.to_numpy(bool, na_value=False)
            columns[name] = pd.Series(_Flags(truths, column.isna().to_numpy()), column.index)
        elif calculates and column.dtype.kind in "iu" and isinstance(column.dtype, np.dtype):
            continue
        elif calculates and nullable_integers(column) and beyond_float64(column):
            columns[name] = pd.Series(_whole(column.array), column.index)
        elif beyond_float64(column):
            values = column.astype(object)
            columns[name] = values.where(column.notna(), np.nan)
        elif nullable_integers(column):
            columns[name] = column.astype(np.float64)
    return models.assign(**columns)


def _calculates(query: str) -> bool:
    """Whether there is arithmetic in an expression."""
    try:
        tokens = [token.string for token in tokenize.generate_tokens(StringIO(query).readline)]
    except (tokenize.TokenError, SyntaxError):  # pandas will say what is wrong
        return False
    return not _ARITHMETIC.isdisjoint(tokens)


_ARITHMETIC = {"+", "-", "*", "/", "//", "%", "**"}


def _mixes_kinds(column: "pd.Series[Any]") -> bool:
    kinds = {isinstance(value, bool) for value in column.dropna()}
    return len(kinds) > 1


def _by_values(models: pd.DataFrame, query: Any) -> pd.DataFrame:
    refuse_masked(query, "query")
    values = _truth_values(query)
    if values.dtype == bool:
        if values.shape != (len(models),):
            raise InputError(
                f"`query` must have one truth value per model ({len(models):,}), not shape "
                f"{values.shape}."
            )
        if isinstance(query, pd.Series) and not query.index.equals(models.index):
            raise InputError(
                "`query` must have the index of ens.models; make it from ens.models of this view."
            )
        return models[values]
    if values.size and values.dtype.kind in "iufc":
        raise InputError(
            f"`query` must be an expression, keys of models, or truth values, not numbers of type "
            f"{values.dtype}; pass `query == 1` or `query.astype(bool)` for truth values."
        )
    keys = [str(key) for key in values.ravel().tolist()]
    check_key(models, keys)
    if len(set(keys)) < len(keys):
        raise InputError("`query` must list each model once; it has duplicates.")
    return models.loc[keys]


def _truth_values(query: Any) -> NDArray[Any]:
    """`query` as an array; a missing truth value does not hold, as in an expression."""
    values = np.asarray(query)
    if values.dtype != object or not values.size:
        return values
    missing: NDArray[np.bool_] = np.asarray(pd.isna(values))
    rest = values[~missing]
    if rest.size and not all(isinstance(one, bool | np.bool_) for one in rest):
        if missing.any():
            raise InputError(
                "`query` has missing entries (<NA>, NaN or None), "
                f"{int(missing.sum()):,} of {values.size:,}; leave them out, or fill them."
            )
        return values
    return np.where(missing, False, values).astype(bool)


def add_references(
    models: pd.DataFrame,
    names: Sequence[str],
    sample_sets: Mapping[str, SampleSet],
    n_classes: int,
) -> pd.DataFrame:
    """`models` with reference models in front; loss and error are their exact values.

    Ignorance has loss ln C and, guessing at random, error 1 − 1/C; truth has 0 and 0.
    """
    keys = [_reference_key(name) for name in names] or list(REFERENCES)
    kept = models[~models.index.isin(keys)]
    rows: dict[str, Any] = {"run": keys, "checkpoint": 0, "kind": "reference"}
    loss = [math.log(n_classes) if key == IGNORANCE else 0.0 for key in keys]
    error = [1 - 1 / n_classes if key == IGNORANCE else 0.0 for key in keys]
    for name in sample_sets:
        rows |= {f"{name}_loss": loss, f"{name}_error": error}
    front = pd.DataFrame(rows, index=pd.Index(keys, dtype="str", name=models.index.name))
    return _stack(front, kept)


def _stack(front: pd.DataFrame, rest: pd.DataFrame) -> pd.DataFrame:
    """Rows of `front`, then of `rest`, in the columns of `rest`; missing where `front` has none."""
    columns = {}
    for name in rest.columns:
        column = rest[name]
        if name in front:
            head = front[name].astype(column.dtype)
        else:
            if pd.api.types.is_integer_dtype(column.dtype):
                column = _nullable(column)
            elif column.dtype == bool:
                column = column.astype("boolean")
            head = _missing(front, column.dtype)
        columns[name] = pd.concat([head, column])
    return pd.DataFrame(columns)


def _missing(front: pd.DataFrame, dtype: Any) -> "pd.Series[Any]":
    return pd.Series([None] * len(front), index=front.index, dtype=dtype)


def _nullable(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of integers in the type in which some may be missing."""
    if nullable_integers(column):
        return column
    name = column.dtype.name  # int64, uint8, …
    wide: Any = f"UInt{name[4:]}" if name.startswith("u") else f"Int{name[3:]}"
    return column.astype(wide)


def _reference_key(name: str) -> str:
    key = name if name.startswith("@") else f"@{name}"
    if key not in REFERENCES:
        raise InputError(f"`names` must be 'ignorance' or 'truth', not {name!r}.")
    return key
