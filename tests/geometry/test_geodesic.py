"""Points on geodesics (Eq. 3)."""

import math
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inpca
from inpca import InputError
from inpca.geometry.geodesic import angles

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_small.npz"


def models(seed=0, n_samples=9, n_classes=4, sharpness=2.0):
    return np.exp(naive.random_models(2, n_samples, n_classes, seed=seed, sharpness=sharpness))


def test_geodesic__is_that_of_the_published_code():
    golden = np.load(GOLDEN)
    p, t = golden["predictions"], golden["geodesic_t"]
    start, end = np.full(p.shape[1:], 1 / 6), np.eye(6)[golden["labels"]]
    between_ends = inpca.geodesic(start, end, t)
    np.testing.assert_allclose(between_ends, golden["geodesic_ignorance_truth"], rtol=0, atol=1e-7)
    between_models = inpca.geodesic(p[3], p[9], t)
    np.testing.assert_allclose(between_models, golden["geodesic_model3_model9"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_distances_on_the_geodesic__are_the_known_toeplitz_matrix(n_classes):
    labels, t = np.arange(13) % n_classes, np.linspace(0, 1, 9)
    start, end = np.full((13, n_classes), 1 / n_classes), np.eye(n_classes)[labels]
    d = inpca.pairwise_distances(inpca.geodesic(start, end, t))
    angle = math.acos(n_classes**-0.5)
    np.testing.assert_allclose(d, -np.log(np.cos((t[:, None] - t) * angle)), rtol=0, atol=1e-12)


@given(seed=st.integers(0, 99), t=st.floats(0, 1), sharpness=st.floats(0.1, 30))
@settings(max_examples=50, deadline=None)
def test_a_point__divides_the_angle_in_every_sample(seed, t, sharpness):
    p, q = models(seed, sharpness=sharpness)
    point = np.sqrt(inpca.geodesic(p, q, t))
    whole = angles(np.sqrt(p), np.sqrt(q))
    np.testing.assert_allclose(angles(np.sqrt(p), point), t * whole, rtol=0, atol=1e-7)
    np.testing.assert_allclose(angles(point, np.sqrt(q)), (1 - t) * whole, rtol=0, atol=1e-7)
    assert point.min() >= 0


def test_the_ends__are_the_models_and_back_is_the_other_way_round():
    p, q = models()
    np.testing.assert_allclose(inpca.geodesic(p, q, [0, 1]), [p, q], rtol=1e-13)
    np.testing.assert_allclose(inpca.geodesic(p, q, 0.3), inpca.geodesic(q, p, 0.7), rtol=1e-13)


def test_rows_that_coincide_or_nearly__stay():
    p, q = models()
    q[:3] = p[:3]
    q[3] = p[3] * (1 + 1e-12 * np.array([1, -1, 0, 0]))
    q /= q.sum(axis=-1, keepdims=True)
    point = inpca.geodesic(p, q, 0.4)
    np.testing.assert_allclose(point[:4], p[:4], rtol=1e-11)
    assert np.isfinite(point).all()


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_geodesic__takes_and_gives_every_kind(kind, dtype):
    p, q = models()
    convert = {
        "probs": lambda x: x,
        "log_probs": np.log,
        "logits": lambda x: np.log(x) + 3,
        "sqrt_probs": np.sqrt,
    }[kind]
    point = inpca.geodesic(convert(p).astype(dtype), convert(q).astype(dtype), 0.25, kind=kind)
    expected = inpca.geodesic(p, q, 0.25)
    expected = np.log(expected) if kind in ("log_probs", "logits") else convert(expected)
    assert point.dtype == dtype
    np.testing.assert_allclose(point, expected, rtol=2e-6 if dtype == np.float32 else 1e-12)


def test_points_between_one_hot_models__are_exact_and_probabilities_never_underflow():
    middle = inpca.geodesic([[1.0, 0.0]], [[0.0, 1.0]], [0.0, 0.5, 1.0])
    np.testing.assert_allclose(middle[:, 0], [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-30)
    tiny = np.array([[0.0, -3000.0, -np.inf]])
    point = inpca.geodesic(tiny, tiny, 0.5, kind="log_probs")
    np.testing.assert_allclose(point, tiny, rtol=1e-13)


def test_t__may_have_any_shape():
    p, q = models(n_samples=5, n_classes=3)
    t = np.linspace(0, 1, 6).reshape(2, 3)
    points = inpca.geodesic(p, q, t)
    assert points.shape == (2, 3, 5, 3)
    np.testing.assert_allclose(points[1, 0], inpca.geodesic(p, q, t[1, 0]), rtol=1e-13)


@pytest.mark.parametrize("t", [-0.01, 1.001, np.nan, [0.5, 2]], ids=str)
def test_t_outside_the_geodesic__is_refused(t):
    with pytest.raises(InputError, match=r"`t` must be in \[0, 1\]"):
        inpca.geodesic(*models(), t)


def test_other_bad_arguments__are_named():
    p, q = models()
    with pytest.raises(InputError, match="`t` must be numbers"):
        inpca.geodesic(p, q, "half")
    with pytest.raises(InputError, match="`p` and `q` must be two models of one sample set"):
        inpca.geodesic(p, q[:3], 0.5)
    with pytest.raises(InputError, match="`q` has rows that do not sum to 1"):
        inpca.geodesic(p, 2 * q, 0.5)
