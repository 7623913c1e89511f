"""Replay of saved weights: the run that a recorder would have written, or a named error."""

import numpy as np
import pytest
import torch
import typer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import inpca
from collectors.checkpoints import ordered_by_step, replay, step_by_pattern
from collectors.replay_command import named_object, register
from collectors.steps import ordered, step_in_name
from collectors.torch import Recorder
from inpca import InputError

N, D, C, STEPS = 18, 4, 3, (0, 5, 40, 200)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, C))


@pytest.fixture
def sets():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    y = torch.randint(0, C, (N,), generator=generator)
    return {"train": DataLoader(TensorDataset(x, y), batch_size=7)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "w").mkdir()
    for step in STEPS:
        torch.save(network(step).state_dict(), tmp_path / "w" / f"epoch=3-step={step}.pt")
    return tmp_path


def stored(path, run="a"):
    run = inpca.open_ensemble(path).run(run)
    return np.stack([run.log_probs("train", k) for k in range(run.n_checkpoints)])


def test_replay__stores_what_a_recorder_beside_the_training_would(folder, sets):
    with Recorder(folder / "b", "a", {"lr": 1}, sample_sets=sets, schedule=STEPS) as recorder:
        for step in STEPS:
            recorder.step(network(step), step=step, epoch=step / 20)
    n = replay(
        folder / "w/*.pt", folder / "e", "a", network, sets, config={"lr": 1}, batches_per_epoch=20
    )
    assert n == len(STEPS)
    np.testing.assert_array_equal(stored(folder / "e"), stored(folder / "b"))
    a, b = inpca.open_ensemble(folder / "e").models, inpca.open_ensemble(folder / "b").models
    assert a.equals(b)
    assert a["step"].tolist() == list(STEPS)


def test_replay__epochs_are_unknown_where_nobody_says_them(folder, sets):
    replay(str(folder / "w/*.pt"), folder / "e", "a", network, sets)
    assert inpca.open_ensemble(folder / "e").models["epoch"].isna().all()


def test_replay__goes_on_after_a_kill_and_reads_nothing_twice(folder, sets):
    damaged = folder / "w" / "epoch=3-step=40.pt"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:100])
    with pytest.raises(InputError, match=r"step=40\.pt cannot be read"):
        replay(folder / "w/*.pt", folder / "e", "a", network, sets)
    assert inpca.open_ensemble(folder / "e").run("a").step.tolist() == [0, 5]
    damaged.write_bytes(good)
    (folder / "w" / "epoch=3-step=0.pt").write_bytes(b"not read again")
    told = []
    n = replay(
        folder / "w/*.pt", folder / "e", "a", network, sets,
        progress=lambda done, total, text: told.append((done, total)),
    )  # fmt: skip
    assert n == 2
    assert told[-1] == (4, 4)
    assert inpca.open_ensemble(folder / "e").run("a").step.tolist() == list(STEPS)
    assert replay(folder / "w/*.pt", folder / "e", "a", network, sets) == 0
    with pytest.raises(InputError, match=r"step=0\.pt cannot be read"):
        replay(folder / "w/*.pt", folder / "e", "a", network, sets, restart=True)


def test_replay__names_the_file_whose_weights_are_nan_and_keeps_what_was_before(folder, sets):
    file = folder / "w" / "epoch=3-step=40.pt"
    torch.save({key: value * np.nan for key, value in network().state_dict().items()}, file)
    with pytest.raises(InputError, match=r"step=40\.pt cannot be recorded.*leave this") as error:
        replay(folder / "w/*.pt", folder / "e", "a", network, sets)
    assert "learning rate" not in str(error.value)
    assert inpca.open_ensemble(folder / "e").models["step"].tolist() == [0, 5]


def test_replay__refuses_a_file_between_those_that_are_recorded(folder, sets):
    replay(folder / "w/*.pt", folder / "e", "a", network, sets)
    torch.save(network().state_dict(), folder / "w" / "step=7.pt")
    with pytest.raises(InputError, match=r"step=7\.pt comes before step 200.*--restart"):
        replay(folder / "w/*.pt", folder / "e", "a", network, sets)
    assert replay(folder / "w/*.pt", folder / "e", "a", network, sets, restart=True) == 5


def test_replay__finds_weights_under_a_key_and_strips_what_their_names_begin_with(folder, sets):
    weights = {f"model.{name}": value for name, value in network(5).state_dict().items()}
    file = folder / "last-5.ckpt"
    content = {"trainer": {"state_dict": weights | {"loss.weight": torch.ones(C)}}, "epoch": 3}
    torch.save(content, file)
    replay([file], folder / "e", "a", network, sets, key="trainer/state_dict", prefix="model.")
    replay([folder / "w/epoch=3-step=5.pt"], folder / "e", "b", network, sets)
    np.testing.assert_array_equal(stored(folder / "e", "a"), stored(folder / "e", "b"))


