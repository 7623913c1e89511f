"""Made-up trainings for the tests of trajectories."""

import numpy as np
from scipy.special import log_softmax

N_SAMPLES, N_CLASSES = 40, 3
LABELS = np.arange(N_SAMPLES) % N_CLASSES


def training(seed: int, n_checkpoints: int = 8, path: int = 0) -> np.ndarray:
    """Probabilities (T, N, C) of a run from ignorance towards the labels, float64.

    Runs of one `path` follow the same detour; `seed` is their noise.
    """
    truth = np.eye(N_CLASSES)[LABELS]
    detour = np.random.default_rng(1000 + path).normal(size=(N_SAMPLES, N_CLASSES))
    noise = np.random.default_rng(seed).normal(size=(N_SAMPLES, N_CLASSES))
    time = np.linspace(0, 1, n_checkpoints)[:, None, None]
    bend = np.sin(np.pi * time)
    return np.exp(log_softmax(7 * time * truth + bend * (2 * detour + 0.3 * noise), axis=-1))
