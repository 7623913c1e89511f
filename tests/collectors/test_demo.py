"""The demonstration, end to end with tiny settings: all rooms of the house in one go."""

import dataclasses
import shutil

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import collectors.demo
import inpca
from collectors.demo import FULL, QUICK, Settings, register, run_demo
from inpca import InputError

TINY = Settings(
    architectures=("linear", "mlp"),
    optimizers=("nesterov",),
    seeds=2,
    held_out=(("mlp", "nesterov"),),
    epochs=1,
    n_checkpoints=4,
    n_components=5,
)
FILES = {"digits.html", "pairs.png", "scatter.png", "spectrum.png", "demo.json", "digits.ensemble"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "demo"
    return folder, run_demo(folder, settings=TINY, workers=1, progress=None)


@pytest.fixture
def copy(finished, tmp_path):
    folder, _ = finished
    return shutil.copytree(folder, tmp_path / "demo")


def again(folder, **options):
    return run_demo(folder, **{"settings": TINY, "workers": 1, "progress": None} | options)


def written(folder):
    """When each file was written last; locks and the catalogue, a cache, aside."""
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    kept = {name for name in names if ".lock" not in name and not name.endswith("catalogue")}
    return {name: names[name].stat().st_mtime_ns for name in kept}


def test_settings__are_what_the_demo_promises():
    trainings = FULL.sweep.trainings
    assert len(trainings) == 4 * 2 * 3 + 2
    embedded = [training for training in trainings if training.seed < FULL.seeds]
    assert sum(len(training.steps(1297)) for training in embedded) == 480
    assert sum(len(t.steps(1297)) for t in QUICK.sweep.trainings if t.seed < QUICK.seeds) == 80
    assert len({training.run for training in trainings}) == 26


def test_demo__leaves_an_ensemble_distances_an_embedding_and_pictures(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == FILES
    ensemble = inpca.open_ensemble(folder / "digits.ensemble")
    assert ensemble.runs == [
        "linear-nesterov-0",
        "linear-nesterov-1",
        "mlp-nesterov-0",
        "mlp-nesterov-1",
        "mlp-nesterov-2",
    ]
    assert ensemble.check() == []
    matrix = inpca.TiledMatrix.open(ensemble.distances_path("train"))
    assert matrix.shape == (18, 18)
    assert matrix.complete
    assert matrix.to_array()[0, 1] == pytest.approx(np.log(10) / 2, rel=1e-6)
    assert (folder / "digits.html").stat().st_size > 1_000_000
    assert (folder / "pairs.png").read_bytes()[:4] == b"\x89PNG"


def test_demo__embedding_leaves_the_held_out_run_to_projection(finished):
    folder, _ = finished
    ensemble = inpca.open_ensemble(folder / "digits.ensemble")
    embedding = inpca.load_embedding(ensemble.embeddings_path("train"))
    assert embedding.embedding_.shape == (18, 5)
    assert list(embedding.models_.index[:2]) == ["@ignorance", "@truth"]
    assert "mlp-nesterov-2" not in set(embedding.models_["run"])


def test_demo__prints_a_table_and_where_the_page_is(finished):
    folder, lines = finished
    text = "\n".join(lines)
    for words in ("18 (with ignorance and truth), 4 runs", "Explained stress, Eq. 8", "Signature"):
        assert words in text
    assert "4 models of runs held out (mlp-nesterov-2)" in text
    assert str((folder / "digits.html").resolve()) in text


def test_demo__second_call_prints_the_same_and_writes_nothing(finished):
    folder, lines = finished
    before = written(folder)
    assert again(folder) == lines
    assert written(folder) == before


def test_demo__redraws_only_the_picture_that_is_missing(copy):
    before = written(copy)
    (copy / "pairs.png").unlink()
    again(copy)
    after = written(copy)
    assert {name for name in after if after[name] != before[name]} == {"pairs.png"}


def test_demo__computes_everything_again_when_a_run_is_lost(finished, copy):
    lines = finished[1]
    before = written(copy)
    shutil.rmtree(copy / "digits.ensemble" / "runs" / "linear-nesterov-1.zarr")
    assert again(copy)[:-2] == lines[:-2]
    after = written(copy)
    changed = {name for name in after if after[name] != before.get(name)}
    assert FILES - {"demo.json", "digits.ensemble"} <= changed
    assert not any("mlp-nesterov" in name for name in changed)


def test_demo__restart_begins_again_and_leaves_other_files_alone(finished, copy):
    (copy / "notes.txt").write_text("mine")
    before = written(copy)
    assert again(copy, restart=True)[:-2] == finished[1][:-2]
    after = written(copy)
    unchanged = {name for name in after if after[name] == before.get(name)}
    assert unchanged == {"notes.txt"}


def test_demo__refuses_a_folder_with_other_settings(copy):
    with pytest.raises(InputError, match=r"other settings .*--output.*--restart"):
        again(copy, settings=dataclasses.replace(TINY, epochs=2))


def test_demo__refuses_a_folder_that_is_somebody_elses(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    for restart in (False, True):
        with pytest.raises(InputError, match="neither empty nor a former demo"):
            again(tmp_path, restart=restart)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_demo__names_the_packages_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(collectors.demo, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs torch, matplotlib, plotly.*inpca\[demo\]"):
        again(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_verb__puts_the_table_on_stdout_and_progress_on_stderr(finished, monkeypatch):
    folder, lines = finished
    monkeypatch.setattr(collectors.demo, "QUICK", TINY)
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["demo", "--quick", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == lines
    quiet = CliRunner().invoke(app, ["demo", "--quick", "--quiet", "--output", str(folder)])
    assert quiet.stderr == ""
