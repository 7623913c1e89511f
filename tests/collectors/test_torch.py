"""collectors.torch.Recorder: what it stores, what it refuses, what it leaves untouched."""

import importlib
import math
import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

import inpca
from collectors.schedule import every
from collectors.torch import Recorder, evaluating
from inpca import InputError

N, D, C = 24, 5, 3


def data(seed=0, n=N):
    random_state = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, generator=random_state)
    y = torch.randint(0, C, (n,), generator=random_state)
    return TensorDataset(x, y)


def loader(dataset=None, **options):
    return DataLoader(dataset or data(), batch_size=7, **options)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, C))


def recorder(path, run="a", **options):
    settings = {"sample_sets": {"train": loader()}, "schedule": every(1), "config": {"lr": 0.1}}
    return Recorder(path, run, **settings | options)


def stored(path, run="a", checkpoint=0, sample_set="train"):
    return inpca.open_ensemble(path).run(run).log_probs(sample_set, checkpoint)


def test_recorder__stores_log_softmax_loss_and_error_of_every_set(tmp_path):
    model, test = network(), data(seed=1, n=10)
    sets = {"train": loader(), "test": loader(test)}
    with recorder(tmp_path / "e", sample_sets=sets) as rec:
        assert rec.step(model, step=0, epoch=0)
        assert rec.step(model, step=1, epoch=0.5)
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert ensemble.n_classes == C
    assert ensemble.runs == ["a"]
    model.eval()
    with torch.no_grad():
        expected = model(test.tensors[0]).log_softmax(1).numpy()
    np.testing.assert_allclose(stored(tmp_path / "e", sample_set="test"), expected, atol=1e-6)
    row = ensemble.models.loc["a/1"]
    labels = test.tensors[1].numpy()
    assert row["test_loss"] == pytest.approx(-expected[np.arange(10), labels].mean(), abs=1e-6)
    assert row["test_error"] == pytest.approx((expected.argmax(1) != labels).mean())
    assert (row["step"], row["epoch"], row["lr"]) == (1, 0.5, 0.1)


def test_step__records_when_the_schedule_says_so_and_tells(tmp_path):
    model = network()
    with recorder(tmp_path / "e", schedule=every(2)) as rec:
        assert [rec.step(model, step=s, epoch=0) for s in range(4)] == [True, False, True, False]
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 2]


def test_step__paper_schedule_records_its_steps(tmp_path):
    model = network()
    rec = recorder(tmp_path / "e", schedule="paper", batches_per_epoch=8, epochs=1)
    with rec:
        recorded = [s for s in range(9) if rec.step(model, step=s, epoch=s / 8)]
    assert recorded == [0, 1, 3, 5, 7, 8]


def test_recorder__paper_schedule_alone_learns_the_length_of_an_epoch(tmp_path):
    rec = Recorder("e", run="a", config={}, sample_sets={"train": loader()}, schedule="paper")
    assert rec.n_recorded == 0
    model = network()
    rec = recorder(tmp_path / "e", schedule="paper")
    recorded = [s for s in range(9) if rec.step(model, step=s, epoch=s / 8)]
    assert recorded == [0, 1, 3, 5, 7]
    rec.close()
    rec.close()
    assert rec.recorded_steps == [0, 1, 3, 5, 7, 8]


def test_recorder__paper_schedule_refuses_steps_that_do_not_tell_the_length(tmp_path):
    with recorder(tmp_path / "e", schedule="paper", epochs=3) as rec:
        rec.step(network(), step=0, epoch=0)
        with pytest.raises(InputError, match=r"pass batches_per_epoch=len\(train_loader\)"):
            rec.step(network(), step=1, epoch=0)


