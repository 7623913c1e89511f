"""Files of predictions that other programs saved: ``.npz``, ``.npy``, HDF5, torch.

A file is one run. It holds, for every sample set, `predictions` (checkpoint, sample, class), or
(sample, class) for a run of one checkpoint, and where the ensemble does not exist yet the `labels`
(sample,). With one sample set these lie at the top of the file; with several, in a group for each
set: ``train/predictions``, ``train/labels``, ``test/predictions``, … (an HDF5 group, a slash in
the name within an ``.npz``, a mapping in a mapping of ``torch.save``). `step` and `epoch`, each
(checkpoint,), are read where they exist; without them steps count 0, 1, 2, … and epochs are NaN.
Files that use other words are read with `names`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.hdf5_files import HDF5, datasets, open_hdf5
from inpca.errors import InputError
from inpca.opening import check_fits, open_npy, open_npz, reading, regular_file
from inpca.store.intake import epoch_number, whole_number

# What a file calls its arrays, unless `names` says otherwise.
NAMES = {"predictions": "predictions", "labels": "labels", "step": "step", "epoch": "epoch"}
_TORCH = (".pt", ".pth")
_MAX_LABEL = np.iinfo(np.int32).max


@dataclass(frozen=True)
class ArchivedRun:
    """One open file: all but `.npz` stay on disk until a checkpoint is asked for.

    Attributes
    ----------
    path : the file
    predictions : for each sample set, something indexable of shape (checkpoint, sample, class)
    labels : (sample,) of each sample set that has them
    step, epoch : (checkpoint,)
    tells_steps : whether the file has steps; without them checkpoints are counted
    """

    path: Path
    predictions: dict[str, Any]
    labels: dict[str, NDArray[np.int64]]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    tells_steps: bool = True

    @property
    def n_checkpoints(self) -> int:
        return len(self.step)

    def read(self, sample_set: str, checkpoint: int) -> NDArray[Any]:
        """Predictions (sample, class) of one checkpoint, as they are in the file."""
        with reading(self.path):
            return np.asarray(self.predictions[sample_set][checkpoint])


def complete_names(names: Mapping[str, str] | None) -> dict[str, str]:
    """What a file calls its arrays, `names` put over the default; refuse an unknown key."""
    unknown = sorted(set(names or {}) - set(NAMES))
    if unknown:
        raise InputError(f"`names` may rename {', '.join(NAMES)}; {unknown[0]!r} is none of them.")
    return NAMES | dict(names or {})


@contextmanager
def open_archive(
    path: Path,
    sample_set: str,
    names: Mapping[str, str] = NAMES,
    *,
    allow_pickle: bool = False,
) -> Iterator[ArchivedRun]:
    """Open one file as a run; see the module's text for what it must hold.

    `allow_pickle` is for torch files alone: see `collectors.torch_files.load_torch`.

    Raises
    ------
    InputError
        If the file is missing, is of no known format, or does not hold what it must.
    """
    regular_file(path)
    arrays: Mapping[str, Any]
    if path.suffix == ".npy":
        arrays = {names["predictions"]: open_npy(path)}
        yield _archived(path, {sample_set: ""}, arrays, names)
    elif path.suffix == ".npz":
        with open_npz(path) as arrays:
            yield _archived(path, _groups(arrays, sample_set, path, names), arrays, names)
    elif path.suffix in HDF5:
        with open_hdf5(path) as file:
            with reading(path):
                arrays = datasets(file, path)
                archive = _archived(path, _groups(arrays, sample_set, path, names), arrays, names)
            yield archive
    elif path.suffix in _TORCH:
        arrays = _torch_arrays(path, allow_pickle, names)
        yield _archived(path, _groups(arrays, sample_set, path, names), arrays, names)
    else:
        raise InputError(f"{path} must end in .npz, .npy, .h5, .hdf5, .pt or .pth to be imported.")


def _torch_arrays(path: Path, allow_pickle: bool, names: Mapping[str, str]) -> dict[str, Any]:
    from collectors.torch_files import arrays_of, load_torch

    arrays = arrays_of(load_torch(path, allow_pickle=allow_pickle), path)
    return arrays if isinstance(arrays, dict) else {names["predictions"]: arrays}


def _groups(
    arrays: Mapping[str, Any], sample_set: str, path: Path, names: Mapping[str, str]
) -> dict[str, str]:
    """Sample set → prefix of its arrays' names: one at the top of the file, or one per group."""
    word = names["predictions"]
    found = {key[: -len(word) - 1]: key[: -len(word)] for key in arrays if key.endswith(f"/{word}")}
    if word in arrays:
        found[sample_set] = ""
    if not found:
        raise InputError(
            f"{path} has no array {word!r} (nor <sample set>/{word}); it holds "
            f"{', '.join(sorted(arrays)) or 'nothing'}. Say which it is with "
            f"names={{'predictions': …}} (--name predictions=…)."
        )
    return found


