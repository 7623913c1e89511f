"""One picture of every model you ever trained.

`inpca` measures the Bhattacharyya distance between all pairs of an ensemble of
probabilistic models, out of core, and embeds them isometrically in Minkowski
space (InPCA). This module lists the public names and does nothing else: each is
imported when it is first used, so that ``import inpca`` is quick and needs no
optional package.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "DamagedStoreError": "inpca.errors",
    "Ensemble": "inpca.store.ensemble",
    "InPCA": "inpca.embedding.inpca",
    "InpcaError": "inpca.errors",
    "InputError": "inpca.errors",
    "ResourceError": "inpca.errors",
    "TiledMatrix": "inpca.store.matrix",
    "align": "inpca.geometry.alignment",
    "average": "inpca.geometry.averages",
    "average_groups": "inpca.geometry.grouped",
    "class_error": "inpca.geometry.classes",
    "compare_averages": "inpca.geometry.reports",
    "create_ensemble": "inpca.store.ensemble",
    "explained_by_samples": "inpca.embedding.subsets",
    "explained_pairwise_distances": "inpca.embedding.stress",
    "four_point": "inpca.geometry.four_point",
    "geodesic": "inpca.geometry.geodesic",
    "load_embedding": "inpca.embedding.inpca",
    "open_ensemble": "inpca.store.ensemble",
    "pairwise_distances": "inpca.distance.pairwise",
    "progress": "inpca.geometry.progress",
    "progress_table": "inpca.geometry.reports",
    "project_classes": "inpca.geometry.classes",
    "r_squared": "inpca.geometry.reports",
    "reindex": "inpca.geometry.trajectory",
    "sample_progress": "inpca.geometry.progress",
    "top_classes": "inpca.geometry.classes",
    "trajectory_distances": "inpca.geometry.trajectory_distances",
}

# Modules that are public as a whole.
_MODULES = ("inversion", "trajectories")

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"inpca.{name}")  # which becomes an attribute by being imported
    if name not in _HOME:
        raise AttributeError(f"module 'inpca' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
