"""How each picture of an ensemble is drawn: from its `Subject` to a figure of matplotlib."""

from typing import Any

import numpy as np

from inpca.geometry.alignment import align, counterparts
from inpca.geometry.reports import r_squared
from inpca.plotting import curves, figures, style
from inpca.plotting.beside import plot_beside
from inpca.plotting.corner import plot_corner
from inpca.plotting.counts import plot_counts
from inpca.plotting.divergence import unit_of, with_unit
from inpca.plotting.needs import epoch, error_column, from_truth, setting_columns
from inpca.plotting.shares import plot_shares
from inpca.plotting.style import require
from inpca.plotting.subject import Subject
from inpca.plotting.table import colorable, is_reference
from inpca.plotting.trajectories import plot_dendrogram, plot_importance

# --- the embedding ---------------------------------------------------------------------------


def pairs(subject: Subject) -> Any:
    return figures.plot_pairs(subject.shown, subject.shown_models, subject.chosen_color)


def manifold(subject: Subject) -> Any:
    ax = figures.plot_3d(
        subject.shown, subject.shown_models, subject.chosen_color, geodesic=subject.geodesic
    )
    return ax.figure


def space(subject: Subject) -> Any:
    return figures.plot_3d(subject.shown, subject.shown_models, subject.chosen_color).figure


def joint(subject: Subject) -> Any:
    others = {name: points[subject.rows] for name, points in subject.embedding.joint_.items()}
    ax = figures.plot_3d(subject.shown, subject.shown_models, subject.chosen_color, again=others)
    return ax.figure


def spectrum(subject: Subject) -> Any:
    return figures.plot_spectrum(subject.embedding).figure


def corner(subject: Subject) -> Any:
    models = subject.shown_models
    wanted = [subject.color or "architecture", f"{subject.sample_set}_loss", error_column(subject)]
    return plot_corner(
        subject.shown,
        models,
        [name for name in dict.fromkeys(wanted) if name in colorable(models)],
        near={name: distances[subject.rows] for name, distances in subject.marks.items()},
        within=subject.settings.within,
        unit=unit_of(subject.metric).removesuffix(" per sample"),
    )


def four_point(subject: Subject) -> Any:
    """The embedding of four points, turned to lie on that of all models, beside it."""
    four, k = subject.four_point, 3
    whole, points = subject.embedding.embedding_, four.coordinates[:, :k].copy()
    signs = subject.embedding.signature_
    mine, theirs = counterparts(four.embedding.signature_[:k], signs)
    found = align(points[:, mine], whole[:, theirs], signs[theirs])
    points[:, mine] = found.coordinates
    alone = [number for number in range(k) if number not in mine]
    unused = [number for number in range(whole.shape[1]) if number not in theirs]
    shown = np.empty(k, dtype=int)
    shown[mine], shown[alone] = theirs, unused[: len(alone)]
    numbers = [int(number) + 1 for number in shown]
    title = f"four points, aligned to coordinates {_listed(theirs + 1)}: RMSD {found.rmsd:.3g}"
    if alone:
        title += f"\ncoordinate {_listed(np.array(alone) + 1)} has none of its sign to lie on"
    right = f"all models, coordinates {_listed(np.array(numbers))}"
    figure = plot_beside(
        subject.embedding,
        {title: (points, subject.models), right: (whole, subject.models)},
        subject.chosen_color,
        components={title: (1, 2, 3), right: numbers},
        embeddings={title: four.embedding},
    )
    ax: Any = figure.subfigs[0].axes[0]
    for axis, number, place in zip((ax.xaxis, ax.yaxis, ax.zaxis), numbers, range(k)):
        if place in mine:
            sign = style.character(signs[number - 1])
            axis.set_label_text(f"four points, along\ncoordinate {number} ({sign})")
    return figure


def _listed(numbers: Any) -> str:
    """Numbers in words: "1, 2 and 9"."""
    words = [str(number) for number in numbers]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def explained(subject: Subject) -> Any:
    return curves.plot_explained_distances(subject.explained).figure


def samples(subject: Subject) -> Any:
    return curves.plot_explained_by_samples(subject.by_samples).figure


def shares(subject: Subject) -> Any:
    return plot_shares(subject.attribution, subject.late, "the tenth that is learnt last").figure


# --- models ----------------------------------------------------------------------------------


