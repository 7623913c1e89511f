"""What a container says of its numbers is heard: masks, missing entries, names of classes."""

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import InputError
from inpca.checks import LABELS, PREDICTIONS, in_order_of, plain_array, same_names
from inpca.geometry.ends import check_labels
from inpca.predictions import ArrayPredictions, to_log_probs

P = np.array([[[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], [[0.6, 0.4], [0.3, 0.7], [1.0, 0.0]]])
MASKED = np.ma.array(P, mask=np.zeros(P.shape, bool))
MASKED[1, 2] = np.ma.masked


class Delayed:
    """Says what it is only when it is converted, as arrays of dask and netCDF do."""

    def __array__(self, dtype=None, copy=None):
        return MASKED


@pytest.mark.parametrize(
    "values", [MASKED, Delayed(), list(MASKED), [list(one) for one in MASKED]], ids=type
)
def test_predictions__that_are_masked_are_refused_by_name(values):
    with pytest.raises(InputError, match=r"`X` has \d masked entr"):
        to_log_probs(values, name="X")


def test_every_way_in__refuses_masked_predictions(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1, 0]}, n_classes=2)
    ensemble.add_run("whole", {"train": P})
    ways = [
        lambda: inpca.pairwise_distances(MASKED),
        lambda: inpca.pairwise_distances(P, MASKED),
        lambda: inpca.InPCA(1).fit(MASKED),
        lambda: inpca.InPCA(1).fit(P).transform(MASKED),
        lambda: inpca.progress(MASKED, [0, 1, 0]),
        lambda: inpca.progress(P, end=MASKED[1]),
        lambda: inpca.average(MASKED),
        lambda: inpca.geodesic(MASKED[0], MASKED[1], 0.5),
        lambda: inpca.reindex(MASKED, [0.0, 1.0], 0.5),
        lambda: inpca.trajectory_distances([MASKED, P], labels=[0, 1, 0], s=2),
        lambda: inpca.inversion.stragglers(MASKED, [0, 1, 0]),
        lambda: ensemble.add_run("masked", {"train": MASKED}),
    ]
    for way in ways:
        with pytest.raises(InputError, match="masked"):
            way()
    with ensemble.start_run("one") as writer, pytest.raises(InputError, match="masked"):
        writer.append({"train": MASKED[1]}, step=0, epoch=0)


def test_a_mask_without_masked_entries__is_an_array():
    whole = np.ma.array(P, mask=False)
    assert np.array_equal(to_log_probs(whole), to_log_probs(P))
    assert type(plain_array(whole, "X")) is np.ndarray


BAD_LABELS = {
    "masked": np.ma.array([0, 1, 0], mask=[0, 1, 0]),
    "masked in a list": [0, np.ma.masked, 0],
    "missing integer": pd.array([0, None, 0], dtype="Int64"),
    "missing in a series": pd.Series([0, None, 0], dtype="Int64"),
    "none": [0, None, 0],
    "shuffled series": pd.Series([0, 1, 0], index=[2, 0, 1]),
    "named series": pd.Series([0, 1, 0], index=["a", "b", "c"]),
    "text": ["0", "1", "0"],
    "dates": np.array([0, 1, 0], dtype="datetime64[s]"),
    "complex": np.array([0, 1, 0], dtype=complex),
    "missing float": np.array([0, np.nan, 0]),
    "beyond int64": np.array([0, 2**64 - 1, 0], dtype=np.uint64),
    "beyond every integer": [0, 2**80, 0],
    "huge float": np.array([0, 1e300, 0]),
    "fraction": np.array([0, 1.7, 0]),
    "truth values": np.array([False, True, False]),
}


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_labels__that_their_container_does_not_vouch_for_are_refused(labels, tmp_path):
    ways = [
        lambda: inpca.create_ensemble(tmp_path / "e", sample_sets={"train": labels}, n_classes=2),
        lambda: inpca.progress(P, labels),
        lambda: inpca.compare_averages(P, labels),
        lambda: inpca.four_point(P, labels, at=(0, 1)),
        lambda: inpca.inversion.stragglers(P, labels),
        lambda: inpca.inversion.radii(np.eye(3), labels),
    ]
    if "bool" in str(getattr(labels, "dtype", "")):
        ways.pop()  # two classes, true and false, are classes too
    for way in ways:
        with pytest.raises(InputError, match=r"labels|sample_sets"):
            way()


