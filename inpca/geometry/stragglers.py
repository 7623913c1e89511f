"""Stragglers: the training samples that are still misclassified at the inversion point (Eq. 2)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import LABELS, PREDICTIONS, plain_array
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers

Floats = NDArray[np.float64]


def stragglers(
    predictions: ArrayLike, labels: ArrayLike, checkpoint: int | None = None
) -> NDArray[np.bool_]:
    """S(t), the samples whose most probable class is not their label (Eqs. 2 and 6).

    At the inversion epoch these are the stragglers S(t*). The mean of the mask is the error: Eq. 8
    of the paper as printed counts the samples that are right.

    Parameters
    ----------
    predictions : probabilities, or anything that orders the classes as they do (log-probabilities,
        logits), (…, n_samples, n_classes); leading axes are checkpoints, runs, …
    labels : true class of each sample, (n_samples,)
    checkpoint : the checkpoint t, of predictions of shape (n_checkpoints, n_samples, n_classes),
        such as `Inversion.index`; without it, the sets of all

    Returns
    -------
    mask, (…, n_samples), without the axis of checkpoints where one was asked for

    Raises
    ------
    InputError
        For NaN predictions, labels that do not fit, a checkpoint that does not exist.

    Examples
    --------
    >>> stragglers([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1])
    array([False,  True, False])
    """
    scores = plain_array(predictions, "predictions", PREDICTIONS)
    if scores.ndim < 2 or scores.shape[-1] < 2 or scores.dtype.kind not in "iuf":
        raise InputError(
            "`predictions` must be numbers of shape (…, n_samples, n_classes ≥ 2), not "
            f"{scores.dtype} of shape {scores.shape}."
        )
    truth = _check_classes(labels, scores.shape[-2], scores.shape[-1])
    if checkpoint is not None:
        scores = _at_checkpoint(scores, checkpoint)
    if scores.dtype.kind == "f" and np.isnan(scores).any():
        raise InputError("`predictions` has NaN values; leave out runs that diverged.")
    return np.asarray(scores.argmax(axis=-1) != truth)


def checkpoint_at_error(train_error: ArrayLike, levels: ArrayLike) -> NDArray[np.int64]:
    """First checkpoint whose training error is at or below each level: t(ε_tr).

    Parameters
    ----------
    train_error : (n_checkpoints,)
    levels : training errors, of any shape

    Returns
    -------
    checkpoints, of the shape of `levels`; −1 where the run never comes so low

    Examples
    --------
    >>> checkpoint_at_error([0.5, 0.2, 0.22, 0.05], [0.3, 0.2, 0.01])
    array([ 1,  1, -1])
    """
    lowest = _lowest_so_far(train_error)
    wanted = _check_levels(levels)
    # Increasing once reversed in sign; ties go to the first checkpoint that has them.
    first = np.searchsorted(-lowest, -wanted, side="left")
    return np.where(first < len(lowest), first, -1).astype(np.int64)


def against_error(values: ArrayLike, train_error: ArrayLike, levels: ArrayLike) -> Floats:
    """An observable as a function of the training error, as of Fig. 1c and d.

    The training error is made to fall by taking its lowest value so far; between two checkpoints
    the observable is interpolated linearly.

    Parameters
    ----------
    values : (n_checkpoints, …)
    train_error : (n_checkpoints,)
    levels : training errors, (n_levels,)

    Returns
    -------
    (n_levels, …); NaN at errors that the run did not pass through
    """
    lowest = _lowest_so_far(train_error)
    series = real_numbers(values, "values")
    if series.shape[:1] != lowest.shape:
        raise InputError(
            f"`values` must have one row per checkpoint of `train_error` ({len(lowest)}), not "
            f"shape {series.shape}."
        )
    wanted = _check_levels(levels)
    fresh = np.concatenate([[True], np.diff(lowest) < 0])  # only the first of a plateau
    axis, rows = lowest[fresh][::-1], series[fresh][::-1]
    flat = rows.reshape(len(rows), -1)
    found = np.stack(
        [np.interp(wanted, axis, column, left=np.nan, right=np.nan) for column in flat.T], axis=-1
    )
    return found.reshape(*wanted.shape, *series.shape[1:])


def random_labels(labels: ArrayLike, seed: int) -> NDArray[np.int64]:
    """The labels in random order: the control without structure, with the same share of each."""
    values = plain_array(labels, "labels", LABELS)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(
            "`labels` must be whole numbers, one per sample, not "
            f"{values.dtype} of shape {values.shape}."
        )
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise InputError(f"`labels` must be class indices, not {values.max()}.")
    return np.random.default_rng(seed).permutation(values.astype(np.int64))


def noisy_inputs(inputs: ArrayLike, sigma: float, seed: int) -> NDArray[np.floating]:
    """Inputs with white noise of standard deviation `sigma` on every entry (Fig. 2c).

    Recorded as a sample set of its own (``"test+noise 0.5"``), the test error under noise is then
    a metric of the run like any other.
    """
    values = plain_array(inputs, "inputs")
    if values.dtype.kind != "f" or not (np.isfinite(sigma) and sigma >= 0):
        raise InputError(
            f"`inputs` must be floats and `sigma` a number ≥ 0, not {values.dtype} and {sigma}."
        )
    noise = np.random.default_rng(seed).normal(0.0, sigma, values.shape)
    return np.asarray(values + noise, dtype=values.dtype)


def _lowest_so_far(train_error: ArrayLike) -> Floats:
    error = real_numbers(train_error, "train_error")
    if error.ndim != 1 or not len(error) or not np.isfinite(error).all():
        raise InputError(
            "`train_error` must be one finite number per checkpoint, not of shape "
            f"{error.shape}{'' if error.ndim != 1 or not len(error) else ' with NaN in it'}."
        )
    return np.minimum.accumulate(error)


def _check_classes(labels: ArrayLike, n_samples: int, n_classes: int) -> NDArray[np.int64]:
    values = plain_array(labels, "labels", LABELS)
    if values.shape != (n_samples,) or values.dtype.kind not in "iu":
        raise InputError(
            f"`labels` must be whole numbers, one per sample, shape ({n_samples},), not "
            f"{values.dtype} of shape {values.shape}."
        )
    if n_samples and not (values.min() >= 0 and values.max() < n_classes):
        raise InputError(
            f"`labels` must be classes from 0 to {n_classes - 1}, not from {values.min()} to "
            f"{values.max()}."
        )
    return values.astype(np.int64)


def _check_levels(levels: ArrayLike) -> Floats:
    wanted = real_numbers(levels, "levels")
    if np.isnan(wanted).any():
        raise InputError("`levels` must be training errors; one is NaN: leave it out.")
    return wanted


def _at_checkpoint(scores: NDArray[np.generic], checkpoint: int) -> NDArray[np.generic]:
    if scores.ndim != 3:
        raise InputError(
            "`checkpoint` needs `predictions` of shape (n_checkpoints, n_samples, n_classes), not "
            f"{scores.shape}."
        )
    if not 0 <= checkpoint < len(scores):
        raise InputError(f"`checkpoint` must be in 0 … {len(scores) - 1}, not {checkpoint}.")
    return np.asarray(scores[checkpoint])
