"""A sweep: a data set, and every training that one file asks for::

    # digits.yaml
    data: {name: digits}
    seeds: 3                    # 0, 1, 2; or a list of them
    common: {epochs: 30, batch_size: 64}
    grid:                       # one mapping, or a list of them; each the product of its lists
      - {architecture: [mlp, cnn], optimizer: [sgd, nesterov], lr: [0.1, 0.5]}
      - {architecture: [mlp, cnn], optimizer: adam, lr: 1.0e-3}

Keys of ``data`` are those of `DataSettings`, those of ``common`` and ``grid`` the attributes of
`Training` (`COLUMNS`); any of these may be a list.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from collectors.zoo.augmentation import AUGMENTATIONS
from collectors.zoo.data import (
    DATA_SETS,
    LABELS,
    STANDARDISE,
    Data,
    DataSettings,
    load_data,
    planned_classes,
    planned_samples,
)
from collectors.zoo.keep import ALL, read_keep
from collectors.zoo.networks import ARCHITECTURES
from collectors.zoo.teacher import SPECTRA
from collectors.zoo.training import CHECKPOINTS, LR_SCHEDULES, OPTIMIZERS, POINT, Training
from collectors.zoo.yaml_file import Entry, YamlFile
from inpca.errors import InputError

SHIPPED = Path(__file__).parent / "sweeps"

# Beyond what anybody trains: a few characters in a file must not fill the memory with plans.
_MOST_RUNS = 1_000_000
_MOST_STEPS = 1_000_000  # epochs, and checkpoints of a run
_MOST_SAMPLES = 100_000_000


@dataclass(frozen=True)
class Sweep:
    """What is to be trained.

    Attributes
    ----------
    name : of the file
    data : what is trained on and recorded
    trainings : the runs, in the order of the file
    lines : run → column → where the file says it, for messages; empty without a file
    """

    name: str
    data: DataSettings
    trainings: tuple[Training, ...]
    lines: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict, compare=False)

    def load_data(self) -> Data:
        """The data, once for each process."""
        return load_data(self.data)

    def part(self, number: int, of: int) -> "Sweep":
        """Every `of`-th training, beginning with the `number`-th (counted from 1)."""
        if not 1 <= number <= of:
            raise InputError(f"`part` must be i/k with 1 ≤ i ≤ k, not {number}/{of}.")
        return replace(self, trainings=self.trainings[number - 1 :: of])


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will give, known before anything is trained."""

    n_runs: int
    n_models: int
    n_bytes: int
    samples: dict[str, int]


def plan(sweep: Sweep) -> SweepPlan:
    """Runs, models and disk of `sweep`; files of data are not read where their size is known."""
    samples = planned_samples(sweep.data)
    n_classes = planned_classes(sweep.data)
    n_models = sum(len(training.steps(samples["train"])) for training in sweep.trainings)
    n_bytes = n_models * sum(samples.values()) * n_classes * 4
    return SweepPlan(len(sweep.trainings), n_models, n_bytes, samples)


