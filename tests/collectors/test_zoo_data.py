"""Data sets of the zoo: published formats read as they are, bad files named, options that hold."""

import gzip
import hashlib
import os
import pickle
import struct

import numpy as np
import pytest

from collectors.zoo.arrays import read_npz
from collectors.zoo.cifar import read_cifar10, read_cifar100
from collectors.zoo.data import (
    DataSettings,
    digits,
    load_data,
    planned_classes,
    planned_samples,
    planned_shape,
)
from collectors.zoo.idx import read_folder, read_idx
from collectors.zoo.teacher import eigenvalues, teacher_data
from inpca import InputError

# --- digits and the options ------------------------------------------------------------------


def test_digits__are_split_once_and_for_all():
    sets = digits()
    assert {name: split.x.shape for name, split in sets.items()} == {
        "train": (1297, 8, 8),
        "test": (500, 8, 8),
    }
    assert all(np.bincount(split.y).min() > len(split.y) // 11 for split in sets.values())
    assert sets["train"].x.mean() == pytest.approx(0, abs=1e-6)
    assert sets["train"].x.std() == pytest.approx(1, abs=1e-6)
    digest = hashlib.sha256(b"".join(split.y.tobytes() for split in sets.values())).hexdigest()
    assert digest[:16] == "beea03eaed99398a"


def test_digits__no_image_is_in_both_sets():
    sets = digits()
    seen = {image.tobytes() for image in sets["train"].x}
    assert not any(image.tobytes() in seen for image in sets["test"].x)


def test_digits__may_all_be_for_training():
    data = load_data(DataSettings("digits", n_test=0, labels="parity", standardise="pixels"))
    assert {name: split.x.shape for name, split in data.sets.items()} == {"train": (1797, 8, 8)}
    assert data.n_classes == 2
    assert abs(data.sets["train"].y.mean() - 0.5) < 0.02
    pixels = data.sets["train"].x.reshape(-1, 64).astype(np.float64)
    spread = pixels.std(axis=0)
    np.testing.assert_allclose(pixels.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(spread[spread > 0], 1, atol=1e-6)


def test_grey__is_the_mean_of_the_channels(tmp_path):
    x = np.random.default_rng(0).random((6, 3, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(6) % 2)
    settings = DataSettings("npz", str(tmp_path / "d.npz"), grey=True, standardise="none")
    np.testing.assert_allclose(load_data(settings).sets["train"].x, x.mean(axis=1), atol=1e-6)
    assert planned_shape(settings) == (4, 4)
    assert planned_shape(DataSettings("cifar10", "nowhere", grey=True)) == (32, 32)
    with pytest.raises(InputError, match=r"`grey` averages the channels .* shape \(8, 8\)"):
        load_data(DataSettings("digits", grey=True))


def test_path__of_a_set_that_is_not_in_files_is_refused():
    with pytest.raises(InputError, match=r"`path` \(--data folder\) .* 'digits' is not"):
        DataSettings("digits", "folder")


def test_labels__by_parity_are_the_digits_modulo_two():
    plain, parity = (
        load_data(DataSettings("digits", labels=how)) for how in ("original", "parity")
    )
    for name in plain.sets:
        np.testing.assert_array_equal(parity.sets[name].y, plain.sets[name].y % 2)


def test_labels__at_random_keep_their_numbers_and_depend_on_the_seed():
    plain, first, second = (
        load_data(DataSettings("digits", labels=how, seed=seed)).sets["train"].y
        for how, seed in (("original", 0), ("random", 0), ("random", 1))
    )
    np.testing.assert_array_equal(np.bincount(first), np.bincount(plain))
    assert (first == plain).mean() < 0.15
    assert (first != second).mean() > 0.8


def test_labels__of_parity_at_random_are_the_random_ones_modulo_two():
    random, both = (
        load_data(DataSettings("digits", labels=how)) for how in ("random", "parity-random")
    )
    assert both.n_classes == planned_classes(DataSettings("digits", labels="parity-random")) == 2
    for name in random.sets:
        np.testing.assert_array_equal(both.sets[name].y, random.sets[name].y % 2)


def test_noise__is_added_to_the_test_set_under_its_own_name():
    data = load_data(DataSettings("digits", noise=(0.5, 1.5)))
    assert list(data.sets) == ["train", "test", "test_noise_0.5", "test_noise_1.5"]
    for sigma in (0.5, 1.5):
        noise = data.sets[f"test_noise_{sigma}"].x - data.sets["test"].x
        assert noise.std() == pytest.approx(sigma, rel=0.02)
        np.testing.assert_array_equal(data.sets[f"test_noise_{sigma}"].y, data.sets["test"].y)
    with pytest.raises(InputError, match="`noise` is added to the test set, and there is none"):
        load_data(DataSettings("digits", n_test=0, noise=(0.5,)))


def test_subset__is_drawn_from_the_training_set():
    whole, part, other = (
        load_data(DataSettings("digits", n_train=n, seed=seed, standardise="none")).sets
        for n, seed in ((None, 0), (300, 0), (300, 1))
    )
    images = {image.tobytes() for image in whole["train"].x}
    assert len(part["train"].y) == 300
    assert all(image.tobytes() in images for image in part["train"].x)
    assert not np.array_equal(part["train"].x, other["train"].x)
    np.testing.assert_array_equal(part["test"].y, whole["test"].y)
    with pytest.raises(InputError, match="`n_train` must be between 2 and the 1,297"):
        load_data(DataSettings("digits", n_train=2000))


def test_load_data__names_the_nearest_set_and_bad_options():
    with pytest.raises(InputError, match="'cifar' is unknown; did you mean 'cifar10'"):
        load_data(DataSettings("cifar"))
    with pytest.raises(InputError, match="nothing downloads: give `path`"):
        load_data(DataSettings("mnist"))
    with pytest.raises(InputError, match="`labels` must be one of"):
        load_data(DataSettings("digits", labels="odd"))
    with pytest.raises(InputError, match="`standardise` must be one of"):
        load_data(DataSettings("digits", standardise="all"))


@pytest.mark.parametrize(
    "settings",
    [DataSettings("digits", noise=(0.5,)), DataSettings("teacher", n_train=20, n_test=10)],
    ids=["digits", "teacher"],
)
def test_planned_samples__are_those_that_come(settings):
    loaded = load_data(settings).sets
    assert planned_samples(settings) == {name: len(split.y) for name, split in loaded.items()}


def test_planned_samples__of_published_files_need_no_file():
    settings = DataSettings("mnist", path="nowhere", n_train=8192, noise=(1.0,))
    assert planned_samples(settings) == {"train": 8192, "test": 10_000, "test_noise_1": 10_000}


# --- the teacher -----------------------------------------------------------------------------


def test_teacher__inputs_have_the_spectrum_of_the_paper():
    sloppy, isotropic = eigenvalues("sloppy"), eigenvalues("isotropic")
    np.testing.assert_allclose(sloppy[:2], [25 / 200, 25 / 200 * np.exp(-0.5)])
    np.testing.assert_allclose(np.diff(np.log(sloppy)), -0.5)
    np.testing.assert_allclose(isotropic, 1 / 200)
    x, _ = teacher_data("sloppy", n_train=5000, n_test=2)["train"]
    np.testing.assert_allclose(x[:, :20].var(axis=0), sloppy[:20], rtol=0.1)


@pytest.mark.parametrize("spectrum", ["sloppy", "isotropic"])
def test_teacher__uses_all_classes_and_depends_on_the_seed(spectrum):
    first, again, other = (teacher_data(spectrum, seed=seed) for seed in (0, 0, 1))
    assert first["train"][0].shape == (5000, 200)
    assert first["test"][0].shape == (1000, 200)
    assert np.bincount(first["train"][1], minlength=5).min() > 100
    np.testing.assert_array_equal(first["train"][0], again["train"][0])
    assert not np.array_equal(first["train"][1], other["train"][1])
    with pytest.raises(InputError, match="'slopy' is unknown; did you mean 'sloppy'"):
        teacher_data("slopy")


# --- IDX -------------------------------------------------------------------------------------


def idx_bytes(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_mnist(folder, *, gzipped=False, n=(6, 4)):
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    made = {}
    for (name, prefix), number in zip((("train", "train"), ("test", "t10k")), n):
        images = draw.integers(0, 256, (number, 28, 28))
        labels = np.arange(number) % 10
        made[name] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' * gzipped}"
            path.write_bytes(gzip.compress(content) if gzipped else content)
    return made


@pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("name", ["mnist", "kmnist", "fashion-mnist"])
def test_idx__is_read_as_published(tmp_path, name, gzipped):
    made = write_mnist(tmp_path / "raw", gzipped=gzipped)
    data = load_data(DataSettings(name, path=str(tmp_path), standardise="none"))
    assert data.n_classes == 10
    for part, (images, labels) in made.items():
        np.testing.assert_allclose(data.sets[part].x, images / 255, rtol=1e-6)
        np.testing.assert_array_equal(data.sets[part].y, labels)


def test_idx__missing_file_is_named_with_its_place(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"no file t10k-labels-idx1-ubyte \(nor .*\.gz\) in "):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[:-1], "is truncated: its header announces 24 bytes.*but 23 follow"),
        (lambda b: b[:9], "truncated in its header"),
        (lambda b: b + b"\0", "longer than it says"),
        (lambda b: b"PK" + b[2:], "is no IDX file"),
        (lambda b: b"", "is no IDX file"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "type 0x0d.*unsigned bytes"),
        (lambda b: idx_bytes([1, 2]), "in 1 dimensions.*in 3 are expected"),
    ],
    ids=["truncated", "header", "longer", "magic", "empty", "type", "dims"],
)
def test_idx__damage_is_named(tmp_path, damage, words):
    path = tmp_path / "images"
    path.write_bytes(damage(idx_bytes(np.zeros((2, 3, 4)))))
    with pytest.raises(InputError, match=words):
        read_idx(path, 3)


def test_idx__truncated_or_foreign_gzip_is_named(tmp_path):
    path = tmp_path / "images.gz"
    noise = np.frombuffer(os.urandom(3200), np.uint8).reshape(4, 20, 40)
    for content in (gzip.compress(idx_bytes(noise))[:-900], b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="truncated or no gzip file"):
            read_idx(path, 3)


def test_idx__labels_of_another_set_are_refused(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes([0, 1]))
    with pytest.raises(InputError, match="has 2 labels but there are 6 images"):
        read_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes([0, 1, 2, 3, 4, 77]))
    with pytest.raises(InputError, match=r"must be classes 0 … 10 − 1.*to 77"):
        read_folder(tmp_path)