def test_recorder__that_an_error_closes_does_not_warn_of_its_end(tmp_path):
    def train():
        with recorder(tmp_path / "e", schedule="paper") as rec:
            rec.step(network(), step=8, epoch=1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()


# -- what a recording leaves untouched --


class Frozen(nn.Module):
    """A network whose batch normalisation stays in eval mode while the rest trains."""

    def __init__(self):
        super().__init__()
        self.body = network()

    def train(self, mode=True):
        super().train(mode)
        self.body[1].eval()
        return self

    def forward(self, x):
        return self.body(x)


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("make", [network, Frozen])
def test_step__restores_the_mode_of_every_submodule(tmp_path, make):
    model = make().train()
    list(model.modules())[-1].eval()
    before, seen = modes(model), []
    model.register_forward_hook(lambda module, *_: seen.append(modes(module)))
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
    assert modes(model) == before
    assert not np.any(seen)


def test_step__restores_modes_and_generators_when_the_network_fails(tmp_path):
    model = network().train()
    before, state = modes(model), torch.get_rng_state()

    def fail(model, batch):
        torch.rand(3)
        raise RuntimeError("no memory")

    with (
        recorder(tmp_path / "e", forward=fail) as rec,
        pytest.raises(RuntimeError, match="no memory"),
    ):
        rec.step(model, step=0, epoch=0)
    assert modes(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_evaluating__leaves_tensors_that_a_backward_pass_may_use():
    layer = nn.Linear(2, 2)
    with evaluating(layer):
        cached = layer(torch.ones(1, 2))
    (layer(cached) * cached).sum().backward()
    assert layer.weight.grad is not None


class Noisy(TensorDataset):
    """Draws from every generator there is, as augmentations do, though it gives the same."""

    def __getitem__(self, index):
        torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
        return super().__getitem__(index)


def all_draws(generator):
    draws = torch.rand(3).tolist(), random.random(), float(np.random.rand())  # noqa: NPY002
    return (*draws, torch.rand(1, generator=generator).item())


def test_step__leaves_every_random_generator_as_it_was(tmp_path):
    generator = torch.Generator().manual_seed(3)
    sets = {"train": loader(Noisy(*data().tensors), generator=generator)}
    model = network()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    expected = all_draws(generator)
    generator.manual_seed(3), torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002
    with recorder(tmp_path / "e", sample_sets=sets) as rec:
        rec.step(model, step=0, epoch=0)
    assert all_draws(generator) == expected


def train(model, record):
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (x, y) in enumerate(loader(shuffle=True), start=1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(x), y).backward()
        optimizer.step()
        record(model, step)
    return model.state_dict()


def test_step__training_ends_with_the_same_weights_bit_for_bit(tmp_path):
    with recorder(tmp_path / "e") as rec:
        recorded = train(network(), lambda model, step: rec.step(model, step=step, epoch=0))
    plain = train(network(), lambda model, step: None)
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)


class Merging(nn.Module):
    """Adds a part to its weight in eval mode and takes it away in training mode, as LoRA does."""

    def __init__(self):
        super().__init__()
        self.body, self.merged = network(), False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            with torch.no_grad():
                self.body[0].weight += -0.3 if mode else 0.3
            self.merged = not mode
        return self

    def forward(self, x):
        return self.body(x)


class Remembering(nn.Module):
    """Counts, caches and follows its inputs, in eval mode as well; what it knows it uses."""

    def __init__(self):
        super().__init__()
        self.body, self.calls, self.cache, self.log = network(), 0, {"last": None}, []
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        self.extra = x.sum()
        self.cache["last"] = x
        self.log.append(x.shape)
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.count += 1
        return self.body(x - self.mean) * (1 + 0.001 * (self.calls + len(self.log) + self.count))


class Observed(nn.Module):
    """Its buffers are changed behind autograd's back."""

    def __init__(self):
        super().__init__()
        self.body = network()
        self.register_buffer("largest", torch.zeros(1))

    def forward(self, x):
        self.largest.data.copy_(torch.maximum(self.largest, x.abs().max()))
        return self.body(x) / (1 + self.largest)


class Drawing(nn.Module):
    """Holds random generators of its own and draws from them in eval mode."""

    def __init__(self):
        super().__init__()
        self.body = network()
        self.one, self.two = torch.Generator().manual_seed(1), np.random.default_rng(1)
        self.three, self.four = random.Random(1), np.random.RandomState(1)

    def forward(self, x):
        drawn = torch.rand(1, generator=self.one).item() + self.two.random()
        return self.body(x) * (1 + 1e-4 * (drawn + self.three.random() + self.four.rand()))


def scripted():
    return torch.jit.script(network())


def spectral():
    model = network()
    nn.utils.spectral_norm(model[0])
    nn.utils.parametrizations.weight_norm(model[3])
    return model


def frozen_part():
    model = network()
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "make", [Merging, Remembering, Observed, Frozen, Drawing, scripted, spectral, frozen_part]
)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
def test_step__leaves_a_network_of_any_habits_as_it_was_bit_for_bit(tmp_path, make):
    options = {"check_inputs": make not in (Remembering, Observed)}  # which predict by their past
    torch.manual_seed(2)
    with recorder(tmp_path / "e", **options) as rec:
        recorded = make()
        rec.step(recorded, step=0, epoch=0)
        found = train(recorded, lambda model, step: rec.step(model, step=step, epoch=0))
    torch.manual_seed(2)
    plain = make()
    expected = train(plain, lambda model, step: None)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert vars(recorded).keys() == vars(plain).keys()
    flags = [[p.requires_grad for p in model.parameters()] for model in (recorded, plain)]
    assert flags[0] == flags[1]


