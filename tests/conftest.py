"""What several rooms' tests share."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy.special import log_softmax

import inpca

N_SAMPLES, N_CLASSES = 40, 3

# No property is about time: on loaded cores an example may take seconds, and so may drawing it.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def training(seed: int, n_checkpoints: int = 6, n_samples: int = N_SAMPLES) -> np.ndarray:
    """Log-probabilities of a made-up training that goes from ignorance towards the labels."""
    rng = np.random.default_rng(seed)
    truth = np.eye(N_CLASSES)[np.arange(n_samples) % N_CLASSES]
    ramp = np.linspace(0, 6, n_checkpoints)[:, None, None]
    noise = rng.normal(size=(n_checkpoints, n_samples, N_CLASSES)).cumsum(axis=0)
    return log_softmax(ramp * truth + 0.3 * noise, axis=-1).astype(np.float32)


@pytest.fixture
def small_ensemble(tmp_path: Path) -> inpca.Ensemble:
    """Four runs of six checkpoints over two sample sets, two architectures × two seeds."""
    labels = np.arange(N_SAMPLES) % N_CLASSES
    ensemble = inpca.create_ensemble(
        tmp_path / "small.ensemble",
        sample_sets={"train": labels, "test": labels[:20]},
        n_classes=N_CLASSES,
    )
    for index in range(4):
        predictions = training(index)
        ensemble.add_run(
            f"run-{index}",
            {"train": predictions, "test": predictions[:, :20]},
            kind="log_probs",
            config={"architecture": ("linear", "mlp")[index % 2], "seed": index // 2},
        )
    return inpca.open_ensemble(ensemble.path)
