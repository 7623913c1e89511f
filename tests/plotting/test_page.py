"""The interactive page and the report: whole, self-contained, and alive in a browser."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inpca.errors import InputError
from inpca.plotting.page import interactive_page
from inpca.plotting.report import build_report, save_figure
from inpca.plotting.style import percent


class Parts(HTMLParser):
    """Attributes that a browser fetches, texts by tag, and the data of the page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.texts: list[str] = []
        self._inside = ""
        self.data = ""
        self.policy = ""
        self.feed(page.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._inside = known.get("id") or tag if tag == "script" else tag
        self.fetched += [known[name] or "" for name in ("src", "href", "srcset") if name in known]
        self.ids |= {known["id"] or ""} if "id" in known else set()
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._inside == "inpca-data":
            self.data += data
        elif self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def page(picture: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    return interactive_page(
        path, picture.embedding, picture.models, title="A <small> ensemble", **picture.held_out
    )


def test_page__fetches_nothing(page: Path) -> None:
    parts = Parts(page)
    assert all(address.startswith("data:") for address in parts.fetched)
    assert "default-src 'none'" in parts.policy
    assert "connect-src 'none'" in parts.policy
    assert "https://cdn" not in page.read_text("utf-8").split("<script>window.PlotlyConfig")[0]


def test_page__holds_every_model_and_every_run(page: Path, picture: Any) -> None:
    data = Parts(page).json
    names = [*picture.models.index, *picture.projected_models.index]
    assert data["names"] == names
    assert data["n_rows"] == len(names)
    runs = next(column for column in data["columns"] if column["name"] == "run")
    assert set(runs["categories"]) == set(picture.models["run"]) - {""} | set(
        picture.projected_models["run"]
    )


def test_page__holds_the_coordinates_to_six_digits(page: Path, picture: Any) -> None:
    data = Parts(page).json
    points = np.array(data["points"]).T
    wanted = np.concatenate([picture.embedding.embedding_, picture.projected])[:, :10]
    np.testing.assert_allclose(points, wanted, rtol=1e-5)


def test_page__says_signature_on_the_axes_and_both_stresses(page: Path, picture: Any) -> None:
    parts = Parts(page)
    for k, axis in enumerate(parts.json["axes"]):
        words = "space-like, +" if picture.embedding.signature_[k] > 0 else "time-like, −"
        assert axis["label"].startswith(f"coordinate {k + 1} ({words})")
    assert "time-like" in parts.text
    assert percent(picture.embedding.explained_stress_root_[2]) in parts.text
    assert percent(picture.embedding.explained_stress_[2]) in parts.text


def test_page__knows_references_and_projected_models(page: Path, picture: Any) -> None:
    data = Parts(page).json
    assert [r["name"] for r in data["references"]] == ["ignorance P₀", "truth P*"]
    held = set(picture.projected_models["run"])
    assert {label["name"] for label in data["projected_labels"]} == held
    assert data["kind"].count(2) == len(picture.projected)


def test_page__escapes_its_title_and_the_names_of_models(picture: Any, tmp_path: Path) -> None:
    models = picture.models.copy()
    models["architecture"] = models["architecture"].where(
        models["architecture"] != "cnn", "</script><b>"
    )
    path = interactive_page(tmp_path / "p.html", picture.embedding, models, title="<i>&")
    parts = Parts(path)
    categories = next(c for c in parts.json["columns"] if c["name"] == "architecture")["categories"]
    assert "</script><b>" in categories
    assert "<title>&lt;i&gt;&amp;</title>" in path.read_text("utf-8")


def test_color_columns__are_offered_and_the_others_only_told(picture: Any, tmp_path: Path) -> None:
    path = interactive_page(
        tmp_path / "p.html", picture.embedding, picture.models, color_columns=["train_loss"]
    )
    data = Parts(path).json
    assert data["start_column"] == "train_loss"
    assert [c["name"] for c in data["columns"] if c["offered"]] == ["train_loss"]
    assert len(data["columns"]) > 5


def test_missing_color_column__is_named(picture: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column 'depth'"):
        interactive_page(
            tmp_path / "p.html", picture.embedding, picture.models, color_columns=["depth"]
        )
    assert not list(tmp_path.iterdir())


def test_large_ensemble__is_thinned_and_the_page_says_so(picture: Any, tmp_path: Path) -> None:
    path = interactive_page(tmp_path / "p.html", picture.embedding, picture.models, max_models=20)
    parts = Parts(path)
    assert parts.json["n_rows"] <= 22
    assert "Thinned: " in parts.text
    assert f"of {len(picture.models) - 2} models are drawn" in parts.text


def test_small_ensemble__is_not_thinned(page: Path) -> None:
    assert "Thinned" not in Parts(page).text


@pytest.mark.parametrize(
    "shape",
    [
        {"n_runs": 1, "n_held_out": 0},
        {"references": False},
        {"n_components": 2},
        {"n_checkpoints": 1, "n_held_out": 0},
    ],
)
def test_page_and_report__are_written_for_small_ensembles(
    draw_ensemble: Any, tmp_path: Path, shape: dict[str, Any]
) -> None:
    small = draw_ensemble(**shape)
    for write in (interactive_page, build_report):
        path = write(tmp_path / f"{write.__name__}.html", small.embedding, small.models)
        data = Parts(path).json
        assert data["names"] == list(small.models.index)
        assert len(data["axes"]) == min(10, small.embedding.embedding_.shape[1])


def test_page_and_report__are_written_without_any_category(picture: Any, tmp_path: Path) -> None:
    models = picture.models[["train_loss", "train_error"]].copy()
    models.iloc[4:9] = np.nan
    models.iloc[9, 0] = np.inf
    for write in (interactive_page, build_report):
        data = Parts(write(tmp_path / "p.html", picture.embedding, models)).json
        loss = next(column for column in data["columns"] if column["name"] == "train_loss")
        assert loss["values"].count(None) == 5 + 1 + 2
        assert data["start_column"] is None


def test_folder_that_does_not_exist__is_named(picture: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder that does not exist"):
        interactive_page(tmp_path / "no" / "p.html", picture.embedding, picture.models)


def test_report__holds_figures_and_numbers(picture: Any, tmp_path: Path) -> None:
    path = build_report(
        tmp_path / "r.html",
        picture.embedding,
        picture.models,
        numbers={"samples": 60},
        **picture.held_out,
    )
    parts = Parts(path)
    images = [address for address in parts.fetched if address.startswith("data:image/png;base64,")]
    assert len(images) == 4
    assert {"inpca-scatter", "inpca-spectrum", "inpca-color"} <= parts.ids
    assert f"{picture.embedding.eigenvalues_[0]:.6g}" in parts.text
    assert "samples" in parts.text
    assert "attention" in parts.text


@pytest.mark.parametrize(
    ("figure", "ending", "start"),
    [("pairs", "png", b"\x89PNG"), ("3d", "pdf", b"%PDF"), ("spectrum", "svg", b"<?xml")],
)
def test_save_figure__writes_the_format_of_the_ending(
    picture: Any, tmp_path: Path, figure: str, ending: str, start: bytes
) -> None:
    path = save_figure(figure, tmp_path / f"f.{ending}", picture.embedding, picture.models)
    assert path.read_bytes().startswith(start)


def test_save_figure__writes_the_page_too(picture: Any, tmp_path: Path) -> None:
    path = save_figure("page", tmp_path / "p.html", picture.embedding, picture.models, color="run")
    assert Parts(path).json["start_column"] == "run"


@pytest.mark.parametrize(("figure", "name"), [("pie", "a.png"), ("pairs", "a.doc"), ("3d", "a")])
def test_save_figure__refuses_what_it_cannot_draw(
    picture: Any, tmp_path: Path, figure: str, name: str
) -> None:
    with pytest.raises(InputError, match=r"`(figure|path)` must"):
        save_figure(figure, tmp_path / name, picture.embedding, picture.models)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [interactive_page, build_report])
def test_page__is_not_written_under_another_ending(
    picture: Any, tmp_path: Path, write: Any
) -> None:
    with pytest.raises(InputError, match=r"`path` must end in .html .* use x.html"):
        write(tmp_path / "x.png", picture.embedding, picture.models)
    with pytest.raises(InputError, match=r"`path` must end in .html .* use x.html"):
        save_figure("page", tmp_path / "x.png", picture.embedding, picture.models)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure", ["pairs", "3d", "spectrum"])
def test_figures__are_not_written_as_pages(picture: Any, tmp_path: Path, figure: str) -> None:
    with pytest.raises(InputError, match=r"only the figure 'page' is written as .html"):
        save_figure(figure, tmp_path / "x.html", picture.embedding, picture.models)
    assert not list(tmp_path.iterdir())


def test_page__of_coinciding_models_says_that_a_coordinate_is_zero(
    coinciding: Any, tmp_path: Path
) -> None:
    parts = Parts(interactive_page(tmp_path / "p.html", coinciding.embedding, coinciding.models))
    assert parts.json["axes"][2]["short"] == "3 (zero)"
    assert parts.json["spectrum"][2]["sign"] == 0
    assert "eigenvalue zero has no sign; here: 3." in parts.text


# --- in a browser ----------------------------------------------------------------------------

CHOOSE = """
const choose = (id, value) => {
  const element = document.getElementById("inpca-" + id);
  if (element.type === "checkbox") element.checked = value; else element.value = value;
  element.dispatchEvent(new Event("change"));
};
const column = (name) => [...document.getElementById("inpca-color").options]
  .find((option) => option.text === name).value;
const drawn = () => document.getElementById("inpca-scatter");
"""
TYPES = "return [...new Set(drawn().data.map((trace) => trace.type))]"


def wait_for(browser: Any, script: str) -> Any:
    """What `script` returns once it returns something; drawing is asynchronous."""
    for _ in range(1200):
        found = browser.run(CHOOSE + script)
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"never true in the page: {script}")


@pytest.mark.slow
def test_page__works_in_a_browser(page: Path, picture: Any, browser: Any) -> None:
    browser.open(page)
    wait_for(browser, "return drawn().data && drawn().data.length")
    names = browser.run(CHOOSE + "return drawn().data.map((trace) => trace.name)")
    assert {"attention", "cnn", "linear", "mlp", "ignorance P₀", "truth P*"} <= set(names)
    assert browser.run(CHOOSE + TYPES) == ["scatter3d"]

    browser.run(CHOOSE + 'choose("color", column("train_loss"))')
    title = "const bar = drawn().data.map((t) => t.marker && t.marker.colorbar).find(Boolean);"
    assert "train_loss" in wait_for(browser, title + "return bar && bar.title.text")

    browser.run(CHOOSE + 'choose("z", ""); choose("color", column("seed")); choose("equal", true)')
    assert wait_for(browser, TYPES) == ["scatter"]
    browser.run(CHOOSE + 'choose("y", 0)')
    note = 'return document.getElementById("inpca-axes-note").textContent'
    assert "same coordinate" in wait_for(browser, note)

    assert [m for m in browser.console() if "willReadFrequently" not in m] == []
    assert browser.requests() == [page.resolve().as_uri()]


@pytest.mark.slow
def test_report_of_metrics_with_gaps__works_in_a_browser(
    picture: Any, tmp_path: Path, browser: Any
) -> None:
    models: pd.DataFrame = picture.models.copy()
    models.loc[models.index[3:9], "train_loss"] = np.nan
    models.loc[models.index[9], "train_loss"] = 0.0
    path = build_report(tmp_path / "r.html", picture.embedding, models)
    browser.open(path)
    wait_for(browser, "return drawn().data && drawn().data.length")
    browser.run(CHOOSE + 'choose("color", column("train_loss")); choose("log", true)')
    names = wait_for(browser, "return drawn().data.map((trace) => trace.name)")
    assert "no value" in names
    note = 'return document.getElementById("inpca-log-note").textContent'
    assert "1 models with train_loss ≤ 0" in wait_for(browser, note)
    assert [m for m in browser.console() if "willReadFrequently" not in m] == []


def test_page_of_many_averages__has_one_name_for_all_of_them(picture: Any, tmp_path: Path) -> None:
    models = picture.models.copy()
    models["n_averaged"] = np.nan
    rows = models.index[2:10]
    models.loc[rows, "n_averaged"] = 3
    models.loc[rows, "kind"] = "reference"
    path = interactive_page(tmp_path / "page.html", picture.embedding, models)
    data = Parts(path).json
    assert [reference["key"] for reference in data["references"]] == ["@ignorance", "@truth"]
    assert data["crowd"]["name"] == "averages (8)"
    assert [data["names"][row] for row in data["crowd"]["rows"]] == list(rows)
    assert "truth P*; averages (8)." in Parts(path).text