def test_step__refuses_a_network_that_changes_its_parameters_in_eval_mode(tmp_path):
    class Clipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            with torch.no_grad():
                self.body[0].weight.clamp_(-0.01, 0.01)
            return self.body(x)

    with (
        recorder(tmp_path / "e") as rec,
        pytest.raises(InputError, match=r"Clipping changes its own parameter 'body\.0\.weight'"),
    ):
        rec.step(Clipping(), step=0, epoch=0)
    assert not (tmp_path / "e").exists()


def test_step__refuses_parameters_that_are_not_made_yet_and_draws_nothing(tmp_path):
    model = nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5), nn.LazyLinear(C))
    before = torch.get_rng_state()
    with recorder(tmp_path / "e") as rec:
        with pytest.raises(InputError, match=r"'0\.weight'.* Run one forward pass first"):
            rec.step(model, step=0, epoch=0)
        assert torch.equal(torch.get_rng_state(), before)
        model(torch.zeros(1, D))
        assert rec.step(model, step=0, epoch=0)


# -- steps that are not offered, trainings that end early --


def test_recorder__names_wanted_steps_that_were_never_offered(tmp_path, caplog):
    rec = recorder(tmp_path / "e", schedule="paper", batches_per_epoch=6, epochs=2)
    with rec:
        recorded = [s for s in (0, 6, 12) if rec.step(network(), step=s, epoch=s / 6)]
    assert recorded == [0, 6, 12]
    assert rec.missed_steps == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert "never offered (1, 2, 3, 4, 5, 7, 8, 9, …: 10 in all)" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "paper", "batches_per_epoch": 100, "epochs": 9},
        {"schedule": "paper"},
        {"schedule": "epochs", "batches_per_epoch": 100, "epochs": 9},
        {"schedule": "epochs"},
        {"schedule": [0, 50, 900]},
    ],
)
def test_recorder__records_the_model_that_an_early_stop_ends_with(tmp_path, options, caplog):
    model = network()
    with recorder(tmp_path / "e", **options) as rec:
        for step in range(11):
            rec.step(model, step=step, epoch=step / 100, metrics={"rate": step / 10})
        assert rec.last_step < 10
        assert rec.wants_end
    assert rec.recorded_steps[-1] == 10
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == rec.recorded_steps
    assert table["rate"].iloc[-1] == 1
    np.testing.assert_array_equal(stored(tmp_path / "e", checkpoint=len(table) - 1), stored(
        tmp_path / "e", checkpoint=0
    ))  # fmt: skip
    if "epochs" in options or options["schedule"] == [0, 50, 900]:
        assert "ended at step 10, before steps that the schedule wants" in caplog.text
        assert rec.missed_steps[-1] == 900


@pytest.mark.parametrize("schedule", [[0, 5], every(4), lambda step, epoch: step < 3])
def test_recorder__a_schedule_that_is_served_decides_alone(tmp_path, schedule, caplog):
    model = network()
    with recorder(tmp_path / "e", schedule=schedule) as rec:
        recorded = [step for step in range(11) if rec.step(model, step=step, epoch=0)]
    assert rec.recorded_steps == recorded
    assert caplog.text == ""


def test_recorder__does_not_take_a_model_trained_further_for_the_last_step(tmp_path, caplog):
    model = network()
    with recorder(tmp_path / "e", schedule="paper", batches_per_epoch=99, epochs=9) as rec:
        for step in range(11):
            rec.step(model, step=step, epoch=step / 99)
        model.load_state_dict(network(1).state_dict())
    assert rec.recorded_steps == [0, 1]
    assert "the model was changed after that step was offered" in caplog.text


def test_recorder__record_takes_any_model_at_any_step(tmp_path):
    with recorder(tmp_path / "e", schedule=[0, 5]) as rec:
        rec.step(network(), step=0, epoch=0)
        rec.record(network(1), step=3, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 3]
    assert rec.missed_steps == [5]


