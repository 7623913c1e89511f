"""Distances of arrays in memory: identities, oracles, hostile input."""

import logging
import math
from itertools import pairwise as neighbours
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tight import least_memory

from inpca import InputError, ResourceError, pairwise_distances
from inpca.distance.divergences import BHATTACHARYYA, FLOOR

CLASSES = [2, 3, 10, 100]
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 3e-7, np.float64: 1e-13}
GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"


def distances(log_p, log_q=None, **options):
    return pairwise_distances(log_p, log_q, kind="log_probs", **options)


@pytest.fixture(params=CLASSES, ids="C={}".format)
def n_classes(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


# --- oracles ------------------------------------------------------------------------------------


def test_pairwise_distances__agree_with_the_naive_formula(n_classes, dtype):
    log_p = naive.random_models(21, 133, n_classes).astype(dtype)
    error = np.abs(distances(log_p) - naive.distance(log_p)).max()
    assert error < TOLERANCE[dtype]


def test_pairwise_distances__of_ignorance_and_truth_is_half_log_c(n_classes, dtype):
    labels = np.arange(57) % n_classes
    models = [naive.ignorance(57, n_classes), naive.truth(labels, n_classes)]
    d = distances(np.concatenate(models).astype(dtype))
    assert d[0, 1] == pytest.approx(0.5 * math.log(n_classes), abs=TOLERANCE[dtype])


def test_pairwise_distances__to_truth_is_half_the_cross_entropy(n_classes, dtype):
    labels = np.arange(101) % n_classes
    log_p = naive.random_models(5, 101, n_classes).astype(dtype)
    d = distances(log_p, naive.truth(labels, n_classes).astype(dtype))
    cross_entropy = -log_p[:, np.arange(101), labels].astype(np.float64).mean(axis=1)
    np.testing.assert_allclose(d[:, 0], cross_entropy / 2, rtol=0, atol=TOLERANCE[dtype])


def test_pairwise_distances__on_the_geodesic_follow_the_angle(n_classes, dtype):
    n_samples, t = 37, np.linspace(0, 0.9, 7)
    start = np.full((n_samples, n_classes), 1 / n_classes)
    end = np.eye(n_classes)[np.arange(n_samples) % n_classes]
    points = np.stack([naive.geodesic(start, end, s) for s in t]).astype(dtype)
    angle = math.acos(n_classes**-0.5)
    expected = -np.log(np.cos((t[:, None] - t) * angle))
    error = np.abs(pairwise_distances(points) - expected).max()
    # One float32 rounding of ln p ≈ −8 is 5e-7, here the same in every sample and 99 classes.
    assert error < {np.float32: 4e-6, np.float64: 1e-13}[dtype]


@pytest.mark.parametrize("times", [2, 3, 129])
def test_pairwise_distances__do_not_change_when_every_sample_is_repeated(times, dtype):
    log_p = naive.random_models(6, 7, 3).astype(dtype)
    repeated = np.repeat(log_p, times, axis=1)
    np.testing.assert_allclose(distances(repeated), distances(log_p), rtol=0, atol=TOLERANCE[dtype])


def test_pairwise_distances__reproduce_the_papers_own_code(dtype):
    golden = np.load(GOLDEN)
    p, new = golden["predictions"].astype(dtype), golden["new_predictions"].astype(dtype)
    np.testing.assert_allclose(pairwise_distances(p), golden["distance"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        pairwise_distances(new, p), golden["new_distance"], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_pairwise_distances__are_the_same_for_every_kind_of_predictions(kind):
    log_p = naive.random_models(5, 20, 4)
    given = {
        "probs": np.exp(log_p),
        "log_probs": log_p,
        "logits": log_p + 3.0,
        "sqrt_probs": np.exp(log_p / 2),
    }[kind]
    np.testing.assert_allclose(
        pairwise_distances(given, kind=kind), naive.distance(log_p), rtol=0, atol=1e-13
    )


# --- properties ---------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    n_models=st.integers(2, 12),
    n_samples=st.integers(1, 300),
    n_classes=st.sampled_from([2, 3, 10]),
    sharpness=st.floats(0.1, 30),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
)
def test_pairwise_distances__are_a_symmetric_nonnegative_dissimilarity(
    n_models, n_samples, n_classes, sharpness, seed, dtype
):
    log_p = naive.random_models(n_models, n_samples, n_classes, seed=seed, sharpness=sharpness)
    log_p = log_p.astype(dtype)
    d = distances(log_p, executor="serial")
    assert d.dtype == np.float64
    assert (d == d.T).all()
    assert (np.diagonal(d) == 0).all()
    assert d.min() > -1e-7
    np.testing.assert_allclose(d, naive.distance(log_p), rtol=1e-6, atol=3e-7)


def test_pairwise_distances__of_x_and_y_are_the_block_of_all(dtype):
    log_p = naive.random_models(30, 50, 10).astype(dtype)
    d = distances(log_p)
    assert (distances(log_p[:11], log_p[11:]) == d[:11, 11:]).all()
    assert (distances(log_p[11:], log_p[:11], tile_size=4) == d[11:, :11]).all()


def test_pairwise_distances__of_one_model_to_itself_is_zero():
    one = naive.random_models(1, 40, 10).astype(np.float32)
    assert distances(one, one)[0, 0] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "threads"},
        {"executor": 3},
        {"memory": "least", "executor": 2},
        {"memory": "least", "executor": "serial"},
        {"memory": "least", "tile_size": 64, "executor": 1},
        {"tile_size": 17},
        {"tile_size": 300},
    ],
    ids=str,
)
def test_pairwise_distances__do_not_depend_on_threads_blocks_slabs_or_tiles(options, dtype):
    log_p = naive.random_models(600, 1101, 3).astype(dtype)
    reference = distances(log_p, executor="serial")
    if "memory" in options:
        n_workers = 2 if options["executor"] == 2 else 1
        tile_size = options.get("tile_size")
        plan = {"stored": False, "dtype": dtype, "n_workers": n_workers, "tile_size": tile_size}
        options = options | {"memory": least_memory(log_p.shape, **plan)}
    d, info = distances(log_p, return_info=True, **options)
    assert (d == reference).all()
    if "memory" in options:
        assert len(info.plan.blocks) > 1
        assert len(info.plan.slabs) > 1


