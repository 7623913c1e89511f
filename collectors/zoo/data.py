"""Data sets by name as plain arrays: what a sweep trains on and records."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collectors.zoo import arrays, cifar, idx, teacher
from collectors.zoo.suggest import nearest
from inpca.errors import InputError

N_TEST = 500
LABELS = ("original", "parity", "random", "parity-random")
STANDARDISE = ("channels", "pixels", "none")


class Split(NamedTuple):
    """Inputs float32 (N, …) and labels int64 (N,) of one sample set."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


class Data(NamedTuple):
    """The sample sets by name, ``train`` first, and the number of classes."""

    sets: dict[str, Split]
    n_classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.sets["train"].x.shape[1:]


@dataclass(frozen=True)
class DataSettings:
    """Everything that decides what `load_data` gives.

    Attributes
    ----------
    name : one of `DATA_SETS`
    path : the folder with the files in their published format, or the ``.npz`` file
    labels : ``"original"``, ``"parity"`` (even 0, odd 1) or ``"random"`` (those of each set
        permuted: a control in which there is nothing to generalise) or ``"parity-random"``, parity
        and then permuted
    n_train, n_test : only so many samples, drawn at random; of digits, how many are test
        samples (0: all 1,797 are for training); for ``teacher``, how many are made
    grey : average the channels of images (c, h, w), to (h, w)
    standardise : mean 0 and standard deviation 1 over the training set, for each channel, for
        each pixel, or not at all; by default for each channel of images and not of vectors
    noise : a further test set for each standard deviation of this white noise, added to the
        (standardised) inputs, named ``test_noise_0.5``
    seed : of whatever is drawn: labels, subsets, noise, synthetic inputs and their teacher
    spectrum : of ``teacher``: ``"sloppy"`` or ``"isotropic"``
    """

    name: str = "digits"
    path: str | None = None
    labels: str = "original"
    n_train: int | None = None
    n_test: int | None = None
    grey: bool = False
    standardise: str | None = None
    noise: tuple[float, ...] = ()
    seed: int = 0
    spectrum: str = "sloppy"

    def __post_init__(self) -> None:
        if self.path is not None and self.name in DATA_SETS and not DATA_SETS[self.name].files:
            raise InputError(
                f"`path` (--data {self.path}) is for data sets that are read from files, and "
                f"{self.name!r} is not; leave it out."
            )


def load_data(settings: DataSettings) -> Data:
    """The sample sets ``train``, ``test`` and ``test_noise_…``, as `settings` say.

    Kept in memory for the next call, because the trainings of one process share it: take the
    arrays as read-only. Memory: 4 bytes a pixel; CIFAR-10 takes 740 MB.

    Raises
    ------
    InputError
        For an unknown name, files that are missing, truncated or of another kind.
    """
    return _load(settings)


@lru_cache(maxsize=1)
def _load(settings: DataSettings) -> Data:
    if settings.name not in DATA_SETS:
        raise InputError(f"The data set {settings.name!r} is unknown; {_nearest(settings.name)}.")
    found = DATA_SETS[settings.name].load(settings)
    n_classes = DATA_SETS[settings.name].n_classes or _count_classes(found)
    sets = {name: Split(x, y) for name, (x, y) in found.items() if len(y)}
    if settings.grey:
        sets = {name: Split(_grey(x), y) for name, (x, y) in sets.items()}
    sets = _subsets(sets, settings)
    sets = _standardised(sets, settings.standardise)
    if settings.labels not in LABELS:
        raise InputError(f"`labels` must be one of {', '.join(LABELS)}, not {settings.labels!r}.")
    if "parity" in settings.labels:
        sets = {name: Split(x, y % 2) for name, (x, y) in sets.items()}
        n_classes = 2
    if "random" in settings.labels:
        draw = np.random.default_rng([settings.seed, 1])
        sets = {name: Split(x, draw.permutation(y)) for name, (x, y) in sets.items()}
    _check_classes(sets["train"].y, settings)
    return Data(sets | _noisy(sets, settings), n_classes)


