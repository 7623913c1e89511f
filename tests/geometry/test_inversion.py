"""Inversion dynamics: the arithmetic against the formulas written out, and what it refuses."""

import importlib
import json

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import isotonic_regression

import inpca
from inpca import InputError
from inpca import inversion as inv
from inpca.geometry.radii import Moments

SEEDS = st.integers(0, 2**32 - 1)
CURVES = hnp.arrays(np.float64, st.integers(3, 25), elements=st.floats(-5, 5, width=32))


def activations(seed, n_samples=30, n_units=4, n_classes=2):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    return rng.normal(size=(n_samples, n_units)) + labels[:, None], labels


def test_face__is_an_attribute_and_a_module():
    assert importlib.import_module("inpca.inversion") is inpca.inversion
    assert {"radii", "inversion_point", "stragglers", "conservation", "fraction_limit"} < set(
        inpca.inversion.__all__
    )
    assert all(getattr(inpca.inversion, name) is not None for name in inpca.inversion.__all__)


# -- radii --


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 5), st.floats(1e-3, 1e3))
def test_radii__equal_the_sums_over_pairs(seed, n_classes, scale):
    values, labels = activations(seed, n_classes=n_classes)
    found = inv.radii(scale * values, labels)
    radius, distances = naive.class_manifolds(values, labels)
    np.testing.assert_allclose(found.radius, radius, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.centre_distances, distances, rtol=0, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_radii__do_not_know_lengths_nor_rotations_of_activations(seed):
    values, labels = activations(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    lengths = rng.uniform(0.1, 10, (len(values), 1))
    found, other = inv.radii(values, labels), inv.radii(lengths * values @ rotation, labels)
    for name, value in found.observables.items():
        assert other.observables[name] == pytest.approx(value, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 29))
def test_radii__are_the_same_batch_by_batch(seed, cut):
    values, labels = activations(seed, n_classes=3)
    moments = Moments()
    moments.add(values[:cut], labels[:cut])
    moments.add(values[cut:], labels[cut:])
    whole, parts = inv.radii(values, labels), moments.manifolds()
    np.testing.assert_allclose(parts.radius, whole.radius, atol=1e-13)
    np.testing.assert_allclose(parts.centre_distances, whole.centre_distances, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_radii__split_the_variance_of_the_whole(seed):
    # Steiner: for two classes of equal size the whole has R² = (R₊² + R₋²)/2 + D²/4, and on the
    # unit sphere R² = 1 − ‖x̄‖².
    values, labels = activations(seed)
    units = values / np.linalg.norm(values, axis=1, keepdims=True)
    whole = 1 - np.linalg.norm(units.mean(axis=0)) ** 2
    found = inv.radii(values, labels)
    within = (found.radius_plus**2 + found.radius_minus**2) / 2
    assert within + found.centre_distance**2 / 4 == pytest.approx(whole, abs=1e-12)


def test_radii__of_a_point_are_zero_to_rounding():
    found = inv.radii([[3.0, 4.0]] * 5 + [[0.0, 1e-300]] * 5, [0] * 5 + [1] * 5)
    assert found.radius.tolist() == pytest.approx([0, 0], abs=1e-15)


def test_radii__take_leading_axes_of_checkpoints():
    values = np.stack([activations(seed)[0] for seed in range(6)]).reshape(2, 3, 30, 4)
    labels = activations(0)[1]
    found = inv.radii(values, labels)
    assert found.radius_plus.shape == (2, 3)
    one = inv.radii(values[1, 2], labels)
    assert found.centre_distance[1, 2] == pytest.approx(one.centre_distance, abs=1e-14)


def test_radii__drop_samples_without_direction_only_when_told():
    values, labels = activations(0)
    values[7] = 0
    with pytest.raises(InputError, match=r"zero in every unit in sample 7 \(1 sample in all\)"):
        inv.radii(values, labels)
    found = inv.radii(values, labels, zeros="drop")
    rest = np.arange(len(values)) != 7
    radius, _ = naive.class_manifolds(values[rest], labels[rest])
    np.testing.assert_allclose(found.radius, radius, atol=1e-12)
    assert found.n_dropped == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, np.zeros(len(y), int)), r"at least two classes, not only \[0\]"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), r"NaN or infinite values in sample \d+"),
        (lambda x, y: (x, y[1:]), r"`labels` must be the class of each sample"),
        (lambda x, y: (x, y.astype(float)), r"`labels` must be the class of each sample"),
        (lambda x, y: (x[0], y), r"must have shape \(…, n_samples, n_units\)"),
        (lambda x, y: (x * y[:, None], y), r"zero in every unit"),
    ],
    ids=["one-class", "nan", "length", "floats", "one-sample", "zeros"],
)
def test_radii__refuse(change, message):
    with pytest.raises(InputError, match=message):
        inv.radii(*change(*activations(0)))


