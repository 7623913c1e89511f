"""Try every kind of network of a sweep on two samples before anything is trained.

What does not fit together (an architecture that needs images, a layer that is not there) would
else end the sweep in the middle, when its turn comes.
"""

import warnings
from typing import NoReturn

import numpy as np
import torch

from collectors.hidden import try_layers
from collectors.zoo.augmentation import augment
from collectors.zoo.data import Data, planned_classes, planned_shape
from collectors.zoo.networks import build
from collectors.zoo.sweep import Sweep
from collectors.zoo.training import Training
from inpca.errors import InputError


def try_sweep(sweep: Sweep, data: Data | None = None) -> None:
    """Build each distinct network once and run it; without `data`, of the shape that is planned.

    Raises
    ------
    InputError
        For what cannot be trained, with the line of the sweep's file.
    """
    shape = planned_shape(sweep.data) if data is None else data.shape
    n_classes = planned_classes(sweep.data) if data is None else data.n_classes
    tried = set()
    for training in sweep.trainings:
        kind = (training.architecture, training.layer, training.augmentation, training.keep)
        if kind in tried:
            continue
        tried.add(kind)
        _try_network(sweep, training, shape, n_classes)
        if data is not None:
            _check_kept(sweep, training, data)
            _check_manifolds(sweep, training, data)


def _try_network(sweep: Sweep, training: Training, shape: tuple[int, ...], n_classes: int) -> None:
    key = "augmentation"
    # Neither the weights nor the samples matter; the caller's random state does.
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("error", "Initializing zero-element")  # an image pooled to nothing
        try:
            inputs = augment(torch.zeros(2, *shape), training.augmentation, torch.Generator())
            key = "architecture"
            model = build(training.architecture, shape, n_classes).train()
            model(inputs)
            key = "layer"
            if training.layer is not None:
                try_layers(model, inputs, [training.layer], "layer")
        except InputError as error:
            _fail(sweep, training, key, str(error))
        # What torch says of a kernel larger than its image, of a layer without any unit.
        except (RuntimeError, ValueError, ZeroDivisionError, UserWarning) as error:
            reason = str(error).splitlines()[0]
            _fail(
                sweep,
                training,
                key,
                f"`architecture` {training.architecture!r} cannot take inputs of shape {shape} "
                f"({reason}); choose another one.",
            )


def _check_kept(sweep: Sweep, training: Training, data: Data) -> None:
    """Samples of one class teach nothing but that class."""
    if training.kept is None:
        return
    kept = data.sets["train"].y[list(training.kept)]
    if len(np.unique(kept)) < 2:
        _fail(
            sweep,
            training,
            "keep",
            f"`keep` {training.keep!r}: the samples kept are all of class {int(kept[0])}; a "
            "network is trained on two classes or more: keep samples of another class too.",
        )


def _check_manifolds(sweep: Sweep, training: Training, data: Data) -> None:
    """Manifolds are compared in pairs: a set of one class has none to compare."""
    if training.layer is None:
        return
    for name, split in data.sets.items():
        if len(np.unique(split.y)) < 2:
            _fail(
                sweep,
                training,
                "layer",
                f"`layer` records the manifolds of two classes or more, but set {name!r} is all "
                f"of class {int(split.y[0])}; take samples of another class too, or leave `layer` "
                "out.",
            )


def _fail(sweep: Sweep, training: Training, key: str, message: str) -> NoReturn:
    entry = sweep.lines.get(training.run, {}).get(key)
    if entry is not None:
        entry.fail(message)
    raise InputError(f"Run {training.run!r}: {message}")
