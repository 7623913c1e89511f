"""What a picture reads from a models table."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca.plotting.page_data import _evenly, _thin
from inpca.plotting.scene import broken_line
from inpca.plotting.style import percent
from inpca.plotting.table import colorable, is_reference, read_column, trajectories


def table(**columns: Any) -> pd.DataFrame:
    models = pd.DataFrame({"run": ["b", "b", "a", "a"], "checkpoint": [1, 0, 0, 1], **columns})
    models.index = pd.Index(models["run"] + "/" + models["checkpoint"].astype(str), name="model")
    return models


def test_trajectories__follow_the_checkpoints_whatever_the_order_of_rows() -> None:
    found = [(run, rows.tolist()) for run, rows in trajectories(table())]
    assert found == [("a", [2, 3]), ("b", [1, 0])]


@given(st.permutations(range(12)))
def test_trajectories__hold_each_model_once(order: list[int]) -> None:
    keys = [(run, k) for run in "xyz" for k in range(4)]
    models = pd.DataFrame([keys[i] for i in order], columns=["run", "checkpoint"])
    rows = np.concatenate([rows for _, rows in trajectories(models)])
    assert sorted(rows) == list(range(12))
    assert [tuple(models.iloc[row]) for row in rows] == keys


def test_references__are_known_by_kind_or_by_key() -> None:
    models = pd.DataFrame(
        {"kind": ["checkpoint", "reference", "checkpoint"]}, index=["a/0", "mean", "@truth"]
    )
    assert is_reference(models).tolist() == [False, True, True]
    assert is_reference(models[[]]).tolist() == [False, False, True]


def test_number_fixed_within_runs__is_a_category_and_a_metric_is_not() -> None:
    models = table(batch=[64, 64, 256, 256], loss=[0.1, 0.2, 0.3, 0.4])
    assert read_column(models, "batch").categories == ("64", "256")
    assert read_column(models, "loss").kind == "number"


def test_truth_values_and_numbers_held_as_objects__are_understood() -> None:
    models = table(
        augmented=[True, True, False, False],
        width=pd.Series([1.5, 2.5, None, 4.5], dtype=object).to_numpy(),
    )
    assert read_column(models, "augmented").categories == ("False", "True")
    width = read_column(models, "width")
    assert width.kind == "number"
    assert width.missing.tolist() == [False, False, True, False]


def test_infinite_metrics__count_as_no_value() -> None:
    column = read_column(table(loss=[1.0, np.inf, 2.0, np.nan]), "loss")
    assert column.missing.tolist() == [False, True, False, True]


def test_columns_without_values__are_not_offered() -> None:
    models = table(empty=[None] * 4, kind="checkpoint", lr=[0.1, 0.1, 0.2, 0.2])
    assert colorable(models) == ["run", "checkpoint", "lr"]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(4, 200))
def test_thinning__keeps_ends_of_runs_and_says_so(lengths: list[int], most: int) -> None:
    ends = np.cumsum([0, *lengths])
    paths = [(f"r{k}", np.arange(a, b)) for k, (a, b) in enumerate(pairwise(ends))]
    lines, text = _thin(paths, np.ones(ends[-1], dtype=bool), most)
    kept = lines[lines >= 0]
    assert len(set(kept)) == len(kept)
    assert bool(text) == (ends[-1] > most) == (len(kept) < ends[-1] or bool(text))
    assert len(kept) <= max(most, 2)
    parts = np.split(lines, np.flatnonzero(lines < 0))
    for part in parts:
        rows = part[part >= 0]
        run = np.searchsorted(ends, rows[0], side="right") - 1
        assert (rows[0], rows[-1]) == (ends[run], ends[run + 1] - 1)


@given(st.integers(1, 500), st.integers(1, 60))
def test_evenly__is_increasing_and_within_bounds(n_items: int, n_kept: int) -> None:
    chosen = _evenly(n_items, n_kept)
    assert len(chosen) == min(n_items, n_kept)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] == 0
    assert chosen[-1] < n_items


def test_broken_line__has_gaps_between_runs_only() -> None:
    paths = [("a", np.array([3, 1])), ("b", np.array([2]))]
    assert broken_line(paths).tolist() == [3, 1, -1, 2]
    assert broken_line([]).tolist() == []


@given(st.floats(0, 1))
def test_percent__says_100_only_of_all(share: float) -> None:
    assert (percent(share) == "100 %") == (100 * share >= 100 - 1e-9)


@given(st.floats(0.0002, 0.9998))
def test_percent__is_within_half_a_unit_of_its_last_digit(share: float) -> None:
    text = percent(share).removesuffix(" %")
    assert len(text.partition(".")[2]) == 2
    assert abs(float(text) - 100 * share) <= 0.005 + 1e-9


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.5, 0.9999999])
def test_percent__has_no_sign_that_html_would_read(share: float) -> None:
    assert not set("<>&") & set(percent(share))
