"""D, weights and coordinates in any unit: results scale, and nothing else changes."""

import naive
import numpy as np
import pytest
from numpy.typing import NDArray

import inpca
from inpca import InputError
from inpca.embedding.centring import CentredOperator
from inpca.embedding.lanczos import block_lanczos
from inpca.embedding.weighted import WeightedOperator

Array = NDArray[np.float64]
SCALES = [1e-300, 1e-200, 1e-9, 1e9, 1e200, 1e290]
SOLVERS = ["dense", "lanczos"]


def distances(m: int = 300) -> Array:
    return naive.distance(naive.random_models(m, 3, 3, seed=0, sharpness=8.0))


def fit(d: Array, k: int = 12, weights: object = None, **options: object) -> inpca.InPCA:
    options = {"tol": 1e-8, "block_size": 10, "executor": "serial", **options}
    return inpca.InPCA(k, metric="precomputed", **options).fit(d, weights=weights)


def assert_scaled(ours: inpca.InPCA, plain: inpca.InPCA, s: float) -> None:
    assert ours.eigenvalues_ / s == pytest.approx(plain.eigenvalues_, rel=1e-9)
    assert ours.signature_.tolist() == plain.signature_.tolist()
    assert ours.explained_stress_ == pytest.approx(plain.explained_stress_, rel=1e-9)
    assert ours.converged_.tolist() == plain.converged_.tolist()
    assert ours.n_passes_ == plain.n_passes_
    assert ours.missed_bound_ / s == pytest.approx(plain.missed_bound_, rel=1e-3)
    assert ours.frobenius_norm_ / s == pytest.approx(plain.frobenius_norm_, rel=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("s", SCALES)
def test_distances_in_another_unit__give_the_same_embedding_in_that_unit(
    s: float, solver: str
) -> None:
    d = distances()
    plain, ours = fit(d, solver=solver), fit(d * s, solver=solver)
    assert set(plain.signature_) == {-1, 1}
    assert_scaled(ours, plain, s)
    assert ours.row_means_ / s == pytest.approx(plain.row_means_, rel=1e-12)
    root = np.sqrt(s)
    assert ours.embedding_ / root == pytest.approx(plain.embedding_, abs=1e-6)
    assert ours.transform(d * s) / root == pytest.approx(plain.transform(d), abs=1e-6)
    assert ours.join("all", d * s) / root == pytest.approx(plain.join("all", d), abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("s", [1e-200, 1e200])
def test_weights_in_another_unit__change_only_the_size_of_eigenvalues(
    s: float, solver: str
) -> None:
    d, weights = distances(60), np.random.default_rng(1).choice([0.0, 1.0, 2.5], size=60)
    plain, ours = fit(d, 4, weights, solver=solver), fit(d, 4, weights * s, solver=solver)
    assert_scaled(ours, plain, s)
    assert ours.embedding_ == pytest.approx(plain.embedding_, abs=1e-6)
    assert ours.transform(d) == pytest.approx(plain.transform(d), abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_units_of_distances_and_weights__may_cancel_but_not_overflow(solver: str) -> None:
    d, weights = distances(60), np.random.default_rng(1).uniform(1, 2, size=60)
    plain = fit(d, 4, weights, solver=solver)
    assert_scaled(fit(d * 1e200, 4, weights * 1e-200, solver=solver), plain, 1.0)
    with pytest.raises(InputError, match=r"float64|infinite"):
        fit(d * 1e200, 4, weights * 1e200, solver=solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_model_of_hardly_any_weight__is_where_its_projection_is(solver: str) -> None:
    d = distances(40)
    some = np.where(np.arange(40) % 3 == 0, 0.0, 1.0)
    projected = fit(d, 5, some, solver=solver)
    ours = fit(d, 5, np.where(some == 0, 1e-30, some), solver=solver)
    signs = np.sign((ours.embedding_ * projected.embedding_).sum(axis=0))
    assert ours.embedding_ * signs == pytest.approx(projected.embedding_, abs=1e-6)


@pytest.mark.parametrize("s", SCALES)
def test_lanczos__converges_alike_in_any_unit(s: float) -> None:
    values = 0.7 ** np.arange(200) * np.where(np.arange(200) % 3 == 1, -1, 1)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 200)))[0]
    w = (q * values) @ q.T
    norm = float(np.linalg.norm(w))
    plain = block_lanczos(lambda v: w @ v, 200, 8, block_size=4, frobenius_norm=norm)
    ours = block_lanczos(lambda v: (w * s) @ v, 200, 8, block_size=4, frobenius_norm=norm * s)
    assert ours.n_passes == plain.n_passes > 2
    assert ours.eigenvalues / s == pytest.approx(plain.eigenvalues, rel=1e-9)
    assert (ours.residuals > 0).all()
    assert ours.nothing_missed is plain.nothing_missed is True


@pytest.mark.parametrize("s", SCALES)
def test_operators__have_exact_norms_and_means_in_any_unit(s: float) -> None:
    d, weights = distances(50), np.random.default_rng(2).uniform(0, 3, size=50)
    for plain, ours in (
        (CentredOperator(d), CentredOperator(d * s)),
        (WeightedOperator(d, weights), WeightedOperator(d * s, weights)),
    ):
        assert ours.frobenius_norm / s == pytest.approx(plain.frobenius_norm, rel=1e-12)
        assert ours.row_means / s == pytest.approx(plain.row_means, rel=1e-12)
        assert ours.dense() / s == pytest.approx(plain.dense(), abs=1e-13)
        v = np.random.default_rng(3).normal(size=(50, 2))
        assert ours.apply(v) / s == pytest.approx(plain.apply(v), abs=1e-12)


@pytest.mark.parametrize("s", SCALES)
def test_explained_pairwise_distances__are_the_same_in_any_unit(s: float) -> None:
    d, weights = distances(50), np.random.default_rng(2).uniform(0, 3, size=50)
    x = fit(d, 3)
    plain = inpca.explained_pairwise_distances(d, x.embedding_, x.signature_, weights=weights)
    units = [(d * s, x.embedding_ * np.sqrt(s), weights), (d, x.embedding_, weights * s)]
    for one, points, counts in units:
        ours = inpca.explained_pairwise_distances(one, points, x.signature_, weights=counts)
        assert ours == pytest.approx(plain, rel=1e-10)


def test_sums_beyond_float64__are_refused() -> None:
    d = distances(30) * 1e307
    with pytest.raises(InputError, match="float64"):
        inpca.explained_pairwise_distances(d, np.zeros((30, 1)), [1])


@pytest.mark.parametrize("s", [1e-200, 1e200])
def test_alignment__turns_the_same_way_in_any_unit(s: float) -> None:
    from inpca.geometry.alignment import align

    x = np.random.default_rng(0).normal(size=(20, 3))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2)))[0]
    y = np.hstack([x[:, :2] @ turn, -x[:, 2:]]) + 1e-3 * x[::-1] + 5
    plain, ours = align(x, y, [1, 1, -1]), align(x * s, y * s, [1, 1, -1])
    assert ours.rotation == pytest.approx(plain.rotation, abs=1e-12)
    assert ours.rmsd / s == pytest.approx(plain.rmsd, rel=1e-9)
    assert ours.coordinates / s == pytest.approx(plain.coordinates, abs=1e-10)


