"""Progress (Eq. 4): golden values, identities, any ends, streaming, namespaces, errors."""

import tracemalloc
import types
from pathlib import Path

import array_api_strict
import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inpca
from inpca import InputError, ResourceError
from inpca.geometry import kernels_numba, namespace
from inpca.geometry.ends import IgnoranceToTruth, Pair
from inpca.geometry.reports import progress_fit
from inpca.predictions import ArrayPredictions

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


def ends(labels, n_classes):
    return np.full((len(labels), n_classes), 1 / n_classes), np.eye(n_classes)[labels]


# --- what it is -----------------------------------------------------------------------------------


def test_progress__is_that_of_the_published_code(golden):
    s = inpca.progress(golden["predictions"], golden["labels"])
    np.testing.assert_allclose(s, golden["progress"], rtol=0, atol=2e-5)


def test_distances_from_ignorance_and_truth__are_those_of_the_published_code(golden):
    ignorance, truth = ends(golden["labels"], 6)
    d = inpca.pairwise_distances(np.stack([ignorance, truth]), golden["predictions"])
    expected = golden["distance_from_ignorance_and_truth"]
    np.testing.assert_allclose(d, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_progress__of_a_point_on_the_geodesic_is_its_position(n_classes, dtype):
    labels, t = np.arange(31) % n_classes, np.linspace(0, 1, 23)
    points = inpca.geodesic(*ends(labels, n_classes), t).astype(dtype)
    np.testing.assert_allclose(inpca.progress(points, labels), t, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sharpness", [0.5, 3, 40])
def test_progress__is_the_naive_minimum(sharpness):
    log_p = naive.random_models(7, 29, 5, sharpness=sharpness)
    labels = np.arange(29) % 5
    s = inpca.progress(log_p, labels, kind="log_probs")
    np.testing.assert_allclose(s, naive.progress(log_p, labels), rtol=0, atol=2e-5)


@given(seed=st.integers(0, 999), sharpness=st.floats(0.1, 60), n_samples=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_no_other_point_of_the_geodesic__is_nearer(seed, sharpness, n_samples):
    log_p = naive.random_models(3, n_samples, 4, seed=seed, sharpness=sharpness)
    labels = np.random.default_rng(seed).integers(0, 4, n_samples)
    s = inpca.progress(log_p, labels, kind="log_probs", executor="serial")

    def distances(t):
        points = inpca.geodesic(*ends(labels, 4), t)
        overlap = np.einsum("mnc,tnc->tmn", np.exp(log_p / 2), np.sqrt(points))
        return np.arccos(np.minimum(overlap, 1)).mean(axis=-1)

    best = np.diagonal(distances(s))
    assert (best <= distances(np.linspace(0, 1, 101)).min(axis=0) + 1e-7).all()


def test_ignorance_and_truth__are_at_0_and_1(small_ensemble):
    view = small_ensemble.with_references().select(["@ignorance", "@truth"])
    np.testing.assert_allclose(inpca.progress(view), [0, 1], atol=1e-9)


def test_progress__does_not_change_when_every_sample_is_repeated():
    log_p, labels = naive.random_models(5, 11, 3), np.arange(11) % 3
    s = inpca.progress(log_p, labels, kind="log_probs")
    again = inpca.progress(np.repeat(log_p, 3, axis=1), np.repeat(labels, 3), kind="log_probs")
    np.testing.assert_allclose(again, s, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_progress__takes_every_kind(kind):
    log_p, labels = naive.random_models(4, 9, 3), np.arange(9) % 3
    values = {
        "probs": np.exp(log_p),
        "log_probs": log_p,
        "logits": log_p - 5,
        "sqrt_probs": np.exp(log_p / 2),
    }[kind]
    expected = inpca.progress(np.exp(log_p), labels)
    np.testing.assert_allclose(inpca.progress(values, labels, kind=kind), expected, atol=1e-9)


def test_saturated_models__have_a_progress_below_1_where_they_err():
    labels = np.zeros(10, int)
    right = np.tile([0.0, -40.0, -80.0], (10, 1))
    wrong = right.copy()
    wrong[:3] = [-80.0, 0.0, -40.0]
    s = inpca.progress(np.stack([right, wrong]).astype(np.float32), labels, kind="log_probs")
    assert s[0] == pytest.approx(1, abs=1e-7)
    assert 0 < s[1] <= 1


# --- other ends -----------------------------------------------------------------------------------


def test_ends_spelled_out__are_those_by_default(golden):
    p, labels = golden["predictions"], golden["labels"]
    start, end = ends(labels, 6)
    expected = inpca.progress(p, labels)
    np.testing.assert_allclose(inpca.progress(p, start=start, end=end), expected, atol=1e-9)
    np.testing.assert_allclose(inpca.progress(p, labels, start=start), expected, atol=1e-9)
    np.testing.assert_allclose(inpca.progress(p, end=end), expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_progress_between_any_two_models__of_a_point_on_their_geodesic_is_its_position(dtype):
    p, q = np.exp(naive.random_models(2, 20, 6, sharpness=4))
    q[:5] = p[:5]  # rows that coincide do not count
    t = np.linspace(0, 1, 11)
    s = inpca.progress(inpca.geodesic(p, q, t).astype(dtype), start=p, end=q)
    np.testing.assert_allclose(s, t, rtol=0, atol=1e-6)


def test_another_tasks_truth__is_an_end(small_ensemble):
    labels = (small_ensemble.sample_sets["train"].labels + 1) % 3
    other = inpca.progress(small_ensemble, labels)
    own = inpca.progress(small_ensemble)
    last = small_ensemble.models.groupby("run").tail(1).index
    last = small_ensemble.models.index.isin(last)
    assert (other[last] < own[last]).all()


def test_a_runs_own_start_and_end__are_0_and_1(small_ensemble):
    s = inpca.progress(small_ensemble, start="first", end="last").reshape(4, 6)
    np.testing.assert_allclose(s[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(s[:, -1], 1, atol=1e-6)
    run = small_ensemble.select("run == 'run-2'")
    p = run.predictions("train").read(slice(None), slice(None))
    alone = inpca.progress(p, start=p[0], end=p[-1], kind="log_probs")
    np.testing.assert_allclose(s[2], alone, atol=1e-6)
    # Of a selection in any order, each model keeps its own run.
    keys = ["run-2/3", "run-0/5", "run-2/1"]
    part = inpca.progress(small_ensemble.select(keys), start="first", end="last")
    np.testing.assert_allclose(part, [s[2, 3], 1, s[2, 1]], atol=1e-6)


def test_reference_models__have_no_way_of_their_own(small_ensemble, caplog):
    expected = inpca.progress(small_ensemble, start="first")
    of_samples = inpca.sample_progress(small_ensemble, start="first")
    inpca.average_groups(small_ensemble, ["architecture", "step"])
    whole = inpca.open_ensemble(small_ensemble.path)
    own = (whole.models["kind"] == "checkpoint").to_numpy()
    s = inpca.progress(whole, start="first")
    np.testing.assert_array_equal(s[own], expected)
    assert np.isnan(s[~own]).all()
    assert "12 reference models have no run of their own" in caplog.text
    assert "average-arithmetic-linear/0" in caplog.text
    s = inpca.sample_progress(whole.with_references(), start="first")
    np.testing.assert_array_equal(s[2:][own], of_samples)
    assert np.isnan(s[:2]).all()


def test_an_end__may_be_a_models_key(small_ensemble):
    by_key = inpca.progress(small_ensemble, start="@ignorance", end="run-1/5")
    end = np.exp(small_ensemble.run("run-1").log_probs("train", 5))
    np.testing.assert_allclose(by_key, inpca.progress(small_ensemble, end=end), atol=1e-6)


# --- every sample ---------------------------------------------------------------------------------


def test_sample_progress__of_a_point_is_its_position_in_every_sample():
    labels, t = np.arange(12) % 4, np.linspace(0, 1, 5)
    points = inpca.geodesic(*ends(labels, 4), t)
    s = inpca.sample_progress(points, labels)
    np.testing.assert_allclose(s, np.repeat(t[:, None], 12, axis=1), rtol=0, atol=1e-9)


def test_sample_progress__is_the_progress_of_each_sample_alone():
    log_p, labels = naive.random_models(3, 6, 4), np.arange(6) % 4
    s = inpca.sample_progress(log_p, labels, kind="log_probs")
    for n in range(6):
        alone = inpca.progress(log_p[:, n : n + 1], labels[n : n + 1], kind="log_probs")
        np.testing.assert_allclose(s[:, n], alone, rtol=0, atol=1e-9)


def test_sample_progress__is_unknown_where_there_is_nothing_to_tell():
    start, end = np.array([[1.0, 0, 0], [0.5, 0.5, 0]]), np.array([[0, 1.0, 0], [0.5, 0.5, 0]])
    model = np.array([[[0, 0, 1.0], [0.2, 0.3, 0.5]]])
    assert np.isnan(inpca.sample_progress(model, start=start, end=end)).all()


def test_sample_progress__larger_than_memory_is_refused(small_ensemble):
    with pytest.raises(ResourceError, match="Progress of every sample needs"):
        inpca.sample_progress(small_ensemble, memory=1000)


# --- streaming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["30kB", "100kB", "1GB"])
@pytest.mark.parametrize("executor", ["serial", 3])
def test_progress__has_the_same_bytes_for_any_memory_and_threads(memory, executor):
    log_p, labels = naive.random_models(17, 200, 3).astype(np.float32), np.arange(200) % 3
    reference = inpca.progress(log_p, labels, kind="log_probs", executor="serial")
    again = inpca.progress(log_p, labels, kind="log_probs", memory=memory, executor=executor)
    np.testing.assert_array_equal(again, reference)


def test_every_prediction__is_read_once():
    class Counting(ArrayPredictions):
        read_numbers = 0

        def read(self, models, samples):
            block = super().read(models, samples)
            Counting.read_numbers += block.size
            return block

    log_p = naive.random_models(9, 300, 3).astype(np.float32)
    source = Counting(log_p, "log_probs")
    Counting.read_numbers = 0
    inpca.progress(source, np.arange(300) % 3, memory="40kB", executor=2)
    assert Counting.read_numbers == log_p.size


def test_memory_for_less_than_a_model__is_refused():
    log_p = naive.random_models(2, 1000, 3)
    with pytest.raises(ResourceError, match=r"Progress needs .* but `memory` is"):
        inpca.progress(log_p, np.zeros(1000, int), kind="log_probs", memory=2000)


def test_progress__is_reported(small_ensemble):
    told = []
    inpca.progress(small_ensemble, progress=lambda *news: told.append(news))
    assert told[-1][:2] == (24, 24)


# --- the kernel and its twin ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_another_array_namespace__gives_the_same(kind):
    log_p, labels = naive.random_models(6, 50, 4, sharpness=3), np.arange(50) % 4
    values = {
        "probs": np.exp(log_p),
        "log_probs": log_p,
        "logits": log_p + 2,
        "sqrt_probs": np.exp(log_p / 2),
    }[kind]
    s = inpca.progress(array_api_strict.asarray(values), labels, kind=kind)
    assert isinstance(s, type(array_api_strict.asarray(0)))
    expected = inpca.progress(values, labels, kind=kind)
    np.testing.assert_allclose(np.asarray(s), expected, rtol=0, atol=1e-9)


def test_another_array_namespace__knows_the_ends_and_the_errors(golden):
    p = array_api_strict.asarray(golden["predictions"])
    start = golden["predictions"][0]
    s = inpca.progress(p, golden["labels"], start=start)
    expected = inpca.progress(golden["predictions"], golden["labels"], start=start)
    np.testing.assert_allclose(np.asarray(s), expected, rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="no predictions of kind='probs': model 0, sample 0"):
        inpca.progress(p * 2, golden["labels"])
    with pytest.raises(InputError, match="`start` can be named only for an Ensemble"):
        inpca.progress(p, golden["labels"], start="first")
    with pytest.raises(InputError, match="`X` must have shape"):
        inpca.progress(p[0, :, :], golden["labels"])


def test_cupys_namespace__needs_no_more_than_its_older_releases_have(monkeypatch):
    cupy = types.ModuleType("cupy")
    names = "abs all asarray clip concatenate cos exp finfo float64 isfinite max min nonzero"
    for name in (names + " ones_like sin sqrt sum where zeros_like").split():
        setattr(cupy, name, getattr(np, name))
    monkeypatch.setattr(namespace, "_BLOCK_NUMBERS", 400)  # two models at a time
    log_p, labels = naive.random_models(5, 50, 4), np.arange(50) % 4
    pair = IgnoranceToTruth(labels, 4).as_pair()
    s = namespace.positions(log_p.astype(np.float32), "log_probs", pair, cupy)
    expected = inpca.progress(log_p, labels, kind="log_probs")
    np.testing.assert_allclose(s, expected, rtol=0, atol=1e-6)


def test_the_slope__is_the_derivative_and_never_decreases():
    rng = np.random.default_rng(0)
    p, q, w = np.exp(naive.random_models(3, 30, 5, sharpness=3))
    pair = Pair(np.log(p), np.log(q))
    x, y = np.empty((2, 1, 30))
    pair.coordinates(np.sqrt(w)[None], slice(0, 30), x, y)

    def total(t):
        return np.arccos((np.sqrt(w) * np.sqrt(inpca.geodesic(p, q, t))).sum(axis=-1)).sum()

    t = np.sort(rng.uniform(0.01, 0.99, 20))
    slopes = [kernels_numba.slope(one, x[0], y[0], pair.angles) for one in t]
    numeric = [(total(one + 1e-6) - total(one - 1e-6)) / 2e-6 for one in t]
    np.testing.assert_allclose(slopes, numeric, atol=1e-6)
    assert (np.diff(slopes) >= 0).all()


def test_kernels__say_the_same_without_compilation():
    labels = np.arange(13) % 3
    roots = np.exp(naive.random_models(2, 13, 3) / 2)
    compiled, plain = np.empty((2, 2, 2, 13))
    kernels_numba.label_coordinates(roots, labels, *compiled)
    kernels_numba.label_coordinates.py_func(roots, labels, *plain)
    np.testing.assert_allclose(compiled, plain, rtol=1e-13)
    angles = np.array([np.arccos(3**-0.5)])
    slope = kernels_numba.slope
    for alpha in (0.0, 0.4, 1.0):
        expected = slope.py_func(alpha, plain[0, 0], plain[1, 0], angles)
        assert slope(alpha, plain[0, 0], plain[1, 0], angles) == pytest.approx(expected, rel=1e-11)


def test_square_roots__are_those_of_numpy():
    log_p = np.linspace(-170, 0, 4001, dtype=np.float32)
    roots, plain = np.empty((2, 4001), np.float32)
    kernels_numba.square_roots(log_p, roots)
    expected = np.exp(log_p.astype(np.float64) / 2)
    error = np.abs(roots / expected - 1)
    assert error[log_p > -5].max() < 2e-7
    assert error.max() < 4e-6
    kernels_numba.square_roots.py_func(log_p, plain)
    np.testing.assert_allclose(plain, expected, rtol=1e-5)
    extreme = np.array([0, -1e30, -np.inf, np.nan], np.float32)
    roots = np.empty_like(extreme)
    kernels_numba.square_roots(extreme, roots)
    np.testing.assert_array_equal(roots, np.array([1, 0, 0, np.nan], np.float32))


def test_cosine_and_sine__are_those_of_numpy():
    for angle in np.linspace(0, np.pi / 2, 50):
        found = kernels_numba.cosine_and_sine(angle)
        np.testing.assert_allclose(found, (np.cos(angle), np.sin(angle)), rtol=0, atol=1e-15)


# --- beside error and loss ------------------------------------------------------------------------


def test_progress_table__has_error_and_loss_of_the_same_samples(small_ensemble):
    table = inpca.progress_table(small_ensemble.with_references(), sample_set="test")
    models = small_ensemble.models
    assert list(table.index[:2]) == ["@ignorance", "@truth"]
    rest = table.iloc[2:]
    np.testing.assert_array_equal(rest["error"], models["test_error"])
    np.testing.assert_array_equal(rest["loss"], models["test_loss"])
    expected = inpca.progress(small_ensemble, sample_set="test")
    np.testing.assert_array_equal(rest["progress"], expected)
    assert inpca.r_squared(table["progress"], table["error"]) > 0.5


def test_progress_fit__is_that_of_the_trainings(small_ensemble):
    trained = inpca.progress_table(small_ensemble)
    expected = inpca.r_squared(trained["progress"], trained["error"])
    assert progress_fit(trained) == (expected, 24)
    inpca.average_groups(small_ensemble, ["architecture", "step"])
    table = inpca.progress_table(inpca.open_ensemble(small_ensemble.path).with_references())
    assert table["kind"].value_counts().to_dict() == {"checkpoint": 24, "reference": 14}
    assert progress_fit(table) == (expected, 24)
    fit, n_models = progress_fit(table.iloc[:4])
    assert np.isnan(fit)
    assert n_models < 3


def test_r_squared__is_that_of_a_straight_line():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=50)
    y = 1 - x + 0.1 * rng.normal(size=50)
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    assert inpca.r_squared(x, y) == pytest.approx(1 - (rest @ rest) / (50 * y.var()))
    assert np.isnan(inpca.r_squared([0.1, 0.2, 0.3], [0.5, 0.5, 0.5]))
    with pytest.raises(InputError, match="at least 3 models"):
        inpca.r_squared([0.1, 0.2], [0.5, 0.5])
    with pytest.raises(InputError, match="finite"):
        inpca.r_squared([0.1, 0.2, np.nan], [0.5, 0.5, 0.1])


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1, 3], r"`labels` must be classes 0 … 2; sample 2 has 3"),
        ([0, -1, 1], "sample 1 has -1"),
        ([0, 1], r"shape \(3,\)"),
        ([0.0, 1.0, 2.0], "whole number"),
        (None, r"`labels` .* or `end` .* must say where"),
    ],
    ids=["too large", "negative", "too few", "fractions", "none"],
)
def test_bad_labels__are_refused(labels, words):
    with pytest.raises(InputError, match=words):
        inpca.progress(naive.random_models(2, 3, 3), labels, kind="log_probs")


def test_bad_ends__are_refused(small_ensemble):
    p = np.exp(naive.random_models(2, 3, 3))
    with pytest.raises(InputError, match="give one, not both"):
        inpca.progress(p, [0, 1, 2], end=p[0])
    with pytest.raises(InputError, match="must be different models"):
        inpca.progress(p, start=p[0], end=p[0])
    with pytest.raises(InputError, match=r"`start` must be one model .* shape \(3, 3\)"):
        inpca.progress(p, [0, 1, 2], start=p[0, :2])
    with pytest.raises(InputError, match="`end` has rows that do not sum to 1"):
        inpca.progress(p, end=p[0] * 2)
    with pytest.raises(InputError, match="`start` can be named only for an Ensemble"):
        inpca.progress(p, [0, 1, 2], start="first")
    with pytest.raises(InputError, match="`start` must be predictions, 'first'"):
        inpca.progress(small_ensemble, start="last")
    references = small_ensemble.with_references().select(["@ignorance", "@truth"])
    with pytest.raises(InputError, match="has reference models alone, such as '@ignorance'"):
        inpca.progress(references, start="first")


def test_own_ends__of_a_run_with_one_checkpoint_are_refused_by_name(tmp_path):
    labels = np.arange(6) % 3
    made = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=3)
    made.add_run("alone", {"train": np.full((1, 6, 3), 1 / 3)})
    with pytest.raises(InputError, match="Run 'alone' has one checkpoint"):
        inpca.progress(inpca.open_ensemble(tmp_path / "e"), start="first", end="last")


class Measured:
    """Predictions that are made when they are read, so that only what is computed is in memory."""

    def __init__(self, n_models, n_samples, n_classes, chunk_samples=1):
        self.shape, self.dtype = (n_models, n_samples, n_classes), np.dtype(np.float32)
        self.chunk_samples = chunk_samples

    def read(self, models, samples):
        first, last, _ = models.indices(self.shape[0])
        start, stop, _ = samples.indices(self.shape[1])
        out = np.full((last - first, stop - start, self.shape[2]), -np.log(self.shape[2]))
        return out.astype(np.float32)

    def fingerprint(self):
        return "measured"


def peak_of(function, *arguments, **options):
    """Bytes that NumPy takes at most at a time."""
    tracemalloc.start()
    try:
        result = function(*arguments, **options)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("n_models", "n_classes", "memory"),
    [(400, 2, 17e6), (400, 10, 17e6), (400, 10, 30e6), (20, 1000, 1.6e6), (20, 1000, 1e8)],
)
def test_sample_progress__keeps_to_its_memory(n_models, n_classes, memory):
    """The result, 8 bytes for each of 5000 samples, is held once, whatever is beside it."""
    source, labels = Measured(n_models, 5000, n_classes), np.arange(5000) % n_classes
    inpca.sample_progress(Measured(1, 50, n_classes), labels[:50])  # compiled beforehand
    found, peak = peak_of(inpca.sample_progress, source, labels, memory=memory)
    assert found.shape == (n_models, 5000)
    assert peak <= memory


