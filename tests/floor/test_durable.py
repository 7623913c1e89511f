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


# -- results of the user's: what a library writes by name --


def refuse_after(n_bytes, monkeypatch):
    """Let every write beyond `n_bytes` of a file fail as on a full disk."""
    import errno
    import io

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > n_bytes:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def opened(path, mode="r", *rest, **more):
        if "w" in mode:
            return io.BufferedWriter(Full(path, "w"))
        return open(path, mode, *rest, **more)

    monkeypatch.setattr("pathlib.io.open", opened)


def test_write_result__a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    durable.write_result(path, b"old")
    with monkeypatch.context() as patch:
        refuse_after(100, patch)
        with pytest.raises(OSError, match="No space left") as caught:
            durable.write_result(path, b"new" * 1000)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt(), ValueError("x")])
def test_replacing__whatever_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def write():
        with durable.replacing(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replacing__keeps_the_ending_the_permissions_and_the_users_link(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    path.chmod(0o600)
    (tmp_path / "link.csv").symlink_to(path)
    with durable.replacing(tmp_path / "link.csv") as partial:
        assert partial.suffix == ".csv"
        partial.write_text("new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "link.csv").is_symlink()


def test_write_result__writes_to_a_device_and_does_not_replace_it(tmp_path):
    (tmp_path / "null").symlink_to(os.devnull)
    durable.write_result(tmp_path / "null", b"content")
    assert (tmp_path / "null").is_symlink()
    assert not os.path.isfile(os.devnull)
