"""What is on disk: every array and column with its name, dimensions, type, unit and meaning.

Each store is a Zarr v3 group. Its root attributes hold one entry ``inpca`` with the kind of store
and the version of the format; every array carries its unit and meaning as attributes, so that
``xarray.open_zarr`` shows them.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inpca.errors import DamagedStoreError, InputError

# 2 (November 2026): documents are sealed, an index says which checksum belongs to which chunk.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Column:
    """One array of a store.

    Attributes
    ----------
    name : the array's name inside its group
    dims : names of its dimensions
    dtype : NumPy's name of its type; ``"string"`` for text
    unit : ``"1"`` for a pure number, ``"nat"`` for a natural logarithm
    meaning : one line for the reader
    chunks : how it is cut, where it is not one chunk as a whole
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    meaning: str
    chunks: str = "one"

    @property
    def attributes(self) -> dict[str, str]:
        """What the array's own attributes say."""
        return {"units": self.unit, "long_name": self.meaning}


def _by_name(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}


# Scalars of a run: the last chunk is rewritten whole at every commit, 8 kB each.
RUN_SUFFIX = ".zarr"  # of the folder of a run
CHECKPOINTS_PER_CHUNK = 1024
_CHECKPOINTS = f"{CHECKPOINTS_PER_CHUNK} checkpoints"

SAMPLES = _by_name(
    Column("label", ("sample",), "int64", "1", "true class of the sample"),
    Column("id", ("sample",), "string", "1", "name of the sample"),
)

RUN = _by_name(
    Column("step", ("checkpoint",), "int64", "1", "optimizer steps done", _CHECKPOINTS),
    Column("epoch", ("checkpoint",), "float64", "1", "passes over the training set", _CHECKPOINTS),
)

RUN_SET = _by_name(
    Column(
        "log_prob",
        ("checkpoint", "sample", "class"),
        "float32 | float16",
        "nat",
        "log-probability of each class",
        "shard: one checkpoint; inner chunk: about 512 kB of samples",
    ),
    Column(
        "digest",
        ("checkpoint",),
        "uint64",
        "1",
        "first 8 bytes (little-endian) of the SHA-256 of the checkpoint's log_prob",
        _CHECKPOINTS,
    ),
)

# For every array with one file per checkpoint, in its sample set's group: an index, by which a file
# that is whole but lies in another's place is found, even where only a part of it is read.
CHECKSUMS = Column(
    "checksum.<array>",
    ("checkpoint", "chunk.<array>"),
    "uint32",
    "1",
    "CRC-32C of each (inner) chunk of the checkpoint in <array>",
    _CHECKPOINTS,
)


def checksums_column(name: str) -> Column:
    """The index of the array ``<set>/<array>``; its own name is ``<set>/checksum.<array>``."""
    group, _, array = name.rpartition("/")
    dims = tuple(dim.replace("<array>", array) for dim in CHECKSUMS.dims)
    meaning = CHECKSUMS.meaning.replace("<array>", array)
    return replace(CHECKSUMS, name=f"{group}/checksum.{array}", dims=dims, meaning=meaning)


def is_checksums(name: str) -> bool:
    """Whether the array `name` of a run is an index."""
    return name.partition("/")[2].startswith("checksum.")


# Of a hidden layer, in a sample set's group; "+" is the larger of two labels, "−" the smaller.
# Manifolds are those of the classes that the set's labels have, in their order.
OBSERVABLES = _by_name(
    Column(
        "radius_plus",
        ("checkpoint",),
        "float64",
        "1",
        "radius of gyration R₊",
        _CHECKPOINTS,
    ),
    Column(
        "radius_minus",
        ("checkpoint",),
        "float64",
        "1",
        "radius of gyration R₋",
        _CHECKPOINTS,
    ),
    Column(
        "centre_distance",
        ("checkpoint",),
        "float64",
        "1",
        "distance D of the centres of the two class manifolds",
        _CHECKPOINTS,
    ),
    Column(
        "radius",
        ("checkpoint", "manifold"),
        "float64",
        "1",
        "gyration radius of each class manifold, of more than two",
        "one checkpoint",
    ),
    Column(
        "centre_distances",
        ("checkpoint", "manifold", "manifold_other"),
        "float64",
        "1",
        "distance of the centres of each pair of class manifolds, of more than two",
        "one checkpoint",
    ),
    Column(
        "activations",
        ("checkpoint", "sample", "unit"),
        "float32",
        "",
        "activations as the layer gives them, not normalised",
        "one checkpoint",
    ),
)

