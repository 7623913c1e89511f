"""What a run records about hidden layers: a few numbers per checkpoint, activations on request.

Names are ``<set>/<observable>`` where one layer was recorded, ``<set>/<observable>.<layer>`` where
several were. One number per checkpoint is a column like any scalar; what has more axes is cut into
one chunk per checkpoint, so that a commit writes what is new and nothing again.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import plain_array
from inpca.errors import InputError
from inpca.store import layout, schema
from inpca.store.files import read_chunk
from inpca.store.layout import Array, Document

ACTIVATIONS = "activations"


def declaration(name: str) -> schema.Column:
    """The declaration of the observable `name`, ``<set>/<observable>`` or ``….<layer>``."""
    base, _, layer = name.partition("/")[2].partition(".")
    if base not in schema.OBSERVABLES:
        raise InputError(
            f"`observables` must be named <set>/<observable>, or <set>/<observable>.<layer>, with "
            f"an observable of {', '.join(schema.OBSERVABLES)}, not {name!r}."
        )
    column = schema.OBSERVABLES[base]
    if not layer:
        return replace(column, name=name)
    # Layers differ in width: one name for their axes would make xarray refuse the group.
    dims = tuple(f"{dim}.{layer}" if dim == "unit" else dim for dim in column.dims)
    return replace(column, name=name, dims=dims, meaning=f"{column.meaning}; layer {layer}")


@dataclass(frozen=True)
class RowArray:
    """An array with one chunk per checkpoint.

    Attributes
    ----------
    name : path inside the run
    shape : of one checkpoint
    """

    name: str
    shape: tuple[int, ...]

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.dtype(declaration(self.name).dtype)

    def document(self, n_checkpoints: int) -> Document:
        """The `zarr.json` of the array of all checkpoints of a run."""
        column = declaration(self.name)
        shape, chunks = (n_checkpoints, *self.shape), (1, *self.shape)
        return layout.array_document(
            shape, self._dtype, column.dims, chunks, attributes=column.attributes
        )

    def path(self, run: Path, checkpoint: int) -> Path:
        """The file of one checkpoint."""
        return run / self.name / ".".join(["c", str(checkpoint), *["0"] * len(self.shape)])

    def encode(self, values: Array) -> bytes:
        """The chunk of `values`, one checkpoint."""
        return layout.encode(np.ascontiguousarray(values, self._dtype)[None])

    def read(self, run: Path, checkpoint: int, expected: int | None) -> Array:
        """One checkpoint; CorruptChunk if its file is missing, damaged or another's.

        `expected` is its checksum in the index of the run, if there is one.
        """
        path = self.path(run, checkpoint)
        return np.asarray(read_chunk(path, self._dtype, (1, *self.shape), expected)[0])


def row_arrays(documents: Mapping[str, Document]) -> dict[str, RowArray]:
    """The arrays of this kind among the documents of a run."""
    return {
        name: RowArray(name, tuple(document["shape"][1:]))
        for name, document in documents.items()
        if is_observable(name, document) and len(document["shape"]) > 1
    }


def is_observable(name: str, document: Document) -> bool:
    """Whether an array of a run belongs to a hidden layer."""
    if document["node_type"] != "array" or "/" not in name or schema.is_checksums(name):
        return False
    return _own_name(name) not in _OF_A_SET


_OF_A_SET = set(schema.RUN_SET)


def _own_name(name: str) -> str:
    return name.partition("/")[2]


def of_layer(names: Iterable[str], sample_set: str, layer: str | None) -> dict[str, str]:
    """Observable → array's name, of one layer; None stands for the only one there is.

    Raises
    ------
    InputError
        If there is none, or `layer` is not one of those recorded.
    """
    by_layer: dict[str, dict[str, str]] = {}
    for name in names:
        group, _, own = name.partition("/")
        if group == sample_set:
            base, _, of = own.partition(".")
            by_layer.setdefault(of, {})[base] = name
    if not by_layer:
        raise InputError(
            f"`sample_set` must be one with observables of hidden layers; {sample_set!r} has none: "
            "record the run with collectors.hidden.HiddenRecorder."
        )
    if layer is None and len(by_layer) == 1:
        return next(iter(by_layer.values()))
    if layer is not None and set(by_layer) == {""}:
        raise InputError(
            f"One layer was recorded on {sample_set!r}, without a name of its own, and `layer` is "
            f"{layer!r}; leave `layer` out."
        )
    if layer not in by_layer:
        wanted = "`layer` must be given" if layer is None else "`layer` must be a recorded one"
        raise InputError(
            f"{wanted}: one of {', '.join(map(repr, sorted(by_layer)))}"
            f"{'' if layer is None else f', not {layer!r}'}."
        )
    return by_layer[layer]


def check_observables(
    observables: Mapping[str, ArrayLike],
    known: Collection[str],
    known_arrays: Mapping[str, RowArray],
    sample_sets: Collection[str],
    count: int,
    first: int,
) -> tuple[dict[str, list[float]], dict[str, Array]]:
    """Columns and arrays of `count` checkpoints that begin with checkpoint `first`.

    Parameters
    ----------
    observables : name → (count, …)
    known, known_arrays : what the run has recorded before, if `first` is above 0
    sample_sets : those that predictions are recorded for

    Raises
    ------
    InputError
        For unknown names or sets, other shapes, NaN or infinite values, or others than before.
    """
    if first and set(observables) != set(known):
        raise InputError(
            f"`observables` must be the same at every checkpoint of a run "
            f"({', '.join(sorted(known)) or 'none'}), not {', '.join(observables) or 'none'}."
        )
    columns: dict[str, list[float]] = {}
    arrays: dict[str, Array] = {}
    for name, values in observables.items():
        array = _check_values(
            name, plain_array(values, f"observables[{name!r}]"), sample_sets, count
        )
        if array.ndim == 1:
            columns[name] = array.tolist()
            continue
        before = known_arrays.get(name)
        if before is not None and before.shape != array.shape[1:]:
            raise InputError(
                f"`observables[{name!r}]` must have the shape {before.shape} at every checkpoint, "
                f"not {array.shape[1:]}."
            )
        arrays[name] = array
    return columns, arrays


def _check_values(
    name: str, array: NDArray[Any], sample_sets: Collection[str], count: int
) -> NDArray[Any]:
    column = declaration(name)
    sample_set, _, own = name.partition("/")
    if sample_set not in sample_sets:
        raise InputError(
            f"`observables[{name!r}]` must be of a sample set that is recorded "
            f"({', '.join(sample_sets)}), not {sample_set!r}."
        )
    schema.check_name(own, "The name of an observable, with its layer,")
    if array.ndim != len(column.dims) or len(array) != count or not math.prod(array.shape):
        raise InputError(
            f"`observables[{name!r}]` must have the dimensions {', '.join(column.dims)}, with "
            f"{count} of the first, not shape {array.shape}."
        )
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise InputError(
            f"`observables[{name!r}]` must be finite numbers; the training diverged."
            if array.dtype.kind in "iuf"
            else f"`observables[{name!r}]` must be numbers, not {array.dtype}."
        )
    return array
