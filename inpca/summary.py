"""What the command line prints: an ensemble, an embedding, coordinates, as records and tables."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.capped import read_capped
from inpca.distance.sinks import FLOORED, is_finished
from inpca.reporting import ProgressArgument, Report, reporting
from inpca.store.embedding import check_embedding, read_embedding
from inpca.store.ensemble import Ensemble
from inpca.store.files import Damage
from inpca.store.matrix import TiledMatrix
from inpca.store.trajectories import check_trajectories
from inpca.units import format_bytes

if TYPE_CHECKING:
    from inpca.embedding.inpca import InPCA

_SHOWN_VALUES = 5  # of a column of text


def describe_ensemble(ensemble: Ensemble) -> dict[str, Any]:
    """Sample sets, runs, models, columns, distances and embeddings, as JSON can hold them."""
    models = ensemble.models
    return {
        "path": str(ensemble.path),
        "classes": ensemble.n_classes,
        "sample_sets": {name: len(samples) for name, samples in ensemble.sample_sets.items()},
        "runs": len(ensemble.runs),
        "models": len(models),
        "columns": {str(name): _describe_column(models[name]) for name in models.columns},
        "distances": {path.stem: _describe_matrix(path) for path in _stores(ensemble, "distances")},
        "embeddings": {
            path.stem: _describe_embedding(path) for path in _stores(ensemble, "embeddings")
        },
    }


def ensemble_lines(record: dict[str, Any]) -> list[str]:
    """What `describe_ensemble` found, for people."""
    return record_lines(
        record
        | {
            "columns": {name: _column_line(one) for name, one in record["columns"].items()},
            "distances": {name: _matrix_line(one) for name, one in record["distances"].items()},
            "embeddings": {
                name: f"{one['models']:,} models, {one['components']} components"
                for name, one in record["embeddings"].items()
            },
        }
    )


def _stores(ensemble: Ensemble, folder: str) -> list[Path]:
    return sorted((ensemble.path / folder).glob("*.zarr"))


def _describe_column(column: "pd.Series[Any]") -> dict[str, Any]:
    values = column.dropna()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if not len(values):
            return {"min": None, "max": None}
        return {"min": values.min().item(), "max": values.max().item()}
    different = values.astype(str).unique()
    return {"n_values": len(different), "values": different[:_SHOWN_VALUES].tolist()}


def _column_line(column: dict[str, Any]) -> str:
    if "min" in column:
        low, high = column["min"], column["max"]
        if low is None:
            return "empty"
        return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"
    shown = ", ".join(column["values"])
    n_values = column["n_values"]
    return shown if n_values <= _SHOWN_VALUES else f"{shown}, … ({n_values} values)"


def _describe_matrix(path: Path) -> dict[str, Any]:
    matrix = TiledMatrix.open(path)
    behind = read_capped(matrix)
    return {
        "models": matrix.shape[0],
        "tiles": matrix.grid.n_tiles,
        "tiles_missing": len(matrix.missing()),
        "finished": is_finished(matrix),
        "sample_set": matrix.attrs.get("sample_set"),
        "metric": matrix.attrs.get("metric"),
        "capped_contributions": matrix.attrs.get(FLOORED, 0),
        "capped_runs": {} if behind is None else behind.shares,
        "remark": "" if behind is None else behind.sentence(),
    }


def _matrix_line(matrix: dict[str, Any]) -> str:
    missing, tiles = matrix["tiles_missing"], matrix["tiles"]
    state = "complete"
    if missing:
        state = f"{missing:,} of {tiles:,} tiles {'lost' if matrix['finished'] else 'to do'}"
    remark = f"; {matrix['remark']}" if matrix["remark"] else ""
    return f"{matrix['models']:,} models, {state}{remark}"


def _describe_embedding(path: Path) -> dict[str, Any]:
    coordinates = read_embedding(path)[0]["coordinates"]
    return {"models": coordinates.shape[0], "components": coordinates.shape[1]}


def check_ensemble(ensemble: Ensemble, progress: ProgressArgument = None) -> list[Damage]:
    """Everything in an ensemble that does not match its checksums.

    Runs and sample sets, distance tiles, embeddings, trajectory distances. Tiles that an
    unfinished matrix does not have yet are no damage.
    """
    damages = list(ensemble.check())
    for path in _stores(ensemble, "distances"):
        with reporting(progress, f"checking {path.name}") as report:
            damages += _under(path, ensemble, _check_matrix(TiledMatrix.open(path), report))
    for path in _stores(ensemble, "embeddings"):
        damages += _under(path, ensemble, check_embedding(path))
    for path in _stores(ensemble, "trajectories"):
        damages += _under(path, ensemble, check_trajectories(path))
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
    values = np.asarray(embedding.eigenvalues_)
    kinds = np.select([values > 0, values < 0], ["space-like", "time-like"], "zero")
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
    """A record as aligned lines, nested records indented; keys that say bytes in their unit."""
    width = max((len(key) for key in record), default=0)
    lines = []
    for key, value in record.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *record_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_shown(key, value)}")
    return lines


def _shown(key: str, value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return "none"
    if isinstance(value, list | tuple):
        return "; ".join(str(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return format_bytes(value) if key.startswith(_BYTES) else f"{value:,}"


_BYTES = ("memory", "disk")  # what of a machine is counted in bytes
