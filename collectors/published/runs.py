"""Run files of the archive: one training, its predictions at every checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collectors.published.names import SETS, setting_name
from collectors.schedule import paper_steps
from collectors.torch_files import arrays_of
from inpca.errors import InputError
from inpca.predictions import to_log_probs
from inpca.store.schema import check_config

Labels = Mapping[str, NDArray[np.int64]]

_EPOCHS = 200  # of the trainings that do not say how many
_MOST_EPOCHS = 1_000_000


@dataclass(frozen=True)
class PublishedRun:
    """One run, checked, K checkpoints.

    Attributes
    ----------
    config : its settings, in the words of the models table
    log_probs : (K, N, C) of every sample set
    step, epoch : (K,)
    metrics : (K,) each
    note : what to know of how it was read
    """

    config: dict[str, Any]
    log_probs: dict[str, NDArray[np.floating]]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    metrics: dict[str, NDArray[np.float64]]
    note: str = ""

    @property
    def n_classes(self) -> int:
        """C."""
        return int(next(iter(self.log_probs.values())).shape[-1])


def read_run(content: Any, settings: Mapping[str, Any], labels: Labels, file: Path) -> PublishedRun:
    """What `torch.save` wrote of a run, as a run of ours.

    Parameters
    ----------
    content : the file's content
    settings : those of its name
    labels : (N,) of every sample set to read
    file : for messages

    Raises
    ------
    InputError
        If it is no list of checkpoints, or these lack predictions, are no probabilities, or are of
        other samples than `labels`.
    """
    rows, more = _checkpoints(content, file)
    log_probs = {name: _log_probs(rows, name, len(y), file) for name, y in labels.items()}
    step, epoch, note = _steps(rows, settings, more, labels, file)
    metrics = {"t": _column(rows, "t", file)} if note and "t" in rows[0] else {}
    config = {setting_name(key): _scalar(value) for key, value in settings.items()}
    return PublishedRun(check_config(config, labels), log_probs, step, epoch, metrics, note)


def _checkpoints(content: Any, file: Path) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """The checkpoints of a run, and the settings that the file has beside its name."""
    more: Mapping[str, Any] = {}
    if isinstance(content, Mapping) and "data" in content:
        configs = content.get("configs", {})
        more = configs if isinstance(configs, Mapping) else getattr(configs, "__dict__", {})
        content = content["data"]
    if isinstance(content, pd.DataFrame):
        content = content.to_dict("records")
    good = isinstance(content, Sequence) and len(content) > 0
    if not good or not all(isinstance(row, Mapping) for row in content):
        raise InputError(
            f"{file} holds a {type(content).__name__} where a list of checkpoints, a mapping with "
            "one under 'data', or a table of pandas is expected."
        )
    return list(content), more


def _log_probs(
    rows: Sequence[Mapping[str, Any]], name: str, n_samples: int, file: Path
) -> NDArray[np.floating]:
    """(K, N, C) of one sample set; log-probabilities are what has negative numbers."""
    values = []
    for k, row in enumerate(rows):
        where = f"{file}: {SETS[name]}, checkpoint {k}"
        if SETS[name] not in row:
            raise InputError(
                f"{where} is missing; there are {', '.join(map(str, row))}; leave out the labels "
                f"of {name!r} if these predictions are not wanted."
            )
        array = np.squeeze(arrays_of(row[SETS[name]], file))
        if array.ndim != 2 or len(array) != n_samples:
            raise InputError(
                f"{where} has shape {array.shape} but the labels of {name!r} are {n_samples:,}; "
                "pass the labels of these samples."
            )
        kind = "log_probs" if (array < 0).any() else "probs"
        values.append(to_log_probs(array, kind, name=where))
    if len({array.shape for array in values}) > 1:
        raise InputError(f"{file} has checkpoints of different shapes in {SETS[name]}.")
    return np.stack(values)


def _steps(
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    more: Mapping[str, Any],
    labels: Labels,
    file: Path,
) -> tuple[NDArray[np.int64], NDArray[np.float64], str]:
    """Step and epoch of each checkpoint, and what to know where they are not the training's."""
    known, batches = _scheduled(settings, more, labels)
    t = _column(rows, "t", file) if "t" in rows[0] else None
    # Larger numbers than 2⁵³ are whole only for want of digits.
    whole = t is not None and (t == np.floor(t)).all() and (np.abs(t) <= 2**53).all()
    if t is not None and whole and (np.diff(t) > 0).all():
        step, note = t.astype(np.int64), ""
    elif t is None and known is not None and len(known) == len(rows):
        step, note = np.asarray(known), ""
    else:
        step = np.arange(len(rows))
        note = "steps count the checkpoints: " + (
            "t is no step, and is kept as a metric"
            if t is not None
            else "it does not hold them, and has not as many as the paper's schedule"
        )
    unknown = batches is None or bool(note)
    epoch = np.full(len(rows), np.nan) if unknown else step / float(batches or 1)
    return step, epoch, note


def _scheduled(
    settings: Mapping[str, Any], more: Mapping[str, Any], labels: Labels
) -> tuple[list[int] | None, int | None]:
    """The paper's steps, and the batches of an epoch, where the settings tell."""
    batch_size = settings.get("bs", more.get("bs"))
    if "train" not in labels or not isinstance(batch_size, int) or batch_size < 1:
        return None, None
    batches = max(1, len(labels["train"]) // batch_size)
    epochs = more.get("epochs", _EPOCHS)
    if not isinstance(epochs, int) or not 0 < epochs <= _MOST_EPOCHS:
        return None, batches
    return paper_steps(batches, epochs), batches


def _column(rows: Sequence[Mapping[str, Any]], key: str, file: Path) -> NDArray[np.float64]:
    try:
        return np.array([float(row[key]) for row in rows])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{file} has no number {key!r} in each checkpoint ({error}); write one, or leave "
            f"{key!r} out of all."
        ) from error


def _scalar(value: Any) -> Any:
    """What a cell of the models table can hold; the rest as JSON writes it."""
    return value if isinstance(value, str | bool | int | float | None) else str(value)