def test_radii__of_more_than_two_classes_have_no_plus_and_minus():
    with pytest.raises(InputError, match="of two classes, not 3"):
        inv.radii(*activations(0, n_classes=3)).radius_plus  # noqa: B018


# -- the inversion point --


@settings(max_examples=60, deadline=None)
@given(CURVES)
def test_unimodal_fit__is_the_best_of_all_places_to_turn(values):
    def error(cut):
        left, right = values[:cut], values[cut:]
        fits = [isotonic_regression(left, increasing=False).x] if len(left) else []
        fits += [isotonic_regression(right, increasing=True).x] if len(right) else []
        return ((np.concatenate(fits) - values) ** 2).sum()

    best = min(error(cut) for cut in range(len(values) + 1))
    fit = inv.unimodal_fit(values)
    assert ((fit - values) ** 2).sum() == pytest.approx(best, abs=1e-9)
    turn = int(fit.argmin())
    assert (np.diff(fit[: turn + 1]) <= 0).all()
    assert (np.diff(fit[turn:]) >= 0).all()


def dip(n=300):
    t = np.arange(n)
    return np.exp(-t / 12) + 0.5 * (1 - np.exp(-t / 90))


@pytest.mark.parametrize("method", ["argmin", "unimodal"])
def test_inversion_point__of_a_smooth_curve_is_its_extremum(method):
    epochs = np.arange(300) * 2.0
    low = inv.inversion_point(dip(), epochs, method=method)
    high = inv.inversion_point(-dip(), epochs, extremum="maximum", method=method)
    assert low.verdict == high.verdict == "inversion"
    assert low.epoch == high.epoch == epochs[dip().argmin()]
    assert low.index == dip().argmin()
    assert low.value == -high.value == dip().min()
    assert low.rise_share == pytest.approx((dip()[-1] - dip().min()) / (dip()[0] - dip().min()))


def test_inversion_point__unimodal_does_not_follow_an_outlier():
    values = dip()
    values[200] = -0.5
    true = int(dip().argmin())
    assert inv.inversion_point(values).index == 200
    assert abs(inv.inversion_point(values, method="unimodal").index - true) <= 1


def slow_rise(n=200):
    t = np.arange(n)
    return np.where(t <= 60, 1 - t / 100, 0.4 + 0.002 * (t - 60))


@pytest.mark.parametrize("sigma", [0.01, 0.02, 0.05])
def test_inversion_point__unimodal_scatters_less_in_noise(sigma):
    rng = np.random.default_rng(0)
    series = slow_rise() + sigma * rng.normal(size=(150, 200))
    epochs = {
        method: np.array([inv.inversion_point(one, method=method).epoch for one in series])
        for method in ("argmin", "unimodal")
    }
    assert epochs["unimodal"].std() < 0.85 * epochs["argmin"].std()
    assert abs(epochs["unimodal"].mean() - 60) < abs(epochs["argmin"].mean() - 60)


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.02, 0.05])
def test_inversion_point__unimodal_is_not_moved_by_one_low_outlier(sigma):
    rng = np.random.default_rng(1)
    moved = []
    for _ in range(50):
        clean = slow_rise() + sigma * rng.normal(size=200)
        spoilt = clean.copy()
        spoilt[70] = 0.0
        found = [inv.inversion_point(one, method="unimodal").epoch for one in (clean, spoilt)]
        assert inv.inversion_point(spoilt).epoch == 70
        moved.append(abs(found[1] - found[0]))
    assert np.median(moved) <= 1
    assert np.mean(moved) <= 3


