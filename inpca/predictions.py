"""Predictions: the kinds they come in, their validation, and what the engine reads them from.

Inside the package predictions are **log-probabilities** (natural logarithm, rows normalised,
``-inf`` for a probability of exactly zero): float32 probabilities lose everything below 1e-45.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from inpca.checks import PREDICTIONS, Axes, plain_array
from inpca.errors import DamagedStoreError, InputError
from inpca.logits import check_logits
from inpca.units import count

Kind = Literal["probs", "log_probs", "logits", "sqrt_probs"]
Floats = NDArray[np.floating]

# How far a row of probabilities may be from 1 before it is refused rather than renormalised.
ROW_SUM_TOLERANCE = {2: 5e-3, 4: 1e-4, 8: 1e-4}
_CHECK_BYTES = 4_000_000  # of float64, checked at a time


class PredictionSource(Protocol):
    """What the distance engine reads from: an array in memory, or runs on disk.

    Attributes
    ----------
    shape : (n_models, n_samples, n_classes)
    dtype : float32 or float64; the precision `read` returns and distances are computed in

    A source may also offer ``digests()``, the identity of each model, shape (n_models,) uint64,
    without which a matrix of distances cannot be extended later; ``chunk_samples``, the samples
    that lie together on disk; and ``recorded()``, what identifies the recording of each run that it
    reads, run id → bytes, read anew each time, by which `Watch` notices that one was replaced.
    """

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[np.floating]: ...

    def read(self, models: slice, samples: slice) -> Floats:
        """Log-probabilities of a block, shape (n models, n samples, n_classes), C-ordered."""
        ...

    def fingerprint(self) -> str:
        """Hex digest that changes when the predictions, or their order, change."""
        ...


def to_log_probs(
    predictions: ArrayLike,
    kind: Kind = "probs",
    *,
    name: str = "X",
    first: int = 0,
    known_logits: bool = False,
) -> Floats:
    """Validate predictions of any kind and return normalised log-probabilities.

    Parameters
    ----------
    predictions : array of shape (..., n_samples, n_classes)
    kind : what the numbers are: ``"probs"`` p, ``"log_probs"`` ln p, ``"logits"`` (ln p up to a
        constant per sample) or ``"sqrt_probs"`` √p
    name : the argument's name, for messages
    first : index of the first model of this block, for messages
    known_logits : logits need not be looked at: they are some samples of what was, or meant

    Returns
    -------
    array of the same shape, float64 if `predictions` is, otherwise float32

    Raises
    ------
    InputError
        For NaN or infinite values (``-inf`` is allowed in ``"log_probs"``: probability zero),
        masked or missing ones, negative probabilities, rows that do not sum to 1, fewer than two
        classes; for logits that are probabilities; for a table whose samples or classes are not
        named 0, 1, 2, … in order.
    """
    values = as_floats(predictions, name, PREDICTIONS)
    check_kind(kind)
    if values.ndim < 2 or values.shape[-1] < 2 or values.shape[-2] < 1:
        raise InputError(
            f"`{name}` must have shape (…, n_samples ≥ 1, n_classes ≥ 2), not {values.shape}."
        )
    _check_finite(values, kind, name, first)
    narrow = values.dtype.itemsize < 4
    work = values.astype(np.float32) if narrow else values
    if kind == "logits":
        if not known_logits:
            check_logits(work, name, first)
        return np.asarray(log_softmax(work, axis=-1))
    log_p = _as_logarithm(work, kind, name, first)
    # The sum is taken in float64: in float32 it would itself be off by C roundings.
    with np.errstate(over="ignore", divide="ignore"):  # what is no probability is refused below
        log_sum = np.log(np.exp(log_p, dtype=np.float64).sum(axis=-1, keepdims=True))
    _check_row_sums(log_sum, ROW_SUM_TOLERANCE[values.dtype.itemsize], kind, name, first)
    return np.asarray(log_p - log_sum, dtype=work.dtype)


def from_log_probs(log_p: Floats, kind: Kind) -> Floats:
    """Log-probabilities as predictions of `kind`; as ``"logits"`` they are what they are."""
    check_kind(kind)
    if kind == "probs":
        return np.asarray(np.exp(log_p))
    if kind == "sqrt_probs":
        return np.asarray(np.exp(0.5 * log_p))
    return log_p


def as_floats(values: ArrayLike, name: str, axes: Axes = ()) -> Floats:
    """`values` as an array of float16, float32 or float64; integers become float64.

    Masked and missing entries, and `axes` that are named otherwise than by position, are refused.
    """
    array = plain_array(values, name, axes)
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(
            f"`{name}` must hold real numbers (float16, float32 or float64), not {array.dtype}."
        )
    return array


def check_kind(kind: str) -> None:
    """Refuse a `kind` that is none of the four."""
    if kind not in get_args(Kind):
        raise InputError(f"`kind` must be one of {', '.join(get_args(Kind))}, not {kind!r}.")


def _where(bad: NDArray[np.bool_] | np.bool_, first: int) -> str:
    """Name the first bad row: its sample, and its model where there is an axis of models."""
    bad = np.asarray(bad)
    index = np.argwhere(bad)[0]
    sample = f"sample {index[bad.ndim - 1]}" if bad.ndim else "the row"
    return f"model {first + index[-2]}, {sample}" if bad.ndim >= 2 else sample


def _check_finite(values: Floats, kind: str, name: str, first: int) -> None:
    allowed = np.isfinite(values)
    if kind == "log_probs":
        allowed |= np.isneginf(values)
    if not allowed.all():
        bad = ~allowed.all(axis=-1)
        raise InputError(
            f"`{name}` has NaN or infinite values in {_where(bad, first)} ({bad.sum()} rows in "
            "all); drop or repair the models that diverged."
        )


def _as_logarithm(values: Floats, kind: str, name: str, first: int) -> Floats:
    if kind == "log_probs":
        return values
    negative = (values < 0).any(axis=-1)
    if negative.any():
        raise InputError(
            f"`{name}` has negative probabilities in {_where(negative, first)}; pass "
            "kind='logits' or kind='log_probs' if that is what they are."
        )
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values) * (2 if kind == "sqrt_probs" else 1))


def _check_row_sums(
    log_sum: NDArray[np.float64], tolerance: float, kind: str, name: str, first: int
) -> None:
    total = np.exp(log_sum[..., 0])
    bad = ~(np.abs(total - 1) <= tolerance)
    if bad.any():
        row = total[bad].flat[0]
        raise InputError(
            f"`{name}` has rows that do not sum to 1: {_where(bad, first)} sums to {row:.6g} "
            f"({count(int(bad.sum()), 'row')} in all); normalise them, or pass the `kind` that "
            f"they are (now kind={kind!r})."
        )


class Watch:
    """Notices that predictions were recorded again while they were read.

    Arrays in memory are not watched: they are the caller's to leave alone.

    Parameters
    ----------
    sources : what is read from now on
    """

    def __init__(self, *sources: object) -> None:
        self._sources = sources
        self._before = [recorded_of(source) for source in sources]

    def check(self) -> None:
        """Refuse what was read since, if a run has been replaced.

        Raises
        ------
        InputError
            With the first such run.
        """
        changed = {
            run
            for source, before in zip(self._sources, self._before)
            for run, content in recorded_of(source).items()
            if before[run] != content
        }
        if changed:
            raise InputError(
                f"Run {min(changed)!r} was recorded again, or deleted, while its predictions were "
                f"read ({count(len(changed), 'such run')}): the result would be of neither "
                "recording; call again when the recording has ended."
            )


def recorded_of(source: object) -> Mapping[str, bytes]:
    """What identifies the recording of each run that `source` reads; empty for arrays."""
    recorded = getattr(source, "recorded", None)
    return {} if recorded is None else recorded()


@contextmanager
def steady(*sources: object) -> Iterator[None]:
    """Refuse, at the end of the block, what was computed from predictions replaced meanwhile.

    Raises
    ------
    InputError
        See `Watch.check`; also where the block fails because the predictions are gone.
    """
    watch = Watch(*sources)
    try:
        yield
    except (DamagedStoreError, InputError):
        watch.check()  # what was replaced is not damaged, and the cure is another
        raise
    watch.check()


class ArrayPredictions:
    """A `PredictionSource` over an array in memory; validated whole when it is made.

    Parameters
    ----------
    array : (n_models, n_samples, n_classes)
    kind : see `to_log_probs`
    name : the argument's name, for messages
    """

    def __init__(self, array: ArrayLike, kind: Kind = "probs", name: str = "X") -> None:
        self._values = as_floats(array, name, PREDICTIONS)
        self._kind: Kind = kind
        self._name = name
        if self._values.ndim != 3:
            raise InputError(
                f"`{name}` must have shape (n_models, n_samples, n_classes), not "
                f"{self._values.shape}; one model of shape (n_samples, n_classes) goes in as "
                f"{name}[None]."
            )
        step = max(1, _CHECK_BYTES // max(1, self._values[:1].size * 8))
        for start in range(0, len(self._values), step):
            self._convert(slice(start, start + step), slice(None), known_logits=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        n_models, n_samples, n_classes = self._values.shape
        return n_models, n_samples, n_classes

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return np.dtype(np.float64 if self._values.dtype.itemsize == 8 else np.float32)

    def read(self, models: slice, samples: slice) -> Floats:
        return self._convert(models, samples, known_logits=True)

    def _convert(self, models: slice, samples: slice, *, known_logits: bool) -> Floats:
        block, first = self._values[models, samples], models.start or 0
        return to_log_probs(
            block, self._kind, name=self._name, first=first, known_logits=known_logits
        )

    def digests(self) -> NDArray[np.uint64]:
        """Identity of each model, (n_models,): first 8 bytes of a SHA-256."""
        common = hashlib.sha256(f"{self._kind} {self._values.dtype.str} {self.shape[1:]}".encode())
        found = np.empty(len(self._values), np.uint64)
        for number, model in enumerate(self._values):
            digest = common.copy()
            digest.update(np.ascontiguousarray(model).data)
            found[number] = int.from_bytes(digest.digest()[:8], "little")
        return found

    def fingerprint(self) -> str:
        return hashlib.sha256(self.digests().tobytes()).hexdigest()
