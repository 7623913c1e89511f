"""The verbs, run as a user runs them: in a process of their own."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import cli
from inpca.store.claim import alone


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inpca", *map(str, arguments)]
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def embedded(small_ensemble: inpca.Ensemble) -> Path:
    path = small_ensemble.path
    matrix = inpca.pairwise_distances(
        small_ensemble.select("run != 'run-3'").with_references(),
        out=small_ensemble.distances_path("train"),
    )
    embedding = inpca.InPCA(n_components=3).fit(matrix)
    embedding.save(small_ensemble.embeddings_path("train"))
    return path


def test_help__lists_every_verb() -> None:
    text = run("--help").stdout
    verbs = "demo import info check plan distances embed project plot report export doctor"
    assert all(f" {verb} " in text for verb in verbs.split())


def test_version__is_printed() -> None:
    assert run("--version").stdout.strip() == f"inpca {inpca.__version__}"


def test_distances_and_embed__go_through(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    out = run("distances", path, "--quiet").stdout.strip()
    assert Path(out) == small_ensemble.distances_path("train")
    rows = json.loads(run("embed", path, "--components", 4, "--json", "--quiet").stdout)
    assert [row["component"] for row in rows] == [1, 2, 3, 4]
    assert inpca.load_embedding(small_ensemble.embeddings_path("train")).embedding_.shape == (26, 4)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/big/x"),
            "/big/x: No space left on device; free some space, then call again: what is finished "
            "is kept.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            "/x: Permission denied; change its permissions, or give another place.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/x"),
            "/x: No such file; check the path.",
        ),
        (
            OSError("no route"),
            "no route; put that right, then call again: what is finished is kept.",
        ),
    ],
    ids=["ENOSPC", "EACCES", "ENOENT", "network"],
)
def test_error_of_the_operating_system__is_one_line_and_exit_code_5(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    message: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(cli, "entry_points", lambda group: ())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 5
    assert capsys.readouterr().err == f"error: {message}\n"


def test_metric__is_any_divergence(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    out = run("distances", path, "--metric", "chernoff:.3", "--name", "c", "--quiet").stdout.strip()
    assert inpca.TiledMatrix.open(out).attrs["metric"] == "chernoff:0.3"
    embedding = small_ensemble.embeddings_path("c")
    run("embed", path, "--name", "c", "--components", 2, "--quiet")
    assert inpca.load_embedding(embedding).embedding_.shape == (26, 2)
    message = run("plan", path, "--metric", "jefreys", code=3).stderr
    assert "did you mean 'jeffreys'" in message


def test_embed__goes_on_from_the_passes_of_a_killed_call(embedded: Path) -> None:
    ensemble = inpca.open_ensemble(embedded)
    passes = ensemble.embeddings_path("train").with_suffix(".passes")
    command = ["embed", embedded, "-k", 2, "--solver", "lanczos", "--quiet"]
    matrix = inpca.TiledMatrix.open(ensemble.distances_path("train"))
    fitted = inpca.InPCA(n_components=2, solver="lanczos", checkpoint=passes).fit(matrix)
    assert [path.name for path in passes.iterdir()] == ["pass-0001.npz"]
    run(*command)
    assert not passes.exists()
    saved = inpca.load_embedding(ensemble.embeddings_path("train"))
    np.testing.assert_array_equal(saved.embedding_, fitted.embedding_)


def test_embed__refuses_passes_of_another_solve_until_restart(embedded: Path) -> None:
    ensemble = inpca.open_ensemble(embedded)
    passes = ensemble.embeddings_path("train").with_suffix(".passes")
    command = ["embed", embedded, "-k", 2, "--solver", "lanczos", "--quiet"]
    matrix = inpca.TiledMatrix.open(ensemble.distances_path("train"))
    inpca.InPCA(n_components=2, solver="lanczos", checkpoint=passes, random_state=1).fit(matrix)
    assert "another solve" in run(*command, code=3).stderr
    run(*command, "--restart")
    assert not passes.exists()


def test_embed__of_a_selection_computes_no_distances_and_keeps_the_references(
    embedded: Path,
) -> None:
    ensemble = inpca.open_ensemble(embedded)
    tiles = sorted((ensemble.distances_path("train") / "distance").iterdir())
    times = [tile.stat().st_mtime_ns for tile in tiles]
    select = ("--select", "architecture == 'mlp'", "--save-as", "mlp")
    run("embed", embedded, "-k", 2, *select, "--quiet")
    embedding = inpca.load_embedding(ensemble.embeddings_path("mlp"))
    assert embedding.models_ is not None
    assert embedding.models_.index[:2].tolist() == ["@ignorance", "@truth"]
    assert set(embedding.models_["run"][2:]) == {"run-1"}
    assert [tile.stat().st_mtime_ns for tile in tiles] == times
    assert len(inpca.load_embedding(ensemble.embeddings_path("train")).models_) == 20


@pytest.mark.parametrize("select", [(), ("--select", "architecture == 'mlp'")], ids=["all", "some"])
def test_embed__leaves_out_the_references_on_request(
    embedded: Path, select: tuple[str, ...]
) -> None:
    ensemble = inpca.open_ensemble(embedded)
    options = ("-k", 2, *select, "--no-references", "--quiet")
    assert "makes another embedding" in run("embed", embedded, *options, code=3).stderr
    run("embed", embedded, *options, "--save-as", "own")
    embedding = inpca.load_embedding(ensemble.embeddings_path("own"))
    assert embedding.models_ is not None
    runs = {"run-1"} if select else {"run-0", "run-1", "run-2"}
    assert set(embedding.models_["run"]) == runs


def test_embed__twice_at_once_is_refused(embedded: Path) -> None:
    passes = inpca.open_ensemble(embedded).embeddings_path("train").with_suffix(".passes")
    with alone(passes, embedded / ".locks" / "embeddings" / "train.lock"):
        done = run("embed", embedded, "-k", 2, "--quiet", code=5)
        run("embed", embedded, "-k", 2, "--quiet", "--save-as", "other")
    assert f"{passes} is being written by another process" in done.stderr
    run("embed", embedded, "-k", 2, "--quiet")


def test_embed__that_fails_leaves_nothing_among_the_embeddings(embedded: Path) -> None:
    before = sorted((embedded / "embeddings").iterdir())
    options = ("--save-as", "new", "--quiet")
    run("embed", embedded, "-k", 99, *options, code=3)
    run("embed", embedded, "-k", 2, "--select", "step < 0", *options, code=3)
    run("embed", embedded, "-k", 2, "--solver", "dense", "--memory", "1KB", *options, code=5)
    assert sorted((embedded / "embeddings").iterdir()) == before


def test_embed__starts_from_a_former_embedding(embedded: Path) -> None:
    ensemble = inpca.open_ensemble(embedded)
    former = inpca.load_embedding(ensemble.embeddings_path("train"))
    options = ("-k", 3, "--solver", "lanczos", "--warm-start", "train", "--save-as", "warm")
    run("embed", embedded, *options, "--quiet")
    warm = inpca.load_embedding(ensemble.embeddings_path("warm"))
    np.testing.assert_allclose(warm.eigenvalues_, former.eigenvalues_, rtol=1e-9)


def test_info__is_json_on_request(embedded: Path) -> None:
    record = json.loads(run("info", embedded, "--json").stdout)
    assert (record["runs"], record["models"]) == (4, 24)
    assert record["sample_sets"] == {"train": 40, "test": 20}
    assert record["columns"]["seed"] == {"min": 0, "max": 1}
    assert record["columns"]["architecture"]["values"] == ["linear", "mlp"]
    assert record["distances"]["train"]["tiles_missing"] == 0
    assert record["embeddings"]["train"] == {"models": 20, "components": 3}
    assert "architecture" in run("info", embedded).stdout


def test_plan__states_memory_disk_and_time(small_ensemble: inpca.Ensemble) -> None:
    text = run("plan", small_ensemble.path).stdout
    assert all(word in text for word in ("memory", "disk", "time", "tiles", "reads"))


def test_project__prints_the_coordinates_that_transform_gives(embedded: Path) -> None:
    done = run("project", embedded, "--select", "run == 'run-3'", "--quiet")
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 6
    ensemble = inpca.open_ensemble(embedded)
    embedding = inpca.load_embedding(ensemble.embeddings_path("train"))
    expected = embedding.transform(ensemble.select("run == 'run-3'"))
    table = pd.read_csv(pd.io.common.StringIO(done.stdout), index_col="model")
    columns = [name for name in table.columns if name[0] == "x" and name[1:-1].isdigit()]
    np.testing.assert_allclose(table[columns].to_numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("figure", ["pairs", "3d", "spectrum"])
def test_plot__writes_a_picture(embedded: Path, tmp_path: Path, figure: str) -> None:
    output = tmp_path / f"{figure}.png"
    color = () if figure == "spectrum" else ("--color", "architecture")
    run("plot", embedded, figure, *color, "--output", output)
    assert output.read_bytes().startswith(b"\x89PNG")


def test_report__is_one_page(embedded: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    run("report", embedded, "--output", output)
    assert "time-like" in output.read_text(encoding="utf-8")


@pytest.mark.parametrize("ending", ["csv", "npz", "h5"])
@pytest.mark.parametrize("what", ["models", "distances", "embedding"])
def test_export__writes_each_thing_in_each_format(
    embedded: Path, tmp_path: Path, what: str, ending: str
) -> None:
    output = tmp_path / f"{what}.{ending}"
    run("export", embedded, what, "--output", output)
    n_models = 24 if what == "models" else 20
    if ending == "csv":
        assert len(pd.read_csv(output)) == n_models
    elif ending == "npz":
        with np.load(output) as arrays:
            assert len(arrays["model"]) == n_models
    else:
        import h5py

        with h5py.File(output) as file:
            assert len(file["model"]) == n_models


def test_lost_tile__is_damage_and_an_unfinished_matrix_is_bad_input(
    embedded: Path, tmp_path: Path
) -> None:
    tile = embedded / "distances" / "train.zarr" / "distance" / "c.0.0"
    tile.unlink()
    output = tmp_path / "d.h5"
    assert "compute them again" in run("embed", embedded, "-q", code=4).stderr
    assert "compute them again" in run("export", embedded, "distances", "-o", output, code=4).stderr
    assert "lost" in run("info", embedded).stdout
    inpca.TiledMatrix.create(
        embedded / "distances" / "begun.zarr", n_models=30, tile_size=10, fingerprint="x"
    )
    error = run("export", embedded, "distances", "-n", "begun", "-o", output, code=3).stderr
    assert "finish it first" in error
    assert not output.exists()


def test_plot_page__is_html_by_default(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("plot", embedded, "page").stdout.strip() == "page.html"


def test_embed__says_that_it_replaces_an_embedding(embedded: Path) -> None:
    assert "replacing" in run("embed", embedded, "-k", 2, "-q").stderr


def test_describe_embedding__gives_a_zero_eigenvalue_no_sign() -> None:
    from inpca.summary import describe_embedding

    line = np.array([[0.0, 1, 4], [1, 0, 1], [4, 1, 0]])  # three points on a line: rank one
    embedding = inpca.InPCA(n_components=2, metric="precomputed").fit(line)
    assert describe_embedding(embedding)["kind"].tolist() == ["space-like", "zero"]


def test_export__refuses_to_overwrite(embedded: Path, tmp_path: Path) -> None:
    output = tmp_path / "d.npz"
    output.write_bytes(b"mine")
    assert "exists already" in run("export", embedded, "models", "-o", output, code=3).stderr
    assert output.read_bytes() == b"mine"


def test_check__names_the_damaged_tile_and_repair_recomputes_it(embedded: Path) -> None:
    assert run("check", embedded, "--quiet").stdout == ""
    tile = embedded / "distances" / "train.zarr" / "distance" / "c.0.0"
    whole = tile.read_bytes()
    tile.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    assert "0.0" in run("check", embedded, "--quiet", code=4).stdout
    run("distances", embedded, "--select", "run != 'run-3'", "--repair", "--quiet")
    assert tile.read_bytes() == whole
    run("check", embedded, "--quiet")


def test_check__names_a_deleted_tile_but_not_one_that_was_never_computed(embedded: Path) -> None:
    tile = embedded / "distances" / "train.zarr" / "distance" / "c.0.0"
    tile.unlink()
    assert "distances/train.zarr/distance/c.0.0" in run("check", embedded, "-q", code=4).stdout
    inpca.TiledMatrix.create(
        embedded / "distances" / "begun.zarr", n_models=30, tile_size=10, fingerprint="x"
    )
    assert "begun" not in run("check", embedded, "-q", code=4).stdout


def test_check__names_a_damaged_embedding(embedded: Path) -> None:
    part = embedded / "embeddings" / "train.zarr" / "eigenvalues" / "c.0"
    part.write_bytes(part.read_bytes()[:-1])
    assert "embeddings/train.zarr/eigenvalues/c.0" in run("check", embedded, "-q", code=4).stdout


def test_doctor__says_what_the_machine_has() -> None:
    record = json.loads(run("doctor", "--json").stdout)
    assert {"cores", "memory", "disk", "blas", "gpus", "versions"} <= {
        key.split("_")[0].lower() for key in record
    }


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["info", "{tmp}"], "ensemble"),
        (["distances", "{ens}", "--sample-set", "validation"], "validation"),
        (["distances", "{ens}", "--select", "no_such_column == 1"], "no_such_column"),
        (["distances", "{ens}", "--metric", "cosine"], "metric"),
        (["distances", "{ens}", "--memory", "lots"], "memory"),
        (["embed", "{ens}"], "train"),
        (["embed", "{ens}", "--select", "seed == 0"], "--save-as"),
        (["project", "{ens}", "--select", "seed == 0"], "train"),
        (["export", "{ens}", "everything", "-o", "{tmp}/a.csv"], "everything"),
        (["export", "{ens}", "models", "-o", "{tmp}/a.xlsx"], "a.xlsx"),
    ],
)
def test_bad_input__is_one_line_exit_code_3_and_nothing_written(
    small_ensemble: inpca.Ensemble, tmp_path: Path, arguments: list[str], word: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    before = files(tmp_path)
    filled = [a.format(ens=small_ensemble.path, tmp=empty) for a in arguments]
    error = run(*filled, code=3)
    assert error.stderr.startswith("error: ")
    assert word in error.stderr
    assert "Traceback" not in error.stderr
    assert files(tmp_path) == before


def files(folder: Path) -> list[str]:
    """Everything below `folder`, but the catalogue, which reading may make."""
    return sorted(str(path) for path in folder.rglob("*") if path.name != "catalogue")


def test_usage__is_exit_code_2() -> None:
    run("distances", code=2)


def test_distances__in_parts_and_extended_are_those_of_one_call(
    small_ensemble: inpca.Ensemble,
) -> None:
    path = small_ensemble.path
    options = ("--quiet", "--tile-size", 8, "--select")
    for part in ("2/2", "1/2"):
        run("distances", path, "--name", "parts", "--part", part, *options, "run != 'run-3'")
    run("distances", path, "--name", "parts", "--extend", *options, "run == run")
    run("distances", path, "--name", "whole", *options, "run == run")
    matrices = [
        inpca.TiledMatrix.open(small_ensemble.distances_path(name)) for name in ("parts", "whole")
    ]
    assert list(matrices[0].models.index) == list(matrices[1].models.index)
    np.testing.assert_array_equal(*(matrix.to_array() for matrix in matrices))


def test_distances__of_a_part_say_what_is_left(small_ensemble: inpca.Ensemble) -> None:
    done = run("distances", small_ensemble.path, "--part", "1/16", "--tile-size", 8)
    assert "part 1 of 16: 0 tiles computed; 10 of 10 of the matrix still to do" in done.stderr
    assert "6 of them have nothing to compute" in done.stderr
    assert Path(done.stdout.strip()) == small_ensemble.distances_path("train")


@pytest.mark.parametrize("part", ["17/16", "0/4", "x"])
def test_distances__refuse_a_part_that_is_none(small_ensemble: inpca.Ensemble, part: str) -> None:
    assert (
        "`part` must be i/k" in run("distances", small_ensemble.path, "--part", part, code=3).stderr
    )


def test_distances__refuse_a_scheduler_that_is_none(small_ensemble: inpca.Ensemble) -> None:
    path = small_ensemble.path
    said = run("distances", path, "--scheduler", "here", code=3).stderr
    assert "`--scheduler` must be an address" in said
    said = run("distances", path, "--scheduler", "tcp://a:1", "--workers", 2, code=3).stderr
    assert "give one" in said