def planned_samples(settings: DataSettings) -> dict[str, int]:
    """How many samples each set will have: by the files, or as published if they are not there."""
    kind = DATA_SETS[settings.name]
    if kind.published is None:
        return {name: len(split.y) for name, split in load_data(settings).sets.items()}
    found = None
    if settings.path is not None and kind.count is not None:
        found = kind.count(Path(settings.path))
    sizes = dict(zip(("train", "test"), found or kind.published))
    for name, wanted in (("train", settings.n_train), ("test", settings.n_test)):
        if wanted is not None:
            sizes[name] = min(sizes[name], wanted)
    return sizes | {noise_name(sigma): sizes["test"] for sigma in settings.noise}


def planned_classes(settings: DataSettings) -> int:
    """C, without reading published files."""
    if "parity" in settings.labels:
        return 2
    return DATA_SETS[settings.name].n_classes or load_data(settings).n_classes


def planned_shape(settings: DataSettings) -> tuple[int, ...]:
    """Shape of one input, without reading published files."""
    shape = DATA_SETS[settings.name].shape
    if shape is None or (settings.grey and len(shape) != 3):
        return load_data(settings).shape
    return shape[1:] if settings.grey else shape


def noise_name(sigma: float) -> str:
    """Name of the test set with noise of this standard deviation.

    >>> noise_name(0.5)
    'test_noise_0.5'
    """
    return f"test_noise_{sigma:g}"


def digits() -> dict[str, Split]:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 pixels, 10 classes.

    Split once and for all into 1,297 training and 500 test samples with equal shares of every
    class; standardised by the mean and standard deviation of all training pixels.

    >>> {name: split.x.shape for name, split in digits().items()}
    {'train': (1297, 8, 8), 'test': (500, 8, 8)}
    """
    return load_data(DataSettings("digits")).sets


# --- the options -----------------------------------------------------------------------------


def _grey(x: NDArray[np.float32]) -> NDArray[np.float32]:
    if x.ndim != 4:
        raise InputError(
            f"`grey` averages the channels of images (c, h, w), and these inputs have shape "
            f"{x.shape[1:]}; leave it out."
        )
    return x.mean(axis=1, dtype=np.float64).astype(np.float32)


def _subsets(sets: dict[str, Split], settings: DataSettings) -> dict[str, Split]:
    """Fewer samples where fewer are wanted, in the order they had."""
    if settings.name in ("digits", "teacher"):
        wanted = {"train": settings.n_train if settings.name == "digits" else None}
    else:
        wanted = {"train": settings.n_train, "test": settings.n_test}
    out = dict(sets)
    for stream, (name, number) in enumerate(wanted.items()):
        if number is None or name not in sets:
            continue
        x, y = sets[name]
        if not 2 <= number <= len(y):
            raise InputError(
                f"`n_{name}` must be between 2 and the {len(y):,} samples there are, not {number}."
            )
        draw = np.random.default_rng([settings.seed, 2, stream])
        picked = np.sort(draw.permutation(len(y))[:number])
        out[name] = Split(x[picked], y[picked])
    return out


def _standardised(sets: dict[str, Split], how: str | None) -> dict[str, Split]:
    x = sets["train"].x
    how = how or ("channels" if x.ndim > 2 else "none")
    if how not in STANDARDISE:
        raise InputError(f"`standardise` must be one of {', '.join(STANDARDISE)}, not {how!r}.")
    if how == "none":
        return sets
    # Of (N, c, h, w) all but the channel; a grey image, and a vector, is one channel.
    rest = (0, 2, 3) if x.ndim == 4 else tuple(range(x.ndim))
    axes = (0,) if how == "pixels" else rest
    mean = x.mean(axis=axes, keepdims=True, dtype=np.float64)
    scale = x.std(axis=axes, keepdims=True, dtype=np.float64)
    scale[scale == 0] = 1.0  # a pixel that is the same in every image stays 0
    return {
        name: Split(((split.x - mean) / scale).astype(np.float32), split.y)
        for name, split in sets.items()
    }


def _noisy(sets: dict[str, Split], settings: DataSettings) -> dict[str, Split]:
    if settings.noise and "test" not in sets:
        raise InputError("`noise` is added to the test set, and there is none; leave it out.")
    noisy = {}
    for stream, sigma in enumerate(settings.noise):
        if not 0 < sigma < np.inf:
            raise InputError(f"`noise` must be standard deviations above 0, not {sigma}.")
        draw = np.random.default_rng([settings.seed, 3, stream])
        x, y = sets["test"]
        shifted = x + np.float32(sigma) * draw.standard_normal(x.shape, dtype=np.float32)
        noisy[noise_name(sigma)] = Split(shifted, y)
    return noisy


def _check_classes(labels: NDArray[np.int64], settings: DataSettings) -> None:
    """Refuse a training set of one class: there is nothing to tell apart."""
    if (labels == labels[0]).all():
        raise InputError(
            f"The {len(labels):,} training samples of {settings.path or settings.name} are all "
            f"of class {labels[0]} (`labels`: {settings.labels}); a network is trained on two "
            "classes or more: check y_train, or choose other labels, or a larger `n_train`."
        )


def _count_classes(found: arrays.Sets) -> int:
    return int(max(y.max() for _, y in found.values() if len(y))) + 1


# --- the sets --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes
    ----------
    load : settings → name of each set → inputs (N, …) float32, not standardised, and labels (N,)
    n_classes : C; None where only the labels tell
    files : whether it is read from files
    published : numbers of training and test samples, where files hold the set
    shape : of one input; None where only the data tell
    count : folder → numbers of training and test samples in it; None if there is no folder
    """

    load: Callable[[DataSettings], arrays.Sets]
    n_classes: int | None
    files: bool = False
    published: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    count: Callable[[Path], tuple[int, int] | None] | None = None


