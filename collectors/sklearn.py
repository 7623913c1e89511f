"""Record any scikit-learn classifier that has `predict_proba`, fitted or while it is fitted.

record_estimator(forest, "my.ensemble", "forest-0", {"train": (X, y), "test": (X_t, y_t)})
record_partial_fit(MLPClassifier(), "my.ensemble", "mlp-0", {"train": (X, y)}, epochs=20)
"""

if __name__ != "collectors.sklearn":
    raise ImportError(
        "collectors/sklearn.py was imported as a top-level module, where it hides scikit-learn "
        "itself: the folder collectors/ is on sys.path; put the folder above it there."
    )

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from collectors.inputs import InputDigest
from collectors.recorder import BaseRecorder, Labels, RunOptions
from collectors.schedule import AtSteps, ScheduleArgument, every, paper_steps, positive
from inpca.errors import InputError

Estimator = TypeVar("Estimator")
SampleSets = Mapping[str, tuple[Any, ArrayLike]]

_EVERY_STEP = every(1)


class SklearnRecorder(BaseRecorder):
    """Record a classifier's predictions over fixed sample sets, whenever the schedule says so.

    Parameters
    ----------
    ensemble : the directory of the ensemble; created by the first checkpoint if there is none
    run : the id of this run, unique in the ensemble
    config : what distinguishes this run; becomes columns of the models table
    sample_sets : (X, y) for each sample set
    classes : the labels that classes 0, 1, … stand for, in order; by default the sorted labels of
        all the sample sets. A class that an estimator has not seen has probability zero in its
        predictions.
    options : schedule (by default every step), batches_per_epoch, epochs, resume, restart,
        check_inputs: see `collectors.recorder.BaseRecorder`

    Raises
    ------
    InputError
        If a label is none of `classes`, or the run exists already.
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        config: Mapping[str, Any] | None = None,
        *,
        sample_sets: SampleSets,
        classes: ArrayLike | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        self.classes = _all_classes(sample_sets, classes)
        self._X = {name: X for name, (X, _) in sample_sets.items()}
        self._labels_of = {
            name: class_indices(y, self.classes, f"sample set {name!r}")
            for name, (_, y) in sample_sets.items()
        }
        options = {"schedule": _EVERY_STEP, **options, "n_classes": len(self.classes)}
        super().__init__(ensemble, run, list(sample_sets), config=config, **options)

    def step(
        self,
        estimator: Any,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Record the fitted `estimator` if the schedule wants this step; say whether it was.

        Raises
        ------
        InputError
            If `estimator` has no `predict_proba`, knows a class that the ensemble does not, or
            predicts NaN.
        """
        if not self.due(step, epoch):
            self._remember(estimator, step, epoch, metrics)
            return False
        self.record(estimator, step=step, epoch=epoch, metrics=metrics)
        return True

    def record(
        self,
        estimator: Any,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Record `estimator` whatever the schedule says; otherwise as `step`."""
        self._record(estimator, step, epoch, metrics)

    def _record(self, model: Any, step: int, epoch: float, metrics: Any) -> None:
        if self._check_inputs and not self._inputs:
            self._inputs = {name: _noted(X) for name, X in self._X.items()}
        predictions = {name: predict_probs(model, X, self.classes) for name, X in self._X.items()}
        self._append(predictions, self._labels_of, "probs", step=step, epoch=epoch, metrics=metrics)

    def _state_of(self, model: Any) -> Any:
        """What scikit-learn's own estimators count while they are fitted."""
        return [getattr(model, name, None) for name in ("t_", "n_iter_", "n_estimators")]


def record_estimator(
    estimator: Any,
    ensemble: str | os.PathLike[str],
    run: str,
    sample_sets: SampleSets,
    *,
    config: Mapping[str, Any] | None = None,
    classes: ArrayLike | None = None,
    restart: bool = False,
    check_inputs: bool = True,
) -> None:
    """Store a fitted classifier as a run of one checkpoint.

    Parameters are those of `SklearnRecorder`; `config` defaults to the estimator's class name.
    """
    recorder = SklearnRecorder(
        ensemble,
        run,
        _config(estimator, config),
        sample_sets=sample_sets,
        classes=classes,
        restart=restart,
        check_inputs=check_inputs,
    )
    with recorder:
        recorder.step(estimator, step=0, epoch=0)


def record_partial_fit(
    estimator: Estimator,
    ensemble: str | os.PathLike[str],
    run: str,
    sample_sets: SampleSets,
    *,
    train: str = "train",
    config: Mapping[str, Any] | None = None,
    classes: ArrayLike | None = None,
    epochs: int = 20,
    batch_size: int = 64,
    schedule: ScheduleArgument = "paper",
    random_state: int = 0,
    restart: bool = False,
    check_inputs: bool = True,
) -> Estimator:
    """Fit `estimator` by `partial_fit` on shuffled batches of one sample set, and record it.

    The first checkpoint is after the first batch: before it a scikit-learn estimator has no
    predictions.

    Parameters
    ----------
    train : the sample set to fit on
    epochs, batch_size, random_state : how often, in which portions, in which order
    ensemble, run, sample_sets, config, classes, schedule, restart, check_inputs : see
        `SklearnRecorder`

    Returns
    -------
    the fitted estimator
    """
    _require(estimator, "partial_fit", "use record_estimator for one that is fitted as a whole")
    if train not in sample_sets:
        raise InputError(
            f"`train` must name one of the sample sets {', '.join(sample_sets)}, not {train!r}."
        )
    epochs, batch_size = positive(epochs, "epochs"), positive(batch_size, "batch_size")
    X, y = sample_sets[train]
    y = np.asarray(y)
    per_epoch = -(-len(y) // batch_size)
    recorder = SklearnRecorder(
        ensemble,
        run,
        _config(estimator, config),
        sample_sets=sample_sets,
        classes=classes,
        schedule=_from_first_batch(schedule, per_epoch, epochs),
        batches_per_epoch=per_epoch,
        epochs=epochs,
        restart=restart,
        check_inputs=check_inputs,
    )
    with recorder:
        for step, batch in enumerate(_batches(len(y), batch_size, epochs, random_state), start=1):
            estimator.partial_fit(X[batch], y[batch], classes=recorder.classes)  # type: ignore[attr-defined]
            recorder.step(estimator, step=step, epoch=step / per_epoch)
    return estimator


def _from_first_batch(schedule: ScheduleArgument, per_epoch: int, epochs: int) -> ScheduleArgument:
    """The schedule by its name without step 0, at which there is nothing to record yet."""
    if not isinstance(schedule, str) or schedule not in ("paper", "epochs"):
        return schedule
    steps = set(paper_steps(per_epoch, epochs)) - {0}
    if schedule == "epochs":
        steps = {1, *range(per_epoch, epochs * per_epoch + 1, per_epoch)}
    return AtSteps(frozenset(steps), wants_end=True)


def predict_probs(estimator: Any, X: Any, classes: NDArray[Any]) -> NDArray[np.floating]:
    """Probabilities (N, len(classes)), each column where `classes` has its label.

    Raises
    ------
    InputError
        If the estimator has no `predict_proba`, has several outputs, or knows another class.
    """
    _require(
        estimator,
        "predict_proba",
        "choose a loss that has probabilities (such as loss='log_loss'), or wrap it in "
        "sklearn.calibration.CalibratedClassifierCV",
    )
    probs = estimator.predict_proba(X)
    if isinstance(probs, list) or np.ndim(probs) != 2:
        raise InputError(
            f"{type(estimator).__name__} has several outputs; record one estimator per output."
        )
    columns = class_indices(estimator.classes_, classes, f"{type(estimator).__name__}.classes_")
    if probs.shape[1] == len(classes) and np.array_equal(columns, np.arange(len(classes))):
        return np.asarray(probs)
    mapped = np.zeros((len(probs), len(classes)), dtype=probs.dtype)
    mapped[:, columns] = probs
    return mapped


def class_indices(y: ArrayLike, classes: NDArray[Any], where: str) -> Labels:
    """The position in `classes` of each label in `y`, (N,); refuse a label that is not there."""
    values = np.asarray(y)
    order = np.argsort(classes, kind="stable")
    place = np.searchsorted(classes, values, sorter=order).clip(max=len(classes) - 1)
    found = order[place]
    missing = np.asarray(classes[found] != values)
    if missing.any():
        raise InputError(
            f"Label {values[missing][0]!r} in {where} is none of the {len(classes)} classes; pass "
            "`classes` with all of them."
        )
    return np.asarray(found, dtype=np.int64)


def _noted(X: Any) -> dict[str, str]:
    """What a run keeps of the inputs of a sample set."""
    digest = InputDigest()
    digest.add(X)
    return digest.noted()


def _all_classes(sample_sets: SampleSets, classes: ArrayLike | None) -> NDArray[Any]:
    if classes is None:
        return np.unique(np.concatenate([np.asarray(y) for _, y in sample_sets.values()]))
    values = np.asarray(classes)
    if values.ndim != 1 or len(np.unique(values)) != len(values):
        raise InputError(f"`classes` must list each class once, not {values!r}.")
    return values


def _require(estimator: Any, method: str, cure: str) -> None:
    if not hasattr(estimator, method):
        raise InputError(f"{type(estimator).__name__} has no `{method}`; {cure}.")


def _config(estimator: Any, config: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"architecture": type(estimator).__name__, **(config or {})}


def _batches(
    n_samples: int, batch_size: int, epochs: int, random_state: int
) -> Iterable[NDArray[np.int64]]:
    random = np.random.default_rng(random_state)
    for _ in range(epochs):
        order = random.permutation(n_samples)
        for start in range(0, n_samples, batch_size):
            yield order[start : start + batch_size]
