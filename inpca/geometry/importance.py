"""Which setting of a training decides its path: permutation importance in a random forest."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from inpca.checks import in_order_of, same_names
from inpca.errors import InputError
from inpca.geometry.numbers import real_numbers
from inpca.geometry.trajectory_distances import TrajectoryDistances
from inpca.store.settings import kinds_apart

Float64 = NDArray[np.float64]
_NEARER, _FARTHER = "nearer to the geodesic", "farther from the geodesic"


@dataclass(frozen=True)
class Importance:
    """How much a random forest's prediction of trajectory distances loses without a setting.

    Attributes
    ----------
    table : one row per setting, most important first: ``importance`` (mean fall of R² when it is
        shuffled), ``deviation`` (over the repeats), ``p_value`` and ``p_value_normal``
    repeats : (n_settings, n_repeats) fall of R² of each shuffle, rows as in `table`
    score : R² of the forest on the pairs that were scored
    n_pairs : pairs of trajectories that were scored
    """

    table: pd.DataFrame
    repeats: Float64
    score: float
    n_pairs: int


def configuration_importance(
    distances: TrajectoryDistances | ArrayLike,
    configs: pd.DataFrame | None = None,
    *,
    columns: Sequence[str] | None = None,
    to_geodesic: ArrayLike | None = None,
    n_repeats: int = 100,
    n_trees: int = 100,
    held_out: float = 0.25,
    seed: int = 0,
) -> Importance:
    """Importance of each setting for the distance between two trajectories (Fig. 7C).

    A random forest predicts the distance of two trajectories from their settings, one category
    for each unordered pair of values, and from the distances of both to the geodesic. The
    importance of a setting is the fall of R² when its column is shuffled among the pairs.

    Parameters
    ----------
    distances : `TrajectoryDistances`, of runs or averaged over seeds (`grouped`, as in the paper);
        or (R, R)
    configs : one row per trajectory; of `TrajectoryDistances` its own
    columns : settings to take; by default all but ``seed`` and ``n_runs``
    to_geodesic : (R,) distance of each trajectory to the geodesic, `distances_to_geodesic`
    n_repeats : times each column is shuffled
    n_trees : of the forest
    held_out : share of the pairs that the forest is not trained on; R² and its falls are theirs.
        0: those of the training pairs, as in the code published with the paper
    seed : of the forest, of the choice of pairs and of the shuffles

    Raises
    ------
    InputError
        For fewer than 4 trajectories, unknown columns, settings that are all the same, and tables
        that do not fit.

    Notes
    -----
    ``p_value`` is that of the permutation test, (1 + #{falls ≤ 0}) / (1 + `n_repeats`), never below
    1 / (1 + `n_repeats`). The paper says P < 10⁻⁶ and not how, which 100 shuffles cannot tell;
    ``p_value_normal``, from the mean and deviation of the falls taken as normal, can. Both test the
    shuffles of one forest. Pairs that share a trajectory are not independent, so read them as a
    ranking. The published code scores the pairs that the forest was trained on (`held_out` = 0):
    there a forest's memory makes every setting significant, even one that is noise.
    """
    matrix, table = _arguments(distances, configs)
    first, second = np.triu_indices(len(matrix), k=1)
    features = _features(table, columns, first, second)
    if to_geodesic is not None:
        far = _check_to_geodesic(to_geodesic, len(matrix), _names(distances, table))
        features[_NEARER] = np.minimum(far[first], far[second])
        features[_FARTHER] = np.maximum(far[first], far[second])
    if not 0 <= held_out < 1:
        raise InputError(f"`held_out` must be in [0, 1), not {held_out}.")
    if n_repeats < 1 or n_trees < 1:
        name = "n_repeats" if n_repeats < 1 else "n_trees"
        raise InputError(f"`{name}` must be at least 1, not {min(n_repeats, n_trees)}.")
    values, target = features.to_numpy(), matrix[first, second]
    order = np.random.default_rng(seed).permutation(len(target))
    n_held = max(2, round(held_out * len(target))) if held_out else 0
    train = order[n_held:]
    scored = order[:n_held] if n_held else order
    forest = RandomForestRegressor(n_trees, random_state=seed).fit(values[train], target[train])
    found = permutation_importance(
        forest, values[scored], target[scored], n_repeats=n_repeats, random_state=seed
    )
    score = float(forest.score(values[scored], target[scored]))
    return Importance(*_ranked(features, found.importances), score, len(scored))


def _arguments(
    distances: TrajectoryDistances | ArrayLike, configs: pd.DataFrame | None
) -> tuple[Float64, pd.DataFrame]:
    if isinstance(distances, TrajectoryDistances):
        matrix, table = distances.integrated, distances.runs if configs is None else configs
    elif configs is None:
        raise InputError("`configs` must be given with an array of distances.")
    else:
        matrix, table = real_numbers(distances, "distances"), configs
    if isinstance(distances, pd.DataFrame):
        same_names(distances.index, distances.columns, ("distances.index", "distances.columns"))
    own = distances.runs if isinstance(distances, TrajectoryDistances) else distances
    same_names(own, table, ("distances", "configs"))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise InputError(f"`distances` must be (R, R), finite, not {matrix.shape}.")
    if len(matrix) < 4:
        raise InputError(
            f"`distances` must be of at least 4 trajectories for a forest, not {len(matrix)}."
        )
    if len(table) != len(matrix):
        raise InputError(
            f"`configs` must have one row for each of the {len(matrix)} trajectories, not "
            f"{len(table)}."
        )
    return matrix, table


def _names(distances: Any, table: pd.DataFrame) -> Sequence[Hashable]:
    runs = distances.runs if isinstance(distances, TrajectoryDistances) else table
    return list(runs.index)


def _features(
    table: pd.DataFrame,
    columns: Sequence[str] | None,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
) -> pd.DataFrame:
    """A code for each unordered pair of values, one column per setting, one row per pair."""
    default = columns is None
    chosen: list[str] = list(table.columns if columns is None else columns)
    if default:
        chosen = [name for name in chosen if name not in ("seed", "n_runs")]
    unknown = [name for name in chosen if name not in table.columns]
    if unknown:
        raise InputError(
            f"`columns` must be of the configuration ({', '.join(table.columns)}), not "
            f"{unknown[0]!r}."
        )
    codes = {
        name: pd.factorize(kinds_apart(table[name]), use_na_sentinel=False)[0] for name in chosen
    }
    if default:  # a setting that all share says nothing
        codes = {name: code for name, code in codes.items() if code.max() > 0}
    constant = [name for name, code in codes.items() if code.max() == 0]
    if constant or not codes:
        what = f"{constant[0]!r} is" if constant else "all columns are"
        raise InputError(f"`columns` must differ between trajectories, but {what} the same in all.")
    pairs = {}
    for name, code in codes.items():
        low, high = np.minimum(code[first], code[second]), np.maximum(code[first], code[second])
        pairs[name] = pd.factorize(low * (code.max() + 1) + high)[0]
    return pd.DataFrame(pairs).astype(np.float64)


def _check_to_geodesic(to_geodesic: ArrayLike, n_runs: int, names: Sequence[Hashable]) -> Float64:
    far = real_numbers(in_order_of(to_geodesic, names, "to_geodesic"), "to_geodesic")
    if far.shape != (n_runs,) or not np.isfinite(far).all():
        raise InputError(
            f"`to_geodesic` must be one finite distance for each of {n_runs} trajectories, not "
            f"{far.shape}."
        )
    return far


def _ranked(features: pd.DataFrame, falls: Float64) -> tuple[pd.DataFrame, Float64]:
    """The table of an `Importance` and the falls in its order."""
    means, deviations = falls.mean(axis=1), falls.std(axis=1, ddof=min(1, falls.shape[1] - 1))
    certain = np.where(means > 0, 0.0, 1.0)
    spread = np.where(deviations > 0, deviations, 1.0)
    table = pd.DataFrame(
        {
            "importance": means,
            "deviation": deviations,
            "p_value": (1 + (falls <= 0).sum(axis=1)) / (1 + falls.shape[1]),
            "p_value_normal": np.where(deviations > 0, norm.sf(means / spread), certain),
        },
        index=pd.Index(features.columns, name="setting"),
    )
    order = np.argsort(-means, kind="stable")
    return table.iloc[order], falls[order]
