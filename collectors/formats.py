"""Files of predictions that other programs saved: ``.npz``, ``.npy``, HDF5, torch.

A file is one run. It holds, for every sample set, `predictions` (checkpoint, sample, class), or
(sample, class) for a run of one checkpoint, and where the ensemble does not exist yet the `labels`
(sample,). With one sample set these lie at the top of the file; with several, in a group for each
set: ``train/predictions``, ``train/labels``, ``test/predictions``, … (an HDF5 group, a slash in
the name within an ``.npz``, a mapping in a mapping of ``torch.save``). `step` and `epoch`, each
(checkpoint,), are read where they exist; without them steps count 0, 1, 2, … and epochs are NaN.
Files that use other words are read with `names`.
"""

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError, MissingExtraError

# What a file calls its arrays, unless `names` says otherwise.
NAMES = {"predictions": "predictions", "labels": "labels", "step": "step", "epoch": "epoch"}
HDF5 = (".h5", ".hdf5")
_TORCH = (".pt", ".pth")


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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a library says about a damaged or unfit file, as one error that names the file."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path} holds Python objects where numbers are expected; save arrays of numbers."
            ) from None
        raise InputError(f"{path} cannot be read as {path.suffix}: {error}") from error
    except (OSError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} cannot be read as {path.suffix}: {error}; it may be truncated: copy or write "
            "it again."
        ) from error


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
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    if path.suffix == ".npy":
        arrays = {names["predictions"]: open_npy(path)}
        yield _archived(path, {sample_set: ""}, arrays, names)
    elif path.suffix == ".npz":
        # The file is opened here: np.load leaves its own handle open where it fails.
        with open(path, "rb") as file, _load(path, file) as arrays:
            with reading(path):
                archive = _archived(path, _groups(arrays, sample_set, path, names), arrays, names)
            yield archive
    elif path.suffix in HDF5:
        with open_hdf5(path) as file:
            with reading(path):
                arrays = _datasets(file)
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
        name: as_labels(arrays[key][()], f"`{key}` in {path}")
        for name, key in keys.items()
        if key in arrays
    }
    n = lengths.pop()
    step = _counter(arrays, names["step"], np.arange(n), path)
    epoch = _counter(arrays, names["epoch"], np.full(n, np.nan), path)
    if (step != np.floor(step)).any():
        raise InputError(f"`{names['step']}` in {path} must be whole numbers, not {step}.")
    if (np.diff(step) <= 0).any():
        at = int(np.argmax(np.diff(step) <= 0))
        raise InputError(
            f"`{names['step']}` in {path} must increase from one checkpoint to the next, but "
            f"{step[at]:g} is followed by {step[at + 1]:g}; sort the checkpoints, each once."
        )
    for name, values in labels.items():
        check_labels(values, predictions[name].shape[1:], f"`{keys[name]}` in {path}")
    whole, tells = step.astype(np.int64), names["step"] in arrays
    return ArchivedRun(path, predictions, labels, whole, epoch.astype(np.float64), tells)


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
    if array.ndim == 2:
        array = array[()][None]
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            f"The predictions of sample set {name!r} in {path} must have shape (checkpoint, "
            f"sample, class), not {array.shape}."
        )
    return array


def _counter(
    arrays: Mapping[str, Any], name: str, default: NDArray[Any], path: Path
) -> NDArray[Any]:
    if name not in arrays:
        return default
    values = np.asarray(arrays[name][()])
    n = len(default)
    if values.shape != (n,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InputError(
            f"`{name}` in {path} must be {n} finite numbers, one for each checkpoint, not "
            f"{values.dtype} of shape {values.shape}."
        )
    return values


def as_labels(values: Any, where: str) -> NDArray[np.int64]:
    """Class labels (sample,) as int64; refuse what is not whole numbers ≥ 0."""
    labels = np.asarray(values)
    whole = labels.dtype.kind in "iu" or (
        labels.dtype.kind == "f"
        and bool(np.isfinite(labels).all() and (labels == np.floor(labels)).all())
    )
    if labels.ndim != 1 or not whole or (labels.size and labels.min() < 0):
        raise InputError(
            f"{where} must be the class 0, 1, … of each sample, shape (sample,), not "
            f"{labels.dtype} of shape {labels.shape}."
        )
    return labels.astype(np.int64)


def open_npy(path: Path) -> Any:
    """The array of an ``.npy`` file, on disk until some of it is asked for."""
    return _load(path, path, mmap_mode="r")


def _load(path: Path, source: Any, mmap_mode: Any = None) -> Any:
    _check_magic(path)
    with reading(path):
        loaded = np.load(source, mmap_mode=mmap_mode, allow_pickle=False)
    if path.suffix == ".npz" and not hasattr(loaded, "files"):
        raise InputError(f"{path} is named .npz but holds one array; rename it to .npy.")
    return loaded


def _check_magic(path: Path) -> None:
    """Refuse what NumPy did not save: it would be taken for a pickle, which could run code."""
    with open(path, "rb") as file:
        head = file.read(6)
    if not head.startswith((b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")):
        raise InputError(
            f"{path} cannot be read as {path.suffix}: it does not begin as such a file; save it "
            f"with numpy.{'savez' if path.suffix == '.npz' else 'save'}."
        )


def open_hdf5(path: Path) -> Any:
    """An HDF5 file, open for reading; use it as a context."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Reading {path} needs h5py, which is not installed: pip install 'inpca[hdf5]'."
        ) from error
    with reading(path):
        return h5py.File(path, "r")


def _datasets(file: Any) -> dict[str, Any]:
    """Every dataset of an open HDF5 file by its path."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            found[name] = item

    file.visititems(visit)
    return found


def read_labels(path: Path) -> NDArray[np.int64]:
    if not path.is_file() or path.suffix != ".npy":
        raise InputError(f"`labels` must be a .npy file, not {path}.")
    return as_labels(_load(path, path), str(path))
