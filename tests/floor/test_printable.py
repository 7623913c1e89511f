"""Text for terminals, and for spreadsheets."""

import io
import logging
import warnings

import pandas as pd
import pytest
from rich.console import Console

from inpca import printable, reporting
from inpca.csv_files import csv_text, plain_cell, write_csv
from inpca.printable import printable_line

ESCAPES = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "\x08", "\u202e", "\u2066", "\udcff"]


@pytest.mark.parametrize("text", ESCAPES, ids=ascii)
def test_printable__writes_out_what_a_terminal_obeys(text):
    shown = printable.printable(f"run {text} end")
    assert shown.isprintable()
    assert shown.encode()  # halves of characters, too
    assert shown.startswith("run ")


def test_printable__leaves_what_people_write():
    text = "λ = 3 …\n\tdéjà vu, 学習 🙂"
    assert printable.printable(text) == text
    assert printable_line(text) == text.replace("\n", "\\n").replace("\t", "\\t")


def test_progress_bar__takes_names_for_names(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=stream, width=200))
    with reporting.reporting(True, "[link=x]import[/link]") as report:
        report(1, 2, "[red]a.npz[/red]\x1b[2J")
        report(2, 2, "[bold]b[/bold]")
    assert "[link=x]import[/link]" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_print_plainly__holds_for_warnings_and_logs(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))
    printable.print_plainly()
    assert "\x1b" not in warnings.formatwarning(UserWarning("\x1b[2J"), UserWarning, "a.py", 1)
    record = logging.LogRecord("inpca", logging.WARNING, "a.py", 1, "%s", ("\x1b[2J",), None)
    logging.lastResort.handle(record)
    assert capsys.readouterr().err == "\\x1b[2J\n"


# -- spreadsheets --

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1"]


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_csv__a_text_that_would_be_a_formula_gets_an_apostrophe(tmp_path, text):
    table = pd.DataFrame({text: [text, "sgd"], "lr": [-0.1, 0.2]}, index=[text, "run/1"])
    table.index.name = text
    write_csv(table, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        found = pd.read_csv(file, dtype=str)
    cell = "'" + text.replace("\r", "\n")
    assert found.iloc[0, :2].tolist() == [cell] * 2
    assert found.columns[0].startswith("'")
    assert found.columns[1].startswith("'")
    assert found["lr"].tolist() == ["-0.1", "0.2"]


def test_csv__no_cell_begins_a_row_of_its_own():
    table = pd.DataFrame({"note": ["a\r=1+1", "b\r\n=1"]})
    assert csv_text(table, index=False) == 'note\n"a\n=1+1"\n"b\n=1"\n'


def test_csv__numbers_and_reference_models_stay():
    values = [-1, "-1", "+0.5e-3", "-inf", "@truth", "@progress-0.3", None, float("nan"), True]
    assert [plain_cell(value) for value in values[:6]] == values[:6]
    table = pd.DataFrame({"mixed": pd.Series(values, dtype=object), "n": range(9)})
    assert csv_text(table) == table.to_csv()
    assert csv_text(pd.DataFrame()) == pd.DataFrame().to_csv()


def test_csv__tables_of_every_kind_go_through():
    index = pd.MultiIndex.from_tuples([("=a", 1), ("b", 2)], names=["run", "=k"])
    table = pd.DataFrame({"c": pd.Categorical(["=x", "y"]), "t": pd.to_datetime(["2026", "2027"])})
    table.index = index
    assert csv_text(table).splitlines()[:2] == ["run,'=k,c,t", "'=a,1,'=x,2026-01-01"]
    twice = pd.DataFrame([["=a", 1]], columns=["x", "x"])
    assert csv_text(twice, index=False) == "x,x\n'=a,1\n"
