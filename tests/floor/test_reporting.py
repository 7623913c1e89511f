"""One way to report progress."""

import pytest

from inpca.reporting import reporting


def test_reporting__without_progress_is_silent(capsys):
    with reporting(None, "work") as report:
        report(1, 2, "text")
    assert capsys.readouterr() == ("", "")


def test_reporting__calls_what_it_is_given():
    said = []
    with reporting(lambda *record: said.append(record), "work") as report:
        report(1, 2, "text")
    assert said == [(1, 2, "text")]


def test_reporting__draws_its_bar_on_standard_error(capsys):
    def work() -> float:
        with reporting(True, "distances") as report:
            report(3, 4, "so many left")
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        work()
    out, err = capsys.readouterr()
    assert out == ""
    assert "distances" in err
    assert "75%" in err


def test_reporting__ends_at_the_end(capsys):
    with reporting(True, "distances") as report:
        report(3, 4, "so many left")
    err = capsys.readouterr().err
    assert "100%" in err
    assert "so many left" not in err


def test_reporting__draws_nothing_before_there_is_something_to_tell(capsys):
    with pytest.raises(ZeroDivisionError), reporting(True, "distances"):
        raise ZeroDivisionError
    assert capsys.readouterr() == ("", "")
