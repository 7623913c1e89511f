"""Distances between trajectories that need no progress: Fréchet, and soft-minimum.

Both are made of a block of D, the distances between the checkpoints of two runs, and work on D in
memory or on disk.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.checks import in_order_of
from inpca.distance.kernels_numba import compiled
from inpca.distance.sinks import require_tiles
from inpca.embedding.labels import named_square
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.matrix import TiledMatrix

Float64 = NDArray[np.float64]
Curve = Literal["frechet", "soft_minimum"]
Symmetry = Literal["min", "mean", "max"]
_ROWS = 1024  # of a matrix in memory at a time


def frechet_distance(D: ArrayLike) -> float:
    """Discrete Fréchet distance of two runs: the shortest leash for two that only go forward.

    F(i, j) = max(D_ij, min(F(i−1, j), F(i−1, j−1), F(i, j−1))), the last entry. It depends on the
    order of the checkpoints, not on when they were taken.

    Parameters
    ----------
    D : (T_u, T_v) distances between the checkpoints of run u and those of run v, in order

    Returns
    -------
    in the unit of D; of a run and itself 0

    Raises
    ------
    InputError
        If D is no table of finite numbers.

    Examples
    --------
    >>> frechet_distance([[0.0, 2.0], [1.0, 0.5]])
    0.5
    """
    block = _check_block(D)
    return float(_frechet(block, np.empty(block.shape[1])))


def soft_minimum_distance(
    D: ArrayLike,
    steps_u: ArrayLike,
    steps_v: ArrayLike,
    *,
    sigma: float = 0.1,
    symmetry: Symmetry = "min",
) -> float:
    """How far the checkpoints of one run are from the nearest part of another.

    The distance of checkpoint i from run v is the mean of D_ij with weights
    w_j exp(−D_ij / 2σ²), w_j the share of v's length at checkpoint j (half of the steps on either
    side); that of run u is the mean over its length; and of u → v and v → u `symmetry` is taken. As
    in the code published with the paper, but for the share of the last checkpoint, left out there.
    The distance of a run and itself is 0 only for σ → 0.

    Parameters
    ----------
    D : (T_u, T_v) distances between the checkpoints
    steps_u, steps_v : (T_u − 1,), (T_v − 1,) lengths of the steps, such as √D of successive
        checkpoints
    sigma : width, in √nats; 0: the nearest checkpoint alone
    symmetry : ``"min"``, ``"mean"`` or ``"max"`` of the two directions

    Raises
    ------
    InputError
        If shapes do not fit, or values are not finite, or negative.

    Examples
    --------
    >>> soft_minimum_distance([[0.0, 2.0], [1.0, 0.5]], [1.0], [1.0], sigma=0)
    0.25
    """
    block = _check_block(D)
    _check_soft(sigma, symmetry)
    u, v = _shares(steps_u, block.shape[0], "steps_u"), _shares(steps_v, block.shape[1], "steps_v")
    return _soft(block, u, v, float(sigma), symmetry)


def curve_distances(
    D: ArrayLike | TiledMatrix,
    runs: Sequence[Any] | ArrayLike | None = None,
    how: Curve = "frechet",
    *,
    sigma: float = 0.1,
    symmetry: Symmetry = "min",
    progress: ProgressArgument = None,
) -> tuple[list[Any], Float64]:
    """Fréchet or soft-minimum distances between all pairs of runs, from D of all checkpoints.

    Parameters
    ----------
    D : (m, m) array, a table whose columns are matched to its rows by name, or a finished
        `TiledMatrix`, of which some 1,000 rows are in memory at a time
    runs : (m,) the run of each model, models of a run in order; of a `TiledMatrix` by default what
        its list of models says, reference models left out
    how : ``"frechet"`` or ``"soft_minimum"``
    sigma, symmetry : see `soft_minimum_distance`; the steps are √D of successive checkpoints
    progress : True, or ``callable(done, total, text)``

    Returns
    -------
    names : of the R runs, in the order in which they come first
    distances : (R, R), symmetric

    Raises
    ------
    InputError
        For an unknown `how`, a `runs` that does not fit D, fewer than two runs.
    """
    if how not in get_args(Curve):
        raise InputError(f"`how` must be one of {', '.join(get_args(Curve))}, not {how!r}.")
    _check_soft(sigma, symmetry)
    keys = D.models.index if isinstance(D, TiledMatrix) and D.models is not None else None
    if isinstance(D, pd.DataFrame):
        keys = D.index
    if runs is not None:
        runs = in_order_of(runs, keys, "runs")
    if not isinstance(D, TiledMatrix):
        D = _check_block(named_square(D, "D")[0])
        if D.shape[0] != D.shape[1]:
            raise InputError(f"`D` must be square, of all checkpoints, not {D.shape}.")
    else:
        require_tiles(D, D.missing(), D.grid.n_tiles)
    names, rows = _rows_of_runs(D, runs)
    out = np.zeros((len(names), len(names)))
    with reporting(progress, how) as report:
        shares = _all_shares(D, rows, report) if how == "soft_minimum" else None
        for batch, block in _read(D, rows):
            for u, start in batch:
                part = block[start : start + len(rows[u])]
                for v in range(u if shares is not None else u + 1, len(rows)):
                    pair = np.ascontiguousarray(part[:, rows[v]], np.float64)
                    if shares is None:
                        value = float(_frechet(pair, np.empty(pair.shape[1])))
                    else:
                        value = _soft(pair, shares[u], shares[v], float(sigma), symmetry)
                    out[u, v] = out[v, u] = value
            report(batch[-1][0] + 1, len(rows), f"{batch[-1][0] + 1:,} of {len(rows):,} runs")
    return names, out


# -- arguments ------------------------------------------------------------------------------------


def _check_block(D: ArrayLike) -> Float64:
    block = np.ascontiguousarray(real_numbers(D, "D"))
    if block.ndim != 2 or not block.size:
        raise InputError(f"`D` must have shape (T_u ≥ 1, T_v ≥ 1), not {block.shape}.")
    if not np.isfinite(block).all():
        raise InputError("`D` must be finite; it has NaN or infinite entries.")
    return block


def _check_soft(sigma: float, symmetry: str) -> None:
    if not 0 <= sigma < np.inf:
        raise InputError(f"`sigma` must be a finite number of at least 0, not {sigma}.")
    if symmetry not in get_args(Symmetry):
        raise InputError(
            f"`symmetry` must be one of {', '.join(get_args(Symmetry))}, not {symmetry!r}."
        )


def _shares(steps: ArrayLike, n_checkpoints: int, name: str) -> Float64:
    """Share of the length at each checkpoint; equal ones of a run that does not move."""
    lengths = real_numbers(steps, name)
    if lengths.shape != (n_checkpoints - 1,) or not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise InputError(
            f"`{name}` must be {n_checkpoints - 1} lengths, none negative, all finite, not "
            f"{lengths!r}."
        )
    shares = (np.append(lengths, 0.0) + np.append(0.0, lengths)) / 2
    total = shares.sum()
    return np.full(n_checkpoints, 1 / n_checkpoints) if total == 0 else shares / total


def _rows_of_runs(D: Float64 | TiledMatrix, runs: Any) -> tuple[list[Any], list[NDArray[np.intp]]]:
    if runs is None:
        models = D.models if isinstance(D, TiledMatrix) else None
        if models is None:
            raise InputError("`runs` must say the run of each model: `D` has no list of models.")
        runs = models["run"].where(models["kind"] == "checkpoint", None).to_numpy(object)
    labels = list(runs)
    if len(labels) != D.shape[0]:
        raise InputError(
            f"`runs` must name the run of each of the {D.shape[0]:,} models of `D`, not "
            f"{len(labels):,}."
        )
    found: dict[Any, list[int]] = {}
    for row, name in enumerate(labels):
        if name is not None and name == name:  # not missing
            found.setdefault(name, []).append(row)
    if len(found) < 2:
        raise InputError(f"`runs` must name at least 2 runs, not {len(found)}.")
    return list(found), [np.array(rows, np.intp) for rows in found.values()]


# -- reading D ------------------------------------------------------------------------------------


def _read(
    D: Float64 | TiledMatrix, rows: list[NDArray[np.intp]]
) -> Iterator[tuple[list[tuple[int, int]], NDArray[np.floating]]]:
    """Batches of runs, each with its first row in the block, and the rows of D of the batch."""
    batch: list[tuple[int, int]] = []
    length = 0
    for run, mine in enumerate(rows):
        if batch and length + len(mine) > _ROWS:
            yield batch, _rows(D, np.concatenate([rows[u] for u, _ in batch]))
            batch, length = [], 0
        batch.append((run, length))
        length += len(mine)
    yield batch, _rows(D, np.concatenate([rows[u] for u, _ in batch]))


def _rows(D: Float64 | TiledMatrix, rows: NDArray[np.intp]) -> NDArray[np.floating]:
    if not isinstance(D, TiledMatrix):
        return D[rows]
    stretches = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return np.concatenate([D.rows(slice(int(one[0]), int(one[-1]) + 1)) for one in stretches])


def _all_shares(
    D: Float64 | TiledMatrix, rows: list[NDArray[np.intp]], report: Report
) -> list[Float64]:
    shares = []
    for batch, block in _read(D, rows):
        for u, start in batch:
            own = block[start : start + len(rows[u])][:, rows[u]]
            steps = np.sqrt(np.maximum(np.diagonal(own, 1).astype(np.float64), 0.0))
            shares.append(_shares(steps, len(rows[u]), "D"))
        report(0, len(rows), f"lengths of {len(shares):,} runs")
    return shares


# -- compiled recurrences -------------------------------------------------------------------------


@compiled
def _frechet(D: Any, last: Any) -> float:
    """The recurrence row by row; `last` (T_v,) is room for one row of F."""
    n_rows, n_columns = D.shape
    for j in range(n_columns):
        last[j] = D[0, j] if j == 0 else max(last[j - 1], D[0, j])
    for i in range(1, n_rows):
        corner = last[0]
        last[0] = max(corner, D[i, 0])
        for j in range(1, n_columns):
            best = min(last[j], min(corner, last[j - 1]))
            corner = last[j]
            last[j] = max(best, D[i, j])
    result: float = last[n_columns - 1]
    return result


@compiled
def _soft_mean(D: Any, shares_u: Any, shares_v: Any, sigma: float) -> float:
    """u → v: the mean over u's length of the soft minimum of each row."""
    total = 0.0
    for i in range(D.shape[0]):
        least = D[i, 0]
        for j in range(1, D.shape[1]):
            least = min(least, D[i, j])
        if sigma > 0.0:
            weights, sums = 0.0, 0.0
            for j in range(D.shape[1]):
                # Relative to the nearest, so that not all weights underflow.
                weight = shares_v[j] * np.exp((least - D[i, j]) / (2.0 * sigma * sigma))
                weights += weight
                sums += weight * D[i, j]
            if weights > 0.0:
                least = sums / weights
        total += shares_u[i] * least
    return total


def _soft(D: Float64, u: Float64, v: Float64, sigma: float, symmetry: Symmetry) -> float:
    forth = float(_soft_mean(D, u, v, sigma))
    back = float(_soft_mean(np.ascontiguousarray(D.T), v, u, sigma))
    if symmetry == "mean":
        return (forth + back) / 2
    return min(forth, back) if symmetry == "min" else max(forth, back)
