"""An ensemble that this process may not write to is read, checked and listed all the same."""

import builtins
import errno
import io
import os

import numpy as np
import pandas as pd
import pytest

import inpca
from inpca import durable
from inpca.store.embedding import check_embedding, read_embedding, write_embedding
from inpca.store.matrix import TiledMatrix
from inpca.summary import check_ensemble, describe_ensemble

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@pytest.fixture(params=[errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
def refuse_writes(request, monkeypatch):
    """Make every write fail from then on, whatever `os.access` says."""
    error = OSError(request.param, os.strerror(request.param))

    def guard(module, name, is_write=lambda *_, **__: True):
        real = getattr(module, name)

        def guarded(*arguments, **options):
            if is_write(*arguments, **options):
                raise error
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, guarded)

    def refuse():
        monkeypatch.setattr(os, "access", lambda *_, **__: True)
        guard(os, "open", lambda path, flags, *_, **__: bool(flags & WRITES))
        for module in (builtins, io):
            guard(module, "open", lambda file, mode="r", *_, **__: not set("wax+").isdisjoint(mode))
        for name in ("mkdir", "unlink", "rmdir", "rename", "replace"):
            guard(os, name)

    return refuse


@pytest.fixture(autouse=True)
def catalogue_written_at_once(monkeypatch):
    """Not only when the runs' last commits lie two seconds back."""
    monkeypatch.setattr("inpca.store.catalogue._SETTLED_NS", -(10**12))


def files(path):
    return sorted(file.relative_to(path) for file in path.rglob("*"))


def test_read_only_ensemble__is_read_and_checked_and_left_as_it_is(recorded, refuse_writes):
    (recorded.path / "runs" / "cnn.zarr" / "step" / "c.0.7.partial").write_bytes(b"x")
    expected = recorded.models
    (recorded.path / "catalogue").unlink()
    before = files(recorded.path)
    refuse_writes()
    ensemble = inpca.open_ensemble(recorded.path)
    pd.testing.assert_frame_equal(ensemble.models, expected)
    assert ensemble.predictions("train").read(slice(None), slice(0, 2)).shape == (7, 2, 4)
    assert ensemble.check() == []
    assert describe_ensemble(ensemble)["models"] == 7
    assert files(recorded.path) == before


def test_read_only_ensemble__with_damage__is_still_told(recorded, refuse_writes):
    key = "runs/mlp.zarr/train/log_prob/c.1.0.0"
    (recorded.path / key).write_bytes(b"")
    refuse_writes()
    assert [damage.key for damage in recorded.check()] == [key]


def test_read_only_matrix_and_embedding__are_read_and_checked(recorded, refuse_writes):
    matrix = TiledMatrix.create(
        recorded.distances_path("D"), n_models=2, tile_size=2, fingerprint="f"
    )
    matrix.write_tile((0, 0), np.zeros((2, 2), np.float32))
    saved = recorded.embeddings_path("e")
    write_embedding(saved, {"eigenvalues": np.ones(2)}, None, {})
    refuse_writes()
    assert TiledMatrix.open(matrix.path).to_array().tolist() == [[0, 0], [0, 0]]
    assert read_embedding(saved)[0]["eigenvalues"].tolist() == [1, 1]
    assert check_embedding(saved) == []
    assert check_ensemble(recorded) == []


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def fill_the_disk(request, monkeypatch):
    """Make every write of a file fail from then on, as on a full disk."""

    def fail(target, *_, **__):
        if target:  # not for no files at all
            raise OSError(request.param, os.strerror(request.param), str(target))

    def fill():
        monkeypatch.setattr(durable, "write_bytes", fail)
        monkeypatch.setattr(durable, "write_files", fail)

    return fill


def test_full_disk__is_no_reason_not_to_list_what_is_there(recorded, fill_the_disk, caplog):
    expected = recorded.models
    (recorded.path / "catalogue").unlink()
    before = files(recorded.path)
    fill_the_disk()
    ensemble = inpca.open_ensemble(recorded.path)
    pd.testing.assert_frame_equal(ensemble.models, expected)
    assert describe_ensemble(ensemble)["models"] == 7
    assert files(recorded.path) == before
    assert f"{recorded.path / 'catalogue'}: " in caplog.text


def test_full_disk__is_no_damage(recorded, fill_the_disk):
    fill_the_disk()
    assert recorded.check() == []


def test_unreadable_catalogue__is_derived_again(recorded, monkeypatch):
    expected = recorded.models
    catalogue = recorded.path / "catalogue"
    catalogue.write_bytes(b"another user's")
    real = io.open

    def guarded(file, *arguments, **options):
        if file == catalogue:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(io, "open", guarded)
    pd.testing.assert_frame_equal(inpca.open_ensemble(recorded.path).models, expected)
