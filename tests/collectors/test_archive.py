"""Import of files: what goes in comes out, what is wrong is named and writes nothing."""

import argparse
import subprocess

import h5py
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import inpca
from collectors.archive import import_arrays, plain_value, register
from collectors.torch_files import arrays_of, load_torch
from inpca import InputError

K, N, C = 3, 12, 4


@pytest.fixture
def probs():
    return np.random.default_rng(0).dirichlet(np.ones(C), size=(K, N))


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, C, N)


def as_tensor(values):
    """A tensor, where torch has the type; else what it would save beside tensors."""
    values = np.asarray(values)
    return values if values.dtype.kind == "S" else torch.from_numpy(np.ascontiguousarray(values))


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pt":
        torch.save({name: as_tensor(values) for name, values in arrays.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


def log_probs(path, run, sample_set="train"):
    run = inpca.open_ensemble(path).run(run)
    return np.stack([run.log_probs(sample_set, k) for k in range(run.n_checkpoints)])


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5", ".pt"])
def test_import__what_a_file_holds_comes_out_of_the_ensemble(tmp_path, probs, labels, suffix):
    arrays = {"predictions": probs, "labels": labels, "step": [0, 5, 9], "epoch": [0, 0.5, 1]}
    file = write(tmp_path / f"resnet{suffix}", arrays)
    assert import_arrays(file, tmp_path / "e", config={"lr": 0.1}) == ["resnet"]
    ensemble = inpca.open_ensemble(tmp_path / "e")
    np.testing.assert_allclose(log_probs(tmp_path / "e", "resnet"), np.log(probs), atol=1e-5)
    np.testing.assert_array_equal(ensemble.sample_sets["train"].labels, labels)
    table = ensemble.models
    assert table["step"].tolist() == [0, 5, 9]
    assert table["epoch"].tolist() == [0, 0.5, 1]
    assert set(table["lr"]) == {0.1}
    expected = -np.log(probs[1, np.arange(N), labels]).mean()
    assert table["train_loss"].iloc[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".pt"])
def test_import__several_sample_sets_lie_in_groups(tmp_path, probs, labels, suffix):
    arrays = {"train/predictions": probs, "train/labels": labels}
    arrays |= {"test/predictions": probs[:, :5], "test/labels": labels[:5]}
    import_arrays(write(tmp_path / f"a{suffix}", arrays), tmp_path / "e")
    assert set(inpca.open_ensemble(tmp_path / "e").sample_sets) == {"train", "test"}
    found = log_probs(tmp_path / "e", "a", "test")
    np.testing.assert_allclose(found, np.log(probs[:, :5]), atol=1e-5)


def test_import__npy_takes_its_labels_from_a_file_or_from_the_ensemble(tmp_path, probs, labels):
    np.save(tmp_path / "a.npy", probs)
    np.save(tmp_path / "b.npy", probs[0])
    np.save(tmp_path / "y.npy", labels)
    with pytest.raises(InputError, match=r"no labels of sample set 'train'.*--labels"):
        import_arrays(tmp_path / "a.npy", tmp_path / "e")
    import_arrays(tmp_path / "a.npy", tmp_path / "e", labels=tmp_path / "y.npy")
    import_arrays(tmp_path / "b.npy", tmp_path / "e", run="first")
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table.index.tolist() == ["a/0", "a/1", "a/2", "first/0"]
    assert table["step"].tolist() == [0, 1, 2, 0]
    assert table["epoch"].isna().all()


@pytest.mark.parametrize(
    ("kind", "convert"),
    [("logits", lambda p: np.log(p) + 3), ("log_probs", np.log), ("sqrt_probs", np.sqrt)],
)
def test_import__takes_every_kind(tmp_path, probs, labels, kind, convert):
    file = write(tmp_path / "a.npz", {"predictions": convert(probs), "labels": labels})
    import_arrays(file, tmp_path / "e", kind=kind)
    np.testing.assert_allclose(log_probs(tmp_path / "e", "a"), np.log(probs), atol=1e-5)


def test_import__reads_files_that_use_other_words(tmp_path, probs, labels):
    file = write(tmp_path / "a.npz", {"yh": probs, "y": labels, "t": [1, 2, 3]})
    names = {"predictions": "yh", "labels": "y", "step": "t"}
    import_arrays(file, tmp_path / "e", names=names)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match=r"no array 'predictions' .* it holds t, y, yh"):
        import_arrays(file, tmp_path / "e", run="b")


