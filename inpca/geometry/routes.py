"""Which geodesic each model is put on: one for all, or one for each run of an ensemble."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.distance.request import Models, source_of
from inpca.errors import InputError
from inpca.geometry.ends import Ends, make_ends
from inpca.predictions import Floats, Kind, PredictionSource, to_log_probs
from inpca.store.ensemble import Ensemble, open_ensemble

End = ArrayLike | str | None
# The checkpoint of a model's own run that the words `start` and `end` may be stand for.
OWN = {"start": ("first", 0), "end": ("last", -1)}
_log = logging.getLogger("inpca.geometry")


@dataclass(frozen=True)
class Route:
    """Some models and the geodesic they are put on.

    Attributes
    ----------
    rows : (k,) their place among all models
    source : their predictions
    ends : of the geodesic; None: these models have no way of their own
    """

    rows: NDArray[np.int64]
    source: PredictionSource
    ends: Ends | None


def routes(
    X: Models, labels: ArrayLike | None, start: End, end: End, kind: Kind, sample_set: str
) -> Iterator[Route]:
    """Every model of `X` on its geodesic; the arguments are those of `inpca.progress`."""
    source = source_of(X, kind, sample_set, "X")
    if isinstance(X, Ensemble) and labels is None and end is None:
        labels = X.sample_sets[sample_set].labels
    if _is_own(start, "start") or _is_own(end, "end"):
        yield from _of_each_run(X, labels, start, end, kind, sample_set)
        return
    first = _model(X, start, kind, sample_set, "start")
    last = _model(X, end, kind, sample_set, "end")
    ends = make_ends(source.shape[1:], labels, first, last)
    yield Route(np.arange(source.shape[0]), source, ends)


def _is_own(end: End, name: str) -> bool:
    return isinstance(end, str) and end == OWN[name][0]


def _of_each_run(
    X: Models, labels: ArrayLike | None, start: End, end: End, kind: Kind, sample_set: str
) -> Iterator[Route]:
    ensemble = _ensemble(X, "start" if _is_own(start, "start") else "end")
    models = ensemble.models
    references = np.flatnonzero(models["kind"] == "reference")
    if len(references):
        yield _without_a_way(ensemble, references, sample_set)
    trained = np.flatnonzero(models["kind"] != "reference")
    for run, members in models.iloc[trained].groupby("run", sort=False).indices.items():
        rows = trained[members]
        ends: dict[str, Floats | None] = {}
        for name, given in (("start", start), ("end", end)):
            if _is_own(given, name):
                own = ensemble.run(str(run))
                if own.n_checkpoints < 2:
                    raise InputError(
                        f"Run {run!r} has one checkpoint, so its own start and end are the same "
                        "model; leave it out (ens.select), or give other ends."
                    )
                checkpoint = OWN[name][1] % own.n_checkpoints
                ends[name] = own.log_probs(sample_set, checkpoint)
            else:
                ends[name] = _model(X, given, kind, sample_set, name)
        source = ensemble.select(models.index[rows].tolist()).predictions(sample_set)
        geodesic = make_ends(source.shape[1:], labels, ends["start"], ends["end"])
        yield Route(np.asarray(rows), source, geodesic)


def _without_a_way(ensemble: Ensemble, rows: NDArray[np.int64], sample_set: str) -> Route:
    """Reference models (ignorance, truth, stored averages): no training, no own ends."""
    keys = ensemble.models.index[rows].tolist()
    if len(keys) == len(ensemble):
        raise InputError(
            "`X` must hold models of runs where `start` or `end` is their own run's; it has "
            f"reference models alone, such as {keys[0]!r}."
        )
    _log.warning(
        "%d reference models have no run of their own, so their progress on it is NaN (%s%s); "
        "leave them out with select, or --select, \"kind != 'reference'\"",
        len(keys),
        ", ".join(keys[:3]),
        ", …" if len(keys) > 3 else "",
    )
    return Route(rows, ensemble.select(keys).predictions(sample_set), None)


def _model(X: Models, end: End, kind: Kind, sample_set: str, name: str) -> Floats | None:
    """Log-probabilities (N, C) of one end: given as predictions, or as a model's key."""
    if end is None:
        return None
    if not isinstance(end, str):
        return to_log_probs(end, kind, name=name)
    whole = open_ensemble(_ensemble(X, name).path).with_references()
    if end not in whole.models.index:
        raise InputError(
            f"`{name}` must be predictions, {OWN[name][0]!r} (checkpoint of each model's own run), "
            f"or the key of a model such as {whole.models.index[-1]!r}, not {end!r}."
        )
    model = whole.select([end]).predictions(sample_set)
    return np.asarray(model.read(slice(0, 1), slice(None))[0])


def _ensemble(X: Models, name: str) -> Ensemble:
    if not isinstance(X, Ensemble):
        raise InputError(f"`{name}` can be named only for an Ensemble; pass predictions (N, C).")
    return X