def test_replay__reads_safetensors(folder, sets):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(network(5).state_dict(), folder / "model-5.safetensors")
    replay([folder / "model-5.safetensors"], folder / "e", "a", network, sets)
    replay([folder / "w/epoch=3-step=5.pt"], folder / "e", "b", network, sets)
    np.testing.assert_array_equal(stored(folder / "e", "a"), stored(folder / "e", "b"))
    (folder / "cut-6.safetensors").write_bytes(b"\x10")
    with pytest.raises(InputError, match=r"cut-6\.safetensors cannot be read"):
        replay([folder / "cut-6.safetensors"], folder / "e", "c", network, sets)


# -- what is wrong --


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"model": network().state_dict(), "epoch": 3}, {}, r"no state_dict .* weights under 'mod"),
        ({"model": network().state_dict()}, {"key": "net"}, r"has no 'net'; it holds weights"),
        (network().state_dict(), {"prefix": "module."}, r"begins with 'module\.'; the first is"),
        ({"epoch": 3}, {}, "no state_dict .* no weights, but 'epoch'"),
        (torch.zeros(3), {}, "no state_dict .* it holds a Tensor"),
        (nn.Linear(D, C).state_dict(), {}, r"do not fit .*Sequential.* Missing key.*--prefix"),
        (
            nn.Sequential(*[*network()][:-1], nn.Linear(6, C + 1)).state_dict(),
            {},
            r"bad-1\.pt do not fit .* size mismatch for 3\.weight",
        ),
        (
            {name: value * np.nan for name, value in network().state_dict().items()},
            {},
            "'a' has NaN or infinite predictions at step 1",
        ),
    ],
    ids=["key", "other-key", "prefix", "no-weights", "tensor", "names", "shapes", "nan"],
)
def test_replay__names_the_file_that_does_not_fit_and_writes_nothing(
    tmp_path, sets, content, options, message
):
    torch.save(content, tmp_path / "bad-1.pt")
    with pytest.raises(InputError, match=message):
        replay([tmp_path / "bad-1.pt"], tmp_path / "e", "a", network, sets, **options)
    assert not (tmp_path / "e").exists()


def test_replay__loads_a_whole_pickled_network_only_when_told_to(tmp_path, sets):
    torch.save({"net": network()}, tmp_path / "old-1.pt")
    with pytest.raises(InputError, match=r"torch\.nn\.\S+Sequential\).*trust the file"):
        replay([tmp_path / "old-1.pt"], tmp_path / "e", "a", network, sets)
    torch.save(network(), tmp_path / "old-1.pt")
    with pytest.raises(InputError, match=r"a whole Sequential; save its state_dict\(\)"):
        replay([tmp_path / "old-1.pt"], tmp_path / "e", "a", network, sets, allow_pickle=True)


def test_replay__refuses_what_is_no_network_and_no_file(tmp_path, folder, sets):
    with pytest.raises(InputError, match="no file matches"):
        replay(tmp_path / "none/*.pt", tmp_path / "e", "a", network, sets)
    with pytest.raises(InputError, match=r"`factory` must return a torch\.nn\.Module, not dict"):
        replay(folder / "w/*.pt", tmp_path / "e", "a", dict, sets)
    with pytest.raises(InputError, match="There is no file"):
        replay([tmp_path / "gone-1.pt"], tmp_path / "e", "a", network, sets)


def test_ordered_by_step__is_the_order_of_numbers_and_refuses_two_of_one_step(tmp_path):
    files = [tmp_path / name for name in ("s100.pt", "s9.pt", "s20.pt")]
    assert list(ordered_by_step(files, step_in_name)) == [9, 20, 100]
    with pytest.raises(InputError, match=r"s9\.pt and .*t9\.pt are both of step 9"):
        ordered_by_step([*files, tmp_path / "t9.pt"], step_in_name)
    with pytest.raises(InputError, match=r"No step can be read from the name of .*last\.pt"):
        ordered_by_step([tmp_path / "last.pt"], step_in_name)


