"""What a container says of its numbers, and an array would drop: masks, missing entries, names.

Every array that a caller passes goes through `plain_array`: NumPy's own conversion forgets a mask,
turns missing integers into floats, and takes the rows and columns of a table by position, whatever
they are called.
"""

import errno
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InpcaError, InputError
from inpca.units import count

# What the last axes of predictions, and of labels, are; in a table that names them, the names must
# be the positions.
PREDICTIONS = ("sample", "class")
LABELS = ("sample",)
Axes = tuple[str, ...]
# Characters of a path that a message shows.
_LONGEST_SHOWN = 80
Names: TypeAlias = "Sequence[Hashable] | pd.Index[Any]"


def plain_array(values: ArrayLike, name: str, axes: Axes = ()) -> NDArray[Any]:
    """`values` as an array that says all that its container says; shared where it is one already.

    Parameters
    ----------
    values : an array, a table or series of pandas, a `DataArray` of xarray, anything that NumPy
        can convert, or a list of these
    name : the argument's name, for messages
    axes : what the last axes are, such as ``("sample", "class")``, where their order has a meaning:
        a table that names them must name them 0, 1, 2, …

    Returns
    -------
    array of numbers, text or dates; never of objects, never a masked array

    Raises
    ------
    InputError
        For masked or missing entries, names that are not the positions, entries that are not
        numbers of one kind, and what NumPy cannot convert.

    Examples
    --------
    >>> plain_array(np.ma.array([1, 2], mask=[False, False]), "labels")
    array([1, 2])
    >>> plain_array(pd.Series([1, None], dtype="Int64"), "labels")
    Traceback (most recent call last):
    inpca.errors.InputError: `labels` has 1 missing entry, the first at 1; fill it, or leave it out.
    """
    if type(values) is np.ndarray and values.dtype != object:
        return values
    if isinstance(values, list | tuple):
        _check_parts(values, name, axes)
    _check_names(values, name, axes)
    array = _converted(values, name)
    if isinstance(array, np.ma.MaskedArray):
        _refuse_entries(np.ma.getmaskarray(array), name, "masked")
        array = array.data
    if array.dtype == object:
        array = _without_objects(array, name)
    return np.asarray(array)


