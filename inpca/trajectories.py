"""Trainings as curves: at equal progress, their distances, tubes, lengths, and what decides them.

The public face of what Mao et al. (2024) do with whole trajectories.

>>> import inpca
>>> inpca.trajectories.frechet_distance([[0.0, 2.0], [1.0, 0.5]])
0.5
"""

from inpca.geometry.curves import curve_distances, frechet_distance, soft_minimum_distance
from inpca.geometry.importance import Importance, configuration_importance
from inpca.geometry.interpolation import Location, locate
from inpca.geometry.trajectory import reindex, step_lengths, trajectory_length
from inpca.geometry.trajectory_distances import (
    TrajectoryDistances,
    load_trajectory_distances,
    trajectory_distances,
)
from inpca.geometry.tube import DistancesAlong, TubeWidths, distances_to_geodesic, tube_widths

__all__ = [
    "DistancesAlong",
    "Importance",
    "Location",
    "TrajectoryDistances",
    "TubeWidths",
    "configuration_importance",
    "curve_distances",
    "distances_to_geodesic",
    "frechet_distance",
    "load_trajectory_distances",
    "locate",
    "reindex",
    "soft_minimum_distance",
    "step_lengths",
    "trajectory_distances",
    "trajectory_length",
    "tube_widths",
]