def _archived(
    path: Path,
    groups: Mapping[str, str],
    arrays: Mapping[str, Any],
    names: Mapping[str, str],
) -> ArchivedRun:
    predictions = {
        name: _as_checkpoints(arrays[prefix + names["predictions"]], name, path)
        for name, prefix in groups.items()
    }
    lengths = {len(values) for values in predictions.values()}
    if len(lengths) != 1:
        raise InputError(f"{path} has {sorted(lengths)} checkpoints in different sample sets.")
    keys = {name: prefix + names["labels"] for name, prefix in groups.items()}
    labels = {
        name: as_labels(arrays[key], f"`{key}` in {path}")
        for name, key in keys.items()
        if key in arrays
    }
    n = lengths.pop()
    step = _counter(arrays, names["step"], np.arange(n), path)
    epoch = _counter(arrays, names["epoch"], np.full(n, np.nan), path)
    where = {name: f"`{names[name]}` in {path}" for name in ("step", "epoch")}
    step = np.array([whole_number(value, where["step"]) for value in step.tolist()], np.int64)
    epoch = np.array([epoch_number(value, where["epoch"]) for value in epoch.tolist()])
    if (step[1:] <= step[:-1]).any():
        at = int(np.argmax(step[1:] <= step[:-1]))
        raise InputError(
            f"`{names['step']}` in {path} must increase from one checkpoint to the next, but "
            f"{step[at]} is followed by {step[at + 1]}; sort the checkpoints, each once."
        )
    for name, values in labels.items():
        check_labels(values, predictions[name].shape[1:], f"`{keys[name]}` in {path}")
    return ArchivedRun(path, predictions, labels, step, epoch, names["step"] in arrays)


def check_labels(labels: NDArray[np.int64], shape: tuple[int, int], where: str) -> None:
    """Refuse labels that are not one class of the predictions (sample, class) for each sample."""
    n_samples, n_classes = shape
    if len(labels) != n_samples:
        raise InputError(
            f"{where} are {len(labels):,} labels, but the predictions beside them are of "
            f"{n_samples:,} samples; write one label for each sample."
        )
    if labels.max() >= n_classes:
        raise InputError(
            f"{where} must be classes 0 … {n_classes - 1}, those of the predictions beside them, "
            f"but sample {int(labels.argmax())} has {labels.max()}; correct the labels."
        )


def _as_checkpoints(array: Any, name: str, path: Path) -> Any:
    what = f"The predictions of sample set {name!r} in {path}"
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(f"{what} must have shape (checkpoint, sample, class), not {array.shape}.")
    if array.dtype.kind not in "biufc":
        raise InputError(f"{what} must hold real numbers, not {array.dtype}.")
    # Checked and kept in float64, a checkpoint at a time.
    one = prod(array.shape[-2:]) * max(8, array.dtype.itemsize)
    check_fits(one, f"A checkpoint of {path}", "check that the file is sound")
    return array[()][None] if array.ndim == 2 else array


def _counter(
    arrays: Mapping[str, Any], name: str, default: NDArray[Any], path: Path
) -> NDArray[Any]:
    if name not in arrays:
        return default
    stored, n = arrays[name], len(default)
    good = stored.shape == (n,) and stored.dtype.kind in "iuf"
    values = np.asarray(stored[()]) if good else default  # read only what is as long as it must be
    if not good or not np.isfinite(values).all():
        raise InputError(
            f"`{name}` in {path} must be {n} finite numbers, one for each checkpoint, not "
            f"{stored.dtype} of shape {stored.shape}."
        )
    return values


def as_labels(values: Any, where: str) -> NDArray[np.int64]:
    """Class labels (sample,) as int64; refuse what is not whole numbers ≥ 0."""
    stored = values if hasattr(values, "dtype") else np.asarray(values)
    good = stored.ndim == 1 and stored.dtype.kind in "iuf"
    if good:
        check_fits(8 * len(stored), where, "check that the file is sound")
        labels = np.asarray(stored[()])
        good = bool((labels == np.floor(labels)).all() and (labels >= 0).all())
    if not good:
        raise InputError(
            f"{where} must be the class 0, 1, … of each sample, shape (sample,), not "
            f"{stored.dtype} of shape {stored.shape}."
        )
    if (labels > _MAX_LABEL).any():
        raise InputError(f"{where} must be classes 0, 1, …, but reach to {labels.max()}.")
    return labels.astype(np.int64)


def read_labels(path: Path) -> NDArray[np.int64]:
    if path.suffix != ".npy":
        raise InputError(f"`labels` must be a .npy file, not {path}.")
    regular_file(path, " for `labels`; check the path.")
    return as_labels(open_npy(path), str(path))
