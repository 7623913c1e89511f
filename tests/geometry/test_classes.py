"""Fewer classes: what the maps keep, what they cost, and that the engine reads through them."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inpca
from inpca import InputError


def models(seed=0, sharpness=3.0, n_models=12):
    return naive.random_models(n_models, 15, 20, seed=seed, sharpness=sharpness)


def read(source):
    return source.read(slice(None), slice(None))


def random(log_p, n_classes=6, **options):
    return inpca.project_classes(log_p, n_classes, kind="log_probs", **options)


def top(log_p, k, **options):
    return inpca.top_classes(log_p, k, kind="log_probs", **options)


@given(seed=st.integers(0, 999), sharpness=st.floats(0.1, 30), few=st.integers(2, 18))
@settings(max_examples=25, deadline=None)
def test_fewer_classes__are_models_and_never_farther_apart(seed, sharpness, few):
    log_p = models(seed, sharpness, n_models=5)
    d = naive.distance(log_p)
    for fewer in (random(log_p, few, seed=seed), top(log_p, few, executor="serial")):
        q = read(fewer)
        np.testing.assert_allclose(np.exp(q).sum(axis=-1), 1, rtol=1e-12)
        assert (naive.distance(q) <= d + 1e-9).all()


def test_project_classes__multiplies_by_one_matrix_of_column_sums_1():
    one_hot = np.log(np.where(np.eye(20), 1.0, 1e-300))
    matrix = np.exp(read(random(np.repeat(one_hot[None], 2, axis=0)))[0])  # row c: column of R
    np.testing.assert_allclose(matrix.sum(axis=-1), 1, rtol=1e-12)
    log_p = models()
    np.testing.assert_allclose(np.exp(read(random(log_p))), np.exp(log_p) @ matrix, rtol=1e-9)


def test_project_classes__is_told_by_its_seed():
    log_p = models()
    np.testing.assert_array_equal(read(random(log_p, seed=3)), read(random(log_p, seed=3)))
    assert random(log_p, seed=3).fingerprint() == random(log_p, seed=3).fingerprint()
    assert random(log_p, seed=3).fingerprint() != random(log_p, seed=4).fingerprint()
    assert not np.allclose(read(random(log_p, seed=3)), read(random(log_p, seed=4)))


def test_top_classes__are_the_most_probable_of_all_models_in_each_sample_and_the_rest():
    log_p = models()
    q = np.exp(read(top(log_p, 4)))
    order = np.argsort(-np.exp(log_p).mean(axis=0), axis=-1)
    expected = np.take_along_axis(np.exp(log_p), order[None, :, :4], axis=-1)
    np.testing.assert_allclose(q[..., :4], expected, rtol=1e-10)
    np.testing.assert_allclose(q[..., 4], 1 - expected.sum(axis=-1), rtol=1e-8)


def test_top_classes__may_be_given():
    log_p = models()
    classes = np.tile([7, 0, 3], (15, 1))
    q = read(top(log_p, 3, classes=classes))
    np.testing.assert_allclose(q[..., :3], log_p[..., [7, 0, 3]], rtol=1e-12)
    truth = naive.truth(np.full(15, 3), 20)
    assert np.isneginf(read(top(truth, 3, classes=classes))[..., 3]).all()


def test_all_but_two_classes_apart__is_nearly_all_of_the_distance():
    lost = [inpca.class_error(top(models(), k)).lost for k in (1, 6, 12, 18)]
    assert (np.diff(lost) < 0).all()
    assert lost[-1] < 0.01


def test_class_error__compares_all_pairs_of_the_sampled_models():
    log_p = models()
    fewer = random(log_p)
    error = inpca.class_error(fewer, n_models=5, seed=1)
    assert len(error.models) == 5
    pairs = np.triu_indices(5, 1)
    exact = naive.distance(log_p[error.models])[pairs]
    reduced = naive.distance(read(fewer)[error.models])[pairs]
    np.testing.assert_allclose(error.exact, exact, atol=1e-12)
    np.testing.assert_allclose(error.reduced, reduced, atol=1e-12)
    assert error.lost == pytest.approx(1 - reduced.sum() / exact.sum())
    assert error.largest == pytest.approx((exact - reduced).max())
    assert error.correlation == pytest.approx(np.corrcoef(exact, reduced)[0, 1])
    assert len(inpca.class_error(fewer).models) == 12


def test_the_engine__reads_through_and_resumes(tmp_path, small_ensemble):
    fewer = inpca.project_classes(small_ensemble, 2, seed=1)
    matrix = inpca.pairwise_distances(fewer, out=tmp_path / "d.zarr", tile_size=8)
    expected = naive.distance(read(fewer))
    np.testing.assert_allclose(matrix.to_array(), expected, rtol=0, atol=3e-7)
    same = inpca.project_classes(small_ensemble, 2, seed=1)
    again = inpca.pairwise_distances(same, out=matrix.path)
    np.testing.assert_array_equal(again.to_array(), matrix.to_array())
    with pytest.raises(InputError):
        inpca.pairwise_distances(inpca.project_classes(small_ensemble, 2, seed=2), out=matrix.path)


def test_reading_in_pieces__changes_nothing(monkeypatch):
    log_p = models()
    whole = read(top(log_p, 4))
    monkeypatch.setattr("inpca.geometry.classes._PIECE_NUMBERS", 60)
    np.testing.assert_array_equal(read(top(log_p, 4)), whole)
    part = top(log_p, 4).read(slice(3, 7), slice(5, 11))
    np.testing.assert_array_equal(part, whole[3:7, 5:11])


@pytest.mark.parametrize("few", [1, 20, 2.5])
def test_numbers_of_classes_out_of_range__are_refused(few):
    with pytest.raises(InputError, match="`n_classes` must be a whole number from 2 to 19"):
        random(models(), few)
    with pytest.raises(InputError, match="`k` must be a whole number from 1 to 18"):
        top(models(), {1: 0, 20: 19}.get(few, few))


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (np.zeros((15, 2), int), "twice in one sample"),
        (np.tile([0, 20], (15, 1)), "`classes` must be in 0 … 19"),
        (np.zeros((14, 2), int), r"of shape \(n_samples, k\) = \(15, 2\)"),
        (np.zeros((15, 2)), "whole numbers"),
    ],
    ids=["twice", "range", "shape", "fractions"],
)
def test_bad_classes__are_refused(classes, words):
    with pytest.raises(InputError, match=words):
        top(models(), 2, classes=classes)


def test_other_bad_arguments__are_named():
    with pytest.raises(InputError, match="`concentration` must be a positive number"):
        random(models(), concentration=0)
    with pytest.raises(InputError, match="`n_models` must be at least 2"):
        inpca.class_error(random(models()), n_models=1)
