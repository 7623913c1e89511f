"""Record a Lightning training with a callback.

callback = RecorderCallback("my.ensemble", run="mlp-0", config={"lr": 0.1},
                            sample_sets={"train": fixed_loader, "test": test_loader})
Trainer(max_epochs=20, callbacks=[callback]).fit(module, shuffled_loader)

Serves the packages `lightning` and `pytorch_lightning`: the one that is imported already, so import
the one you train with first.
"""

if __name__ != "collectors.lightning":
    raise ImportError(
        "collectors/lightning.py was imported as a top-level module, where it hides lightning "
        "itself: the folder collectors/ is on sys.path; put the folder above it there."
    )

import importlib
import importlib.util
import math
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from collectors.callback import Length, TrainingRecorder, refuse_sharded
from collectors.recorder import CallbackOptions
from collectors.torch import Forward
from inpca.errors import InputError, MissingExtraError

# The same library under two names; `lightning` brings both.
_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def _import_lightning() -> Any:
    """The package in use, else the one that is installed."""
    for package in sorted(_PACKAGES, key=lambda name: name not in sys.modules):
        if importlib.util.find_spec(package.split(".")[0]) is not None:
            return importlib.import_module(package)
    raise MissingExtraError(
        "collectors.lightning needs lightning, which is not installed: "
        "pip install 'inpca[frameworks]'."
    )


_lightning = _import_lightning()


class RecorderCallback(_lightning.Callback):  # type: ignore[name-defined, misc]
    """Record a `LightningModule`'s predictions over fixed sample sets, when the schedule says so.

    A step is an optimizer update (``trainer.global_step``). ``schedule="paper"`` takes the length
    of the training from the trainer, and records the network that the training ends with also
    where it was stopped early. The network is recorded before the first update, so a run id that
    is taken is refused before anything is trained. Of several processes the first one records,
    with its copy of the network.

    Parameters
    ----------
    ensemble : the directory of the ensemble; created by the first checkpoint if there is none
    run : the id of this run, unique in the ensemble
    config : what distinguishes this run; becomes columns of the models table
    sample_sets : a loader in fixed order for each sample set; see `collectors.torch.Recorder`
    forward : ``forward(module, batch) -> (logits, labels)`` where ``module(x)`` gives no logits
    options : schedule, n_classes, resume (with ``fit(…, ckpt_path=…)``), restart,
        check_inputs: see `collectors.recorder.BaseRecorder`

    Raises
    ------
    InputError
        Now, for a loader that shuffles; from ``fit``, for all that `collectors.torch.Recorder`
        refuses, and for a strategy under which no process has the whole network.
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
        super().__init__()
        self._training = TrainingRecorder(ensemble, run, config, sample_sets, forward, options)

    @property
    def n_recorded(self) -> int:
        """Checkpoints recorded so far."""
        return self._training.n_recorded

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        strategy = type(trainer.strategy).__name__
        sharded = strategy.startswith(("FSDP", "DeepSpeed", "ModelParallel"))
        refuse_sharded(sharded, f"The strategy {strategy}")
        if trainer.is_global_zero:
            self._training.start(pl_module, trainer.global_step, _length(trainer))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._training.step(pl_module, trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.end(pl_module, trainer.global_step)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._training.release()


def _length(trainer: Any) -> Length:
    if len(trainer.optimizers) > 1:
        raise InputError(
            f"The module has {len(trainer.optimizers)} optimizers, whose updates Lightning counts "
            "together, so that steps would not tell epochs; call collectors.torch.Recorder in your "
            "training_step."
        )
    if math.isinf(trainer.num_training_batches):
        raise InputError(
            "The training loader has no length, so that nobody knows what an epoch is; give the "
            "trainer limit_train_batches=…."
        )
    updates = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    last = trainer.estimated_stepping_batches
    return Length(max(1, updates), None if math.isinf(last) or last < 1 else int(last))