def _digits(settings: DataSettings) -> arrays.Sets:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, y = images.astype(np.float32).reshape(-1, 8, 8), labels.astype(np.int64)
    n_test = N_TEST if settings.n_test is None else settings.n_test
    if n_test == 0:
        return {"train": (x, y)}
    if not 10 <= n_test <= len(y) - 10:
        raise InputError(
            f"`n_test` of digits must be 0, or between 10 and {len(y) - 10}, not {n_test}."
        )
    # The split is part of the data set: whatever `seed` says, it is the same.
    train, test = train_test_split(np.arange(len(y)), test_size=n_test, stratify=y, random_state=0)
    return {"train": (x[train], y[train]), "test": (x[test], y[test])}


def _teacher(settings: DataSettings) -> arrays.Sets:
    return teacher.teacher_data(
        settings.spectrum,
        n_train=5_000 if settings.n_train is None else settings.n_train,
        n_test=1_000 if settings.n_test is None else settings.n_test,
        seed=settings.seed,
    )


def _files(
    read: Callable[[Path], arrays.Sets], folder: str
) -> Callable[[DataSettings], arrays.Sets]:
    def load(settings: DataSettings) -> arrays.Sets:
        if settings.path is None:
            raise InputError(
                f"The data set {settings.name!r} is read from files, which nothing downloads: "
                f"give `path` (--data), {folder}."
            )
        return read(Path(settings.path))

    return load


def _cifar(read: Callable[[Path], arrays.Sets], folder: str, n_classes: int) -> DataSet:
    load = _files(read, f"the unpacked folder {folder}")
    return DataSet(load, n_classes, True, (50_000, 10_000), (3, 32, 32), cifar.count_samples)


_IDX = "the folder with train-images-idx3-ubyte, t10k-labels-idx1-ubyte, …, as published or gzipped"
_MNIST = DataSet(
    _files(idx.read_folder, _IDX), 10, True, (60_000, 10_000), (28, 28), idx.count_samples
)
DATA_SETS = {
    "digits": DataSet(_digits, 10, shape=(8, 8)),
    "teacher": DataSet(_teacher, teacher.N_CLASSES, shape=(teacher.N_INPUTS,)),
    "cifar10": _cifar(cifar.read_cifar10, "cifar-10-batches-py", 10),
    "cifar100": _cifar(cifar.read_cifar100, "cifar-100-python", 100),
    "mnist": _MNIST,
    "kmnist": _MNIST,
    "fashion-mnist": _MNIST,
    "npz": DataSet(_files(arrays.read_npz, "a .npz file with x_train and y_train"), None, True),
}


def _nearest(name: str) -> str:
    return nearest(name, DATA_SETS)
