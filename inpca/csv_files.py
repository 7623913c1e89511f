"""Tables as CSV that a spreadsheet shows and does not run.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a
formula may call programs or send data away. Settings and names may come from a stranger's
ensemble; so text that begins in such a way gets an apostrophe in front, which spreadsheets take
for "this is text". Numbers, and the project's own names of reference models, stay as they are.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpca.durable import replacing

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.IGNORECASE | re.ASCII)
_REFERENCE = re.compile(r"@(ignorance|truth|progress-[0-9.e-]+)", re.ASCII)


def plain_cell(value: Any) -> Any:
    """`value` as a spreadsheet shows it: text that would be a formula gets an apostrophe.

    >>> plain_cell("=HYPERLINK(1)"), plain_cell("-0.5"), plain_cell("@truth"), plain_cell(-1)
    ("'=HYPERLINK(1)", '-0.5', '@truth', -1)
    """
    if not isinstance(value, str):
        return value
    # A lone "\r" is not put in quotes, and would begin a new row: with a formula, perhaps.
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if not value.startswith(_FORMULA):
        return value
    harmless = _NUMBER.fullmatch(value) or _REFERENCE.fullmatch(value)
    return value if harmless else f"'{value}"


def plain_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """`table` with `plain_cell` for each text: in cells, in the index, in names of columns."""
    import numpy as np
    import pandas as pd

    def is_text(values: Any) -> bool:
        return not (
            pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values)
        )

    def plain_index(index: Any) -> Any:
        named = index.set_names([plain_cell(name) for name in index.names])
        return named.map(_plain_label) if is_text(named) else named

    found = table.copy(deep=False)
    for place, (_, column) in enumerate(table.items()):
        if is_text(column):
            cells = np.empty(len(column), dtype=object)
            cells[:] = [plain_cell(value) for value in column]
            found.isetitem(place, cells)
    found.index, found.columns = plain_index(table.index), plain_index(table.columns)
    return found


def write_csv(table: "pd.DataFrame", path: Path, **options: Any) -> None:
    """Write a table that a spreadsheet may open, whole or not at all.

    Parameters
    ----------
    options : as `pandas.DataFrame.to_csv` takes them
    """
    with replacing(path) as partial:
        plain_table(table).to_csv(partial, errors="backslashreplace", **options)


def csv_text(table: "pd.DataFrame", **options: Any) -> str:
    """What `write_csv` writes, as text."""
    return str(plain_table(table).to_csv(None, **options))


def _plain_label(label: Any) -> Any:
    return tuple(map(plain_cell, label)) if isinstance(label, tuple) else plain_cell(label)
