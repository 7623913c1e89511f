"""The Lightning callback, in trainings by the real library."""

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import inpca
from inpca import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own imports warn of
    pl = pytest.importorskip(
        "pytorch_lightning", reason="needs pytorch_lightning: pip install 'inpca[frameworks]'"
    )
    from collectors.lightning import RecorderCallback

N, D, C = 24, 5, 3

# The library's advice on this machine, and its own use of what torch deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Module(pl.LightningModule):
    def __init__(self, lr=0.1, n_optimizers=1):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, C)
        self.lr, self.n_optimizers = lr, n_optimizers
        self.automatic_optimization = n_optimizers == 1

    def forward(self, x):
        return self.head(self.net(x))

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        if not self.training or not self.net[1].training:
            raise AssertionError("a recording left the network in eval mode")
        return loss if self.automatic_optimization else None

    def configure_optimizers(self):
        optimizers = [torch.optim.SGD(self.parameters(), self.lr) for _ in range(self.n_optimizers)]
        return optimizers if len(optimizers) > 1 else optimizers[0]


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator)
    return TensorDataset(x, torch.randint(0, C, (N,), generator=generator))


@pytest.fixture
def fixed(data):
    return {"train": DataLoader(data, batch_size=7)}


def fit(data, *callbacks, module=None, ckpt_path=None, **options):
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    settings = {
        "max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
    }  # fmt: skip
    trainer = pl.Trainer(callbacks=list(callbacks), **settings | options)
    module = module or Module()
    trainer.fit(module, DataLoader(data, batch_size=4, shuffle=True), ckpt_path=ckpt_path)
    return trainer, module


def test_lightning__records_the_papers_steps_and_the_trained_network(tmp_path, data, fixed):
    callback = RecorderCallback(tmp_path / "e", "a", {"lr": 0.1}, sample_sets=fixed)
    _, module = fit(data, callback)
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == [*range(0, 13)]
    np.testing.assert_allclose(table["epoch"], table["step"] / 6)
    assert set(table["lr"]) == {0.1}
    assert callback.n_recorded == 13
    module.eval()
    with torch.no_grad():
        expected = module(data.tensors[0]).log_softmax(1).numpy()
    found = inpca.open_ensemble(tmp_path / "e").run("a").log_probs("train", 12)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lightning__leaves_the_training_as_it_would_be_without(tmp_path, data, fixed):
    torch.manual_seed(1)
    _, alone = fit(data)
    torch.manual_seed(1)
    _, watched = fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed))
    for one, other in zip(alone.state_dict().values(), watched.state_dict().values()):
        assert torch.equal(one, other)


def test_lightning__steps_are_updates_where_gradients_are_accumulated(tmp_path, data, fixed):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed)
    fit(data, callback, accumulate_grad_batches=4)
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == [0, 1, 2, 3, 4]
    assert table["epoch"].tolist() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize("options", [{"max_steps": 5}, {"max_epochs": -1, "max_steps": 5}])
def test_lightning__records_the_last_step_wherever_the_training_ends(
    tmp_path, data, fixed, options
):
    fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed), **options)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].iloc[-1] == 5


def test_lightning__records_the_network_of_a_training_stopped_early(tmp_path, data, fixed):
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step >= 12

    long = TensorDataset(*(t.repeat(5, *[1] * (t.ndim - 1)) for t in data.tensors))
    fit(long, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed), Stop(), max_epochs=50)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 1, 8, 12]


def test_lightning__a_schedule_of_ones_own_decides_alone(tmp_path, data, fixed):
    fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed, schedule=[0, 5]))
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 5]


def test_lightning__refuses_before_it_trains(tmp_path, data, fixed):
    with pytest.raises(InputError, match="shuffles"):
        RecorderCallback(tmp_path / "e", "a", sample_sets={"train": DataLoader(data, shuffle=True)})
    with pytest.raises(TypeError, match="no argument 'epochs'"):
        RecorderCallback(tmp_path / "e", "a", sample_sets=fixed, epochs=3)
    fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed, schedule=[0]))
    module = Module()
    before = module.head.weight.clone()
    with pytest.raises(InputError, match=r"'a'.*exists"):
        fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed), module=module)
    assert torch.equal(before, module.head.weight)
    callback = RecorderCallback(tmp_path / "e", "b", sample_sets=fixed)
    with pytest.raises(InputError, match="2 optimizers"):
        fit(data, callback, module=Module(n_optimizers=2))


def test_lightning__a_training_that_diverges_keeps_what_it_had_and_frees_the_run(
    tmp_path, data, fixed
):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed)
    with pytest.raises(InputError, match=r"Run 'a' has NaN or infinite predictions at step"):
        fit(data, callback, module=Module(lr=1e38))
    n = inpca.open_ensemble(tmp_path / "e").run("a").n_checkpoints
    assert n == callback.n_recorded >= 1
    fit(data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed, restart=True))
    assert inpca.open_ensemble(tmp_path / "e").run("a").n_checkpoints == 13


def test_lightning__a_training_that_is_resumed_goes_on_in_its_run(tmp_path, data, fixed):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed)
    trainer, module = fit(data, callback, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed, resume=True)
    fit(data, callback, module=module, max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    run = inpca.open_ensemble(tmp_path / "e").run("a")
    assert run.step.tolist() == [*range(13)]
    assert callback.n_recorded == 6


def test_lightning__refuses_a_network_split_over_processes(tmp_path, data, fixed):
    class FSDPStrategy(pl.strategies.SingleDeviceStrategy):
        pass

    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed)
    with pytest.raises(InputError, match=r"FSDPStrategy splits the network .*`inpca replay`"):
        fit(data, callback, strategy=FSDPStrategy(device="cpu"))
    assert not (tmp_path / "e").exists()
