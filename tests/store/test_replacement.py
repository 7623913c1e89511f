"""Stores replaced as a whole: what a kill leaves, whose folders are whose, who may write."""

import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import inpca
from inpca import InputError, ResourceError, TiledMatrix
from inpca.store import replacement
from inpca.store.catalogue import read_entries
from inpca.store.claim import claimed, door
from inpca.store.embedding import read_embedding, write_embedding
from inpca.store.files import file_lock
from inpca.store.trajectories import delete_trajectories, open_trajectories
from inpca.summary import check_ensemble, describe_ensemble
from inpca.trajectories import trajectory_distances


def matrix(path, value, fingerprint="f"):
    made = TiledMatrix.create(path, n_models=2, tile_size=2, fingerprint=fingerprint)
    made.write_tile((0, 0), np.full((2, 2), value, np.float32))
    return made


def save(path, value, **options):
    write_embedding(path, {"coordinates": np.full((2, 1), value)}, None, {}, **options)


def saved(path):
    return read_embedding(path)[0]["coordinates"][0, 0]


def cut_off(path, new):
    """Leave `path` as a kill between the two renames of its replacement by `new` does."""
    os.rename(path, path.with_name(f"{path.name}.7.partial"))
    os.rename(new, path.with_name(f"{path.name}.8.next"))


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["D.next", "D.x.next", "D.7.next.zarr", "E.7.next"])
def test_folders_of_a_user__are_taken_for_no_replacement(tmp_path, name):
    """Nor swept, whatever they are called but the store's own name, digits and the ending."""
    matrix(tmp_path / name, 2)
    (tmp_path / "D.x.partial").mkdir()
    held = matrix(tmp_path / "D", 1)
    with held.lock():
        pass
    TiledMatrix.create(held.path, n_models=2, tile_size=2, fingerprint="new", overwrite=True)
    assert TiledMatrix.open(tmp_path / name).to_array()[0, 0] == 2
    assert TiledMatrix.open(tmp_path / "D").fingerprint == "new"
    assert (tmp_path / "D.x.partial").is_dir()


def test_replacement_of_a_former_version__counts_where_nothing_has_the_name(tmp_path):
    matrix(tmp_path / "D.next", 2)
    matrix(tmp_path / "D.7.partial", 1)
    with pytest.raises(InputError, match="is being replaced; if the call that did so was killed"):
        TiledMatrix.open(tmp_path / "D")
    with pytest.raises(InputError, match="exists already"):
        TiledMatrix.create(tmp_path / "D", n_models=2, tile_size=2, fingerprint="f")
    assert TiledMatrix.open(tmp_path / "D").to_array()[0, 0] == 2
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["D"]


def test_replacement_of_a_former_version__of_another_kind_is_left_alone(tmp_path):
    save(tmp_path / "D.next", 2.0)
    matrix(tmp_path / "D", 1)
    matrix(tmp_path / "E.next", 2)
    save(tmp_path / "E", 1.0)
    assert saved(tmp_path / "D.next") == 2
    assert TiledMatrix.open(tmp_path / "E.next").to_array()[0, 0] == 2


# --- cut off -------------------------------------------------------------------------------------


def test_embedding_half_replaced__is_read_and_the_next_writer_finishes_it(recorded):
    path = recorded.embeddings_path("train")
    save(path, 1.0)
    save(path.with_name("new.zarr"), 2.0)
    cut_off(path, path.with_name("new.zarr"))
    assert saved(path) == 2
    assert check_ensemble(recorded) == []
    assert describe_ensemble(recorded)["embeddings"]["train"]["models"] == 2
    with pytest.raises(InputError, match="exists already"):
        save(path, 3.0)
    assert saved(path) == 2
    assert sorted(entry.name for entry in path.parent.iterdir() if entry.is_dir()) == [path.name]
    save(path, 3.0, overwrite=True)
    assert saved(path) == 3


