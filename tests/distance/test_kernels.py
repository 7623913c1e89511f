"""The kernel in vector registers: sums, positions, accuracy, panels; on other machines' registers;
and as plain Python."""

import os
import subprocess
import sys
from pathlib import Path

import naive
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpca import pairwise_distances
from inpca.distance import kernels_numba as kernels
from inpca.distance import simd
from inpca.distance.block_numba import NumbaBlock
from inpca.distance.divergences import BHATTACHARYYA, Reduction, get_divergence
from inpca.distance.reductions_numba import PANEL_KERNELS, add_diagonal

SUMS = """
import sys
import numpy as np, naive
from numba import config
from inpca import pairwise_distances
from inpca.distance import kernels_numba as kernels
from inpca.distance.divergences import BHATTACHARYYA
for n_classes, dtype in ((3, np.float32), (40, np.float32), (150, np.float32), (12, np.float64)):
    log_p = naive.random_models(7, 21, n_classes, sharpness=9).astype(dtype)
    log_p[0] = naive.truth(np.arange(21) % n_classes, n_classes)[0]
    log_p[1] = naive.truth(np.arange(21) % 2, n_classes)[0]
    panels = kernels.allocate(kernels.packed_shape(*log_p.shape), dtype)
    flags = np.zeros((21, panels.shape[0] * kernels.LANES), np.uint8)
    kernels.pack(BHATTACHARYYA.features(log_p, np), 0, panels, flags)
    sums = np.zeros((7, 7))
    block = kernels.class_block(n_classes)
    kernels.add_log_affinities(panels, panels, (0, 7, 0, 7), 21, block, sums)
    expected = np.log(naive.affinities(log_p, log_p, 2.0**-62)).sum(axis=-1)
    np.testing.assert_allclose(sums, expected, rtol=2e-7, atol=2e-6)
    part = (0, 7, 0, 7)
    floored = kernels.count_floored(panels, panels, flags, flags, part, 21, True)
    assert floored == naive.floored(log_p) > 0
    print(kernels.LANES if len(sys.argv) > 1 else "", sums.tobytes().hex())
for tile_size in (None, 100) if not config.DISABLE_JIT else ():
    log_p = naive.random_models(450, 5, 3, sharpness=9).astype(np.float32)
    d = pairwise_distances(log_p, kind="log_probs", executor="serial", tile_size=tile_size)
    assert (d == d.T).all() and not np.diagonal(d).any()
    np.testing.assert_allclose(d, naive.distance(log_p), rtol=0, atol=1e-6)
    print(d.tobytes().hex())
"""


