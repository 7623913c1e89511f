"""Sweeps: a file's mistakes are shown by line, and what is trained is the same however it ran."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

import inpca
from collectors.zoo import command
from collectors.zoo.pool import run_sweep
from collectors.zoo.states import states
from collectors.zoo.sweep import COLUMNS, SHIPPED, find_sweep, load_sweep, plan
from collectors.zoo.training import Training
from collectors.zoo.trial import try_sweep
from inpca import InputError

N_TRAIN = 60
TINY = """
data: {name: npz, path: blobs.npz}
seeds: 2
common: {epochs: 2, batch_size: 20, checkpoints: 3, lr: 0.1}
grid:
  architecture: [linear, mlp]
  optimizer: [nesterov, adam]
"""
# One of the four diverges.
DIVERGING = """
data: {name: npz, path: blobs.npz}
common: {epochs: 2, batch_size: 20, checkpoints: 3, architecture: mlp}
grid:
  - {optimizer: sgd, lr: [0.1, 1.0e+30, 0.2]}
  - {optimizer: adam, lr: 1e-3}
"""
FAILED = "mlp-sgd-lr1e30-0"


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(0)
    y = np.arange(N_TRAIN + 20) % 3
    x = (draw.normal(size=(len(y), 6)) + 3 * y[:, None]).astype(np.float32)
    split = {"x_train": x[:N_TRAIN], "y_train": y[:N_TRAIN]}
    np.savez(tmp_path / "blobs.npz", **split, x_test=x[N_TRAIN:], y_test=y[N_TRAIN:])
    return tmp_path


def sweep_of(folder, text, name="tiny"):
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_sweep(path)


def stored(ensemble):
    """Every byte of an ensemble's runs and failures, by file."""
    places = [ensemble / "runs", ensemble / "failed", ensemble / "samples"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {str(path.relative_to(ensemble)): path.read_bytes() for path in files}


# --- the file --------------------------------------------------------------------------------


def test_sweep__is_the_product_of_its_lists(folder):
    sweep = sweep_of(folder, TINY)
    assert [training.run for training in sweep.trainings] == [
        f"{architecture}-{optimizer}-{seed}"
        for architecture in ("linear", "mlp")
        for optimizer in ("nesterov", "adam")
        for seed in range(2)
    ]
    first = Training("linear-nesterov-0", "linear", "nesterov", 0.1, 0, 20, 2, checkpoints=3)
    assert sweep.trainings[0] == first
    assert Path(sweep.data.path) == folder / "blobs.npz"


def test_sweep__every_column_of_a_file_reaches_the_training(folder):
    (folder / "plan.json").write_text("[0, 1, 2, 3]")
    text = """
data: {name: npz, path: blobs.npz, labels: random, seed: 4, noise: [0.5, 1], n_train: 50}
grid:
  - architecture: tanh-20
    optimizer: sgd
    lr: 1e-3
    batch_size: [all, 8]
    weight_decay: 1.0e-4
    augmentation: flips-crops
    lr_schedule: constant
    epochs: 7
    checkpoints: epochs
    init: point-3
    keep: [all, plan.json]
    seed: [5]
"""
    sweep = sweep_of(folder, text)
    assert sweep.data.noise == (0.5, 1.0)
    assert (sweep.data.labels, sweep.data.seed, sweep.data.n_train) == ("random", 4, 50)
    assert len(sweep.trainings) == 4
    common = dict(
        architecture="tanh-20", optimizer="sgd", lr=1e-3, seed=5, epochs=7, weight_decay=1e-4,
        augmentation="flips-crops", lr_schedule="constant", checkpoints="epochs", init="point-3",
    )  # fmt: skip
    last = Training(
        "tanh-20-sgd-lr0.001-bs8-wd0.0001-flips-crops-constant-ep7-cpepochs-point-3-plan-5",
        batch_size=8, keep="plan", kept=(0, 1, 2, 3), **common,
    )  # fmt: skip
    assert sweep.trainings[-1] == last
    assert sweep.trainings[0].batch_size is None
    assert sweep.trainings[0].kept is None
    assert set(last.config) == {*COLUMNS, "keep_digest"} - {"checkpoints", "layer"}


def test_sweep__another_value_in_a_list_renames_no_run(folder):
    before = {t.run: t for t in sweep_of(folder, TINY).trainings}
    after = {t.run: t for t in sweep_of(folder, TINY.replace("seeds: 2", "seeds: 3")).trainings}
    longer = TINY.replace("[linear, mlp]", "[linear, mlp, tanh-20]")
    for grown in (after, {t.run: t for t in sweep_of(folder, longer).trainings}):
        assert before.items() <= grown.items()


def test_sweep__parts_are_the_whole(folder):
    sweep = sweep_of(folder, TINY)
    parts = [sweep.part(number, 3).trainings for number in (1, 2, 3)]
    assert sorted(sum(parts, ()), key=lambda t: t.run) == sorted(
        sweep.trainings, key=lambda t: t.run
    )
    assert [len(part) for part in parts] == [3, 3, 2]
    with pytest.raises(InputError, match="1 ≤ i ≤ k, not 4/3"):
        sweep.part(4, 3)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("linear, mlp", "linear, mpl", 6, "'mpl' is unknown; did you mean 'mlp'?"),
        ("architecture:", "architecure:", 6, "key 'architecure'; did you mean 'architecture'?"),
        ("lr: 0.1", "learning_rate: 0.1", 4, "did you mean 'lr'?"),
        ("adam]", "adan]", 7, "'adan' is unknown; did you mean 'adam'?"),
        ("name: npz", "name: cifar", 2, "did you mean 'cifar10'?"),
        ("data:", "dat:", 2, "key 'dat'; did you mean 'data'?"),
        ("lr: 0.1", "lr: fast", 4, "must be a number above 0, not 'fast'"),
        ("lr: 0.1", "lr: -1", 4, "must be a number above 0, not -1"),
        ("epochs: 2", "epochs: 0", 4, "`epochs` must be at least 1, not 0"),
        ("epochs: 2", "epochs: 2.5", 4, "must be a whole number, not 2.5"),
        ("seeds: 2", "seeds: [1, -1]", 3, "at least 0, not -1"),
        (", lr: 0.1", "", 5, "no 'lr', which every training needs"),
        ("seeds: 2", "seeds: 2\nseeds: 3", 4, "'seeds' stands twice, first on line 3"),
        ("seeds: 2", "seeds: [1, 4, 1]", 3, "`seeds` names 1 twice"),
        ("optimizer:", "lr: 1\n  optimizer:", 7, "`lr` stands in common (line 4) and in the grid"),
        ("common: {", "common: {init: corner, ", 4, "must be 'default' or 'point-0'"),
        ("common: {", "common: {checkpoints: some, ", 4, "stands twice"),
        ("common: {", "common: [", 4, "this is no YAML"),
        ("data: {name: npz, path: blobs.npz}", "data: npz", 2, "must be a mapping"),
        ("name: npz", "name: digits", 2, "read from files, and 'digits' is not"),
        ("name: npz", "name: npz, grey: 1", 2, "`grey` must be true or false, not 1"),
        ("common: {", "common: {layer: 2, ", 4, '`layer` must be text, not 2; put it in quotes'),
        ("common: {", "common: {keep: far.json, ", 4, "names sample 99, and there are only 0"),
        ("common: {", "common: {keep: lost.json, ", 4, "There is no file"),
    ],
    ids=[
        "architecture", "column", "synonym", "optimizer", "data", "key", "lr-text", "lr-negative",
        "epochs-0", "epochs-float", "seeds", "lr-missing", "twice", "seed-twice",
        "common-and-grid", "init", "checkpoints", "yaml",
        "mapping", "path", "grey", "layer", "keep", "keep-lost",
    ],
)  # fmt: skip
def test_sweep__mistake_is_shown_with_its_line(folder, old, new, line, words):
    assert old in TINY
    (folder / "far.json").write_text("[0, 99]")
    text = TINY.replace(old, new, 1)
    with pytest.raises(InputError) as caught:
        sweep_of(folder, text)
    message = str(caught.value)
    assert f"tiny.yaml, line {line}: " in message
    assert words in message
    assert message.endswith(text.splitlines()[line - 1])


