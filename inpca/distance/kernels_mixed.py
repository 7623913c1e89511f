"""Affinities of two kinds of features on the CPU: Σ_c f_u g_v beside Σ_c g_u f_v.

The products, exponents and logarithms are those of `kernels_numba`, twice for each group of
samples. The two logarithms of a group are added to each other first: that sum is the same whichever
model comes first, so that D is symmetric to the last byte.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.kernels_numba import (
    LANES,
    STRIP,
    class_block,
    compiled,
    group_samples,
    group_work,
    multiply_group,
    row_logarithms,
)

# Numba keeps compiled code until this very file changes: edit this line after any change in
# kernels_numba.py or simd.py.
_REVISION = 2


@compiled
def _add_mixed_group(
    panels: Any, where: Any, samples: Any, shape: Any, work: Any, weight: Any, sums: Any
) -> None:
    """Add both logarithms of one group of samples, a strip of rows × one panel, to `sums`."""
    rows, columns, other_rows, other_columns = panels
    first_row, end_row, panel, end_column = where
    work, first_logs = work
    n_samples = samples[1] - samples[0]
    multiply_group(rows, other_columns, where, samples, shape, work)
    for u in range(first_row, end_row):
        first_logs[u - first_row] = row_logarithms(u - first_row, n_samples, work)
    multiply_group(other_rows, columns, where, samples, shape, work)
    width = min(LANES, end_column - panel * LANES)
    for u in range(first_row, end_row):
        logs = row_logarithms(u - first_row, n_samples, work)
        for v in range(width):
            both = first_logs[u - first_row, v] + logs[v]
            sums[u, panel * LANES + v] += weight * both


@compiled
def _add_mixed_panels(
    panels: Any, integer: Any, part: Any, n_samples: int, shape: Any, weight: Any, sums: Any
) -> None:
    first_row, end_row, first_panel, end_column = part
    group = group_samples(shape[1])
    work = (group_work(panels[0], integer), np.empty((STRIP, LANES), np.float64))
    for u in range(first_row, end_row, STRIP):
        for n in range(0, n_samples, group):
            for panel in range(first_panel, -(-end_column // LANES)):
                where = (u, min(end_row, u + STRIP), panel, end_column)
                samples = (n, min(n_samples, n + group))
                _add_mixed_group(panels, where, samples, shape, work, weight, sums)


def add_mixed_log_affinities(
    rows: NDArray[Any],
    columns: NDArray[Any],
    part: tuple[int, int, int, int],
    n_samples: int,
    weight: float,
    sums: NDArray[np.float64],
) -> None:
    """sums[u, v] += weight · Σ_n ½ [ln Σ_c f_u g_v + ln Σ_c g_u f_v] for part of a tile.

    Parameters
    ----------
    rows, columns : packed panels (k, P, n, C, LANES): f alone (g = f), or f and g
    part, n_samples, sums : see `kernels_numba.add_log_affinities`
    weight : of the sum
    """
    shape = (rows.shape[2], rows.shape[3], class_block(rows.shape[3]))
    integer = np.empty(0, np.int32 if rows.dtype == np.float32 else np.int64)
    panels = tuple(a.reshape(-1) for a in (rows[0], columns[0], rows[-1], columns[-1]))
    _add_mixed_panels(panels, integer, part, n_samples, shape, 0.5 * weight, sums)
