"""The zoo: networks of the papers' sizes that start at ignorance and learn, the same each time."""

import dataclasses

import numpy as np
import pytest
import torch

import inpca
from collectors.recorder import DivergedError
from collectors.zoo.augmentation import augment
from collectors.zoo.data import Data, DataSettings, Split, load_data
from collectors.zoo.keep import digest, read_keep
from collectors.zoo.networks import ARCHITECTURES, build, start_from_point
from collectors.zoo.training import Batches, Training, make_optimizer, train
from inpca import InputError

SMALL = [
    "linear", "mlp", "cnn", "attention", "small-allcnn", "small-resnet", "small-convmixer",
    "small-vit",
]  # fmt: skip
LINEAR = Training("linear-sgd-0", "linear", "sgd", 0.1, 0, epochs=1, checkpoints=2)


@pytest.fixture(scope="module")
def digits():
    return load_data(DataSettings("digits"))


@pytest.fixture(scope="module")
def blobs():
    """Two classes of 40 vectors that a line separates, with a test set of 20."""
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (draw.normal(size=(60, 5)) + 4 * y[:, None]).astype(np.float32)
    return Data({"train": Split(x[:40], y[:40]), "test": Split(x[40:], y[40:])}, 2)


def n_parameters(name, shape, n_classes):
    with torch.device("meta"):
        model = build(name, shape, n_classes)
    return sum(weights.numel() for weights in model.parameters())


