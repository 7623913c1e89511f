"""What several verbs do alike."""

import json

import numpy as np
import pandas as pd
import pytest

from inpca.cli.services import print_json, print_table


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def read(capsys):
    return json.loads(capsys.readouterr().out, parse_constant=refuse)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, np.float32("nan"), pd.NA, pd.NaT, None])
def test_json__has_null_for_numbers_that_are_not_finite_or_missing(capsys, bad):
    print_json({"a": [bad, 1.5, {"b": (bad, 2)}], "c": bad})
    assert read(capsys) == {"a": [None, 1.5, {"b": [None, 2]}], "c": None}


def test_json_of_a_table__is_strict_and_keeps_kinds(capsys):
    table = pd.DataFrame({"x": [np.nan, 0.5], "n": pd.array([2**60, None], "Int64"), "s": "\x7f"})
    print_table(table.assign(on=True), as_json=True)
    first, second = read(capsys)
    assert first == {"x": None, "n": 2**60, "s": "\x7f", "on": True}
    assert second == {"x": 0.5, "n": None, "s": "\x7f", "on": True}