def counts(subject: Subject) -> Any:
    limit = subject.settings.away
    away = from_truth(subject) > limit
    panels = require("matplotlib.pyplot").figure(figsize=(11, 4.6), layout="constrained")
    left, right = panels.subplots(1, 2)
    plot_counts(subject.shown_models, away, category(subject), ax=left)
    time = "epoch" if epoch(subject) is None else "checkpoint"
    plot_counts(subject.shown_models, away, time, ax=right)
    panels.suptitle(
        f"more than {limit:g} nats per sample from truth (Bhattacharyya distance, Eq. 2: half of "
        "the loss)"
    )
    return panels


def category(subject: Subject) -> str:
    """A column that tells configurations apart: the chosen one, or the first there is."""
    columns = setting_columns(subject)
    for name in (subject.color, "architecture", *columns):
        if name in columns:
            return name
    return "run"


def progress_error(subject: Subject) -> Any:
    column, models = error_column(subject), subject.shown_models
    progress = subject.model_progress[subject.rows]
    own = ~is_reference(models) & models[column].notna().to_numpy()
    s, error = progress[own], models[column].to_numpy(float)[own]
    fit = r_squared(s, error) if len(s) > 2 else float("nan")
    ax = curves.plot_progress_error(
        models,
        progress,
        column,
        subject.chosen_color,
        r_squared=fit if np.isfinite(fit) else None,
    )
    return ax.figure


def progress_epoch(subject: Subject) -> Any:
    progress = subject.model_progress[subject.rows]
    return curves.plot_progress_epoch(subject.shown_models, progress, category(subject)).figure


# --- whole trainings -------------------------------------------------------------------------


def dendrogram(subject: Subject) -> Any:
    found = subject.trajectories
    color = category(subject)
    figure = plot_dendrogram(
        found.linkage(),
        found.runs,
        color if color in found.runs.columns else None,
        label=with_unit("distance between trajectories", subject.metric),
    )
    return _say_held(figure, found)


def trajectories(subject: Subject) -> Any:
    found = subject.trajectories
    embedding = found.embed(min(3, len(found) - 1))
    color = category(subject)
    color_by = color if color in found.runs.columns else None
    # A run is one point here: its table must not join points into lines.
    table = found.runs.drop(columns=["run"], errors="ignore")
    return _say_held(figures.plot_pairs(embedding, table, color_by), found)


def importance(subject: Subject) -> Any:
    found = subject.importance
    least = 1 / (1 + found.repeats.shape[1])
    return _say_held(plot_importance(found.table, least=least).figure, subject.trajectories)


def _say_held(figure: Any, found: Any) -> Any:
    """Say how many runs stand still because they do not reach every value of progress."""
    n_held = int((found.outside > 0).sum())
    if n_held:
        figure.suptitle(
            f"{n_held} of {len(found)} runs do not reach all of the {len(found.s)} values of "
            "progress:\nbeyond their reach they are held at their first or last checkpoint",
            fontsize="small",
        )
    return figure


def tubes(subject: Subject) -> Any:
    panels = require("matplotlib.pyplot").figure(figsize=(11, 4.6), layout="constrained")
    left, right = panels.subplots(1, 2)
    widths, far = subject.tubes, subject.to_geodesic
    several = widths.groups["n_runs"].to_numpy() > 1
    kept = several if several.any() else np.ones(len(several), dtype=bool)
    names = _names(subject, widths.groups)[kept]
    curves.plot_along_progress(
        widths.s,
        _by_name(names, widths.widths[kept], np.mean),
        with_unit("width of the tube", subject.metric),
        held=_by_name(names, widths.share_reached[kept] < 1, np.any),
        ax=left,
    )
    names = _names(subject, far.runs)
    curves.plot_along_progress(
        far.s,
        _by_name(names, far.distances, np.mean),
        with_unit("distance to the geodesic", subject.metric),
        held=_by_name(names, ~far.reached, np.any),
        ax=right,
    )
    return panels


def _names(subject: Subject, table: Any) -> Any:
    by = category(subject)
    return (table[by] if by in table.columns else table.index).astype(str).to_numpy()


def _by_name(names: Any, rows: Any, how: Any) -> dict[str, Any]:
    """The rows of each name put together by `how`."""
    return {str(name): how(rows[names == name], axis=0) for name in np.unique(names)}