# --- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("fc", 3.8),
        ("allcnn", 0.4),
        ("wrn-10-4-8", 0.3),
        ("wrn-16-4-64", 43.9),
        ("convmixer", 0.6),
        ("vit", 9.5),
    ],
)
def test_network__has_the_number_of_parameters_of_table_1(name, millions):
    assert round(n_parameters(name, (3, 32, 32), 10) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "shape", "number"),
    [
        ("fc", (3, 32, 32), 3_837_066),
        ("student-512", (200,), 200 * 512 + 512 + 512 * 5 + 5),
        ("student-512-512", (200,), 200 * 512 + 512 + 512 * 512 + 512 + 512 * 5 + 5),
        ("tanh-20", (8, 8), 64 * 20 + 20 + 20 * 2 + 2),
        ("tanh-4x10", (8, 8), 64 * 10 + 10 + 2 * (10 * 10 + 10) + 10 * 2 + 2),
        ("tanh-8x80", (8, 8), 64 * 80 + 80 + 6 * (80 * 80 + 80) + 80 * 2 + 2),
    ],
)
def test_network__has_the_layers_that_are_told(name, shape, number):
    assert n_parameters(name, shape, 2 if "tanh" in name else shape[-1] // 40 or 10) == number


def test_student__normalises_after_the_activation_without_weights():
    kinds = [type(layer).__name__ for layer in build("student-512", (200,), 5)]
    assert kinds == ["Flatten", "Linear", "ReLU", "BatchNorm1d", "Linear"]
    assert build("student-512", (200,), 5)[3].affine is False


@pytest.mark.parametrize("shape", [(8, 8), (1, 28, 28), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_small_network__takes_images_of_any_size(name, shape):
    assert build(name, shape, 7)(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in SMALL])
def test_large_network__takes_small_images(name):
    with torch.device("meta"):
        assert build(name, (8, 8), 3)(torch.empty(2, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("seed", range(3))
def test_small_network__starts_near_ignorance(name, seed, digits):
    torch.manual_seed(seed)
    x = torch.from_numpy(digits.sets["test"].x)
    with torch.no_grad():
        probs = build(name, (8, 8), 10).eval()(x).softmax(1)
    distance = -(probs.sqrt() / 10**0.5).sum(1).log().mean()
    assert distance < 0.01 * np.log(10) / 2


def test_build__names_the_nearest_architecture_and_those_for_vectors():
    with pytest.raises(InputError, match="'alcnn' is unknown; did you mean 'allcnn'"):
        build("alcnn", (3, 32, 32), 10)
    with pytest.raises(InputError, match=r"'cnn' takes images.*\(200,\).*student-512"):
        build("cnn", (200,), 5)
    with pytest.raises(InputError, match=r"patches of 4 × 4 pixels.*30 × 30"):
        build("vit", (3, 30, 30), 10)


def test_point__is_one_model_whatever_the_seed_and_far_from_ignorance():
    weights, x = [], torch.randn(50, 200)
    for seed, point in [(0, 3), (1, 3), (0, 4)]:
        torch.manual_seed(seed)
        model = build("student-512", (200,), 5).eval()
        start_from_point(model, point)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std() == pytest.approx(1, abs=0.02)
    with torch.no_grad():
        probs = model(x).softmax(1)
    assert -(probs.sqrt() / 5**0.5).sum(1).log().mean() > 0.5 * np.log(5) / 2


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMALL, "tanh-20", "student-512"])
def test_train__every_small_network_learns_to_read(tmp_path, name, digits):
    training = Training(name, name, "adam", 5e-3, 0, epochs=5, checkpoints=2)
    train(training, digits, tmp_path / "e")
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == [0, 105]
    assert table["test_error"].iloc[0] > 0.7
    assert table["test_error"].iloc[-1] < 0.3


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
def test_train__gives_the_same_predictions_again(tmp_path, digits, optimizer):
    training = Training(
        "r", "small-vit", optimizer, 0.01, 3, epochs=1, checkpoints=2, augmentation="flips-crops"
    )
    for ensemble in ("first", "second"):
        torch.rand(3)  # whatever was drawn before
        train(training, digits, tmp_path / ensemble)
    first, second = (
        inpca.open_ensemble(tmp_path / ensemble).run("r").log_probs("test", 1)
        for ensemble in ("first", "second")
    )
    np.testing.assert_array_equal(first, second)


def test_train__leaves_torchs_generator_and_threads_alone(tmp_path, blobs):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(LINEAR, blobs, tmp_path / "e")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_train__full_batch_is_gradient_descent(tmp_path, blobs):
    training = dataclasses.replace(
        LINEAR, batch_size=None, epochs=3, checkpoints="epochs", lr_schedule="constant"
    )
    train(training, blobs, tmp_path / "e")
    found = inpca.open_ensemble(tmp_path / "e").run(training.run)
    assert found.step.tolist() == [0, 1, 2, 3]

    torch.manual_seed(0)
    model = build("linear", (5,), 2)
    x, y = map(torch.from_numpy, blobs.sets["train"])
    for _ in range(3):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for weights in model.parameters():
                weights -= 0.1 * weights.grad
    expected = model(x).log_softmax(1).detach().numpy()
    np.testing.assert_allclose(found.log_probs("train", 3), expected, atol=1e-6)


def test_train__cosine_ends_at_rate_zero(tmp_path, blobs):
    """The mean rate of a cosine is half the first: a straight path is half as long."""
    moved = {}
    for how in ("cosine", "constant"):
        training = dataclasses.replace(
            LINEAR, run=how, batch_size=None, epochs=50, lr=1e-4, lr_schedule=how
        )
        train(training, blobs, tmp_path / "e")
        log_p = inpca.open_ensemble(tmp_path / "e").run(how)
        moved[how] = np.abs(log_p.log_probs("train", 1) - log_p.log_probs("train", 0)).sum()
    assert moved["cosine"] / moved["constant"] == pytest.approx(0.51, abs=0.03)


def test_train__weight_decay_shrinks_weights(tmp_path, blobs):
    losses = {}
    for decay in (0.0, 0.5):
        training = dataclasses.replace(LINEAR, run=f"wd{decay}", epochs=40, weight_decay=decay)
        train(training, blobs, tmp_path / "e")
        table = inpca.open_ensemble(tmp_path / "e").models
        losses[decay] = table.loc[table["run"] == training.run, "train_loss"].iloc[-1]
    assert losses[0.5] > 1.1 * losses[0.0]


def test_train__pruned_run_is_recorded_on_every_sample(tmp_path, blobs):
    """Trained on one class alone, the other is predicted wrongly, and recorded all the same."""
    kept = tuple(np.flatnonzero(blobs.sets["train"].y == 0).tolist())
    training = dataclasses.replace(LINEAR, epochs=30, keep="zeros", kept=kept)
    train(training, blobs, tmp_path / "e")
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert ensemble.run(training.run).log_probs("train", 1).shape == (40, 2)
    last = ensemble.models.iloc[-1]
    assert last["train_error"] == 0.5
    assert (last["keep"], last["keep_digest"]) == ("zeros", digest(np.array(kept)))


def test_train__names_the_step_at_which_it_diverged(tmp_path, blobs):
    training = dataclasses.replace(LINEAR, architecture="mlp", lr=1e30, epochs=20)
    with pytest.raises(DivergedError, match=r"'linear-sgd-0'.*(diverged|NaN).*step \d+"):
        train(training, blobs, tmp_path / "e")


def test_train__refuses_a_device_that_is_not_there(tmp_path, blobs):
    with pytest.raises(InputError, match="`device` 'cuda:63' cannot be used here"):
        train(LINEAR, blobs, tmp_path / "e", device="cuda:63")
    assert not (tmp_path / "e").exists()


def test_make_optimizer__names_the_nearest():
    with pytest.raises(InputError, match="'adamw' is unknown; did you mean 'adam'"):
        make_optimizer("adamw", torch.nn.Linear(2, 2), 0.1)
    optimizer = make_optimizer("nesterov", torch.nn.Linear(2, 2), 0.1, 1e-3)
    assert optimizer.defaults["nesterov"]
    assert optimizer.defaults["momentum"] == 0.9


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 4]), (8, 4, [4, 4]), (3, 3, [3]), (1, 1, [1])],
)
def test_batches__leave_out_only_a_single_sample(n, size, sizes):
    batches = Batches(n, size)
    generator = torch.Generator().manual_seed(0)
    first, second = (list(batches.epoch(generator)) for _ in range(2))
    assert [len(batch) for batch in first] == sizes
    assert batches.per_epoch == len(sizes)
    assert len(torch.cat(first).unique()) == sum(sizes)
    assert n < 8 or not torch.equal(torch.cat(first), torch.cat(second))


