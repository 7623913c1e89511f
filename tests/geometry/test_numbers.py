"""No number of the geometry is silently of something else: order, scale, what is missing."""

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError, inversion
from inpca.geometry.attribution import attribution
from inpca.geometry.averages import normalised_weights
from inpca.geometry.curves import curve_distances, soft_minimum_distance
from inpca.geometry.importance import configuration_importance
from inpca.geometry.learning import learning_progress

P = np.random.default_rng(0).dirichlet(np.ones(3), size=(4, 5))


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1.0, 1e200, 1e300])
def test_r_squared__does_not_depend_on_the_scale(scale):
    x, y = np.array([0.0, 0.3, 1.0, 0.7]), np.array([1.0, 0.5, 0.1, 0.4])
    found = inpca.r_squared(scale * x, y)
    assert found == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=1e-12)
    assert inpca.r_squared(x, -scale * y) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300])
def test_r_squared__of_what_is_the_same_for_all_is_nan(value):
    """The mean of three times 0.1 is not 0.1: rounding must not pass for a spread."""
    assert np.isnan(inpca.r_squared([value] * 3, [0.1, 0.2, 0.4]))
    assert np.isnan(inpca.r_squared([0.1, 0.2, 0.4], [value] * 3))


def test_an_average__takes_weights_by_the_names_of_the_models(small_ensemble):
    keys = list(small_ensemble.models.index)
    weights = np.arange(1.0, len(keys) + 1)
    expected = inpca.average(small_ensemble, weights=weights)
    named = pd.Series(weights, index=keys)
    for given in (named, named[::-1], named.sample(frac=1, random_state=1)):
        assert np.array_equal(inpca.average(small_ensemble, weights=given), expected)
    with pytest.raises(InputError, match="`weights` names"):
        inpca.average(small_ensemble, weights=named.set_axis(["x", *keys[1:]]))
    groups = inpca.average_groups(small_ensemble.select(keys), weights=named[::-1], name="by-name")
    again = inpca.average_groups(small_ensemble.select(keys), weights=weights, name="by-place")
    one, other = (small_ensemble.run(name[0]).log_probs("train", 0) for name in (groups, again))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "weights",
    [
        np.ma.array([1.0, 2.0], mask=[False, True]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1.0, 2.0], index=[1, 0]),
        [1.0, None],
        ["1", "2"],
        np.array([1, 2], dtype="timedelta64[s]"),
        [1.0, 1j],
    ],
    ids=["masked", "missing", "shuffled", "none", "text", "times", "complex"],
)
def test_weights__that_their_container_does_not_vouch_for_are_refused(weights):
    with pytest.raises(InputError, match="`weights`"):
        normalised_weights(weights, 2)


def test_a_mask_of_samples__in_another_order_is_refused():
    embedding = inpca.InPCA(1).fit(P)
    shares = attribution(P, embedding)
    mask = pd.Series([True, False, False, False, True])
    assert np.array_equal(shares.of(mask), shares.of(mask.to_numpy()))
    with pytest.raises(InputError, match="samples 4, 3, 2"):
        shares.of(mask[::-1])
    with pytest.raises(InputError, match="masked"):
        shares.of(np.ma.array([0, 3], mask=[True, False]))


@pytest.mark.parametrize("correct", [[[0.3, 0.9]], [[np.nan, 1]], [[2, 1]], [["a", "b"]]])
def test_learning_progress__takes_truth_values_alone(correct):
    with pytest.raises(InputError, match="`correct` must be truth values"):
        learning_progress(correct, [0.0])


@pytest.mark.parametrize("labels", [[0.5, 1.5], [np.nan, 1], np.array([2**64 - 1], np.uint64)])
def test_random_labels__are_never_truncated(labels):
    with pytest.raises(InputError, match="`labels`"):
        inversion.random_labels(labels, 0)


def test_levels_that_are_nan__are_no_checkpoint():
    with pytest.raises(InputError, match="`levels`"):
        inversion.checkpoint_at_error([0.5, 0.1], [0.2, np.nan])