@pytest.mark.parametrize(
    "labels",
    [
        pd.array([0, 1, 0], dtype="Int64"),
        pd.Series([0, 1, 0], dtype="UInt8"),
        pd.Series([0, 1, 0], dtype="category"),
        pd.Series([0, 1, 0], index=[0, 1, 2]),
        np.ma.array([0, 1, 0]),
    ],
    ids=str,
)
def test_labels__of_any_whole_container_are_taken(labels):
    assert check_labels(labels, 3, 2).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (pd.DataFrame(P[0], columns=[1, 0]), "classes 1, 0"),
        (pd.DataFrame(P[0], columns=["dog", "cat"]), "classes 'dog', 'cat'"),
        (pd.DataFrame(P[0], index=[2, 0, 1]), "samples 2, 0, 1"),
        (pd.DataFrame(P[0]).set_axis([5, 7, 9]), "samples 5, 7, 9"),
    ],
)
def test_a_table_of_predictions__whose_names_are_not_the_positions_is_refused(table, named):
    for values in (table, [table, table]):
        with pytest.raises(InputError, match=f"`X` names its {named}"):
            to_log_probs(values, name="X")


def test_a_table_of_predictions__named_by_position_is_taken():
    plain = to_log_probs(P[0])
    for table in (pd.DataFrame(P[0]), pd.DataFrame(P[0], columns=["0", "1"])):
        assert np.array_equal(to_log_probs(table), plain)
    nullable = pd.DataFrame(P[0]).astype("Float64")
    assert np.array_equal(to_log_probs(nullable), plain)
    nullable.iloc[1, 0] = pd.NA
    with pytest.raises(InputError, match="missing"):
        to_log_probs(nullable)


def test_an_array_with_named_dimensions__is_taken_in_order_alone():
    xarray = pytest.importorskip("xarray")
    named = xarray.DataArray(P, dims=("model", "sample", "class"))
    assert np.array_equal(ArrayPredictions(named).digests(), ArrayPredictions(P).digests())
    with pytest.raises(InputError, match="dimensions"):
        to_log_probs(named.transpose("class", "model", "sample"))
    with pytest.raises(InputError, match="classes 1, 0"):
        to_log_probs(named.assign_coords({"class": [1, 0]}))
    models = named.assign_coords({"model": ["a", "b"]})
    assert np.array_equal(to_log_probs(models), to_log_probs(P))


@pytest.mark.parametrize(
    "values",
    [
        P.astype(complex),
        [*P.astype(object).tolist(), None],
        P.astype("datetime64[s]"),
        P.astype(str),
        P.astype(np.longdouble),
        [[0.5, 0.5], [1.0]],
        {"train": P},
        {0.5},
    ],
    ids=["complex", "none", "dates", "text", "long", "ragged", "mapping", "set"],
)
def test_predictions__that_are_no_real_numbers_are_refused_by_name(values):
    with pytest.raises(InputError, match="`X`"):
        to_log_probs(values, name="X")


def test_objects__that_are_numbers_of_one_kind_are_taken():
    assert plain_array(np.array([1, 2], dtype=object), "labels").dtype == np.int64
    with pytest.raises(InputError, match="`labels`"):
        plain_array(np.array([np.zeros(2), np.zeros(3)], dtype=object), "labels", LABELS)


def test_an_array__is_not_copied():
    assert plain_array(P, "X", PREDICTIONS) is P


def test_values_of_models__are_aligned_by_name_or_refused():
    given = pd.Series([1.0, 2.0], index=["b", "a"])
    assert plain_array(in_order_of(given, ["a", "b"], "weights"), "weights").tolist() == [2, 1]
    assert in_order_of([1.0, 2.0], ["a", "b"], "weights") == [1.0, 2.0]
    for keys in (["a", "c"], ["a"]):
        with pytest.raises(InputError, match="`weights` names 2 models"):
            in_order_of(given, keys, "weights")
    assert in_order_of(given, None, "weights") is given  # nothing to align it with
    with pytest.raises(InputError, match="`weights` names 2 models"):
        in_order_of(given.set_axis([1, 0]), None, "weights")


def test_two_series__must_name_their_entries_alike():
    one = pd.Series([1.0, 2.0, 3.0], index=list("abc"))
    same_names(one, one + 1, ("progress", "error"))
    with pytest.raises(InputError, match="entry 0 is 'a' in one and 'c' in the other"):
        same_names(one, one[::-1], ("progress", "error"))
    with pytest.raises(InputError, match="`progress` and `error`"):
        inpca.r_squared(one, one[::-1])
