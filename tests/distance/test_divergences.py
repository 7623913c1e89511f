"""Every divergence: oracles, a table of analytic values, identities, floors, names, and all that
the engine promises for the first of them."""

import logging
import math
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
from tight import least_memory

import inpca
from inpca import InputError, pairwise_distances
from inpca.distance import kernels_difference, simd
from inpca.distance.divergences import (
    BHATTACHARYYA,
    DIVERGENCES,
    FLOOR,
    chernoff,
    get_divergence,
    renyi,
)
from inpca.distance.kernels_numba import group_samples
from inpca.distance.simd_differences import add_products, add_squares

METRICS = list(naive.DIVERGENCES)
# Of difference type: right to a few roundings of the distance itself.
RELATIVE = ["jeffreys", "hellinger2", "geodesic", "geodesic2", "euclidean"]
BOUNDED = {
    "hellinger2": 1.0,
    "geodesic": math.pi / 2,
    "geodesic2": math.pi**2 / 4,
    "jensen-shannon": math.log(2),
    "euclidean": 2.0,
}
HIGHEST = 124 * math.log(2)  # −ln p at the floor
DTYPES = [np.float32, np.float64]


def distances(log_p, log_q=None, **options):
    options = {"executor": "serial", **options}
    return pairwise_distances(log_p, log_q, kind="log_probs", **options)


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


# --- oracles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 3, 10, 100])
def test_divergences__agree_with_their_definitions(metric, n_classes, dtype):
    for sharpness in (2, 20):
        log_p = naive.random_models(9, 131, n_classes, sharpness=sharpness).astype(dtype)
        expected = naive.DIVERGENCES[metric](log_p)
        relative = {np.float32: 3e-7, np.float64: 1e-14}[dtype]
        error = np.abs(distances(log_p, metric=metric) - expected).max()
        assert error < relative * max(1.0, expected.max())


def near_copies(n_classes, step, dtype):
    noise = np.random.default_rng(0).normal(size=(6, 500, n_classes)) * step
    logits = naive.random_models(1, 500, n_classes) + noise
    return (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))).astype(dtype)


@pytest.mark.parametrize("metric", [*RELATIVE, "jensen-shannon"])
@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_divergences__of_near_copies_keep_their_digits(metric, n_classes, dtype):
    """ln p is given to 1e-7, the copies differ by 1e-3: the difference is known to 1e-4."""
    log_p = near_copies(n_classes, 1e-3, dtype)
    expected = naive.DIVERGENCES[metric](log_p)
    assert expected.max() < 1e-3
    error = np.abs(distances(log_p, metric=metric) - expected).max() / expected.max()
    assert error < (1e-4 if dtype == np.float32 else 1e-7)


@pytest.mark.parametrize("metric", ["bhattacharyya", "chernoff:0.3", "renyi:0.8"])
def test_divergences__made_of_logarithms_err_by_roundings_of_one(metric):
    log_p = near_copies(10, 1e-3, np.float32)
    error = np.abs(distances(log_p, metric=metric) - naive.DIVERGENCES[metric](log_p)).max()
    assert error < 1e-7


def test_divergences__of_x_and_y_are_the_block_of_all(metric, dtype):
    log_p = naive.random_models(30, 50, 10).astype(dtype)
    d = distances(log_p, metric=metric)
    assert (distances(log_p[:11], log_p[11:], metric=metric) == d[:11, 11:]).all()
    other = distances(log_p[11:], log_p[:11], metric=metric, tile_size=4)
    assert (other == d[11:, :11]).all()


# --- a table of analytic values -----------------------------------------------------------------


def entropy(*p):
    return -sum(x * math.log(x) for x in p if x > 0)


