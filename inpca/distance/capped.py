"""Which runs are behind contributions that the floor has capped.

A run that diverged and saturated has no overlap with others in most samples. Each such sample adds
the most that a pair can get, 43 nats, and a few runs of this kind are nearly all that an embedding
shows. They are found from single models, in one pass over their predictions: for an affinity to be
at the floor, 2⁻⁶², at least one of the two must give the true class a probability below that.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inpca.distance.divergences import FLOOR, LOG_FLOOR, Divergence, Reduction
from inpca.errors import InputError
from inpca.persistence import naming_files, persistently
from inpca.store.claim import door
from inpca.store.ensemble import Ensemble
from inpca.store.matrix import TiledMatrix
from inpca.store.schema import check_run_id
from inpca.units import count

CAPPED_RUNS = "capped_runs"

_UNLIKELY = math.log(FLOOR)
_LEAST_SHARE = 0.01
_MOST_NAMED = 10
_SLAB_BYTES = 32_000_000
_SATURATED = {
    True: "of its predictions give the true class a probability below 2e-19",
    False: "of its predictions give a class a probability below 5e-38",
}


@dataclass(frozen=True)
class CappedRuns:
    """The runs behind capped contributions, the worst first.

    Attributes
    ----------
    floored : capped contributions of all pairs
    shares : run → share of its predictions, over all of its models, that can be capped
    others : further runs with such predictions, each with a smaller share
    affinity : whether what is capped is an affinity; else single probabilities
    """

    floored: int
    shares: dict[str, float]
    others: int
    affinity: bool

    @property
    def query(self) -> str:
        """The selection that leaves the named runs out."""
        names = sorted(self.shares)
        return f"run != {names[0]!r}" if len(names) == 1 else f"run not in {names!r}"

    def among(self, runs: Collection[str]) -> "CappedRuns":
        """What is left where only the models of `runs` are looked at."""
        shares = {run: share for run, share in self.shares.items() if run in runs}
        return CappedRuns(self.floored, shares, self.others, self.affinity)

    def sentence(self) -> str:
        """The runs, how far they are saturated, and how to leave them out."""
        if not self.shares:
            return (
                f"capped contributions come from {count(self.others, 'run')}, none with more than "
                f"{_LEAST_SHARE:.0%} of its predictions"
            )
        (first, share), *rest = self.shares.items()
        names = [f"{first!r} ({share:.0%} {_SATURATED[self.affinity]})"]
        names += [f"{run!r} ({part:.0%})" for run, part in rest]
        more = f", and {count(self.others, 'other run')} with less" if self.others else ""
        return (
            f"behind capped contributions: {', '.join(names)}{more}; to leave the named out: "
            f'--select "{self.query}"'
        )


def find_capped(
    ensemble: Ensemble,
    sample_set: str,
    divergence: Divergence,
    floored: int,
    rows: NDArray[np.bool_] | None = None,
) -> CappedRuns:
    """Read predictions once and say which runs are behind `floored` capped contributions.

    Memory: 32 MB. Time: as reading the predictions of those models once.

    Parameters
    ----------
    rows : (m,) models of `ensemble` to look at: those in tiles with such contributions
    """
    models = ensemble.models
    source, affinity = ensemble.predictions(sample_set), _is_affinity(divergence)
    labels = ensemble.sample_sets[sample_set].labels
    suspected = _suspected(models, sample_set, len(labels), affinity)
    suspected &= True if rows is None else rows
    hits = np.zeros(len(models), np.int64)
    step = max(1, _SLAB_BYTES // (4 * source.shape[2]))
    for row in np.flatnonzero(suspected):
        for start in range(0, len(labels), step):
            samples = slice(start, start + step)
            log_p = source.read(slice(row, row + 1), slice(start, min(start + step, len(labels))))
            hits[row] += _count(log_p[0], labels[samples], affinity)
    return _by_run(models, hits, len(labels), floored, affinity)


def _is_affinity(divergence: Divergence) -> bool:
    return divergence.reduction is Reduction.LOG_AFFINITY


def _suspected(
    models: pd.DataFrame, sample_set: str, n_samples: int, affinity: bool
) -> NDArray[np.bool_]:
    """Models that can have such predictions: one sample of them alone makes a loss this high."""
    own = ~models.index.str.startswith("@")
    if affinity:
        loss = models[f"{sample_set}_loss"].to_numpy(np.float64)
        own &= ~(loss < -_UNLIKELY / n_samples * 0.999)
    return np.asarray(own, dtype=bool)


def _count(log_p: NDArray[np.floating], labels: NDArray[np.int64], affinity: bool) -> int:
    if affinity:
        return int((log_p[np.arange(len(labels)), labels] <= _UNLIKELY).sum())
    return int((log_p <= LOG_FLOOR).any(axis=1).sum())


def _by_run(
    models: pd.DataFrame, hits: NDArray[np.int64], n_samples: int, floored: int, affinity: bool
) -> CappedRuns:
    own = ~models.index.str.startswith("@")
    table = pd.DataFrame({"run": models["run"].astype(str), "hits": hits})[own]
    grouped = table.groupby("run")["hits"].agg(["sum", "size"])
    share = (grouped["sum"] / (grouped["size"] * n_samples)).sort_values(
        ascending=False, kind="stable"
    )
    found = share[share > 0]
    named = found[found >= _LEAST_SHARE][:_MOST_NAMED]
    shares = {str(run): float(value) for run, value in named.items()}
    return CappedRuns(floored, shares, len(found) - len(named), affinity)


def note_capped(
    ensemble: Ensemble | None,
    sample_set: str,
    divergence: Divergence,
    floored: int,
    matrix: TiledMatrix | None,
) -> str:
    """What to add to the warning of capped contributions; kept with a matrix that is whole.

    Returns
    -------
    a clause that names the runs; empty for arrays, which have none, and unfinished matrices
    """
    if ensemble is None or (matrix is not None and not matrix.complete):
        return ""
    with naming_files(ensemble.path if matrix is None else matrix.path):
        found = persistently(lambda: _noted(ensemble, sample_set, divergence, floored, matrix))
    return f"; {found.sentence()}"


def _noted(
    ensemble: Ensemble,
    sample_set: str,
    divergence: Divergence,
    floored: int,
    matrix: TiledMatrix | None,
) -> CappedRuns:
    """What is behind the capped contributions, noted with the matrix unless it is already."""
    if matrix is None:
        return find_capped(ensemble, sample_set, divergence, floored)
    kept = read_capped(matrix)
    if kept is None or kept.floored != floored:
        view = ensemble if matrix.models is None else ensemble.select(list(matrix.models.index))
        kept = find_capped(view, sample_set, divergence, floored, _rows_capped(matrix))
        with door(matrix.path):
            TiledMatrix.open(matrix.path).update_attrs({CAPPED_RUNS: asdict(kept)})
    return kept


def _rows_capped(matrix: TiledMatrix) -> NDArray[np.bool_]:
    """The models in tiles with capped contributions."""
    rows = np.zeros(matrix.grid.n_models, dtype=bool)
    for i, j in matrix.floored():
        rows[matrix.grid.band(i)] = rows[matrix.grid.band(j)] = True
    return rows


def read_capped(matrix: TiledMatrix) -> CappedRuns | None:
    """The runs that are kept with `matrix` as behind its capped contributions; None for none."""
    kept = matrix.attrs.get(CAPPED_RUNS)
    if not isinstance(kept, Mapping):
        return None
    try:
        shares = {check_run_id(run): float(share) for run, share in dict(kept["shares"]).items()}
        return CappedRuns(int(kept["floored"]), shares, int(kept["others"]), bool(kept["affinity"]))
    except (KeyError, TypeError, ValueError, InputError):  # not written by this package
        return None


def remark_on(
    ensemble: Ensemble, sample_set: str | None, metric: str | None, runs: Collection[Any]
) -> str:
    """What a picture of `runs` should say of capped contributions; empty where there are none.

    It is what the ensemble's distances of that sample set and divergence have noted.
    """
    for path in sorted((ensemble.path / "distances").glob("*.zarr")):
        matrix = TiledMatrix.open(path)
        attrs = (matrix.attrs.get("sample_set"), matrix.attrs.get("metric"))
        found = read_capped(matrix) if attrs == (sample_set, metric) else None
        if found is not None and (shown := found.among(runs)).shares:
            text = shown.sentence()
            return f"{text[:1].upper()}{text[1:]}."
    return ""
