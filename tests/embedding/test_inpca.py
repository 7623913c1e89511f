"""The estimator against the paper's own code, the identities of the embedding, and bad input."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

import inpca
from inpca import InputError, ResourceError
from inpca.embedding.pairs import order_by_magnitude
from inpca.embedding.solve import ClusterWarning

Array = NDArray[np.float64]
GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"
SOLVERS = ["dense", "lanczos"]


@pytest.fixture(scope="module")
def golden() -> dict[str, Array]:
    """Inputs and outputs of the published code (see tests/golden/README.md)."""
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file}


def random_predictions(m: int, n: int, c: int, seed: int = 0, sharp: float = 2.0) -> Array:
    logits = sharp * np.random.default_rng(seed).normal(size=(m, n, c))
    p = np.exp(logits)
    return p / p.sum(axis=-1, keepdims=True)


def bhattacharyya(p: Array, q: Array) -> Array:
    """Eq. 2, slowly."""
    affinity = np.einsum("unc,vnc->uvn", np.sqrt(p), np.sqrt(q))
    d = -np.log(affinity).mean(axis=-1)
    return d if p is not q else d * (1 - np.eye(len(d)))


def column_signs(ours: Array, theirs: Array) -> Array:
    return np.sign((ours * theirs).sum(axis=0))


def embed(d: Array, k: int, **options: object) -> inpca.InPCA:
    return inpca.InPCA(n_components=k, metric="precomputed", executor="serial", **options).fit(d)


# --- the published code ----------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_precomputed_embedding__is_that_of_the_published_code(
    golden: dict[str, Array], solver: str
) -> None:
    embedding = embed(golden["distance"], 6, solver=solver)
    theirs = golden["eigenvalues"]
    assert embedding.eigenvalues_ == pytest.approx(theirs[:6], abs=1e-6 * abs(theirs[0]))
    signs = column_signs(embedding.embedding_, golden["coordinates_top6"])
    assert embedding.embedding_ * signs == pytest.approx(golden["coordinates_top6"], abs=1e-5)
    new = embedding.transform(golden["new_distance"]) * signs
    assert new == pytest.approx(golden["new_coordinates_top6"], abs=1e-5)
    assert embedding.row_means_ == pytest.approx(golden["distance_mean"], abs=1e-12)
    assert embedding.frobenius_norm_ == pytest.approx(np.linalg.norm(theirs), rel=1e-9)


def test_all_eigenvalues__are_those_of_the_published_code(golden: dict[str, Array]) -> None:
    embedding = embed(golden["distance"], 59)
    theirs = golden["eigenvalues"]
    assert embedding.eigenvalues_ == pytest.approx(theirs[:59], abs=1e-6 * abs(theirs[0]))
    assert (np.diff(np.abs(embedding.eigenvalues_)) <= 0).all()


@pytest.mark.parametrize("kind", ["probs", "log_probs", "sqrt_probs", "logits"])
def test_embedding_of_predictions__is_that_of_the_published_code(
    golden: dict[str, Array], kind: str
) -> None:
    convert = {
        "probs": lambda p: p,
        "log_probs": np.log,
        "sqrt_probs": np.sqrt,
        "logits": lambda p: np.log(p) + 3.0,
    }[kind]
    embedding = inpca.InPCA(n_components=6, kind=kind).fit(convert(golden["predictions"]))
    signs = column_signs(embedding.embedding_, golden["coordinates_top6"])
    assert embedding.embedding_ * signs == pytest.approx(golden["coordinates_top6"], abs=1e-5)
    new = embedding.transform(convert(golden["new_predictions"])) * signs
    assert new == pytest.approx(golden["new_coordinates_top6"], abs=1e-5)
    own = embedding.transform(convert(golden["predictions"]))
    assert own == pytest.approx(embedding.embedding_, abs=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_embedding_of_predictions__is_isometric_at_full_rank(n_classes: int, dtype: type) -> None:
    p = random_predictions(9, 12, n_classes).astype(dtype)
    embedding = inpca.InPCA(n_components=8).fit(p)
    exact = bhattacharyya(p.astype(float), p.astype(float))
    assert intervals(embedding) == pytest.approx(exact, abs=1e-6)


# --- identities ------------------------------------------------------------------------------


def intervals(embedding: inpca.InPCA) -> Array:
    """Σ signature (X_u − X_v)²."""
    x = embedding.embedding_
    return ((x[:, None] - x[None]) ** 2) @ embedding.signature_


@given(m=st.integers(3, 40), seed=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_embedding__is_isometric_at_full_rank(m: int, seed: int) -> None:
    d = bhattacharyya(*[random_predictions(m, 4, 3, seed)] * 2)
    embedding = embed(d, m - 1)
    assert intervals(embedding) == pytest.approx(d, abs=1e-11)
    assert embedding.explained_stress_[-1] == pytest.approx(1, abs=1e-12)
    assert (np.diff(embedding.explained_stress_) >= 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_projection_of_a_training_model__is_its_own_coordinates(solver: str) -> None:
    # Sharp predictions of few samples: a good part of the spectrum is time-like.
    d = bhattacharyya(*[random_predictions(300, 3, 3, sharp=6.0)] * 2)
    embedding = embed(d, 12, solver=solver)
    assert set(embedding.signature_) == {-1, 1}
    scale = np.abs(embedding.embedding_).max(axis=0)
    assert np.abs(embedding.transform(d) - embedding.embedding_).max(axis=0) == pytest.approx(
        0, abs=1e-6 * scale.min()
    )


def test_jeffreys_divergence_of_coins__has_one_space_like_and_one_time_like_direction() -> None:
    p = np.random.default_rng(0).uniform(0.01, 0.99, size=40)
    logit = np.log(p / (1 - p))
    d = np.subtract.outer(p, p) * np.subtract.outer(logit, logit)
    embedding = embed(d, 39)
    values = embedding.eigenvalues_
    assert values[0] > 0 > values[1]
    assert np.abs(values[2:]).max() < 1e-13 * values[0]
    assert intervals(embedding) == pytest.approx(d, abs=1e-12)


@given(seed=st.integers(0, 10))
@settings(max_examples=10, deadline=None)
def test_duplicated_models__are_integer_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = bhattacharyya(*[random_predictions(12, 5, 3, seed)] * 2)
    weights = rng.integers(1, 4, size=12)
    copies = np.repeat(np.arange(12), weights)
    embedding = embed(d[np.ix_(copies, copies)], 5)
    # Weighted InPCA: eigenvalues of √w W₀ √w, W₀ centred by the weighted means.
    share = weights / weights.sum()
    centring = np.eye(12) - share
    w0 = -0.5 * centring @ d @ centring.T
    values = np.linalg.eigvalsh(np.sqrt(weights)[:, None] * w0 * np.sqrt(weights))
    expected = values[order_by_magnitude(values)][:5]
    assert embedding.eigenvalues_ == pytest.approx(expected, abs=1e-12)
    # Copies share their coordinates, which in an embedding of low rank is not a matter of luck.
    first = np.searchsorted(copies, copies)
    assert embedding.embedding_ == pytest.approx(embedding.embedding_[first], abs=1e-9)


def test_repeating_every_sample__changes_nothing() -> None:
    p = random_predictions(20, 6, 4)
    once = inpca.InPCA(n_components=3).fit(p)
    thrice = inpca.InPCA(n_components=3).fit(np.repeat(p, 3, axis=1))
    assert thrice.embedding_ == pytest.approx(once.embedding_, abs=1e-7)


def test_identical_models__embed_in_a_point() -> None:
    p = np.repeat(random_predictions(1, 6, 4), 5, axis=0)
    embedding = inpca.InPCA(n_components=2).fit(p)
    assert (embedding.embedding_ == 0).all()
    assert (embedding.eigenvalues_ == 0).all()
    assert (embedding.signature_ == 1).all()
    assert (embedding.explained_stress_ == 1).all()
    assert (embedding.transform(random_predictions(2, 6, 4, seed=1)) == 0).all()


@pytest.mark.parametrize("sharp", [1e-4, 1.0, 60.0])
def test_near_copies_in_float32__embed_although_rounding_makes_distances_negative(
    sharp: float,
) -> None:
    # From models that differ by 1e-4 to saturated ones with log-probabilities near −200.
    p = random_predictions(1, 20, 4, sharp=sharp)[0]
    noise = 1e-4 * np.random.default_rng(1).normal(size=(30, 20, 4))
    logits = np.maximum(np.log(p), -200) + noise
    d = inpca.pairwise_distances(logits.astype(np.float32), kind="logits")
    embedding = embed(d, 29)
    assert intervals(embedding) == pytest.approx(d, abs=1e-12)


def test_zero_eigenvalues__give_coordinates_of_zero_without_division() -> None:
    x = np.array([0.0, 1.0, 3.0, 7.0])
    d = np.subtract.outer(x, x) ** 2
    embedding = embed(d, 3)
    assert (embedding.eigenvalues_[1:] == 0).all()
    assert (embedding.transform(d)[:, 1:] == 0).all()
    assert embedding.transform(d)[:, 0] == pytest.approx(x - x.mean())


def test_sign_convention__makes_the_largest_entry_positive() -> None:
    d = bhattacharyya(*[random_predictions(30, 4, 3)] * 2)
    vectors = embed(d, 5).eigenvectors_
    assert (np.abs(vectors).max(axis=0) == vectors.max(axis=0)).all()


def test_solvers__agree_on_everything() -> None:
    d = bhattacharyya(*[random_predictions(400, 3, 3, sharp=5.0)] * 2)
    dense, lanczos = (embed(d, 8, solver=solver, tol=1e-9) for solver in SOLVERS)
    assert (dense.solver_, lanczos.solver_) == ("dense", "lanczos")
    assert lanczos.eigenvalues_ == pytest.approx(dense.eigenvalues_, abs=1e-12)
    assert lanczos.embedding_ == pytest.approx(dense.embedding_, abs=1e-7)
    assert lanczos.explained_stress_ == pytest.approx(dense.explained_stress_, abs=1e-12)
    assert (lanczos.row_means_ == dense.row_means_).all()
    assert lanczos.n_passes_ > 0
    assert lanczos.residuals_.max() <= 1e-9 * abs(lanczos.eigenvalues_[0])


def test_auto_solver__is_dense_for_few_models_and_lanczos_for_little_memory() -> None:
    d = bhattacharyya(*[random_predictions(500, 3, 3)] * 2)
    assert embed(d, 2).solver_ == "dense"
    small = embed(d, 2, memory="7.5MB", block_size=8)
    assert small.solver_ == "lanczos"


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, 12, 13, 2.5, True, "3"])
def test_bad_n_components__is_refused(k: object) -> None:
    d = bhattacharyya(*[random_predictions(12, 4, 3)] * 2)
    with pytest.raises(InputError, match=r"`n_components` must be an integer in 1 … 11 for 12"):
        embed(d, k)  # type: ignore[arg-type]


def test_one_model__is_refused() -> None:
    with pytest.raises(InputError, match="needs at least 2"):
        embed(np.zeros((1, 1)), 1)
    with pytest.raises(InputError, match="needs at least 2"):
        inpca.InPCA(n_components=1).fit(random_predictions(1, 4, 3))


def test_matrix_without_saying_precomputed__is_refused_with_the_cure() -> None:
    with pytest.raises(InputError, match="use metric='precomputed'"):
        inpca.InPCA().fit(np.zeros((5, 5)))


def test_predictions_where_distances_are_expected__are_refused_with_the_cure() -> None:
    with pytest.raises(InputError, match="takes a distance matrix"):
        inpca.InPCA(metric="precomputed").fit(random_predictions(5, 4, 3))


def test_bad_solver__is_refused() -> None:
    d = bhattacharyya(*[random_predictions(12, 4, 3)] * 2)
    with pytest.raises(InputError, match="`solver` must be one of auto, dense, lanczos, not 'qr'"):
        embed(d, 2, solver="qr")


def test_cluster__is_refused_before_the_distances_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("inpca.embedding.inputs.pairwise_distances", None)
    with pytest.raises(InputError, match="`executor` must not be a cluster here"):
        inpca.InPCA(executor="tcp://localhost:8786").fit(random_predictions(12, 4, 3))


def test_new_models_on_other_samples__are_refused() -> None:
    embedding = inpca.InPCA(n_components=2).fit(random_predictions(6, 4, 3))
    with pytest.raises(InputError, match="5 samples and 3 classes but the embedding"):
        embedding.transform(random_predictions(2, 5, 3))


def test_new_predictions_for_a_bare_distance_matrix__are_refused_with_the_cure() -> None:
    d = bhattacharyya(*[random_predictions(6, 4, 3)] * 2)
    with pytest.raises(InputError, match=r"pass the distances .* \(new models, 6\)"):
        embed(d, 2).transform(random_predictions(2, 4, 3))


def test_distances_to_the_wrong_number_of_models__are_refused() -> None:
    embedding = inpca.InPCA(n_components=2).fit(random_predictions(6, 4, 3))
    with pytest.raises(InputError, match=r"shape \(new models, 6 training models\), not \(2, 5\)"):
        embedding.transform(np.zeros((2, 5)))
    with pytest.raises(InputError, match="NaN or infinite distances"):
        embedding.transform(np.full((2, 6), np.nan))


def test_distances_beyond_memory__are_refused_with_both_numbers() -> None:
    with pytest.raises(ResourceError, match=r"need 80.0 kB but `memory` is 50.0 kB; name a place"):
        inpca.InPCA(memory=50_000).fit(random_predictions(100, 2, 2))


@pytest.mark.parametrize(
    ("solver", "cure"), [("dense", "use solver='lanczos'"), ("lanczos", "raise `memory`")]
)
def test_solver_beyond_memory__is_refused_with_both_numbers(solver: str, cure: str) -> None:
    d = bhattacharyya(*[random_predictions(100, 4, 3)] * 2)
    with pytest.raises(ResourceError, match=rf"but `memory` is 50.0 kB; .*{cure}"):
        embed(d, 2, solver=solver, memory=50_000)


@pytest.mark.parametrize("solver", ["dense", "lanczos"])
@pytest.mark.parametrize(
    ("name", "value"), [("tol", -1.0), ("tol", np.nan), ("block_size", 0), ("max_passes", 0)]
)
def test_effort__that_is_none_is_refused_by_either_solver(
    solver: str, name: str, value: float
) -> None:
    d = np.ones((5, 5)) - np.eye(5)
    with pytest.raises(InputError, match=f"`{name}` must be"):
        embed(d, 2, solver=solver, **{name: value})


def test_residual_above_tol__is_never_silent() -> None:
    d = bhattacharyya(*[random_predictions(300, 3, 3)] * 2)
    with pytest.warns(ConvergenceWarning, match=r"pairs have not converged .* 2 passes: \d+ \(‖r‖"):
        embedding = embed(d, 4, solver="lanczos", block_size=4, max_passes=2)
    assert not embedding.converged_.all()


def test_unresolved_cluster__is_never_silent() -> None:
    # All models equally far from each other: every eigenvalue is the same.
    d = 1 - np.eye(50)
    with pytest.warns(ClusterWarning, match="closer than 10 residuals"):
        embedding = embed(d, 3, solver="lanczos")
    assert {index for pair in embedding.clusters_ for index in pair} == {0, 1, 2}
    assert embedding.eigenvalues_ == pytest.approx(0.5)


def test_progress__is_reported() -> None:
    seen: list[tuple[float, float, str]] = []
    d = bhattacharyya(*[random_predictions(300, 3, 3)] * 2)
    embedding = embed(
        d, 2, solver="lanczos", block_size=8, progress=lambda *report: seen.append(report)
    )
    assert seen[0] == (0, 6, "pass 1")
    assert any(re.match(r"pass 3: \d/2 converged, worst residual", text) for _, _, text in seen)
    done, total, text = seen[-1]
    assert done == total == embedding.n_passes_
    assert text.startswith("2 of 2 pairs converged")
    assert (np.diff([done for done, _, _ in seen]) >= 0).all()


def test_progress_of_the_dense_solver__ends_with_what_was_done() -> None:
    seen: list[tuple[float, float, str]] = []
    d = bhattacharyya(*[random_predictions(30, 3, 3)] * 2)
    embed(d, 2, solver="dense", progress=lambda *report: seen.append(report))
    assert list(dict.fromkeys(text for _, _, text in seen)) == [
        "row means",
        "centring",
        "eigenvalues",
        "2 pairs of a dense matrix",
    ]
    assert seen[-1][0] == seen[-1][1]
    assert (np.diff([done / total for done, total, _ in seen]) >= 0).all()


def test_checkpoint__lets_a_second_fit_go_on_and_is_emptied_by_save(tmp_path: Path) -> None:
    d = bhattacharyya(*[random_predictions(300, 3, 3)] * 2)
    folder = tmp_path / "solve"
    embedding = embed(d, 3, solver="lanczos", checkpoint=folder)
    assert len(list(folder.glob("pass-*.npz"))) == embedding.n_passes_
    again = embed(d, 3, solver="lanczos", checkpoint=folder)
    assert again.embedding_.tobytes() == embedding.embedding_.tobytes()
    with pytest.raises(InputError, match="belongs to another solve"):
        embed(2 * d, 3, solver="lanczos", checkpoint=folder)
    again.save(tmp_path / "e.zarr")
    assert not folder.exists()