def bernoulli(metric, p, q):
    """Closed forms for two models of one sample, (p, 1 − p) and (q, 1 − q)."""
    a = math.sqrt(p * q) + math.sqrt((1 - p) * (1 - q))
    family, _, order = metric.partition(":")
    if order:
        t = float(order)
        left = p**t * q ** (1 - t) + (1 - p) ** t * (1 - q) ** (1 - t)
        right = p ** (1 - t) * q**t + (1 - p) ** (1 - t) * (1 - q) ** t
        return -math.log(left * right) / 2 / (1 - t if family == "renyi" else 1)
    middle = (p + q) / 2
    return {
        "bhattacharyya": -math.log(a),
        "jeffreys": (p - q) * math.log(p * (1 - q) / (q * (1 - p))),
        "hellinger2": 1 - a,
        "geodesic": math.acos(a),
        "geodesic2": math.acos(a) ** 2,
        "jensen-shannon": entropy(middle, 1 - middle) - (entropy(p, 1 - p) + entropy(q, 1 - q)) / 2,
        "euclidean": 2 * (p - q) ** 2,
    }[metric]


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.9), (0.2, 0.7), (0.01, 0.99), (0.3, 0.31)])
def test_divergences__of_bernoulli_models_have_closed_forms(metric, p, q):
    models = np.array([[[p, 1 - p]], [[q, 1 - q]]])
    d = pairwise_distances(models, metric=metric, executor="serial")[0, 1]
    assert d == pytest.approx(bernoulli(metric, p, q), rel=1e-12)


def ignorance_and_truth(metric, c):
    """From the uniform prediction to a one-hot one."""
    half, angle = math.log(c) / 2, math.acos(c**-0.5)
    mixed = [(1 + 1 / c) / 2, *[1 / (2 * c)] * (c - 1)]
    return {
        "bhattacharyya": half,
        "chernoff:0.3": half,
        "renyi:0.8": half / 0.2,
        "jeffreys": (1 - 1 / c) * HIGHEST,
        "hellinger2": 1 - c**-0.5,
        "geodesic": angle,
        "geodesic2": angle**2,
        "jensen-shannon": entropy(*mixed) - math.log(c) / 2,
        "euclidean": 1 - 1 / c,
    }[metric]


@pytest.mark.parametrize("n_classes", [2, 10, 100])
def test_divergences__from_ignorance_to_truth_have_closed_forms(metric, n_classes, dtype):
    truth = naive.truth(np.arange(57) % n_classes, n_classes)
    models = np.concatenate([naive.ignorance(57, n_classes), truth]).astype(dtype)
    relative = {np.float32: 1e-6, np.float64: 1e-13}[dtype]
    d = distances(models, metric=metric)[0, 1]
    assert d == pytest.approx(ignorance_and_truth(metric, n_classes), rel=relative)


@pytest.mark.parametrize("metric", [*BOUNDED, "jeffreys"])
def test_divergences__of_models_without_overlap_are_the_largest(metric, dtype):
    one_hot = [naive.truth(np.full(20, label), 4) for label in (0, 3)]
    d = distances(np.concatenate(one_hot).astype(dtype), metric=metric)[0, 1]
    largest = {**BOUNDED, "jeffreys": 2 * HIGHEST}[metric]
    assert d == pytest.approx(largest, rel=1e-6 if dtype == np.float32 else 1e-15)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_geodesic__of_points_on_a_geodesic_is_a_toeplitz_matrix(power, n_classes, dtype):
    t = np.linspace(0, 1, 9)
    start = np.full((13, n_classes), 1 / n_classes)
    end = np.eye(n_classes)[np.arange(13) % n_classes]
    points = np.stack([naive.geodesic(start, end, s) for s in t]).astype(dtype)
    d = pairwise_distances(points, metric="geodesic2" if power == 2 else "geodesic")
    expected = (np.abs(t[:, None] - t) * math.acos(n_classes**-0.5)) ** power
    bound = {np.float32: 5e-7, np.float64: 1e-13}[dtype]  # ln p of a float32 p
    np.testing.assert_allclose(d, expected, rtol=0, atol=bound)


