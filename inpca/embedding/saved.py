"""What of a fitted estimator goes to disk, and back."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.planner import memory_budget
from inpca.embedding.training import TrainingModels
from inpca.errors import DamagedStoreError, InputError, ResourceError
from inpca.predictions import ArrayPredictions, Floats
from inpca.store.embedding import Named
from inpca.units import format_bytes

# Fitted arrays that everything else follows from, and arrays written for other readers' sake.
ARRAYS = ("eigenvalues_", "eigenvectors_", "residuals_", "row_means_")
_DERIVED = ("signature_", "explained_stress_", "explained_stress_root_")
_NUMBERS = ("grand_mean_", "frobenius_norm_", "missed_bound_", "n_passes_", "n_features_in_")
# Coordinates of the models on another sample set, by its name.
_JOINT = "joint "
# Log-probabilities of the training models, where they were asked for.
_TRAINING = "training_log_probs"
# Numbers of the samples that the embedding is of, where it is not of all.
_SAMPLES = "samples"
_TRAINING_RECORD = ("metric", "sample_set", "ensemble", "fingerprint", "sample_set_fingerprint")
_PARAMETERS = ("n_components", "metric", "kind", "sample_set", "solver", "tol")


def dump(fitted: Any, path: Path) -> tuple[dict[str, Named], dict[str, Any]]:
    """Arrays and attributes of a fitted `InPCA` that is to be written to `path`."""
    arrays: dict[str, Named] = {
        name.rstrip("_"): getattr(fitted, name) for name in (*ARRAYS, *_DERIVED)
    }
    arrays["coordinates"] = fitted.embedding_
    if fitted.weights_ is not None:
        arrays["weights"] = fitted.weights_
    dims = ("model", "component")
    arrays |= {f"{_JOINT}{name}": (dims, values) for name, values in fitted.joint_.items()}
    if fitted._training.kept:
        arrays[_TRAINING] = (("model", "sample", "class"), _training_predictions(fitted))
    if fitted.samples_ is not None:
        arrays[_SAMPLES] = (("chosen_sample",), fitted.samples_)
    attrs = {name.rstrip("_"): _plain(getattr(fitted, name)) for name in _NUMBERS}
    attrs |= {
        "parameters": {name: _plain(getattr(fitted, name)) for name in _PARAMETERS},
        "solver": fitted.solver_,
        "converged": fitted.converged_.tolist(),
        "clusters": [list(pair) for pair in fitted.clusters_],
        "training": fitted._training.record(path),
        "names": _plain_names(fitted._names),
    }
    return arrays, attrs


def _training_predictions(fitted: Any) -> Floats:
    """Log-probabilities of the training models, read into memory.

    Raises
    ------
    InputError
        If they cannot be found.
    ResourceError
        If they do not fit ``fitted.memory``.
    """
    source = fitted._training.open(len(fitted.row_means_))
    needed, budget = math.prod(source.shape) * source.dtype.itemsize, memory_budget(fitted.memory)
    if needed > budget:
        raise ResourceError(
            f"`with_training` writes {format_bytes(needed)} of predictions but `memory` is "
            f"{format_bytes(budget)}; fit on an Ensemble, which the embedding then finds again."
        )
    m, n, _ = source.shape
    values: Floats = source.read(slice(0, m), slice(0, n))
    return values


def parameters(
    arrays: dict[str, NDArray[Any]], attrs: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Constructor arguments of the estimator that was saved.

    Raises
    ------
    InputError
        If something else than `dump` made the arrays and attributes.
    DamagedStoreError
        If they do not fit one another.
    """
    needed = {name.rstrip("_") for name in (*ARRAYS, *_NUMBERS)}
    needed |= {"parameters", "solver", "converged", "clusters", "training"}
    missing = sorted(needed - set(arrays) - set(attrs))
    if missing:
        raise InputError(
            f"`path` {path} lacks {', '.join(missing)}, which InPCA.save writes; fit and "
            "save again."
        )
    wrong = _first_wrong(arrays, attrs)
    if wrong is not None:
        raise DamagedStoreError(
            f"{path} has {wrong}, not as InPCA.save writes it; restore it from a copy, or fit and "
            "save again."
        )
    return dict(attrs["parameters"])


def _first_wrong(arrays: dict[str, NDArray[Any]], attrs: dict[str, Any]) -> str | None:
    """The first of what was read that does not fit the rest; None if all of it does."""
    eigenvectors, models = arrays["eigenvectors"], len(arrays["row_means"])
    k = eigenvectors.shape[-1]
    shapes = {"eigenvalues": (k,), "eigenvectors": (models, k), "residuals": (k,)}
    shapes |= {"row_means": (models,), "weights": (models,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            return f"`{name}` of shape {arrays[name].shape}"
    for name in _NUMBERS:
        number = attrs[name.rstrip("_")]
        if type(number) not in (int, float) or abs(number) > sys.float_info.max:
            return f"{str(number)[:50]} for `{name}`"
    if not isinstance(attrs.get("names"), list | None):
        return f"{attrs['names']!r} for the names of its models"
    parameters, converged, clusters = (attrs[n] for n in ("parameters", "converged", "clusters"))
    if not isinstance(parameters, dict) or not parameters.keys() <= {*_PARAMETERS}:
        return "parameters of something else"
    if not isinstance(converged, list) or [type(one) for one in converged] != [bool] * k:
        return f"{converged!r} for `converged_`"
    pairs = isinstance(clusters, list) and all(isinstance(one, list) for one in clusters)
    if not pairs or not all(len(one) == 2 and all(i in range(k) for i in one) for one in clusters):
        return f"{clusters!r} for `clusters_`"
    training = attrs["training"]
    if not isinstance(training, dict) or training.keys() != {*_TRAINING_RECORD}:
        return "no record of what it was made from"
    if not all(isinstance(value, str | None) for value in training.values()):
        return f"a record {training} of what it was made from"
    return None


def restore(
    fitted: Any, arrays: dict[str, NDArray[Any]], attrs: dict[str, Any], models: Any, path: Path
) -> None:
    """Give a new `InPCA` what `dump` took from the fitted one, except what is derived."""
    for name in ARRAYS:
        setattr(fitted, name, np.ascontiguousarray(arrays[name.rstrip("_")]))
    for name in _NUMBERS:
        setattr(fitted, name, attrs[name.rstrip("_")])
    fitted.weights_ = arrays.get("weights")
    fitted.joint_ = {
        name.removeprefix(_JOINT): values
        for name, values in arrays.items()
        if name.startswith(_JOINT)
    }
    fitted.solver_ = attrs["solver"]
    fitted.converged_ = np.array(attrs["converged"], dtype=bool)
    fitted.clusters_ = tuple((i, j) for i, j in attrs["clusters"])
    training = TrainingModels.from_record(attrs["training"], path, models)
    training.samples = arrays.get(_SAMPLES)
    fitted._came_from(training)
    if attrs.get("names") is not None:
        fitted._names = pd.Index(attrs["names"])
        if all(isinstance(name, str) for name in attrs["names"]):
            fitted.feature_names_in_ = np.array(attrs["names"], dtype=object)
    if _TRAINING in arrays:
        fitted._training.kept = True
        fitted._training.hold(ArrayPredictions(arrays[_TRAINING], "log_probs", "training"))


def _plain_names(names: pd.Index | None) -> list[str] | list[int] | None:
    """Names of models as JSON can hold them; names of other types are not kept."""
    values = [] if names is None else names.tolist()
    plain = all(type(name) is str for name in values) or all(type(name) is int for name in values)
    return values if values and plain else None


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python number that JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
