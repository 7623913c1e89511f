"""Small files that are there, whole, or not at all."""

import os

import pytest

from inpca import durable


def test_write_bytes__replaces_the_content(tmp_path):
    path = tmp_path / "record.json"
    for content in (b"old and long", b"new"):
        durable.write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_write_bytes__interrupted_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    durable.write_bytes(path, b"old")

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        durable.write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    durable.write_bytes(path, b"newer")
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_write_bytes__that_is_refused__leaves_nothing_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.write_bytes(tmp_path / "folder", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_write_bytes__reaches_the_disk_before_the_name_does(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    durable.write_bytes(tmp_path / "x", b"content")
    assert order == ["fsync", "replace", "fsync"]