# --- identities ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    metric=st.sampled_from(METRICS),
    shape=st.tuples(st.integers(2, 9), st.integers(1, 70), st.sampled_from([2, 3, 10, 70])),
    sharpness=st.floats(0.1, 100),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
)
def test_divergences__are_symmetric_and_zero_for_the_same_model(
    metric, shape, sharpness, seed, dtype
):
    log_p = naive.random_models(*shape, seed=seed, sharpness=sharpness).astype(dtype)
    d = distances(np.concatenate([log_p, log_p]), metric=metric)
    m = len(log_p)
    assert (d == d.T).all()
    assert (d[:m, :m] == d[m:, m:]).all()
    assert (d[:m, :m] == d[:m, m:]).all()
    assert not np.diagonal(d).any()
    assert d.min() >= (0 if metric in RELATIVE else -1e-7)
    assert d.max() <= BOUNDED.get(metric, np.inf) * (1 + 1e-6)


def test_divergences__of_identical_models_are_exactly_zero_wherever_they_sit(metric):
    log_p = naive.random_models(300, 35, 3).astype(np.float32)
    twins = [0, 1, 63, 64, 130, 255, 256, 299]
    log_p[twins] = log_p[3]
    for tile_size in (100, 256):
        d = distances(log_p, metric=metric, tile_size=tile_size)
        assert not d[np.ix_(twins, twins)].any()


@pytest.mark.parametrize("metric", ["jeffreys", "geodesic", "jensen-shannon", "chernoff:0.3"])
def test_divergences__do_not_depend_on_threads_blocks_slabs_or_tiles(metric, dtype):
    log_p = naive.random_models(290, 1101, 3).astype(dtype)
    reference = distances(log_p, metric=metric)
    plan = {"stored": False, "dtype": dtype, "n_workers": 2}
    memory = least_memory(log_p.shape, divergence=get_divergence(metric), **plan)
    d, info = distances(log_p, metric=metric, memory=memory, executor=2, return_info=True)
    assert len(info.plan.blocks) > 1
    assert len(info.plan.slabs) > 1
    assert (d == reference).all()
    assert (distances(log_p, metric=metric, tile_size=17) == reference).all()


def test_chernoff__at_one_half_is_bhattacharyya_and_twice_that_renyi(dtype):
    log_p = naive.random_models(8, 60, 10, sharpness=5).astype(dtype)
    d = distances(log_p)
    assert np.abs(distances(log_p, metric="chernoff:0.5") - d).max() < 1e-15
    assert np.abs(distances(log_p, metric="renyi:0.5") - 2 * d).max() < 1e-15


def test_chernoff__is_the_same_for_alpha_and_one_minus_alpha():
    log_p = naive.random_models(8, 60, 10)
    d = distances(log_p, metric="chernoff:0.3")
    np.testing.assert_allclose(distances(log_p, metric="chernoff:0.7"), d, rtol=1e-12)


def test_renyi__of_order_near_one_is_nearly_half_of_jeffreys():
    log_p = naive.random_models(8, 60, 10, sharpness=0.3)
    half = distances(log_p, metric="jeffreys") / 2
    np.testing.assert_allclose(distances(log_p, metric="renyi:0.99"), half, rtol=0.02)


def test_divergences__of_near_models_are_multiples_of_one_another():
    """All of them measure ds² of the Fisher metric, but the geodesic itself and the Euclidean."""
    log_p = near_copies(10, 1e-3, np.float64)
    fisher = 8 * distances(log_p)
    factors = {"jeffreys": 1, "hellinger2": 1 / 8, "geodesic2": 1 / 4, "jensen-shannon": 1 / 8}
    factors |= {"chernoff:0.3": 0.3 * 0.7 / 2, "renyi:0.8": 0.8 / 2}
    for metric, factor in factors.items():
        np.testing.assert_allclose(distances(log_p, metric=metric), factor * fisher, rtol=1e-2)


@pytest.mark.parametrize("metric", ["hellinger2", "geodesic", "jensen-shannon", "euclidean"])
def test_divergences__that_are_squared_euclidean_have_no_time_like_direction(metric):
    log_p = naive.random_models(12, 40, 4)
    values = np.linalg.eigvalsh(naive.centred(distances(log_p, metric=metric)))
    assert values.min() > -1e-13
    assert values.max() > 0.01


