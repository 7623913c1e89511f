"""Bytes and seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpca import InputError
from inpca.units import format_bytes, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("300MB", 300_000_000),
        ("300 mb", 300_000_000),
        ("1.5 GiB", 3 * 2**29),
        ("8e9", 8_000_000_000),
        ("2K", 2000),
        ("0.5TB", 500_000_000_000),
        ("7", 7),
        (4096, 4096),
        (1e6, 1_000_000),
    ],
)
def test_parse_bytes__reads_amounts_as_people_write_them(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", 0, -1, "3XB", "GB", "1..5MB"])
def test_parse_bytes__refuses_what_is_no_amount_and_names_the_argument(text):
    with pytest.raises(InputError, match="`memory` must be a positive amount"):
        parse_bytes(text)


@given(st.integers(1, 10**15))
def test_format_bytes__is_read_back_to_three_digits(n_bytes):
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.06)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (46e9, "46.0 GB"),
     (999_999, "1.0 MB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_format_bytes__has_a_unit_that_fits(n_bytes, text):
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.25 s"), (9.9, "9.9 s"), (59.4, "59 s"), (60, "1 min 0 s"), (75, "1 min 15 s"),
     (9000, "2 h 30 min"), (3600 * 50, "50 h 0 min")],
)  # fmt: skip
def test_format_seconds__says_it_as_people_do(seconds, text):
    assert format_seconds(seconds) == text
