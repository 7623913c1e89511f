"""The program before what strangers wrote: one plain message, code 3, nothing obeyed, nothing half.

In this process where that tells as much as a process of its own, which takes seconds to start.
"""

import csv
import errno
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import cli, durable

EVIL = "\x1b[31mred\x1b]0;title\x07\u202e"
FORMULA = "=HYPERLINK(1)"


@pytest.fixture
def program(monkeypatch, capsys):
    """Run the program with arguments; its exit code, and what it wrote."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["inpca", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.fixture
def foreign(small_ensemble, monkeypatch):
    """An ensemble whose settings a stranger wrote, not with this recorder, with an embedding."""
    monkeypatch.setattr("inpca.store.schema.check_text", lambda text, what: text)
    rows = np.full((2, 40, 3), 1 / 3, np.float32)
    small_ensemble.add_run(
        "-evil",
        {"train": rows, "test": rows[:, :20]},
        kind="probs",
        config={
            "architecture": EVIL,
            "optimizer": f"{FORMULA}</script><img src=x>[red]",
            "seed": 9,
        },
    )
    ensemble = inpca.open_ensemble(small_ensemble.path)
    view = ensemble.with_references()
    matrix = inpca.pairwise_distances(view, out=ensemble.distances_path("train"))
    inpca.InPCA(n_components=3).fit(matrix).save(ensemble.embeddings_path("train"))
    return ensemble.path


def no_terminal_code(text):
    return all(character.isprintable() or character in "\n\t" for character in text)


# -- code 3 --


@pytest.mark.parametrize(
    "verb",
    [
        ("import", "{file}.npz", "{out}"),
        ("import", "{file}.h5", "{out}"),
        ("import", "{file}.pt", "{out}"),
        ("import-distances", "{file}.h5", "{out}"),
        ("sweep", "{file}.yaml", "{out}", "--dry-run"),
    ],
    ids=lambda verb: "-".join(verb[:2]),
)
@pytest.mark.parametrize("kind", ["pipe", "device", "junk"])
def test_a_strangers_file__ends_with_code_3_and_one_message(program, tmp_path, verb, kind):
    words = [word.format(file=tmp_path / f"a{EVIL[:5]}", out=tmp_path / "out") for word in verb]
    if kind == "pipe":
        os.mkfifo(words[1])
    elif kind == "device":
        os.symlink("/dev/zero", words[1])
    else:
        Path(words[1]).write_bytes(b"\x80\x02[[[[" * 99)
    code, out, err = program(*words)
    assert (code, out) == (3, "")
    assert err.startswith("error: ")
    assert err.count("\n") <= 2  # a sweep shows the line
    assert no_terminal_code(err)


def test_samples_of_attribution__are_read_from_a_regular_file(program, foreign, tmp_path):
    os.mkfifo(tmp_path / "chosen.txt")
    code, _, err = program("attribution", foreign, "--samples", tmp_path / "chosen.txt", "-q")
    assert code == 3
    assert "is a pipe" in err


def test_memory_that_runs_out__has_code_5_and_no_traceback(program, monkeypatch, tmp_path):
    def fail(path):
        raise MemoryError

    monkeypatch.setattr(inpca, "open_ensemble", fail, raising=False)
    code, _, err = program("info", tmp_path)
    assert code == 5
    assert err.startswith("error: The memory ran out")


# -- terminals and spreadsheets --


@pytest.mark.parametrize(
    "verb",
    [("info",), ("info", "--json"), ("progress", "-q"), ("progress", "--csv", "-q"),
     ("average", "--compare", "-b", "architecture", "-q"),
     ("project", "--select", "architecture != 'x'", "-q"),
     ("trajectories", "widths", "--by", "architecture", "-p", "3", "-q"),
     ("info", "--select")],
    ids="-".join,
)  # fmt: skip
def test_settings_of_a_stranger__are_shown_and_not_obeyed(program, foreign, verb):
    code, out, err = program(verb[0], foreign, *verb[1:])
    assert code == (2 if verb[-1] == "--select" else 0), err
    assert no_terminal_code(out)
    assert no_terminal_code(err)
    if "--json" in verb:
        json.loads(out)


def test_query_that_fails__shows_no_terminal_code(program, foreign):
    code, _, err = program("progress", foreign, "--select", f"architecture == '{EVIL}", "-q")
    assert code == 3
    assert no_terminal_code(err)


def cells(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row]


@pytest.mark.parametrize(
    "verb",
    [("export", "models"), ("export", "distances"), ("export", "embedding"), ("progress", "-q"),
     ("project", "--select", "seed >= 0", "-q")],
    ids="-".join,
)  # fmt: skip
def test_csv__holds_no_formula(program, foreign, tmp_path, verb):
    if verb[0] == "export":
        code, _, err = program("export", foreign, verb[1], "-o", tmp_path / "a.csv")
    else:
        code, _, err = program(verb[0], foreign, *verb[1:], "-o", tmp_path / "a.csv")
    assert code == 0, err
    texts = cells(tmp_path / "a.csv")
    assert any(text.startswith("'-evil") for text in texts)
    for text in texts:
        if text.startswith(("=", "+", "-", "@")):
            assert text in ("@ignorance", "@truth") or float(text) is not None
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.filterwarnings("ignore:Glyph")  # no font has a picture of the escape character
def test_pages__show_settings_and_run_none(program, foreign, tmp_path):
    for verb, name in (("plot", "page"), ("report", "--brief")):
        target = tmp_path / f"{verb}.html"
        code, _, err = program(verb, foreign, name, "-o", target, "-q")
        assert code == 0, err
        page = target.read_text("utf-8")
        assert "<img src=x>" not in page
        assert "</script>[" not in page
        assert "\\u003c/script>" in page or "&lt;/script&gt;" in page


# -- results, whole or not at all --


@pytest.mark.parametrize(
    ("name", "writer"),
    [("a.csv", "pandas.DataFrame.to_csv"), ("a.npz", "numpy.savez_compressed")],
)
def test_export__on_a_full_disk_leaves_nothing(
    program, foreign, tmp_path, monkeypatch, name, writer
):
    def half(*arguments, **_):
        path = next(one for one in arguments if isinstance(one, Path))
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, half)
    code, _, err = program("export", foreign, "models", "-o", tmp_path / name)
    assert code == 5
    assert (
        err == f"error: {tmp_path / name}: No space left on device; free some space, then call "
        "again: what is finished is kept.\n"
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("a.")]


def test_progress__on_a_full_disk_leaves_the_old_table(program, foreign, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("old")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "sync_file", full)
    code, _, err = program("progress", foreign, "-o", tmp_path / "a.csv", "-q")
    assert code == 5
    assert str(tmp_path / "a.csv") in err
    assert (tmp_path / "a.csv").read_text() == "old"
    assert not list(tmp_path.glob("*partial*"))


LIMITED = """
import resource, sys
from inpca import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.argv = ["inpca", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize(
    "words",
    [("export", "distances", "-o", "a.csv"), ("export", "distances", "-o", "a.npz"),
     ("export", "distances", "-o", "a.h5"), ("plot", "spectrum", "-o", "a.png"),
     ("plot", "page", "-o", "a.html")],
    ids=lambda words: words[-1],
)  # fmt: skip
def test_results__beyond_the_limit_of_file_sizes_leave_what_was_there(foreign, tmp_path, words):
    result = tmp_path / words[-1]
    if words[0] == "plot":
        result.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, words[0], foreign, words[1], "-o", result],
        capture_output=True, text=True, timeout=300, env=os.environ | {"MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith("a.")]
    assert left == ([result.name] if words[0] == "plot" else [])
    assert words[0] != "plot" or result.read_text() == "old"