@pytest.mark.parametrize("method", ["argmin", "unimodal"])
def test_inversion_point__is_found_in_noise_and_not_made_of_it(method):
    rng = np.random.default_rng(0)
    for _ in range(20):
        noise = 0.03 * rng.normal(size=300)
        found = inv.inversion_point(dip() + noise, method=method)
        assert found.verdict == "inversion"
        assert abs(found.epoch - dip().argmin()) < 25
        falling = np.exp(-np.arange(300) / 40)
        assert inv.inversion_point(falling + noise, method=method).verdict == "monotone"
        assert inv.inversion_point(noise, method=method).verdict == "no segregation"


def test_inversion_point__without_one_has_a_verdict_and_no_epoch():
    for values, verdict in (
        (np.linspace(1, 0, 20), "monotone"),
        (np.r_[np.linspace(1, 0, 20), 0.04], "monotone"),
        (np.linspace(0, 1, 20), "no segregation"),
        (np.ones(20), "no segregation"),
    ):
        point = inv.inversion_point(values)
        assert (point.verdict, point.index, point.found) == (verdict, None, False)
        assert np.isnan(point.epoch)


def test_inversion_point__of_few_sparse_checkpoints_is_found():
    steps = np.r_[0, np.unique(np.geomspace(1, 299, 9).astype(int))]
    point = inv.inversion_point(dip()[steps], steps)
    assert point.verdict == "inversion"
    assert point.epoch in steps


def test_inversion__phi_is_the_mean_error_at_the_observables_own_epochs():
    error = np.linspace(0.5, 0, 300)
    observables = {
        "radius_plus": dip(),
        "radius_minus": np.roll(np.r_[dip(), np.full(4, dip()[-1])], 4)[:300] + 0.0,
        "centre_distance": -dip(),
    }
    observables["radius_minus"][:4] = 1.0
    found = inv.inversion(observables, error)
    turn = dip().argmin()
    assert found.phi == pytest.approx((2 * error[turn] + error[turn + 4]) / 3)
    assert found.index == turn
    assert found.spread == 4


def test_inversion__of_many_classes_is_judged_by_medians_and_keeps_each_class_and_pair():
    radius = np.stack([dip(), dip(), np.linspace(1, 0, 300)], axis=1)  # one class never turns
    distances = -np.broadcast_to(dip()[:, None, None], (300, 3, 3))
    found = inv.inversion(
        {"radius": radius, "centre_distances": distances}, np.linspace(0.5, 0, 300)
    )
    assert list(found.points) == ["radius", "centre_distances"]
    assert found.found
    assert found.points["centre_distances"].index == dip().argmin()
    np.testing.assert_array_equal(found.points["radius"].curve, np.median(radius, axis=1))
    assert list(found.details) == [
        *(f"radius[{k}]" for k in range(3)),
        *(f"centre_distances[{pair}]" for pair in ("0, 1", "0, 2", "1, 2")),
    ]
    assert [found.details[f"radius[{k}]"].found for k in range(3)] == [True, True, False]


def test_inversion__has_no_phi_unless_all_observables_turn():
    found = inv.inversion(
        {"radius_plus": dip(), "centre_distance": np.arange(300.0)}, np.linspace(0.5, 0, 300)
    )
    assert not found.found
    assert np.isnan(found.phi)
    assert found.points["radius_plus"].found


