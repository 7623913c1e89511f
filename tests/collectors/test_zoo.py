"""The zoo: data that never changes, networks that start at ignorance and learn."""

import hashlib

import numpy as np
import pytest
import torch

import inpca
from collectors.zoo.data import digits
from collectors.zoo.networks import ARCHITECTURES
from collectors.zoo.sweep import grid, train_all
from collectors.zoo.training import Training, make_optimizer, train
from inpca import InputError


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


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("seed", range(3))
def test_network__starts_near_ignorance(name, seed):
    torch.manual_seed(seed)
    x = torch.from_numpy(digits()["test"].x)
    probs = ARCHITECTURES[name]().eval()(x).softmax(1)
    distance = -(probs.sqrt() / 10**0.5).sum(1).log().mean()
    assert distance < 0.01 * np.log(10) / 2


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_train__every_network_learns_to_read(tmp_path, name, optimizer):
    training = Training(name, optimizer, seed=0, epochs=10, n_checkpoints=3)
    assert train(training, tmp_path / "e") == f"{name}-{optimizer}-0"
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist()[::2] == [0, 210]
    assert table["test_error"].iloc[0] > 0.7
    assert table["test_error"].iloc[-1] < 0.2
    assert table["train_loss"].iloc[0] == pytest.approx(np.log(10), abs=0.05)


def test_train__gives_the_same_predictions_again(tmp_path):
    training = Training("attention", "adam", seed=3, epochs=1, n_checkpoints=2)
    for ensemble in ("first", "second"):
        train(training, tmp_path / ensemble)
    first, second = (
        inpca.open_ensemble(tmp_path / ensemble).run(training.run).log_probs("test", 1)
        for ensemble in ("first", "second")
    )
    np.testing.assert_array_equal(first, second)


def test_make_optimizer__refuses_an_unknown_name():
    with pytest.raises(InputError, match="`optimizer` must be 'sgd' or 'adam', not 'lion'"):
        make_optimizer("lion", torch.nn.Linear(2, 2), 0.1)


def test_train_all__trains_what_is_missing_and_nothing_twice(tmp_path):
    trainings = grid(["linear", "mlp"], ["sgd"], range(2), epochs=1, n_checkpoints=3)
    first = train_all(trainings[:1], tmp_path / "e", workers=1)
    reported = []
    rest = train_all(
        trainings, tmp_path / "e", workers=2, progress=lambda *args: reported.append(args[:2])
    )
    assert first == ["linear-sgd-0"]
    assert sorted(rest) == ["linear-sgd-1", "mlp-sgd-0", "mlp-sgd-1"]
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert train_all(trainings, tmp_path / "e") == []
    assert len(inpca.open_ensemble(tmp_path / "e").models) == 12


def test_train_all__trains_a_run_that_was_cut_off_again(tmp_path):
    [training] = grid(["linear"], ["sgd"], [0], epochs=1, n_checkpoints=3)
    train(training, tmp_path / "whole")
    whole = inpca.open_ensemble(tmp_path / "whole").run(training.run)
    labels = {name: split.y for name, split in digits().items()}
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets=labels, n_classes=10)
    with ensemble.start_run(training.run, training.config) as writer:
        writer.append({name: whole.log_probs(name, 0) for name in labels}, step=0, epoch=0)
    assert train_all([training], tmp_path / "e", workers=1) == [training.run]
    again = ensemble.run(training.run)
    assert again.n_checkpoints == 3
    np.testing.assert_array_equal(again.log_probs("train", 2), whole.log_probs("train", 2))


def test_train_all__refuses_a_run_of_another_configuration(tmp_path):
    train_all(grid(["linear"], ["sgd"], [0], epochs=1, n_checkpoints=3), tmp_path / "e")
    longer = grid(["linear"], ["sgd"], [0], epochs=2, n_checkpoints=3)
    with pytest.raises(InputError, match=r"Run 'linear-sgd-0' .* was trained with .*restart"):
        train_all(longer, tmp_path / "e")
