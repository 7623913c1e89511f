"""Fréchet and soft-minimum distances, from D of the checkpoints."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from trainings import LABELS, N_CLASSES, training

import inpca
from inpca.trajectories import curve_distances, frechet_distance, soft_minimum_distance

BLOCKS = arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.floats(0, 10)
)


def naive_frechet(d):
    @cache
    def leash(i, j):
        if i == 0 and j == 0:
            return d[0, 0]
        before = [
            leash(k, m) for k, m in ((i - 1, j), (i - 1, j - 1), (i, j - 1)) if min(k, m) >= 0
        ]
        return max(d[i, j], min(before))

    return leash(d.shape[0] - 1, d.shape[1] - 1)


def naive_soft(d, w, sigma):
    """The soft minimum of each row, with weights `w` of the columns."""
    kernel = w * np.exp(-d / (2 * sigma**2))
    return (kernel * d).sum(axis=1) / kernel.sum(axis=1)


@given(BLOCKS)
@settings(max_examples=100, deadline=None)
def test_frechet__is_the_recurrence_and_symmetric(d) -> None:
    assert frechet_distance(d) == naive_frechet(d) == frechet_distance(d.T)
    assert max(d[0, 0], d[-1, -1], d.min()) <= frechet_distance(d) <= d.max()


def test_frechet__of_a_run_and_itself_is_0_and_of_a_reversed_one_is_not() -> None:
    d = inpca.pairwise_distances(training(0))
    assert frechet_distance(d) == 0
    assert frechet_distance(d[:, ::-1]) == d[0, -1]


def test_soft_minimum__is_the_mean_over_the_length() -> None:
    rng = np.random.default_rng(0)
    d, u, v = rng.random((3, 4)), rng.random(2), rng.random(3)
    shares_u = np.array([u[0] / 2, u.sum() / 2, u[1] / 2]) / u.sum()
    shares_v = np.array([v[0], v[0] + v[1], v[1] + v[2], v[2]]) / 2 / v.sum()
    forth = shares_u @ naive_soft(d, shares_v, 0.5)
    back = shares_v @ naive_soft(d.T, shares_u, 0.5)
    found = {
        how: soft_minimum_distance(d, u, v, sigma=0.5, symmetry=how)
        for how in ("min", "mean", "max")
    }
    assert np.allclose(found["min"], min(forth, back))
    assert np.allclose(found["mean"], (forth + back) / 2)
    assert np.allclose(found["max"], max(forth, back))


def test_soft_minimum__of_a_run_and_itself_vanishes_with_its_width() -> None:
    d = inpca.pairwise_distances(training(0, 20))
    steps = np.sqrt(np.diagonal(d, 1))
    found = [soft_minimum_distance(d, steps, steps, sigma=sigma) for sigma in (0.2, 0.05, 0.01, 0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    # So small a width that every weight but the nearest is 0 is the nearest alone.
    assert soft_minimum_distance(d, steps, steps, sigma=1e-6) == pytest.approx(0, abs=1e-12)


def test_soft_minimum__of_a_run_that_stands_still_counts_its_checkpoints_alike() -> None:
    assert soft_minimum_distance([[1.0, 3.0], [1.0, 3.0]], [0.0], [0.0], sigma=0) == 1.0


@pytest.fixture(scope="module")
def runs() -> list[np.ndarray]:
    return [training(seed=n, n_checkpoints=6 + n, path=n % 2) for n in range(4)]


@pytest.mark.parametrize("how", ["frechet", "soft_minimum"])
def test_curves__are_those_of_every_pair(runs, how) -> None:
    d = inpca.pairwise_distances(np.concatenate(runs))
    names = np.repeat(["a", "b", "c", "d"], [len(run) for run in runs])
    found_names, found = curve_distances(d, names, how)
    assert list(found_names) == ["a", "b", "c", "d"]
    assert np.array_equal(found, found.T)
    block = d[np.ix_(names == "a", names == "d")]
    steps = [np.sqrt(np.diagonal(d[np.ix_(names == n, names == n)], 1)) for n in "ad"]
    expected = frechet_distance(block)
    if how == "soft_minimum":
        expected = soft_minimum_distance(block, *steps)
    assert np.isclose(found[0, 3], expected, atol=1e-12)
    assert found[0, 2] < found[0, 1]  # of one path


def test_curves__of_a_matrix_on_disk_take_runs_from_its_models(runs, tmp_path, monkeypatch) -> None:
    ensemble = inpca.create_ensemble(
        tmp_path / "e.ensemble", sample_sets={"train": LABELS}, n_classes=N_CLASSES
    )
    for number, run in enumerate(runs):
        ensemble.add_run(f"run-{number}", {"train": run})
    models = ensemble.with_references()
    matrix = inpca.pairwise_distances(models, out=tmp_path / "d.zarr", tile_size=5)
    expected = curve_distances(
        inpca.pairwise_distances(np.concatenate(runs)),
        np.repeat(range(4), [len(run) for run in runs]),
    )[1]
    for rows in (1, 10, 1000):
        monkeypatch.setattr("inpca.geometry.curves._ROWS", rows)
        names, found = curve_distances(matrix)
        assert names == [f"run-{n}" for n in range(4)]
        assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2)), [0, 1], "hausdorff"), "`how` must be one of frechet, soft_minimum"),
        ((np.ones((2, 2)), [0, 0]), "at least 2 runs, not 1"),
        ((np.ones((2, 2)), [0, 1, 2]), "each of the 2 models of `D`, not 3"),
        ((np.ones((2, 2)),), "`runs` must say the run of each model"),
        ((np.ones((2, 3)), [0, 1]), "`D` must be square"),
        ((np.full((2, 2), np.nan), [0, 1]), "`D` must be finite"),
    ],
    ids=["how", "one run", "length", "none", "square", "nan"],
)
def test_curves__refuse_bad_input(arguments, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        curve_distances(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1}, "`sigma` must be a finite number of at least 0, not -1"),
        ({"symmetry": "sum"}, "`symmetry` must be one of min, mean, max, not 'sum'"),
        ({"steps_u": [1.0, 1.0]}, "`steps_u` must be 1 lengths"),
        ({"steps_v": [-1.0]}, "`steps_v` must be 1 lengths, none negative"),
    ],
    ids=["sigma", "symmetry", "length", "negative"],
)
def test_soft_minimum__refuses_bad_input(options, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        soft_minimum_distance(**{"D": np.eye(2), "steps_u": [1.0], "steps_v": [1.0], **options})
