"""collectors.hidden.HiddenRecorder: the class manifolds of hidden layers, beside predictions."""

import naive
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import inpca
from collectors.hidden import HiddenRecorder
from collectors.schedule import every
from inpca import InputError

N, D, H = 23, 5, 6


def data(n_classes=2, n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, generator=generator)
    return TensorDataset(x, torch.arange(n) % n_classes)


def network(n_classes=2, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, 4), nn.Tanh(), nn.Linear(4, 10))


def recorder(path, dataset=None, **options):
    loader = DataLoader(dataset or data(), batch_size=7)
    settings = {"sample_sets": {"train": loader}, "schedule": every(1), "layers": "1"}
    return HiddenRecorder(path, "a", **settings | options)


def hidden(model, dataset, depth):
    with torch.no_grad():
        return model[: depth + 1](dataset.tensors[0]).numpy()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_hidden__stores_what_the_pairwise_sums_give(tmp_path, n_classes):
    model, dataset = network(), data(n_classes)
    with recorder(tmp_path / "e", dataset, layers=["1", "3"]) as rec:
        rec.step(model, step=0, epoch=0)
        with torch.no_grad():
            model[0].weight.mul_(3)
        rec.step(model, step=1, epoch=1)
    run = inpca.open_ensemble(tmp_path / "e").run("a")
    labels = dataset.tensors[1].numpy()
    for layer in ("1", "3"):
        found = run.observables("train", layer)
        radius, distance = naive.class_manifolds(hidden(model, dataset, int(layer)), labels)
        if n_classes == 2:
            assert set(found) == {"radius_plus", "radius_minus", "centre_distance"}
            assert found["radius_minus"][1] == pytest.approx(radius[0], abs=1e-7)
            assert found["radius_plus"][1] == pytest.approx(radius[1], abs=1e-7)
            assert found["centre_distance"][1] == pytest.approx(distance[0, 1], abs=1e-7)
        else:
            np.testing.assert_allclose(found["radius"][1], radius, atol=1e-7)
            np.testing.assert_allclose(found["centre_distances"][1], distance, atol=1e-7)
        assert all(len(values) == 2 for values in found.values())
        assert not any(np.array_equal(values[0], values[1]) for values in found.values())


def test_hidden__one_layer_has_plain_names_and_xarray_opens_them(tmp_path):
    xarray = pytest.importorskip("xarray")
    with recorder(tmp_path / "e", activations=True) as rec:
        rec.step(network(), step=0, epoch=0)
    train = xarray.open_zarr(tmp_path / "e" / "runs" / "a.zarr", group="train")
    assert train["radius_plus"].dims == ("checkpoint",)
    assert train["activations"].dims == ("checkpoint", "sample", "unit")
    assert train["centre_distance"].attrs["long_name"].startswith("distance D")


def test_hidden__stores_activations_on_request_only(tmp_path):
    model = network()
    with recorder(tmp_path / "with", activations=True, layers=["1", "3"]) as rec:
        rec.step(model, step=0, epoch=0)
    with recorder(tmp_path / "without") as rec:
        rec.step(model, step=0, epoch=0)
    run = inpca.open_ensemble(tmp_path / "with").run("a")
    np.testing.assert_allclose(
        run.activations(0, layer="3"), hidden(model, data(), 3), rtol=1e-5, atol=1e-7
    )
    assert run.activations(0, layer="1").shape == (N, H)
    with pytest.raises(InputError, match=r"no activations in 'train'.*activations=True"):
        inpca.open_ensemble(tmp_path / "without").run("a").activations(0)


def test_hidden__leaves_no_hook_behind_and_stores_the_same_predictions(tmp_path):
    model = network()
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        expected = model(data().tensors[0]).log_softmax(1).numpy()
    stored = inpca.open_ensemble(tmp_path / "e").run("a").log_probs("train", 0)
    np.testing.assert_allclose(stored, expected, atol=1e-6)


