"""What the command line prints: an ensemble, an embedding, coordinates, as records and tables."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.sinks import is_finished
from inpca.progress import ProgressArgument, Report, reporting
from inpca.store.embedding import check_embedding
from inpca.store.ensemble import Ensemble
from inpca.store.files import Damage
from inpca.store.matrix import TiledMatrix
from inpca.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from inpca.embedding.inpca import InPCA


def describe_ensemble(ensemble: Ensemble) -> dict[str, Any]:
    """Sample sets, runs, models, columns, distances and embeddings of an ensemble."""
    models = ensemble.models
    return {
        "path": str(ensemble.path),
        "classes": ensemble.n_classes,
        "sample sets": {name: len(samples) for name, samples in ensemble.sample_sets.items()},
        "runs": len(ensemble.runs),
        "models": len(models),
        "columns": {name: _describe_column(models[name]) for name in models.columns},
        "distances": {path.stem: _describe_matrix(path) for path in _stores(ensemble, "distances")},
        "embeddings": [path.stem for path in _stores(ensemble, "embeddings")],
    }


def _stores(ensemble: Ensemble, folder: str) -> list[Path]:
    return sorted((ensemble.path / folder).glob("*.zarr"))


def _describe_matrix(path: Path) -> str:
    matrix = TiledMatrix.open(path)
    left = len(matrix.missing())
    state = "complete" if not left else f"{left} of {matrix.grid.n_tiles} tiles to do"
    return f"{matrix.shape[0]} models, {state}"


def _describe_column(column: "pd.Series[Any]") -> str:
    values = column.dropna()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return f"{values.min():.4g} … {values.max():.4g}" if len(values) else "empty"
    different = values.astype(str).unique()
    shown = ", ".join(different[:5])
    return shown if len(different) <= 5 else f"{shown}, … ({len(different)} values)"


def check_ensemble(ensemble: Ensemble, progress: ProgressArgument = None) -> list[Damage]:
    """Everything in an ensemble that does not match its checksums.

    Runs and sample sets, distance tiles, embeddings. Tiles that an unfinished matrix does not
    have yet are no damage.
    """
    damages = list(ensemble.check())
    for path in _stores(ensemble, "distances"):
        with reporting(progress, f"checking {path.name}") as report:
            damages += _under(path, ensemble, _check_matrix(TiledMatrix.open(path), report))
    for path in _stores(ensemble, "embeddings"):
        damages += _under(path, ensemble, check_embedding(path))
    return damages


def _under(path: Path, ensemble: Ensemble, damages: list[Damage]) -> list[Damage]:
    """Damages of the store `path`, their keys relative to the ensemble."""
    place = path.relative_to(ensemble.path).as_posix()
    return [Damage(f"{place}/{damage.key}", damage.reason) for damage in damages]


def _check_matrix(matrix: TiledMatrix, report: Report) -> list[Damage]:
    found = matrix.verify(report)
    if is_finished(matrix):
        return found
    with os.scandir(matrix.path / "distance") as entries:
        there = {f"distance/{entry.name}" for entry in entries}
    absent = {f"distance/c.{i}.{j}" for i, j in matrix.grid.tiles()} - there
    return [damage for damage in found if damage.key not in absent]


def describe_embedding(embedding: "InPCA") -> pd.DataFrame:
    """One row per kept component: eigenvalue, signature, residual, both explained stresses."""
    kinds = np.where(np.asarray(embedding.signature_) > 0, "space-like", "time-like")
    return pd.DataFrame(
        {
            "component": np.arange(1, len(kinds) + 1),
            "eigenvalue": embedding.eigenvalues_,
            "kind": kinds,
            "residual": embedding.residuals_,
            "explained_stress": embedding.explained_stress_,
            "explained_stress_root": embedding.explained_stress_root_,
        }
    )


def coordinates_table(
    coordinates: NDArray[np.floating], signature: NDArray[np.integer], models: pd.DataFrame
) -> pd.DataFrame:
    """Coordinates beside the models' own columns; the sign in a column's name is its signature."""
    names = [f"x{k + 1}{'+' if sign > 0 else '-'}" for k, sign in enumerate(signature)]
    return pd.concat([models, pd.DataFrame(coordinates, index=models.index, columns=names)], axis=1)


def record_lines(record: dict[str, Any], indent: str = "") -> list[str]:
    """A record as aligned lines, nested records indented."""
    width = max((len(key) for key in record), default=0)
    lines = []
    for key, value in record.items():
        label = f"{indent}{key:<{width}}"
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *record_lines(value, indent + "  ")]
        else:
            lines.append(f"{label}  {_shown(key, value)}")
    return lines


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "none"
    if key.endswith("bytes") or key.endswith("_memory") or key.endswith("_disk"):
        return format_bytes(value)
    if key.endswith("seconds"):
        return format_seconds(value)
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