@pytest.mark.parametrize("schedule", ["paper", "epochs", every(2), [0, 5]])
@pytest.mark.parametrize("step", [None, "3", 2.5, 1e300, 2**64 - 1, True, math.nan])
def test_step__names_a_step_that_is_no_whole_number_before_the_schedule_is_asked(
    tmp_path, schedule, step
):
    with recorder(tmp_path / "e", schedule=schedule, batches_per_epoch=1) as rec:
        with pytest.raises(InputError, match="`step` must be whole numbers"):
            rec.step(network(), step=step, epoch=1)
        with pytest.raises(InputError, match="`step` must be whole numbers"):
            rec.record(network(), step=step, epoch=1)
        with pytest.raises(InputError, match="`epoch` must be"):
            rec.step(network(), step=1, epoch="1")
        assert rec.last_offered == -1
        assert rec.step(network(), step=6.0, epoch=6)
    assert rec.recorded_steps == [6]
    assert type(rec.recorded_steps[0]) is int


def test_recorder__counts_steps_missed_before_a_huge_one_and_keeps_the_first(tmp_path, caplog):
    with recorder(tmp_path / "e", schedule="epochs", batches_per_epoch=6) as rec:
        assert rec.step(network(), step=0, epoch=0)
        assert rec.step(network(), step=6 * 10**12, epoch=10**12)
    assert rec.n_missed == 10**12 - 1
    assert rec.missed_steps[:2] == [6, 12]
    assert len(rec.missed_steps) == 10_000
    assert "999,999,999,999 in all" in caplog.text


@pytest.mark.parametrize("hold", ["1GB", 2.5, None, -1])
def test_recorder__names_a_hold_that_is_no_number_of_bytes(tmp_path, hold):
    with pytest.raises(InputError, match="`hold`"):
        recorder(tmp_path / "e", hold=hold)


@pytest.mark.parametrize("batches", [5, 1000])
def test_recorder__logs_once_that_epochs_contradict_batches_per_epoch(tmp_path, batches, caplog):
    agree = [
        lambda step: step / batches,
        lambda step: step // batches,
        lambda step: 1 + step // batches,
        lambda step: 1 + step / batches,
        lambda step: round(step / batches, 2),
        lambda _: math.nan,
    ]
    offered = [*range(1, 13), 3 * batches - 1, 3 * batches, 3 * batches + 1]
    for k, epoch in enumerate([*agree, lambda step: 1.2 * step / batches]):
        options = {"schedule": lambda *_: False, "batches_per_epoch": batches}
        with recorder(tmp_path / "e", f"r{k}", **options) as rec:
            for step in offered:
                assert not rec.step(network(), step=step, epoch=epoch(step))
            assert caplog.text.count("batches_per_epoch=") == (k == len(agree))


# -- precision --


def test_step__is_float32_under_autocast(tmp_path):
    model = network()
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
        with torch.autocast("cpu", torch.bfloat16):
            rec.step(model, step=1, epoch=0)
    plain, cast = (stored(tmp_path / "e", checkpoint=k) for k in (0, 1))
    assert cast.dtype == np.float32
    np.testing.assert_array_equal(cast, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_step__takes_networks_of_other_precisions(tmp_path, dtype):
    model = network().to(dtype)
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
    log_p = stored(tmp_path / "e")
    np.testing.assert_allclose(np.exp(log_p.astype(np.float64)).sum(1), 1, atol=1e-6)
    with evaluating(model):
        logits = model(data().tensors[0].to(dtype))
    expected = logits.double().log_softmax(1).numpy()
    np.testing.assert_allclose(log_p, expected, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)


def test_step__keeps_log_probabilities_that_no_float32_probability_could(tmp_path):
    model = nn.Linear(D, C)
    nn.init.constant_(model.weight, 0)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, -150.0, -300.0]))
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
    np.testing.assert_allclose(stored(tmp_path / "e")[0], [0, -150, -300], rtol=1e-6)


# -- batches of other forms --


def test_recorder__takes_dicts_through_forward(tmp_path):
    samples = [{"pixels": x, "label": y} for x, y in data()]

    def forward(model, batch):
        return model(batch["pixels"]), batch["label"]

    sets = {"train": DataLoader(samples, batch_size=7)}
    with recorder(tmp_path / "e", sample_sets=sets, forward=forward) as rec:
        rec.step(network(), step=0, epoch=0)
    with recorder(tmp_path / "plain") as rec:
        rec.step(network(), step=0, epoch=0)
    np.testing.assert_array_equal(stored(tmp_path / "e"), stored(tmp_path / "plain"))