def test_sweep__empty_or_unreadable_files_are_named(folder):
    with pytest.raises(InputError, match="is empty"):
        sweep_of(folder, "")
    with pytest.raises(InputError, match="cannot be read"):
        load_sweep(folder / "none.yaml")
    with pytest.raises(InputError, match=r"no sweep file .*one of those shipped: cifar10, digits"):
        find_sweep("imagenet")
    with pytest.raises(InputError, match=r"There is no file .*lost.json for `keep`"):
        sweep_of(folder, TINY.replace("common: {", "common: {keep: lost.json, "))


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_shipped_sweep__can_be_planned_without_its_data(name):
    planned = plan(load_sweep(find_sweep(name)))
    assert planned.n_models > 60 * planned.n_runs or name == "digits"
    assert planned.n_bytes == planned.n_models * sum(planned.samples.values()) * 4 * (
        5 if "synthetic" in name else 10
    )


def test_shipped_sweeps__are_as_large_as_is_promised():
    digits, cifar = (plan(load_sweep(find_sweep(name))) for name in ("digits", "cifar10"))
    assert digits.n_runs >= 300
    assert digits.n_models >= 10_000
    assert cifar.n_runs == 6 * 3 * 3 * 2 * 2 * 10
    assert cifar.samples == {"train": 50_000, "test": 10_000}