def test_jeffreys__of_bernoulli_models_with_one_sample_has_one_sign_of_each():
    p = np.random.default_rng(0).uniform(0.02, 0.98, 20)
    models = np.stack([p, 1 - p], axis=-1)[:, None]
    embedding = inpca.InPCA(n_components=4, metric="jeffreys", executor="serial").fit(models)
    assert sorted(np.sign(embedding.eigenvalues_[:2])) == [-1, 1]
    assert np.abs(embedding.eigenvalues_[2:]).max() < 1e-13 * np.abs(embedding.eigenvalues_[0])


# --- floors -------------------------------------------------------------------------------------


def with_zeros(dtype):
    log_p = naive.random_models(20, 70, 3, sharpness=60)
    log_p[::5] = -np.inf
    log_p[::5, :, 1] = 0
    log_p[5, ::2] = log_p[1, ::2]
    return log_p.astype(dtype)


def test_jeffreys__counts_probabilities_that_one_model_alone_has_at_the_floor(dtype, caplog):
    log_p = with_zeros(dtype)
    with caplog.at_level(logging.WARNING, logger="inpca.distance"):
        d, info = distances(log_p, metric="jeffreys", return_info=True, tile_size=17)
    assert 0 < info.floored == naive.one_sided(log_p) < 70 * 190
    assert f"{info.floored} of" in caplog.text
    assert "counts as 5e-38" in caplog.text
    np.testing.assert_allclose(d, naive.jeffreys(log_p), rtol=1e-6)
    _, info = distances(log_p[:11], log_p[11:], metric="jeffreys", return_info=True)
    assert info.floored == naive.one_sided(log_p[:11], log_p[11:])


@pytest.mark.parametrize("metric", list(BOUNDED))
def test_divergences__without_logarithms_of_zero_floor_nothing(metric, dtype, caplog):
    log_p = with_zeros(dtype)
    with caplog.at_level(logging.WARNING, logger="inpca.distance"):
        d, info = distances(log_p, metric=metric, return_info=True)
    assert info.floored == 0
    assert not caplog.text
    np.testing.assert_allclose(d, naive.DIVERGENCES[metric](log_p), rtol=0, atol=1e-6)


def test_chernoff__counts_the_affinities_that_the_floor_caps(dtype):
    log_p = with_zeros(dtype)
    d, info = distances(log_p, metric="chernoff:0.3", return_info=True)
    np.testing.assert_allclose(d, naive.chernoff(log_p, alpha=0.3), rtol=0, atol=1e-5)
    assert info.floored > 0
    _, half = distances(log_p, metric="chernoff:0.5", return_info=True)
    assert half.floored == 2 * naive.floored(log_p)  # f_u with g_v, and g_u with f_v


# --- the kernels, compiled and not ---------------------------------------------------------------


SUMS = """
import numpy as np, naive
from inpca.distance import kernels_numba as kernels
from inpca.distance.divergences import get_divergence
from inpca.distance.reductions_numba import PANEL_KERNELS
for n_classes, dtype, bound in ((3, np.float32, 1e-6), (70, np.float32, 1e-6), (5, float, 1e-13)):
    log_p = naive.random_models(9, 6, n_classes, sharpness=9).astype(dtype)
    log_p[0] = naive.truth(np.arange(6) % n_classes, n_classes)[0]
    for name in naive.DIVERGENCES:
        divergence = get_divergence(name)
        features = divergence.all_features
        shape = kernels.packed_shape(*log_p.shape)
        panels = kernels.allocate((len(features), *shape), dtype)
        flags = np.zeros((len(features), 6, shape[0] * kernels.LANES), np.uint8)
        floors = np.array([-np.inf if f.floor is None else f.floor for f in features], dtype)
        for k, feature in enumerate(features):
            kernels.pack(feature(log_p, np), 0, panels[k], flags[k], floors[k])
        kernel, sums, part = PANEL_KERNELS[divergence.reduction], np.zeros((9, 9)), (0, 9, 0, 9)
        kernel.add(panels, panels, part, 6, divergence.weight, sums)
        own = np.diagonal(sums)
        d = ((own[:, None] + own) / 2 - sums) / 6
        np.testing.assert_allclose(d, naive.DIVERGENCES[name](log_p), rtol=bound, atol=bound)
        if kernel.count is not None:
            found = kernel.count(panels, panels, flags, flags, part, 6, True, floors)
            print(name, found)
        print(name, sums.tobytes().hex())
"""


