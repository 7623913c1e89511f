"""Entropies of mixtures on the CPU: Σ_n Σ_c m ln m with m = ½ (f_u + f_v), in float64.

One logarithm for every pair, sample and class, which no product can save: this is the slowest of
the kernels, 100 times slower than Bhattacharyya's distance. It is written so that LLVM vectorises
it over the models of a panel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.kernels_numba import LANES, compiled, logarithms, split_exponents

# Numba keeps compiled code until this very file changes: edit this line after any change of
# `logarithms` or `split_exponents`.
_REVISION = 1

_CLASSES = 16  # at a time, whose mixtures fit the first-level cache


@compiled
def _add_classes(row: Any, column: Any, lane: int, work: Any) -> None:
    """Add Σ_c m ln m of one model and a panel, (classes, LANES) each, to the sums of `work`."""
    mixtures, logs, exponents, sums = work
    size = row.shape[0] * LANES
    for c in range(row.shape[0]):
        value = np.float64(row[c, lane])
        for v in range(LANES):
            mixtures[c * LANES + v] = 0.5 * (value + np.float64(column[c, v]))
    logs[:size] = mixtures[:size]
    exponents[:size] = 0
    split_exponents(logs[:size].view(np.int64), exponents[:size])
    logarithms(logs[:size], exponents[:size])
    for c in range(row.shape[0]):
        for v in range(LANES):
            sums[v] += mixtures[c * LANES + v] * logs[c * LANES + v]


@compiled
def _add_panels(rows: Any, columns: Any, part: Any, n_samples: int, weight: Any, sums: Any) -> None:
    first_row, end_row, first_panel, end_column = part
    n_classes = rows.shape[2]
    mixtures, logs = np.empty(_CLASSES * LANES), np.empty(_CLASSES * LANES)
    exponents = np.empty(_CLASSES * LANES, np.int64)
    of_sample = np.empty(LANES)
    work = (mixtures, logs, exponents, of_sample)
    for panel in range(first_panel, -(-end_column // LANES)):
        width = min(LANES, end_column - panel * LANES)
        for n in range(n_samples):
            column = columns[panel, n]
            for u in range(first_row, end_row):
                row = rows[u // LANES, n]
                of_sample[:] = 0.0
                for c in range(0, n_classes, _CLASSES):
                    stop = min(n_classes, c + _CLASSES)
                    _add_classes(row[c:stop], column[c:stop], u % LANES, work)
                for v in range(width):
                    sums[u, panel * LANES + v] += weight * of_sample[v]


def add_entropies(
    rows: NDArray[Any],
    columns: NDArray[Any],
    part: tuple[int, int, int, int],
    n_samples: int,
    weight: float,
    sums: NDArray[np.float64],
) -> None:
    """sums[u, v] += weight · Σ_n Σ_c m ln m, m = ½ (f_u + f_v), for part of a tile.

    Parameters
    ----------
    rows, columns : packed panels (1, P, n, C, LANES) of positive features
    part, n_samples, sums : see `kernels_numba.add_log_affinities`
    weight : of the sum
    """
    _add_panels(rows[0], columns[0], part, n_samples, weight, sums)