def test_cifar_sweep__rates_are_in_proportion_to_batch_sizes():
    trainings = load_sweep(find_sweep("cifar10")).trainings
    rates = {(t.optimizer, t.lr / t.batch_size) for t in trainings}
    assert {(name, round(rate, 12)) for name, rate in rates} == {
        ("sgd", 0.0005), ("nesterov", 0.0005), ("adam", 0.000005),
    }  # fmt: skip
    assert {t.seed for t in trainings} == set(range(42, 52))


# --- training it -----------------------------------------------------------------------------


def test_run_sweep__trains_what_is_missing_and_nothing_twice(folder):
    sweep = sweep_of(folder, TINY)
    first = run_sweep(sweep.part(1, 4), folder / "e", workers=1)
    assert first.trained == ["linear-nesterov-0", "mlp-nesterov-0"]
    told = []
    rest = run_sweep(sweep, folder / "e", workers=1, progress=lambda *args: told.append(args[:2]))
    assert sorted(first.trained) == sorted(rest.present)
    assert len(rest.trained) == 6
    assert told == [(done, 8) for done in range(2, 9)]
    before = stored(folder / "e")
    assert run_sweep(sweep, folder / "e").trained == []
    assert stored(folder / "e") == before
    assert len(inpca.open_ensemble(folder / "e").models) == 24
    assert inpca.open_ensemble(folder / "e").check() == []


def test_run_sweep__in_processes_gives_the_same_bytes(folder):
    sweep = sweep_of(folder, TINY)
    alone = run_sweep(sweep, folder / "alone", workers=1)
    together = run_sweep(sweep, folder / "together", workers=2)
    assert sorted(alone.trained) == sorted(together.trained)
    assert stored(folder / "alone") == stored(folder / "together")


def test_run_sweep__trains_a_run_that_was_cut_off_again(folder):
    sweep = sweep_of(folder, TINY).part(1, 4)
    run_sweep(sweep, folder / "whole", workers=1)
    shutil.copytree(folder / "whole", folder / "e")
    training = sweep.trainings[0]
    whole = inpca.open_ensemble(folder / "whole").run(training.run)
    with inpca.open_ensemble(folder / "e").start_run(
        training.run, training.config, restart=True
    ) as writer:
        writer.append(
            {name: whole.log_probs(name, 0) for name in ("train", "test")}, step=0, epoch=0
        )
    found = states(sweep.trainings, folder / "e", N_TRAIN)
    assert list(found.values()) == ["cut off", "done"]
    assert run_sweep(sweep, folder / "e", workers=1).trained == [training.run]
    assert stored(folder / "e") == stored(folder / "whole")


