"""Files from strangers: no hang, no gigabytes, no raw error."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from inpca import InputError, opening


def header(shape, descr="<f8"):
    """The header of an .npy file, with no numbers behind it."""
    buffer = io.BytesIO()
    fields = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, fields)
    return buffer.getvalue()


def special(folder, kind):
    """A name for something whose reading would not end, or fail without a word."""
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    return path


KINDS = {"pipe": "is a pipe", "device": "is a device", "folder": "is a folder", "loop": "Too many"}


@pytest.mark.parametrize("kind", KINDS)
def test_regular_file__refuses_at_once_what_never_ends(tmp_path, kind):
    path = special(tmp_path, kind)
    for read in (opening.regular_file, opening.read_regular, opening.open_npy):
        with pytest.raises(InputError, match=KINDS[kind]):
            read(path)


def test_regular_file__follows_the_users_own_link(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"12")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    assert opening.read_regular(tmp_path / "link") == b"12"


def test_read_regular__looks_at_the_size_first(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(10**11)
    with pytest.raises(InputError, match=r"has 100 GB, more than the 16\.8 MB"):
        opening.read_regular(tmp_path / "sparse")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 100_000, "is nested too deeply"), (b"{", "is no JSON"), (b"\xff", "is no JSON")],
    ids=["deep", "cut", "no UTF-8"],
)
def test_parse_json__names_what_cannot_be_read(content, message):
    with pytest.raises(InputError, match=rf"plan\.json {message}"):
        opening.parse_json(content, "plan.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((10_000, 1000, 1000)), "announces 80,000,000,000 bytes, but 0 follow"),
        (header((2, 3)) + bytes(80), "announces 48 bytes, but 80 follow"),
        (header((-1, 3)) + bytes(24), "has the shape"),
        (header((1,), "|O"), "holds Python objects"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000, "cannot be read"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{" * 99, "cannot be read"),
        (b"\x93NUMPY\x09\x00" + bytes(99), "NumPy's format"),
        (b"\x80\x02.", "does not begin as such a file"),
        (b"", "does not begin as such a file"),
    ],
    ids=["80 GB", "longer", "negative", "objects", "deep", "long", "version", "pickle", "empty"],
)
def test_open_npy__holds_the_header_against_the_bytes_behind_it(tmp_path, content, message):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        opening.open_npy(path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", content)
    with opening.open_npz(tmp_path / "a.npz") as arrays, pytest.raises(InputError):
        arrays["a"]


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3), ()])
def test_open_npy_and_npz__read_what_numpy_saved(tmp_path, shape):
    array = np.ones(shape)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(opening.open_npy(tmp_path / "a.npy"), array)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", a=array, b=array > 0)
        with opening.open_npz(tmp_path / "a.npz") as arrays:
            assert list(arrays) == ["a", "b"]
            np.testing.assert_array_equal(arrays["a"], array)


def bomb(path, n_bytes):
    """An archive that is sound, and unpacks to a thousand times its size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("predictions.npy", "w", force_zip64=True) as member,
    ):
        member.write(header((n_bytes,), "|u1"))
        for _ in range(n_bytes // 10**7):
            member.write(bytes(10**7))
    return path


def test_open_npz__refuses_an_archive_made_to_fill_a_machine(tmp_path):
    path = bomb(tmp_path / "bomb.npz", 4 * 10**8)
    with opening.open_npz(path) as arrays, pytest.raises(InputError, match="announces 400 MB from"):
        arrays["predictions"]


def test_open_npz__refuses_another_packing_and_damage(tmp_path):
    content = io.BytesIO()
    np.save(content, np.arange(9.0))
    for method, message in (
        (zipfile.ZIP_LZMA, "packed in another way"),
        (zipfile.ZIP_STORED, "CRC"),
    ):
        path = tmp_path / f"{method}.npz"
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("a.npy", content.getvalue())
        damaged = bytearray(path.read_bytes())
        if method == zipfile.ZIP_STORED:
            damaged[150] ^= 1
        path.write_bytes(damaged)
        with opening.open_npz(path) as arrays, pytest.raises(InputError, match=message):
            arrays["a"]


@pytest.mark.parametrize(
    "error",
    [RecursionError(), MemoryError(), OverflowError("x"), struct.error("x"), KeyError("x"),
     zipfile.BadZipFile("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), EOFError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_reading__names_the_file_whatever_a_library_raises(tmp_path, error):
    named = pytest.raises(InputError, match=r"a\.bin cannot be read as \.bin")
    with named, opening.reading(tmp_path / "a.bin"):
        raise error


def test_check_fits__names_both_numbers(monkeypatch):
    monkeypatch.setattr("inpca.backend.available_memory", lambda: 10**9)
    opening.check_fits(10**9, "a.npy", "save less")
    with pytest.raises(InputError, match=r"a\.npy announces 2\.0 GB but 1\.0 GB .* save less"):
        opening.check_fits(2 * 10**9, "a.npy", "save less")