def python(code, *arguments, **variables):
    environment = os.environ | variables | {"PYTHONPATH": str(Path(naive.__file__).parent)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def packed(log_p):
    panels = kernels.allocate(kernels.packed_shape(*log_p.shape), log_p.dtype)
    flags = np.zeros((panels.shape[1], panels.shape[0] * kernels.LANES), np.uint8)
    kernels.pack(BHATTACHARYYA.features(log_p, np), 0, panels, flags)
    return panels, flags


def log_sums(log_p, part=None):
    panels, _ = packed(log_p)
    size, n_samples, n_classes = log_p.shape
    sums = np.zeros((size, size))
    block = kernels.class_block(n_classes)
    kernels.add_log_affinities(panels, panels, part or (0, size, 0, size), n_samples, block, sums)
    return sums


def distances(log_p):
    sums = log_sums(log_p)
    itself = np.diagonal(sums)
    return -(sums - (itself[:, None] + itself[None, :]) / 2) / log_p.shape[1]


@pytest.mark.parametrize("n_classes", [2, 10, 33, 100])
@pytest.mark.parametrize("n_samples", [1, 3, 4, 5, 64, 65, 511, 512, 513])
def test_add_log_affinities__sums_logarithms_for_any_number_of_samples(n_classes, n_samples):
    log_p = naive.random_models(11, n_samples, n_classes)
    expected = np.log(naive.affinities(log_p, log_p)).sum(axis=-1)
    np.testing.assert_allclose(log_sums(log_p), expected, rtol=1e-13, atol=1e-13)
    single = log_sums(log_p.astype(np.float32))
    np.testing.assert_allclose(single / n_samples, expected / n_samples, rtol=0, atol=3e-7)


@pytest.mark.parametrize("n_models", [1, 7, 64, 131, 140])
def test_add_log_affinities__takes_any_number_of_models(n_models):
    log_p = naive.random_models(n_models, 6, 5)
    expected = np.log(naive.affinities(log_p, log_p)).sum(axis=-1)
    np.testing.assert_allclose(log_sums(log_p), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_log_affinities__does_not_underflow_in_the_worst_case(dtype):
    """Every affinity at the floor: 1,030 of them in a row, 2⁻⁶³⁸⁶⁰ as a number."""
    models = [naive.truth(np.full(1030, label), 3) for label in (0, 2)]
    log_p = np.concatenate(models).astype(dtype)
    expected = np.log(naive.affinities(log_p, log_p, floor=2.0**-62)).sum(axis=-1)
    np.testing.assert_allclose(log_sums(log_p), expected, rtol=1e-7)


def test_add_log_affinities__leaves_the_rest_of_the_tile_alone():
    log_p = naive.random_models(150, 9, 4).astype(np.float32)
    whole = log_sums(log_p)
    first, n_columns = kernels.LANES, 141
    sums = log_sums(log_p, (8, 139, first // kernels.LANES, n_columns))
    assert (sums[8:139, first:n_columns] == whole[8:139, first:n_columns]).all()
    sums[8:139, first:n_columns] = 0
    assert not sums.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2, 10, 40]), st.booleans())
def test_add_log_affinities__does_not_know_where_a_model_lies(seed, n_classes, double):
    """Models taken twice, in any order: equal bytes wherever they are, and distance exactly 0."""
    dtype = np.float64 if double else np.float32
    log_p = naive.random_models(75, 13, n_classes, seed=seed, sharpness=8).astype(dtype)
    order = np.random.default_rng(seed).permutation(np.arange(150) % 75)
    sums, scattered = log_sums(log_p), log_sums(log_p[order])
    assert (sums == sums.T).all()
    assert (scattered == sums[np.ix_(order, order)]).all()
    assert not distances(log_p[order])[order[:, None] == order].any()


@pytest.mark.parametrize("n_classes", [3, 50])
def test_add_log_affinities__gives_the_same_bytes_in_slabs(n_classes):
    slab = 2 * kernels.group_samples(n_classes)
    log_p = naive.random_models(20, 2 * slab + 7, n_classes, sharpness=8).astype(np.float32)
    block, sums = kernels.class_block(n_classes), np.zeros((20, 20))
    for start in range(0, log_p.shape[1], slab):
        panels, _ = packed(log_p[:, start : start + slab])
        n_samples = panels.shape[1]
        kernels.add_log_affinities(panels, panels, (0, 20, 0, 20), n_samples, block, sums)
    assert (sums == log_sums(log_p)).all()


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_distances__err_less_than_3e7_and_1e6_if_saturated(n_classes):
    for sharpness, bound in ((2, 3e-7), (80, 1e-6)):
        log_p = naive.random_models(12, 200, n_classes, sharpness=sharpness)
        d = distances(log_p.astype(np.float32))
        np.testing.assert_allclose(d, naive.distance(log_p), rtol=0, atol=bound)


def test_distances__of_near_copies_err_less_than_1e8():
    """Affinities 1 − 1e-7, where one step of float32 is 6e-8: what counts is the mean."""
    rng = np.random.default_rng(0)
    logits = naive.random_models(1, 2000, 10) + rng.normal(size=(8, 2000, 10)) * 9e-4
    log_p = (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)
    expected = naive.distance(log_p)
    assert 5e-8 < np.median(expected) < 5e-7
    np.testing.assert_allclose(distances(log_p), expected, rtol=0, atol=1e-8)


def test_add_diagonal__is_the_diagonal_of_the_tile():
    kernel = PANEL_KERNELS[Reduction.LOG_AFFINITY]
    for dtype in (np.float32, np.float64):
        log_p = naive.random_models(150, 21, 10).astype(dtype)
        diagonal = np.zeros(150)
        add_diagonal(kernel, packed(log_p)[0][None], 21, 1.0, diagonal)
        assert (diagonal == np.diagonal(log_sums(log_p))).all()


def test_pack__places_every_feature_from_any_first_model():
    log_p = naive.random_models(130, 5, 13).astype(np.float32)
    log_p[128, 3, 1] = -200
    features = BHATTACHARYYA.features(log_p, np)
    panels = kernels.allocate(kernels.packed_shape(*log_p.shape), np.float32)
    flags = np.ones((5, panels.shape[0] * kernels.LANES), np.uint8)
    for start, stop in ((0, 9), (9, 100), (100, 130)):
        kernels.pack(features[start:stop], start, panels, flags)
    lanes = panels.transpose(0, 3, 1, 2).reshape(-1, 5, 13)
    assert (lanes[:130] == features).all()
    assert not lanes[130:].any()
    assert np.argwhere(flags[:, :130]).tolist() == [[3, 128]]


def test_count_floored__counts_like_the_definition():
    log_p = naive.random_models(20, 15, 4, sharpness=150).astype(np.float32)
    log_p[3] = naive.truth(np.arange(15) % 4, 4)[0]
    panels, flags = packed(log_p)
    for upper, expected in (
        (True, naive.floored(log_p)),
        (False, naive.floored(log_p, log_p)),
    ):
        part = (0, 20, 0, 20)
        count = kernels.count_floored(panels, panels, flags, flags, part, 15, upper)
        assert count == expected > 0


@given(st.integers(2, 100_000))
def test_groups_and_blocks__follow_the_number_of_classes(n_classes):
    group, block = kernels.group_samples(n_classes), kernels.class_block(n_classes)
    assert 64 <= group <= 512
    assert group % simd.CHAIN == 0
    n_blocks = -(-n_classes // block)
    assert block * (n_blocks - 1) < n_classes <= block * n_blocks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [10, 100, 128, 129, 145, 217, 1000, 1003, 20_000, 200_000])
def test_ignorance_and_truth__are_half_of_ln_c_apart(n_classes, dtype):
    """The worst case of a sum over classes: all terms are equal, and so are their roundings."""
    ignorance = np.full((1, 2, n_classes), -np.log(n_classes))
    truth = np.full((1, 2, n_classes), -np.inf)
    truth[0, [0, 1], [0, n_classes - 1]] = 0
    models = np.concatenate([ignorance, truth]).astype(dtype)
    D = pairwise_distances(models, kind="log_probs", executor="serial")
    assert abs(D[0, 1] - 0.5 * np.log(n_classes)) < (3e-7 if dtype == np.float32 else 1e-12)
    assert D[0, 0] == D[1, 1] == 0


@pytest.mark.parametrize("n_classes", [129, 1000, 20_000])
def test_add_log_affinities__of_many_classes_is_right_for_any_model(n_classes):
    log_p = naive.random_models(5, 6, n_classes, sharpness=6)
    expected = np.log(naive.affinities(log_p, log_p)).sum(axis=-1)
    single = log_sums(log_p.astype(np.float32))
    np.testing.assert_allclose(single / 6, expected / 6, rtol=0, atol=3e-7)
    assert (single == single.T).all()
    order = np.array([3, 0, 4, 1, 2])
    again = log_sums(log_p[order].astype(np.float32))
    assert (again == single[np.ix_(order, order)]).all()


def test_version__changes_with_the_bytes_alone():
    """More classes in float32 are summed anew; what did not change is gone on with."""
    jensen_shannon = get_divergence("jensen-shannon")
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    older, newer = kernels.VERSION, kernels.VERSION_MANY
    assert older != newer
    version = NumbaBlock.version_of
    assert version(BHATTACHARYYA, 128, single) == version(BHATTACHARYYA, 1000, double) == older
    assert version(BHATTACHARYYA, 129, single) == newer
    assert version(jensen_shannon, 1000, single) == older


@pytest.mark.parametrize("n_bytes", [1, 1000, 10**6])
def test_allocate__begins_at_a_cache_line(n_bytes):
    array = kernels.allocate((1, n_bytes), np.uint8)
    assert array.ctypes.data % 64 == 0
    assert array.shape == (1, n_bytes)
    assert not array.any()


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


def _one_step(rows, columns, products, exponents, aside):
    totals = simd.multiply_add(simd.zeros(rows), rows, 3, columns, 1)
    simd.put(totals, aside)
    totals = simd.add(aside, simd.multiply_add(totals, rows, 0, columns, 5))
    simd.multiply(products, 2, totals)
    simd.multiply_and_split(products, exponents, 2, totals)


@pytest.mark.parametrize(("dtype", "integer"), [(np.float32, np.int32), (np.float64, np.int64)])
def test_primitives__compiled_do_what_they_do_in_plain_python(dtype, integer):
    rng = np.random.default_rng(0)
    size = simd.block_rows(np.dtype(dtype).itemsize) * kernels.LANES
    results = []
    for function in (numba.njit(_one_step), _one_step):
        rng = np.random.default_rng(0)
        rows, columns = rng.random(7).astype(dtype), rng.random(kernels.LANES + 5).astype(dtype)
        products = rng.uniform(1, 2, size + 4).astype(dtype) * dtype(2.0**simd.SCALE)
        exponents, aside = np.full(size + 4, 7, integer), np.zeros(size, dtype)
        before = products.copy()
        function(rows, columns, products, exponents, aside)
        results.append((products, exponents, aside))
        inside = slice(2, size + 2)
        assert (products[:2] == before[:2]).all()
        assert (products[-2:] == before[-2:]).all()
        assert (products[inside] >= 2.0**simd.SCALE).all()
        assert (products[inside] < 2.0 ** (simd.SCALE + 1)).all()
    for compiled, plain in zip(*results):
        np.testing.assert_allclose(compiled, plain, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("features", "registers"),
    [
        ({"avx512f", "avx2", "avx"}, (512, 32)),
        ({"avx2", "avx", "fma"}, (256, 16)),
        ({"neon"}, (128, 32)),
        ({"sse2"}, (128, 16)),
    ],
)
def test_vector_registers__follow_the_features(features, registers):
    assert simd.vector_registers(features) == registers


def test_kernels__give_the_same_answers_as_plain_python():
    check = "assert config.DISABLE_JIT and not hasattr(kernels.pack, 'inspect_asm')\n"
    python(SUMS + check, NUMBA_DISABLE_JIT="1")


@pytest.mark.slow
@pytest.mark.skipif("fma" not in simd.cpu_features(), reason="needs an x86 with FMA")
def test_kernels__give_the_same_bytes_on_narrower_registers():
    """AVX2 beside this machine's own: other panels and blocks, the same arithmetic per pair.

    Its panels of 24 models end nowhere near the jobs of 128 rows and the tiles of 256.
    """
    narrow = "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt"
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": narrow}
    assert python(SUMS, "lanes", **other).stdout.startswith("24 ")
    assert python(SUMS, **other).stdout == python(SUMS).stdout