def python(code, **variables):
    environment = os.environ | variables | {"PYTHONPATH": str(Path(naive.__file__).parent)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def test_divergences__in_plain_python_are_those_of_the_definition():
    lines = python(SUMS, NUMBA_DISABLE_JIT="1").stdout
    log_p = naive.random_models(9, 6, 3, sharpness=9).astype(np.float32)
    log_p[0] = naive.truth(np.arange(6) % 3, 3)[0]
    assert f"jeffreys {naive.one_sided(log_p)}\n" in lines


@pytest.mark.slow
@pytest.mark.skipif("fma" not in simd.cpu_features(), reason="needs an x86 with FMA")
def test_divergences__give_the_same_bytes_on_narrower_registers():
    narrow = "+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt"
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": narrow}
    assert python(SUMS, **other).stdout == python(SUMS).stdout


@given(st.integers(2, 100_000), st.sampled_from([4, 8]))
def test_stretches_and_chunks__divide_a_slab(n_classes, itemsize):
    stretch = kernels_difference.stretch_samples(n_classes)
    chunk = kernels_difference.chunk_samples(n_classes, itemsize)
    group = group_samples(n_classes)
    assert chunk % stretch == 0
    assert group % chunk == 0


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 4e-15)])
def test_angle_coefficients__give_the_squared_arc_cosine(dtype, bound):
    h = np.linspace(0, 2, 5001)
    angle = 2 * np.arcsin(np.sqrt(h) / 2)
    coefficients = kernels_difference.angle_coefficients(dtype)
    found = h.astype(dtype) * np.polyval(np.array(coefficients), h.astype(dtype) - dtype(1))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, angle**2, rtol=bound)


def _two_steps(rows, columns, other_rows, other_columns, aside):
    totals = add_squares(simd.zeros(rows), rows, 3, columns, 1)
    totals = add_products(totals, rows, 0, columns, 5, other_rows, other_columns)
    simd.put(totals, aside)


@pytest.mark.parametrize("dtype", DTYPES)
def test_primitives__compiled_do_what_they_do_in_plain_python(dtype):
    rng = np.random.default_rng(0)
    rows, others = rng.random((2, 7)).astype(dtype)
    columns, more = rng.random((2, simd.LANES + 5)).astype(dtype)
    results = []
    for function in (numba.njit(_two_steps), _two_steps):
        aside = np.zeros(simd.block_rows(rows.itemsize) * simd.LANES, dtype)
        function(rows, columns, others, more, aside)
        results.append(aside)
    np.testing.assert_allclose(*results, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*DIVERGENCES, "chernoff:0.3", "renyi:0.99"])
def test_get_divergence__finds_what_a_divergence_calls_itself(name):
    assert get_divergence(name).name == name
    assert get_divergence(name).equation.startswith("D_uv = ")


def test_get_divergence__reads_the_order_in_any_spelling():
    assert get_divergence("chernoff:.30").name == chernoff(0.3).name == "chernoff:0.3"
    assert get_divergence("renyi: 5e-1").name == renyi(0.5).name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cosine", r"must be one of bhattacharyya, jeffreys, .*, renyi:α, not 'cosine'"),
        ("jefreys", "did you mean 'jeffreys'"),
        ("Hellinger2", "did you mean 'hellinger2'"),
        ("chernof:0.3", "did you mean 'chernoff:α'"),
        ("chernoff", "'chernoff' lacks the order: .* such as 'chernoff:0.3'"),
        ("renyi:half", "'renyi:half' lacks the order"),
        ("chernoff:1", r"order α in 0.01 … 0.99, not 1.0; .* 'jeffreys'"),
        ("renyi:1", "order α in"),
        ("renyi:nan", "order α in"),
        ("chernoff:-0.2", "order α in"),
        (None, "not None"),
        (0.5, "not 0.5"),
    ],
    ids=str,
)
def test_pairwise_distances__refuse_a_metric_that_is_none(name, message):
    with pytest.raises(InputError, match=message):
        pairwise_distances(np.full((3, 4, 2), 0.5), metric=name)


