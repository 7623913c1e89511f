"""What models are shown: the same inputs at every recording, of every run, or a named error."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

import inpca
from collectors.hidden import HiddenRecorder
from collectors.inputs import InputDigest
from collectors.schedule import every
from collectors.sklearn import SklearnRecorder
from collectors.torch import Recorder
from inpca import InputError

N, D, C = 24, 5, 3


def data(seed=0, n=N, labels=0):
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    y = torch.randint(0, C, (n,), generator=torch.Generator().manual_seed(labels))
    return TensorDataset(x, y)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, C))


def record(path, loader, run="a", model=None, **options):
    settings = {"sample_sets": {"train": loader}, "schedule": every(1)} | options
    with Recorder(path, run, **settings) as rec:
        rec.step(model or network(), step=0, epoch=0)


# -- inputs that are random --


class Augmented(TensorDataset):
    """Noise from the generator that is named, as transforms draw it."""

    def __init__(self, draw):
        super().__init__(*data().tensors)
        self.draw = draw

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 0.01 * self.draw(), y


GENERATOR = np.random.default_rng(0)
DRAWS = {
    "torch": lambda: torch.rand(1).item(),
    "numpy": lambda: np.random.rand(),  # noqa: NPY002
    "own": lambda: GENERATOR.random(),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_recorder__refuses_a_loader_that_augments_and_writes_nothing(tmp_path, draw):
    loader = DataLoader(Augmented(DRAWS[draw]), batch_size=7)
    with pytest.raises(InputError, match=r"'train' brings other inputs .*batch\[0\].*augment"):
        record(tmp_path / "e", loader)
    assert not (tmp_path / "e").exists()
    record(tmp_path / "e", loader, check_inputs=False)


def test_hidden_recorder__refuses_a_loader_that_augments(tmp_path):
    sets = {"train": DataLoader(Augmented(DRAWS["torch"]), batch_size=7)}
    rec = HiddenRecorder(tmp_path / "e", "a", sample_sets=sets, layers="0", schedule=every(1))
    with rec, pytest.raises(InputError, match="augment"):
        rec.step(network(), step=0, epoch=0)


def test_hidden_recorder__record_stores_the_observables_too(tmp_path):
    sets = {"train": DataLoader(data(), batch_size=7)}
    rec = HiddenRecorder(tmp_path / "e", "a", sample_sets=sets, layers="0", schedule=every(1))
    with rec:
        rec.record(network(), step=0, epoch=0)
    assert inpca.open_ensemble(tmp_path / "e").run("a").observables("train")


def test_recorder__refuses_a_loader_that_is_spent_after_one_pass(tmp_path):
    class Once:
        def __init__(self):
            self.batches = iter([data().tensors])

        def __iter__(self):
            return self.batches

    with pytest.raises(InputError, match="brings other inputs when it is drawn again"):
        record(tmp_path / "e", Once())


def test_recorder__refuses_a_network_that_is_random_in_eval_mode(tmp_path):
    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            return nn.functional.dropout(self.body(10 * x), 0.5)

    loader = DataLoader(data(), batch_size=7)
    with pytest.raises(InputError, match=r"predicts otherwise .* eval mode"):
        record(tmp_path / "e", loader, model=Dropping())


# -- inputs of other runs --


def test_recorder__refuses_other_inputs_of_the_same_labels(tmp_path):
    record(tmp_path / "e", DataLoader(data(), batch_size=7), "mlp-0")
    record(tmp_path / "e", DataLoader(data(), batch_size=11), "mlp-1")
    other = DataLoader(data(seed=1), batch_size=7)
    with pytest.raises(InputError, match=r"'mlp-2' is shown other inputs .* than run 'mlp-[01]'"):
        record(tmp_path / "e", other, "mlp-2")
    record(tmp_path / "e", other, "mlp-2", check_inputs=False)
    assert inpca.open_ensemble(tmp_path / "e").check() == []


def test_recorder__takes_the_same_samples_in_another_form(tmp_path):
    x, y = data().tensors
    record(tmp_path / "e", DataLoader(data(), batch_size=7), "flat")
    model = nn.Sequential(nn.Flatten(), network())
    record(tmp_path / "e", DataLoader(TensorDataset(x[:, None], y), batch_size=7), "deep", model)
    other = DataLoader(TensorDataset(x[:, None] + 1, y), batch_size=7)
    with pytest.raises(InputError, match="than run 'deep'"):
        record(tmp_path / "e", other, "deeper", model)


def test_recorder__a_resumed_run_is_held_to_its_own_inputs(tmp_path):
    record(tmp_path / "e", DataLoader(data(), batch_size=7))
    rec = Recorder(
        tmp_path / "e", "a", sample_sets={"train": DataLoader(data(seed=1))}, schedule=every(1),
        resume=True,
    )  # fmt: skip
    with rec, pytest.raises(InputError, match="than run 'a' was"):
        rec.step(network(), step=1, epoch=0)
    rec = Recorder(
        tmp_path / "e", "a", sample_sets={"train": DataLoader(data())}, schedule=every(1),
        resume=True,
    )  # fmt: skip
    with rec:
        rec.step(network(), step=1, epoch=0)
    run = inpca.open_ensemble(tmp_path / "e").run("a")
    assert run.n_checkpoints == 2
    assert set(run.inputs) == {"train"}


def test_recorder__a_run_begun_again_may_be_shown_other_inputs(tmp_path):
    record(tmp_path / "e", DataLoader(data()))
    record(tmp_path / "e", DataLoader(data(seed=1)), restart=True)


class Constant:
    classes_ = np.arange(C)

    def predict_proba(self, X):
        return np.full((len(X), C), 1 / C)


def test_sklearn__is_held_to_the_inputs_of_other_runs(tmp_path):
    X, y = (part.numpy() for part in data().tensors)
    for run, inputs in (("a", X), ("b", X.copy()), ("c", pd.DataFrame(X))):
        with SklearnRecorder(tmp_path / "e", run, sample_sets={"train": (inputs, y)}) as rec:
            rec.step(Constant(), step=0, epoch=0)
    with (
        SklearnRecorder(tmp_path / "e", "d", sample_sets={"train": (X + 1, y)}) as rec,
        pytest.raises(InputError, match="shown other inputs"),
    ):
        rec.step(Constant(), step=0, epoch=0)


def digest(*batches):
    found = InputDigest()
    for batch in batches:
        found.add(batch)
    return found.noted()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(3), torch.ones(3)),
        (torch.zeros(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16)),
        ({"text": ["a", "b"]}, {"text": ["a", "c"]}),
        ({"a": [torch.zeros(2), torch.ones(2)]}, {"a": [torch.ones(2), torch.zeros(2)]}),
        (scipy.sparse.eye_array(3), scipy.sparse.eye_array(3, k=1)),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]})),
        (np.zeros(2, np.float32), np.zeros(2, np.int32)),
        (torch.eye(2).to_sparse(), (2 * torch.eye(2)).to_sparse()),
        (np.array(["a"], dtype=object), np.array(["b"], dtype=object)),
    ],
)
def test_digest__tells_contents_apart(one, other):
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)


def test_digest__does_not_see_how_batches_are_cut():
    x = np.arange(12.0).reshape(6, 2)
    assert digest(x) == digest(x[:4], x[4:]) == digest(np.asfortranarray(x))
    assert digest({"x": x, "y": list("abcdef")}) == digest(
        {"y": list("ab"), "x": x[:2]}, {"x": x[2:], "y": list("cdef")}
    )


def test_digest__of_ragged_batches_compares_the_same_cuts_alone():
    whole, cut = digest(np.zeros((2, 3)), np.zeros((2, 4))), digest(np.zeros((4, 4)))
    assert whole["form"] != cut["form"]
    assert len(whole["digest"]) == hashlib.sha256().digest_size * 2


# -- loaders that lose samples --


class Sized(IterableDataset):
    def __init__(self, length=None, brought=N):
        self.length, self.brought = length, brought

    def __iter__(self):
        yield from [data()[k] for k in range(self.brought)]

    def __len__(self):
        if self.length is None:
            raise TypeError
        return self.length


class Half(Sampler):
    def __init__(self, source):
        self.source = source

    def __iter__(self):
        return iter(range(0, len(self.source), 2))

    def __len__(self):
        return len(self.source) // 2


class Shuffling(Half):
    def __iter__(self):
        return iter(torch.randperm(len(self.source)).tolist())


class Endless(Half):
    def __iter__(self):
        while True:
            yield from range(len(self.source))


def thinned(samples):
    return tuple(map(torch.stack, zip(*samples[:-1])))


SPREAD = DistributedSampler(data(), num_replicas=2, rank=0, shuffle=False)
LOSING = {
    "distributed": ({"sampler": SPREAD}, "one part of 2 .*DistributedSampler"),
    "distributed-batches": ({"batch_sampler": BatchSampler(SPREAD, 4, False)}, "one part of 2"),
    "batches": (
        {"batch_sampler": BatchSampler(SequentialSampler(data()), 7, drop_last=True)},
        "3 of 24 samples are never drawn.*drop_last=False",
    ),
    "half": ({"sampler": Half(data())}, "12 of 24 samples are never drawn.*Subset"),
    "repeated": ({"sampler": [*range(N), 3]}, "1 are drawn again"),
    "endless": ({"sampler": Endless(data())}, "drawn again"),
    "shuffling": ({"sampler": Shuffling(data())}, r"shuffles \(Shuffling\).*different orders"),
}


@pytest.mark.parametrize("case", LOSING)
def test_recorder__refuses_a_sampler_that_loses_or_repeats_samples(tmp_path, case):
    options, message = LOSING[case]
    with pytest.raises(InputError, match=message):
        record(tmp_path / "e", DataLoader(data(), **options))


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Sized(), {"drop_last": True, "batch_size": 7}, "drops the samples of an incomplete last"),
        (Sized(N + 1), {"batch_size": 7}, "loses samples: it brought 24 labels .* 25 samples"),
        (Sized(N - 1), {"batch_size": 7}, "repeats samples: it brought 24"),
        (Sized(), {"num_workers": 2}, "2 processes, each of which brings all samples"),
        (data(), {"batch_size": 7, "collate_fn": thinned}, "loses samples: it brought 20"),
    ],
    ids=["drop_last", "fewer", "more", "workers", "collate"],
)
@pytest.mark.filterwarnings("ignore:Length of IterableDataset:UserWarning")
def test_recorder__refuses_data_that_lose_or_repeat_samples(tmp_path, dataset, options, message):
    with pytest.raises(InputError, match=message):
        record(tmp_path / "e", DataLoader(dataset, **options))
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("loader", "n"),
    [
        (DataLoader(Sized(), batch_size=7), N),
        (DataLoader(Sized(N), batch_size=7), N),
        (DataLoader(data(), batch_size=8, drop_last=True), N),
        (DataLoader(data(), sampler=[5, 3, 1]), 3),
        (DataLoader(Subset(data(), [5, 3, 1])), 3),
        (DataLoader([data()[:10], data()[10:]], batch_size=None), N),
        ([data()[:10], data()[10:]], N),
        (DataLoader(data(), batch_sampler=[[0, 1], [2]]), 3),
        (
            DataLoader(
                data(), sampler=BatchSampler(SequentialSampler(data()), 5, False), batch_size=None
            ),
            N,
        ),
    ],
    ids=[
        "iterable",
        "sized",
        "even",
        "list",
        "subset",
        "batches",
        "plain",
        "batch-list",
        "batches-drawn",
    ],
)
def test_recorder__takes_every_loader_that_brings_all_its_samples(tmp_path, loader, n):
    record(tmp_path / "e", loader)
    assert len(inpca.open_ensemble(tmp_path / "e").sample_sets["train"]) == n
