"""The callback for Hugging Face's Trainer, in trainings by the real library."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import inpca
from inpca import InputError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own imports warn of
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers: pip install 'inpca[frameworks]'"
    )
    pytest.importorskip("accelerate", reason="needs accelerate: pip install 'inpca[frameworks]'")
    from collectors.huggingface import RecorderCallback, logits_and_labels

N, C = 20, 3

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Sentences(Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(0, 30, (N, 6), generator=generator)
        self.labels = torch.randint(0, C, (N,), generator=generator)

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": int(self.labels[index])}


@pytest.fixture
def data():
    return Sentences()


def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=8, num_labels=C,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def fixed(data):
    return {"train": DataLoader(data, batch_size=8, collate_fn=transformers.default_data_collator)}


def train(path, data, callback, model=None, **options):
    settings = {
        "output_dir": str(path / "out"), "num_train_epochs": 2, "per_device_train_batch_size": 4,
        "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 0,
        "dataloader_pin_memory": False, "learning_rate": 1e-3, "logging_strategy": "no",
    }  # fmt: skip
    arguments = transformers.TrainingArguments(**settings | options)
    model = model or bert()
    callbacks = [] if callback is None else [callback]
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return model


def test_huggingface__records_the_papers_steps_and_the_trained_model(tmp_path, data):
    callback = RecorderCallback(tmp_path / "e", "a", {"lr": 1e-3}, sample_sets=fixed(data))
    model = train(tmp_path, data, callback)
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].tolist() == [*range(11)]
    np.testing.assert_allclose(table["epoch"], table["step"] / 5)
    assert callback.n_recorded == 11
    model.eval()
    with torch.no_grad():
        expected = model(data.tokens).logits.log_softmax(1).numpy()
    found = inpca.open_ensemble(tmp_path / "e").run("a").log_probs("train", 10)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_huggingface__leaves_the_training_as_it_would_be_without(tmp_path, data):
    alone = train(tmp_path, data, None)
    watched = train(tmp_path, data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data)))
    for one, other in zip(alone.state_dict().values(), watched.state_dict().values()):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"gradient_accumulation_steps": 2}, [0, 1, 2, 3, 4, 5, 6]),
        ({"max_steps": 3}, [0, 1, 2, 3]),
    ],
)
def test_huggingface__steps_are_updates_and_the_last_is_recorded(tmp_path, data, options, steps):
    train(tmp_path, data, RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data)), **options)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == steps


class Plain(nn.Module):
    """A network that is none of the library's own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.EmbeddingBag(30, 4), nn.Linear(4, C)

    def forward(self, input_ids, labels=None):
        logits = self.head(self.embedding(input_ids))
        if labels is None:
            return logits
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_huggingface__takes_any_module_and_any_schedule(tmp_path, data):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), schedule=[0, 7])
    train(tmp_path, data, callback, Plain())
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 7]


def test_huggingface__refuses_before_it_trains(tmp_path, data):
    with pytest.raises(InputError, match="shuffles"):
        RecorderCallback(tmp_path / "e", "a", sample_sets={"train": DataLoader(data, shuffle=True)})
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), schedule=[0])
    train(tmp_path, data, callback, Plain())
    model = Plain()
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data))
    with pytest.raises(InputError, match=r"'a'.*exists"):
        train(tmp_path, data, callback, model)
    assert torch.equal(model.head.weight, Plain().head.weight)


def test_huggingface__a_training_that_diverges_keeps_what_it_had_and_frees_the_run(tmp_path, data):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data))
    options = {"optim": "sgd", "learning_rate": 1e38, "max_grad_norm": 0}
    with pytest.raises(InputError, match=r"Run 'a' has NaN or infinite predictions at step"):
        train(tmp_path, data, callback, Plain(), **options)
    assert inpca.open_ensemble(tmp_path / "e").run("a").n_checkpoints == callback.n_recorded >= 1
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), restart=True)
    train(tmp_path, data, callback, Plain())


def test_huggingface__an_error_elsewhere_leaves_the_run_to_be_released(tmp_path, data):
    class Failing(Plain):
        def forward(self, input_ids, labels=None):
            if labels is not None:
                raise ZeroDivisionError
            return super().forward(input_ids)

    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data))
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, data, callback, Failing())
    callback.release()
    again = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), resume=True)
    train(tmp_path, data, again, Plain())
    assert again.n_recorded == 10  # the untrained model is there


class TooLarge(Plain):
    """Has memory for two samples at a time."""

    def forward(self, input_ids, labels=None):
        if labels is not None and self.training and len(input_ids) > 2:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(input_ids, labels)


@pytest.mark.parametrize("restart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_huggingface__a_search_for_the_batch_size_begins_the_run_again(tmp_path, data, restart):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), restart=restart)
    options = {"auto_find_batch_size": True, "per_device_train_batch_size": 8}
    train(tmp_path, data, callback, TooLarge(), **options)
    table = inpca.open_ensemble(tmp_path / "e").models
    assert table["step"].iloc[-1] == 2 * N // 2
    np.testing.assert_allclose(table["epoch"], table["step"] / (N // 2))


def test_huggingface__a_training_that_broke_off_may_begin_again(tmp_path, data):
    class Failing(Plain):
        fails = True

        def forward(self, input_ids, labels=None):
            if labels is not None and self.fails:
                raise ZeroDivisionError
            return super().forward(input_ids, labels)

    callback, model = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data)), Failing()
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, data, callback, model)
    model.fails = False
    train(tmp_path, data, callback, model)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [*range(11)]
    with pytest.raises(InputError, match="exists"):  # it has ended
        train(tmp_path, data, callback, model)


def test_huggingface__records_the_end_of_each_epoch(tmp_path, data):
    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), schedule="epochs")
    train(tmp_path, data, callback, Plain(), max_steps=13)
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 5, 10, 13]


def test_huggingface__the_best_model_is_not_taken_for_the_last(tmp_path, data, caplog):
    class Swap(transformers.TrainerCallback):
        def on_train_end(self, args, state, control, model, **about):
            model.load_state_dict(Plain().state_dict())

    callback = RecorderCallback(tmp_path / "e", "a", sample_sets=fixed(data), schedule="epochs")
    settings = {"output_dir": str(tmp_path), "max_steps": 7, "use_cpu": True, "report_to": []}
    arguments = transformers.TrainingArguments(
        **settings, save_strategy="no", disable_tqdm=True, per_device_train_batch_size=4
    )
    trainer = transformers.Trainer(
        Plain(), arguments, train_dataset=data, callbacks=[Swap(), callback]
    )
    trainer.train()
    assert inpca.open_ensemble(tmp_path / "e").models["step"].tolist() == [0, 5]
    assert "the model was changed after that step" in caplog.text


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (([1], [2]), "a list where a mapping with 'labels' is expected"),
        ({"input_ids": torch.zeros(1, 2, dtype=torch.long)}, "with 'labels' is expected"),
    ],
)
def test_logits_and_labels__names_a_batch_of_another_form(batch, message):
    with pytest.raises(InputError, match=message):
        logits_and_labels(Plain(), list(batch) if isinstance(batch, tuple) else batch)


def test_logits_and_labels__names_a_model_without_logits():
    class Pooler(nn.Module):
        def forward(self, x):
            return {"hidden": x}

    with pytest.raises(InputError, match="Pooler gives no logits"):
        logits_and_labels(Pooler(), {"x": torch.zeros(1), "labels": torch.zeros(1)})