# --- saturated, equal and nearly equal models ---------------------------------------------------


def saturated(n_models, n_samples, n_classes, *, seed=0):
    """Models whose log-probabilities go down to −200, agreeing or not."""
    rng = np.random.default_rng(seed)
    depth = 10 ** rng.uniform(-1, np.log10(200), (n_models, n_samples, 1))
    logits = -depth * rng.random((n_models, n_samples, n_classes))
    top = rng.integers(n_classes, size=(n_models, n_samples))
    np.put_along_axis(logits, top[..., None], 0.0, axis=-1)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def test_pairwise_distances__of_saturated_models_are_exact(n_classes, dtype):
    log_p = saturated(24, 200, n_classes).astype(dtype)
    d = distances(log_p)
    np.testing.assert_allclose(d, naive.distance(log_p), rtol=0, atol=1e-6)


def test_pairwise_distances__of_one_hot_rows_are_capped_and_counted(n_classes, dtype, caplog):
    rng = np.random.default_rng(1)
    one_hot = [naive.truth(rng.integers(n_classes, size=90), n_classes) for _ in range(4)]
    log_p = np.concatenate([*one_hot, naive.random_models(3, 90, n_classes)]).astype(dtype)
    with caplog.at_level(logging.WARNING, logger="inpca.distance"):
        d, info = distances(log_p, return_info=True)
    assert info.floored == naive.floored(log_p) > 0
    assert f"{info.floored} of" in caplog.text
    np.testing.assert_allclose(d, naive.distance(log_p), rtol=0, atol=1e-6)
    assert d.max() < 43


def test_pairwise_distances__count_exactly_what_the_floor_caps(dtype):
    log_p = np.concatenate([saturated(20, 70, 3, seed=s) for s in range(2)]).astype(dtype)
    log_p[::5] = -np.inf
    log_p[::5, :, 1] = 0
    _, info = distances(log_p, return_info=True, tile_size=17)
    assert info.floored == naive.floored(log_p) > 0
    _, info = distances(log_p[:15], log_p[15:], return_info=True)
    assert info.floored == naive.floored(log_p[:15], log_p[15:]) > 0


def test_pairwise_distances__say_nothing_when_nothing_is_floored(caplog):
    labels = np.arange(40) % 5
    log_p = np.concatenate([naive.truth(labels, 5), naive.random_models(6, 40, 5)])
    with caplog.at_level(logging.WARNING, logger="inpca.distance"):
        _, info = distances(log_p, return_info=True)
    assert info.floored == 0
    assert not caplog.text


def test_pairwise_distances__of_identical_models_are_exactly_zero(n_classes, dtype):
    """Wherever they sit: in one lane's neighbour, another panel, another tile."""
    log_p = naive.random_models(600, 131, n_classes).astype(dtype)
    twins = [0, 1, 255, 256, 300, 511, 599]
    log_p[twins] = log_p[3]
    for tile_size in (100, 256, 600):
        d = distances(log_p, tile_size=tile_size)
        assert not d[np.ix_(twins, twins)].any()