def test_inversion_point__of_a_curve_that_only_rises_is_none():
    rng = np.random.default_rng(5)
    steps = np.arange(100) / 100
    for noise, curve in ((0.01, steps), (1e-7, 0.9 + 0.05 * steps**3)):
        for _ in range(20):
            values = curve + noise * rng.standard_normal(100)
            for method in ("argmin", "unimodal"):
                assert not inv.inversion_point(values, method=method).found
                assert not inv.inversion_point(-values, method=method).found
    small = inv.inversion_point([0.01, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert (small.verdict, small.fall, small.rise) == ("no segregation", 0.01, 8.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0],), "at least 3"),
        (([1.0, np.nan, 2.0],), "is nan at checkpoint 1"),
        (([1.0, 0.5, 2.0], [0, 2, 1]), r"`epochs` must be finite and increase, not \[0. 2. 1.\]"),
        (([1.0, 0.5, 2.0], [0, 1, np.inf]), "`epochs` must be finite"),
        (([1.0, 0.5, 2.0], [0, 1]), r"one per checkpoint, \(3,\), not \(2,\)"),
        ((["a", "b", "c"],), "`values` must be real numbers, not <U1"),
        (([1.0, 0.5j, 2.0],), "`values` must be real numbers, not complex128"),
    ],
)
def test_inversion_point__refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        inv.inversion_point(*arguments)


def test_inversion__refuses_counts_for_errors():
    with pytest.raises(InputError, match="divide counts"):
        inv.inversion({"radius_plus": dip()}, np.linspace(100, 0, 300))


# -- stragglers --


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_stragglers__are_the_errors(seed):
    rng = np.random.default_rng(seed)
    log_p = naive.random_models(3, 20, 4, seed=seed)
    labels = rng.integers(0, 4, 20)
    wrong = inv.stragglers(log_p, labels)
    expected = [
        [max(range(4), key=row.__getitem__) != y for row, y in zip(p, labels)] for p in log_p
    ]
    np.testing.assert_array_equal(wrong, expected)
    np.testing.assert_array_equal(inv.stragglers(log_p, labels, 1), wrong[1])


def test_stragglers__are_none_for_truth_and_all_when_every_prediction_is_wrong():
    labels = np.array([0, 1, 1, 0])
    truth = naive.truth(labels, 2)[0]
    assert not inv.stragglers(truth, labels).any()
    assert inv.stragglers(truth[:, ::-1], labels).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.full((3, 2), np.nan), [0, 1, 1]), "NaN"),
        ((np.ones((3, 2)), [0, 1, 2]), "classes from 0 to 1, not from 0 to 2"),
        ((np.ones((3, 2)), [0, 1]), "one per sample"),
        ((np.ones((5, 3, 2)), [0, 1, 1], 5), r"in 0 … 4, not 5"),
        ((np.ones((3, 2)), [0, 1, 1], 0), "n_checkpoints, n_samples, n_classes"),
    ],
)
def test_stragglers__refuse(arguments, message):
    with pytest.raises(InputError, match=message):
        inv.stragglers(*arguments)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0, 1))
def test_checkpoint_at_error__is_the_first_that_is_low_enough(seed, level):
    error = np.random.default_rng(seed).integers(0, 10, 15) / 10
    expected = next((t for t, value in enumerate(error) if value <= level), -1)
    assert inv.checkpoint_at_error(error, level) == expected


