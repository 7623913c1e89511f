"""The second paper's effects on the digits, reduced: their signs, and the ensemble they leave."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import inpca
from collectors.zoo.full_batch import Stack, standardised
from collectors.zoo.inversion_dynamics import at_inversion, follow, recorded_epochs
from inpca import InputError
from inpca import inversion as inv
from inpca.geometry.inversion_runs import (
    common_stragglers,
    conservation_note,
    conservation_table,
    inversion_table,
    invert_runs,
)

N_SEEDS, EPOCHS = 3, 300
EXAMPLE = Path(__file__).parents[2] / "examples" / "inversion_digits.py"


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return standardised(images), (labels % 2 == 0).astype(np.int64)


def network(seeds=range(N_SEEDS), **shape):
    return Stack(seeds, n_inputs=64, n_classes=2, **shape)


def train(digits, stride=3, **options):
    x, y = digits
    options.setdefault("record", recorded_epochs(EPOCHS, dense=0, stride=stride))
    return follow(network(), x, options.pop("labels", y), epochs=EPOCHS, **options)


@pytest.fixture(scope="module")
def whole(digits):
    return train(digits, keep_logits=True)


@pytest.fixture(scope="module")
def stragglers(whole):
    return at_inversion(whole, whole.inversions())


def rises(dynamics):
    return np.array([[p.rise_share for p in one.points.values()] for one in dynamics.inversions()])


def test_manifolds__segregate_and_then_invert_at_one_epoch_and_error(whole):
    found = whole.inversions()
    assert all(one.found for one in found)
    assert np.median([one.spread for one in found]) <= 10
    phi = np.array([one.phi for one in found])
    assert phi.std(ddof=1) / phi.mean() < 0.1
    assert rises(whole).min() > 0.15
    for values in whole.observables.values():
        assert (abs(values[:, -1] - values[:, 0]) > 0.05).all()


def test_stragglers__are_the_same_whatever_the_seed(stragglers):
    found = inv.conservation(stragglers)
    assert found.share > 0.75
    assert 0.05 < found.null_share < 0.1
    assert found.z > 10


def test_without_stragglers__nothing_inverts_and_without_others_it_does(digits, stragglers):
    chance = np.random.default_rng(0).permuted(stragglers, axis=1)
    assert rises(train(digits, stride=10, kept=~stragglers)).max() <= 0.05
    assert rises(train(digits, stride=10, kept=~chance)).min() > 0.15


def test_random_labels__let_the_centres_part_for_ever(digits):
    labels = np.array([inv.random_labels(digits[1], seed) for seed in range(N_SEEDS)])
    shuffled = train(digits, stride=10, labels=labels)
    for one in shuffled.inversions():
        assert one.points["centre_distance"].verdict == "monotone"
        assert one.points["centre_distance"].rise_share <= 0.01
    assert not any(one.found for one in shuffled.inversions())


def test_stack__trains_each_network_as_if_it_were_alone(digits):
    x, y = digits[0][:200], digits[1][:200]
    together = follow(network(), x, y, epochs=20, record=[20], keep_logits=True)
    alone = follow(network([1]), x, y, epochs=20, record=[20], keep_logits=True)
    np.testing.assert_allclose(alone.logits[0], together.logits[1], atol=1e-4)


def test_stack__trains_on_the_samples_kept_alone(digits):
    x, y = digits[0][:200], digits[1][:200]
    kept = np.arange(200) % 3 > 0
    masks = np.stack([kept] * N_SEEDS)
    masked = follow(network(), x, y, epochs=20, kept=masks, record=[20], keep_logits=True)
    cut = follow(network(), x[kept], y[kept], epochs=20, record=[20], keep_logits=True)
    np.testing.assert_allclose(cut.logits, masked.logits[:, :, kept], atol=1e-4)
    for name, values in cut.observables.items():
        np.testing.assert_allclose(values, masked.observables[name], atol=1e-4)
    np.testing.assert_allclose(cut.train_error, masked.train_error)


@pytest.mark.parametrize("depth", [2, 4])
def test_stack__is_torchs_own_network(digits, depth):
    import torch
    from torch import nn

    x, y = digits[0][:100], digits[1][:100]
    stack = network([0], depth=depth, width=5)
    layers = []
    for weight, bias in zip(stack._weights[::2], stack._weights[1::2]):
        layer = nn.Linear(weight.shape[2], weight.shape[1])
        layer.weight.data, layer.bias.data = weight[0].detach().clone(), bias[0, :, 0].detach()
        layer.bias.data = layer.bias.data.clone()
        layers += [layer, nn.Tanh()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    inputs, truth = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), truth).backward()
        optimizer.step()
    ours = follow(stack, x, y, epochs=10, record=[10], keep_logits=True)
    np.testing.assert_allclose(ours.logits[0, 0], model(inputs).detach().numpy(), atol=1e-4)


# -- the same from an ensemble --


@pytest.fixture(scope="module")
def ensemble(whole, digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("inversion") / "digits.ensemble"
    made = inpca.create_ensemble(path, sample_sets={"train": digits[1]}, n_classes=2)
    whole.save(made, "mlp", {"architecture": "mlp"})
    made.add_run("plain", {"train": np.full((3, len(digits[1]), 2), 0.5)})
    return inpca.open_ensemble(path)


def test_ensemble__gives_what_the_arrays_gave(ensemble, whole, stragglers):
    runs = {one.run: one for one in invert_runs(ensemble)}
    for number, found in enumerate(whole.inversions()):
        one = runs[f"mlp-{number}"]
        assert one.inversion.phi == pytest.approx(found.phi)
        assert one.inversion.epoch == found.epoch
        np.testing.assert_array_equal(one.stragglers, stragglers[number])
    table = inversion_table(list(runs.values())).set_index("run")
    assert table.loc["plain", "verdict"] == "not recorded"
    assert table.loc["mlp-0", "n_stragglers"] == stragglers[0].sum()
    pairs = conservation_table(list(runs.values()))
    assert pairs["share"].tolist() == [inv.conservation(stragglers).share]


def test_conservation_table__pairs_groups_within_and_across(ensemble):
    pairs = conservation_table(invert_runs(ensemble), by="seed")
    assert pairs[["group", "other"]].to_numpy().tolist() == [["0", "1"], ["0", "2"], ["1", "2"]]


def test_conservation_table__refuses_an_unknown_setting_and_names_the_nearest(ensemble):
    with pytest.raises(InputError, match="not 'sead'; the nearest first: seed"):
        conservation_table(invert_runs(ensemble), by="sead")


def test_conservation_note__says_why_there_is_nothing_or_little(ensemble):
    runs = invert_runs(ensemble)
    assert "of only 3 pairs" in conservation_note(runs, conservation_table(runs))
    few = [one for one in runs if one.run in ("mlp-0", "plain")]
    assert "1 of 2 runs does" in conservation_note(few, conservation_table(few))
    many = conservation_table(runs).assign(n_pairs=10)
    assert conservation_note(runs, many) == ""


def test_common_stragglers__are_those_of_most_runs_or_of_one(ensemble, stragglers):
    runs = invert_runs(ensemble)
    np.testing.assert_array_equal(common_stragglers(runs), stragglers.sum(axis=0) >= 2)
    np.testing.assert_array_equal(common_stragglers(runs, "mlp-1"), stragglers[1])
    with pytest.raises(InputError, match="the verdict 'not recorded'"):
        common_stragglers(runs, "plain")
    with pytest.raises(InputError, match=r"such as mlp-\d.* not 'mlp-9'"):
        common_stragglers(runs, "mlp-9")
    with pytest.raises(InputError, match="none of the 1 has an inversion"):
        common_stragglers([one for one in runs if one.run == "plain"])


def test_invert_runs__are_in_natural_order(tmp_path):
    curve = np.abs(np.arange(12) - 5.0)
    observables = {f"train/{name}": curve for name in ("radius_plus", "radius_minus")}
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    for number in (10, 2, 1):
        predictions = {"train": np.full((12, 2, 2), 0.5)}
        ensemble.add_run(f"a-{number}", predictions, observables=observables)
    runs = invert_runs(inpca.open_ensemble(tmp_path / "e"))
    assert [one.run for one in runs] == ["a-1", "a-2", "a-10"]
    assert conservation_table(runs)["group"].tolist() == ["–"]


def test_invert_runs__without_observables_say_how_to_record_them(ensemble):
    with pytest.raises(InputError, match=r"or with collectors\.hidden"):
        invert_runs(ensemble.select("run == 'plain'"))
    with pytest.raises(InputError, match="`sample_set` must be one of train, not 'test'"):
        invert_runs(ensemble, "test")
    with pytest.raises(InputError, match=r"^`method` must be one of argmin, unimodal, not 'mean'"):
        invert_runs(ensemble, method="mean")


def command(*arguments, code=0):
    program = [sys.executable, "-c", "from inpca.cli import main; main()", "inversion"]
    environment = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == code, done.stderr
    return done


def test_command__prints_tables_and_draws(ensemble, tmp_path):
    found = json.loads(command(ensemble.path, "--json").stdout)
    assert [row["verdict"] for row in found["runs"]] == ["inversion"] * 3 + ["not recorded"]
    assert found["conservation"][0]["share"] > 0.75
    text = command(ensemble.path, "--method", "unimodal", "--output", tmp_path / "a.png")
    assert "mlp-0" in text.stdout
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_command__names_what_is_wrong(ensemble, tmp_path):
    path = ensemble.path
    assert "One layer was recorded" in command(path, "-l", "3", code=3).stderr
    assert "the nearest first: seed" in command(path, "--by", "sed", code=3).stderr
    assert "give --stragglers" in command(path, "--run", "mlp-0", code=3).stderr
    target = tmp_path / "none" / "s.txt"
    assert "does not exist" in command(path, "--stragglers", target, code=3).stderr
    assert "must be a file" in command(path, "--stragglers", tmp_path, code=3).stderr


def test_command__writes_stragglers_and_what_a_sweep_keeps(ensemble, stragglers, tmp_path):
    from collectors.zoo.keep import read_keep

    target, folder = tmp_path / "s.txt", tmp_path / "plans"
    command(ensemble.path, "--stragglers", target, "--plan", folder)
    common = stragglers.sum(axis=0) >= 2
    numbers = [int(line) for line in target.read_text().splitlines()]
    assert numbers == np.flatnonzero(common).tolist()
    kept = read_keep(folder / "without-stragglers.json", len(common))
    np.testing.assert_array_equal(kept, np.flatnonzero(~common))
    chance = read_keep(folder / "without-stragglers-random-0.json", len(common))
    assert len(chance) == len(kept)
    assert set(chance) != set(kept)
    command(ensemble.path, "--stragglers", target, "--run", "mlp-2")
    numbers = [int(line) for line in target.read_text().splitlines()]
    assert numbers == np.flatnonzero(stragglers[2]).tolist()


def test_command__says_why_nothing_is_compared(ensemble):
    done = command(ensemble.path, "--select", "run in ['mlp-0', 'plain']")
    assert "1 of 2 runs does" in done.stderr
    assert "Empty DataFrame" not in done.stdout


# -- the example --


@pytest.fixture
def example_folder(monkeypatch):
    """Its parts are found beside the example, as when Python runs it."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))


