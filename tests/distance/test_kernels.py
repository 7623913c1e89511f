"""The compiled bodies, alone: sums, exponents, logarithms, panels; and as plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca.distance import kernels_numba as kernels
from inpca.distance.divergences import BHATTACHARYYA

UNJITTED = """
import numpy as np, naive
from numba import config
from inpca import pairwise_distances
from inpca.distance import kernels_numba
assert config.DISABLE_JIT and not hasattr(kernels_numba.pack, "inspect_asm")
for n_classes, dtype in ((3, np.float32), (12, np.float64)):
    log_p = naive.random_models(3, 19, n_classes).astype(dtype)
    log_p[0] = naive.truth(np.arange(19) % n_classes, n_classes)[0]
    log_p[1] = naive.truth(np.arange(19) % 2, n_classes)[0]
    d, info = pairwise_distances(log_p, kind="log_probs", executor="serial", return_info=True)
    np.testing.assert_allclose(d, naive.distance(log_p), rtol=0, atol=3e-7)
    assert info.floored == naive.floored(log_p) > 0
"""


def packed(log_p):
    features = BHATTACHARYYA.features(log_p, np)
    panels = np.zeros(kernels.packed_shape(*log_p.shape), log_p.dtype)
    flags = np.zeros((panels.shape[1], panels.shape[0] * kernels.LANES), np.uint8)
    kernels.pack(features, 0, panels, flags)
    return panels, flags


def log_sums(log_p, part, n_samples=None):
    panels, _ = packed(log_p)
    size = len(log_p)
    sums = np.zeros((size, size))
    block = kernels.class_block(log_p.shape[2])
    kernels.add_log_affinities(panels, panels, part, n_samples or log_p.shape[1], block, sums)
    return sums


@pytest.mark.parametrize("n_classes", [2, 10, 11, 27])
@pytest.mark.parametrize("n_samples", [1, 2, 15, 16, 17, 127, 128, 129])
def test_add_log_affinities__sums_logarithms_for_any_number_of_samples(n_classes, n_samples):
    log_p = naive.random_models(11, n_samples, n_classes)
    expected = np.log(naive.affinities(log_p, log_p)).sum(axis=-1)
    np.testing.assert_allclose(log_sums(log_p, (0, 11, 0, 11)), expected, rtol=1e-13, atol=1e-13)


def test_add_log_affinities__does_not_underflow_in_the_worst_case():
    """Every affinity at the floor: 130 of them in a row, 2⁻⁸⁰⁶⁰ as a number."""
    n_samples = 130
    models = [naive.truth(np.full(n_samples, label), 3) for label in (0, 2)]
    log_p = np.concatenate(models).astype(np.float32)
    expected = np.log(naive.affinities(log_p, log_p, floor=2.0**-62)).sum(axis=-1)
    np.testing.assert_allclose(log_sums(log_p, (0, 2, 0, 2)), expected, rtol=1e-7)


def test_add_log_affinities__leaves_the_rest_of_the_tile_alone():
    log_p = naive.random_models(40, 9, 4)
    sums = log_sums(log_p, (8, 19, 0, 13))
    whole = log_sums(log_p, (0, 40, 0, 40))
    assert (sums[8:19, :13] == whole[8:19, :13]).all()
    sums[8:19, :13] = 0
    assert not sums.any()


def test_add_diagonal__is_the_diagonal_of_the_tile():
    for dtype in (np.float32, np.float64):
        log_p = naive.random_models(300, 21, 10).astype(dtype)
        panels, _ = packed(log_p)
        diagonal = np.zeros(300)
        kernels.add_diagonal(panels, 21, 10, diagonal)
        assert (diagonal == np.diagonal(log_sums(log_p, (0, 300, 0, 300)))).all()


def test_pack__places_every_feature_and_completes_an_odd_sample():
    log_p = naive.random_models(260, 5, 13).astype(np.float32)
    log_p[258, 3, 1] = -200
    panels, flags = packed(log_p)
    assert panels.shape == (2, 6, 14, kernels.LANES)
    lanes = panels.transpose(0, 3, 1, 2).reshape(512, 6, 14)
    assert (lanes[:260, :5, :13] == BHATTACHARYYA.features(log_p, np)).all()
    assert (lanes[:260, 5] == np.eye(14)[0]).all()
    assert not lanes[:, :5, 13].any()
    assert not lanes[260:].any()
    assert np.argwhere(flags).tolist() == [[3, 258]]


@given(st.integers(2, 3000))
def test_class_layout__wastes_less_than_a_block(n_classes):
    block, padded = kernels.class_layout(n_classes)
    assert 2 <= block <= 10
    assert padded % block == 0
    assert n_classes <= padded < n_classes + padded // block
    assert kernels.class_block(n_classes) == (0,) * block


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=40))
def test_logarithms__of_split_floats_are_those_of_libm(values):
    given_values = np.array(values)
    mantissas, exponents = given_values.copy(), np.zeros(len(values), np.int64)
    kernels.split_exponents(mantissas.view(np.int64), exponents)
    assert ((mantissas >= 1) & (mantissas < 2)).all()
    assert (np.ldexp(mantissas, exponents) == given_values).all()
    kernels.logarithms(mantissas, exponents)
    np.testing.assert_allclose(mantissas, np.log(given_values), rtol=3e-16, atol=3e-16)


def test_logarithms__of_one_and_near_one_are_exact():
    near = 1 + np.array([0, 2.0**-52, 2.0**-30, 2.0**-24])
    values, exponents = near.copy(), np.zeros(4, np.int64)
    kernels.logarithms(values, exponents)
    assert values[0] == 0
    np.testing.assert_allclose(values, np.log1p(near - 1), rtol=3e-16)


def test_kernels__give_the_same_answers_as_plain_python():
    environment = os.environ | {
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONPATH": str(Path(naive.__file__).parent),
    }
    subprocess.run([sys.executable, "-c", UNJITTED], env=environment, check=True)