MATRIX = _by_name(
    Column(
        "distance",
        ("model", "model_other"),
        "float32",
        "nat",
        "distance per sample; upper triangle of tiles, NaN elsewhere",
        "one tile",
    ),
    Column(
        "floored",
        ("band", "band_other"),
        "int64",
        "1",
        "contributions (pair, sample) to a tile that the floor has capped",
        "one tile",
    ),
    Column(
        "seal",
        ("band", "band_other"),
        "uint64",
        "1",
        "checksum of a tile (low 32 bits), and of it with its count, its place and the matrix",
        "one tile",
    ),
    Column("model", ("model",), "string", "1", "key of the model: run_id/checkpoint"),
    Column("digest", ("model",), "uint64", "1", "identity of the model's predictions"),
)

EMBEDDING = _by_name(
    Column("model", ("model",), "string", "1", "key of the model: run_id/checkpoint"),
    Column("coordinates", ("model", "component"), "float64", "nat^0.5", "U √|λ|, signed by Eq. 7"),
    Column("eigenvalues", ("component",), "float64", "nat", "eigenvalues of W, largest |λ| first"),
    Column("signature", ("component",), "int64", "1", "+1 space-like, −1 time-like"),
    Column("eigenvectors", ("model", "component"), "float64", "1", "eigenvectors of W"),
    Column("residuals", ("component",), "float64", "nat", "‖W v − λ v‖ of each pair"),
    Column(
        "explained_stress", ("component",), "float64", "1", "1 − Σ_{k>d} λ² / ‖W‖_F², cumulative"
    ),
    Column(
        "explained_stress_root",
        ("component",),
        "float64",
        "1",
        "1 − √(1 − Σ_{k≤d} λ² / ‖W‖_F²), cumulative",
    ),
    Column("row_means", ("model",), "float64", "nat", "row means of D"),
    Column("weights", ("model",), "float64", "1", "how often each model counts, if not once"),
)

KEY = "model"  # name of the models table's index

# Columns of the models table that a configuration or a metric must not take.
RESERVED_COLUMNS = ("model", "run", "checkpoint", "kind", "step", "epoch")
METRICS_OF_A_SET = ("loss", "error")
# A run with all of these settings holds averages of other models; `average_groups` alone makes
# them, and counts the members in the metric.
AVERAGE_SETTINGS = ("average", "average_of", "average_source")
AVERAGE_METRIC = "n_averaged"
OF_AVERAGES = (*AVERAGE_SETTINGS, AVERAGE_METRIC)

_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_. +=-]{0,199}"  # of an array, without a way out
_NAME = re.compile(NAME_PATTERN)
# Files and folders that end so are leftovers, locks or stores.
_ENDINGS = (".partial", ".next", ".lock")
_RUN_ENDINGS = (*_ENDINGS, ".zarr", ".sweep")
_METADATA = "zarr.json"
# Control characters but tab and line feed, and halves of surrogate pairs, which UTF-8 has not.
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def metric_column(name: str, sample_sets: Iterable[str]) -> Column:
    """Declaration of a metric; loss and error of a sample set are known, others are the user's."""
    for sample_set in sample_sets:
        if name == f"{sample_set}_loss":
            meaning = f"mean −ln p[label] over '{sample_set}'"
            return Column(name, ("checkpoint",), "float64", "nat", meaning, _CHECKPOINTS)
        if name == f"{sample_set}_error":
            meaning = f"fraction of '{sample_set}' whose most probable class is not the label"
            return Column(name, ("checkpoint",), "float64", "1", meaning, _CHECKPOINTS)
    return Column(name, ("checkpoint",), "float64", "", name, _CHECKPOINTS)


def is_run_id(text: str) -> bool:
    """Whether `text` could be a run's id."""
    return _RUN_ID.fullmatch(text) is not None


def check_run_id(run_id: str, argument: str = "`run_id`") -> str:
    """Refuse an id that could not be a file's name, or that looks like a reference model."""
    if not isinstance(run_id, str) or not is_run_id(run_id):
        raise InputError(
            f"{argument} must be 1 to 200 letters, digits, '.', '_' or '-', not starting with "
            f"'.', not {run_id!r}."
        )
    return run_id


def check_new_run_id(run_id: str, others: Iterable[str]) -> str:
    """Refuse an id for a new run that ends like a file of ours, or is another's but for case.

    Parameters
    ----------
    run_id : that `check_run_id` accepts
    others : ids of the runs that are there
    """
    if run_id.casefold().endswith(_RUN_ENDINGS):
        raise InputError(
            f"`run_id` must not end in {', '.join(_RUN_ENDINGS)}, as files of the store do, not "
            f"{run_id!r}; rename it."
        )
    for other in others:
        if other != run_id and other.casefold() == run_id.casefold():
            raise InputError(
                f"`run_id` {run_id!r} differs only in case from the run {other!r}, and some disks "
                "would keep both in one folder; choose another id."
            )
    return run_id