def test_example__runs_and_its_claims_hold(example_folder, tmp_path, monkeypatch, capsys):
    arguments = ["--seeds", "2", "--epochs", "300", "--quick", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert done.value.code == 0, printed
    figures = {"before_after.png", "dynamics.png", "pruning.png"}
    assert figures | {"digits.ensemble"} == {path.name for path in (tmp_path / "out").iterdir()}
    assert all(f"{tmp_path / 'out' / name}  Fig. " in printed for name in figures)
    earlier, later = (line for line in printed.splitlines() if "without S(t), t = " in line)
    assert "0 of 2 runs invert" in earlier
    assert "of 2 runs invert" in later
    assert printed.splitlines()[-1].endswith(f"are in {tmp_path / 'out'}")
    assert inpca.open_ensemble(tmp_path / "out" / "digits.ensemble").check() == []


def test_architectures__that_do_not_invert_are_counted_and_said(
    example_folder, digits, tmp_path, capsys
):
    from inversion.architectures import DEPTHS, WIDTHS, architectures

    x, y = digits[0][:100], digits[1][:100]
    architectures(tmp_path / "a.png", x, y, n_seeds=2, epochs=3)
    printed = capsys.readouterr().out
    assert printed.count("0 of 2 invert") == len(DEPTHS) * len(WIDTHS)
    assert "nothing to draw" in printed
    assert not (tmp_path / "a.png").exists()


def test_architectures__draw_those_that_invert_and_count_all(example_folder):
    from inversion.architectures import Architecture, draw_architectures
    from matplotlib.figure import Figure

    nan = float("nan")
    found = [
        Architecture(2, 10, np.array([0.07, 0.09])),
        Architecture(2, 20, np.array([0.08, nan])),
        Architecture(8, 10, np.array([nan, nan])),
        Architecture(8, 20, np.array([0.1, 0.1])),
    ]
    ax = Figure().add_subplot()
    draw_architectures(ax, found, 100)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["2 layers: 3 of 4 runs invert", "8 layers: 2 of 4 runs invert"]
    assert ax.get_title() == r"$\phi$ at P = 100; 1 never invert"
    np.testing.assert_allclose(found[0].spread, 0.02 / 2**0.5)
    assert np.isnan(found[1].spread)


@pytest.mark.parametrize(("depth", "width"), [(2, 10), (8, 20)])
def test_architectures__count_the_weights_of_the_network(example_folder, depth, width):
    from inversion.architectures import Architecture
    from inversion.setting import network

    stack = network([0], depth, width)
    n_weights = sum(weight.numel() for weight in stack._weights)
    assert Architecture(depth, width, np.array([0.1])).n_weights == n_weights
