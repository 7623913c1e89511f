"""What a set of samples has to do with each coordinate."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from inpca.geometry.attribution import Attribution
from inpca.plotting import style
from inpca.plotting.curves import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_shares(
    attribution: Attribution,
    samples: ArrayLike,
    label: str = "stragglers",
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the share of a set of samples in each coordinate, beside their share of all samples.

    Parameters
    ----------
    attribution : see `inpca.geometry.attribution.attribution`
    samples : (n_samples,) truth values, or indices
    label : what these samples are
    ax : axes to draw into, made by pyplot if not given

    Notes
    -----
    A share below 0: these samples pull a coordinate together that the others stretch.
    """
    table = attribution.compare(samples)
    ax = axes(ax)
    time_like = (table["eigenvalue"] < 0).to_numpy()
    for here, name, color, hatch in (
        (~time_like, "space-like", style.SPACE_LIKE, ""),
        (time_like, "time-like", style.TIME_LIKE, "//"),
    ):
        if here.any():
            ax.bar(
                table.index[here],
                table["share"][here],
                color=color,
                hatch=hatch,
                edgecolor="white",
                label=f"{style.as_text(label)} in a {name} coordinate",
            )
    fair = float(table["fair_share"].iloc[0])
    words = f"as many average samples: {style.percent(fair)}"
    ax.axhline(fair, color="black", linestyle="--", linewidth=1, label=words)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_xticks(np.arange(1, len(table) + 1) if len(table) <= 20 else [1, len(table)])
    ax.set(xlabel="coordinate", ylabel="share of the eigenvalue")
    ax.legend(frameon=False, fontsize="small")
    return ax
