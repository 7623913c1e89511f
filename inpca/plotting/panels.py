"""What the panels of a figure of curves share: looks, shades, axes of epochs, legends."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.plotting.style import COLORS, LINE_STYLES

Floats = NDArray[np.float64]

BAND, INVERSION = "± 2 standard deviations", "inversion"
_SHADE = "0.88"


def looks(number: int) -> dict[str, Any]:
    """Colour and line style of a curve: two cues, so that it keeps its meaning in grey."""
    style = LINE_STYLES[number % len(LINE_STYLES)]
    return {"color": COLORS[number % len(COLORS)], "linestyle": style}


def shade(ax: Any, first: float, last: float) -> None:
    """A grey band where the inversion is, never thinner than a line."""
    ax.axvspan(first, last, color=_SHADE, zorder=0, label=INVERSION)
    if first == last:
        ax.axvline(first, color=_SHADE, zorder=0, lw=2)


def log_epochs(ax: Any, times: Floats) -> None:
    """Logarithmic from the first epoch on, linear from 0 to it, numbers without powers."""
    first = float(times[times > 0].min(initial=np.inf))
    ax.set_xscale("symlog", linthresh=first if np.isfinite(first) else 1.0)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlim(times.min(), times.max())
    ax.set_xlabel("epoch")


def finish(ax: Any, below: bool = True) -> None:
    """Grid and legend; `below` the axes, where no curve is, or among a few points."""
    ax.grid(alpha=0.25)
    said = dict(zip(*reversed(ax.get_legend_handles_labels())))
    labels = sorted(said, key=[BAND, INVERSION].count)  # curves first, what they have last
    handles = [said[label] for label in labels]
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 2}
    looks = {"frameon": False, **place} if below else {"framealpha": 0.8, "edgecolor": "none"}
    legend = ax.legend(handles, labels, fontsize=9, **looks)
    for handle, label in zip(legend.legend_handles, labels):
        if label != BAND:
            handle.set_alpha(1.0)  # runs are faint where there are many of them
