"""Files made to do harm: each is one named error, at once, and writes nothing."""

import gzip
import io
import json
import os
import struct
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pytest
import torch

from collectors.archive import import_arrays
from collectors.distance_files import import_distances
from collectors.published.folder import import_archive
from collectors.torch_files import load_torch
from collectors.zoo.arrays import read_npz
from collectors.zoo.cifar import read_cifar10
from collectors.zoo.idx import count_samples, read_folder
from collectors.zoo.keep import read_keep
from collectors.zoo.sweep import load_sweep
from inpca import InputError

PROBS = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 6))
LABELS = np.arange(6) % 3
HUGE = (10**4, 10**3, 10**3)  # 80 GB


def pipe(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


READERS = {
    "a.npz": lambda path: import_arrays(path, path.parent / "e"),
    "a.npy": lambda path: import_arrays(path, path.parent / "e"),
    "a.h5": lambda path: import_arrays(path, path.parent / "e"),
    "a.pt": lambda path: import_arrays(path, path.parent / "e"),
    "w.h5": lambda path: import_distances(path, path.parent / "e"),
    "w.npy": lambda path: import_distances(path, path.parent / "e"),
    "a.safetensors": load_torch,
    "a.yaml": load_sweep,
    "a.json": lambda path: read_keep(path, 9),
    "a.txt": lambda path: read_keep(path, 9),
    "keep.npy": lambda path: read_keep(path, 9),
    "data.npz": read_npz,
    "train-images-idx3-ubyte": lambda path: read_folder(path.parent),
    "train-labels-idx1-ubyte": lambda path: count_samples(path.parent),
    "data_batch_1": lambda path: read_cifar10(path.parent),
}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_every_reader__refuses_what_is_no_regular_file(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"{name} is a {kind}"):
        READERS[name](path)
    assert not (tmp_path / "e").exists()


# -- HDF5 --


def external(file):
    endless = [("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("predictions", (2, 6, 3), "f8", external=endless)


def virtual(file):
    layout = h5py.VirtualLayout((2, 6, 3), "f8")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "d", (2, 6, 3))
    file.create_virtual_dataset("predictions", layout)


HDF5 = {
    "chunks": (lambda f: f.create_dataset("predictions", HUGE, "f8", chunks=(1, 99, 99)),
               r"announces 80\.0 GB but 0 B are stored"),
    "contiguous": (lambda f: f.create_dataset("predictions", HUGE, "f8"), r"announces 80\.0 GB"),
    "flat": (lambda f: f.create_dataset("predictions", HUGE[:2], "f8"), "never written"),
    "external storage": (external, "has its numbers in other files"),
    "virtual": (virtual, "has its numbers in other files"),
    "external link": (lambda f: f.__setitem__("predictions", h5py.ExternalLink("x.h5", "/d")),
                      "has a link at 'predictions'"),
    "loop": (lambda f: f.__setitem__("predictions", h5py.SoftLink("/predictions")),
             "has a link at 'predictions'"),
    "empty": (lambda f: f.create_dataset("predictions", data=h5py.Empty("f8")), "not None"),
    "text": (lambda f: f.create_dataset("predictions", data=np.array([["a"]], dtype=object)),
             "must hold real numbers"),
    "structure": (lambda f: f.create_dataset("predictions", data=np.zeros((2, 3), [("a", "f8")])),
                  "must hold real numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", HDF5)
def test_hdf5__only_numbers_that_lie_in_the_file(tmp_path, case):
    make, message = HDF5[case]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
        file["labels"] = LABELS
    with pytest.raises(InputError, match=message):
        import_arrays(tmp_path / "a.h5", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_hdf5__labels_that_were_never_written_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["predictions"] = PROBS
        file.create_dataset("labels", (10**10,), "i8", chunks=(1000,))
    with pytest.raises(InputError, match=r"'labels' of .*announces 80\.0 GB"):
        import_arrays(tmp_path / "a.h5", tmp_path / "e")


WS = {
    "loop": (lambda f: f.__setitem__("w", h5py.SoftLink("/w")), "has a link at 'w'"),
    "link": (lambda f: f.__setitem__("w", h5py.ExternalLink("b.h5", "/d")), "has a link at 'w'"),
    "80 GB": (lambda f: f.create_dataset("w", (10**5, 10**5), "f8", chunks=(99, 99)), "80.0 GB"),
    "group": (lambda f: f.create_group("w"), "has no dataset 'w'"),
    "empty": (lambda f: f.create_dataset("w", data=h5py.Empty("f8")), "must be a square"),
    "wide": (lambda f: f.create_dataset("w", data=np.zeros((3, 3), np.longdouble)), "a square"),
}


@pytest.mark.parametrize("case", WS)
def test_distances__only_numbers_that_lie_in_the_file(tmp_path, case):
    make, message = WS[case]
    with h5py.File(tmp_path / "w.h5", "w") as file:
        make(file)
    with pytest.raises(InputError, match=message):
        import_distances(tmp_path / "w.h5", tmp_path / "o.zarr")
    assert not (tmp_path / "o.zarr").exists()


# -- arrays --


def test_npy__of_holes_is_refused_by_the_memory_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr("inpca.backend.available_memory", lambda: 10**9)
    for name, shape in (("p.npy", (1, 10**7, 100)), ("y.npy", (10**9,))):
        head = io.BytesIO()
        fields = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, fields)
        with open(tmp_path / name, "wb") as file:
            file.write(head.getvalue())
            file.truncate(len(head.getvalue()) + 8 * int(np.prod(shape)))
    np.save(tmp_path / "good.npy", PROBS)
    np.save(tmp_path / "labels.npy", LABELS)
    for file, labels in (("p.npy", "labels.npy"), ("good.npy", "y.npy")):
        with pytest.raises(InputError, match=r"8\.0 GB but 1\.0 GB"):
            import_arrays(tmp_path / file, tmp_path / "e", labels=tmp_path / labels)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": LABELS + 1e300}, "but reach to 1e"),
        ({"labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, "but reach to 9223"),
        ({"step": [0, 1e300]}, "must be whole numbers, from"),
    ],
)
def test_npz__whole_numbers_that_do_not_fit_are_refused(tmp_path, changed, message):
    np.savez(tmp_path / "a.npz", **({"predictions": PROBS, "labels": LABELS} | changed))
    with pytest.raises(InputError, match=message):
        import_arrays(tmp_path / "a.npz", tmp_path / "e")


# -- torch --


def endless():
    inner = {}
    inner["predictions"] = inner
    return inner


def endless_list():
    inner = []
    inner.append(inner)
    return {"predictions": inner}


TORCH = {
    "repeated": (lambda: {"predictions": torch.zeros(1).expand(HUGE)}, r"tensors of 40\.0 GB"),
    "meta": (lambda: {"predictions": torch.empty(HUGE, device="meta")}, r"tensors of 40\.0 GB"),
    "list": (lambda: {"predictions": [torch.zeros(1000, 100)] * 10**4}, r"tensors of 4\.0 GB"),
    "mapping in itself": (endless, "nested too deeply"),
    "list in itself": (endless_list, "nested too deeply"),
    "eighths": (lambda: {"predictions": torch.zeros(2, 6, 3, dtype=torch.float8_e4m3fn)},
                "unsupported ScalarType"),
}  # fmt: skip


@pytest.mark.parametrize("case", TORCH)
def test_torch__nothing_is_larger_than_its_file(tmp_path, case):
    make, message = TORCH[case]
    torch.save(make(), tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        import_arrays(tmp_path / "a.pt", tmp_path / "e")


def with_pickle(path, content):
    """A file of torch.save whose pickle is `content`."""
    torch.save({"predictions": torch.from_numpy(PROBS)}, path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, old in members.items():
            file.writestr(name, content if name.endswith(".pkl") else old)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"(" * 10**5 + b"t" * 10**5 + b".",
        b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x10\x85R.",
        b"\x80\x02\xff.",
        b"",
    ],
    ids=["deep", "16 TB", "junk", "empty"],
)
def test_torch__a_pickle_made_to_do_harm_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"a\.pt"):
        import_arrays(with_pickle(tmp_path / "a.pt", content), tmp_path / "e")


def test_torch__a_packed_archive_is_refused(tmp_path):
    torch.save({"predictions": torch.from_numpy(PROBS)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as file,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in file.namelist():
            packed.writestr(name, file.read(name))
    with pytest.raises(InputError, match=r"b\.pt has the member .*, packed, which torch\.save"):
        load_torch(tmp_path / "b.pt")


@pytest.mark.parametrize("old", [False, True])
def test_torch__damage_anywhere_is_named_or_harmless(tmp_path, old):
    content = {"predictions": torch.from_numpy(PROBS), "labels": torch.from_numpy(LABELS)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    good = (tmp_path / "a.pt").read_bytes()
    rng = np.random.default_rng(3)
    for k, at in enumerate(rng.integers(0, len(good), 60)):
        damaged = bytearray(good)
        damaged[at] ^= int(rng.integers(1, 256))
        path = written(tmp_path / f"{k}.pt", bytes(damaged))
        with suppress(InputError):  # anything else fails the test
            load_torch(path)


@pytest.mark.parametrize("header", [b"[" * 200_000, b"{", b'{"a": 1}'])
def test_safetensors__a_header_made_to_do_harm_is_named(tmp_path, header):
    for length in (len(header), 2**60):
        path = written(tmp_path / "a.safetensors", struct.pack("<Q", length) + header)
        with pytest.raises(InputError, match=r"a\.safetensors cannot be read"):
            load_torch(path)


@pytest.mark.parametrize(
    ("row", "more"),
    [({"t": "x"}, {}), ({}, {"epochs": 10**12}), ({}, [1]), ({"t": 1e300}, {})],
    ids=["text", "epochs", "list", "huge"],
)
def test_archive__settings_of_any_kind_fill_no_memory_and_raise_nothing(tmp_path, row, more):
    run = {"yh": torch.from_numpy(PROBS[0]), **row}
    name = json.dumps({"seed": 1, "m": "fc", "bs": 2})
    (tmp_path / "in").mkdir()
    torch.save({"data": [run], "configs": more}, tmp_path / "in" / f"{name}.p")
    np.save(tmp_path / "y.npy", LABELS)
    labels = {"train": tmp_path / "y.npy"}
    (account,) = import_archive(tmp_path / "in", tmp_path / "e", labels=labels)
    assert account.status in ("imported", "failed")
    assert account.reason


# -- sweeps and plans --

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(9)
)
GRID = "\ngrid: {architecture: fc, optimizer: sgd, lr: 0.1}"
YAML = {
    "bomb": (BOMB, r"line 1: the file has more than 100,000 values"),
    "alias of itself": ("data: &a [*a]", "more than 20 levels"),
    "deep": ("[" * 10**5, "nested too deeply"),
    "nested": ("data: " + "[" * 90 + "]" * 90, "more than 20 levels"),
    "key": ("? [a, b]\n: 1", "a key must be a word"),
    "digits": ("data: x\nseeds: " + "9" * 5000, "line 2: the number has 5,000 characters"),
    "base 60": ("data: 1" + ":10" * 10**5, "the number has"),
    "hexadecimal": ("data: 0x" + "f" * 5000, "the number has"),
    "seeds": ("data: {name: digits}\nseeds: 10000000000" + GRID, "at most 1,000,000"),
    "epochs": ("data: {name: digits}\ncommon: {epochs: 1000000000000}" + GRID, "at most 1,000"),
    "samples": ("data: {name: digits, n_train: 1000000000000}" + GRID, "at most 100,000,000"),
    "large": ("#" * 2 * 10**6, "has 2.0 MB, more than the 1.0 MB"),
    "control": ("\0", "no YAML"),
    "program": ("data: !!python/name:os.system ''", "cannot be read"),
} | {tag: (f"data: {tag}", "cannot be read") for tag in (
    "!!int ''", "!!float ''", "!!bool x", "!!timestamp x", "!foo x", "9999-99-99",
    "2001-01-01T00:00:00+99:99")}  # fmt: skip


@pytest.mark.parametrize("case", YAML)
def test_sweep__a_file_made_to_do_harm_is_named(tmp_path, case):
    content, message = YAML[case]
    with pytest.raises(InputError, match=message) as caught:
        load_sweep(written(tmp_path / "a.yaml", content.encode()))
    assert "a.yaml" in str(caught.value)


def test_sweep__an_alias_is_followed(tmp_path):
    text = "data: {name: digits}\ngrid:\n  architecture: fc\n  optimizer: sgd\n  lr: &lr [0.1]\n"
    sweep = load_sweep(written(tmp_path / "a.yaml", f"{text}  weight_decay: *lr\n".encode()))
    assert sweep.trainings[0].config["weight_decay"] == 0.1


def test_sweep__a_grid_without_end_is_counted_first(tmp_path):
    decays = ",".join(str(k) for k in range(1000))
    text = f"data: {{name: digits}}\nseeds: 100000{GRID[:-1]}, weight_decay: [{decays}]}}"
    with pytest.raises(InputError, match="the grid has 100,000,000 trainings"):
        load_sweep(written(tmp_path / "a.yaml", text.encode()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"[" * 10**5),
        ("a.json", b"[" + b"9" * 5000 + b"]"),
        ("a.json", b"\xff\xfe\0"),
        ("a.txt", b"9" * 5000),
        ("a.txt", b"\xff"),
    ],
)
def test_keep__a_file_made_to_do_harm_is_named(tmp_path, name, content):
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        read_keep(written(tmp_path / name, content), 9)


# -- data sets --


def idx(folder, name, *, labels=False, shape=(4,), packed=False, content=b""):
    """An IDX file that announces `shape`."""
    head = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + content
    kind = "labels-idx1" if labels else "images-idx3"
    path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
    return written(path, gzip.compress(head) if packed else head)


@pytest.mark.parametrize("packed", [False, True])
def test_idx__what_announces_more_than_it_has_takes_no_memory(tmp_path, packed):
    idx(tmp_path, "train", shape=(60_000, 2800, 2800), packed=packed)
    with pytest.raises(InputError, match="announces 470 GB"):
        read_folder(tmp_path)


def test_idx__what_unpacks_to_more_than_it_announces_is_not_unpacked(tmp_path):
    idx(tmp_path, "train", shape=(1, 2, 2), packed=True, content=bytes(10**8))
    with pytest.raises(InputError, match=r"longer than it says: .* announces 4 bytes"):
        read_folder(tmp_path)


CIFAR = {
    "program": b"cos\nsystem\n(S'id'\ntR.",
    "memo": b"\x80\x02}r" + struct.pack("<I", 2**30) + b".",
    "tuples": b"\x80\x02})" + b"\x85" * 10**6 + b"K\x01s.",
    "coding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
    "array": b"\x80\x02cnumpy\nndarray\nJ\x00\x00\x00\x7f\x85R.",
    "objects": b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R.",
    "state": b"\x80\x02cnumpy\nndarray\n)R}b.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"x.",
    "digits": b"I" + b"9" * 5000 + b"\n.",
    "empty": b"",
}


@pytest.mark.parametrize("case", CIFAR)
def test_cifar__a_pickle_made_to_do_harm_is_refused(tmp_path, case):
    written(tmp_path / "data_batch_1", CIFAR[case])
    with pytest.raises(InputError):
        read_cifar10(tmp_path)