def test_pairwise_distances__of_near_copies_are_right_to_1e_8(dtype):
    """Affinity 1 − 1e-7: the distance is no larger than the rounding of one float32."""
    n_samples, n_classes = 2000, 10
    x = np.exp(naive.random_models(12, n_samples, n_classes, sharpness=1.0) / 2)
    rng = np.random.default_rng(3)
    near = []
    for root in x:
        step = rng.normal(size=root.shape)
        step -= (step * root).sum(axis=-1, keepdims=True) * root
        step /= np.linalg.norm(step, axis=-1, keepdims=True)
        angle = math.acos(1 - 1e-7)
        near.append(np.abs(math.cos(angle) * root + math.sin(angle) * step))
    log_p = (2 * np.log(np.stack([x, near], axis=1).reshape(24, n_samples, n_classes))).astype(
        dtype
    )
    log_p -= np.log(np.exp(log_p.astype(np.float64)).sum(axis=-1, keepdims=True)).astype(dtype)
    d, expected = distances(log_p), naive.distance(log_p)
    for u, v in neighbours(range(24)):
        if u % 2 == 0:
            assert expected[u, v] > 3e-8
            assert abs(d[u, v] - expected[u, v]) < 1e-8


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X": np.full((1, 4, 2), 0.5)}, "at least 2 models, not 1"),
        ({"X": np.full((0, 4, 2), 0.5)}, "at least 2 models, not 0"),
        ({"X": np.full((4, 2), 0.5)}, "must have shape"),
        ({"X": np.full((3, 4, 2), 0.5), "Y": np.full((3, 5, 2), 0.5)}, "5 samples of 2 classes"),
        ({"X": np.full((3, 4, 2), 0.5), "Y": np.full((3, 4, 4), 0.25)}, "4 samples of 4 classes"),
        ({"X": np.full((3, 4, 2), 0.5), "Y": np.full((0, 4, 2), 0.5)}, "`Y` must hold"),
        ({"X": np.full((3, 4, 2), 0.6)}, "do not sum to 1: model 0, sample 0 sums to 1.2"),
        ({"X": np.full((3, 4, 2), [1.5, -0.5])}, "negative probabilities in model 0"),
        ({"X": np.full((3, 4, 2), np.nan)}, "NaN or infinite values in model 0"),
        ({"X": np.full((3, 4, 2), [np.inf, 0.5])}, "NaN or infinite"),
        ({"X": np.full((3, 4, 2), 0.5), "metric": "cosine"}, "`metric` must be one of"),
        ({"X": np.full((3, 4, 2), 0.5), "kind": "odds"}, "`kind` must be one of"),
        ({"X": np.full((3, 4, 2), 0.5), "backend": "abacus"}, "`backend` must be one of"),
        ({"X": np.full((3, 4, 2), 0.5), "tile_size": 0}, "`tile_size` must be at least 1"),
        ({"X": np.full((3, 4, 2), 0.5), "memory": "much"}, "`memory` must be a positive amount"),
        ({"X": np.full((3, 4, 2), 0.5), "executor": "cloud"}, "`executor` must be"),
        ({"X": np.full((3, 4, 2), 0.5), "restart": True}, "`restart` needs `out`"),
        ({"X": np.full((3, 4, 2), 0.5), "repair": True}, "`repair` needs `out`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pairwise_distances__refuse_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        pairwise_distances(**arguments)


def test_pairwise_distances__refuse_a_memory_in_which_no_block_fits():
    with pytest.raises(ResourceError, match=r"smallest block needs .* but `memory` is 1.0 kB"):
        pairwise_distances(np.full((3, 4, 2), 0.5), memory="1kB")


def test_features__floor_the_square_root():
    log_p = np.array([[-np.inf, 0.0], [-86.0, -85.9]], np.float32)
    features = BHATTACHARYYA.features(log_p, np)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [[FLOOR, 1], [FLOOR, math.exp(-85.9 / 2)]], rtol=1e-6)


def test_features__of_a_model_do_not_depend_on_where_it_stands():
    log_p = naive.random_models(1, 37, 10).astype(np.float32)
    whole = BHATTACHARYYA.features(np.repeat(log_p, 19, axis=0), np)
    alone = BHATTACHARYYA.features(log_p, np)
    assert (whole == alone).all()
    for n in range(37):
        assert (BHATTACHARYYA.features(log_p[:, n:], np) == alone[:, n:]).all()
