"""The verbs join, four-point, explained and subsets, and weights of embed."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca.cli import main
from inpca.store.claim import alone


@pytest.fixture
def embedded(small_ensemble: inpca.Ensemble) -> Path:
    """Distances on both sample sets, and an embedding of the first."""
    for name in ("train", "test"):
        place = small_ensemble.distances_path(name)
        matrix = inpca.pairwise_distances(small_ensemble, sample_set=name, out=place, tile_size=10)
        if name == "train":
            inpca.InPCA(3).fit(matrix).save(small_ensemble.embeddings_path(name))
    return small_ensemble.path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the program in this process; standard output, or, with a `code`, standard error."""

    def call(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["inpca", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        assert (ending.value.code or 0) == code, captured.err
        call.said.append(captured.err)
        return captured.err if code else captured.out

    call.said = []  # on standard error, by call
    return call


def coordinates(text: str) -> tuple[pd.DataFrame, np.ndarray]:
    table = pd.read_csv(io.StringIO(text), index_col="model")
    columns = [name for name in table.columns if name[0] == "x" and name[1:-1].isdigit()]
    return table, table[columns].to_numpy()


def test_join__beside_another_verb_that_replaces_the_embedding__is_refused(
    embedded: Path, run
) -> None:
    place = inpca.open_ensemble(embedded).embeddings_path("train")
    with alone(place, embedded / ".locks" / "embeddings" / "train.lock"):
        for verb in (("join", "test"), ("four-point",)):
            arguments = (verb[0], embedded, *verb[1:], "--name", "train", "--quiet")
            assert "is being written by another process" in run(*arguments, code=5)
    assert inpca.load_embedding(place).joint_ == {}


def test_join__after_a_replacement_that_was_cut_off__finishes_it(embedded: Path, run) -> None:
    place = inpca.open_ensemble(embedded).embeddings_path("train")
    place.rename(place.with_name("train.zarr.8.next"))
    run("join", embedded, "test", "--quiet")
    assert list(inpca.load_embedding(place).joint_) == ["test"]
    assert [entry.name for entry in place.parent.iterdir() if entry.is_dir()] == ["train.zarr"]


def test_join__keeps_and_prints_the_models_on_the_other_set(embedded: Path, run) -> None:
    table, x = coordinates(run("join", embedded, "test", "--quiet"))
    ensemble = inpca.open_ensemble(embedded)
    embedding = inpca.load_embedding(ensemble.embeddings_path("train"))
    assert table["distances"].tolist() == ["train"] * 24 + ["test"] * 24
    assert x == pytest.approx(np.concatenate([embedding.embedding_, embedding.joint_["test"]]))
    d = inpca.TiledMatrix.open(ensemble.distances_path("test")).to_array()
    assert embedding.joint_["test"] == pytest.approx(embedding.transform(d), abs=1e-6)
    rows = json.loads(run("explained", embedded, "--distances", "test", "--json", "-q"))
    assert run.said[-1] == ""
    expected = inpca.explained_pairwise_distances(d, embedding.joint_["test"], embedding.signature_)
    assert [row["explained"] for row in rows] == pytest.approx(expected, rel=1e-6)


def test_explained__is_of_the_models_of_the_embedding(embedded: Path, run) -> None:
    options = ("--select", "architecture == 'mlp'", "--save-as", "mlp", "--components", 2)
    run("embed", embedded, *options, "--quiet")
    rows = json.loads(run("explained", embedded, "-n", "mlp", "--distances", "train", "--json"))
    ensemble = inpca.open_ensemble(embedded)
    d = inpca.pairwise_distances(ensemble.select("architecture == 'mlp'"))
    x = inpca.InPCA(2, metric="precomputed").fit(d)
    expected = inpca.explained_pairwise_distances(d, x.embedding_, x.signature_)
    assert [row["d"] for row in rows] == [1, 2]
    assert [row["explained"] for row in rows] == pytest.approx(expected, abs=1e-5)


def test_embed_with_weights__counts_models_by_a_column(embedded: Path, run) -> None:
    run("embed", embedded, "--weights", "step", "--save-as", "late", "-k", 2, "--quiet")
    assert "weighted by 'step': 20 models count, 4 of weight 0 are projected" in run.said[-1]
    ensemble = inpca.open_ensemble(embedded)
    loaded = inpca.load_embedding(ensemble.embeddings_path("late"))
    assert loaded.weights_ == pytest.approx(ensemble.models["step"].to_numpy(float))
    assert "one of the columns" in run("embed", embedded, "--weights", "speed", "-q", code=3)


def test_embed_with_weights__counts_stored_averages_only_when_asked(embedded: Path, run) -> None:
    inpca.average_groups(inpca.open_ensemble(embedded), ["architecture", "step"])
    run("distances", embedded, "--name", "all", "--quiet")
    options = ["--name", "all", "--weights", "step", "-k", 2, "--quiet"]
    run("embed", embedded, *options, "--save-as", "plain")
    run("embed", embedded, *options, "--save-as", "asked", "--weigh-references")
    ensemble = inpca.open_ensemble(embedded)
    plain, asked = (
        inpca.load_embedding(ensemble.embeddings_path(name)) for name in ("plain", "asked")
    )
    averages = (plain.models_["kind"] == "reference").to_numpy()
    steps = plain.models_["step"].to_numpy(float)
    assert averages.sum() >= 12
    assert plain.weights_ == pytest.approx(np.where(averages, 0, steps))
    own = ~plain.models_.index.str.startswith("@")
    assert asked.weights_[own] == pytest.approx(steps[own])
    message = run("embed", embedded, "-n", "all", "--weigh-references", "-q", code=3)
    assert "name it with `--weights`" in message


def test_four_point__is_saved_and_projected_into(embedded: Path, run) -> None:
    options = ("--s1", 0.2, "--s2", 0.5, "--sigma", 0.1, "--quiet")
    table, x = coordinates(run("four-point", embedded, *options))
    assert table.index[:2].tolist() == ["@ignorance", "@truth"]
    assert table["progress"].iloc[:2].tolist() == pytest.approx([0, 1])
    select = ("--select", "run == 'run-3'")
    _, again = coordinates(run("project", embedded, "-n", "four-point", *select, "--quiet"))
    assert again == pytest.approx(x[table["run"] == "run-3"], abs=1e-9)
    assert "within 4 σ" in run("four-point", embedded, "--sigma", 1e-6, "--quiet", code=3)


def test_subsets__print_a_row_for_each_draw_and_component(
    embedded: Path, run, tmp_path: Path
) -> None:
    options = ("--samples", "5,40", "--repeats", 2, "-k", 2, "--keep", tmp_path / "draws")
    rows = json.loads(run("subsets", embedded, *options, "--json", "--quiet"))
    assert [(row["n_samples"], row["repeat"], row["d"]) for row in rows] == [
        (n, repeat, d) for n in (5, 40) for repeat in (0, 1) for d in (1, 2)
    ]
    own = json.loads(run("explained", embedded, "--json"))
    of_all = [row["explained"] for row in rows if row["n_samples"] == 40]
    assert of_all[:2] == pytest.approx([row["explained"] for row in own[:2]], abs=1e-5)
    assert "separated by commas" in run("subsets", embedded, "--samples", "many", "-q", code=3)
