"""What an embedding keeps of what it was given, when that changes afterwards."""

from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError
from inpca.embedding.subsets import embed_samples
from inpca.predictions import ArrayPredictions


def probs(m: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1, 1, 1], size=(m, 8))


class Buffer(ArrayPredictions):
    """A source whose numbers are somebody else's."""


@pytest.mark.parametrize("wrap", [lambda p: p, ArrayPredictions, Buffer])
def test_training_predictions_filled_anew__are_refused_with_the_cure(
    wrap: object, tmp_path: Path
) -> None:
    p, new = probs(20), probs(3, seed=1)
    embedding = inpca.InPCA(2).fit(wrap(p))  # type: ignore[operator]
    expected = embedding.transform(new)
    former = p.copy()
    p[...] = probs(20, seed=2)
    with pytest.raises(InputError, match=r"have changed since .* fit again, on a copy"):
        embedding.transform(new)
    with pytest.raises(InputError, match="have changed since"):
        embedding.save(tmp_path / "training.zarr", with_training=True)
    # Distances do not need them, and what is saved is what it was fitted on.
    distances = inpca.pairwise_distances(new, former)
    assert embedding.transform(distances) == pytest.approx(expected, abs=1e-9)
    embedding.save(tmp_path / "e.zarr")
    with pytest.raises(InputError, match="another fingerprint"):
        inpca.load_embedding(tmp_path / "e.zarr", training=p)
    loaded = inpca.load_embedding(tmp_path / "e.zarr", training=former)
    assert loaded.transform(new) == pytest.approx(expected, abs=1e-12)
    former[...] = p
    with pytest.raises(InputError, match="have changed since"):
        loaded.transform(new)
    p[...] = probs(20)
    assert embedding.transform(new) == pytest.approx(expected, abs=1e-12)


def test_distances_and_weights_filled_anew__change_nothing() -> None:
    d, weights = inpca.pairwise_distances(probs(20)), np.arange(20.0)
    embedding = inpca.InPCA(2, metric="precomputed").fit(d, weights=weights)
    new = d[:3].copy()
    expected = embedding.transform(new)
    d[...], weights[...] = 0, 1
    assert embedding.transform(new) == pytest.approx(expected, rel=1e-13, abs=1e-14)
    assert embedding.weights_.tolist() == list(range(20))


def test_run_recorded_anew_after_fit__is_refused(small_ensemble: inpca.Ensemble) -> None:
    old, new = small_ensemble.select("run != 'run-3'"), small_ensemble.select("run == 'run-3'")
    embedding = inpca.InPCA(2).fit(old)
    ensemble = inpca.open_ensemble(old.path)
    rng = np.random.default_rng(5)
    with ensemble.start_run("run-0", restart=True) as writer:
        for step in range(6):
            one = {"train": rng.dirichlet([1, 1, 1], 40), "test": rng.dirichlet([1, 1, 1], 20)}
            writer.append(one, "probs", step=step, epoch=step)
    with pytest.raises((InputError, inpca.DamagedStoreError)):
        embedding.transform(new)


def test_table_and_samples_changed_afterwards__are_not_the_embeddings(
    small_ensemble: inpca.Ensemble,
) -> None:
    source = small_ensemble.predictions("train")
    samples = np.arange(0, 40, 2)
    p = source.read(slice(0, 24), slice(0, 40))[:, samples]
    d = inpca.pairwise_distances(p, kind="log_probs")
    embedding = embed_samples(small_ensemble, samples, d, 2)
    samples[...] = 0
    assert embedding.samples_.tolist() == list(range(0, 40, 2))
    points = ArrayPredictions(p, "log_probs")
    points.models = small_ensemble.models
    embedding = inpca.InPCA(2).fit(points)
    points.models["seed"] = -1
    assert (embedding.models_["seed"] != -1).all()
