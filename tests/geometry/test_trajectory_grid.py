"""The values that runs are compared at, and what is said of runs that miss them."""

import re

import numpy as np
import pytest
from scipy.integrate import trapezoid
from trainings import LABELS, N_CLASSES, training

import inpca
from inpca.trajectories import (
    distances_to_geodesic,
    load_trajectory_distances,
    locate,
    trajectory_distances,
    tube_widths,
)


@pytest.fixture
def runs() -> list[np.ndarray]:
    """Three runs of different lengths; the last one ends half way."""
    whole = [training(seed, 6 + seed, seed % 2) for seed in range(3)]
    return [*whole[:2], whole[2][:4]]


@pytest.fixture
def ensemble(tmp_path, runs) -> inpca.Ensemble:
    """The same runs on disk, a checkpoint at each epoch; the second starts at epoch 1."""
    made = inpca.create_ensemble(
        tmp_path / "e.ensemble", sample_sets={"train": LABELS}, n_classes=N_CLASSES
    )
    for number, run in enumerate(runs):
        epoch = np.arange(len(run)) + (number == 1)
        config = {"architecture": "ab"[number % 2], "seed": number}
        made.add_run(f"run-{number}", {"train": run}, epoch=epoch, config=config)
    return inpca.open_ensemble(made.path)


# -- runs that do not reach a value ---------------------------------------------------------------


def test_tubes_and_geodesic__say_which_values_each_run_reaches(runs) -> None:
    ends = [inpca.progress(run, LABELS).max() for run in runs]
    s = np.linspace(0, 1, 5)
    expected = s <= np.array(ends)[:, None]
    configs = [{"a": 0}, {"a": 1}, {"a": 0}]
    tube = tube_widths(runs, "a", 5, labels=LABELS, configs=configs)
    along = distances_to_geodesic(runs, 5, labels=LABELS)
    for found in (tube, along):
        assert np.array_equal(found.reached, expected)
        assert np.array_equal(found.outside, (~expected).sum(axis=1))
        assert found.backwards.tolist() == [0, 0, 0]
        assert "3 that do not reach every value" in repr(found)
    assert np.array_equal(tube.share_reached, [expected[[0, 2]].mean(axis=0), expected[1]])
    assert np.isclose(along.integrated[0], trapezoid(along.distances[0], s))  # held ones count


def test_a_run_that_falls__goes_backwards_in_all_its_steps(runs, caplog) -> None:
    back = runs[0][:0:-1]
    found = trajectory_distances([runs[0], runs[1], back], 5, labels=LABELS)
    assert found.backwards.tolist() == [0, 0, len(back) - 1]
    assert "progress runs backwards in some steps of 1 of 3 runs (2)" in caplog.text
    assert "1 with steps backwards" in repr(found)
    along = distances_to_geodesic([runs[0], back], 5, labels=LABELS)
    assert along.backwards.tolist() == [0, len(back) - 1]


def test_locate__takes_the_direction_that_it_is_told() -> None:
    falling = [0.9, 0.5, 0.6, 0.1]
    assert locate(falling, [0.5]).n_backwards == 1
    assert locate(falling, [0.5], rising=True).n_backwards == 2
    assert locate(falling, [0.5, 0.05]).reached.tolist() == [True, False]


# -- the values -----------------------------------------------------------------------------------


