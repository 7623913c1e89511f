"""The pictures of an ensemble by name: what each shows, what it needs, how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from inpca.errors import InputError
from inpca.geometry.alignment import align
from inpca.geometry.reports import r_squared
from inpca.plotting import curves, figures
from inpca.plotting.beside import plot_beside
from inpca.plotting.corner import plot_corner
from inpca.plotting.counts import plot_counts
from inpca.plotting.shares import plot_shares
from inpca.plotting.style import require
from inpca.plotting.subject import Subject
from inpca.plotting.table import colorable, is_reference
from inpca.plotting.trajectories import plot_dendrogram, plot_importance

# In Fig. 4 a model is away from the manifold if it is further than this from truth, in nats.
_AWAY = 2.0
# Operations of one set of distances beyond which a report does not compute others like it.
_MOST_WORK = 1e12
# Numbers that every table has, or that say which training rather than how it was trained.
_NO_SETTINGS = {"run", "checkpoint", "step", "epoch", "kind", "seed"}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes
    ----------
    draw : makes the matplotlib figure of a `Subject`
    caption : what it shows, one sentence
    lacks : what a subject lacks for it, in words; None if it can be drawn
    heavy : whether it takes as much work as the distances, or a multiple
    """

    draw: Callable[[Subject], Any]
    caption: str
    lacks: Callable[[Subject], str | None]
    heavy: bool = False


def draw(name: str, subject: Subject) -> Any:
    """The matplotlib figure called `name`.

    Raises
    ------
    InputError
        If there is no picture of that name, or the ensemble lacks what it needs.
    """
    picture = picture_called(name)
    missing = picture.lacks(subject)
    if missing:
        raise InputError(f"The picture {name!r} cannot be drawn: {missing}.")
    return picture.draw(subject)


def picture_called(name: str) -> Picture:
    """The picture called `name`, or an error that names the nearest."""
    if name not in GALLERY:
        near = get_close_matches(name, GALLERY, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"`figure` must be one of {', '.join(GALLERY)}, not {name!r}{hint}.")
    return GALLERY[name]


def available(subject: Subject) -> list[str]:
    """Names of the pictures that the ensemble's columns and runs allow."""
    return [name for name, picture in GALLERY.items() if picture.lacks(subject) is None]


def too_heavy(name: str, subject: Subject) -> bool:
    """Whether the picture is left out of a report: it would take long, and can be asked for."""
    return GALLERY[name].heavy and subject.work > _MOST_WORK


# --- what is needed --------------------------------------------------------------------------


def _nothing(subject: Subject) -> str | None:
    return None


def _three(subject: Subject) -> str | None:
    if subject.embedding.embedding_.shape[1] >= 3:
        return None
    return "it needs three coordinates; embed with --components 3 or more"


def _error(subject: Subject) -> str | None:
    column = _error_column(subject)
    return None if column in subject.models.columns else f"the models have no column {column!r}"


def _epoch(subject: Subject) -> str | None:
    there = "epoch" in subject.models.columns and subject.models["epoch"].notna().any()
    return None if there else "the models have no column 'epoch'"


def _loss(subject: Subject) -> str | None:
    column = f"{subject.sample_set}_loss"
    return None if column in subject.models.columns else f"the models have no column {column!r}"


def _joined(subject: Subject) -> str | None:
    if not subject.embedding.joint_:
        return "no other sample set is joined to the embedding; inpca join does that"
    return _three(subject)


def _runs(subject: Subject, at_least: int = 3) -> str | None:
    runs = subject.own.models["run"].value_counts()
    if len(runs) < at_least:
        return f"it needs at least {at_least} runs, not {len(runs)}"
    if runs.min() < 2:
        return f"run {runs.idxmin()!r} has one checkpoint: it is no trajectory"
    return None


def _settings(subject: Subject) -> str | None:
    varied = [name for name in _setting_columns(subject) if name != "seed"]
    return _runs(subject, 4) or (None if varied else "the runs differ in no setting")


def _seeds(subject: Subject) -> str | None:
    missing = _runs(subject, 2)
    if missing or _setting_columns(subject):
        return missing
    return "the runs differ in no setting"


def _averages(subject: Subject) -> str | None:
    s = subject.model_progress
    near = [np.nanmin(np.abs(s - at), initial=np.inf) < 0.1 for at in (0.3, 0.7)]
    return None if all(near) else "no models have a progress near 0.3 and 0.7"


