"""The fraction of stragglers φ over depths and widths (Fig. 3e).

The paper fits φ_∞ over four sizes of the training set; here it is φ at the one size there is.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from inversion.figures import draw
from inversion.setting import network
from matplotlib.axes import Axes
from numpy.typing import NDArray

from collectors.zoo.inversion_dynamics import follow, recorded_epochs
from inpca.plotting import inversion as plots

DEPTHS = (2, 4, 8)
WIDTHS = (10, 20, 40, 80)


@dataclass(frozen=True)
class Architecture:
    """One shape of network, and φ of each seed; NaN for those that do not invert."""

    depth: int
    width: int
    phi: NDArray[np.float64]

    @property
    def n_weights(self) -> int:
        sizes = [64, *[self.width] * (self.depth - 1), 2]
        return sum((before + 1) * after for before, after in pairwise(sizes))

    @property
    def inverted(self) -> NDArray[np.float64]:
        return self.phi[np.isfinite(self.phi)]

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds that invert; NaN for fewer than two."""
        return float(self.inverted.std(ddof=1)) if len(self.inverted) > 1 else float("nan")


def architectures(path: Path, x: NDArray[np.float32], y: NDArray[np.int64], n_seeds: int,
                  epochs: int) -> None:  # fmt: skip
    """Train every architecture, say φ and how many seeds invert, and draw it into `path`."""
    print(f"       φ at P = {len(x)} over architectures, {n_seeds} seeds each:")
    found = []
    for depth in DEPTHS:
        for width in WIDTHS:
            stack = network(range(n_seeds), depth, width)
            runs = follow(stack, x, y, epochs=epochs, record=recorded_epochs(epochs))
            one = Architecture(depth, width, np.array([run.phi for run in runs.inversions()]))
            print(f"         {said(one)}")
            found.append(one)
    if not any(len(one.inverted) for one in found):
        print(f"         nothing to draw: no network inverts within {epochs} epochs")
        return
    draw(path, 1, lambda axes: draw_architectures(axes[0], found, len(x)))


def said(one: Architecture) -> str:
    shape = f"{one.depth} layers of {one.width:2d}, {one.n_weights:6,d} weights"
    turned = f"{len(one.inverted)} of {len(one.phi)} invert"
    if not len(one.inverted):
        return f"{shape}: {turned}"
    spread = f" ± {one.spread:.4f}" if len(one.inverted) > 1 else ""
    return f"{shape}: {turned}, φ = {one.inverted.mean():.4f}{spread}"


def draw_architectures(ax: Axes, found: list[Architecture], size: int) -> None:
    """Those with a network that inverts; the legend counts all runs, depth by depth."""
    drawn = [one for one in found if len(one.inverted)]

    def name(one: Architecture) -> str:
        same = [other for other in found if other.depth == one.depth]
        turned = sum(len(other.inverted) for other in same)
        return f"{one.depth} layers: {turned} of {sum(len(o.phi) for o in same)} runs invert"

    plots.plot_fractions(
        [one.n_weights for one in drawn],
        [one.inverted.mean() for one in drawn],
        [one.spread for one in drawn],
        [name(one) for one in drawn],
        ax=ax,
    )
    missing = len(found) - len(drawn)
    ax.set_title(rf"$\phi$ at P = {size:,}" + (f"; {missing} never invert" if missing else ""))
