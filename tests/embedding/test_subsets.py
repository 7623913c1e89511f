"""Embeddings from few samples: the source of some samples, and Eq. 12 of all of D (Fig. 6B)."""

from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inpca
from inpca import InputError, ResourceError
from inpca.embedding.subsets import SampleSubset, draw_samples, explained_by_samples
from inpca.predictions import ArrayPredictions, Floats

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"


class Chunked(ArrayPredictions):
    """An array that remembers what was read of it, and says that samples lie in chunks."""

    def __init__(self, array: Floats, chunk_samples: int) -> None:
        super().__init__(array, "log_probs")
        self.chunk_samples = chunk_samples
        self.seen: list[tuple[slice, slice]] = []

    def read(self, models: slice, samples: slice) -> Floats:
        if hasattr(self, "seen"):
            self.seen.append((models, samples))
        return super().read(models, samples)


@given(
    n=st.integers(1, 30),
    chunk=st.integers(1, 40),
    seed=st.integers(0, 20),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_subset__reads_the_wanted_samples(
    n: int, chunk: int, seed: int, data: st.DataObject
) -> None:
    log_p = naive.random_models(4, 30, 3, seed=seed)
    source = Chunked(log_p, chunk)
    positions = draw_samples(30, n, seed)
    subset = SampleSubset(source, positions)
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    source.seen.clear()
    block = subset.read(slice(1, 4), slice(start, stop))
    assert subset.shape == (4, n, 3)
    assert block == pytest.approx(log_p[1:4][:, positions[start:stop]], abs=1e-12)
    # Each chunk is read once.
    assert len(source.seen) == len(np.unique(positions[start:stop] // chunk))


def test_subset__reads_few_models_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inpca.embedding.subsets._READ_BYTES", 2 * 30 * 3 * 8)
    source = Chunked(naive.random_models(5, 30, 3), 30)
    subset = SampleSubset(source, [0, 29])
    source.seen.clear()
    subset.read(slice(0, 5), slice(0, 2))
    assert [models for models, _ in source.seen] == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_subset__has_the_distances_of_its_samples_on_disk_too(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    source = small_ensemble.predictions("train")
    positions = [1, 2, 17, 39]
    subset = SampleSubset(source, positions)
    array = source.read(slice(0, 24), slice(0, 40))[:, positions]
    expected = inpca.pairwise_distances(array, kind="log_probs")
    assert inpca.pairwise_distances(subset) == pytest.approx(expected, abs=1e-6)
    stored = inpca.pairwise_distances(subset, out=tmp_path / "d.zarr")
    assert stored.to_array() == pytest.approx(expected, abs=1e-6)
    other = SampleSubset(source, [1, 2, 17, 38])
    assert other.fingerprint() != subset.fingerprint()
    with pytest.raises(InputError):
        inpca.pairwise_distances(other, out=tmp_path / "d.zarr")


@pytest.mark.parametrize(
    "positions", [[], [3, 3], [4, 2], [-1, 2], [0, 30], [0.5, 1.0], [[1, 2]]], ids=str
)
def test_positions_that_are_no_samples__are_refused(positions: list[object]) -> None:
    source = Chunked(naive.random_models(2, 30, 3), 1)
    with pytest.raises(InputError, match="`positions` must be increasing integers in 0 … 29"):
        SampleSubset(source, positions)


def test_all_samples__explain_what_the_embedding_itself_does() -> None:
    with np.load(GOLDEN) as file:
        p, d = file["predictions"], file["distance"]
    table = explained_by_samples(p, d, [48], n_components=5, executor="serial")
    embedding = inpca.InPCA(5, metric="precomputed").fit(d)
    expected = inpca.explained_pairwise_distances(d, embedding.embedding_, embedding.signature_)
    assert table["explained"].to_numpy() == pytest.approx(expected, abs=1e-9)
    assert table.columns.tolist() == ["n_samples", "repeat", "d", "explained"]


def test_each_draw__depends_on_seed_number_and_repeat_alone() -> None:
    with np.load(GOLDEN) as file:
        p, d = file["predictions"], file["distance"]
    options = {"n_components": 3, "executor": "serial"}
    both = explained_by_samples(p, d, [5, 20], repeats=2, **options)
    assert both[["n_samples", "repeat", "d"]].to_numpy().tolist() == [
        [n, repeat, k] for n in (5, 20) for repeat in (0, 1) for k in (1, 2, 3)
    ]
    alone = explained_by_samples(p, d, [20], repeats=1, **options)
    chosen = both[(both["n_samples"] == 20) & (both["repeat"] == 0)]
    assert chosen["explained"].to_numpy() == pytest.approx(alone["explained"].to_numpy(), rel=1e-9)
    other = explained_by_samples(p, d, [20], random_state=1, **options)
    assert (other["explained"] != alone["explained"]).all()


def test_ensemble_with_distances_on_disk__keeps_those_of_each_draw(
    small_ensemble: inpca.Ensemble, tmp_path: Path
) -> None:
    d = inpca.pairwise_distances(small_ensemble, out=tmp_path / "d.zarr", tile_size=10)
    options = {"n_components": 2, "executor": "serial", "out": tmp_path / "draws"}
    table = explained_by_samples(small_ensemble, d, [10, 40], **options)
    embedding = inpca.InPCA(2).fit(d)
    expected = inpca.explained_pairwise_distances(d, embedding.embedding_, embedding.signature_)
    assert table["explained"].to_numpy()[2:] == pytest.approx(expected, abs=1e-5)
    stored = sorted(path.name for path in (tmp_path / "draws").glob("*.zarr"))
    assert stored == ["10-samples-0-0.zarr", "40-samples-0-0.zarr"]
    again = explained_by_samples(small_ensemble, d, [10, 40], **options)
    assert again.equals(table)


# --- bad input -------------------------------------------------------------------------------


def test_bad_arguments__are_refused(small_ensemble: inpca.Ensemble, tmp_path: Path) -> None:
    p = np.exp(naive.random_models(6, 10, 3))
    d = inpca.pairwise_distances(p)
    for bad in (0, 11, 2.5, True):
        with pytest.raises(InputError, match=r"`n_samples` must be whole numbers in 1 … 10"):
            explained_by_samples(p, d, [bad], n_components=2)
    with pytest.raises(InputError, match="`n_samples` is empty"):
        explained_by_samples(p, d, [], n_components=2)
    with pytest.raises(InputError, match="`repeats` must be"):
        explained_by_samples(p, d, [2], repeats=0, n_components=2)
    with pytest.raises(InputError, match=r"between the 6 models of `X`, in their order, not.* 5"):
        explained_by_samples(p, d[1:, 1:], [2], n_components=2)
    with pytest.raises(ResourceError, match="288 B but `memory` is 100 B; name a folder"):
        explained_by_samples(p, d, [2], n_components=2, memory=100)
    matrix = inpca.pairwise_distances(small_ensemble, out=tmp_path / "d.zarr")
    turned = small_ensemble.select(list(small_ensemble.models.index[::-1]))
    with pytest.raises(InputError, match=r"take these: X\.select"):
        explained_by_samples(turned, matrix, [2], n_components=2)