def test_negative_distances__are_refused_in_any_unit() -> None:
    d = distances(20)
    for s in (1e-200, 1.0, 1e200):
        with pytest.raises(InputError, match="Negative values"):
            fit(-d * s, 2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("ratio", [3e15, 1e18, 1e100, 1e300])
def test_model_that_outweighs_all_others__becomes_the_centre(ratio: float, solver: str) -> None:
    for seed in range(20):
        models = np.random.default_rng(seed).dirichlet(np.ones(3), size=(6, 20))
        d = inpca.pairwise_distances(models)
        ours = fit(d, 3, [1, 1, ratio, 1, 1, 1], solver=solver)
        # What is left of √w W₀ √w: the products of the others, seen from the heaviest.
        others = np.delete(np.arange(6), 2)
        seen = -0.5 * (d[np.ix_(others, others)] - d[others, 2][:, None] - d[others, 2])
        values = np.linalg.eigvalsh(seen)[::-1]
        assert ours.eigenvalues_ == pytest.approx(values[:3], rel=1e-12)
        assert ours.frobenius_norm_ == pytest.approx(np.linalg.norm(seen), rel=1e-12)
        assert ours.embedding_[2] == pytest.approx(np.zeros(3), abs=1e-12)
        assert ours.transform(d) == pytest.approx(ours.embedding_, abs=1e-12)


def test_weights_further_apart_than_float64_reaches__are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"`weights` must not differ .* model 1 is 1e\+308"):
        fit(distances(6), 3, [1e-10, 1e308, 1e-10, 1e-20, 1e-10, 1e-10])


@pytest.mark.parametrize("solver", SOLVERS)
def test_results_that_float64_has_too_few_digits_for__are_refused(solver: str) -> None:
    d = distances(20)
    for scale, weight in [(1e-320, 1.0), (1.0, 1e-320), (1.0, 5e-324), (1e-200, 1e-200)]:
        with pytest.raises(InputError, match=r"2\.2e-308, where float64 loses digits"):
            fit(d * scale, 3, np.full(20, weight), solver=solver)
    with pytest.raises(InputError, match=r"2\.2e-308, where float64 loses digits"):
        fit(d * 1e-320, 3, solver=solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_distances_at_the_end_of_float64__give_the_same_embedding(solver: str) -> None:
    d = distances(200)
    d /= d.max()
    plain, ours = fit(d, 3, solver=solver), fit(d * 1e307, 3, solver=solver)
    assert_scaled(ours, plain, 1e307)
    root = np.sqrt(1e307)
    assert ours.transform(d * 1e307) / root == pytest.approx(plain.transform(d), abs=1e-6)
    with pytest.raises(InputError, match="exceed the range of float64"):
        fit(d * 1.7e308, 3, solver=solver)