def test_step__says_to_pass_forward_when_a_batch_is_no_pair(tmp_path):
    sets = {"train": DataLoader([{"x": x, "y": y} for x, y in data()], batch_size=7)}
    with (
        recorder(tmp_path / "e", sample_sets=sets) as rec,
        pytest.raises(InputError, match=r"gives a dict where \(x, y\) is expected; pass forward="),
    ):
        rec.step(network(), step=0, epoch=0)
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (nn.Softmax(1), "gives probabilities .* where logits are expected"),
        (nn.Unflatten(1, (C, 1)), r"logits must have shape \(batch, n_classes ≥ 2\)"),
    ],
)
def test_step__refuses_outputs_that_are_no_logits(tmp_path, tail, message):
    with recorder(tmp_path / "e") as rec, pytest.raises(InputError, match=message):
        rec.step(nn.Sequential(network(), tail), step=0, epoch=0)


def test_step__log_probabilities_are_logits_too(tmp_path):
    with recorder(tmp_path / "e") as rec:
        rec.step(nn.Sequential(network(), nn.LogSoftmax(1)), step=0, epoch=0)
        rec.step(network(), step=1, epoch=0)
    first, second = (stored(tmp_path / "e", checkpoint=k) for k in (0, 1))
    np.testing.assert_allclose(first, second, atol=1e-6)


# -- what is refused --


@pytest.mark.parametrize(
    "options",
    [{"shuffle": True}, {"sampler": SubsetRandomSampler(range(N))}],
    ids=["shuffle", "sampler"],
)
def test_recorder__refuses_a_loader_that_shuffles(tmp_path, options):
    with pytest.raises(InputError, match=r"'train' shuffles .* shuffle=False"):
        recorder(tmp_path / "e", sample_sets={"train": loader(**options)})


def test_recorder__refuses_a_shuffling_batch_sampler(tmp_path):
    batches = loader(shuffle=True).batch_sampler
    with pytest.raises(InputError, match="shuffles"):
        recorder(tmp_path / "e", sample_sets={"train": DataLoader(data(), batch_sampler=batches)})


def test_recorder__refuses_a_loader_that_drops_samples(tmp_path):
    with pytest.raises(InputError, match="drop_last=False"):
        recorder(tmp_path / "e", sample_sets={"train": loader(drop_last=True)})


def test_recorder__refuses_an_iterator(tmp_path):
    with pytest.raises(InputError, match="can be read only once"):
        recorder(tmp_path / "e", sample_sets={"train": iter(loader())})