# --- CIFAR -----------------------------------------------------------------------------------


def cifar_batch(labels, key=b"labels", seed=0):
    draw = np.random.default_rng(seed)
    data = draw.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {b"batch_label": b"tiny", key: list(labels), b"data": data}


def write_cifar(folder, names, key=b"labels"):
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        (folder / name).write_bytes(pickle.dumps(cifar_batch([1, 2], key, seed), protocol=2))


TEN = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


def test_cifar10__is_read_as_published(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py", TEN)
    data = load_data(DataSettings("cifar10", path=str(tmp_path), standardise="none"))
    assert {name: split.x.shape for name, split in data.sets.items()} == {
        "train": (10, 3, 32, 32),
        "test": (2, 3, 32, 32),
    }
    assert data.sets["train"].y.tolist() == [1, 2] * 5
    red = cifar_batch([1, 2], seed=1)[b"data"][0, :32]
    np.testing.assert_allclose(data.sets["train"].x[2, 0, 0], red / 255, rtol=1e-6)


def test_cifar100__is_read_with_its_fine_classes(tmp_path):
    write_cifar(tmp_path / "c", ["train", "test"], b"fine_labels")
    data = load_data(DataSettings("cifar100", path=str(tmp_path / "c")))
    assert data.n_classes == 100
    means = data.sets["train"].x.mean(axis=(0, 2, 3))
    np.testing.assert_allclose(means, 0, atol=1e-5)  # standardised for each channel


class Evil:
    def __reduce__(self):
        return os.system, ("echo run >&2",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(cifar_batch([1, 2]), protocol=2)[:-500], "truncated or of another kind"),
        (b"not a pickle", "truncated or of another kind"),
        (b"", "truncated or of another kind"),
        (pickle.dumps([1, 2], protocol=2), "holds a list, no batch of CIFAR"),
        (pickle.dumps({b"data": [1]}, protocol=2), "has no 'labels'"),
        (pickle.dumps(cifar_batch([1, 12]), protocol=2), "classes 0 … 10 − 1.*to 12"),
        (pickle.dumps(cifar_batch([1]) | {b"labels": [1, 2]}, protocol=2), "has 1 images but"),
        (pickle.dumps(cifar_batch([1]) | {b"data": np.zeros((1, 9))}, protocol=2), "be bytes of"),
        (pickle.dumps({b"data": Evil()}, protocol=2), "asks for .*system.*Nothing was run"),
    ],
    ids=["truncated", "text", "empty", "list", "keys", "labels", "count", "shape", "code"],
)
def test_cifar__damage_is_named_and_nothing_is_run(tmp_path, capfd, content, words):
    write_cifar(tmp_path / "c", TEN)
    (tmp_path / "c" / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_cifar10(tmp_path / "c")
    assert capfd.readouterr().err == ""


def test_cifar__missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no file .*data_batch_1; unpack the published"):
        read_cifar10(tmp_path)
    with pytest.raises(InputError, match=r"There is no file .*train; unpack"):
        read_cifar100(tmp_path)


# --- any arrays ------------------------------------------------------------------------------


def test_npz__gives_any_inputs_and_labels(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(6, 5)), np.array([0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    data = load_data(DataSettings("npz", path=str(tmp_path / "a.npz")))
    assert data.n_classes == 3
    np.testing.assert_array_equal(data.sets["train"].x, x.astype(np.float32))
    np.testing.assert_array_equal(data.sets["test"].y, y[:2])
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y)
    assert list(read_npz(tmp_path / "b.npz")) == ["train"]


GOOD = {"x_train": np.ones((3, 2)), "y_train": np.array([0, 1, 1])}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.ones(3)}, "no array 'x_train'; it must hold.*but has x"),
        (GOOD | {"y_train": np.array([0, 1])}, "y_train must be 3 whole numbers"),
        (GOOD | {"y_train": np.array([0.0, 1, 1])}, "y_train must be 3 whole numbers"),
        (GOOD | {"y_train": np.array([0, -1, 1])}, "classes 0 … C − 1.*from -1 to 1"),
        (GOOD | {"x_train": np.full((3, 2), np.nan)}, "x_train has NaN"),
        (GOOD | {"x_train": np.array(["a", "b", "c"])}, "x_train must be real numbers"),
        (GOOD | {"x_test": np.ones((3, 2))}, "no array 'y_test'"),
        (GOOD | {"x_test": np.ones((1, 4)), "y_test": np.array([0])}, "they must be the same"),
    ],
    ids=["names", "count", "float", "negative", "nan", "text", "half", "shapes"],
)
def test_npz__names_what_is_wrong(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=words):
        read_npz(tmp_path / "a.npz")


