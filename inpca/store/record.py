"""A whole run from arrays: cut into blocks of checkpoints, committed once."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.predictions import Kind
from inpca.store.intake import (
    check_is_mapping,
    check_metrics_mapping,
    epoch_number,
    exact_number,
    whole_number,
)
from inpca.store.writer import RunWriter

_BLOCK_BYTES = 16_000_000


def record_run(
    writer: RunWriter,
    predictions: Mapping[str, ArrayLike],
    kind: Kind,
    step: ArrayLike | None,
    epoch: ArrayLike | None,
    metrics: Mapping[str, ArrayLike],
    observables: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Stage all checkpoints block by block, then commit them at once; see `Ensemble.add_run`."""
    check_is_mapping(predictions)
    arrays = {name: np.asanyarray(values) for name, values in predictions.items()}
    count = _n_checkpoints(arrays)
    scalars = {
        name: [
            exact_number(value, f"`metrics[{name!r}]`")
            for value in _listed(metric, count, f"metrics[{name!r}]")
        ]
        for name, metric in check_metrics_mapping(metrics).items()
    }
    hidden = {name: np.asanyarray(values) for name, values in (observables or {}).items()}
    for name, values in hidden.items():
        _check_length(values, count, f"observables[{name!r}]")
    numbers = range(count) if step is None else _listed(step, count, "step")
    steps = [whole_number(value, "`step`") for value in numbers]
    times = [np.nan] * count if epoch is None else _listed(epoch, count, "epoch")
    epochs = [epoch_number(value) for value in times]
    largest = max(array[:1].size for array in arrays.values()) * 8
    block = max(1, _BLOCK_BYTES // max(1, largest))
    with writer.transaction():
        for start in range(0, count, block):
            rows = slice(start, start + block)
            writer.stage(
                {name: array[rows] for name, array in arrays.items()},
                kind,
                steps[rows],
                epochs[rows],
                {name: values[rows] for name, values in scalars.items()},
                {name: values[rows] for name, values in hidden.items()},
            )


def _n_checkpoints(arrays: Mapping[str, NDArray[Any]]) -> int:
    """The common length of `arrays`, shape (n_checkpoints, n_samples, n_classes)."""
    if not arrays:
        raise InputError("`predictions` must have at least one sample set, not none.")
    for name, array in arrays.items():
        if array.ndim != 3 or not len(array):
            raise InputError(
                f"`predictions[{name!r}]` must have shape (n_checkpoints ≥ 1, n_samples, "
                f"n_classes), not {array.shape}; one checkpoint goes in as array[None]."
            )
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"`predictions` must have as many checkpoints in every set, not {lengths}."
        )
    return next(iter(lengths.values()))


def _listed(values: Any, count: int, name: str) -> list[Any]:
    """The scalars of the checkpoints, one by one: as an array, NumPy might round them."""
    if not hasattr(values, "shape") and isinstance(values, Iterable):
        values = list(values) if not isinstance(values, str | bytes) else values
        shape: tuple[int, ...] | None = (len(values),)
    else:
        shape = None if not hasattr(values, "shape") else tuple(values.shape)
    of_dates = getattr(getattr(values, "dtype", None), "kind", "") in ("m", "M")
    if shape != (count,) or of_dates or isinstance(values, str | bytes):
        raise InputError(
            f"`{name}` must be one number per checkpoint, shape ({count},), not "
            f"{type(values).__name__}{'' if shape is None else f' of shape {shape}'}."
        )
    listed: list[Any] = values.tolist() if hasattr(values, "tolist") else list(values)
    return listed


def _check_length(values: NDArray[Any], count: int, name: str) -> None:
    if values.shape[:1] != (count,):
        raise InputError(
            f"`{name}` must have one row per checkpoint, {count} of them, not shape {values.shape}."
        )
