"""A run that loses files is named: neither its models nor the run go missing silently."""

import shutil

import numpy as np
import pytest

import inpca
from inpca import DamagedStoreError, InputError
from inpca.store.embedding import write_embedding
from inpca.store.files import Damage


def found(ensemble: inpca.Ensemble) -> dict[str, str]:
    damages: list[Damage] = ensemble.check()
    return {damage.key: damage.reason for damage in damages}


def behead(ensemble: inpca.Ensemble, run: str = "cnn") -> None:
    (ensemble.path / "runs" / f"{run}.zarr" / "zarr.json").unlink()


@pytest.mark.parametrize("listed", [False, True])
def test_check__names_a_run_without_its_root(recorded, listed):
    if listed:
        _ = recorded.models
    behead(recorded)
    damages = found(inpca.open_ensemble(recorded.path))
    assert list(damages) == ["runs/cnn.zarr/zarr.json"]
    for word in ("is missing", "delete the folder runs/cnn.zarr", "restart=True", "inpca import"):
        assert word in damages["runs/cnn.zarr/zarr.json"]


def test_models__of_an_ensemble_with_a_run_without_its_root_are_an_error(recorded):
    _ = recorded.models  # what was seen before is not shown again
    behead(recorded)
    for ensemble in (recorded, inpca.open_ensemble(recorded.path)):
        with pytest.raises(DamagedStoreError, match=r"cnn\.zarr/zarr\.json is missing"):
            _ = ensemble.models
        with pytest.raises(DamagedStoreError, match=r"cnn\.zarr/zarr\.json is missing"):
            ensemble.run("cnn")
        assert ensemble.run("mlp").n_checkpoints == 3


@pytest.mark.parametrize("how", [{}, {"resume": True}])
def test_start_run__does_not_write_over_a_run_without_its_root(recorded, probs, how):
    behead(recorded)
    with pytest.raises(DamagedStoreError, match=r"zarr\.json is missing"):
        recorded.start_run("cnn", **how)
    assert (recorded.path / "runs" / "cnn.zarr" / "train" / "log_prob" / "c.3.0.0").exists()
    with recorded.start_run("cnn", restart=True) as writer:
        writer.append({"train": probs(1)[0], "test": probs(1, 7)[0]}, "probs", step=0, epoch=0)
    assert found(recorded) == {}
    assert recorded.run("cnn").n_checkpoints == 1


def test_deleting_the_folder__is_the_cure(recorded):
    behead(recorded)
    shutil.rmtree(recorded.path / "runs" / "cnn.zarr")
    assert recorded.runs == ["mlp"]
    assert found(recorded) == {}


def test_leftover_of_a_writer_that_never_committed__is_no_damage(recorded):
    shards = recorded.path / "runs" / "dead.zarr" / "train" / "log_prob"
    shards.mkdir(parents=True)
    (shards / "c.0.0.0").write_bytes(b"half a shard")
    assert found(recorded) == {}
    assert recorded.runs == ["cnn", "mlp"]
    with pytest.raises(InputError, match="'dead' is none"):
        recorded.run("dead")


def test_deletion_that_was_cut_off__is_no_damage_and_is_finished(recorded):
    run = recorded.path / "runs" / "cnn.zarr"
    run.rename(run.with_name("cnn.zarr.1234.partial"))
    assert recorded.runs == ["mlp"]
    assert found(recorded) == {}
    recorded.tidy()
    assert [path.name for path in run.parent.iterdir()] == ["mlp.zarr"]


def test_check__names_a_run_that_is_gone_though_the_catalogue_lists_it(recorded, monkeypatch):
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    _ = recorded.models
    shutil.rmtree(recorded.path / "runs" / "cnn.zarr")
    damages = found(inpca.open_ensemble(recorded.path))
    assert list(damages) == ["runs/cnn.zarr"]
    assert "catalogue names models of it" in damages["runs/cnn.zarr"]
    assert recorded.runs == ["mlp"]  # this lists them again: on purpose or not, cannot be told now
    assert found(recorded) == {}


def test_check__names_a_run_that_is_gone_though_distances_and_embeddings_are_of_it(recorded):
    everything = recorded.with_references()
    inpca.pairwise_distances(everything, out=recorded.distances_path("train"))
    models = everything.models
    coordinates = np.zeros((len(models), 1))
    write_embedding(recorded.embeddings_path("e"), {"coordinates": coordinates}, models, {})
    assert found(recorded) == {}
    shutil.rmtree(recorded.path / "runs" / "mlp.zarr")
    _ = recorded.models
    reason = found(recorded)["runs/mlp.zarr"]
    assert "distances/train.zarr and embeddings/e.zarr name models of it" in reason
    assert "restore it from a copy" in reason


def test_restarted_run__is_not_lost_while_its_first_checkpoint_is_awaited(recorded, monkeypatch):
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    inpca.pairwise_distances(recorded, out=recorded.distances_path("train"))
    _ = recorded.models
    writer = recorded.start_run("cnn", restart=True)
    assert found(recorded) == {}
    writer.close()
    assert found(recorded) == {}
    recorded.add_run("cnn", {"train": np.full((1, 30, 4), 0.25), "test": np.full((1, 7, 4), 0.25)})
    assert not list((recorded.path / "deleted").iterdir())
    shutil.rmtree(recorded.path / "runs" / "cnn.zarr")
    assert list(found(recorded)) == ["runs/cnn.zarr"]


def test_check_and_models__beside_runs_that_come_and_go__raise_no_alarm(recorded, script):
    code = """
import os, sys, time
import numpy as np
import inpca
import inpca.store.ensemble
path = sys.argv[1]
child = os.fork()
if child == 0:
    ens, p = inpca.open_ensemble(path), {"train": np.full((2, 30, 4), 0.25)}
    for _ in range(60):
        ens.add_run("comes", p)
        ens.delete_run("comes")
    os._exit(0)
rounds = 0
while os.waitpid(child, os.WNOHANG)[0] == 0:
    ens, rounds = inpca.open_ensemble(path), rounds + 1
    assert ens.check() == [], ens.check()
    assert {"cnn", "mlp"} <= set(ens.runs)
assert rounds > 3, rounds
"""
    script(code, recorded.path)


@pytest.mark.parametrize("folder", ["runs", "deleted", ".locks", "distances"])
def test_folder_that_is_a_file_or_gone__is_named(recorded, folder):
    shutil.rmtree(recorded.path / folder, ignore_errors=True)
    (recorded.path / folder).write_bytes(b"")
    try:
        named = bool(found(recorded))
        _ = recorded.models
        recorded.start_run("new").close()
    except DamagedStoreError as error:
        named = folder in str(error)
    assert named