@pytest.mark.parametrize("memory", [4e5, 2e6, 2e7])
@pytest.mark.parametrize(("n_models", "n_classes"), [(400, 2), (400, 10), (20, 1000)])
def test_progress__keeps_to_its_memory(n_models, n_classes, memory):
    source, labels = Measured(n_models, 5000, n_classes), np.arange(5000) % n_classes
    inpca.progress(Measured(1, 50, n_classes), labels[:50], executor="serial")
    _, peak = peak_of(inpca.progress, source, labels, memory=memory, executor="serial")
    assert peak <= memory


def test_progress_between_models__counts_them_in_its_memory():
    """Two ends of 5000 samples and 100 classes are 8 MB."""
    source, end = Measured(20, 5000, 100), np.eye(100)[np.arange(5000) % 100]
    for function in (inpca.progress, inpca.sample_progress):
        with pytest.raises(ResourceError, match=r"beside 8\.. MB for the result and the ends"):
            function(source, end=end, memory=8e6)


def test_sample_progress__refuses_a_memory_for_the_result_alone():
    source = Measured(10, 500, 10)
    with pytest.raises(ResourceError, match=r"beside .* but `memory` is"):
        inpca.sample_progress(source, np.arange(500) % 10, memory=8 * 10 * 500 + 100)
