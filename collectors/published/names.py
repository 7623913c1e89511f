"""What the archive calls things, and what this project calls them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpca.errors import InputError

# Sample set → predictions on it.
SETS = {"train": "yh", "test": "yvh"}

# Columns that change within a run.
OF_A_CHECKPOINT = {
    "t": "step",
    "err": "train_error",
    "verr": "test_error",
    "favg": "train_loss",
    "vfavg": "test_loss",
    "lam_yh": "train_progress",
    "lam_yvh": "test_progress",
}

_SETTINGS = {
    "m": "architecture",
    "opt": "optimizer",
    "bs": "batch_size",
    "wd": "weight_decay",
    "aug": "augmentation",
}

_RUN_FILE = re.compile(r"(\{.*\})\.(p|pt|pth)")


def setting_name(key: str) -> str:
    """The column of a setting in the models table.

    >>> setting_name("m"), setting_name("seed")
    ('architecture', 'seed')
    """
    return _SETTINGS.get(key, key)


def is_run_file(file: Path) -> bool:
    """Whether a file is a run by its name, ``{…}.p``."""
    return _RUN_FILE.fullmatch(file.name) is not None


def settings_in_name(file: Path) -> dict[str, Any]:
    """The configuration that a run file has in its name.

    Raises
    ------
    InputError
        If it is no JSON.
    """
    found = _RUN_FILE.fullmatch(file.name)
    try:
        settings: dict[str, Any] = json.loads(found[1] if found else "")
    except ValueError as error:
        raise InputError(f"The name of {file} is no JSON between its braces: {error}.") from None
    return settings


def run_id(settings: Mapping[str, Any]) -> str:
    """The id of the run with these settings.

    >>> run_id({"seed": 42, "m": "allcnn", "bn": True, "lr": 1e-05})
    'seed-42_m-allcnn_bn-True_lr-1e-05'
    """
    text = "_".join(f"{key}-{_plain(value)}" for key, value in settings.items())
    return re.sub(r"[^A-Za-z0-9._-]", ".", text)


def _plain(value: Any) -> Any:
    """A number alike whether JSON or a table wrote it."""
    return value.item() if hasattr(value, "item") else value