def test_run_sweep__refuses_a_run_of_another_configuration(folder):
    run_sweep(sweep_of(folder, TINY).part(1, 8), folder / "e", workers=1)
    other = sweep_of(folder, TINY.replace("epochs: 2", "epochs: 4"))
    with pytest.raises(InputError, match=r"was trained with epochs 2 \(now 4\).*--restart"):
        run_sweep(other, folder / "e", workers=1)
    result = run_sweep(other.part(1, 8), folder / "e", workers=1, restart=True)
    assert result.trained == ["linear-nesterov-0"]
    assert inpca.open_ensemble(folder / "e").models["epochs"].tolist() == [4, 4, 4]


def test_run_sweep__refuses_an_ensemble_of_other_samples(folder):
    inpca.create_ensemble(folder / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    with pytest.raises(InputError, match="must be that of the ensemble"):
        run_sweep(sweep_of(folder, TINY), folder / "e")


@pytest.mark.parametrize("workers", [1, 2])
def test_run_sweep__survives_a_run_that_diverges(folder, workers):
    sweep = sweep_of(folder, DIVERGING)
    result = run_sweep(sweep, folder / "e", workers=workers)
    assert sorted(result.trained) == ["mlp-adam-lr0.001-0", "mlp-sgd-lr0.1-0", "mlp-sgd-lr0.2-0"]
    assert list(result.failed) == [FAILED]
    assert "diverged" in result.failed[FAILED]
    ensemble = inpca.open_ensemble(folder / "e")
    assert FAILED not in ensemble.runs
    assert not list((folder / "e" / "runs").glob(f"{FAILED}*"))
    record = json.loads((folder / "e" / "failed" / f"{FAILED}.json").read_text())
    assert record["reason"] == result.failed[FAILED]
    assert record["config"]["lr"] == 1e30
    assert ensemble.check() == []


def test_run_sweep__tries_a_failed_run_again_only_when_told_or_changed(folder):
    sweep = sweep_of(folder, DIVERGING)
    run_sweep(sweep, folder / "e", workers=1)
    before = stored(folder / "e")
    again = run_sweep(sweep, folder / "e", workers=1)
    assert (again.trained, list(again.failed)) == ([], [FAILED])
    retried = run_sweep(sweep, folder / "e", workers=1, retry_failed=True)
    assert (retried.trained, list(retried.failed)) == ([], [FAILED])
    assert stored(folder / "e") == before
    [broken] = [training for training in sweep.trainings if training.run == FAILED]
    cured = Training(**{**vars(broken), "lr": 0.05})
    fixed = type(sweep)("tiny", sweep.data, (cured,))
    assert run_sweep(fixed, folder / "e", workers=1).trained == [FAILED]
    assert not (folder / "e" / "failed" / f"{FAILED}.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("linear, mlp", "linear, cnn", 6, r"'cnn' takes images.*\(6,\)"),
        (
            "epochs: 2,",
            "epochs: 2, layer: hidden,",
            4,
            r"`layer` .*no 'hidden'; its modules are 0 ",
        ),
        ("epochs: 2,", "epochs: 2, augmentation: flips-crops,", 4, "is for images"),
        ("epochs: 2,", "epochs: 2, keep: one.json,", 4, "`keep` 'one': .* kept are all of class 0"),
    ],
    ids=["architecture", "layer", "augmentation", "keep"],
)
def test_run_sweep__what_does_not_fit_is_refused_with_its_line_before_all(
    folder, old, new, line, words
):
    (folder / "one.json").write_text("[0, 3]")
    assert old in TINY
    sweep = sweep_of(folder, TINY.replace(old, new))
    with pytest.raises(InputError, match=rf"(?s)tiny.yaml, line {line}: .*{words}"):
        run_sweep(sweep, folder / "e", workers=1)
    assert not (folder / "e").exists()
    if "keep" not in new:
        error = invoke(folder / "tiny.yaml", "--dry-run").exception
        assert f"tiny.yaml, line {line}: " in str(error)


