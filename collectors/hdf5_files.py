"""HDF5 files from strangers: only numbers that lie in the file itself, all of them written.

A dataset may point into other files (external storage, links, virtual datasets) and may announce
any size without a byte behind it. Both are refused by name before anything is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from inpca.errors import InputError, MissingExtraError
from inpca.opening import check_fits, reading, regular_file
from inpca.units import format_bytes

HDF5 = (".h5", ".hdf5")


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """An HDF5 file, open for reading.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Reading {path} needs h5py, which is not installed: pip install 'inpca[hdf5]'."
        ) from error
    regular_file(path)
    with reading(path):
        file = h5py.File(path, "r")
    with file:
        yield file


def datasets(file: Any, path: Path) -> dict[str, Any]:
    """Every dataset of an open HDF5 file by its path.

    Raises
    ------
    InputError
        If there is a link; if a dataset does not hold its numbers, see `check_dataset`.
    """
    import h5py

    # Nothing is raised within the visits: h5py loses it. A value other than None ends one.
    link = file.visititems_links(lambda name, to: None if isinstance(to, h5py.HardLink) else name)
    if link is not None:
        _refuse_link(link, path)
    found: dict[str, Any] = {}
    file.visititems(lambda name, item: found.update({name: item}))
    return {
        name: check_dataset(item, name, path)
        for name, item in found.items()
        if isinstance(item, h5py.Dataset)
    }


def dataset_called(file: Any, name: str, path: Path) -> Any | None:
    """The dataset at `name`; None if there is none.

    Raises
    ------
    InputError
        If there is a link on the way to it; if it does not hold its numbers.
    """
    import h5py

    item = file
    for part in [part for part in name.split("/") if part not in ("", ".")]:
        link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            _refuse_link(name, path)
        item = item[part]
    return check_dataset(item, name, path) if isinstance(item, h5py.Dataset) else None


def check_dataset(dataset: Any, name: str, path: Path) -> Any:
    """`dataset`, if its numbers lie in the file and are all written.

    Raises
    ------
    InputError
        If it has its numbers in other files, has parts that were never written, or comes in chunks
        that do not fit into memory.
    """
    what = f"The dataset {name!r} of {path}"
    if dataset.external or dataset.is_virtual:
        raise InputError(
            f"{what} has its numbers in other files, which are not read; copy them into this one."
        )
    if not dataset.shape:  # None: no numbers; (): one
        return dataset
    announced = prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.chunks is None:
        if dataset.id.get_storage_size() < announced:
            _refuse_unwritten(what, announced, dataset.id.get_storage_size())
        return dataset
    n_chunks = prod(-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks))
    # One lookup in the file's index; a chunk that was never written is read as its fill value.
    if dataset.id.get_num_chunks() < n_chunks:
        _refuse_unwritten(what, announced, dataset.id.get_storage_size())
    chunk = prod(dataset.chunks) * dataset.dtype.itemsize
    check_fits(chunk, f"A chunk of {what[0].lower()}{what[1:]}", "write it in smaller chunks")
    return dataset


def _refuse_link(name: str, path: Path) -> NoReturn:
    raise InputError(
        f"{path} has a link at {name!r}, which may lead in circles or into another file; copy the "
        "dataset that it means there."
    )


def _refuse_unwritten(what: str, announced: int, stored: int) -> None:
    raise InputError(
        f"{what} announces {format_bytes(announced)} but {format_bytes(stored)} are stored, so "
        "parts of it were never written; write all of it."
    )
