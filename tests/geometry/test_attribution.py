"""Each sample's share of each coordinate; the progress at which a sample is learnt for good."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import inpca
from inpca.errors import InputError, ResourceError
from inpca.geometry import attribution as module
from inpca.geometry.attribution import attribution
from inpca.geometry.learning import learning_progress, learning_table

M, N, C = 40, 12, 4


@pytest.fixture(params=[np.float64, np.float32], ids=["float64", "float32"])
def models(request):
    return naive.random_models(M, N, C, seed=3).astype(request.param)


def by_definition(log_p, embedding):
    """λ_nk = u_kᵀ W_n u_k / N with W_n the centred matrix of one sample's distances."""
    parts = []
    for n in range(log_p.shape[1]):
        roots = np.exp(0.5 * log_p[:, n].astype(float))
        distances = -np.log(roots @ roots.T)
        centre = np.eye(len(roots)) - 1 / len(roots)
        centred = -0.5 * centre @ distances @ centre
        u = embedding.eigenvectors_
        parts.append(np.einsum("uk,uv,vk->k", u, centred, u) / log_p.shape[1])
    return np.array(parts)


def test_parts__are_those_of_the_definition_and_sum_to_the_eigenvalues(models):
    embedding = inpca.InPCA(5, kind="log_probs").fit(models)
    found = attribution(models, embedding, kind="log_probs")
    largest = abs(embedding.eigenvalues_[0])
    assert found.parts == pytest.approx(by_definition(models, embedding), abs=1e-6 * largest)
    assert found.parts.sum(axis=0) == pytest.approx(embedding.eigenvalues_, abs=1e-6 * largest)
    assert found.shares.sum(axis=0) == pytest.approx(1, abs=1e-5)


def test_parts__do_not_depend_on_blocks_slabs_and_workers(models, monkeypatch):
    embedding = inpca.InPCA(3, kind="log_probs").fit(models)
    whole = attribution(models, embedding, kind="log_probs", executor="serial")
    monkeypatch.setattr(module, "_BLOCK", 16)
    monkeypatch.setattr(module, "_READ_BYTES", 2000)
    cut = attribution(models, embedding, kind="log_probs", executor=2, memory=20_000)
    assert cut.parts == pytest.approx(whole.parts, rel=1e-5, abs=1e-9)


def test_weighted_embedding__is_attributed_too(models):
    counts = np.random.default_rng(0).integers(0, 3, M)
    embedding = inpca.InPCA(3, kind="log_probs").fit(models, weights=counts)
    copies = np.repeat(models, counts, axis=0)
    plain = inpca.InPCA(3, kind="log_probs").fit(copies)
    found = attribution(models, embedding, kind="log_probs").parts
    assert found == pytest.approx(attribution(copies, plain, kind="log_probs").parts, abs=1e-5)


def test_sample_that_tells_nothing__has_no_part(models):
    models = models.copy()
    models[:, 5] = np.log(1 / C)
    embedding = inpca.InPCA(3, kind="log_probs").fit(models)
    found = attribution(models, embedding, kind="log_probs")
    assert found.parts[5] == pytest.approx(0, abs=1e-7)


def test_comparison__gives_the_share_beside_the_fair_one(models):
    embedding = inpca.InPCA(2, kind="log_probs").fit(models)
    found = attribution(models, embedding, kind="log_probs", n_components=2)
    table = found.compare([0, 3, 7])
    assert list(table.index) == [1, 2]
    assert (table["fair_share"] == 3 / N).all()
    assert table["share"].to_numpy() == pytest.approx(found.shares[[0, 3, 7]].sum(axis=0))
    mask = np.zeros(N, dtype=bool)
    mask[[0, 3, 7]] = True
    assert found.compare(mask).equals(table)
    assert (found.of(mask) + found.of(~mask)) == pytest.approx(1, abs=1e-5)


def test_ensemble__is_read_in_the_order_of_the_embedding(tmp_path, models):
    labels = np.arange(N) % C
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=C)
    for run in range(4):
        ensemble.add_run(f"run-{run}", {"train": models[run::4]}, kind="log_probs")
    view = inpca.open_ensemble(tmp_path / "e").with_references()
    embedding = inpca.InPCA(3).fit(view)
    assert embedding.sample_set_ == "train"
    found = attribution(inpca.open_ensemble(tmp_path / "e"), embedding)
    assert found.parts.sum(axis=0) == pytest.approx(embedding.eigenvalues_, rel=1e-5)


def test_other_predictions__are_refused(models):
    embedding = inpca.InPCA(2, kind="log_probs").fit(models)
    with pytest.raises(InputError, match="embedding is of 40"):
        attribution(models[1:], embedding, kind="log_probs")
    with pytest.raises(InputError, match="does not give the embedding's eigenvalues"):
        attribution(models[::-1], embedding, kind="log_probs")
    with pytest.raises(InputError, match="`n_components` must be 1 to 2"):
        attribution(models, embedding, kind="log_probs", n_components=3)
    with pytest.raises(ResourceError, match="one sample need"):
        attribution(models, embedding, kind="log_probs", memory=1000)
    found = attribution(models, embedding, kind="log_probs")
    for samples, why in (([], "empty|indices"), ([N], "0 … 11"), ([True], "one truth value")):
        with pytest.raises(InputError, match=why):
            found.of(samples)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_learning_progress__is_the_first_checkpoint_of_the_last_streak(right):
    clock = np.linspace(0, 1, len(right))
    found = learning_progress(right, clock)
    for sample in range(3):
        series = [row[sample] for row in right]
        streaks = [t for t in range(len(series)) if all(series[t:])]
        expected = clock[streaks[0]] if streaks else np.nan
        assert found[sample] == pytest.approx(expected, nan_ok=True)


def test_learning_progress__refuses_what_does_not_fit():
    with pytest.raises(InputError, match="one finite value for each of the 2"):
        learning_progress([[1, 0], [1, 1]], [0.5])
    with pytest.raises(InputError, match="n_checkpoints ≥ 1"):
        learning_progress(np.empty((0, 3)), [])


def test_learning_table__has_a_column_for_each_run(tmp_path):
    labels = np.arange(N) % C
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=C)
    way = inpca.geodesic(np.full((N, C), 1 / C), np.eye(C)[labels], [0.1, 0.5, 0.9])
    wrong = way.copy()
    wrong[:2, 0] = np.roll(wrong[:2, 0], 1, axis=-1)  # sample 0 is learnt at the last checkpoint
    ensemble.add_run("a", {"train": way})
    ensemble.add_run("b", {"train": wrong})
    table = learning_table(inpca.open_ensemble(tmp_path / "e").with_references())
    assert list(table.columns) == ["a", "b"]
    assert table["a"].to_numpy() == pytest.approx(0.1, abs=1e-3)
    assert table["b"][0] == pytest.approx(0.9, abs=1e-3)