def test_run_sweep__training_set_of_one_class_is_refused_before_all(folder):
    np.savez(folder / "blobs.npz", x_train=np.eye(20), y_train=np.ones(20, int))
    with pytest.raises(InputError, match=r"20 training samples of .*blobs.npz are all of class 1"):
        run_sweep(sweep_of(folder, TINY), folder / "e", workers=1)
    assert not (folder / "e").exists()


def test_run_sweep__image_too_small_for_a_network_is_refused_with_its_line(folder):
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 2, 2))
    np.savez(folder / "blobs.npz", x_train=x, y_train=np.arange(20) % 2)
    with pytest.raises(InputError, match=r"(?s)line 6: .*'cnn' cannot take inputs of .*\(2, 2\)"):
        run_sweep(sweep_of(folder, TINY.replace("mlp", "cnn")), folder / "e")


def test_run_sweep__device_that_is_not_there_leaves_no_ensemble(folder):
    with pytest.raises(InputError, match="`device` 'abacus' cannot be used"):
        run_sweep(sweep_of(folder, TINY), folder / "e", device="abacus")
    assert not (folder / "e").exists()


def test_try_sweep__leaves_torchs_generator_alone(folder):
    state = torch.get_rng_state()
    try_sweep(sweep_of(folder, TINY))
    assert torch.equal(torch.get_rng_state(), state)


def test_run_sweep__leaves_runs_of_another_process_to_it(folder):
    from inpca.store.files import file_lock

    sweep = sweep_of(folder, TINY).part(1, 4)
    lock = file_lock(folder / "e" / ".locks" / "linear-nesterov-0.sweep.lock")
    with lock:
        result = run_sweep(sweep, folder / "e", workers=1)
    assert result.elsewhere == ["linear-nesterov-0"]
    assert result.trained == ["mlp-nesterov-0"]


# --- killed, and two at once -----------------------------------------------------------------

LONG = """
data: {name: npz, path: blobs.npz}
seeds: 3
common: {epochs: 100, batch_size: 4, checkpoints: 8, lr: 0.01}
grid: {architecture: [linear, mlp], optimizer: nesterov}
"""
PROGRAM = """
import sys
from pathlib import Path
from collectors.zoo.pool import run_sweep
from collectors.zoo.sweep import load_sweep
if __name__ == "__main__":
    file, ensemble, part, workers = sys.argv[1:]
    sweep = load_sweep(Path(file)).part(*map(int, part.split("/")))
    run_sweep(sweep, ensemble, workers=int(workers))
"""


def start(folder, ensemble, part="1/1", workers=1):
    program = folder / "program.py"
    program.write_text(PROGRAM)
    words = [sys.executable, str(program), str(folder / "tiny.yaml"), str(ensemble), part]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([*words, str(workers)], env=environment)