def _setting_columns(subject: Subject) -> list[str]:
    """Columns of the configuration in which runs differ."""
    models = subject.own.models
    metrics = {
        f"{name}_{kind}" for name in subject.ensemble.sample_sets for kind in ("loss", "error")
    }
    found = []
    for name in colorable(models):
        if name in _NO_SETTINGS or name in metrics:
            continue
        by_run = models.groupby("run")[name].nunique()
        if by_run.max() <= 1 and models[name].nunique() > 1:
            found.append(name)
    return found


def _error_column(subject: Subject) -> str:
    return f"{subject.sample_set}_error"


# --- drawing ---------------------------------------------------------------------------------


def _pairs(subject: Subject) -> Any:
    return figures.plot_pairs(subject.embedding, subject.models, subject.chosen_color)


def _manifold(subject: Subject) -> Any:
    ax = figures.plot_3d(
        subject.embedding, subject.models, subject.chosen_color, geodesic=subject.geodesic
    )
    return ax.figure


def _space(subject: Subject) -> Any:
    return figures.plot_3d(subject.embedding, subject.models, subject.chosen_color).figure


def _spectrum(subject: Subject) -> Any:
    return figures.plot_spectrum(subject.embedding).figure


def _corner(subject: Subject) -> Any:
    wanted = [subject.color or "architecture", f"{subject.sample_set}_loss", _error_column(subject)]
    columns = [name for name in wanted if name in colorable(subject.models)]
    return plot_corner(subject.embedding, subject.models, columns, near=subject.marks)


def _counts(subject: Subject) -> Any:
    # The distance from a one-hot truth is half of the cross-entropy.
    away = (subject.models[f"{subject.sample_set}_loss"] / 2 > _AWAY).to_numpy(bool)
    by = _category(subject)
    panels = require("matplotlib.pyplot").figure(figsize=(11, 4.6), layout="constrained")
    left, right = panels.subplots(1, 2)
    plot_counts(subject.models, away, by, ax=left)
    if _epoch(subject) is None:
        plot_counts(subject.models, away, "epoch", ax=right)
    else:
        plot_counts(subject.models, away, "checkpoint", ax=right)
    panels.suptitle(f"more than {_AWAY:g} nats per sample from truth")
    return panels


def _category(subject: Subject) -> str:
    """A column that tells configurations apart: the chosen one, or the first there is."""
    settings = _setting_columns(subject)
    for name in (subject.color, "architecture", *settings):
        if name in settings:
            return name
    return "run"


def _progress_error(subject: Subject) -> Any:
    column = _error_column(subject)
    own = ~is_reference(subject.models) & subject.models[column].notna().to_numpy()
    s, error = subject.model_progress[own], subject.models[column].to_numpy(float)[own]
    fit = r_squared(s, error) if len(s) > 2 else None
    ax = curves.plot_progress_error(
        subject.models, subject.model_progress, column, subject.chosen_color, r_squared=fit
    )
    return ax.figure


def _progress_epoch(subject: Subject) -> Any:
    by = _category(subject)
    return curves.plot_progress_epoch(subject.models, subject.model_progress, by).figure


def _explained(subject: Subject) -> Any:
    return curves.plot_explained_distances(subject.explained).figure


def _samples(subject: Subject) -> Any:
    return curves.plot_explained_by_samples(subject.by_samples).figure


def _joint(subject: Subject) -> Any:
    pictures = {subject.name: (subject.embedding.embedding_, subject.models)}
    for name, points in subject.embedding.joint_.items():
        pictures[name] = (points, subject.models)
    return plot_beside(subject.embedding, pictures, subject.chosen_color)


def _dendrogram(subject: Subject) -> Any:
    found = subject.trajectories
    color = _category(subject)
    return plot_dendrogram(
        found.linkage(), found.runs, color if color in found.runs.columns else None
    )


def _trajectories(subject: Subject) -> Any:
    found = subject.trajectories
    embedding = found.embed(min(3, len(found) - 1))
    color = _category(subject)
    color_by = color if color in found.runs.columns else None
    # A run is one point here: its table must not join points into lines.
    table = found.runs.drop(columns=["run"], errors="ignore")
    return figures.plot_pairs(embedding, table, color_by)


def _importance(subject: Subject) -> Any:
    return plot_importance(subject.importance.table).figure