def real_numbers(values: ArrayLike, name: str, axes: Axes = ()) -> NDArray[np.float64]:
    """`values` as float64 of any shape.

    Raises
    ------
    InputError
        For text, dates, complex numbers, masked or missing ones, rows of different lengths, or
        anything else that is no number; see `plain_array`, also for `axes`.
    """
    array = plain_array(values, name, axes)
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{name}` must be real numbers, not {array.dtype}.")
    return array.astype(np.float64, copy=False)


def usable_path(path: str | os.PathLike[str], name: str = "path") -> Path:
    """`path`, if the system can have such a one; whether there is something is another matter.

    Raises
    ------
    InputError
        For what is no path, characters that no name can have, and names that are too long.

    Examples
    --------
    >>> usable_path("my.ensemble").suffix
    '.ensemble'
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise InputError(f"`{name}` must be a path (text or Path), not {path!r}.")
    text = os.fspath(path)
    try:
        encoded = os.fsencode(text)
        why = "it has a NUL character" if b"\0" in encoded else "" if text else "it is empty"
        if not why:
            os.lstat(encoded)
    except UnicodeEncodeError:
        why = "its encoding lacks a character"
    except OSError as error:
        why = "it is too long" if error.errno == errno.ENAMETOOLONG else ""
    if why:
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
        raise InputError(
            f"`{name}` must be a path that the system can have, not {shown!r} ({why}); choose "
            "another name."
        )
    return Path(path)


def _check_parts(values: Sequence[Any], name: str, axes: Axes) -> None:
    """Refuse in a list what is refused outside one."""
    for one in values:
        if isinstance(one, list | tuple):
            _check_parts(one, name, axes)
        elif not isinstance(one, float | int | str | np.generic):
            plain_array(one, name, axes)


def _converted(values: Any, name: str) -> Any:
    """`values` as an array, or a masked one."""
    try:
        if isinstance(values, pd.DataFrame):
            if any(isinstance(dtype, np.dtype) for dtype in values.dtypes) or values.empty:
                return values.to_numpy()
            return np.column_stack(
                [_column(values.iloc[:, k], name) for k in range(values.shape[1])]
            )
        if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
            return _column(pd.Series(values), name)
        return np.asanyarray(values)
    except InpcaError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InputError(
            f"`{name}` cannot be turned into an array of numbers ({error}); pass a NumPy array."
        ) from error


def _column(values: "pd.Series[Any]", name: str) -> NDArray[Any]:
    # NaN is a number of a plain column, but a missing entry where the column can say so.
    if not isinstance(values.dtype, np.dtype):
        _refuse_entries(values.isna().to_numpy(bool), name, "missing")
    return np.asarray(values.to_numpy())


def _without_objects(array: NDArray[Any], name: str) -> NDArray[Any]:
    """An array of Python's numbers as one of NumPy's."""
    _refuse_entries(np.asarray(pd.isna(array)), name, "missing")
    try:
        plain = np.array(array.tolist())
    except (ValueError, OverflowError):
        plain = array
    if plain.dtype == object or plain.shape != array.shape:
        kind = type(array.flat[0]).__name__ if array.size else "nothing"
        raise InputError(
            f"`{name}` must be an array of numbers of one kind, not of Python objects ({kind} "
            "first); convert it to a NumPy array of integers or floats."
        )
    return plain


def refuse_masked(values: Any, name: str) -> None:
    """Refuse masked entries of an argument that is no plain array, or of a list of arrays.

    A masked array in which nothing is masked is as good as any other.

    Raises
    ------
    InputError
        Naming the first.
    """
    parts = values if isinstance(values, list | tuple) else [values]
    for part in parts:
        if isinstance(part, np.ma.MaskedArray):
            _refuse_entries(np.ma.getmaskarray(part), name, "masked")


def _refuse_entries(bad: NDArray[np.bool_], name: str, what: str) -> None:
    if not bad.any():
        return
    first = [int(number) for number in np.argwhere(bad)[0]]
    n_bad = int(bad.sum())
    entries = f"{n_bad:,} {what} {'entry' if n_bad == 1 else 'entries'}"
    where = f", the first at {first[0] if len(first) == 1 else tuple(first)}" if first else ""
    it = "it" if n_bad == 1 else "them"
    raise InputError(f"`{name}` has {entries}{where}; fill {it}, or leave {it} out.")


# -- names ----------------------------------------------------------------------------------------


def _check_names(values: Any, name: str, axes: Axes) -> None:
    """Refuse named axes whose names are not their positions."""
    for axis, names in zip(reversed(axes), reversed(_named_axes(values, name, axes))):
        wrong = _first_out_of_place(names)
        if wrong is not None:
            shown = ", ".join(repr(one) for one in names[:3])
            raise InputError(
                f"`{name}` names its {_PLURAL[axis]} {shown}{', …' if len(names) > 3 else ''}, but "
                f"they are taken by position, 0, 1, 2, …, and {names[wrong]!r} is at {wrong}; put "
                f"them in order, then pass `{name}.to_numpy()`."
            )


_PLURAL = {"sample": "samples", "class": "classes"}


def _named_axes(values: Any, name: str, axes: Axes) -> "list[Names]":
    """Names along each axis of a table; empty ones where an axis has none, or no table."""
    if isinstance(values, pd.DataFrame):
        return [values.index, values.columns] if len(axes) == 2 else []
    if isinstance(values, pd.Series):
        return [values.index]
    if hasattr(values, "dims") and hasattr(values, "indexes"):  # xarray
        _check_dimensions(values, name, axes)
        return [values.indexes.get(dim, ()) for dim in values.dims]
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):  # another kind of table
        return [(), list(values.columns)]
    return []


def _check_dimensions(values: Any, name: str, axes: Axes) -> None:
    for place, axis in enumerate(axes, start=-len(axes)):
        if axis in values.dims and (len(values.dims) < -place or values.dims[place] != axis):
            raise InputError(
                f"`{name}` must have the dimensions (…, {', '.join(axes)}), not "
                f"{tuple(values.dims)}; pass {name}.transpose(…, {', '.join(map(repr, axes))})."
            )


def _first_out_of_place(names: "Names") -> int | None:
    """The first of `names` that is not its position, as a number or as text."""
    if isinstance(names, pd.RangeIndex) and names.equals(pd.RangeIndex(len(names))):
        return None
    for place, one in enumerate(names):
        if isinstance(one, bool) or (one != place and one != str(place)):
            return place
    return None


def in_order_of(values: ArrayLike, keys: "Names | None", name: str) -> ArrayLike:
    """One value per model, in the order of `keys`: a series that names its models is aligned.

    Parameters
    ----------
    values : one value per model; a pandas series may name them in any order
    keys : of the models; None: they have none, and only a series that numbers them in another order
        is refused
    name : the argument's name, for messages

    Raises
    ------
    InputError
        If a series names other models, or one twice.

    Examples
    --------
    >>> in_order_of(pd.Series([1.0, 2.0], index=["b", "a"]), ["a", "b"], "weights").tolist()
    [2.0, 1.0]
    """
    if not isinstance(values, pd.Series) or _first_out_of_place(values.index) is None:
        return values
    if keys is None:
        shuffled = sorted(map(str, values.index)) == sorted(map(str, range(len(values))))
        if not shuffled:
            return values
    known = pd.Index([] if keys is None else list(keys))
    if (
        not values.index.is_unique
        or len(values) != len(known)
        or not known.isin(values.index).all()
    ):
        named = f"{values.index[0]!r} first" if len(values) else "none"
        raise InputError(
            f"`{name}` names {count(len(values), 'model')}, {named}, which are not the "
            f"{len(known):,} models"
            f"{f', {known[0]!r} first' if len(known) else ' by name'}; name each of these once, or "
            f"pass `{name}.to_numpy()` in their order."
        )
    return values.reindex(known)


def _index_of(values: Any) -> "pd.Index[Any] | None":
    if isinstance(values, pd.Index):
        return values
    return values.index if isinstance(values, pd.Series | pd.DataFrame) else None


def same_names(first: Any, second: Any, names: tuple[str, str]) -> None:
    """Refuse two series or tables that name their entries, and not in the same order.

    Raises
    ------
    InputError
        With the first entry that differs.
    """
    one, other = _index_of(first), _index_of(second)
    if one is None or other is None or len(one) != len(other) or one.equals(other):
        return
    by_position = None in (_first_out_of_place(one), _first_out_of_place(other))
    if by_position and not one.isin(other).all():
        return  # one has no names
    place = next(k for k, pair in enumerate(zip(one, other)) if pair[0] != pair[1])
    raise InputError(
        f"`{names[0]}` and `{names[1]}` must name the same entries in the same order, but entry "
        f"{place} is {one[place]!r} in one and {other[place]!r} in the other; reindex one of them."
    )