# -- files of torch --


@pytest.mark.parametrize("form", ["tensor", "list", "nested", "bfloat16", "old"])
def test_import__takes_what_torch_saves(tmp_path, probs, labels, form):
    logits = torch.from_numpy(np.log(probs)).float()
    np.save(tmp_path / "y.npy", labels)
    contents = {
        "tensor": logits,
        "list": list(logits),
        "nested": {"train": {"predictions": logits}, "settings": {"name": "resnet"}},
        "bfloat16": {"predictions": logits.bfloat16(), "step": [0, 5, 9]},
        "old": {"predictions": logits},
    }
    new = {"_use_new_zipfile_serialization": form != "old"}
    torch.save(contents[form], tmp_path / "a.pth", **new)
    import_arrays(tmp_path / "a.pth", tmp_path / "e", kind="logits", labels=tmp_path / "y.npy")
    tolerance = 0.1 if form == "bfloat16" else 1e-5
    np.testing.assert_allclose(log_probs(tmp_path / "e", "a"), np.log(probs), atol=tolerance)
    steps = [0, 5, 9] if form == "bfloat16" else [0, 1, 2]
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == steps


class Program:
    """What a pickle may do to whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_import__runs_no_program_in_a_torch_file_unless_told_to(tmp_path, probs, labels):
    contents = {"predictions": torch.from_numpy(probs), "labels": torch.from_numpy(labels)}
    torch.save(contents | {"extra": Program(tmp_path / "ran")}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"objects beyond tensors.*io\.open.*--allow-pickle.*runs"):
        import_arrays(tmp_path / "a.pt", tmp_path / "e")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "e").exists()


def test_import__loads_a_torch_file_with_more_than_data_when_told_to(tmp_path, probs, labels):
    contents = {"predictions": torch.from_numpy(probs), "labels": torch.from_numpy(labels)}
    torch.save(contents | {"path": tmp_path}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="PosixPath"):
        import_arrays(tmp_path / "a.pt", tmp_path / "e")
    assert import_arrays(tmp_path / "a.pt", tmp_path / "e", allow_pickle=True) == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "holds a str where a tensor"),
        ({"name": "resnet"}, "holds a dict where a tensor"),
        ({"weight": torch.zeros(2, 3)}, r"has no array 'predictions' .* it holds weight"),
        (torch.zeros(3), r"must have shape \(checkpoint, sample, class\)"),
    ],
    ids=["text", "mapping", "weights", "flat"],
)
def test_import__a_torch_file_of_another_kind_is_named(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=message):
        import_arrays(tmp_path / "a.pt", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_load_torch__reads_plain_namespaces_and_arrays_of_numpy_1_and_2(tmp_path):
    contents = {"settings": argparse.Namespace(lr=0.1), "a": np.arange(3.0), "b": np.float32(2)}
    torch.save(contents, tmp_path / "a.pt")
    found = load_torch(tmp_path / "a.pt")
    assert found["settings"].lr == 0.1
    np.testing.assert_array_equal(arrays_of(found, tmp_path)["a"], np.arange(3.0))
    # A pickle of protocol 4 is more than torch's own reader of data reads.
    torch.save(contents, tmp_path / "b.pt", pickle_protocol=4)
    with pytest.raises(InputError, match=r"pickle of protocol 3 or later.*allow_pickle=True"):
        load_torch(tmp_path / "b.pt")
    assert load_torch(tmp_path / "b.pt", allow_pickle=True)["b"] == 2


def test_load_torch__names_a_class_that_is_gone(tmp_path, monkeypatch):
    torch.save({"a": Program(tmp_path / "x")}, tmp_path / "gone.pt")
    content = (tmp_path / "gone.pt").read_bytes().replace(b"cio\nopen", b"cio\nopem")
    (tmp_path / "gone.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"gone\.pt"):
        load_torch(tmp_path / "gone.pt", allow_pickle=True)


# -- what is wrong --


def bad_files():
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(C), size=(K, N))
    y = random.integers(0, C, N)
    nan = p.copy()
    nan[2, 4] = np.nan
    good = {"predictions": p, "labels": y}
    return {
        "nan": (good | {"predictions": nan}, r"train, checkpoint 2` has NaN .* sample 4"),
        "sum": (good | {"predictions": p * 2}, "do not sum to 1"),
        "negative": (good | {"predictions": -p}, "negative probabilities"),
        "flat": (good | {"predictions": p[0, 0]}, r"must have shape \(checkpoint, sample, class\)"),
        "text": (good | {"predictions": np.full((K, N, C), b"p")}, "must hold real numbers"),
        "labels": (good | {"labels": y / 2 + 0.3}, "must be the class 0, 1, … of each sample"),
        "length": (good | {"labels": y[:-1]}, r"are 11 labels, but .* 12 samples"),
        "range": (good | {"labels": y + C}, "must be classes 0 … 3"),
        "step": (good | {"step": [0.5, 1, 2]}, "must be whole numbers"),
        "epoch": (good | {"epoch": [0, 1]}, "must be 3 finite numbers"),
        "none": ({"labels": y}, "no array 'predictions'"),
    }


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".pt"])
@pytest.mark.parametrize("case", list(bad_files()))
def test_import__a_wrong_file_is_named_and_nothing_is_written(tmp_path, case, suffix):
    arrays, message = bad_files()[case]
    file = write(tmp_path / f"bad{suffix}", arrays)
    with pytest.raises(InputError, match=message):
        import_arrays(file, tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".pt"])
@pytest.mark.parametrize("content", [b"", b"no such format", b"cut off", "half"])
def test_import__a_file_that_is_cut_off_or_something_else_is_named(
    tmp_path, probs, labels, suffix, content
):
    file = tmp_path / f"bad{suffix}"
    if content == "half":
        write(tmp_path / "good.npz", {"predictions": probs, "labels": labels})
        write(tmp_path / "good.h5", {"predictions": probs, "labels": labels})
        write(tmp_path / "good.pt", {"predictions": probs, "labels": labels})
        np.save(tmp_path / "good.npy", probs)
        whole = (tmp_path / f"good{suffix}").read_bytes()
        content = whole[: len(whole) // 2]
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad{suffix} cannot be read as"):
        import_arrays(file, tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_import__damaged_bytes_inside_an_npz_are_named(tmp_path, probs, labels):
    file = write(tmp_path / "bad.npz", {"predictions": probs, "labels": labels})
    content = bytearray(file.read_bytes())
    content[400] ^= 255
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npz cannot be read"):
        import_arrays(file, tmp_path / "e")


def test_import__a_bad_second_file_writes_nothing_of_the_first(tmp_path, probs, labels):
    write(tmp_path / "a.npz", {"predictions": probs, "labels": labels})
    write(tmp_path / "b.npz", {"predictions": probs[:, ::-1], "labels": labels[::-1]})
    with pytest.raises(InputError, match=r"labels of set 'train' in .*b\.npz are not those"):
        import_arrays([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_import__refuses_what_does_not_fit_the_ensemble(tmp_path, probs, labels):
    good = write(tmp_path / "a.npz", {"predictions": probs, "labels": labels})
    import_arrays(good, tmp_path / "e")
    short = write(tmp_path / "short.npz", {"predictions": probs[:, :5]})
    with pytest.raises(InputError, match=r"5 samples × 4 classes .* ensemble has 12 × 4"):
        import_arrays(short, tmp_path / "e")
    with pytest.raises(InputError, match=r"predictions for sample set 'valid'.*has train"):
        import_arrays(good, tmp_path / "e", run="b", sample_set="valid")
    with pytest.raises(InputError, match=r"Run 'a' exists already.*--restart"):
        import_arrays(good, tmp_path / "e")
    assert inpca.open_ensemble(tmp_path / "e").runs == ["a"]
    assert import_arrays(good, tmp_path / "e", restart=True) == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "odds"}, "`kind` must be one of"),
        ({"names": {"probs": "p"}}, "`names` may rename predictions, labels, step, epoch"),
        ({"run": "a/b"}, r"`run` \(--run; .*must be"),
        ({"config": {"step": 1}}, "must not have the key 'step'"),
        ({"labels": "y.txt"}, r"`labels` must be a \.npy file"),
    ],
)
def test_import__refuses_wrong_arguments_before_it_writes(
    tmp_path, probs, labels, options, message
):
    file = write(tmp_path / "a.npz", {"predictions": probs, "labels": labels})
    with pytest.raises(InputError, match=message):
        import_arrays(file, tmp_path / "e", **options)
    assert not (tmp_path / "e").exists()


def test_import__refuses_missing_and_unknown_files(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        import_arrays(tmp_path / "a.npz", tmp_path / "e")
    (tmp_path / "a.txt").write_text("1 2")
    with pytest.raises(InputError, match=r"must end in \.npz, \.npy, \.h5, .* or \.pth"):
        import_arrays(tmp_path / "a.txt", tmp_path / "e")
    with pytest.raises(InputError, match="at least one file"):
        import_arrays([], tmp_path / "e")


def test_import__refuses_two_files_for_one_run(tmp_path):
    with pytest.raises(InputError, match="would both become the run"):
        import_arrays([tmp_path / "a.npz", tmp_path / "b" / "a.npz"], tmp_path / "e")
    with pytest.raises(InputError, match="`run` names one run but there are 2 files"):
        import_arrays([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "e", run="c")


# -- the verb --


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_verb__imports_files_and_prints_their_runs(tmp_path, probs, labels, app):
    files = [
        str(write(tmp_path / f"{run}.npz", {"yh": probs, "labels": labels})) for run in ("a", "b")
    ]
    words = ["import", *files, str(tmp_path / "e"), "--name", "predictions=yh", "-s", "test"]
    result = CliRunner().invoke(app, [*words, "-c", "lr=0.1", "-c", "optimizer=sgd", "--quiet"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["a", "b"]
    table = inpca.open_ensemble(tmp_path / "e").models
    assert len(table) == 6
    assert table[["lr", "optimizer"]].iloc[0].tolist() == [0.1, "sgd"]


def test_verb__a_wrong_word_is_bad_input(tmp_path, probs, labels, app):
    file = str(write(tmp_path / "a.npz", {"predictions": probs, "labels": labels}))
    result = CliRunner().invoke(app, ["import", file, str(tmp_path / "e"), "-c", "lr"])
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 3
    assert "`--config` takes key=value, not 'lr'" in str(result.exception)
    assert not (tmp_path / "e").exists()


def test_plain_value__reads_what_people_write():
    words = ["true", "False", "3", "0.1", "1e-3", "sgd", "0x10", ""]
    assert [plain_value(word) for word in words] == [
        True, False, 3, 0.1, 1e-3, "sgd", "0x10", "",
    ]  # fmt: skip


def test_import__names_the_first_sample_in_another_order(tmp_path, probs, labels):
    file = write(tmp_path / "a.npz", {"predictions": probs, "labels": labels})
    import_arrays(file, tmp_path / "e")
    other = labels.copy()
    other[4] = (other[4] + 1) % C
    file = write(tmp_path / "b.npz", {"predictions": probs, "labels": other})
    with pytest.raises(InputError, match=rf"sample 4 has label .* \(1 of {N} differ\)"):
        import_arrays(file, tmp_path / "e")


def test_import__other_classes_are_no_matter_of_order(tmp_path, probs, labels):
    import_arrays(
        write(tmp_path / "a.npz", {"predictions": probs, "labels": labels}), tmp_path / "e"
    )
    arrays = {"predictions": np.full((1, N, 9), 1 / 9), "labels": np.arange(N) % 9}
    with pytest.raises(InputError, match=f"12 samples × 9 classes .* has 12 × {C}"):
        import_arrays(write(tmp_path / "b.npz", arrays), tmp_path / "e")


@pytest.mark.parametrize("name", ["junk.npz", "junk.npy", "junk.pt", "objects.npy"])
def test_import__of_junk_gives_no_advice_to_run_pickles(tmp_path, name):
    file = tmp_path / name
    if name == "objects.npy":
        np.save(file, np.array([{}, None]), allow_pickle=True)
    else:
        file.write_bytes(b"this was never an archive")
    with pytest.raises(InputError) as error:
        import_arrays(file, tmp_path / "e")
    assert name in str(error.value)
    assert "pickle" not in str(error.value)


def test_import__labels_that_do_not_fit_their_predictions_are_named_with_the_file(
    tmp_path, probs, labels
):
    short = write(tmp_path / "a.npz", {"predictions": probs, "labels": labels[:-2]})
    with pytest.raises(InputError, match=r"a\.npz are 10 labels, but .* 12 samples"):
        import_arrays(short, tmp_path / "e")
    high = write(tmp_path / "b.npz", {"predictions": probs, "labels": np.full(N, C)})
    with pytest.raises(InputError, match=r"b\.npz must be classes 0 … 3.*sample 0 has 4"):
        import_arrays(high, tmp_path / "e")
    np.save(tmp_path / "y.npy", labels[:-2])
    bare = write(tmp_path / "c.npz", {"predictions": probs})
    with pytest.raises(InputError, match=r"y\.npy are 10 labels, but .* 12 samples"):
        import_arrays(bare, tmp_path / "e", labels=tmp_path / "y.npy")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("step", [[0, 9, 5], [0, 5, 5]])
def test_import__steps_that_do_not_increase_are_refused(tmp_path, probs, labels, step):
    file = write(tmp_path / "a.npz", {"predictions": probs, "labels": labels, "step": step})
    with pytest.raises(InputError, match=rf"`step` in .*{step[1]} is followed by 5; sort"):
        import_arrays(file, tmp_path / "e")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p, r"checkpoint 0` has probabilities in every sample.*--kind probs"),
        (lambda p: p * 0, r"only zeros in every sample.*--no-check-logits"),
        (lambda p: np.concatenate([np.log(p[:2]), p[2:] * 0]), "checkpoint 2` has only zeros"),
    ],
    ids=["probabilities", "zeros", "one-of-them"],
)
def test_import__refuses_logits_that_are_none_unless_told_to(
    tmp_path, probs, labels, change, message
):
    values = change(probs)
    file = write(tmp_path / "a.npz", {"predictions": values, "labels": labels})
    with pytest.raises(InputError, match=message):
        import_arrays(file, tmp_path / "e", kind="logits")
    assert not (tmp_path / "e").exists()
    import_arrays(file, tmp_path / "e", kind="logits", check_logits=False)
    expected = values - np.log(np.exp(values).sum(-1, keepdims=True))
    np.testing.assert_allclose(log_probs(tmp_path / "e", "a"), expected, atol=1e-5)


# -- several files, one run --


def one_by_one(folder, probs, labels, names, steps=None):
    files = []
    for k, name in enumerate(names):
        arrays = {"predictions": probs[k], "labels": labels}
        arrays |= {} if steps is None else {"step": [steps[k]]}
        files.append(write(folder / f"{name}.npz", arrays))
    return files


def test_import__files_of_one_run_are_put_in_the_order_of_their_names(tmp_path, probs, labels):
    files = one_by_one(tmp_path, probs, labels, ["epoch-2", "epoch-9", "epoch-10"])
    assert import_arrays(sorted(files), tmp_path / "e", as_run="a") == ["a"]
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [2, 9, 10]
    np.testing.assert_allclose(log_probs(tmp_path / "e", "a"), np.log(probs), atol=1e-5)


def test_import__files_of_one_run_are_put_in_the_order_of_the_steps_they_hold(
    tmp_path, probs, labels
):
    files = one_by_one(tmp_path, probs, labels, ["z", "b", "a"], steps=[0, 40, 700])
    import_arrays(files[::-1], tmp_path / "e", as_run="a")
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 40, 700]
    np.testing.assert_allclose(log_probs(tmp_path / "e", "a"), np.log(probs), atol=1e-5)


def test_import__refuses_files_of_one_run_whose_order_is_open(tmp_path, probs, labels):
    (tmp_path / "d").mkdir()
    same = one_by_one(tmp_path, probs, labels, ["a", "b"], steps=[3, 3])
    bare = one_by_one(tmp_path, probs, labels, ["loss-0.3", "loss-0.2"])
    many = write(tmp_path / "many-1.npz", {"predictions": probs, "labels": labels})
    for files, message in [
        (same, r"a\.npz ends at step 3 and .*b\.npz begins at step 3"),
        (bare, "0.3, is no whole one"),
        ([same[0], bare[0]], r"a\.npz holds steps and .*loss-0\.3\.npz does not"),
        ([many, bare[0]], "holds 3 checkpoints without steps"),
        ([same[0], same[0]], "names one twice"),
    ]:
        with pytest.raises(InputError, match=message):
            import_arrays(files, tmp_path / "e", as_run="a")
    with pytest.raises(InputError, match="both name the run"):
        import_arrays(same, tmp_path / "e", run="a", as_run="a")
    assert not (tmp_path / "e").exists()


def test_verb__says_that_files_may_be_one_run(tmp_path, probs, labels):
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    files = [str(f) for f in one_by_one(tmp_path, probs, labels, ["net-1", "net-2", "net-3"])]
    result = CliRunner().invoke(app, ["import", *files, str(tmp_path / "e")])
    assert result.exit_code == 0, result.output
    assert "names differ by a number became 3 runs" in result.stderr
    assert "--as-run NAME" in result.stderr
    one = ["import", *files, str(tmp_path / "f"), "--as-run", "net"]
    result = CliRunner().invoke(app, one)
    assert (result.stdout.split(), "--as-run" in result.stderr) == (["net"], False)


def test_import__says_which_files_have_the_same_name(tmp_path):
    with pytest.raises(InputError, match=r"x/a\.npz and y/a\.npz would both become the run 'a'"):
        import_arrays(["x/a.npz", "b.npz", "y/a.npz"], tmp_path / "e")


def test_torch_files__refused_object_is_called_by_its_name_of_today(tmp_path):
    torch.save({"x": subprocess.Popen}, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"\(subprocess\.Popen\)"):
        load_torch(tmp_path / "a.pt")


def test_files_of_one_run__refuses_names_against_the_epochs_in_the_files(tmp_path, probs, labels):
    for name, k, epoch in (("x1", 0, 9), ("x2", 1, None), ("x3", 2, 7)):
        told = {} if epoch is None else {"epoch": [epoch]}
        np.savez(tmp_path / f"{name}.npz", predictions=probs[k], labels=labels, **told)
    files = [tmp_path / f"x{n}.npz" for n in (1, 2, 3)]
    with pytest.raises(InputError, match=r"x3\.npz tells epoch 7 and .*x1\.npz tells 9, but"):
        import_arrays(files, tmp_path / "e", as_run="a")
    assert not (tmp_path / "e").exists()
    np.savez(files[0], predictions=probs[0], labels=labels, epoch=[7])
    import_arrays(files, tmp_path / "e", as_run="a")
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("text", ["007", "00.5", "1_000", "１", "１.5", "1e400", " 7", "7" * 5000])
def test_plain_value__leaves_text_that_a_number_would_not_give_back(text):
    assert plain_value(text) == text


def test_plain_value__takes_plain_numbers():
    texts = ("0", "-3", "+3", "1.", ".5", "1E-3", "inf", "0.0")
    assert [plain_value(text) for text in texts] == [0, -3, 3, 1.0, 0.5, 0.001, float("inf"), 0.0]
