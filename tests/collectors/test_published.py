"""Import of the published archive: its run files, matrices and index tables, each accounted for."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

import inpca
from collectors.published.command import register
from collectors.published.folder import import_archive
from collectors.published.index import models_table
from collectors.published.names import run_id
from collectors.schedule import paper_steps
from inpca import InputError

N, N_TEST, C = 20, 8, 4
STEPS = paper_steps(N // 10, 2)
K = len(STEPS)


def settings(**more):
    base = {"seed": 42, "aug": "none", "m": "allcnn", "bn": True, "opt": "sgd", "bs": 10, "lr": 0.1}
    return base | more


def file_name(configuration):
    return f"{json.dumps(configuration).replace(' ', '')}.p"


def predictions(seed, k=K):
    """Their checkpoints: log-probabilities, losses and errors, as tensors."""
    random = np.random.default_rng(seed)
    checkpoints = []
    for _ in range(k):
        row = {}
        for key, n in (("yh", N), ("yvh", N_TEST)):
            row[key] = torch.from_numpy(np.log(random.dirichlet(np.ones(C), n))).float()
        row |= {"f": torch.ones(N, 1), "e": torch.ones(N), "fv": torch.ones(N_TEST, 1)}
        checkpoints.append(row | {"ev": torch.ones(N_TEST)})
    return checkpoints


@pytest.fixture
def labels(tmp_path):
    random = np.random.default_rng(0)
    paths = {"train": tmp_path / "y.npy", "test": tmp_path / "yv.npy"}
    np.save(paths["train"], random.integers(0, C, N))
    np.save(paths["test"], random.integers(0, C, N_TEST))
    return paths


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "archive"
    path.mkdir()
    return path


def save_run(folder, configuration, content, **options):
    torch.save(content, folder / file_name(configuration), **options)
    return run_id(configuration)


def test_archive__runs_come_out_with_the_steps_and_settings_that_they_had(tmp_path, folder, labels):
    data = predictions(0)
    content = {"data": data, "configs": SimpleNamespace(epochs=2, bs=10)}
    run = save_run(folder, settings(), content)
    (account,) = import_archive(folder, tmp_path / "e", labels=labels)
    assert (account.status, account.target, account.reason) == ("imported", run, "")
    ensemble = inpca.open_ensemble(tmp_path / "e")
    table = ensemble.models
    assert table["step"].tolist() == STEPS
    np.testing.assert_allclose(table["epoch"], np.array(STEPS) / 2)
    assert set(table["architecture"]) == {"allcnn"}
    assert set(table["optimizer"]) == {"sgd"}
    assert set(table["batch_size"]) == {10}
    for name, key in (("train", "yh"), ("test", "yvh")):
        for k in range(K):
            found = ensemble.run(run).log_probs(name, k)
            np.testing.assert_allclose(found, data[k][key].numpy(), atol=1e-5)


def test_archive__one_sample_set_is_enough(tmp_path, folder, labels):
    save_run(folder, settings(), predictions(0))
    import_archive(folder, tmp_path / "e", labels={"test": labels["test"]})
    assert list(inpca.open_ensemble(tmp_path / "e").sample_sets) == ["test"]


def test_archive__steps_that_nobody_tells_are_counted_and_said(tmp_path, folder, labels):
    save_run(folder, settings(), predictions(0, k=3))
    (account,) = import_archive(folder, tmp_path / "e", labels=labels)
    assert "steps count the checkpoints" in account.reason
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 1, 2]


def test_archive__tables_are_loaded_only_when_told_to(tmp_path, folder, labels):
    rows = [
        {"t": 0.5 * (k + 1), "yh": row["yh"].exp().numpy(), "yvh": row["yvh"].exp().numpy()[None]}
        for k, row in enumerate(predictions(0, k=2))
    ]
    run = save_run(folder, settings(), pd.DataFrame(rows))
    (account,) = import_archive(folder, tmp_path / "e", labels=labels)
    assert account.status == "failed"
    assert "pandas" in account.reason
    assert "--allow-pickle" in account.reason
    assert not (tmp_path / "e").exists()
    (account,) = import_archive(folder, tmp_path / "e", labels=labels, allow_pickle=True)
    assert account.status == "imported"
    assert "t is no step, and is kept as a metric" in account.reason
    assert inpca.open_ensemble(tmp_path / "e").run(run).column("t").tolist() == [0.5, 1]


def test_archive__what_is_there_is_left_alone_and_the_rest_goes_on(tmp_path, folder, labels):
    first = save_run(folder, settings(seed=1), predictions(1))
    import_archive(folder, tmp_path / "e", labels=labels)
    second = save_run(folder, settings(seed=2), predictions(2))
    accounts = import_archive(folder, tmp_path / "e", labels=labels)
    assert [(a.target, a.status) for a in accounts] == [(first, "present"), (second, "imported")]
    accounts = import_archive(folder, tmp_path / "e", labels=labels, restart=True)
    assert {a.status for a in accounts} == {"imported"}


def bad_runs():
    nan = predictions(0)
    nan[2]["yh"][4] = np.nan
    short = [row | {"yh": row["yh"][:-1]} for row in predictions(0)]
    lacking = [{"yvh": row["yvh"]} for row in predictions(0)]
    return {
        "nan": (nan, r"yh, checkpoint 2` has NaN"),
        "samples": (short, "labels of 'train' are 20"),
        "lacking": (lacking, "yh, checkpoint 0 is missing; there are yvh"),
        "no-list": ({"data": 3}, "holds a int where a list of checkpoints"),
        "weights": (torch.nn.Linear(2, 2).state_dict(), "holds a OrderedDict where a list"),
        "empty": ([], "holds a list where a list of checkpoints"),
    }


@pytest.mark.parametrize("case", list(bad_runs()))
def test_archive__a_bad_run_is_in_the_account_and_nothing_of_it_is_written(
    tmp_path, folder, labels, case
):
    content, message = bad_runs()[case]
    save_run(folder, settings(), content)
    (account,) = import_archive(folder, tmp_path / "e", labels=labels)
    assert account.status == "failed"
    assert message.replace("\\", "") in account.reason
    assert not (tmp_path / "e").exists()


@pytest.fixture
def distances():
    p = np.random.default_rng(0).dirichlet(np.ones(C), size=(2 * K + 2, N))
    return inpca.pairwise_distances(p).astype(np.float32)


@pytest.fixture
def index():
    rows = []
    for seed in (42, 43):
        for k, step in enumerate(STEPS):
            rows.append({"seed": seed, "m": "fc", "opt": "adam", "t": step, "err": 1 - k / K})
    for name in ("true", "random"):
        rows.append({"seed": 0, "m": name, "opt": name, "t": 0, "err": np.nan})
    return pd.DataFrame(rows)


def save_matrix(path, values):
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=values, maxshape=(None, None), chunks=True)


def test_archive__a_matrix_has_the_table_of_its_models(tmp_path, folder, distances, index):
    save_matrix(folder / "w_yh_all.h5", distances)
    torch.save(index, folder / "didx_all.p")
    accounts = import_archive(folder, tmp_path / "e", allow_pickle=True)
    assert [(a.file, a.status) for a in accounts] == [
        ("didx_all.p", "ignored"), ("w_yh_all.h5", "imported"),
    ]  # fmt: skip
    matrix = inpca.TiledMatrix.open(tmp_path / "e" / "distances" / "yh_all.zarr")
    np.testing.assert_allclose(matrix.to_array(), distances, atol=1e-6)
    assert matrix.attrs["sample_set"] == "train"
    table = matrix.models
    assert table["step"].tolist() == index["t"].tolist()
    assert table["kind"].tolist() == ["checkpoint"] * (2 * K) + ["reference"] * 2
    assert table.index[K] == "seed-43_m-fc_opt-adam/0"
    embedding = inpca.InPCA(n_components=2, metric="precomputed")
    embedding.fit(matrix, models="kind == 'checkpoint' and train_error < 0.5")
    assert len(embedding.embedding_) == (index["err"] < 0.5).sum()
    (account,) = [a for a in import_archive(folder, tmp_path / "e", allow_pickle=True) if a.target]
    assert account.status == "present"


def test_archive__an_index_table_may_be_a_csv_and_must_fit(tmp_path, folder, distances, index):
    save_matrix(folder / "w_yvh_all.h5", distances)
    index.to_csv(folder / "didx_yvh_all.csv", index=False)
    assert import_archive(folder, tmp_path / "e")[1].status == "imported"
    index[1:].to_csv(folder / "didx_yvh_all.csv", index=False)
    account = import_archive(folder, tmp_path / "f")[1]
    assert account.status == "failed"
    assert f"must have {len(index)} rows, not {len(index) - 1}" in account.reason
    assert not (tmp_path / "f" / "distances" / "yvh_all.zarr").exists()


def test_archive__a_table_that_must_not_be_loaded_tells_of_both_ways_out(
    tmp_path, folder, distances, index
):
    save_matrix(folder / "w_yh_all.h5", distances)
    torch.save(index, folder / "didx_yh_all.p")
    account = import_archive(folder, tmp_path / "e")[1]
    assert account.status == "failed"
    for word in ("--allow-pickle", "inpca import-distances", "didx_yh_all.csv"):
        assert word in account.reason


def test_models_table__settings_are_what_does_not_change_within_a_run(index):
    table = models_table(index)
    assert table["run"].nunique() == 4
    assert table.index.is_unique
    assert table["checkpoint"].iloc[K : 2 * K].tolist() == list(range(K))


def test_archive__refuses_wrong_arguments(tmp_path, folder, labels):
    with pytest.raises(InputError, match="must be the folder of an archive"):
        import_archive(tmp_path / "none", tmp_path / "e")
    with pytest.raises(InputError, match=r"must be of the sets train, test, not 'valid'"):
        import_archive(folder, tmp_path / "e", labels={"valid": labels["test"]})
    save_run(folder, settings(), predictions(0))
    import_archive(folder, tmp_path / "e", labels=labels)
    np.save(labels["train"], np.zeros(N, int))
    with pytest.raises(InputError, match="`labels` of set 'train' are not those"):
        import_archive(folder, tmp_path / "e", labels=labels)


# -- the verbs --


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_verb__accounts_for_every_file_and_fails_where_one_could_not_be_read(
    tmp_path, folder, labels, distances, app
):
    good = save_run(folder, settings(), predictions(0))
    (folder / "sub").mkdir()
    (folder / "sub" / file_name(settings(seed=7))).write_bytes(b"cut off")
    (folder / "README.md").write_text("hello")
    torch.save({"xp": torch.zeros(2, 3)}, folder / "r_yh_all.p")
    words = ["import-archive", str(folder), str(tmp_path / "e"), "--quiet", "--json"]
    words += ["--labels", f"train={labels['train']}", "--labels", f"test={labels['test']}"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 3
    assert "1 of 4 files could not be imported" in str(result.exception)
    found = {account["file"]: account for account in json.loads(result.stdout)}
    assert len(found) == 4
    assert found[file_name(settings())]["target"] == good
    assert found["README.md"]["status"] == found["r_yh_all.p"]["status"] == "ignored"
    assert "cannot be read" in found[f"sub/{file_name(settings(seed=7))}"]["reason"]
    assert inpca.open_ensemble(tmp_path / "e").runs == [good]


def test_verb__import_distances_prints_the_matrix(tmp_path, distances, app):
    save_matrix(tmp_path / "w_all.h5", distances)
    words = ["import-distances", str(tmp_path / "w_all.h5"), str(tmp_path / "d.zarr"), "-q"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "d.zarr")
    assert inpca.TiledMatrix.open(tmp_path / "d.zarr").complete