def _tubes(subject: Subject) -> Any:
    panels = require("matplotlib.pyplot").figure(figsize=(11, 4.6), layout="constrained")
    left, right = panels.subplots(1, 2)
    by = _category(subject)
    widths = subject.tubes
    names = widths.groups[by].astype(str) if by in widths.groups.columns else widths.groups.index
    several = widths.groups["n_runs"].to_numpy() > 1
    curves.plot_along_progress(
        widths.s,
        _means(names[several] if several.any() else names, widths.widths[several | ~several.any()]),
        "width of the tube, nats per sample",
        ax=left,
    )
    far = subject.to_geodesic
    names = far.runs[by].astype(str) if by in far.runs.columns else far.runs.index
    curves.plot_along_progress(
        far.s, _means(names, far.distances), "distance to the geodesic, nats per sample", ax=right
    )
    return panels


def _means(names: Any, rows: Any) -> dict[str, Any]:
    """Mean of the rows of each name."""
    labels = np.asarray([str(name) for name in names])
    return {name: rows[labels == name].mean(axis=0) for name in np.unique(labels)}


def _four_point(subject: Subject) -> Any:
    """The embedding of four points beside that of all models, turned to lie on it if it can be."""
    four, k = subject.four_point, 3
    whole, points = subject.embedding.embedding_[:, :k], four.coordinates[:, :k]
    signature, own = subject.embedding.signature_[:k], four.embedding.signature_[:k]
    embeddings = {}
    if np.array_equal(np.sort(own), np.sort(signature)):
        found = align(_reordered(points, own, signature), whole, signature)
        points, title = found.coordinates, f"four points, aligned: RMSD {found.rmsd:.3g}"
    else:
        # The sign of a coordinate is arbitrary: both pictures are to look the same way.
        points = points * np.where((points * whole).sum(axis=0) < 0, -1, 1)
        title = "four points, not aligned: other signature"
        embeddings[title] = four.embedding
    pictures = {title: (points, subject.models), "all models": (whole, subject.models)}
    return plot_beside(subject.embedding, pictures, subject.chosen_color, embeddings=embeddings)


def _reordered(points: Any, own: Any, wanted: Any) -> Any:
    """Coordinates in another order, so that space-like and time-like ones stand where wanted."""
    order = np.empty(len(wanted), dtype=int)
    for sign in (-1, 0, 1):
        order[np.flatnonzero(wanted == sign)] = np.flatnonzero(own == sign)
    return points[:, order]


def _shares(subject: Subject) -> Any:
    return plot_shares(subject.attribution, subject.late, "the tenth that is learnt last").figure


GALLERY: dict[str, Picture] = {
    "pairs": Picture(_pairs, "Pairs of the first coordinates.", _nothing),
    "3d": Picture(_space, "Three coordinates.", _three),
    "manifold": Picture(
        _manifold, "Three coordinates with the geodesic from ignorance to truth.", _three
    ),
    "spectrum": Picture(_spectrum, "Eigenvalues, and the stress that they explain.", _nothing),
    "corner": Picture(
        _corner, "Two coordinates, coloured by setting, loss, error and nearest point.", _nothing
    ),
    "counts": Picture(_counts, "Models that are away from the manifold.", _loss),
    "progress-error": Picture(_progress_error, "Error against progress.", _error),
    "progress-epoch": Picture(
        _progress_epoch, "Progress against the epoch: mean and range of the runs.", _epoch
    ),
    "explained": Picture(
        _explained,
        "Explained pairwise distances (Eq. 12) for each number of coordinates.",
        _averages,
    ),
    "samples": Picture(
        _samples,
        "How well embeddings from few samples explain all distances.",
        _nothing,
        heavy=True,
    ),
    "joint": Picture(_joint, "Other sample sets in the embedding's coordinates (Eq. 10).", _joined),
    "four-point": Picture(
        _four_point,
        "The embedding of four points (Eq. 11) beside that of all models.",
        lambda subject: _three(subject) or _averages(subject),
    ),
    "dendrogram": Picture(
        _dendrogram, "Tree of the trainings by their distance at equal progress.", _runs
    ),
    "trajectories": Picture(_trajectories, "Each training as one point.", _runs),
    "importance": Picture(_importance, "Which settings tell trainings apart.", _settings),
    "tubes": Picture(
        _tubes, "Width of each configuration's tube, and distance to the geodesic.", _seeds
    ),
    "shares": Picture(
        _shares, "Share of the samples that are learnt last in each coordinate.", _runs, heavy=True
    ),
}