def test_inpca__names_precomputed_among_the_metrics():
    with pytest.raises(InputError, match=r"one of bhattacharyya, .*, precomputed, not 'cosine'"):
        inpca.InPCA(metric="cosine").fit(np.full((4, 3, 2), 0.5))
    with pytest.raises(InputError, match="did you mean 'precomputed'"):
        inpca.InPCA(metric="precomputd").fit(np.zeros((4, 4)))


# --- tiles on disk, resume, growth, parts, embeddings -------------------------------------------


STORED = ["jeffreys", "geodesic2", "jensen-shannon", "chernoff:0.3"]


@pytest.mark.parametrize("metric", STORED)
def test_stored_divergences__resume_extend_and_take_parts(metric, tmp_path):
    log_p = naive.random_models(60, 40, 3, sharpness=9).astype(np.float32)
    log_p[7] = naive.truth(np.arange(40) % 3, 3)[0]
    options = {"metric": metric, "out": tmp_path / "d.zarr", "tile_size": 16}
    whole, info = distances(log_p, metric=metric, return_info=True)
    first = distances(log_p[:40], part="1/2", **options)
    assert not first.complete
    distances(log_p[:40], **options)
    matrix, grown = distances(log_p, extend=True, return_info=True, **options)
    assert matrix.attrs["metric"] == metric
    assert matrix.attrs["unit"] == get_divergence(metric).unit
    assert grown.floored == matrix.attrs["floored"] == info.floored
    assert (matrix.to_array() == whole.astype(np.float32)).all()
    matrix.remove_tile((0, 2))
    again, info = distances(log_p, return_info=True, **options)
    assert info.plan.n_tiles == 1
    assert (again.to_array() == whole.astype(np.float32)).all()


def test_stored_divergences__go_on_with_another_spelling_and_refuse_another_order(tmp_path):
    log_p = naive.random_models(9, 20, 3)
    path = tmp_path / "d.zarr"
    distances(log_p, metric="chernoff:0.3", out=path)
    _, info = distances(log_p, metric="chernoff:.30", out=path, return_info=True)
    assert info.plan.n_tiles == 0
    with pytest.raises(InputError, match=r"metric chernoff:0.3 instead of chernoff:0.4"):
        distances(log_p, metric="chernoff:0.4", out=path)


@pytest.mark.parametrize("metric", STORED)
def test_inpca__of_any_divergence_projects_its_models_onto_themselves(metric, tmp_path):
    models = np.exp(naive.random_models(25, 30, 4, seed=2))
    embedding = inpca.InPCA(n_components=3, metric=metric, executor="serial").fit(models)
    expected = naive.embedding(naive.DIVERGENCES[metric](np.log(models)), 3)[1][:3]
    np.testing.assert_allclose(embedding.eigenvalues_, expected, rtol=1e-9)
    embedding.save(tmp_path / "e.zarr")
    again = inpca.load_embedding(tmp_path / "e.zarr", training=models)
    assert again.metric == metric
    for fitted in (embedding, again):
        placed = fitted.transform(models[:5])
        np.testing.assert_allclose(placed, embedding.embedding_[:5], rtol=0, atol=1e-9)


def test_features__of_bhattacharyya_are_those_of_its_floor():
    assert BHATTACHARYYA.features.floor == FLOOR
    assert BHATTACHARYYA.all_features == (BHATTACHARYYA.features,)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_classes", [129, 1000, 20_000])
def test_divergences__of_many_classes_are_as_exact_as_of_few(metric, n_classes):
    """Ignorance, the worst case of a sum over classes, beside models that are sure of something."""
    log_p = naive.random_models(4, 2, n_classes, sharpness=4)
    log_p[0] = -np.log(n_classes)
    expected, found = (
        distances(log_p.astype(dtype), metric=metric, executor=1)
        for dtype in (np.float64, np.float32)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
