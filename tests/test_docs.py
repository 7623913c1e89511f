"""Every code block of the documentation and the README runs."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inpca.plotting.gallery import GALLERY

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"])
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def scripts(page: Path) -> list[tuple[str, str]]:
    """The page's blocks, neighbouring Python blocks joined: they share their names."""
    joined: list[tuple[str, str]] = []
    for language, code in blocks(page):
        if joined and joined[-1][0] == language:
            code = joined.pop()[1] + "\n" + code
        joined.append((language, code))
    return joined


# Half a minute each; the README and the other pages run in `make test`.
LONG = ("tutorial", "inversion", "collectors", "sweeps")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem in LONG else [])
        for page in PAGES
        if blocks(page)
    ],
)
def test_code_blocks__of_the_page_run(page: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MPLBACKEND": "agg",
    }
    for language, code in scripts(page):
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


NAMES = re.compile(r"`((?:inpca|collectors)\.[\w.]+)`")


@pytest.mark.parametrize("name", sorted(set(NAMES.findall((ROOT / "docs/papers.md").read_text()))))
def test_papers_page__names_what_exists(name: str) -> None:
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], start=2):
        if not hasattr(found, part):
            found = importlib.import_module(".".join(parts[:number]))
        else:
            found = getattr(found, part)


def test_papers_page__lists_every_picture() -> None:
    text = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    assert [name for name in GALLERY if f"`{name}`" not in text] == ["3d"]
