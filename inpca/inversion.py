"""Inversion dynamics of class manifolds: radii, inversion point, stragglers, conservation.

The public face of what Ciceri et al. (2024) measure; NumPy in, NumPy out. What reads ensembles is
in `inpca.geometry.inversion_runs`.

>>> import inpca
>>> inpca.inversion.radii([[1.0, 0.0], [0.0, 1.0]], [0, 1]).centre_distance.round(4)
np.float64(1.4142)
"""

from inpca.geometry.conservation import Conservation, conservation
from inpca.geometry.finite_size import FractionLimit, fraction_limit
from inpca.geometry.inversion import (
    Inversion,
    InversionPoint,
    inversion,
    inversion_point,
    unimodal_fit,
)
from inpca.geometry.pruning import pruning_plan
from inpca.geometry.radii import ClassManifolds, radii
from inpca.geometry.stragglers import (
    against_error,
    checkpoint_at_error,
    noisy_inputs,
    random_labels,
    stragglers,
)

__all__ = [
    "ClassManifolds",
    "Conservation",
    "FractionLimit",
    "Inversion",
    "InversionPoint",
    "against_error",
    "checkpoint_at_error",
    "conservation",
    "fraction_limit",
    "inversion",
    "inversion_point",
    "noisy_inputs",
    "pruning_plan",
    "radii",
    "random_labels",
    "stragglers",
    "unimodal_fit",
]
