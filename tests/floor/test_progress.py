"""One way to report progress."""

from inpca.progress import reporting


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
    with reporting(True, "distances") as report:
        report(3, 4, "so many left")
    out, err = capsys.readouterr()
    assert out == ""
    assert "distances" in err
    assert "75%" in err