def test_against_error__reads_an_observable_at_errors_that_fall():
    error = np.array([0.5, 0.4, 0.45, 0.2, 0.2])
    values = np.array([1.0, 2.0, 9.0, 4.0, 7.0])
    found = inv.against_error(values, error, [0.6, 0.5, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(found, [np.nan, 1, 3, 4, np.nan])


def test_controls__keep_what_they_should():
    labels = np.arange(50) % 3
    assert sorted(inv.random_labels(labels, 0)) == sorted(labels)
    assert not np.array_equal(inv.random_labels(labels, 0), labels)
    x = np.zeros((2000, 3), np.float32)
    noisy = inv.noisy_inputs(x, 0.5, seed=0)
    assert noisy.dtype == np.float32
    assert noisy.std() == pytest.approx(0.5, rel=0.03)
    np.testing.assert_array_equal(noisy, inv.noisy_inputs(x, 0.5, seed=0))
    np.testing.assert_array_equal(inv.noisy_inputs(x, 0, seed=0), x)


# -- conservation --


def random_sets(rng, sizes, n_samples):
    return np.stack([rng.permutation(n_samples) < size for size in sizes])


@pytest.mark.parametrize("sizes", [(40, 40, 40), (10, 40, 90)], ids=["equal", "different"])
def test_conservation__null_equals_a_simulated_one(sizes):
    rng = np.random.default_rng(0)
    found = inv.conservation(random_sets(rng, sizes, 200))
    simulated = []
    for _ in range(3000):
        a, b = rng.choice(len(sizes), 2, replace=False)
        one, other = random_sets(rng, (sizes[a], sizes[b]), 200)
        simulated.append((one & other).sum())
    assert np.mean(simulated) == pytest.approx(found.null, rel=0.03)
    assert np.std(simulated) == pytest.approx(found.null_std, rel=0.05)


def test_conservation__z_of_planted_sets_equals_the_simulated_one():
    rng = np.random.default_rng(1)
    core = np.arange(300) < 20
    sets = np.stack([core | (rng.random(300) < 0.05) for _ in range(30)])
    found = inv.conservation(sets)
    pairs = [(sets[a] & sets[b]).sum() for a in range(30) for b in range(a)]
    chance = [
        (rng.permutation(sets[a]) & rng.permutation(sets[b])).sum()
        for _ in range(20)
        for a in range(30)
        for b in range(a)
    ]
    simulated = (np.mean(pairs) - np.mean(chance)) / np.std(pairs, ddof=1)
    assert found.z == pytest.approx(simulated, rel=0.02)
    assert found.z_null == pytest.approx(
        (np.mean(pairs) - np.mean(chance)) / np.std(chance), rel=0.1
    )
    assert found.overlap == np.mean(pairs)
    assert found.n_pairs == len(pairs)


def test_conservation__of_random_sets_is_none():
    rng = np.random.default_rng(2)
    found = inv.conservation(random_sets(rng, [50] * 60, 400))
    assert abs(found.z) < 0.2
    assert found.overlap_std == pytest.approx(found.null_std, rel=0.1)


def test_conservation__across_pairs_every_run_with_every_other():
    rng = np.random.default_rng(3)
    a, b = random_sets(rng, [5, 6], 30), random_sets(rng, [7, 8, 9], 30)
    found = inv.conservation(a, b)
    assert found.n_pairs == 6
    assert found.overlap == np.mean([(x & y).sum() for x in a for y in b])
    assert found.null == pytest.approx(np.mean([k * l / 30 for k in (5, 6) for l in (7, 8, 9)]))
    np.testing.assert_array_equal(found.pairs, inv.conservation(b, a).pairs.T)


def test_conservation__of_a_single_pair_has_no_spread_and_of_copies_none():
    rng = np.random.default_rng(4)
    sets = random_sets(rng, [10, 10], 50)
    assert np.isnan(inv.conservation(sets).z)
    assert np.isfinite(inv.conservation(sets).z_null)
    assert inv.conservation(np.stack([sets[0]] * 3)).z == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 5)),), "truth values"),
        ((np.ones((1, 5), bool),), "at least two runs"),
        ((np.ones((2, 5), bool), np.ones((2, 6), bool)), "same 5 samples"),
    ],
)
def test_conservation__refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        inv.conservation(*arguments)


# -- the finite-size fit --


def scaling(sizes, phi, p0, gamma):
    return phi * (1 - (np.asarray(sizes) / p0) ** -gamma)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.03, 0.4), st.floats(5, 200), st.floats(0.4, 1.5))
