"""What a picture reads from a models table: reference models, trajectories, columns to colour by.

A models table is a pandas DataFrame with one row per model and the index "run/checkpoint". Known
columns are ``run``, ``checkpoint``, ``step``, ``epoch`` and ``kind`` (``"reference"`` for
ignorance, truth and the like); all others are configuration and metrics. None of them is needed.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.errors import InputError
from inpca.store.settings import beyond_float64, setting_labels

# Positive numbers that span more than this factor have logarithmic colours by default.
_LOG_SPAN = 50.0
# A number that is fixed within each run and takes few values (a seed, a batch size) is a category.
_FEW = 8


@dataclass(frozen=True)
class Column:
    """One column of a models table, made ready for colours.

    Attributes
    ----------
    name : the column's name
    kind : "category" or "number"
    values : (n_models,) float64; for "number" the numbers, NaN where there is none (infinite
        ones included); for "category" the index into `categories`, −1 where there is none
    categories : the names, in the order of their colours
    follows_runs : whether the value is the same for all checkpoints of each run
    """

    name: str
    kind: Literal["category", "number"]
    values: NDArray[np.float64]
    categories: tuple[str, ...]
    follows_runs: bool

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(n_models,) where there is no value."""
        return np.isnan(self.values) if self.kind == "number" else self.values < 0

    @property
    def suggests_log(self) -> bool:
        """Whether colours are logarithmic if nobody says: positive numbers of a wide span."""
        if self.kind != "number" or self.missing.all():
            return False
        low, high = np.nanmin(self.values), np.nanmax(self.values)
        return bool(low > 0 and high > _LOG_SPAN * low)


def check_models(models: Any, n_models: int, name: str = "models") -> pd.DataFrame:
    """Refuse a table that is none, or that has another number of rows than there are points."""
    if not isinstance(models, pd.DataFrame):
        raise InputError(
            f"`{name}` must be a pandas DataFrame with one row per model, not "
            f"{type(models).__name__}; an ensemble has one: ensemble.models."
        )
    if len(models) != n_models:
        raise InputError(
            f"`{name}` has {len(models)} rows but there are {n_models} points; pass the table of "
            "the very models that were embedded (a fitted InPCA keeps it in models_)."
        )
    return models


def is_reference(models: pd.DataFrame) -> NDArray[np.bool_]:
    """(n_models,) which rows are reference models: kind "reference", or a key beginning with @."""
    by_key = np.array([str(key).startswith("@") for key in models.index], dtype=bool)
    if "kind" not in models.columns:
        return by_key
    return by_key | (models["kind"].astype(str) == "reference").to_numpy(dtype=bool)


def reference_name(key: object) -> str:
    """Name of a reference model for people.

    >>> reference_name("@ignorance"), reference_name("@truth"), reference_name("@mean")
    ('ignorance P₀', 'truth P*', 'mean')
    """
    plain = str(key).removeprefix("@")
    return {"ignorance": "ignorance P₀", "truth": "truth P*"}.get(plain, plain)


def trajectories(models: pd.DataFrame) -> list[tuple[str, NDArray[np.intp]]]:
    """Runs in the order of their names, each with its rows in the order of training.

    A table without the column ``run`` has none.
    """
    if "run" not in models.columns:
        return []
    rows = np.flatnonzero(~is_reference(models) & models["run"].notna().to_numpy(dtype=bool))
    frame = models.iloc[rows]
    order = [name for name in ("checkpoint", "step") if name in models.columns][:1]
    if order:
        rows = rows[np.argsort(frame[order[0]].to_numpy(dtype=np.float64), kind="stable")]
    names = models["run"].iloc[rows].astype(str).to_numpy()
    unique, inverse = np.unique(names, return_inverse=True)
    by_run = np.argsort(inverse, kind="stable")
    parts = np.split(rows[by_run], np.cumsum(np.bincount(inverse))[:-1]) if len(unique) else []
    return [(str(name), part) for name, part in zip(unique, parts)]


def read_column(models: pd.DataFrame, name: str) -> Column:
    """One column as numbers or as categories.

    Text and truth values are categories, and so are numbers that each run has one of and that
    take at most 8 values (seeds, batch sizes). Reference models have no value.

    Raises
    ------
    InputError
        If there is no such column.
    """
    if name not in models.columns:
        known = ", ".join(map(str, models.columns)) or "none"
        raise InputError(f"`models` has no column {name!r} to colour by; its columns are: {known}.")
    series = models[name]
    here = series.notna().to_numpy(dtype=bool) & ~is_reference(models)
    # As float64, integers beyond 2⁵³ would meet in one category.
    apart = beyond_float64(series[here]) and series[here].nunique() <= _FEW
    numbers = None if apart else _as_numbers(series, here)
    labels = _labels(series, here) if numbers is None else None
    values = numbers if labels is None else labels[0]
    assert values is not None
    follows = all(len(set(_known(values[rows]))) <= 1 for _, rows in trajectories(models))
    if labels is not None:
        return Column(name, "category", values, labels[1], follows)
    if follows and _few(values, len(trajectories(models))):
        found = np.unique(_known(values))
        codes = np.where(np.isnan(values), -1, np.searchsorted(found, values)).astype(np.float64)
        return Column(name, "category", codes, tuple(map(_digits, found)), follows)
    return Column(name, "number", values, (), follows)


def _digits(value: float) -> str:
    """A number as text; whole ones in all their digits: rounded, two seeds would look alike."""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def colorable(models: pd.DataFrame) -> list[str]:
    """Columns worth a colour: those that have a value somewhere; ``kind`` says nothing."""
    there = models[~is_reference(models)]
    return [str(name) for name in there.columns if name != "kind" and there[name].notna().any()]


def _as_numbers(series: "pd.Series[Any]", here: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """The column as float64 with NaN for what is absent or infinite; None if it is no number."""
    if pd.api.types.is_bool_dtype(series.dtype) or not pd.api.types.is_numeric_dtype(series.dtype):
        held = series[here]
        if not len(held) or any(isinstance(v, bool | np.bool_) for v in held):
            return None
        # Tables put together from several runs often hold numbers as objects.
        if not all(isinstance(value, int | float | np.number) for value in held):
            return None
    numbers = np.full(len(series), np.nan)
    numbers[here] = series[here].astype(np.float64).to_numpy()
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _labels(
    series: "pd.Series[Any]", here: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    texts = np.array(setting_labels(series[here].tolist()), dtype=str)
    found, inverse = np.unique(texts, return_inverse=True)
    codes = np.full(len(series), -1.0)
    codes[here] = inverse
    return codes, tuple(map(str, found))


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _few(values: NDArray[np.float64], n_runs: int) -> bool:
    known = _known(values)
    found = np.unique(known)
    if not 0 < len(found) <= _FEW or n_runs == 0:
        return False
    whole = bool((found == np.round(found)).all())
    return whole or 2 * len(found) <= n_runs
