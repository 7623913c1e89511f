"""Predictions to try, and their distances in float64: slow, obvious, from the definition."""

from __future__ import annotations

import numpy as np

FLOOR = 2.0**-62


def predictions(
    n_models: int, n_samples: int, n_classes: int, *, sharpness: float = 2.0, seed: int = 0
) -> np.ndarray:
    """(m, N, C) float32 log-probabilities of a softmax of normal logits."""
    shape = (n_models, n_samples, n_classes)
    logits = sharpness * np.random.default_rng(seed).standard_normal(shape)
    return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float32)


def one_hot(n_models: int, n_samples: int, n_classes: int, *, seed: int = 0) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(n_classes, size=(n_models, n_samples, 1))
    return np.where(labels == np.arange(n_classes), 0.0, -np.inf).astype(np.float32)


def roots(log_prob: np.ndarray) -> tuple[np.ndarray, int]:
    """Floored, normalised √p, and how many of them the floor raised."""
    half = np.exp(log_prob.astype(float) / 2)
    half /= np.sqrt((half**2).sum(-1, keepdims=True))
    return np.maximum(half, FLOOR), int((half < FLOOR).sum())


def affinities(log_prob: np.ndarray) -> np.ndarray:
    root, _ = roots(log_prob)
    return np.einsum("unc,vnc->uvn", root, root)


def distances(log_prob: np.ndarray) -> np.ndarray:
    raw = -np.log(affinities(log_prob)).mean(-1)
    return raw - (np.diag(raw)[:, None] + np.diag(raw)) / 2


def agrees(got: np.ndarray, expected: np.ndarray) -> bool:
    """To 3e-7 nats, and where distances are larger than 1, to as much of them; a NaN does not."""
    return bool(np.all(np.abs(got - expected) <= 3e-7 * np.maximum(1, expected)))


def lost_pairs_bounds(log_prob: np.ndarray, tile_size: int) -> tuple[int, int]:
    """How many pairs of the upper tiles the tensor kernel must give up, and how many it may.

    It must where one affinity is below half of 2⁻²⁴, and may where the product of a group of
    eight samples is below 2⁻²⁴ (its threads look at the products of all their pairs together).
    """
    affinity = affinities(log_prob)
    tile = np.arange(len(affinity)) // tile_size
    stored = tile[:, None] <= tile
    must = (affinity < 0.99 * 2.0**-25).any(-1)
    groups = np.add.reduceat(np.log2(affinity), range(0, affinity.shape[-1], 8), axis=-1)
    may = (groups < -23.99).any(-1)
    return int((must & stored).sum()), int((may & stored).sum())