def find_sweep(name: str) -> Path:
    """The file `name`, or the one that is shipped under that name.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise InputError(
        f"There is no sweep file {name}; give a .yaml file, or one of those shipped: "
        f"{', '.join(shipped)}."
    )


def load_sweep(path: Path, *, data_path: Path | None = None) -> Sweep:
    """The sweep in the file at `path`.

    Parameters
    ----------
    path : the file; paths in it are relative to its folder
    data_path : where the data lie, instead of what the file says

    Raises
    ------
    InputError
        For an unknown key or name, with the line and the nearest valid one; for a value of the
        wrong kind; for a grid without architecture, optimizer or learning rate.
    """
    root = YamlFile(path).root
    keys = root.mapping(["data", "seeds", "common", "grid"])
    for needed in ("data", "grid"):
        if needed not in keys:
            root.fail(f"the sweep must have the key {needed!r}.")
    data = _data(keys["data"], path.parent)
    if data_path is not None:
        data = replace(data, path=str(data_path))
    common = keys["common"].mapping(COLUMNS) if "common" in keys else {}
    seeds = _seeds(keys["seeds"]) if "seeds" in keys else [0]
    grids = [entry.mapping(COLUMNS) for entry in keys["grid"].items()]
    named = _naming_columns(common, grids)
    _check_once(common, grids)
    keeps = _Keeps(path.parent, data)
    trainings: dict[str, Training] = {}
    lines: dict[str, dict[str, Entry]] = {}
    for grid in grids:
        for training, said in _trainings(common | grid, seeds, named, keeps, keys["grid"]):
            lines.setdefault(training.run, said)
            known = trainings.setdefault(training.run, training)
            if known != training:
                keys["grid"].fail(
                    f"two trainings would have the id {training.run!r}; put what tells them "
                    "apart into the grid."
                )
    return Sweep(path.stem, data, tuple(trainings.values()), lines)


# --- data ------------------------------------------------------------------------------------


def _data(entry: Entry, folder: Path) -> DataSettings:
    found = entry.mapping(_DATA)
    if "name" not in found:
        entry.fail("data must have a name, such as 'digits'.")
    values = {key: _DATA[key](value) for key, value in found.items()}
    if "path" in values:
        values["path"] = str(folder / values["path"])
    try:
        return DataSettings(**values)
    except InputError as error:
        entry.fail(str(error))


def _noise(entry: Entry) -> tuple[float, ...]:
    return tuple(item.number(above=0) for item in entry.items())


_DATA: Mapping[str, Callable[[Entry], Any]] = {
    "name": lambda entry: entry.choice(DATA_SETS),
    "path": Entry.text,
    "labels": lambda entry: entry.choice(LABELS),
    "n_train": lambda entry: entry.whole(2, _MOST_SAMPLES),
    "n_test": lambda entry: entry.whole(0, _MOST_SAMPLES),
    "grey": Entry.flag,
    "standardise": lambda entry: entry.choice(STANDARDISE),
    "noise": _noise,
    "seed": lambda entry: entry.whole(0),
    "spectrum": lambda entry: entry.choice(SPECTRA),
}


# --- columns ---------------------------------------------------------------------------------


def _batch_size(entry: Entry) -> int | None:
    return None if entry.value == "all" else entry.whole(1)


def _checkpoints(entry: Entry) -> str | int:
    if isinstance(entry.value, int):
        return entry.whole(2, _MOST_STEPS)
    return entry.choice(CHECKPOINTS)


def _init(entry: Entry) -> str:
    word = entry.text()
    if word == "default" or (word.startswith(POINT) and word.removeprefix(POINT).isdecimal()):
        return word
    entry.fail(f"`init` must be 'default' or 'point-0', 'point-1', …, not {word!r}.")


@dataclass(frozen=True)
class Column:
    """One setting of a training: how it is read, and how it shows in a run's id."""

    read: Callable[[Entry], Any]
    label: str = "{}"


def _choice(names: Any) -> Callable[[Entry], str]:
    return partial(Entry.choice, valid=names)


COLUMNS = {
    "architecture": Column(_choice(ARCHITECTURES)),
    "optimizer": Column(_choice(OPTIMIZERS)),
    "lr": Column(lambda entry: entry.number(above=0), "lr{:g}"),
    "batch_size": Column(_batch_size, "bs{}"),
    "weight_decay": Column(lambda entry: entry.number(at_least=0), "wd{:g}"),
    "augmentation": Column(_choice(AUGMENTATIONS)),
    "lr_schedule": Column(_choice(LR_SCHEDULES)),
    "epochs": Column(lambda entry: entry.whole(1, _MOST_STEPS), "ep{}"),
    "checkpoints": Column(_checkpoints, "cp{}"),
    "init": Column(_init),
    "keep": Column(Entry.text),
    "layer": Column(Entry.text),
    "seed": Column(lambda entry: entry.whole(0)),
}
_NEEDED = ("architecture", "optimizer", "lr")


