"""Kabsch–Umeyama within the signature."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import inpca
from inpca import InputError
from inpca.geometry.alignment import Alignment

SIGNATURE = np.array([1, -1, 1, 1, -1])


def motion(seed):
    """A random motion: orthogonal in each block, and a shift."""
    rotation = np.zeros((5, 5))
    for block in ([0, 2, 3], [1, 4]):
        rotation[np.ix_(block, block)] = ortho_group.rvs(len(block), random_state=seed)
    return rotation, np.random.default_rng(seed).normal(size=5)


def minkowski(x):
    return ((x[:, None] - x[None]) ** 2) @ SIGNATURE


@given(seed=st.integers(0, 9999))
@settings(max_examples=30, deadline=None)
def test_align__finds_the_motion_between_two_copies(seed):
    x = np.random.default_rng(seed).normal(size=(20, 5))
    rotation, shift = motion(seed)
    result = inpca.align(x, x @ rotation + shift, SIGNATURE)
    assert result.rmsd < 1e-12
    np.testing.assert_allclose(result.rotation, rotation, atol=1e-11)
    np.testing.assert_allclose(result.shift, shift, atol=1e-11)


def test_align__keeps_every_minkowski_distance_and_never_mixes_the_blocks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 5))
    result = inpca.align(x, y, SIGNATURE)
    np.testing.assert_allclose(minkowski(result.coordinates), minkowski(x), atol=1e-11)
    assert (result.rotation[np.not_equal.outer(SIGNATURE, SIGNATURE)] == 0).all()
    metric = np.diag(SIGNATURE)
    np.testing.assert_allclose(result.rotation @ metric @ result.rotation.T, metric, atol=1e-12)


def test_no_other_motion__comes_closer():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 30, 5))
    best = inpca.align(x, y, SIGNATURE).rmsd
    assert best == pytest.approx(inpca.align(y, x, SIGNATURE).rmsd)
    for seed in range(20):
        rotation, shift = motion(seed)
        moved = x @ rotation + 0.1 * shift
        assert np.sqrt(((moved - y) ** 2).sum(axis=1).mean()) >= best


def test_a_rotation_that_mixed_space_and_time__is_not_found():
    x = np.random.default_rng(2).normal(size=(30, 2))
    turned = x @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert inpca.align(x, turned, [1, 1]).rmsd < 1e-12
    assert inpca.align(x, turned, [1, -1]).rmsd > 0.1


def test_flips_of_axes__are_undone():
    x = np.random.default_rng(3).normal(size=(10, 5))
    assert inpca.align(x, x * [1, -1, -1, 1, 1], SIGNATURE).rmsd < 1e-12


def test_transform__moves_other_points_in_the_same_way():
    x = np.random.default_rng(4).normal(size=(10, 5))
    rotation, shift = motion(4)
    result = inpca.align(x[:8], (x @ rotation + shift)[:8], SIGNATURE)
    np.testing.assert_allclose(result.transform(x[8:]), (x @ rotation + shift)[8:], atol=1e-11)
    assert isinstance(result, Alignment)


def test_estimators__bring_their_signature():
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(4), size=(12, 6)))
    one = inpca.InPCA(n_components=3, kind="log_probs").fit(log_p)
    order = np.arange(12)[::-1]
    other = inpca.InPCA(n_components=3, kind="log_probs").fit(log_p[order])
    result = inpca.align(one.embedding_[order], other, one.signature_)
    assert result.rmsd < 1e-9


@pytest.mark.parametrize(
    ("x", "y", "signature", "words"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), [1, 1], "coordinates of the same models"),
        (np.ones((3, 2)), np.ones((3, 2)), [1, 0], r"`signature` must hold \+1 or −1"),
        (np.ones((3, 2)), np.ones((3, 2)), [1], "each of the 2 coordinates"),
        (np.ones((3, 2)), np.ones((3, 2)), None, "`signature` must be given"),
        (np.ones(3), np.ones(3), [1], "must be coordinates"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), [1, 1], "NaN or infinite"),
    ],
    ids=["models", "zero", "short", "none", "flat", "nan"],
)
def test_bad_arguments__are_named(x, y, signature, words):
    with pytest.raises(InputError, match=words):
        inpca.align(x, y, signature)


def test_embeddings_with_other_signatures__are_refused():
    class Fitted:
        def __init__(self, signature):
            self.embedding_ = np.ones((3, 2))
            self.signature_ = np.array(signature)

    with pytest.raises(InputError, match=r"same signature, but that of `X` is \[1, -1\] and"):
        inpca.align(Fitted([1, -1]), Fitted([1, 1]))
    with pytest.raises(InputError, match="that of `signature`"):
        inpca.align(Fitted([1, -1]), Fitted([1, -1]), [-1, 1])
