"""`inpca attribution`, as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca.plotting.gallery import available
from inpca.plotting.subject import Subject

N, C = 30, 3


def run(*arguments, code=0):
    command = [sys.executable, "-c", "from inpca.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def embedded(tmp_path):
    labels = np.arange(N) % C
    path = tmp_path / "e"
    ensemble = inpca.create_ensemble(path, sample_sets={"train": labels}, n_classes=C)
    rng = np.random.default_rng(0)
    for run_id in "abcd":
        hard = rng.permutation(np.linspace(0, 3, N))[:, None]
        ways = [np.maximum(t - hard, 0) * np.eye(C)[labels] for t in np.linspace(0.1, 5, 6)]
        logits = np.array(ways) + 0.1 * rng.normal(size=(1, N, C))
        ensemble.add_run(run_id, {"train": logits}, kind="logits")
    view = inpca.open_ensemble(path).with_references()
    matrix = inpca.pairwise_distances(view, out=view.distances_path("train"))
    inpca.InPCA(3, metric="precomputed").fit(matrix).save(view.embeddings_path("train"))
    # A run that came later, is not embedded, and learns nothing.
    ensemble.add_run("later", {"train": np.roll(logits, 1, axis=2)}, kind="logits")
    return path


def test_attribution__compares_the_late_samples_and_writes_all(embedded, tmp_path):
    target = tmp_path / "shares.csv"
    out = run("attribution", embedded, "--json", "--split", "-q", "-o", target, "--late", "0.2")
    found = json.loads(out.stdout)
    table = pd.read_csv(target, index_col="sample")
    assert table["chosen"].sum() == N // 5
    n_never, n_runs = table["never_learnt"], 4  # not those of the run that is not embedded
    assert n_never.min() == 0
    assert table["learnt_at"].isna().equals(n_never == n_runs)
    when = (table["learnt_at"].fillna(0) * (n_runs - n_never) + n_never) / n_runs
    assert when[table["chosen"]].min() >= when[~table["chosen"]].max() - 1e-9
    shares = table[["share_1", "share_2", "share_3"]]
    assert shares.sum().to_numpy() == pytest.approx(1, abs=1e-5)
    for row, name in zip(found["coordinates"], shares, strict=True):
        assert row["share"] == pytest.approx(shares[name][table["chosen"]].sum())
    assert {row["part"] for row in found["explained"]} == {"chosen", "rest"}


def test_split__saves_both_embeddings_with_their_samples(embedded, tmp_path):
    chosen = tmp_path / "stragglers.txt"
    chosen.write_text("3\n7\n11\n")
    arguments = ("attribution", embedded, "--samples", chosen, "--split", "--json", "-q")
    assert "saving the embedding train-chosen" in run(*arguments).stderr
    ensemble = inpca.open_ensemble(embedded)
    parts = {part: inpca.load_embedding(ensemble.embeddings_path(f"train-{part}")) for part in
             ("chosen", "rest")}  # fmt: skip
    assert parts["chosen"].samples_.tolist() == [3, 7, 11]
    assert sorted([*parts["rest"].samples_, 3, 7, 11]) == list(range(N))
    whole = inpca.load_embedding(ensemble.embeddings_path("train"))
    assert whole.samples_ is None
    for part in parts.values():
        assert part.models_.index.equals(whole.models_.index)
        assert (part.sample_set_, part.metric_) == ("train", "bhattacharyya")
    drawn = available(Subject(ensemble, "train-rest"))
    assert {"pairs", "3d", "spectrum"} <= set(drawn)
    assert not {"samples", "explained", "shares"} & set(drawn)
    assert "shares" in available(Subject(ensemble))
    assert "replacing the embedding train-rest" in run(*arguments).stderr


def test_attribution__takes_the_samples_of_a_file(embedded, tmp_path):
    chosen = tmp_path / "stragglers.txt"
    chosen.write_text("3\n7\n11\n")
    found = json.loads(run("attribution", embedded, "--samples", chosen, "--json", "-q").stdout)
    assert found["coordinates"][0]["fair_share"] == pytest.approx(3 / N)
    chosen.write_text("three\n")
    assert "whole numbers" in run("attribution", embedded, "--samples", chosen, code=3).stderr
    chosen.write_text("99\n")
    error = run("attribution", embedded, "--samples", chosen, "-q", code=3).stderr
    assert all(part in error.replace("\n", "") for part in ("stragglers.txt", "0 … 29", "not 99"))
    chosen.write_text("")
    assert "not nothing" in run("attribution", embedded, "--samples", chosen, code=3).stderr
    assert "between 0 and 1" in run("attribution", embedded, "--late", "2", code=3).stderr