LIGHTNING = [
    "epoch=0-val_loss=0.78.ckpt",
    "epoch=1-val_loss=0.61.ckpt",
    "epoch=10-val_loss=0.5.ckpt",
]


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (LIGHTNING, [0, 1, 10]),
        (["epoch=0-step=500-v1.ckpt", "epoch=1-step=1000.ckpt"], [500, 1000]),
        (["resnet18-s0-9.pt", "resnet18-s0-10.pt"], [9, 10]),
        (["2026-11-28_step_7_final.pt", "2026-11-28_step_12_final.pt"], [7, 12]),
        (["globalstep100.pt", "global_step_2000.pt"], [100, 2000]),
        (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], [500, 1000]),
        (["net-3.pt"], [3]),
        (["a-3.pt", "b-5.pt"], [3, 5]),
        (["iteration0003.pth"], [3]),
        (["max_steps=1000-epoch=3.pt"], [3]),
        (["max-steps=1000-epoch=3.pt"], [3]),
        (["steps_per_epoch=100_epoch=3.pt"], [3]),
        (["warmup_steps=100-epoch=3.pt", "warmup_steps=100-epoch=4.pt"], [3, 4]),
        (["num_epochs=90-epoch=3-step=40.pt"], [40]),
        (["max_steps=1000-net-7.pt"], [7]),
        (["vgg_step_7.pt", "vgg_step_8.pt"], [7, 8]),
    ],
)
def test_ordered__takes_the_number_that_is_the_step(tmp_path, names, steps):
    files = [tmp_path / name for name in names]
    found = ordered(files[::-1])
    assert [*found] == steps
    assert [*found.values()] == files


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["net-0.78.pt", "net-0.61.pt"], "0.78, is no whole one"),
        (["net-10k.pt", "net-9k.pt"], "10k, is no whole one"),
        (["step=1.5.pt"], "tells '1.5', which is no whole number"),
        (["step=10k.pt"], "tells '10k'"),
        (["a-3-0.5.pt", "a-4-0.4.pt"], r"several numbers \(3, 0.5\).*--step-pattern"),
        (["resnet18-3.pt"], r"several numbers \(18, 3\)"),
        (["a-3.pt", "b-5-6.pt"], r"b-5-6\.pt has several numbers"),
        (["lr_step=3-step=9.pt"], r"several steps or epochs \(3, 9\)"),
        (["epoch=0.ckpt", "epoch=0-v1.ckpt"], r"epoch=0-v1\.ckpt are both of step 0"),
        (["step=1_000.pt", "step=2_000.pt", "step=500.pt"], r"step=1_000\.pt tells '1_000'"),
        (["step_1,000.pt"], "'1,000', which may be one number in groups"),
        (["step=1 000.pt"], "'1 000', which may be"),
        (["step=1'000.pt"], "1'000.*, which may be"),
        (["net_1_000.pt", "net_2_000.pt"], "'1_000', which may be one number, or several"),
        (["net-0,78.pt", "net-0,61.pt"], "'0,78', which may be"),
        (["epoch=2-step=-5.pt"], r"'-5', which is no whole number of 0 or more.*--step-pattern"),
        (["x=-5.pt"], "'-5', which may be .* below 0"),
        (["step=1².pt"], "'1²', which is no whole"),
        (["step=１.pt"], "No step can be read"),
        (["warmup_steps=100.pt"], "No step can be read"),
        (["lr_step=3-epoch=9.pt"], "tells epoch 9 and 3 of what may be its step"),
        ([f"step={2**63}.pt"], "`step`, for .*must be whole numbers"),
        (["best-v1.ckpt"], r"No step can be read from the name of .*best-v1\.ckpt"),
        (["step=3.pt", "last.pt"], r"step=3\.pt tells its step and .*last\.pt does not"),
    ],
)
def test_ordered__refuses_names_that_do_not_tell(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        ordered([tmp_path / name for name in names])


@pytest.mark.parametrize("key", ["global_step", "step", "iteration"])
@pytest.mark.parametrize("value", [lambda at: at, torch.tensor, np.int64])
def test_replay__takes_the_step_that_the_file_tells(tmp_path, sets, key, value):
    for name, at in (("last-v1", 7), ("epoch=0-val_loss=0.78", 30), ("epoch=1-val_loss=0.9", 200)):
        torch.save(
            {"state_dict": network(at).state_dict(), key: value(at)}, tmp_path / f"{name}.ckpt"
        )
    replay(tmp_path / "*.ckpt", tmp_path / "e", "a", network, sets, key="state_dict")
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [7, 30, 200]


def test_replay__takes_a_list_of_steps_for_a_list_of_files(tmp_path, sets):
    files = [tmp_path / "best.pt", tmp_path / "first.pt"]
    for file in files:
        torch.save(network(len(file.stem)).state_dict(), file)
    replay(files, tmp_path / "e", "a", network, sets, step=[90, 10])
    replay(files[1:], tmp_path / "f", "a", network, sets, step=[10])
    np.testing.assert_array_equal(stored(tmp_path / "e")[0], stored(tmp_path / "f")[0])
    with pytest.raises(InputError, match="one number for each of the 2 files, not 1"):
        replay(files, tmp_path / "g", "a", network, sets, step=[90])
    with pytest.raises(InputError, match="is a pattern, whose files have no order"):
        replay(tmp_path / "*.pt", tmp_path / "g", "a", network, sets, step=[90, 10])


@pytest.mark.parametrize("wrong", [1.9, True, None, "0"])
def test_ordered__refuses_steps_that_are_no_whole_numbers_and_names_the_file(tmp_path, wrong):
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for step in (lambda _: wrong, [0, wrong], 1.9):
        with pytest.raises(InputError, match="`step`"):
            ordered(files, step)
    assert [*ordered(files, [1.0, np.int64(2)])] == [1, 2]


def test_ordered__refuses_a_key_that_may_be_the_step_where_the_file_tells_another(tmp_path):
    with pytest.raises(InputError, match="holds step 500, and its name tells 3"):
        ordered([tmp_path / "lr_step=3.pt"], None, lambda _: {"global_step": 500})


@pytest.mark.parametrize("name", ["epoch={}.pt", "net-{}.pt", "step={}.pt"])
@pytest.mark.parametrize("inside", [{}, {"global_step": 70}])
def test_replay__records_what_comes_before_a_file_that_is_half_written(
    tmp_path, sets, name, inside
):
    def save(at):
        told = {key: at * value for key, value in inside.items()}
        torch.save({"w": network(at).state_dict(), **told}, tmp_path / name.format(at))

    def run():
        return replay(tmp_path / "*.pt", tmp_path / "e", "a", network, sets, key="w")

    for at in (9, 10):
        save(at)
    (tmp_path / name.format(11)).write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"11\.pt cannot be read"):
        run()
    factor = 70 if inside and name != "step={}.pt" else 1
    steps = inpca.open_ensemble(tmp_path / "e").models["step"].tolist()
    assert steps == [9 * factor, 10 * factor]
    save(11)
    assert run() == 1
    (tmp_path / name.format(9)).write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"9\.pt cannot be read"):
        replay(tmp_path / "*.pt", tmp_path / "f", "a", network, sets, key="w")


