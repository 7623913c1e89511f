"""Synthetic data with labels from a random teacher: what makes manifolds low-dimensional?

First paper, "Why Are the Train and Test Manifolds Effectively Low-Dimensional?". Inputs are
Gaussian in d = 200 dimensions; their covariance has the eigenvalues b·exp(−c·i)/d, i = 0 … d − 1:
*sloppy* with c = 0.5 and b = 50c, spread evenly over 43 decades; *isotropic* with c = 0, b = 1. A
random network 200-50-5 with hyperbolic tangents and without biases labels them by its largest
output. Its weights are N(0, 1), which the paper leaves open: so its hidden units see signals of
standard deviation 0.6 (sloppy) and 1 (isotropic), where a tangent is no longer a straight line.
"""

import numpy as np
from numpy.typing import NDArray

from collectors.zoo.arrays import Sets
from collectors.zoo.suggest import nearest
from inpca.errors import InputError

N_INPUTS = 200
N_HIDDEN = 50
N_CLASSES = 5
# c and b of each spectrum
SPECTRA = {"sloppy": (0.5, 25.0), "isotropic": (0.0, 1.0)}


def teacher_data(
    spectrum: str = "sloppy", *, n_train: int = 5_000, n_test: int = 1_000, seed: int = 0
) -> Sets:
    """Training and test samples, inputs (N, 200) float32 and labels (N,) of five classes.

    Raises
    ------
    InputError
        For an unknown spectrum, or numbers of samples below 2.
    """
    if spectrum not in SPECTRA:
        raise InputError(f"`spectrum` {spectrum!r} is unknown; {nearest(spectrum, SPECTRA)}.")
    for name, number in (("n_train", n_train), ("n_test", n_test)):
        if number < 2:
            raise InputError(f"`{name}` must be at least 2, not {number}.")
    draw = np.random.default_rng([seed, 4])
    first = draw.standard_normal((N_INPUTS, N_HIDDEN))
    second = draw.standard_normal((N_HIDDEN, N_CLASSES))
    x = draw.standard_normal((n_train + n_test, N_INPUTS)) * np.sqrt(eigenvalues(spectrum))
    labels = (np.tanh(x @ first) @ second).argmax(axis=1)
    inputs = x.astype(np.float32)
    return {
        "train": (inputs[:n_train], labels[:n_train]),
        "test": (inputs[n_train:], labels[n_train:]),
    }


def eigenvalues(spectrum: str) -> NDArray[np.float64]:
    """Those of the covariance of the inputs, (200,)."""
    c, b = SPECTRA[spectrum]
    return b * np.exp(-c * np.arange(N_INPUTS)) / N_INPUTS
