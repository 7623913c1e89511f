"""Looks that every picture shares: colours, markers, words on the axes, the optional packages.

Every category has a colour and a second cue (marker, line style), so that a picture keeps its
meaning for a colour-blind reader and in grey.
"""

from importlib import import_module
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError, MissingExtraError

Stress = Literal["root", "eq8", "both"]

# Okabe & Ito's palette; black is kept for the reference models, and yellow comes last because it is
# faint on white. The order keeps the first four furthest apart for deuteranopes and protanopes
# (simulated after Machado et al. 2009: ΔE ≥ 24; green and purple are 18 apart).
COLORS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#F0E442")
LINE_STYLES = ("-", "--", "-.", ":")


class Shape(NamedTuple):
    """One shape of points, by its names in matplotlib and in plotly's three dimensions."""

    marker: str
    symbol: str

    @property
    def filled(self) -> bool:
        return not self.symbol.endswith("-open")


# The same on paper and on the page. WebGL draws points as letters of a font; "cross" and "x" were
# seen to come out as empty boxes where the font lacks them, and it has no triangles and stars.
# The full diamond is kept for truth (black) and for projected models (black edge).
SHAPES = (
    Shape("o", "circle"),
    Shape("s", "square"),
    Shape("o", "circle-open"),
    Shape("s", "square-open"),
    Shape("D", "diamond-open"),
)
NO_VALUE_SHAPE = Shape("o", "circle-open")
PROJECTED_SHAPE = Shape("D", "diamond")
OTHER_REFERENCE = Shape("s", "square-open")
REFERENCE_SHAPES = {"@ignorance": Shape("o", "circle-open"), "@truth": Shape("D", "diamond")}
# Colours and shapes are cycled together; this many categories have a look of their own.
MAX_CATEGORIES = len(COLORS) * len(SHAPES)

SPACE_LIKE, TIME_LIKE = "#0072B2", "#D55E00"
NO_VALUE = "#9a9a9a"
STRESS_RANKS = (1, 3, 10, 25, 50)

STRESS_WORDS = {
    "root": "root form, 1 − √(1 − Σλ²/‖W‖²)",
    "eq8": "Eq. 8 as printed, Σλ²/‖W‖²",
}


class EmbeddingLike(Protocol):
    """What a picture needs of an embedding: a fitted `InPCA`, or anything with these attributes."""

    @property
    def embedding_(self) -> Any: ...
    @property
    def eigenvalues_(self) -> Any: ...
    @property
    def signature_(self) -> Any: ...
    @property
    def explained_stress_(self) -> Any: ...
    @property
    def explained_stress_root_(self) -> Any: ...


class Placed(NamedTuple):
    """Coordinates of some models with the words of the embedding that they are in."""

    embedding_: NDArray[np.float64]
    eigenvalues_: NDArray[np.float64]
    signature_: NDArray[np.int64]
    explained_stress_: NDArray[np.float64]
    explained_stress_root_: NDArray[np.float64]

    @classmethod
    def of(cls, embedding: EmbeddingLike, points: ArrayLike) -> "Placed":
        """Models at `points`, (n, n_components), in the coordinates of `embedding`."""
        return cls(
            np.asarray(points, dtype=np.float64),
            np.asarray(embedding.eigenvalues_),
            np.asarray(embedding.signature_),
            np.asarray(embedding.explained_stress_),
            np.asarray(embedding.explained_stress_root_),
        )


def require(module: str) -> Any:
    """Import a module of the extra ``plots``.

    Raises
    ------
    MissingExtraError
        An `ImportError` that names the package and how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"Pictures need {package}, which cannot be imported ({error}); "
            "pip install 'inpca[plots]'."
        ) from error


def as_text(text: object) -> str:
    """Words from data as matplotlib is given them: a dollar is a dollar, and begins no formula.

    Everything that an ensemble or a table names goes through here on its way into a picture.

    Examples
    --------
    >>> print(as_text("costs $3"))
    costs \\$3
    """
    return str(text).replace("$", r"\$")


def coordinates(embedding: EmbeddingLike, at_least: int = 2) -> NDArray[np.float64]:
    """Coordinates of `embedding`, (n_models, n_components), checked to be fit for a picture."""
    points = np.asarray(embedding.embedding_, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < at_least:
        raise InputError(
            f"`embedding` must have at least {at_least} components for this picture, not shape "
            f"{points.shape}; fit InPCA(n_components={max(3, at_least)}) or more."
        )
    return points


def check_components(components: tuple[int, ...], available: int) -> tuple[int, ...]:
    """Refuse component numbers (counted from 1) that the embedding does not have."""
    bad = [number for number in components if not 1 <= number <= available]
    if bad or len(set(components)) != len(components):
        raise InputError(
            f"`components` must be different numbers from 1 to {available}, not {components}."
        )
    return components


def stress_of(embedding: EmbeddingLike, form: str) -> NDArray[np.float64]:
    """Cumulative explained stress (n_components,), by the definition `form`: "root" or "eq8"."""
    name = "explained_stress_root_" if form == "root" else "explained_stress_"
    return np.asarray(getattr(embedding, name), dtype=np.float64)


def check_stress(form: str) -> None:
    """Refuse a definition of explained stress that is none of the three choices."""
    if form not in get_args(Stress):
        raise InputError(f"`stress` must be one of {', '.join(get_args(Stress))}, not {form!r}.")


def stress_ranks(n_components: int) -> list[int]:
    """Ranks at which the explained stress is told: 1, 3, 10, 25, 50 as far as they exist."""
    return [rank for rank in STRESS_RANKS if rank <= n_components] or [n_components]


def character(eigenvalue: float) -> str:
    """ "space-like, +", "time-like, −", or "zero" for a coordinate that has no sign."""
    if eigenvalue == 0:
        return "zero"
    return "space-like, +" if eigenvalue > 0 else "time-like, −"


def shares(embedding: EmbeddingLike) -> NDArray[np.float64]:
    """Share of each coordinate in Eq. 8, λ_k²/‖W‖²; these shares add up, the root form's do not."""
    return np.diff(stress_of(embedding, "eq8"), prepend=0.0)


def axis_label(embedding: EmbeddingLike, number: int, *, join: str = ", ") -> str:
    """Words for one axis: number, sign, share of Σλ²; `number` counts from 1."""
    eigenvalue = np.asarray(embedding.eigenvalues_)[number - 1]
    share = percent(shares(embedding)[number - 1])
    return f"coordinate {number} ({character(eigenvalue)}){join}{share} of Σλ²"


def percent(share: float) -> str:
    """A share in percent with two decimals, wherever it is written; "100 %" only if it is.

    >>> percent(0.761), percent(0.00058), percent(0.99999), percent(1.0), percent(0.0)
    ('76.10 %', '0.06 %', 'over 99.99 %', '100 %', '0 %')
    """
    value = 100 * float(share)
    if value >= 100 - 1e-9:
        return "100 %"
    if value > 99.99:
        return "over 99.99 %"
    if value < 0.01:
        # What rounding leaves of nothing is nothing.
        return "under 0.01 %" if value > 1e-9 else "0 %"
    return f"{value:.2f} %"


def brief_percent(share: float) -> str:
    """The same in less room: ">99.99 %"."""
    return percent(share).replace("over ", ">").replace("under ", "<")
