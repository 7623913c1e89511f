"""Data sets as plain arrays, with a split that never changes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_TEST = 500


class Split(NamedTuple):
    """Inputs float32 (N, 8, 8) and labels int64 (N,) of one sample set."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


def digits() -> dict[str, Split]:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 pixels, 10 classes.

    Split once and for all into 1,297 training and 500 test samples with equal shares of every
    class; standardised by the mean and standard deviation of all training pixels.

    >>> {name: split.x.shape for name, split in digits().items()}
    {'train': (1297, 8, 8), 'test': (500, 8, 8)}
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=N_TEST, stratify=labels, random_state=0
    )
    mean, scale = images[train].mean(), images[train].std()
    x = ((images - mean) / scale).astype(np.float32).reshape(-1, 8, 8)
    y = labels.astype(np.int64)
    return {"train": Split(x[train], y[train]), "test": Split(x[test], y[test])}