def _seeds(entry: Entry) -> list[int]:
    if not isinstance(entry.value, list):
        return list(range(entry.whole(1, _MOST_RUNS)))
    seeds: list[int] = []
    for item in entry.value:
        seed = item.whole(0)
        if seed in seeds:
            item.fail(f"`seeds` names {seed} twice; name each once.")
        seeds.append(seed)
    return seeds


def _check_once(common: dict[str, Entry], grids: list[dict[str, Entry]]) -> None:
    """Refuse a column of `common` that the grid says anew: one of the two would be forgotten."""
    for grid in grids:
        for key in [key for key in grid if key in common]:
            grid[key].fail(
                f"`{key}` stands in common (line {common[key].line}) and in the grid; leave it out "
                "of one of them."
            )


def _naming_columns(common: dict[str, Entry], grids: list[dict[str, Entry]]) -> list[str]:
    """Columns that a run's id tells: those of the grid, and what is a list elsewhere.

    Not those that happen to differ: a value added to a list must not rename the runs there are.
    """
    told = {"architecture", "optimizer"}
    told |= {key for grid in grids for key in grid}
    told |= {key for key, entry in common.items() if isinstance(entry.value, list)}
    return [key for key in COLUMNS if key in told and key != "seed"]


class _Keeps:
    """Samples to train on by the name that the file gives them: a path, or ``all``."""

    def __init__(self, folder: Path, data: DataSettings) -> None:
        self._folder, self._data = folder, data
        self._read: dict[str, tuple[int, ...]] = {}

    def settings(self, name: str, entry: Entry | None) -> dict[str, Any]:
        """What `name` stands for; errors show the line of `entry`."""
        if name == ALL or entry is None:
            return {}
        if name not in self._read:
            n_train = planned_samples(self._data)["train"]
            try:
                kept = read_keep(self._folder / name, n_train)
            except InputError as error:
                entry.fail(str(error))
            self._read[name] = tuple(kept.tolist())
        return {"keep": Path(name).stem, "kept": self._read[name]}


def _trainings(
    grid: dict[str, Entry], seeds: list[int], named: list[str], keeps: _Keeps, where: Entry
) -> Iterator[tuple[Training, dict[str, Entry]]]:
    """The product of the lists of one grid, the first column changing slowest, and its lines."""
    missing = [key for key in _NEEDED if key not in grid]
    if missing:
        where.fail(f"the grid has no {missing[0]!r}, which every training needs.")
    axes: dict[str, list[tuple[Any, Entry]]] = {
        key: [(COLUMNS[key].read(item), item) for item in grid[key].items()]
        for key in COLUMNS
        if key in grid
    }
    axes.setdefault("seed", [(seed, where) for seed in seeds])
    n_runs = prod(map(len, axes.values()))
    if n_runs > _MOST_RUNS:
        where.fail(f"the grid has {n_runs:,} trainings, more than {_MOST_RUNS:,}; cut it in parts.")
    for picked in product(*axes.values()):
        settings = {key: value for key, (value, _) in zip(axes, picked)}
        lines = {key: item for key, (_, item) in zip(axes, picked)}
        settings |= keeps.settings(settings.pop("keep", ALL), lines.get("keep"))
        training = Training(run="", **settings)
        yield training.renamed(_run_id(training, named)), lines


def _run_id(training: Training, named: list[str]) -> str:
    values = {**training.config, "checkpoints": training.checkpoints, "layer": training.layer}
    words = [COLUMNS[key].label.format(values[key]) for key in named]
    words = [word for word, key in zip(words, named) if (key, word) not in _PLAIN]
    return "-".join([*words, str(training.seed)]).replace("+", "")


# What an id need not say, because it is what one expects.
_PLAIN = {("augmentation", "none"), ("init", "default"), ("keep", ALL)}