def test_fraction_limit__recovers_planted_parameters(phi, p0, gamma):
    sizes = np.array([512, 1024, 2048, 4096, 8192, 16384, 32768])
    limit = inv.fraction_limit(sizes, scaling(sizes, phi, p0, gamma))
    assert limit.phi == pytest.approx(phi, rel=1e-3)
    assert limit.p0 == pytest.approx(p0, rel=0.05)
    assert limit.gamma == pytest.approx(gamma, rel=0.02)
    np.testing.assert_allclose(limit.at(sizes), scaling(sizes, phi, p0, gamma), atol=1e-5)


def test_fraction_limit__errors_are_those_of_repeated_measurements():
    rng = np.random.default_rng(0)
    sizes, sigma = np.geomspace(200, 50_000, 9), 5e-4
    true = scaling(sizes, 0.11, 40, 0.8)
    fits = [
        inv.fraction_limit(sizes, true + sigma * rng.normal(size=9), np.full(9, sigma))
        for _ in range(100)
    ]
    values = np.array([fit.phi for fit in fits])
    assert values.mean() == pytest.approx(0.11, abs=4 * values.std() / 10)
    assert np.median([fit.phi_error for fit in fits]) == pytest.approx(values.std(), rel=0.3)


@pytest.mark.parametrize(
    ("sizes", "fractions", "message"),
    [
        ([100, 200, 400], [0.1, 0.11, 0.115], "at least 4 different sizes without"),
        ([100, 200, 400, 800], [0.1, 0.1, 0.1, 0.1], "must grow with `sizes`"),
        ([100, 200, 400, 800], [0.14, 0.12, 0.11, 0.1], "must grow with `sizes`"),
        ([100, 200, 400, 800], [0, 0, 0, 0], "must not all be zero"),
        ([100, 200, 400, 800], [10, 11, 12, 12.5], r"fractions in \[0, 1\]"),
        ([100, 200, 400, -8], [0.1, 0.11, 0.12, 0.13], "positive"),
        ([100, 200], [0.1, 0.11, 0.12], "shapes"),
    ],
)
def test_fraction_limit__refuses(sizes, fractions, message):
    with pytest.raises(InputError, match=message):
        inv.fraction_limit(sizes, fractions)


# -- pruning plans --


def test_pruning_plan__leaves_out_the_set_or_as_many_others():
    rng = np.random.default_rng(0)
    mask = rng.random(200) < 0.1
    plan = inv.pruning_plan({"stragglers": mask}, n_random=3, seed=1)
    assert list(plan) == [
        "all", "without-stragglers", *(f"without-stragglers-random-{k}" for k in range(3)),
    ]  # fmt: skip
    assert plan["all"]["keep"] == list(range(200))
    assert plan["without-stragglers"]["keep"] == np.flatnonzero(~mask).tolist()
    controls = [plan[f"without-stragglers-random-{k}"] for k in range(3)]
    assert {len(one["keep"]) for one in controls} == {int((~mask).sum())}
    assert len({tuple(one["keep"]) for one in controls}) == 3
    assert json.loads(json.dumps(plan)) == plan
    assert plan == inv.pruning_plan({"stragglers": mask}, n_random=3, seed=1)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({}, "at least one name"),
        ({"s": np.ones(5, bool)}, "nothing is left"),
        ({"s": np.zeros(5)}, "truth values"),
        ({"s": np.zeros(5, bool), "t": np.zeros(6, bool)}, "one for each of 5 samples"),
    ],
)
def test_pruning_plan__refuses(sets, message):
    with pytest.raises(InputError, match=message):
        inv.pruning_plan(sets)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: inv.radii([["a", "b"]], [0]), "activations"),
        (lambda: inv.radii(np.ones((4, 2)) * 1j, [0, 0, 1, 1]), "activations"),
        (lambda: inv.fraction_limit(["x"] * 6, [0.1] * 6), "sizes"),
    ],
    ids=["text", "complex", "sizes"],
)
def test_arguments__that_are_no_numbers_are_named(call, name):
    with pytest.raises(InputError, match=f"`{name}` must be real numbers, not "):
        call()
