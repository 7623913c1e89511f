"""Choosing rows of the models table, and adding the reference models to it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.errors import InputError
from inpca.store.catalogue import check_key
from inpca.store.predictions import IGNORANCE, REFERENCES
from inpca.store.samples import SampleSet


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
    try:
        # Empty scopes: a query means the same wherever it is called from.
        mask = models.eval(query, local_dict={}, global_dict={}, engine="python")
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


def _by_values(models: pd.DataFrame, query: Any) -> pd.DataFrame:
    values = np.asarray(query)
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
    keys = [str(key) for key in values.ravel().tolist()]
    check_key(models, keys)
    if len(set(keys)) < len(keys):
        raise InputError("`query` must list each model once; it has duplicates.")
    return models.loc[keys]


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
        elif column.dtype.kind in "iu":
            head, column = _missing(front, np.float64), column.astype(np.float64)
        elif column.dtype == bool:
            head, column = _missing(front, "boolean"), column.astype("boolean")
        else:
            head = _missing(front, column.dtype)
        columns[name] = pd.concat([head, column])
    return pd.DataFrame(columns)


def _missing(front: pd.DataFrame, dtype: Any) -> "pd.Series[Any]":
    return pd.Series([None] * len(front), index=front.index, dtype=dtype)


def _reference_key(name: str) -> str:
    key = name if name.startswith("@") else f"@{name}"
    if key not in REFERENCES:
        raise InputError(f"`names` must be 'ignorance' or 'truth', not {name!r}.")
    return key