def test_hidden__flattens_the_channels_of_images(tmp_path):
    model = nn.Sequential(
        nn.Unflatten(1, (1, D)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(6, 2)
    )
    with recorder(tmp_path / "e", activations=True) as rec:
        rec.step(model, step=0, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").run("a").activations(0).shape == (N, 6)


def test_hidden__takes_the_manifolds_of_the_samples_kept(tmp_path):
    model, kept = network(), np.arange(0, N, 3)
    with recorder(tmp_path / "e", keep={"train": kept}) as rec:
        rec.step(model, step=0, epoch=0)
    radius, _ = naive.class_manifolds(hidden(model, data(), 1)[kept], data().tensors[1][kept])
    found = inpca.open_ensemble(tmp_path / "e").run("a").observables()
    assert found["radius_plus"][0] == pytest.approx(radius[1], abs=1e-7)
    with pytest.raises(InputError, match=r"np.flatnonzero\(mask\)"):
        recorder(tmp_path / "f", keep={"train": np.ones(N, bool)})


def test_hidden__goes_on_with_a_run_that_was_cut_off(tmp_path):
    for options in ({}, {"resume": True}):
        with recorder(tmp_path / "e", data(3), **options) as rec:
            for step in range(rec.n_recorded + 1 + len(options)):
                rec.step(network(), step=step, epoch=step)
    run = inpca.open_ensemble(tmp_path / "e").run("a")
    assert run.observables()["radius"].shape == (2, 3)
    assert run.check() == []


# -- what is refused, with nothing written --


def test_unknown_layer__is_refused_with_those_that_exist(tmp_path):
    message = r"no 'tanh'; its modules are 0 \(Linear\), 1 \(Tanh"
    with recorder(tmp_path / "e", layers="tanh") as rec, pytest.raises(InputError, match=message):
        rec.step(network(), step=0, epoch=0)
    assert not (tmp_path / "e").exists()


def test_one_class__is_refused_and_nothing_is_written(tmp_path):
    message = r"Run 'a', 'train', layer '1'.*at least two classes"
    one_class = data(n_classes=1)
    with recorder(tmp_path / "e", one_class) as rec, pytest.raises(InputError, match=message):
        rec.step(network(), step=0, epoch=0)
    assert not (tmp_path / "e").exists()


def test_diverged_network__is_named_and_only_what_was_before_stays(tmp_path):
    model = network()
    with recorder(tmp_path / "e") as rec:
        rec.step(model, step=0, epoch=0)
        with torch.no_grad():
            model[0].weight.fill_(float("nan"))
        with pytest.raises(InputError, match=r"Run 'a' has NaN.*at step 1.*\(1 checkpoint\) stays"):
            rec.step(model, step=1, epoch=1)
    ensemble = inpca.open_ensemble(tmp_path / "e")
    assert len(ensemble.run("a").observables()["radius_plus"]) == 1
    assert ensemble.check() == []


def test_dead_units__are_refused_or_their_samples_dropped(tmp_path):
    model = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, 2))
    with torch.no_grad():
        model[0].bias.fill_(-1.0)
    with recorder(tmp_path / "a") as rec, pytest.raises(InputError, match=r"zero in every unit"):
        rec.step(model, step=0, epoch=0)
    with recorder(tmp_path / "b", zeros="drop") as rec:
        rec.step(model, step=0, epoch=0)
    values = hidden(model, data(), 1)
    alive = values.any(axis=1)
    radius, _ = naive.class_manifolds(values[alive], data().tensors[1].numpy()[alive])
    found = inpca.open_ensemble(tmp_path / "b").run("a").observables()
    assert found["radius_plus"][0] == pytest.approx(radius[1], abs=1e-7)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.tuple, self.head = nn.Linear(D, D), nn.LSTM(D, 3), nn.Linear(D, 2)

    def forward(self, x):
        self.tuple(x)
        return self.head(self.inner(self.inner(x)))


@pytest.mark.parametrize(
    ("layer", "message"),
    [("inner", "ran 2 times in one pass"), ("tuple", "must give a tensor with one row per sample")],
)
def test_layer_without_one_activation_per_sample__is_refused(tmp_path, layer, message):
    with recorder(tmp_path / "e", layers=layer) as rec, pytest.raises(InputError, match=message):
        rec.step(Twice(), step=0, epoch=0)


@pytest.mark.parametrize("layers", [[], ["1", "1"], ["a/b"]])
def test_layers__must_be_names_each_once(tmp_path, layers):
    with pytest.raises(InputError, match="`layers`"):
        recorder(tmp_path / "e", layers=layers)


# -- what the store promises about observables --


def test_observables__of_another_layer_are_refused_with_those_recorded(tmp_path):
    with recorder(tmp_path / "e", layers=["1", "3"]) as rec:
        rec.step(network(), step=0, epoch=0)
    run = inpca.open_ensemble(tmp_path / "e").run("a")
    with pytest.raises(InputError, match=r"`layer` must be given: one of '1', '3'"):
        run.observables()
    with pytest.raises(InputError, match=r"one of '1', '3', not '2'"):
        run.observables(layer="2")


def test_observables__must_be_the_same_at_every_checkpoint(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    p = {"train": np.full((2, 2), 0.5)}
    with ensemble.start_run("a") as writer:
        writer.append(p, "probs", step=0, epoch=0, observables={"train/radius_plus": 0.5})
        with pytest.raises(InputError, match="the same at every checkpoint"):
            writer.append(p, "probs", step=1, epoch=1)
        for bad in ({"train/radius": [0.5]}, {"radius_plus": 0.5}, {"train/radius_plus": np.nan}):
            with pytest.raises(InputError, match="observables"):
                writer.append(p, "probs", step=1, epoch=1, observables=bad)
    assert ensemble.run("a").n_checkpoints == 1


def test_check__names_a_damaged_array_of_observables(tmp_path):
    with recorder(tmp_path / "e", data(3)) as rec:
        rec.step(network(), step=0, epoch=0)
    ensemble = inpca.open_ensemble(tmp_path / "e")
    chunk = tmp_path / "e" / "runs" / "a.zarr" / "train" / "radius" / "c.0.0"
    content = bytearray(chunk.read_bytes())
    content[0] ^= 1
    chunk.write_bytes(bytes(content))
    assert [damage.key for damage in ensemble.check()] == ["runs/a.zarr/train/radius/c.0.0"]
    with pytest.raises(inpca.DamagedStoreError, match="checksum"):
        ensemble.run("a").observables()


def test_add_run__takes_observables_of_all_checkpoints(tmp_path):
    ensemble = inpca.create_ensemble(tmp_path / "e", sample_sets={"train": [0, 1]}, n_classes=2)
    values = np.linspace(1, 0.5, 4)
    ensemble.add_run(
        "a", {"train": np.full((4, 2, 2), 0.5)}, observables={"train/radius_plus": values}
    )
    np.testing.assert_array_equal(ensemble.run("a").observables()["radius_plus"], values)
    with pytest.raises(InputError, match="one row per checkpoint"):
        ensemble.add_run(
            "b", {"train": np.full((4, 2, 2), 0.5)}, observables={"train/radius_plus": values[1:]}
        )