def test_matrix_half_replaced__is_named_by_check_and_info_and_hides_no_other(recorded):
    path = recorded.distances_path("train")
    matrix(path, 1)
    matrix(path.with_name("new.zarr"), 2)
    matrix(path.with_name("other.zarr"), 3)
    cut_off(path, path.with_name("new.zarr"))
    [damage] = check_ensemble(recorded)
    assert damage.key == "distances/train.zarr/zarr.json"
    assert "is being replaced" in damage.reason
    record = describe_ensemble(recorded)
    assert list(record["distances"]) == ["other"]
    assert "is being replaced" in record["unreadable"]["distances/train.zarr"]
    TiledMatrix.open(path.with_name("other.zarr"))


def test_embedding_without_its_root__hides_no_other_from_check_and_info(recorded):
    """What a former version left that was killed while it overwrote an embedding."""
    for name in ("train", "other"):
        save(recorded.embeddings_path(name), 1.0)
    (recorded.embeddings_path("train") / "zarr.json").unlink()
    assert [damage.key for damage in check_ensemble(recorded)] == [
        "embeddings/train.zarr/zarr.json"
    ]
    record = describe_ensemble(recorded)
    assert list(record["embeddings"]) == ["other"]
    assert list(record["unreadable"]) == ["embeddings/train.zarr"]
    with pytest.raises(InputError, match=r"is no embedding .* delete it"):
        save(recorded.embeddings_path("train"), 2.0, overwrite=True)


def test_replacement_that_the_system_refuses__leaves_the_old_store(tmp_path, monkeypatch):
    path = tmp_path / "e.zarr"
    save(path, 1.0)
    real = os.rename
    for refused in (1, 2, 3):
        calls = []

        def rename(*arguments, calls=calls, refused=refused):
            calls.append(arguments)
            if len(calls) == refused:
                raise OSError(5, "Input/output error")
            real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(replacement.os, "rename", rename)
            with pytest.raises(OSError, match="Input/output"):
                save(path, 2.0, overwrite=True)
        assert saved(path) == 1
        assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["e.zarr"]
    save(path, 2.0, overwrite=True)
    assert saved(path) == 2


# --- leftovers -----------------------------------------------------------------------------------


def test_leftovers__are_swept_by_the_next_writer_of_the_same_name(recorded):
    embedding = recorded.embeddings_path("train")
    save(embedding, 1.0)
    left = [embedding.with_name("train.zarr.1.partial"), recorded.path / "catalogue.2.partial"]
    other = embedding.with_name("other.zarr.1.partial")
    for folder in (*left, other):
        folder.mkdir()
    save(embedding, 2.0, overwrite=True)
    (recorded.path / "catalogue").write_bytes(b"")
    for run in ("cnn", "mlp"):
        os.utime(recorded.path / "runs" / f"{run}.zarr" / "zarr.json", (1, 1))  # long ago
    read_entries(recorded.path)
    assert [path.exists() for path in left] == [False, False]
    assert other.exists()


def test_catalogue__is_not_saved_while_another_process_saves_it(recorded, monkeypatch):
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))
    (recorded.path / "catalogue").unlink(missing_ok=True)
    beside = recorded.path / "catalogue.2.partial"
    beside.mkdir()
    with file_lock(recorded.path / ".locks" / "catalogue" / "save.lock"):
        assert len(inpca.open_ensemble(recorded.path).models) == 7
        assert not (recorded.path / "catalogue").exists()
        assert beside.exists()
    assert len(inpca.open_ensemble(recorded.path).models) == 7
    assert (recorded.path / "catalogue").exists()


# --- locks ---------------------------------------------------------------------------------------


def test_save__while_another_process_saves_there__is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("inpca.store.claim._DOOR_SECONDS", 0.01)
    save(tmp_path / "e.zarr", 1.0)
    with door(tmp_path / "e.zarr"), pytest.raises(ResourceError, match="being made or replaced"):
        save(tmp_path / "e.zarr", 2.0, overwrite=True)
    assert saved(tmp_path / "e.zarr") == 1


@pytest.fixture
def travelled(ensemble, probs):
    for run in ("a", "b"):
        ensemble.add_run(run, {"train": np.linspace(probs(1)[0], probs(1)[0], 4)})
    out = ensemble.path / "trajectories" / "t.zarr"
    trajectory_distances(ensemble, s=2, out=out, executor=1)
    return ensemble, out


