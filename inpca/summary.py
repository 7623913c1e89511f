"""What the command line prints: an ensemble, an embedding, coordinates, as records and tables."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.capped import read_capped
from inpca.distance.sinks import FLOORED, is_finished
from inpca.errors import InpcaError, InputError
from inpca.printable import printable_line
from inpca.reporting import ProgressArgument
from inpca.store.check import stores_in
from inpca.store.embedding import read_embedding
from inpca.store.ensemble import Ensemble
from inpca.store.files import Damage
from inpca.store.matrix import TiledMatrix
from inpca.store.schema import plain_scalar
from inpca.store.settings import setting_labels
from inpca.units import format_bytes

if TYPE_CHECKING:
    from inpca.embedding.inpca import InPCA

_SHOWN_VALUES = 5  # of a column of text


def describe_ensemble(ensemble: Ensemble) -> dict[str, Any]:
    """Sample sets, runs, models, columns, distances and embeddings, as JSON can hold them.

    A store that cannot be read is under ``"unreadable"``, with the reason, and hides no other.
    """
    models = ensemble.models
    unreadable: dict[str, str] = {}
    record = {
        "path": str(ensemble.path),
        "classes": ensemble.n_classes,
        "sample_sets": {name: len(samples) for name, samples in ensemble.sample_sets.items()},
        "runs": len(ensemble.runs),
        "models": len(models),
        "columns": {str(name): _describe_column(models[name]) for name in models.columns},
        "distances": _described(ensemble, "distances", _describe_matrix, unreadable),
        "embeddings": _described(ensemble, "embeddings", _describe_embedding, unreadable),
    }
    return record | ({"unreadable": unreadable} if unreadable else {})


def ensemble_lines(record: dict[str, Any]) -> list[str]:
    """What `describe_ensemble` found, for people."""
    return record_lines(
        record
        | {
            "columns": {name: _column_line(one) for name, one in record["columns"].items()},
            "distances": {name: _matrix_line(one) for name, one in record["distances"].items()},
            "embeddings": {
                name: _embedding_line(one) for name, one in record["embeddings"].items()
            },
        }
    )


def _described(
    ensemble: Ensemble,
    folder: str,
    describe: Callable[[Path], dict[str, Any]],
    unreadable: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """What `describe` finds of each store in a folder; reasons go to `unreadable`."""
    found = {}
    for path in stores_in(ensemble.path, folder):
        try:
            found[path.stem] = describe(path)
        except InpcaError as error:
            unreadable[path.relative_to(ensemble.path).as_posix()] = str(error)
    return found


def _describe_column(column: "pd.Series[Any]") -> dict[str, Any]:
    values = column.dropna()
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if not len(values):
            return {"min": None, "max": None}
        return {"min": plain_scalar(values.min()), "max": plain_scalar(values.max())}
    different = list(dict.fromkeys(setting_labels(values.tolist())))
    return {"n_values": len(different), "values": different[:_SHOWN_VALUES]}


def _column_line(column: dict[str, Any]) -> str:
    if "min" in column:
        low, high = column["min"], column["max"]
        if low is None:
            return "empty"
        return _number(low) if low == high else f"{_number(low)} … {_number(high)}"
    shown = ", ".join(column["values"])
    n_values = column["n_values"]
    return shown if n_values <= _SHOWN_VALUES else f"{shown}, … ({n_values} values)"


def _number(value: float) -> str:
    """A number in few digits, whole ones in all of theirs: a rounded seed is another seed."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


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


def _embedding_line(embedding: dict[str, Any]) -> str:
    return f"{embedding['models']:,} models, {embedding['components']} components"


def _matrix_line(matrix: dict[str, Any]) -> str:
    missing, tiles = matrix["tiles_missing"], matrix["tiles"]
    state = "complete"
    if missing:
        state = f"{missing:,} of {tiles:,} tiles {'lost' if matrix['finished'] else 'to do'}"
    remark = f"; {matrix['remark']}" if matrix["remark"] else ""
    return f"{matrix['models']:,} models, {state}{remark}"


def _describe_embedding(path: Path) -> dict[str, Any]:
    arrays = read_embedding(path)[0]
    if "coordinates" not in arrays:
        raise InputError(f"{path} has no coordinates; inpca did not save it.")
    n_models, n_components = arrays["coordinates"].shape
    return {"models": n_models, "components": n_components}


def check_ensemble(ensemble: Ensemble, progress: ProgressArgument = None) -> list[Damage]:
    """Everything in an ensemble that is not as it was written; see `Ensemble.check`."""
    return ensemble.check(progress)


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
        name = printable_line(key).replace("_", " ")
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", *record_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:<{width}}  {_shown(key, value)}")
    return lines


def _shown(key: str, value: Any) -> str:
    if value is None or value == "" or value == {} or value == []:
        return "none"
    if isinstance(value, list | tuple):
        return "; ".join(printable_line(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, int):
        return printable_line(value)
    return format_bytes(value) if key.startswith(_BYTES) else f"{value:,}"


_BYTES = ("memory", "disk")  # what of a machine is counted in bytes