class Reordering:
    """A loader that hides that it gives another order each time."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        x, y = data().tensors
        order = torch.arange(N).roll(self.passes)
        self.passes += 1
        yield x[order], y[order]


def test_step__refuses_an_order_that_changed(tmp_path):
    sets = {"train": Reordering()}
    with recorder(tmp_path / "e", sample_sets=sets, check_inputs=False) as rec:
        rec.step(network(), step=0, epoch=0)
        with pytest.raises(InputError, match=r"Run 'a' has set 'train' in another order .* step 1"):
            rec.step(network(), step=1, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").run("a").n_checkpoints == 1


def test_step__refuses_samples_of_another_ensemble(tmp_path):
    with recorder(tmp_path / "e") as rec:
        rec.step(network(), step=0, epoch=0)
    for other, message in [(data(seed=1), "another order"), (data(n=20), "20 samples .* has 24")]:
        with (
            recorder(tmp_path / "e", "b", sample_sets={"train": loader(other)}) as rec,
            pytest.raises(InputError, match=message),
        ):
            rec.step(network(), step=0, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").runs == ["a"]


def test_recorder__refuses_a_set_that_the_ensemble_lacks(tmp_path):
    with recorder(tmp_path / "e") as rec:
        rec.step(network(), step=0, epoch=0)
    with pytest.raises(InputError, match=r"'valid', which the ensemble .* does not hold"):
        recorder(tmp_path / "e", "b", sample_sets={"valid": loader()})


def test_recorder__refuses_a_run_that_exists_before_the_training(tmp_path):
    with recorder(tmp_path / "e") as rec:
        rec.step(network(), step=0, epoch=0)
    with pytest.raises(InputError, match="exists already"):
        recorder(tmp_path / "e")


def test_recorder__restart_replaces_and_resume_goes_on(tmp_path):
    with recorder(tmp_path / "e") as rec:
        for step in (0, 1):
            rec.step(network(), step=step, epoch=0)
    with recorder(tmp_path / "e", resume=True) as rec:
        assert [rec.step(network(), step=s, epoch=0) for s in (0, 1, 2)] == [False, False, True]
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 1, 2]
    with recorder(tmp_path / "e", restart=True) as rec:
        rec.step(network(), step=5, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [5]


def test_step__nan_names_run_and_step_and_keeps_the_run_so_far(tmp_path):
    model = network()
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
        nn.init.constant_(model[-1].weight, float("nan"))
        with pytest.raises(
            InputError, match=r"Run 'a' has NaN .* at step 7.* diverged.*1 checkpoint\) stays"
        ):
            rec.step(model, step=7, epoch=1)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0]


def test_step__after_close_is_refused(tmp_path):
    rec = recorder(tmp_path / "e")
    rec.close()
    with pytest.raises(InputError, match="closed"):
        rec.step(network(), step=0, epoch=0)


# -- many at once, and names --


def record_in_a_process(path, run):
    torch.set_num_threads(1)
    with recorder(path, run) as rec:
        for step in range(3):
            rec.step(network(seed=int(run)), step=step, epoch=0)


def test_recorder__many_processes_make_one_ensemble_together(tmp_path):
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "e"
    runs = ["0", "1", "2"]
    processes = [context.Process(target=record_in_a_process, args=(path, run)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    ensemble = inpca.open_ensemble(path)
    assert ensemble.runs == runs
    assert len(ensemble.models) == 9
    assert ensemble.check() == []


@pytest.mark.parametrize("name", ["torch", "sklearn"])
def test_collectors__module_finds_the_library_it_is_named_after(name):
    importlib.import_module(f"collectors.{name}")
    assert "site-packages" in importlib.import_module(name).__file__


@pytest.mark.parametrize("name", ["torch", "sklearn"])
def test_collectors__folder_itself_on_the_path_is_explained(name):
    import collectors

    folder = Path(collectors.__file__).parent
    command = [sys.executable, str(folder / f"{name}.py")]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode != 0
    assert "put the folder above it there" in " ".join(shown.stderr.split())


def test_recorder__names_the_first_sample_whose_label_differs(tmp_path):
    x, y = data().tensors
    with recorder(tmp_path / "e") as rec:
        rec.step(network(), step=0, epoch=0)
    other = y.clone()
    other[5] = (other[5] + 1) % C
    sets = {"train": loader(TensorDataset(x, other))}
    message = rf"sample 5 has label {int(other[5])}, not {int(y[5])} \(1 of {N} differ\)"
    with (
        recorder(tmp_path / "e", "b", sample_sets=sets) as rec,
        pytest.raises(InputError, match=message),
    ):
        rec.step(network(), step=0, epoch=0)


def test_recorder__other_classes_are_no_matter_of_order(tmp_path):
    with recorder(tmp_path / "e") as rec:
        rec.step(network(), step=0, epoch=0)
    sets = {"train": loader(TensorDataset(torch.randn(N, D), torch.arange(N) % 7))}
    with (
        recorder(tmp_path / "e", "b", sample_sets=sets) as rec,
        pytest.raises(
            InputError,
            match=f"predicts 7 classes in set 'train' at step 0 but the ensemble has {C}",
        ),
    ):
        rec.step(nn.Linear(D, 7), step=0, epoch=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": {"optimizer": {"lr": 0.1}}}, r"`config\['optimizer'\]` must be a string"),
        ({"run": "a/b"}, "`run` must be 1 to 200 letters"),
    ],
)
def test_recorder__refuses_a_bad_config_or_run_before_the_training(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        recorder(tmp_path / "e", **options)


@pytest.mark.parametrize("hold", [1, 700, 1 << 20])
def test_recorder__that_holds_checkpoints_stores_the_same_bytes(tmp_path, hold):
    model = network()
    for name, options in (("plain", {}), ("held", {"hold": hold})):
        with recorder(tmp_path / name, **options) as rec:
            for step in range(5):
                metrics = {"rate": 0.1} if step > 2 else None
                rec.step(model, step=step, epoch=step / 4, metrics=metrics)
        assert rec.n_recorded == 5
    plain, held = (
        {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (tmp_path / "plain" / "runs", tmp_path / "held" / "runs")
    )
    assert plain == held


def test_recorder__what_is_held_is_not_committed_when_the_training_breaks_off(tmp_path):
    model = network()
    rec = recorder(tmp_path / "e", hold=1 << 20)
    rec.step(model, step=0, epoch=0)
    rec.release()
    assert inpca.open_ensemble(tmp_path / "e").runs == []
