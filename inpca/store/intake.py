"""What a run's writer accepts: predictions and metrics, checked and turned into what is stored."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import PREDICTIONS, plain_array
from inpca.errors import InputError
from inpca.logits import check_filled
from inpca.predictions import Kind, to_log_probs
from inpca.store import schema
from inpca.store.samples import SampleSet


def check_is_mapping(predictions: Mapping[str, ArrayLike]) -> None:
    """Refuse predictions that do not say which sample set they are for."""
    if not isinstance(predictions, Mapping):
        raise InputError(
            f"`predictions` must name their sample set, not be a {type(predictions).__name__}; "
            "pass {'train': array}."
        )


def check_metrics_mapping(metrics: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`metrics`, none where they are None; refuse what does not name them."""
    if not isinstance(metrics, Mapping | None):
        raise InputError(
            f"`metrics` must be a mapping, not a {type(metrics).__name__}; pass {{'norm': 1.5}}."
        )
    return metrics or {}


def whole_number(value: Any, what: str) -> int:
    """`value` as the int64 that it is, or InputError about `what`."""
    value = schema.plain_scalar(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise InputError(
            f"{what} must be whole numbers, from −2⁶³ to 2⁶³ − 1, not {_shown(value)}."
        )
    return int(value)


def exact_number(value: Any, what: str) -> float:
    """`value` as the float64 that it is, NaN and infinity included, or InputError about `what`."""
    value = schema.plain_scalar(value)
    if not isinstance(value, int | float) or isinstance(value, np.generic):
        raise InputError(
            f"{what} must be a number, not {_shown(value)}; convert it, or leave it out."
        )
    try:
        stored = float(value)
    except OverflowError:
        stored = float("nan")
    if stored != value and value == value:
        raise InputError(
            f"{what} must be a number that float64 holds exactly, not {_shown(value)}; round it, "
            "or record it in `config`, which keeps integers of any size."
        )
    return stored


def epoch_number(value: Any, what: str = "`epoch`") -> float:
    """`value` as an epoch: as `exact_number`, NaN if unknown, not infinite."""
    epoch = exact_number(value, what)
    if abs(epoch) == float("inf"):
        raise InputError(f"{what} must be finite, or NaN where it is unknown, not infinite.")
    return epoch


def _shown(value: Any) -> str:
    """A value in a message: numbers and short text as they are, of others the type."""
    plain = isinstance(value, int | float | str | bytes | None)
    try:
        shown = repr(value) if plain else f"a {type(value).__name__}"
    except ValueError:  # an integer of thousands of digits
        return "an integer of that size"
    return shown if len(shown) <= 60 else f"{shown[:50]}…"


@dataclass(frozen=True)
class Intake:
    """The rules that the predictions of one run are held to.

    Attributes
    ----------
    run_id : the run's id, for messages
    sample_sets : the ensemble's sample sets
    n_classes : C
    dtype : type the log-probabilities are stored in
    taken : columns of the models table that a metric must not take
    """

    run_id: str
    sample_sets: Mapping[str, SampleSet]
    n_classes: int
    dtype: np.dtype[Any]
    taken: Collection[str]

    def blocks(
        self,
        predictions: Mapping[str, ArrayLike],
        kind: Kind,
        first: int,
        losses: Mapping[str, Sequence[float]],
    ) -> dict[str, NDArray[np.floating]]:
        """Stored log-probabilities of each set, (k, n_samples, n_classes); all checked first.

        `losses` are those of the checkpoints before, for each sample set.
        """
        unknown = [name for name in predictions if name not in self.sample_sets]
        if unknown or not predictions:
            raise InputError(
                f"`predictions` must be for the ensemble's sample sets "
                f"({', '.join(self.sample_sets)}), not for {', '.join(unknown) or 'none'}."
            )
        arrays = {
            name: plain_array(values, f"predictions[{name!r}]", PREDICTIONS)
            for name, values in predictions.items()
        }
        if kind == "logits":
            self._check_filled(arrays, first, losses)
        return {name: self._convert(name, array, kind, first) for name, array in arrays.items()}

    def _check_filled(
        self, arrays: Mapping[str, NDArray[Any]], first: int, losses: Mapping[str, Sequence[float]]
    ) -> None:
        """Refuse logits that are 0 throughout, once there was a checkpoint other than ignorance."""
        ignorance = math.log(self.n_classes)
        for name, array in arrays.items():
            begun = any(abs(loss - ignorance) > 1e-5 for loss in losses[name])
            check_filled(array, f"predictions[{name!r}]", first, begun=begun)

    def check_same_sets(self, recorded: Collection[str], predictions: Collection[str]) -> None:
        """Refuse predictions for other sample sets than the run's first checkpoint had."""
        if recorded and set(predictions) != set(recorded):
            raise InputError(
                f"`predictions` must be for the same sample sets at every checkpoint of run "
                f"{self.run_id!r} ({', '.join(recorded)}), not {', '.join(predictions) or 'none'}."
            )

    def check_metrics(self, metrics: Mapping[str, Any], config: Collection[str]) -> None:
        """Refuse metrics whose name is no array's name, or another column's, or in `config`."""
        for name in metrics:
            schema.check_name(name, "A key of `metrics`")
            if name in self.taken or name in config:
                raise InputError(
                    f"`metrics` must not have the key {name!r}: the models table or the run has "
                    "that name already (loss and error of every sample set are computed here); "
                    "rename it."
                )

    def metrics_of(self, sample_set: str, block: NDArray[np.floating]) -> dict[str, list[float]]:
        """Loss (mean −ln p[label], nats) and error of each checkpoint of `block`."""
        labels = self.sample_sets[sample_set].labels
        picked = np.take_along_axis(block, labels[None, :, None], axis=2)[..., 0]
        loss = -picked.mean(axis=1, dtype=np.float64)
        error = (block.argmax(axis=2) != labels).mean(axis=1)
        return {f"{sample_set}_loss": loss.tolist(), f"{sample_set}_error": error.tolist()}

    def check_shape(self, sample_set: str, shape: tuple[int, ...]) -> None:
        """Refuse one checkpoint's predictions of another shape than (n_samples, n_classes)."""
        if len(shape) != 2:
            raise InputError(
                f"`predictions[{sample_set!r}]` must have shape (n_samples, n_classes) for one "
                f"checkpoint, not {shape}."
            )
        needed = len(self.sample_sets[sample_set]), self.n_classes
        if shape[0] != needed[0]:
            raise InputError(
                f"Run {self.run_id!r} has {shape[0]:,} samples but the ensemble's {sample_set!r} "
                f"set has {needed[0]:,}; re-collect it or open it as its own ensemble."
            )
        if shape[1] != needed[1]:
            raise InputError(
                f"Run {self.run_id!r} has {shape[1]:,} classes in {sample_set!r} but the ensemble "
                f"has {needed[1]:,}; re-collect it or open it as its own ensemble."
            )

    def _convert(
        self, sample_set: str, values: NDArray[Any], kind: Kind, first: int
    ) -> NDArray[np.floating]:
        self.check_shape(sample_set, values.shape[1:])
        name = f"predictions[{sample_set!r}]"
        log_p = to_log_probs(values, kind, name=name, first=first)
        with np.errstate(over="ignore"):  # told from what was infinite before, just below
            stored = np.ascontiguousarray(log_p, self.dtype)
        if (np.isinf(stored) & ~np.isinf(log_p)).any():
            raise InputError(
                f"`{name}` of run {self.run_id!r} has log-probabilities beyond the range of "
                f"{self.dtype}; make the ensemble with dtype='float32'."
            )
        return stored
