"""One run as a curve: re-indexed in progress, and its length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import training

import inpca
from inpca.geometry.reindexed import blend
from inpca.trajectories import locate, step_lengths, trajectory_length

UNIFORM = np.linspace(0, 1, 9)


@pytest.fixture
def ends() -> np.ndarray:
    """Two models (2, 7, 4) of probabilities."""
    return np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 7))


# -- where on a run -------------------------------------------------------------------------------


@given(
    progress=st.lists(st.floats(0, 1), min_size=2, max_size=8),
    s=st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
@settings(max_examples=200, deadline=None)
def test_locate__is_where_the_polyline_first_has_the_value_or_is_nearest(progress, s) -> None:
    found = locate(progress, s)
    values = np.asarray(progress)
    following = np.append(values[1:], 0)[found.left]
    there = (1 - found.fraction) * values[found.left] + found.fraction * following
    reached = (values.min() <= s) & (s <= values.max())
    expected = np.where(reached, s, np.clip(s, values.min(), values.max()))
    assert np.allclose(there, expected, atol=1e-12)
    assert ((found.fraction >= 0) & (found.fraction < 1)).all()
    assert found.n_outside == (~reached).sum()
    for left, fraction, value in zip(found.left, found.fraction, s):
        before = values[: left + 1]  # nothing earlier passes the value
        if fraction > 0 and len(before) > 1:
            low, high = np.minimum(before[:-1], before[1:]), np.maximum(before[:-1], before[1:])
            assert not ((low <= value) & (value <= high)).any()


def test_locate__takes_the_first_passage_of_progress_that_runs_backwards_and_counts() -> None:
    found = locate([0.0, 0.6, 0.2, 1.0], [0.3, 0.6, 0.9])
    assert found.left.tolist() == [0, 1, 2]
    assert np.allclose(found.fraction, [0.5, 0.0, 0.875])
    assert found.n_backwards == 1


def test_locate__follows_a_column_that_falls() -> None:
    found = locate([0.9, 0.5, 0.1], [0.7, 0.1])
    assert found.left.tolist() == [0, 2]
    assert found.n_backwards == 0


def test_locate__stretches_the_end_as_the_published_code_does() -> None:
    found = locate([0.1, 0.5, 0.8], [0.05, 0.75, 1.0], "stretch")
    assert found.left.tolist() == [0, 1, 2]
    assert np.allclose(found.fraction, [0, 0.5, 0])
    assert found.n_outside == 1


def test_locate__refuses_what_is_not_reached_if_told_to() -> None:
    with pytest.raises(inpca.InputError, match=r"what the progress reaches, 0\.1 … 0\.8"):
        locate([0.1, 0.8], [0.5, 0.9], "error")


# -- re-indexing ----------------------------------------------------------------------------------


def test_reindex__puts_points_on_the_geodesic(ends) -> None:
    curve = inpca.reindex(ends, [0.2, 0.6], [0.2, 0.3, 0.6])
    assert np.allclose(curve, inpca.geodesic(*ends, [0, 0.25, 1]), atol=1e-14)


def test_reindex__of_a_uniform_geodesic_changes_nothing(ends) -> None:
    curve = inpca.geodesic(*ends, UNIFORM)
    assert np.allclose(inpca.reindex(curve, UNIFORM, UNIFORM), curve, atol=1e-14)
    assert np.allclose(inpca.reindex(curve[::2], UNIFORM[::2], UNIFORM), curve, atol=1e-12)


@pytest.mark.parametrize("kind", ["probs", "log_probs", "logits", "sqrt_probs"])
def test_reindex__gives_back_the_kind_it_takes(ends, kind) -> None:
    given_as = {"probs": ends, "sqrt_probs": np.sqrt(ends)}.get(kind, np.log(ends))
    curve = inpca.reindex(given_as, [0, 1], [0.5], kind=kind)
    expected = inpca.geodesic(*ends, [0.5])
    expected = {"probs": expected, "sqrt_probs": np.sqrt(expected)}.get(kind, np.log(expected))
    assert np.allclose(curve, expected, atol=1e-12)


def test_reindex__of_one_value_is_one_model(ends) -> None:
    assert inpca.reindex(ends, [0, 1], 0.5).shape == (7, 4)


def test_reindex__holds_the_nearest_checkpoint_outside(ends) -> None:
    curve = inpca.reindex(ends, [0.2, 0.6], [0.0, 1.0])
    assert np.allclose(curve, ends)


def test_reindex__says_how_often_progress_runs_backwards(ends, caplog) -> None:
    run = np.concatenate([ends, ends])
    _, info = inpca.reindex(run, [0.0, 0.6, 0.2, 1.0], [0.5], return_info=True)
    assert info.n_backwards == 1
    assert "backwards in 1 of 3 steps" in caplog.text


@pytest.mark.parametrize(
    ("run", "progress", "s", "message"),
    [
        (1, [0.5], [0.5], "at least 2 checkpoints, not 1"),
        (2, [0.0, 1.0], [0.5, 1.5], r"must be in \[0, 1\].*not 1.5"),
        (2, [0.0, np.nan], [0.5], "must be finite, but is nan at checkpoint 1"),
        (2, [0.0, 0.5, 1.0], [0.5], "one value per checkpoint, 2, not 3"),
        (2, [0.0, 1.0], [], r"shape \(n_values ≥ 1,\)"),
    ],
    ids=["one checkpoint", "outside", "nan", "lengths", "empty"],
)
def test_reindex__refuses_bad_input(ends, run, progress, s, message) -> None:
    with pytest.raises(inpca.InputError, match=message):
        inpca.reindex(ends[:run], progress, s)


def test_blend__is_the_geodesic_compiled(ends) -> None:
    roots = np.sqrt(ends)
    out = np.empty_like(roots[0])
    blend(*roots, 0.3, out)
    assert np.allclose(out**2, inpca.geodesic(*ends, 0.3), atol=1e-14)
    blend(roots[0], roots[0], 0.3, out)
    assert np.allclose(out, roots[0], atol=1e-15)
    blend(np.eye(2), np.eye(2)[::-1].copy(), 0.5, wide := np.empty((2, 2)))
    assert np.allclose(wide**2, 0.5)


# -- lengths --------------------------------------------------------------------------------------


def test_length__of_a_geodesic_is_the_distance_of_its_ends(ends) -> None:
    curve = inpca.geodesic(*ends, UNIFORM)
    angle = np.arccos(np.sqrt(ends[0] * ends[1]).sum(axis=-1)).mean()
    assert np.isclose(trajectory_length(curve), angle, atol=1e-12)
    assert np.isclose(trajectory_length(curve[[0, -1]]), angle, atol=1e-12)


def test_length__of_roots_is_made_of_the_bhattacharyya_distance() -> None:
    run = training(0)
    distances = np.diagonal(inpca.pairwise_distances(run), 1)
    steps = step_lengths(run, of="root")
    assert np.allclose(steps**2, distances, atol=1e-12)


def test_length__of_a_run_that_stands_still_is_0(ends) -> None:
    still = np.repeat(ends[:1], 3, axis=0)
    assert trajectory_length(still) == 0
    assert trajectory_length(still, of="root") == 0


def test_length__refuses_one_checkpoint_and_unknown_distances(ends) -> None:
    with pytest.raises(inpca.InputError, match="a run with one checkpoint has no length"):
        trajectory_length(ends[:1])
    with pytest.raises(inpca.InputError, match="`of` must be one of geodesic, root, not 'D'"):
        trajectory_length(ends, of="D")