@pytest.mark.parametrize("options", [{}, {"restart": True}])
def test_trajectories__at_work__are_refused_to_every_other_engine(travelled, options):
    ensemble, out = travelled
    before = open_trajectories(out).attrs
    with door(out):
        held = claimed(out)
        held.__enter__()
    try:
        with pytest.raises(ResourceError, match="is being written by another process"):
            trajectory_distances(ensemble, s=3, out=out, executor=1, **options)
        with pytest.raises(ResourceError, match="is being written by another process"):
            delete_trajectories(out)
    finally:
        held.__exit__(None, None, None)
    assert open_trajectories(out).attrs == before
    assert open_trajectories(out).matrix(1).complete


def test_trajectories__that_are_damaged__can_be_restarted(travelled):
    ensemble, out = travelled
    (out / "s" / "c.0").write_bytes(b"")
    trajectory_distances(ensemble, s=3, out=out, executor=1, restart=True)
    assert len(open_trajectories(out).s) == 3


def test_matrix__opened_before_it_was_replaced__writes_nothing_into_the_new_one(tmp_path):
    old = matrix(tmp_path / "D", 1, "old")
    TiledMatrix.create(old.path, n_models=2, tile_size=2, fingerprint="new", overwrite=True)
    with pytest.raises(InputError, match=r"was replaced by another matrix .* open it"), old.lock():
        pass
    assert TiledMatrix.open(old.path).missing() == [(0, 0)]


# --- after the commit ----------------------------------------------------------------------------


def failing_after(monkeypatch, root: Path, error: BaseException) -> None:
    """Let the first fsync of a folder after the root's rename fail."""
    renamed, replace, sync = [], os.replace, inpca.durable.sync_folder

    def replacing(source, target):
        replace(source, target)
        if target == root:
            renamed.append(target)

    def syncing(folder):
        if len(renamed) == 1:
            renamed.append(folder)
            raise error
        sync(folder)

    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(inpca.durable, "sync_folder", syncing)


def test_append__whose_folder_cannot_be_synced_after_the_rename__is_committed_and_told(
    recorded, probs, monkeypatch, caplog
):
    block = {"train": probs(1)[0], "test": probs(1, 7)[0]}
    with recorded.start_run("cnn", resume=True) as writer, caplog.at_level(logging.WARNING):
        failing_after(monkeypatch, writer.path / "zarr.json", OSError(5, "Input/output error"))
        writer.append(block, "probs", step=40, epoch=2)
        assert writer.n_checkpoints == 5
    assert "done and committed, but afterwards" in caplog.text
    assert recorded.run("cnn").step.tolist() == [0, 10, 20, 30, 40]


def test_append__interrupted_after_the_rename__knows_what_is_committed(
    recorded, probs, monkeypatch
):
    block = {"train": probs(1)[0], "test": probs(1, 7)[0]}
    with recorded.start_run("cnn", resume=True) as writer:
        failing_after(monkeypatch, writer.path / "zarr.json", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            writer.append(block, "probs", step=40, epoch=2)
        assert writer.n_checkpoints == 5
        writer.append(block, "probs", step=50, epoch=3)
    assert recorded.run("cnn").step.tolist() == [0, 10, 20, 30, 40, 50]
    assert recorded.check() == []


def test_add_run__interrupted_after_the_rename__is_not_removed(ensemble, probs, monkeypatch):
    root = ensemble.path / "runs" / "a.zarr" / "zarr.json"
    failing_after(monkeypatch, root, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ensemble.add_run("a", {"train": probs(2)})
    assert ensemble.run("a").n_checkpoints == 2
    assert ensemble.check() == []


def test_readers_in_threads__beside_a_writer__get_one_embedding_or_the_other(tmp_path):
    path, ended, wrong = tmp_path / "e.zarr", threading.Event(), []
    save(path, 1.0)

    def read():
        while not ended.is_set():
            try:
                value = saved(path)
            except InputError as error:
                if "is being replaced" not in str(error):
                    wrong.append(error)
            except Exception as error:
                wrong.append(error)
            else:
                if value not in (1, 2):
                    wrong.append(value)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(20):
            save(path, 1.0 + number % 2, overwrite=True)
    finally:
        ended.set()
        reader.join()
    assert wrong == []