def wait_for(condition, process, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None or condition(), "the sweep ended too early"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sweep__killed_and_restarted_gives_the_same_bytes(folder, workers):
    sweep = sweep_of(folder, LONG)
    run_sweep(sweep, folder / "alone", workers=1)
    process = start(folder, folder / "e", workers=workers)
    # In the middle of its second run or third, whichever that is.
    wait_for(lambda: len(list(folder.glob("e/runs/*.zarr/zarr.json"))) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = states(sweep.trainings, folder / "e", N_TRAIN)
    assert "missing" in killed.values()
    # The workers of a dead driver may still be at a run for a moment: it is left to them.
    while run_sweep(sweep, folder / "e", workers=1).elsewhere:
        time.sleep(0.1)
    run_sweep(sweep, folder / "e", workers=1)  # a run that one of them held is put in order now
    assert stored(folder / "e") == stored(folder / "alone")
    assert inpca.open_ensemble(folder / "e").check() == []


@pytest.mark.slow
def test_sweep__two_parts_at_once_lose_nothing(folder):
    sweep = sweep_of(folder, LONG)
    run_sweep(sweep, folder / "alone", workers=1)
    both = [start(folder, folder / "e", part) for part in ("1/2", "2/2")]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    assert stored(folder / "e") == stored(folder / "alone")


def test_sweep__the_same_twice_at_once_loses_nothing(folder):
    sweep = sweep_of(folder, TINY)
    both = [start(folder, folder / "e") for _ in range(2)]
    assert [process.wait(timeout=600) for process in both] == [0, 0]
    assert set(states(sweep.trainings, folder / "e", N_TRAIN).values()) == {"done"}
    assert inpca.open_ensemble(folder / "e").check() == []


# --- the verb --------------------------------------------------------------------------------


def invoke(*words):
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return CliRunner().invoke(app, ["sweep", *map(str, words)])


def test_verb__trains_shows_bars_on_stderr_and_a_summary_on_stdout(folder):
    sweep_of(folder, DIVERGING)
    result = invoke(folder / "tiny.yaml", folder / "e", "--workers", "1")
    assert isinstance(result.exception, InputError)  # exit code 3: a run has failed
    assert "1 run of 4 failed" in str(result.exception)
    assert result.stdout.splitlines()[0] == "trained now          3"
    assert f"{FAILED}: Run" in result.stdout
    assert "sweep" in result.stderr
    again = invoke(folder / "tiny.yaml", folder / "e", "--json", "--quiet")
    assert list(json.loads(again.stdout)["failed"]) == [FAILED]
    assert again.stderr == ""


def test_verb__lists_failed_runs_with_their_reason(folder):
    reason = run_sweep(sweep_of(folder, DIVERGING), folder / "e", workers=1).failed[FAILED]
    assert reason.endswith("Lower its learning rate (1e+30); nothing that it recorded is kept.")
    assert "stays" not in reason
    listed = invoke(folder / "tiny.yaml", folder / "e", "--list").stdout.splitlines()
    assert [line.split("\t")[2:] for line in listed] == [
        ["done"], ["failed", reason], ["done"], ["done"],
    ]  # fmt: skip
    record = json.loads(invoke(folder / "tiny.yaml", folder / "e", "--list", "--json").stdout)
    assert record["failed"] == {FAILED: reason}


def test_verb__dry_run_and_list_show_the_plan_and_train_nothing(folder):
    sweep_of(folder, TINY)
    result = invoke(folder / "tiny.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "data npz (train 60, test 20)" in result.stdout
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:3]] == [
        ["Runs", "8"],
        ["Models", "24"],
    ]
    run_sweep(load_sweep(folder / "tiny.yaml").part(1, 8), folder / "e", workers=1)
    there = invoke(folder / "tiny.yaml", folder / "e", "--dry-run")
    assert "1 done, 7 missing" in there.stdout
    listed = invoke(folder / "tiny.yaml", folder / "e", "--list", "--part", "1/2")
    assert listed.stdout.splitlines()[:2] == [
        "linear-nesterov-0\t3\tdone",
        "linear-adam-0\t3\tmissing",
    ]
    record = json.loads(invoke(folder / "tiny.yaml", "--list", "--json").stdout)
    assert record["n_models"] == 24
    assert record["n_bytes"] == 24 * 80 * 3 * 4


def test_verb__says_what_is_missing_or_wrong(folder):
    sweep_of(folder, TINY)
    assert "`ensemble` is missing" in str(invoke(folder / "tiny.yaml").exception)
    for part in ("2", "a/b", "3/2"):
        error = invoke(folder / "tiny.yaml", "--dry-run", "--part", part).exception
        assert "`part` must be i/k" in str(error)


def test_columns__of_yaml_are_read_as_yaml_means_them():
    """A float without a point is text to YAML 1.1, and a number here."""
    assert yaml.safe_load("1e-3") == "1e-3"


def test_sweep__puts_a_run_in_order_whose_writer_was_killed_after_its_last_commit(folder):
    sweep = sweep_of(folder, TINY)
    run_sweep(sweep, folder / "e", workers=1)
    whole = stored(folder / "e")
    run = next(folder.glob("e/runs/*.zarr"))
    (run / "epoch" / "zarr.json.123.partial").write_bytes(b"{")
    (run / "step" / "zarr.json").unlink()
    run_sweep(sweep, folder / "e", workers=1)
    assert stored(folder / "e") == whole
