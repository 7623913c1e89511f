"""Which CPU kernel computes which `Reduction`, all under one signature.

Panels come as (k, P, n, C, LANES): one kind of feature (k = 1) or two, as declared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.divergences import Divergence, Reduction
from inpca.distance.kernels_difference import add_differences, count_one_sided
from inpca.distance.kernels_entropy import add_entropies
from inpca.distance.kernels_mixed import add_mixed_log_affinities
from inpca.distance.kernels_numba import LANES, add_log_affinities, class_block, count_floored

Panels = NDArray[Any]
Part = tuple[int, int, int, int]
Sums = NDArray[np.float64]


@dataclass(frozen=True)
class PanelKernel:
    """What the CPU does for one reduction.

    Attributes
    ----------
    add : ``add(rows, columns, part, n_samples, weight, sums)`` adds weight · Σ_n s_uv[n] for part
        of a tile, symmetric in the two models to the last byte
    count : ``count(rows, columns, row_flags, column_flags, part, n_samples, upper, floors)`` tells
        the contributions that a floor has capped; flags (k, n, models), floors (k,)
    both : a contribution is capped only where both models are flagged
    vanishes : s_uu = 0, exactly
    cost : time of a pair, sample and class beside `Reduction.LOG_AFFINITY` with one feature,
        measured for 10 classes in float32
    """

    add: Callable[[Panels, Panels, Part, int, float, Sums], None]
    count: Callable[..., int] | None = None
    both: bool = True
    vanishes: bool = False
    cost: float = 1.0


def _add_logarithms(
    rows: Panels, columns: Panels, part: Part, n_samples: int, weight: float, sums: Sums
) -> None:
    if len(rows) == 1 and weight == 1.0:
        block = class_block(rows.shape[3])
        add_log_affinities(rows[0], columns[0], part, n_samples, block, sums)
        return
    add_mixed_log_affinities(rows, columns, part, n_samples, weight, sums)


def _count_overlaps(
    rows: Panels,
    columns: Panels,
    row_flags: Any,
    column_flags: Any,
    part: Part,
    n_samples: int,
    upper: bool,
    floors: Any,
) -> int:
    """Capped affinities of f_u with g_v, and where f and g differ of g_u with f_v."""
    total = 0
    for f, g in ((0, -1), (-1, 0))[: len(rows)]:
        total += count_floored(
            rows[f], columns[g], row_flags[f], column_flags[g], part, n_samples, upper
        )
    return total


def _count_one_sided(
    rows: Panels,
    columns: Panels,
    row_flags: Any,
    column_flags: Any,
    part: Part,
    n_samples: int,
    upper: bool,
    floors: Any,
) -> int:
    return int(
        count_one_sided(
            rows[-1], columns[-1], row_flags[-1], column_flags[-1], part, n_samples, upper,
            floors[-1],
        )
    )  # fmt: skip


PANEL_KERNELS = {
    Reduction.LOG_AFFINITY: PanelKernel(_add_logarithms, _count_overlaps),
    Reduction.DIFFERENCE: PanelKernel(
        add_differences, _count_one_sided, both=False, vanishes=True, cost=1.3
    ),
    Reduction.ANGLE: PanelKernel(partial(add_differences, angle="root"), vanishes=True, cost=4.0),
    Reduction.SQUARED_ANGLE: PanelKernel(
        partial(add_differences, angle="square"), vanishes=True, cost=4.0
    ),
    Reduction.ENTROPY: PanelKernel(add_entropies, cost=100.0),
}


def relative_cost(divergence: Divergence) -> float:
    """Time of a distance beside the Bhattacharyya distance, on a CPU."""
    return PANEL_KERNELS[divergence.reduction].cost * len(divergence.all_features)


def add_diagonal(
    kernel: PanelKernel, packed: Panels, n_samples: int, weight: float, sums: Sums
) -> None:
    """Add weight · Σ_n s_uu[n] to `sums` (n_models,), by the very kernel that fills the tiles."""
    if kernel.vanishes:
        return
    for first in range(0, len(sums), LANES):
        part = sums[first : first + LANES]
        panel = packed[:, first // LANES : first // LANES + 1]
        square = np.zeros((LANES, LANES))
        kernel.add(panel, panel, (0, len(part), 0, len(part)), n_samples, weight, square)
        part += np.diagonal(square)[: len(part)]
