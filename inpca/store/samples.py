"""Sample sets: the ordered samples, with their labels, that every model predicts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import LABELS, plain_array
from inpca.errors import DamagedStoreError, InputError
from inpca.store import schema
from inpca.store.group import Member, read_group, write_group
from inpca.units import count


@dataclass(frozen=True, eq=False)
class SampleSet:
    """An ordered list of samples.

    Attributes
    ----------
    name : ``"train"``, ``"test"``, …
    labels : true classes, shape (n_samples,), int64
    ids : names of the samples, if they were given
    fingerprint : changes with any label, any id, and their order
    """

    name: str
    labels: NDArray[np.int64]
    ids: tuple[str, ...] | None
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_samples(self) -> int:
        return len(self.labels)


def make_sample_set(
    name: str, labels: ArrayLike, n_classes: int, ids: Sequence[str] | None = None
) -> SampleSet:
    """Validate labels and ids of a sample set.

    Raises
    ------
    InputError
        For labels that are not whole numbers in 0 … n_classes − 1, masked or missing ones, a
        series that does not name its samples 0, 1, 2, … in order, or ids of another number.
    """
    schema.check_name(name, "A key of `sample_sets`")
    if name in schema.RUN or name in schema.RESERVED_COLUMNS:
        raise InputError(f"A sample set must not be named {name!r}: a run has an array so named.")
    values = _check_labels(name, plain_array(labels, f"sample_sets[{name!r}]", LABELS), n_classes)
    names = None if ids is None else tuple(_check_id(name, one) for one in ids)
    if names is not None and len(names) != len(values):
        raise InputError(
            f"`ids[{name!r}]` must have one id per sample: {len(values):,} labels, "
            f"{len(names):,} ids."
        )
    return SampleSet(name, values, names, _fingerprint(values, names))


def _check_id(name: str, value: object) -> str:
    """The id of a sample: a text, or a whole number as text."""
    plain = schema.plain_scalar(value)
    if isinstance(plain, int) and not isinstance(plain, bool):
        return str(plain)
    return schema.check_text(plain, f"An id in `ids[{name!r}]`")


def _check_labels(name: str, labels: NDArray[np.generic], n_classes: int) -> NDArray[np.int64]:
    what = f"`sample_sets[{name!r}]`"
    if labels.ndim != 1 or not len(labels):
        raise InputError(
            f"{what} must be the labels of at least one sample, shape (n_samples,), not "
            f"{labels.shape}."
        )
    with np.errstate(invalid="ignore"):  # NaN is refused below
        values = labels.astype(np.int64) if labels.dtype.kind in "iuf" else None
    if values is None or not np.array_equal(values, labels):
        raise InputError(f"{what} must hold whole numbers (class indices), not {labels.dtype}.")
    wrong = np.flatnonzero((values < 0) | (values >= n_classes))
    if len(wrong):
        raise InputError(
            f"{what} must hold classes 0 … {n_classes - 1} (`n_classes`={n_classes}); sample "
            f"{wrong[0]} has label {values[wrong[0]]} ({count(len(wrong), 'such sample')} in all)."
        )
    values.flags.writeable = False
    return values


def _fingerprint(labels: NDArray[np.int64], ids: tuple[str, ...] | None) -> str:
    digest = hashlib.sha256(f"{len(labels)} {ids is not None} ".encode())
    digest.update(labels.astype("<i8").tobytes())
    for name in ids or ():
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def difference(ours: SampleSet, theirs: SampleSet) -> str:
    """In what `ours` is not `theirs`: the number of samples, or the first one that differs."""
    if len(ours) != len(theirs):
        return f"it has {count(len(ours), 'sample')}, not {len(theirs):,}"
    if not np.array_equal(ours.labels, theirs.labels):
        return difference_of_labels(ours.labels, theirs.labels)
    if ours.ids is None or theirs.ids is None:
        return f"its samples have {'no ids' if ours.ids is None else 'ids, and the others none'}"
    pairs = enumerate(zip(ours.ids, theirs.ids))
    first, (one, other) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    return f"sample {first} has the id {one!r}, not {other!r}"


def difference_of_labels(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> str:
    """The first sample of two equally long lists whose label differs, and how many do."""
    differs = np.flatnonzero(ours != theirs)
    first = differs[0]
    return (
        f"sample {first} has label {ours[first]}, not {theirs[first]} ({len(differs):,} of "
        f"{len(ours):,} differ)"
    )


def write_sample_set(path: Path, sample_set: SampleSet) -> None:
    """Write `sample_set` as the group `path`."""
    label, name = schema.SAMPLES["label"], schema.SAMPLES["id"]
    members = {"label": Member(label.dims, sample_set.labels, label.attributes)}
    if sample_set.ids is not None:
        members["id"] = Member(name.dims, list(sample_set.ids), name.attributes)
    header = schema.header("samples", fingerprint=sample_set.fingerprint, name=sample_set.name)
    write_group(path, members, {"inpca": header})


def read_sample_set(path: Path, name: str, expected: Mapping[str, object]) -> SampleSet:
    """Read a sample set and hold it against what the ensemble says of it.

    Raises
    ------
    DamagedStoreError
        If it is missing, damaged, or not the one that the ensemble was made with.
    """
    cure = "restore it from a copy, or make the ensemble again"
    try:
        attributes, members = read_group(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedStoreError(f"Sample set {name!r} is missing ({path}); {cure}.") from None
    schema.check_header(attributes, "samples", path)
    label = members.get("label")
    if label is None or label.dims != ("sample",) or label.values.dtype != np.int64:
        raise DamagedStoreError(f"Sample set {name!r} ({path}) has no labels; {cure}.")
    labels = label.values.copy()
    labels.flags.writeable = False
    ids = tuple(members["id"].values.tolist()) if "id" in members else None
    fingerprint = _fingerprint(labels, ids)
    if fingerprint != expected["fingerprint"] or len(labels) != expected["n_samples"]:
        raise DamagedStoreError(
            f"Sample set {name!r} ({path}) is not the one that the ensemble was made with; {cure}."
        )
    return SampleSet(name, labels, ids, fingerprint)