# --- augmentation ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (3, 16, 16)], ids=str)
def test_augment__shifts_and_mirrors_images(shape):
    x = torch.arange(1.0, 1 + 64 * np.prod(shape)).reshape(64, *shape)
    out = augment(x, "flips-crops", torch.Generator().manual_seed(0))
    assert out.shape == x.shape
    margin = shape[-2] // 8
    inside = (..., slice(margin, -margin), slice(margin, -margin))
    for before, after in zip(x, out):
        # Every pixel that is not padding is a pixel of the same image.
        assert torch.isin(after[after != 0], before).all()
        assert (after[inside] != 0).all()
    assert augment(x, "none", torch.Generator()) is x


def test_augment__mirrors_about_half(blobs):
    x = torch.arange(64.0).reshape(1, 8, 8).repeat(1000, 1, 1)
    out = augment(x, "flips-crops", torch.Generator().manual_seed(0))
    mirrored = (out[:, 4, 3] > out[:, 4, 4]).float().mean()
    assert 0.4 < mirrored < 0.6
    with pytest.raises(InputError, match="`augmentation` 'flips-crops' is for images"):
        augment(torch.ones(2, 5), "flips-crops", torch.Generator())


# --- samples to keep -------------------------------------------------------------------------


def test_read_keep__takes_every_form(tmp_path):
    expected = np.array([1, 4, 7])
    (tmp_path / "a.json").write_text("[7, 1, 4]")
    (tmp_path / "b.json").write_text('{"keep": [1, 4, 7], "why": "easy"}')
    (tmp_path / "c.txt").write_text("1\n7\n4\n")
    np.save(tmp_path / "d.npy", expected)
    np.save(tmp_path / "e.npy", np.isin(np.arange(9), expected))
    for name in ("a.json", "b.json", "c.txt", "d.npy", "e.npy"):
        np.testing.assert_array_equal(read_keep(tmp_path / name, 9), expected)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 12, 9]", "names sample 12, and there are only 0 … 8"),
        ("[1, -1]", "names sample -1, and"),
        ("[1, 36893488147419103232]", "names sample 36893488147419103232, and"),
        ("[1, 1, 2]", "names sample 1 twice"),
        ("[]", "names no sample; name at least two"),
        ("[1]", "names only sample 1; name at least two"),
        ("[0.5, 1]", "whole numbers, not 0.5; it must be a .json file"),
        ("[1, [2]]", r"whole numbers, not \[2\]"),
        ("[true, false]", "2 truth values for the 9 training samples"),
        ('{"kep": [1]}', "no list under 'keep', but 'kep'"),
        ('{"keep": 3}', "no list of numbers but 3"),
        ("[1, 2", "is no JSON"),
    ],
)
def test_read_keep__names_what_is_wrong(tmp_path, content, words):
    (tmp_path / "k.json").write_text(content)
    with pytest.raises(InputError, match=words):
        read_keep(tmp_path / "k.json", 9)
    with pytest.raises(InputError, match="There is no file"):
        read_keep(tmp_path / "none.json", 9)
    np.save(tmp_path / "k.npy", np.ones((2, 2)))
    with pytest.raises(InputError, match=r"an array of float64 of shape \(2, 2\)"):
        read_keep(tmp_path / "k.npy", 9)
