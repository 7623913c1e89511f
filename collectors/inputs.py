"""What the models of a run are shown: a digest of it, so that it can be seen to be the same.

The distance between two models says something only if both were shown the same inputs. Labels do
not tell: an augmented image, or another image of the same class, has the same label. So the inputs
of every sample set are digested as they are drawn for the first recording, drawn once more, and
compared; and compared with what other runs of the ensemble noted. Batches may be cut in any way.

Architectures may take the same samples in different forms (flat or square, 32 or 224 pixels wide,
other tokens). Only inputs of one form, the same types and shapes of a sample, are compared.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import DamagedStoreError, InputError
from inpca.store.run import SUFFIX, Run

# Sample set → {"form": …, "digest": …}, as a run keeps it.
Inputs = dict[str, dict[str, str]]

# Other runs that are looked at: those whose names are most like this one's, which are likely to
# take inputs of the same form.
_COMPARED_RUNS = 50
_MAX_DEPTH = 8
_SCALARS = (str, bytes, int, float, complex, bool, type(None), np.generic)


class InputDigest:
    """Digest of the batches of one sample set; how they are cut makes no difference.

    >>> whole, cut = InputDigest(), InputDigest()
    >>> whole.add({"x": np.arange(6.0)})
    >>> cut.add({"x": np.arange(4.0)}), cut.add({"x": np.arange(4.0, 6.0)})
    (None, None)
    >>> whole.noted() == cut.noted()
    True
    """

    def __init__(self) -> None:
        self._parts: dict[str, _Part] = {}

    def add(self, batch: Any) -> None:
        """Take the next batch: arrays, tensors, numbers and text, in containers of any kind."""
        for place, values in _leaves(batch, "batch", 0):
            self._parts.setdefault(place, _Part()).add(values)

    def noted(self) -> dict[str, str]:
        """What a run keeps: the form of a sample, and the digest of all of them."""
        forms = [f"{place} {part.form}" for place, part in sorted(self._parts.items())]
        digests = [part.digest for _, part in sorted(self._parts.items())]
        return {"form": _hex(forms)[:16], "digest": _hex([*forms, *digests])}

    def difference(self, other: "InputDigest") -> str | None:
        """The first part of the batches that differs in `other`; None if they are the same."""
        for place in sorted(self._parts.keys() | other._parts.keys()):
            one, two = self._parts.get(place), other._parts.get(place)
            if one is None or two is None or (one.form, one.digest) != (two.form, two.digest):
                return place
        return None


class _Part:
    """One array of the batches, or one list of scalars, strung together."""

    def __init__(self) -> None:
        self._content, self._shapes = hashlib.sha256(), hashlib.sha256()
        self._of_samples: set[str] = set()

    def add(self, values: NDArray[Any]) -> None:
        self._of_samples.add(f"{values.dtype.str}{list(values.shape[1:])}")
        self._shapes.update(f"{values.shape}|".encode())
        if values.dtype.kind == "O":
            self._content.update("".join(f"{value!r}|" for value in values.flat).encode())
        else:
            flat = np.ascontiguousarray(values).reshape(-1)
            self._content.update(flat.view(np.uint8).data)

    @property
    def form(self) -> str:
        """Type and shape of a sample; where samples differ in shape, the shapes of all batches."""
        one = self._of_samples
        return next(iter(one)) if len(one) == 1 else f"ragged {self._shapes.hexdigest()}"

    @property
    def digest(self) -> str:
        return self._content.hexdigest()


def _leaves(value: Any, place: str, depth: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays in a batch, each with its place; what holds neither data nor attributes is named
    by its type.
    """
    array = _as_array(value)
    if array is not None:
        yield place, np.atleast_1d(array)
        return
    if depth < _MAX_DEPTH:
        for name, inner in _children(value):
            yield from _leaves(inner, f"{place}[{name}]", depth + 1)
        return
    yield place, np.array([type(value).__name__], dtype=object)


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return sorted(value.items(), key=lambda item: str(item[0]))
    if isinstance(value, list | tuple):
        return enumerate(value)
    if hasattr(value, "columns") and hasattr(value, "dtypes"):  # a table of pandas
        return ((f"{name!r} {k}", value.iloc[:, k]) for k, name in enumerate(value.columns))
    if hasattr(value, "tocsr"):
        rows = value.tocsr()
        return (("data", rows.data), ("indices", rows.indices), ("indptr", rows.indptr))
    return sorted(getattr(value, "__dict__", {"type": type(value).__name__}).items())


def _as_array(value: Any) -> NDArray[Any] | None:
    """`value` as one array of numbers or scalars; None if it is a container, or neither."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        plain = plain.contiguous() if plain.layout == torch.strided else plain.to_dense()
        if plain.dtype == torch.bfloat16:  # which NumPy does not know
            plain = plain.view(torch.int16)
        return np.asarray(plain.numpy())
    if isinstance(value, _SCALARS):
        return np.array([value], dtype=object)
    if isinstance(value, list | tuple):
        scalars = len(value) > 0 and all(isinstance(one, _SCALARS) for one in value)
        return _objects(value) if scalars else None
    if hasattr(value, "__array__") and not hasattr(value, "columns"):
        return np.asarray(value)
    return None


def _objects(values: Any) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def _hex(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_against(runs: Path, run: str, own: Inputs, inputs: Inputs) -> None:
    """Compare the inputs of a run with those that it, or another of the ensemble, has noted.

    Parameters
    ----------
    runs : the ensemble's folder of runs
    run : the run's id
    own : what it noted when it was begun; empty for a new run
    inputs : what it is recorded on now

    Raises
    ------
    InputError
        If a sample set comes in the same form with other content.
    """
    for name, found in inputs.items():
        for other, noted in [(run, own)] if name in own else _noted_by_others(runs, run):
            before = noted.get(name) if isinstance(noted, Mapping) else None
            if not isinstance(before, Mapping) or before.get("form") != found["form"]:
                continue
            if before.get("digest") != found["digest"]:
                raise InputError(
                    f"Run {run!r} is shown other inputs in sample set {name!r} than run {other!r} "
                    "was, although the labels are the same: other samples, another order or "
                    "another preparation. Record every run on the same inputs; where they differ "
                    "on purpose (another normalisation), pass check_inputs=False "
                    "(--no-check-inputs)."
                )
            break


def _noted_by_others(runs: Path, run: str) -> Iterator[tuple[str, Inputs]]:
    """What the runs most like this one by name have noted; those that cannot be read are not asked.

    A run that is damaged is no reason not to record another; `check` names it.
    """
    names = [entry.name.removesuffix(SUFFIX) for entry in runs.glob(f"*{SUFFIX}")]
    names.sort(key=lambda name: (-_begin_alike(name, run), name))
    for name in [name for name in names if name != run][:_COMPARED_RUNS]:
        try:
            yield name, Run(runs / f"{name}{SUFFIX}").inputs
        except (InputError, DamagedStoreError):  # being recorded, deleted meanwhile, or damaged
            continue


def _begin_alike(one: str, other: str) -> int:
    """With how many characters both texts begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))