@pytest.mark.parametrize("wrong", [2.5, 0, "9"])
def test_replay__names_batches_per_epoch_that_are_no_whole_number(folder, sets, wrong):
    with pytest.raises(InputError, match="`batches_per_epoch` must be"):
        replay(folder / "w/*.pt", folder / "e", "a", network, sets, batches_per_epoch=wrong)


def test_replay__holds_its_inputs_to_those_of_other_runs_unless_told_not_to(folder, sets):
    replay(folder / "w/*.pt", folder / "e", "a", network, sets)
    x, y = sets["train"].dataset.tensors
    other = {"train": DataLoader(TensorDataset(x + 1, y), batch_size=7)}
    with pytest.raises(InputError, match=r"shown other inputs .*--no-check-inputs"):
        replay(folder / "w/*.pt", folder / "e", "b", network, other)
    replay(folder / "w/*.pt", folder / "e", "b", network, other, check_inputs=False)


def test_replay__does_not_make_epochs_of_epochs(tmp_path, sets):
    for epoch in (0, 1):
        torch.save(network(epoch).state_dict(), tmp_path / f"epoch={epoch}.pt")
    with pytest.raises(InputError, match=r"needs steps, but the files tell epochs"):
        replay(tmp_path / "*.pt", tmp_path / "e", "a", network, sets, batches_per_epoch=9)
    replay(tmp_path / "*.pt", tmp_path / "e", "a", network, sets)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 1]


@pytest.mark.parametrize("pattern", ["step(", "step", r"(\d)-(\d)"])
def test_step_by_pattern__refuses_what_has_not_one_group(pattern):
    with pytest.raises(InputError, match="The pattern"):
        step_by_pattern(pattern)


# -- the verb --

MODULE = """
import torch
from torch import nn
def make():
    return nn.Linear(2, 3)
def data():
    x = torch.arange(8.0).reshape(4, 2)
    return {"test": [(x, torch.tensor([0, 1, 2, 0]))]}
"""


@pytest.fixture
def app():
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_verb__replays_files_through_a_factory_of_the_working_directory(tmp_path, monkeypatch, app):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_replay_project.py").write_text(MODULE)
    for step in (1, 2):
        torch.save(nn.Linear(2, 3).state_dict(), tmp_path / f"net-{step}-of-9.pt")
    words = ["replay", "*.pt", "e", "--run", "a", "--factory", "my_replay_project:make"]
    words += ["--data", "my_replay_project:data", "-c", "lr=0.1", "--step-pattern", r"net-(\d+)"]
    result = CliRunner().invoke(app, [*words, "--quiet"])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["2"]
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == [1, 2]
    assert set(table["lr"]) == {0.1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_module", "must be package.module:function"),
        ("no_such_module_here:make", "cannot be imported"),
        ("collectors.recorder:make", "has no 'make'"),
    ],
)
def test_named_object__names_what_is_not_there(name, message):
    with pytest.raises(InputError, match=message):
        named_object(name, "--factory")
