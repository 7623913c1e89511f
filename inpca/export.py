"""Results in other people's formats: CSV, npz, HDF5."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.backend import available_memory
from inpca.csv_files import write_csv
from inpca.distance.sinks import require_tiles
from inpca.durable import replacing
from inpca.errors import InputError, ResourceError
from inpca.store.embedding import read_embedding
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.store.settings import beyond_float64
from inpca.units import format_bytes

Arrays = dict[str, NDArray[Any]]
_FORMATS = (".csv", ".npz", ".h5", ".hdf5")


def export(ensemble: Ensemble, what: str, output: Path, *, name: str = "train") -> Path:
    """Write the models table, a distance matrix or an embedding to one file.

    Parameters
    ----------
    what : ``"models"``, ``"distances"`` or ``"embedding"``
    output : the file; its ending chooses the format: ``.csv``, ``.npz``, ``.h5`` / ``.hdf5``.
        HDF5 is the one that a matrix larger than memory can be written to.
    name : which distances or embedding of the ensemble

    Raises
    ------
    InputError
        For an unknown `what` or ending, a folder that does not exist, a file that does.
    ResourceError
        If npz or CSV is asked for a matrix that does not fit in memory.
    """
    _check_output(output)
    if what == "models":
        _write_columns(output, ensemble.models)
    elif what == "distances":
        matrix = TiledMatrix.open(ensemble.distances_path(name))
        require_tiles(matrix, matrix.missing(), matrix.grid.n_tiles)
        _write_matrix(output, matrix)
    elif what == "embedding":
        _write_embedding(output, *read_embedding(ensemble.embeddings_path(name))[:2])
    else:
        raise InputError(f"`what` must be models, distances or embedding, not {what!r}.")
    return output


def _check_output(output: Path) -> None:
    if output.suffix not in _FORMATS:
        raise InputError(f"`output` must end in {', '.join(_FORMATS)}, not {output.name!r}.")
    if not output.parent.is_dir():
        raise InputError(f"`output` is in a folder that does not exist: {output.parent}.")
    if output.exists():
        raise InputError(f"`output` exists already: {output}; remove it or name another file.")


def _columns(table: pd.DataFrame) -> Arrays:
    """Each column of a models table as an array that npz and HDF5 can hold."""
    columns: Arrays = {"model": np.asarray(table.index.astype(str), dtype=np.str_)}
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column) and not column.hasnans:
            columns[str(name)] = column.to_numpy()
        elif pd.api.types.is_numeric_dtype(column) and not beyond_float64(column):
            columns[str(name)] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            texts = column.astype(object).where(column.notna(), "")
            columns[str(name)] = texts.astype(str).to_numpy(dtype=np.str_)
    return columns


def _write_columns(output: Path, table: pd.DataFrame) -> None:
    if output.suffix == ".csv":
        write_csv(table, output)
    else:
        _write_arrays(output, _columns(table))


def _write_embedding(output: Path, arrays: Arrays, models: pd.DataFrame | None) -> None:
    if output.suffix != ".csv":
        _write_arrays(output, arrays | ({} if models is None else _columns(models)))
        return
    coordinates = arrays["coordinates"]
    signs = np.where(np.asarray(arrays["signature"]) > 0, "+", "-")
    names = [f"x{k + 1}{sign}" for k, sign in enumerate(signs)]
    index = None if models is None else models.index
    table = pd.DataFrame(coordinates, columns=names, index=index)
    table = table if models is None else pd.concat([models, table], axis=1)
    write_csv(table, output, index_label="model")


def _write_matrix(output: Path, matrix: TiledMatrix) -> None:
    if output.suffix in (".h5", ".hdf5"):
        _write_matrix_hdf5(output, matrix)
        return
    needed, free = 2 * matrix.shape[0] ** 2 * 4, available_memory()
    if needed > free:
        raise ResourceError(
            f"A matrix of {matrix.shape[0]} models needs {format_bytes(needed)} to go into "
            f"{output.suffix} but {format_bytes(free)} are free; export it to .h5, which streams."
        )
    dense = matrix.to_array()
    if output.suffix == ".npz":
        _write_arrays(output, {"distance": dense} | _matrix_columns(matrix))
    else:
        names = None if matrix.models is None else matrix.models.index
        write_csv(pd.DataFrame(dense, index=names, columns=names), output, index_label="model")


def _matrix_columns(matrix: TiledMatrix) -> Arrays:
    return {} if matrix.models is None else _columns(matrix.models)


def _write_matrix_hdf5(output: Path, matrix: TiledMatrix) -> None:
    with _new_hdf5(output) as (file, unfailing):
        dataset = file.create_dataset("distance", shape=matrix.shape, dtype=np.float32)
        for rows in _bands(matrix):
            dataset[rows] = matrix.rows(rows)
            unfailing.check()  # a full disk, before the rest is read for nothing
        _fill(file, _matrix_columns(matrix))


def _bands(matrix: TiledMatrix) -> Iterator[slice]:
    return (matrix.grid.band(index) for index in range(matrix.grid.n_bands))


def _write_arrays(output: Path, arrays: Arrays) -> None:
    if output.suffix == ".npz":
        with replacing(output) as partial:
            np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    else:
        with _new_hdf5(output) as (file, _):
            _fill(file, arrays)


def _fill(file: Any, arrays: Arrays) -> None:
    for name, values in arrays.items():
        # HDF5 has no fixed-width unicode: text goes in as variable-length UTF-8.
        try:
            file[name] = values.astype(object) if values.dtype.kind == "U" else values
        except ValueError as error:
            raise InputError(
                f"HDF5 cannot hold the column {name!r} ({error}); export it to .npz or .csv."
            ) from error


@contextmanager
def _new_hdf5(output: Path) -> Iterator[tuple[Any, "_Unfailing"]]:
    """An HDF5 file to fill, which is there when it is whole, and what it is written to."""
    h5py = _hdf5()
    with replacing(output) as partial, open(partial, "r+b", buffering=0) as raw:
        unfailing = _Unfailing(raw)
        with h5py.File(unfailing, "w") as file:
            yield file, unfailing
        unfailing.check()


class _Unfailing:
    """A file for HDF5 that lets every write succeed, and tells later which did not.

    HDF5 cannot close a file that it could not write to: it repeats the write, and then crashes the
    process. So it is not told; `check` raises the first error.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self.seek, self.tell, self.read = raw.seek, raw.tell, raw.read

    def check(self) -> None:
        """Raise the first error of a write."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of `data`; after an error nothing more is written."""
        left = memoryview(data).cast("B")
        try:
            while len(left) and self._error is None:
                left = left[self._raw.write(left) :]
        except OSError as error:
            self._error = error
        return len(data)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, with zeros where nothing could be written."""
        view = memoryview(buffer).cast("B")
        n_read: int = self._raw.readinto(view)  # type: ignore[attr-defined]
        view[n_read:] = bytes(len(view) - n_read)
        return len(view)

    def flush(self) -> None:
        """Nothing is kept back."""

    def truncate(self, size: int) -> int:
        """Cut or lengthen the file."""
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size


def _hdf5() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            "Writing HDF5 needs h5py, which is not installed: pip install 'inpca[hdf5]'."
        ) from error
    return h5py
