"""Record a training of the Hugging Face `Trainer` with a callback.

callback = RecorderCallback("my.ensemble", run="bert-0", config={"lr": 5e-5},
                            sample_sets={"train": fixed_loader, "test": test_loader})
Trainer(model, args, train_dataset=data, callbacks=[callback]).train()

A loader gives the batches that the trainer would: mappings with ``labels``, in fixed order, such as
``DataLoader(data, batch_size=64, collate_fn=transformers.default_data_collator)``.
"""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import torch

from collectors.callback import Length, TrainingRecorder, refuse_sharded
from collectors.recorder import CallbackOptions
from collectors.torch import Forward
from inpca.errors import InputError, MissingExtraError

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError(
        f"collectors.huggingface needs transformers, which cannot be imported ({error}); "
        "pip install 'inpca[frameworks]'."
    ) from error


class RecorderCallback(TrainerCallback):
    """Record a model's predictions over fixed sample sets, whenever the schedule says so.

    A step is an optimizer update (``state.global_step``). ``schedule="paper"`` takes the length of
    the training from the trainer, and records the model that the training ends with also where it
    was stopped early. The model is recorded before the first update, so a run id that is taken is
    refused before anything is trained. Of several processes the first one records, with its copy
    of the model. The `Trainer` does not tell its callbacks of an error: a training that begins
    again in the same process, as with ``auto_find_batch_size=True``, begins its run again. Call
    `release` to keep what an attempt recorded.

    Parameters
    ----------
    ensemble : the directory of the ensemble; created by the first checkpoint if there is none
    run : the id of this run, unique in the ensemble
    config : what distinguishes this run; becomes columns of the models table
    sample_sets : a loader in fixed order for each sample set
    forward : ``forward(model, batch) -> (logits, labels)``; by default `logits_and_labels`
    options : schedule, n_classes, resume (with ``train(resume_from_checkpoint=…)``), restart,
        check_inputs: see `collectors.recorder.BaseRecorder`

    Raises
    ------
    InputError
        Now, for a loader that shuffles; from ``train``, for all that `collectors.torch.Recorder`
        refuses, and under FSDP and DeepSpeed, where no process has the whole model.
    """

    def __init__(
        self,
        ensemble: str | os.PathLike[str],
        run: str,
        config: Mapping[str, Any] | None = None,
        *,
        sample_sets: Mapping[str, Iterable[Any]],
        forward: Forward | None = None,
        **options: Unpack[CallbackOptions],
    ) -> None:
        self._training = TrainingRecorder(
            ensemble, run, config, sample_sets, forward or logits_and_labels, options
        )

    @property
    def n_recorded(self) -> int:
        """Checkpoints recorded so far."""
        return self._training.n_recorded

    def on_train_begin(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        refuse_sharded(bool(args.fsdp or args.deepspeed), "FSDP or DeepSpeed")
        if state.is_world_process_zero:
            length = _length(args, state, about["train_dataloader"])
            self._training.start(about["model"], state.global_step, length)

    def on_step_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._training.step(about["model"], state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **about: Any) -> None:
        self._training.end(about["model"], state.global_step)

    def release(self) -> None:
        """End the run after an error; what was recorded stays."""
        self._training.release()


def logits_and_labels(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a model of Hugging Face's kind, and the ``labels`` of the batch.

    Raises
    ------
    InputError
        If the batch is no mapping with ``labels``, or the model's output has no logits.
    """
    if not isinstance(batch, Mapping) or "labels" not in batch:
        raise InputError(
            f"The loader gives a {type(batch).__name__} where a mapping with 'labels' is expected; "
            "pass forward=lambda model, batch: (logits, labels)."
        )
    output = model(**{key: value for key, value in batch.items() if key != "labels"})
    if isinstance(output, Mapping):  # a ModelOutput is one
        output = output.get("logits")
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"{type(model).__name__} gives no logits (neither a tensor nor a mapping with "
            "'logits'); pass forward=lambda model, batch: (logits, labels)."
        )
    return output, batch["labels"]


def _length(args: Any, state: Any, loader: Any) -> Length:
    try:
        batches = len(loader)
    except TypeError:
        raise InputError(
            "The training set has no length, so that nobody knows what an epoch is; train on one "
            "that has."
        ) from None
    updates = math.ceil(batches / args.gradient_accumulation_steps)
    return Length(max(1, updates), state.max_steps)
