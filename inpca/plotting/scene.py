"""What is in a picture, before anyone draws it: points, who they are, the lines that join them."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.plotting.style import EmbeddingLike, coordinates
from inpca.plotting.table import (
    Column,
    check_models,
    is_reference,
    read_column,
    trajectories,
)

Path = tuple[str, NDArray[np.intp]]
# More reference models than these cannot all be named in a picture.
_MOST_NAMES = 4
_ALWAYS_NAMED = ("@ignorance", "@truth")


@dataclass(frozen=True)
class Scene:
    """Embedded, reference and projected models in one table.

    Attributes
    ----------
    points : (n, n_components) coordinates
    table : n rows, the models table of the embedding and that of the projected models
    reference, projected : (n,) masks; a reference model is never counted as projected
    paths, projected_paths : runs, each with its rows in the order of training
    """

    points: NDArray[np.float64]
    table: pd.DataFrame
    reference: NDArray[np.bool_]
    projected: NDArray[np.bool_]
    paths: list[Path]
    projected_paths: list[Path]

    @property
    def keys(self) -> list[str]:
        """Model keys, "run/checkpoint" or "@truth"."""
        return [str(key) for key in self.table.index]

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """(n,) models that made the embedding, references left out."""
        return ~self.reference & ~self.projected

    @property
    def named(self) -> NDArray[np.bool_]:
        """(n,) references with a name of their own: all if few, else ignorance and truth."""
        if self.reference.sum() <= _MOST_NAMES:
            return self.reference
        ends = np.array([key in _ALWAYS_NAMED for key in self.keys], dtype=bool)
        return np.asarray(self.reference & ends)

    @property
    def crowd(self) -> NDArray[np.bool_]:
        """(n,) references without a name: one entry of the legend for all of them."""
        return np.asarray(self.reference & ~self.named)

    @property
    def crowd_name(self) -> str:
        """What the `crowd` is called, with its number."""
        table = self.table[self.crowd]
        averages = "n_averaged" in table.columns and table["n_averaged"].notna().all()
        what = "averages" if averages else "other references"
        return f"{what} ({int(self.crowd.sum()):,})"

    def moved(self, points: ArrayLike, name: str) -> "Scene":
        """The same models at other `points` (n, n_components), called `name` in the error."""
        there = np.asarray(points, dtype=np.float64)
        if there.shape != self.points.shape or not np.isfinite(there).all():
            raise InputError(
                f"`again` {name!r} must hold finite coordinates of the models, of shape "
                f"{self.points.shape}, not {there.shape}; it is what InPCA.join returns."
            )
        return replace(self, points=there)

    def column(self, name: str) -> Column:
        """One column of the table over all n rows."""
        return read_column(self.table, name)


def read_scene(
    embedding: EmbeddingLike,
    models: pd.DataFrame,
    projected: ArrayLike | None = None,
    projected_models: pd.DataFrame | None = None,
    at_least: int = 2,
) -> Scene:
    """Check what was given and put it into one table.

    Raises
    ------
    InputError
        If tables and coordinates do not fit each other, or a coordinate is not finite.
    """
    points = coordinates(embedding, at_least)
    own = check_models(models, len(points))
    if projected is None:
        if projected_models is not None:
            raise InputError("`projected_models` needs `projected`, their coordinates.")
        return _scene(points, own, own.iloc[:0], points[:0])
    new = np.asarray(projected, dtype=np.float64)
    if new.ndim != 2 or new.shape[1] != points.shape[1]:
        raise InputError(
            f"`projected` must have shape (n_models, {points.shape[1]}) like the embedding, not "
            f"{new.shape}; it is what InPCA.transform returns."
        )
    if projected_models is None:
        raise InputError("`projected` needs `projected_models`, a table with one row per model.")
    return _scene(points, own, check_models(projected_models, len(new), "projected_models"), new)


def _scene(
    points: NDArray[np.float64],
    own: pd.DataFrame,
    new: pd.DataFrame,
    new_points: NDArray[np.float64],
) -> Scene:
    both = np.concatenate([points, new_points])
    if not np.isfinite(both).all():
        raise InputError(
            f"{int((~np.isfinite(both)).any(axis=1).sum())} models have NaN or infinite "
            "coordinates; fit the embedding again, or leave them out."
        )
    table = pd.concat([own, new]) if len(new) else own
    reference = is_reference(table)
    later = [(run, rows + len(points)) for run, rows in trajectories(new)]
    projected = (np.arange(len(both)) >= len(points)) & ~reference
    return Scene(both, table, reference, projected, trajectories(own), later)


def broken_line(paths: list[Path]) -> NDArray[np.intp]:
    """Rows of all `paths` one after the other, with −1 between them: one line with gaps."""
    if not paths:
        return np.empty(0, dtype=np.intp)
    parts = [np.append(rows, -1) for _, rows in paths]
    return np.concatenate(parts)[:-1].astype(np.intp)


def line_points(points: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Coordinates of a `broken_line`, NaN in its gaps; (len(rows), d)."""
    line = points[rows]
    line[rows < 0] = np.nan
    return line
