"""Import of distance matrices that other programs saved, as a `TiledMatrix`.

A file holds D, one number for each pair of models: HDF5 (dataset ``w`` by default, the name in the
paper's archive) or ``.npy``. The paper's own ``w`` is D, the distances before they are centred,
although its name is that of the centred W: its code centres ``w`` after reading it. Which of the
two a file holds is looked at and not believed: rows of W sum to zero, rows of D cannot.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from collectors.hdf5_files import HDF5, dataset_called, open_hdf5
from inpca.distance.sinks import FINISHED, FLOORED, is_finished
from inpca.errors import InputError, ResourceError
from inpca.opening import open_npy, reading, regular_file
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.matrix import TiledMatrix
from inpca.tiling import Tile, TileGrid
from inpca.units import format_bytes

PathLike = str | os.PathLike[str]
Floats = NDArray[np.float64]
# A value, and the two models that it is of.
Entry = tuple[float, tuple[int, int]]

# Of the largest mean of a row: how far rounding may go, by the bytes of a number.
_TOLERANCE = {2: 2e-3, 4: 1e-4, 8: 1e-4}
# Rows of W sum to zero but for rounding; rows of D to their mean times m.
_CENTRED = 1e-2


@dataclass(frozen=True)
class _Content:
    """What one pass over a file tells.

    Attributes
    ----------
    grid : how it is cut
    diagonal : (m,)
    fingerprint : of all its numbers
    """

    grid: TileGrid
    diagonal: Floats
    fingerprint: str


def import_distances(
    file: PathLike,
    out: PathLike,
    *,
    dataset: str = "w",
    models: pd.DataFrame | None = None,
    centred: bool = False,
    metric: str = "bhattacharyya",
    sample_set: str | None = None,
    tile_size: int = 1024,
    restart: bool = False,
    progress: ProgressArgument = None,
) -> TiledMatrix:
    """Import the distances in `file` as a matrix of tiles, which `InPCA` embeds.

    Read twice, tile by tile: the first time everything is checked and nothing written. Where the
    two halves differ by rounding their mean is stored, and the diagonal, which is rounding alone,
    is taken out: D_uv − (D_uu + D_vv)/2. A call that was killed is made again and writes the tiles
    that are missing. Memory: three tiles, 24·tile_size² bytes.

    Parameters
    ----------
    file : ``.h5``, ``.hdf5`` or ``.npy``, a square matrix
    out : folder of the matrix, by habit ``….zarr``
    dataset : name of the matrix in an HDF5 file
    models : models table, one row for each row of the matrix, kept with it
    centred : the file holds W = −½ L D L; D_uv = W_uu + W_vv − 2 W_uv is stored
    metric, sample_set : what the distances are; kept with the matrix
    tile_size : rows of a tile
    restart : replace a matrix that is there
    progress : None, True for a bar on standard error, or a callable (done, total, text)

    Returns
    -------
    the matrix; ``matrix.to_array()`` is D as one array

    Raises
    ------
    InputError
        If the file cannot be read, is not square or symmetric, has NaN, infinite or negative
        entries, or a diagonal that is not zero; if it is W and not D (or D, with `centred`); if
        models that it says are the same are at different distances to others, as in a matrix with
        blocks that were never filled; if `out` is another matrix.
    ResourceError
        If the disk has not the space.
    """
    path, out = Path(file), Path(out)
    with _open_square(path, dataset) as array, reporting(progress, f"import {path.name}") as report:
        content = _survey(array, TileGrid(len(array), tile_size), centred, path, report)
        matrix = _target(content, out, path, models, restart, metric, sample_set)
        with matrix.lock():
            _write_missing(matrix, array, content, centred, report)
    return matrix


# --- reading ---------------------------------------------------------------------------------


@contextmanager
def _open_square(path: Path, dataset: str) -> Iterator[Any]:
    """The matrix in a file, on disk until some of it is asked for."""
    regular_file(path)
    if path.suffix == ".npy":
        yield _check_square(open_npy(path), str(path))
    elif path.suffix in HDF5:
        with open_hdf5(path) as file:
            with reading(path):
                array = dataset_called(file, dataset, path)
                if array is None:
                    raise InputError(
                        f"{path} has no dataset {dataset!r}; it holds "
                        f"{', '.join(sorted(file)) or 'nothing'}; say which with dataset=…."
                    )
                square = _check_square(array, f"{dataset!r} of {path}")
            yield square
    else:
        raise InputError(f"{path} must end in .h5, .hdf5 or .npy to be imported as distances.")


def _check_square(array: Any, what: str) -> Any:
    shape = array.shape or ()  # an HDF5 dataset of no numbers has none
    square = len(shape) == 2 and shape[0] == shape[1] >= 2
    if not square or array.dtype.kind != "f" or array.dtype.itemsize not in _TOLERANCE:
        raise InputError(
            f"{what} must be a square matrix of real numbers, one row for each of at least 2 "
            f"models, not {array.dtype} of shape {array.shape}."
        )
    return array


def _both_halves(array: Any, grid: TileGrid, tile: Tile, path: Path) -> tuple[Any, Any]:
    """The entries of a tile, and those mirrored in the diagonal: (rows, columns) of each."""
    rows, columns = grid.band(tile[0]), grid.band(tile[1])
    with reading(path):
        upper = np.asarray(array[rows, columns])
        lower = upper.T if tile[0] == tile[1] else np.asarray(array[columns, rows]).T
    return upper, lower


# --- the first pass --------------------------------------------------------------------------


def _survey(array: Any, grid: TileGrid, centred: bool, path: Path, report: Report) -> _Content:
    """Look at every number once; refuse what are no distances (or, with `centred`, no W)."""
    digest = hashlib.sha256(f"{grid} {centred}".encode())
    diagonal = np.empty(grid.n_models)
    sums, sizes = np.zeros(grid.n_models), np.zeros(grid.n_models)
    lowest, asymmetry = (0.0, (0, 0)), (0.0, (0, 0))
    for done, (i, j) in enumerate(grid.tiles()):
        report(done, 2 * grid.n_tiles, "checking")
        upper, lower = _both_halves(array, grid, (i, j), path)
        _check_finite(upper, grid, (i, j), path)
        _check_finite(lower, grid, (i, j), path)
        digest.update(np.ascontiguousarray(upper))
        digest.update(np.ascontiguousarray(lower))
        a, b = upper.astype(np.float64), lower.astype(np.float64)
        for band, values in ((i, a), *(((j, b.T),) if i != j else ())):
            sums[grid.band(band)] += values.sum(axis=1)
            sizes[grid.band(band)] += np.abs(values).sum(axis=1)
        if i == j:
            diagonal[grid.band(i)] = a.diagonal()
        lowest = min(lowest, _first_of(a, grid, (i, j), a.argmin()))
        asymmetry = max(asymmetry, _first_of(np.abs(a - b), grid, (i, j), np.abs(a - b).argmax()))
        _check_filled(array, a, grid, (i, j), path)
    tolerance = _TOLERANCE[array.dtype.itemsize] * float(sizes.max()) / grid.n_models
    _check_symmetric(asymmetry, tolerance, path)
    is_centred = bool(sizes.any() and (np.abs(sums) <= _CENTRED * sizes).all())
    _check_which(centred, is_centred, path)
    if not centred:
        _check_distances(lowest, diagonal, tolerance, path)
    return _Content(grid, diagonal, digest.hexdigest())


def _first_of(values: Floats, grid: TileGrid, tile: Tile, flat: np.intp) -> Entry:
    """An entry of a tile, and the pair of models that it is of."""
    row, column = np.unravel_index(flat, values.shape)
    pair = grid.band(tile[0]).start + int(row), grid.band(tile[1]).start + int(column)
    return float(values[row, column]), pair


def _check_finite(values: Any, grid: TileGrid, tile: Tile, path: Path) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        value, (u, v) = _first_of(values, grid, tile, bad.argmax())
        raise InputError(
            f"{path} has NaN or infinite entries, the first between models {u} and {v} ({value}); "
            "leave out the models that diverged."
        )


def _check_filled(array: Any, values: Floats, grid: TileGrid, tile: Tile, path: Path) -> None:
    """Refuse zeros that stand for nothing: models at distance 0 are alike to all others, too."""
    off_diagonal = values == 0
    if tile[0] == tile[1]:
        np.fill_diagonal(off_diagonal, False)
    if not off_diagonal.any():
        return
    _, (u, v) = _first_of(values, grid, tile, off_diagonal.argmax())
    with reading(path):
        one, other = np.asarray(array[u], np.float64), np.asarray(array[v], np.float64)
    one, other = np.delete(one, (u, v)), np.delete(other, (u, v))
    apart = float(np.abs(one - other).max(initial=0.0))
    if apart > 1e-2 * max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0))):
        raise InputError(
            f"{path} says that models {u} and {v} are at distance 0, but their distances to "
            f"another model differ by {apart:.3g}: a block that was never filled; complete the "
            "matrix, or leave out its models."
        )


def _check_symmetric(
    asymmetry: tuple[float, tuple[int, int]], tolerance: float, path: Path
) -> None:
    value, (u, v) = asymmetry
    if value > tolerance:
        raise InputError(
            f"{path} is not symmetric: the distances from model {u} to {v} and back differ by "
            f"{value:.3g}, more than rounding ({tolerance:.1g}); symmetrise the divergence."
        )


def _check_which(centred: bool, is_centred: bool, path: Path) -> None:
    if is_centred and not centred:
        raise InputError(
            f"{path} holds the centred W, not distances D: its rows sum to zero; pass centred=True "
            "(--centred), which turns W back into D."
        )
    if centred and not is_centred:
        raise InputError(
            f"{path} does not hold the centred W: its rows do not sum to zero; leave centred "
            "(--centred) out if it holds distances."
        )


def _check_distances(lowest: Entry, diagonal: Floats, tolerance: float, path: Path) -> None:
    value, (u, v) = lowest
    if value < -tolerance:
        raise InputError(
            f"{path} has a negative entry, {value:.3g} between models {u} and {v}, more than "
            "rounding; distances are at least 0."
        )
    worst = int(np.abs(diagonal).argmax())
    if abs(diagonal[worst]) > tolerance:
        raise InputError(
            f"{path} has {diagonal[worst]:.3g} between model {worst} and itself, more than "
            f"rounding ({tolerance:.1g}); the diagonal of a matrix of distances is 0."
        )


# --- the second pass -------------------------------------------------------------------------


def _target(
    content: _Content,
    out: Path,
    path: Path,
    models: pd.DataFrame | None,
    restart: bool,
    metric: str,
    sample_set: str | None,
) -> TiledMatrix:
    """The matrix to write: a new one, or that of a former call."""
    grid = content.grid
    if out.exists() and not restart:
        matrix = TiledMatrix.open(out)
        if matrix.fingerprint != content.fingerprint:
            raise InputError(
                f"`out` {out} exists already and is of other distances than {path}, or other "
                "tiles; name another place, or replace it with restart=True (--restart)."
            )
        return matrix
    _check_disk(grid, out)
    attrs: dict[str, Any] = {"metric": metric, "unit": "nat", "sample_set": sample_set}
    return TiledMatrix.create(
        out,
        n_models=grid.n_models,
        tile_size=grid.tile_size,
        fingerprint=content.fingerprint,
        models=models,
        attrs=attrs | {"source": path.name, FLOORED: None, FINISHED: False},
        overwrite=restart,
    )


def _check_disk(grid: TileGrid, out: Path) -> None:
    needed = grid.n_tiles * (4 * grid.tile_size**2 + 4)
    place = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ResourceError(
            f"The matrix of {grid.n_models:,} models needs {format_bytes(needed)} but {place} has "
            f"{format_bytes(free)} free; name a place on another disk."
        )


def _write_missing(
    matrix: TiledMatrix, array: Any, content: _Content, centred: bool, report: Report
) -> None:
    missing = matrix.missing()
    path = Path(str(matrix.attrs["source"]))
    for done, tile in enumerate(missing, start=2 * content.grid.n_tiles - len(missing)):
        report(done, 2 * content.grid.n_tiles, "writing")
        upper, lower = _both_halves(array, content.grid, tile, path)
        mean = (upper.astype(np.float64) + lower.astype(np.float64)) / 2
        matrix.write_tile(tile, _as_distances(mean, content, tile, centred))
    report(2 * content.grid.n_tiles, 2 * content.grid.n_tiles, "")
    if not is_finished(matrix):
        matrix.update_attrs({FINISHED: True})


def _as_distances(values: Floats, content: _Content, tile: Tile, centred: bool) -> Floats:
    u = content.diagonal[content.grid.band(tile[0])][:, None]
    v = content.diagonal[content.grid.band(tile[1])][None]
    return u + v - 2 * values if centred else values - (u + v) / 2