def test_values__may_come_in_any_order_which_is_kept(runs) -> None:
    up = trajectory_distances(runs, [0.1, 0.4, 0.5], labels=LABELS)
    mixed = trajectory_distances(runs, [0.5, 0.1, 0.4], labels=LABELS)
    assert mixed.s.tolist() == [0.5, 0.1, 0.4]
    assert np.allclose(mixed.by_s, up.by_s[:, :, [2, 0, 1]], atol=1e-15)
    assert np.allclose(mixed.integrated, up.integrated, atol=1e-15)
    mean = trapezoid(up.by_s, up.s, axis=-1) / 0.4  # over what `s` spans
    assert np.allclose(up.integrated, mean, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s": [0.1, 0.5, 0.1]}, "`s` must be different values, but 0.1 is there 2 times"),
        ({"s": [0.1, 0.5], "span": (0.1, None)}, "`span` goes with a number of values"),
        ({"s": 3, "span": (0.5, 0.2)}, "a smaller and a larger value .* not 0.5 and 0.2"),
        ({"s": 3, "span": (0.5, 2)}, r"`s` must be in \[0, 1\], what runs can reach"),
        ({"s": ["a"]}, "`s` must be numbers"),
    ],
    ids=["twice", "both", "order", "far", "text"],
)
def test_values__that_are_none_are_refused(runs, options, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        trajectory_distances(runs, labels=LABELS, **options)


def test_span__is_the_range_of_the_values(runs) -> None:
    found = trajectory_distances(runs, 3, labels=LABELS, span=(0.1, 0.5))
    assert np.allclose(found.s, [0.1, 0.3, 0.5])
    assert trajectory_distances(runs, 3, labels=LABELS, span=(0.5, None)).s[-1] == 1


def test_a_column__is_compared_over_what_all_runs_reach(ensemble, runs) -> None:
    found = trajectory_distances(ensemble, 3, index="epoch")
    assert found.s.tolist() == [1, 2, 3]
    assert not found.outside.any()
    at_2 = np.stack([run[2 - (number == 1)] for number, run in enumerate(runs)])
    assert np.allclose(found.at(1), inpca.pairwise_distances(at_2), atol=1e-6)
    longer = trajectory_distances(ensemble, 3, index="epoch", span=(None, 5))
    assert longer.s.tolist() == [1, 3, 5]
    assert longer.outside.tolist() == [0, 0, 1]
    given = trajectory_distances(ensemble, [6.0, 2.0], index="epoch")
    assert given.outside.tolist() == [1, 0, 1]
    with pytest.raises(inpca.InputError, match=r"`s` must be in \[0, 7\]"):
        trajectory_distances(ensemble, [8.0], index="epoch")


def test_a_column__without_a_shared_range_needs_one_to_be_named(runs) -> None:
    apart = [np.arange(len(run)) + 100 * number for number, run in enumerate(runs)]
    with pytest.raises(inpca.InputError, match="the runs share no range of values"):
        trajectory_distances(runs, 3, index=apart)
    assert len(trajectory_distances(runs, 3, index=apart, span=(0, 200)).s) == 3


def test_a_column__is_not_stretched_and_names_no_point_of_the_geodesic(ensemble, runs) -> None:
    with pytest.raises(inpca.InputError, match="must not be 'stretch' for the epoch of run"):
        trajectory_distances(ensemble, 3, index="epoch", outside="stretch")
    with pytest.raises(inpca.InputError, match="must be 'progress' for distances to the geodesic"):
        distances_to_geodesic(ensemble, 3, index="train_error")
    epochs = [np.arange(len(run)) for run in runs]
    with pytest.raises(inpca.InputError, match=r"`s` must be in \[0, 1\]"):
        distances_to_geodesic(runs, 3, index=epochs, labels=LABELS)


def test_an_error_about_a_run__names_it(ensemble) -> None:
    with pytest.raises(inpca.InputError, match=r"the progress of run 'run-0' reaches.*--outside"):
        trajectory_distances(ensemble, 3, outside="error")


# -- groups and what is on disk -------------------------------------------------------------------


def test_tube__of_runs_without_settings_is_one(runs) -> None:
    tube = tube_widths(runs, None, 3, labels=LABELS)
    assert tube.groups.index.tolist() == ["all"]
    assert tube.groups["n_runs"].tolist() == [3]
    assert np.allclose(tube.widths[0], tube.distances.mean(axis=0))


def test_stored_averages__are_no_runs(ensemble) -> None:
    before = trajectory_distances(ensemble, 3), tube_widths(ensemble, "architecture", 3)
    inpca.average_groups(ensemble, ["architecture", "epoch"])
    whole = inpca.open_ensemble(ensemble.path)
    after = trajectory_distances(whole, 3), tube_widths(whole, "architecture", 3)
    assert np.array_equal(before[0].by_s, after[0].by_s)
    assert np.array_equal(before[1].widths, after[1].widths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"s": 4}, "3 values of s from 0 to 1 instead of 4 values of s from 0 to 1"),
        ({"span": (0.2, None)}, "instead of 3 values of s from 0.2 to 1"),
        ({"outside": "stretch"}, "outside 'hold' instead of 'stretch'"),
        ({"metric": "jeffreys"}, "metric 'bhattacharyya' instead of 'jeffreys'"),
    ],
    ids=["number", "span", "outside", "metric"],
)
def test_out__says_what_is_different(ensemble, tmp_path, options, message) -> None:
    out = tmp_path / "t.zarr"
    trajectory_distances(ensemble, 3, out=out)
    assert load_trajectory_distances(out).outside.any()
    cures = r".*\(--restart\).*\(--name\)"
    with pytest.raises(inpca.InputError, match=re.escape(message) + cures):
        trajectory_distances(ensemble, **{"s": 3, "out": out} | options)


def test_out__names_the_runs_that_are_others(ensemble, tmp_path) -> None:
    out = tmp_path / "t.zarr"
    trajectory_distances(ensemble.select("run != 'run-1'"), 3, out=out)
    with pytest.raises(inpca.InputError, match=r"1 of the runs now asked for .* 'run-1' first"):
        trajectory_distances(ensemble, 3, out=out)
    with pytest.raises(inpca.InputError, match=r"1 of the runs in it are not .* 'run-0' first"):
        trajectory_distances(ensemble.select("run != 'run-0'"), 3, out=out)