@pytest.mark.parametrize(
    "way",
    [
        lambda bad: inpca.reindex(P, bad, 0.5),
        lambda bad: inpca.geodesic(P[0], P[1], bad),
        lambda bad: inpca.four_point(P, [0] * 5, at=(0, 1), s=bad),
        lambda bad: inpca.trajectory_distances([P, P], s=2, index=[bad, bad]),
        lambda bad: inversion.inversion_point(bad),
        lambda bad: inversion.inversion({"radius_plus": bad}, [0.5, 0.2, 0.1, 0.1]),
        lambda bad: inversion.against_error(bad, [0.5, 0.2, 0.1, 0.1], [0.3]),
        lambda bad: inversion.checkpoint_at_error(bad, [0.3]),
        lambda bad: inpca.align(bad[:, None], bad[:, None], [1]),
    ],
)
@pytest.mark.parametrize(
    "bad",
    [
        np.ma.array([0.1, 0.2, 0.3, 0.4], mask=[0, 0, 1, 0]),
        np.array([0, 1, 2, 3], dtype="datetime64[D]"),
        np.array([0.1, 0.2, 0.3, 0.4], dtype=complex),
        np.array(["0.1", "0.2", "0.3", "0.4"]),
    ],
    ids=["masked", "dates", "complex", "text"],
)
def test_numbers_of_checkpoints__must_be_numbers(way, bad):
    with pytest.raises(InputError):
        way(bad)


def test_tables_of_runs__are_held_against_each_other():
    names = list("abcdef")
    table = pd.DataFrame({"width": [1, 1, 2, 2, 3, 3]}, index=names)
    D = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    named = pd.DataFrame(D, index=names, columns=names)
    options = {"n_repeats": 2, "n_trees": 2}
    expected = configuration_importance(D, table, **options).score
    assert configuration_importance(named, table, **options).score == expected
    with pytest.raises(InputError, match="must name the same entries"):
        configuration_importance(named, table[::-1], **options)
    with pytest.raises(InputError, match="must name the same entries"):
        configuration_importance(named[names[::-1]], table, **options)
    far = pd.Series(np.arange(6.0), index=names)
    one = configuration_importance(D, table, to_geodesic=far, **options)
    other = configuration_importance(D, table, to_geodesic=far[::-1], **options)
    assert one.table.equals(other.table)


def test_runs_of_models__are_taken_by_name_from_a_table_of_distances():
    keys = ["a/0", "a/1", "b/0", "b/1"]
    D = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
    runs = pd.Series(["a", "a", "b", "b"], index=keys)
    named = pd.DataFrame(D, index=keys, columns=keys)
    _, expected = curve_distances(D, runs)
    _, found = curve_distances(named, runs[::-1])
    assert np.array_equal(found, expected)
    _, found = curve_distances(named[keys[::-1]], runs)
    assert np.array_equal(found, expected)


def test_soft_minimum__refuses_steps_that_are_not_finite():
    with pytest.raises(InputError, match="all finite"):
        soft_minimum_distance([[0.0, 1.0], [1.0, 0.0]], [np.inf], [1.0])


def test_configs__in_another_order_than_the_runs_are_refused():
    table = pd.DataFrame({"width": [1, 2]})
    options = {"index": [[0.0, 1.0, 2, 3]] * 2, "s": 2, "span": (0, 3)}
    found = inpca.trajectory_distances([P, P], configs=table, **options)
    assert found.runs["width"].tolist() == [1, 2]
    with pytest.raises(InputError, match="`configs` must have its rows in the order"):
        inpca.trajectory_distances([P, P], configs=table[::-1], **options)


def test_alignment__of_tables_in_another_order_is_refused():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 2)), index=list("abcd"))
    assert inpca.align(X, X, [1, 1]).rmsd < 1e-12
    with pytest.raises(InputError, match="must name the same entries"):
        inpca.align(X, X[::-1], [1, 1])


def test_progress__with_classes_that_no_sample_has_is_that_of_the_others():
    """Ten classes of which three occur: the geodesic goes to the labels there are."""
    p = np.zeros((4, 5, 10))
    p[:, :, :3] = P
    found = inpca.progress(p, [0, 1, 2, 0, 1])
    assert ((found > 0) & (found <= 1)).all()
    truth = np.eye(10)[[0, 1, 2, 0, 1]]
    assert np.allclose(inpca.progress(p, end=truth), found, atol=1e-9)
