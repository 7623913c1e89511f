"""Averages in prediction space: formulas, minima, weights, streaming, hostile models."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import lambertw

import inpca
from inpca import InputError, ResourceError
from inpca.geometry.centroids import _iterate, jeffreys_centroid
from inpca.predictions import ArrayPredictions

HOWS = ["arithmetic", "geometric", "harmonic", "sqrt", "bhattacharyya", "jeffreys"]
MEANS, CENTROIDS = HOWS[:4], HOWS[4:]


def average(log_p, how, **options):
    return inpca.average(log_p, how, kind="log_probs", **options)


@pytest.mark.parametrize("how", MEANS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_means__are_the_naive_formulas(how, dtype):
    log_p = naive.random_models(37, 11, 4, sharpness=3).astype(dtype)
    weights = np.random.default_rng(0).uniform(0.1, 2, 37)
    q = np.exp(average(log_p, how, weights=weights))
    expected = naive.mean_of(log_p, how, weights)
    np.testing.assert_allclose(q, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@given(seed=st.integers(0, 999), sharpness=st.floats(0.2, 20), n_models=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("how", CENTROIDS)
def test_no_model_nearby__is_nearer_than_the_centroid(how, seed, sharpness, n_models):
    log_p = naive.random_models(n_models, 5, 4, seed=seed, sharpness=sharpness)
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1, n_models)
    log_q = average(log_p, how, weights=weights, executor="serial")
    least = naive.centroid_objective(log_p, how, weights, log_q)
    for size in (1e-3, 1e-1, 1.0):
        other = log_q + size * rng.normal(size=log_q.shape)
        other -= np.log(np.exp(other).sum(axis=-1, keepdims=True))
        there = naive.centroid_objective(log_p, how, weights, other)
        assert (there >= least - 1e-12 * (1 + np.abs(least))).all()


def test_the_bhattacharyya_centroid__is_the_fixed_point_it_is_said_to_be():
    log_p = naive.random_models(9, 7, 5, sharpness=8)
    y = np.exp(average(log_p, "bhattacharyya") / 2)
    x = np.exp(log_p / 2)
    affinity = np.einsum("unc,nc->un", x, y)
    np.testing.assert_allclose((x / affinity[..., None]).mean(axis=0), y, rtol=1e-11)


def test_the_jeffreys_centroid__is_lamberts_closed_form():
    a, g = np.exp(naive.random_models(2, 6, 4))
    q = np.exp(jeffreys_centroid(np.log(a), np.log(g)))
    # For some λ in each sample q = a / W(e^{1 + λ} a / g): found from one class, it fits all.
    u = a / q
    one_plus = (u + np.log(u) - np.log(a / g))[:, :1]
    np.testing.assert_allclose(a / lambertw(np.exp(one_plus) * a / g).real, q, rtol=1e-11)
    np.testing.assert_allclose(q.sum(axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("how", HOWS)
def test_average__of_identical_models_is_that_model(how):
    p = naive.random_models(1, 8, 3, sharpness=5)
    np.testing.assert_allclose(average(np.repeat(p, 20, axis=0), how), p[0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("how", HOWS)
def test_whole_weights__are_repeated_models(how):
    log_p = naive.random_models(3, 6, 4)
    repeated = average(np.repeat(log_p, [1, 3, 2], axis=0), how)
    np.testing.assert_allclose(average(log_p, how, weights=[1, 3, 2]), repeated, rtol=1e-10)


@pytest.mark.parametrize("how", HOWS)
def test_a_model_of_weight_zero__has_no_influence_even_if_it_says_never(how):
    log_p = naive.random_models(40, 6, 4)
    log_p[5] = naive.truth(np.arange(6) % 4, 4)[0]
    weights = np.ones(40)
    weights[[5, *range(16, 32)]] = 0
    expected = average(log_p[weights > 0], how)
    np.testing.assert_allclose(average(log_p, how, weights=weights), expected, rtol=1e-10)


def test_blocks_of_models_without_weight__are_not_read():
    log_p = naive.random_models(64, 3, 4)
    read = []

    class Watching(ArrayPredictions):
        def read(self, models, samples):
            read.append((models.start, models.stop))
            return super().read(models, samples)

    source = Watching(log_p, "log_probs")
    read.clear()
    inpca.average(source, weights=np.arange(64) == 40, executor="serial")
    assert read == [(32, 48)]


@pytest.mark.parametrize("how", HOWS)
def test_average__of_two_points_of_a_geodesic_is_symmetric_in_them(how):
    log_p = naive.random_models(2, 6, 4)
    np.testing.assert_allclose(average(log_p[::-1], how), average(log_p, how), rtol=1e-11)


def test_sqrt_and_bhattacharyya_of_two_models__are_halfway_on_their_geodesic():
    p, q = naive.random_models(2, 6, 4)
    halfway = inpca.geodesic(p, q, 0.5, kind="log_probs")
    for how in ("sqrt", "bhattacharyya"):
        np.testing.assert_allclose(average(np.stack([p, q]), how), halfway, rtol=1e-10)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("memory", ["50kB", "1GB"])
@pytest.mark.parametrize("executor", ["serial", 3])
def test_average__has_the_same_bytes_for_any_memory_and_threads(how, memory, executor):
    log_p = naive.random_models(21, 50, 3).astype(np.float32)
    reference = average(log_p, how, executor="serial")
    np.testing.assert_array_equal(average(log_p, how, memory=memory, executor=executor), reference)


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_average__gives_the_kind_it_takes(kind):
    log_p = naive.random_models(4, 5, 3)
    convert = {"probs": np.exp, "sqrt_probs": lambda x: np.exp(x / 2)}.get(kind, lambda x: x)
    q = inpca.average(convert(log_p), "sqrt", kind=kind)
    np.testing.assert_allclose(q, convert(average(log_p, "sqrt")), rtol=1e-10)


def test_average__of_an_ensemble_is_that_of_its_predictions(small_ensemble):
    some = small_ensemble.select("checkpoint == 5")
    p = some.predictions("test").read(slice(None), slice(None))
    q = inpca.average(some, "geometric", sample_set="test", kind="log_probs")
    np.testing.assert_allclose(q, average(p, "geometric"), rtol=1e-12)


# --- models that say never ------------------------------------------------------------------------


def test_impossible_classes__stay_impossible_where_the_average_exists():
    p = np.array([[[0.5, 0.5, 0.0]], [[0.2, 0.8, 0.0]]])
    for how in HOWS:
        q = inpca.average(p, how)
        assert q[0, 2] == 0
        assert q.sum() == pytest.approx(1)
    p[0, 0] = [0.5, 0.0, 0.5]
    for how in ("geometric", "harmonic"):
        np.testing.assert_allclose(inpca.average(p, how), [[1, 0, 0]])


@pytest.mark.parametrize("how", ["geometric", "harmonic", "jeffreys"])
def test_averages_that_do_not_exist__are_refused_with_the_sample(how):
    p = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.0, 1.0]]])
    with pytest.raises(InputError, match=f"'?{how}'? has no value in sample 1"):
        inpca.average(p, how)
    for other in ("arithmetic", "sqrt", "bhattacharyya"):
        np.testing.assert_allclose(inpca.average(p, other), 0.5)


@pytest.mark.parametrize("how", HOWS)
def test_saturated_models__do_not_overflow(how):
    log_p = np.array([[[0.0, -700.0, -1400.0]], [[-1400.0, 0.0, -700.0]], [[-3.0, -0.05, -800.0]]])
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    q = average(log_p, how)
    assert np.isfinite(q[:, :2]).all()
    assert np.exp(q).sum() == pytest.approx(1, abs=1e-12)


def test_the_iteration__says_the_same_without_compilation():
    roots = np.exp(naive.random_models(4, 3, 5) / 2).transpose(1, 0, 2).copy()
    weights = np.full(4, 0.25)
    compiled = np.full((3, 5), 0.2)
    plain = compiled.copy()
    _iterate(roots, weights, compiled)
    _iterate.py_func(roots, weights, plain)
    np.testing.assert_allclose(compiled, plain, rtol=1e-11)


# --- side by side ---------------------------------------------------------------------------------


def test_compare_averages__reports_error_and_loss_of_each():
    log_p, labels = naive.random_models(5, 60, 3), np.arange(60) % 3
    table = inpca.compare_averages(log_p, labels, kind="log_probs").set_index("average")
    assert sorted(table.index) == sorted(HOWS)
    assert table["error"].is_monotonic_decreasing
    q = average(log_p, "harmonic")
    assert table.loc["harmonic", "error"] == (q.argmax(axis=-1) != labels).mean()
    assert table.loc["harmonic", "loss"] == pytest.approx(-q[np.arange(60), labels].mean())
    with pytest.raises(InputError, match="`labels` must be given"):
        inpca.compare_averages(log_p, kind="log_probs")


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, -1], "not negative, not -1"),
        ([0, 0], "must not all be zero"),
        ([1, np.nan], "finite"),
        ([1, np.inf], "finite"),
        ([1, 2, 3], r"shape \(2,\)"),
        (["a", "b"], "one number per model"),
    ],
    ids=["negative", "zero", "nan", "inf", "too many", "text"],
)
def test_bad_weights__are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        inpca.average(np.full((2, 3, 2), 0.5), weights=weights)


def test_huge_and_tiny_weights__are_only_proportions():
    log_p = naive.random_models(2, 3, 4)
    expected = average(log_p, "sqrt", weights=[1, 3])
    for scale in (1e-300, 1e300):
        again = average(log_p, "sqrt", weights=np.array([1, 3]) * scale)
        np.testing.assert_allclose(again, expected, rtol=1e-12)


def test_other_bad_arguments__are_named():
    p = np.full((2, 3, 2), 0.5)
    with pytest.raises(InputError, match="`how` must be one of arithmetic"):
        inpca.average(p, "median")
    with pytest.raises(InputError, match="`kind` must be one of"):
        inpca.average(p, kind="odds")
    with pytest.raises(InputError, match="at least 1 model"):
        inpca.average(np.empty((0, 3, 2)))
    with pytest.raises(ResourceError, match=r"The average needs .* for one sample"):
        inpca.average(p, memory=10)
