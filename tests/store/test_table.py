"""The models table goes into arrays and comes back the same."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca.errors import InputError
from inpca.store.catalogue import setting_column
from inpca.store.group import read_group, write_group
from inpca.store.table import table_from_members, table_members

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.just("<NA>"),
)


@given(
    st.lists(_SCALARS, max_size=6)
    | st.lists(st.none() | st.booleans(), max_size=6)
    | st.lists(st.none() | st.sampled_from(["a", "", "<NA>", "<<NA>>"]), max_size=6)
)
def test_table__of_any_settings__comes_back_the_same(values):
    index = pd.Index([f"run/{i}" for i in range(len(values))], dtype="str", name="model")
    table = pd.DataFrame({"setting": setting_column(values)}, index=index)
    if len(values) == 0:
        return  # a column without rows has no type to keep
    pd.testing.assert_frame_equal(table_from_members(table_members(table)), table)


def test_table__goes_through_the_disk(tmp_path, recorded):
    models = recorded.with_references().models
    write_group(tmp_path / "g", table_members(models), {})
    _, members = read_group(tmp_path / "g")
    pd.testing.assert_frame_equal(table_from_members(members), models)


def test_empty_table__goes_through_the_disk(tmp_path, ensemble):
    write_group(tmp_path / "g", table_members(ensemble.models), {})
    assert len(table_from_members(read_group(tmp_path / "g")[1])) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a/b": [1]}, "'a/b'"),
        ({"model": [1]}, "its index"),
        ({"x": [[1, 2]]}, "Column 'x'"),
        ({"x": [np.datetime64("2020-01-01")]}, "Column 'x'"),
    ],
)
def test_table__with_a_column_that_is_no_array__is_refused(columns, message):
    with pytest.raises(InputError, match=message):
        table_members(pd.DataFrame(columns))