def check_name(name: str, what: str) -> str:
    """Refuse a name of a sample set, a metric or a column that could not be an array's name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("__"):
        raise InputError(
            f"{what} must be letters, digits, or one of '_. +=-', starting with a letter, a digit "
            f"or '_', not {name!r}; rename it."
        )
    if name.casefold().endswith(_ENDINGS) or name.casefold() == _METADATA:
        raise InputError(
            f"{what} must not be {_METADATA!r} or end in {', '.join(_ENDINGS)}, as files of the "
            f"store do, not {name!r}; rename it."
        )
    return name


def check_set_names(names: Collection[str]) -> None:
    """Refuse sample sets whose names, or whose losses' and errors', would share a folder."""
    metrics = {name.casefold() for name in reserved_metrics(names)}
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in metrics:
            raise InputError(
                f"`sample_sets` must not have {name!r}, which is the name of another set's loss "
                "or error; rename it."
            )
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(
                f"`sample_sets` must not differ only in case, as {other!r} and {name!r} do: some "
                "disks would keep both in one folder; rename one."
            )


def check_text(text: str, what: str) -> str:
    """Refuse a text that is no Unicode, or has control characters, which files and screens alter.

    Tab and line feed are let in.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} must be text, not {type(text).__name__}.")
    found = _NO_TEXT.search(text)
    if found is not None:
        raise InputError(
            f"{what} must be text without control characters or lone surrogates, but has "
            f"{found[0]!r} at position {found.start()}; take it out."
        )
    return text


def plain_scalar(value: Any) -> Any:
    """Python's own scalar for one of NumPy's, or for an array or tensor without dimensions.

    Anything else, a masked value and a date among it, comes back as it is.

    Examples
    --------
    >>> plain_scalar(np.uint64(2**63)), plain_scalar(np.array(0.5)), plain_scalar("a")
    (9223372036854775808, 0.5, 'a')
    """
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    if isinstance(value, np.ma.MaskedArray) or getattr(value.dtype, "kind", "") in ("m", "M"):
        return value
    return value.item()


def check_config(
    config: Mapping[str, Any] | None, sample_sets: Iterable[str], averages: bool = False
) -> dict[str, Any]:
    """`config` with plain scalars, or InputError for keys and values that cannot be columns.

    With `averages` the settings are let in that mark a run of averages.
    """
    if not isinstance(config, Mapping | None):
        raise InputError(
            f"`config` must be a mapping of settings, not a {type(config).__name__}; pass "
            "{'lr': 0.1}."
        )
    taken = taken_columns(sample_sets, averages)
    return {key: _config_value(key, value, taken) for key, value in (config or {}).items()}


def taken_columns(sample_sets: Iterable[str], averages: bool = False) -> set[str]:
    """Columns of the models table that no setting and no metric may take."""
    own = () if averages else OF_AVERAGES
    return {*RESERVED_COLUMNS, *reserved_metrics(sample_sets), *own}


def _config_value(key: str, value: Any, taken: set[str]) -> Any:
    check_name(key, "A key of `config`")
    if key in taken:
        raise InputError(
            f"`config` must not have the key {key!r}, which the models table uses itself "
            f"({', '.join(sorted(taken))}); rename it."
        )
    value = plain_scalar(value)
    if not isinstance(value, str | bool | int | float | None) or isinstance(value, np.generic):
        raise InputError(
            f"`config[{key!r}]` must be a string, a number, a truth value or None, not "
            f"{type(value).__name__}; flatten it, for example {key + '.name'!r}."
        )
    if isinstance(value, str):
        check_text(value, f"`config[{key!r}]`")
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise InputError(f"`config[{key!r}]` must be a finite number, not {value}; use None.")
    return _as_stored(value, f"`config[{key!r}]`")


def _as_stored(value: Any, what: str) -> Any:
    """`value` as it is read back from JSON, as which it is stored."""
    try:
        return json.loads(json.dumps(value))
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{what} cannot be stored: {error}; pass it as text.") from error


def reserved_metrics(sample_sets: Iterable[str]) -> list[str]:
    """The metrics that the run writer computes itself."""
    return [f"{name}_{metric}" for name in sample_sets for metric in METRICS_OF_A_SET]


def header(kind: str, **more: Any) -> dict[str, Any]:
    """The entry ``inpca`` of a store's root attributes."""
    return {**more, "kind": kind, "format_version": FORMAT_VERSION}


def check_header(attributes: Mapping[str, Any], kind: str, path: Path) -> dict[str, Any]:
    """The entry ``inpca`` of `attributes`, or an error if this is another store or a newer one."""
    entry = attributes.get("inpca")
    if not isinstance(entry, dict) or entry.get("kind") != kind:
        raise InputError(f"`path` must be a store of kind {kind!r} made by inpca; {path} is none.")
    version = entry.get("format_version")
    if type(version) is not int or version < 1:
        raise DamagedStoreError(f"{path} has no valid format version ({version!r}).")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, this inpca reads up to {FORMAT_VERSION}; "
            "upgrade inpca."
        )
    return dict(entry)
