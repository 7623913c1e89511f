"""What the panels of a figure of curves share: looks, shades, axes of epochs, legends."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.plotting.style import COLORS, LINE_STYLES, require

Floats = NDArray[np.float64]

BAND, INVERSION = "± 2 standard deviations", "inversion"
_SHADE = "0.88"


def looks(number: int) -> dict[str, Any]:
    """Colour and line style of a curve: two cues, so that it keeps its meaning in grey."""
    style = LINE_STYLES[number % len(LINE_STYLES)]
    return {"color": COLORS[number % len(COLORS)], "linestyle": style}


def draw_runs(
    ax: Any, x: Floats, runs: Floats, label: str, looks: dict[str, Any], each: bool
) -> None:
    """Curves (n_runs, n): each a thin line, or their mean with a band."""
    if each:
        for position, values in enumerate(runs):
            ax.plot(x, values, lw=0.8, alpha=0.6, label=label if position == 0 else None, **looks)
        return
    ax.plot(x, runs.mean(axis=0), label=label, **looks)
    band(ax, x, runs, looks["color"])


def band(ax: Any, x: Floats, runs: Floats, color: str) -> None:
    """Two standard deviations of curves (n_runs, n) about their mean, of several runs."""
    if len(runs) > 1:
        mean, spread = runs.mean(axis=0), 2 * runs.std(axis=0)
        told = any(label == BAND for label in ax.get_legend_handles_labels()[1])
        label = None if told else BAND
        ax.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.2, lw=0, label=label)


def shade(ax: Any, first: float, last: float) -> None:
    """A grey band where the inversion is, never thinner than a line."""
    ax.axvspan(first, last, color=_SHADE, zorder=0, label=INVERSION)
    if first == last:
        ax.axvline(first, color=_SHADE, zorder=0, lw=2)


def log_epochs(ax: Any, times: Floats) -> None:
    """Logarithmic from the first epoch on, linear from 0 to it, numbers without powers."""
    first = float(times[times > 0].min(initial=np.inf))
    ax.set_xscale("symlog", linthresh=first if np.isfinite(first) else 1.0)
    ticks = _epoch_ticks(times)
    ax.xaxis.set_major_locator(require("matplotlib.ticker").FixedLocator(ticks))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlim(times.min(), times.max())
    ax.set_xlabel("epoch")


def _epoch_ticks(times: Floats) -> list[float]:
    """0 and the powers of ten, none in the linear stretch, where their numbers would overlap."""
    positive = times[times > 0]
    if not len(positive):
        return [0.0]
    first, last = float(positive.min()), float(positive.max())
    exponents = range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)
    ticks = [10.0**exponent for exponent in exponents]
    if len(ticks) < 2:  # a short training: where it begins and ends
        ticks = sorted({first, *ticks, last})
    return [*([0.0] if times.min() <= 0 else []), *ticks]


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