def test_npz__missing_or_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="There is no file"):
        read_npz(path)
    np.savez(path, **GOOD)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="truncated or of another kind"):
        read_npz(path)
    np.save(tmp_path / "b.npy", np.ones(3))
    with pytest.raises(InputError, match=r"is no .npz file but one array"):
        read_npz(tmp_path / "b.npy")
    for content, words in ((b"x,y\n1,2\n", "it begins with b'x,y"), (b"", "it is empty")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            read_npz(path)
        assert "pickle" not in str(caught.value)
    np.savez(path, **GOOD | {"y_train": np.array([0, None, 1], dtype=object)})
    with pytest.raises(InputError, match="'y_train' cannot be read, it is damaged or holds Python"):
        read_npz(path)


def test_planned_samples__are_those_of_the_files_where_they_are_there(tmp_path):
    for prefix, number in (("train", 30), ("t10k", 7)):
        header = struct.pack(">BBBBI", 0, 0, 8, 1, number)
        with gzip.open(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(header + bytes(number))
    settings = DataSettings("mnist", path=str(tmp_path))
    assert planned_samples(settings) == {"train": 30, "test": 7}
    for name, number in (("train", 4), ("test", 3)):
        batch = {b"data": np.zeros((number, 3072), np.uint8), b"fine_labels": [0] * number}
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=2))
    settings = DataSettings("cifar100", path=str(tmp_path))
    assert planned_samples(settings) == {"train": 4, "test": 3}


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "npz"])
def test_missing_files__are_answered_with_the_option_that_says_where_they_are(tmp_path, name):
    with pytest.raises(InputError, match=r"`path` \(--data F"):
        load_data(DataSettings(name, path=str(tmp_path / "nowhere")))
