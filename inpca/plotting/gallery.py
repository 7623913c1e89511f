"""The pictures of an ensemble by name: what each shows, what it needs and heeds, who draws it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from inpca.errors import InputError
from inpca.plotting import drawings, needs
from inpca.plotting.subject import Subject

# Operations of one set of distances beyond which a report does not compute others like it.
_MOST_WORK = 1e12
_HELD = "Beyond a run's reach its first or last checkpoint is held."


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes
    ----------
    draw : makes the matplotlib figure of a `Subject`
    caption : what it shows, one sentence
    lacks : what a subject lacks for it, in words; None if it can be drawn
    heeds : what it can be told: "color", and names of `Settings`
    heavy : whether it takes as much work as the distances, or a multiple
    by_setting : whether its colour must be a setting in which runs differ
    """

    draw: Callable[[Subject], Any]
    caption: str
    lacks: Callable[[Subject], str | None]
    heeds: tuple[str, ...] = ()
    heavy: bool = False
    by_setting: bool = False


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


def refuse_unheeded(name: str, given: Iterable[str]) -> None:
    """Refuse what the picture `name` does not heed, instead of drawing it as if it were not said.

    Raises
    ------
    InputError
        Names the first such option, and the pictures that heed it.
    """
    heeds = picture_called(name).heeds
    for option in given:
        if option not in heeds:
            there = ", ".join(one for one, picture in GALLERY.items() if option in picture.heeds)
            raise InputError(
                f"`--{option}` says nothing to the picture {name!r}; leave it out, or draw one of "
                f"{there}."
            )


def check_color(name: str, subject: Subject) -> None:
    """Refuse a colour that tells no configurations apart, where the picture is of these.

    Raises
    ------
    InputError
        Names the columns that do.
    """
    if not subject.color or not picture_called(name).by_setting:
        return
    columns = [*needs.setting_columns(subject), "run"]
    if subject.color not in columns:
        raise InputError(
            f"`--color` of the picture {name!r} must be a setting that each run has one of and in "
            f"which runs differ ({', '.join(columns)}), not {subject.color!r}."
        )


def available(subject: Subject) -> list[str]:
    """Names of the pictures that the ensemble's columns and runs allow."""
    return [name for name, picture in GALLERY.items() if picture.lacks(subject) is None]


def too_heavy(name: str, subject: Subject) -> bool:
    """Whether the picture is left out of a report: it would take long, and can be asked for."""
    return GALLERY[name].heavy and subject.work > _MOST_WORK


_MODELS = ("color", "select")
_TRAININGS = ("color", "select", "points")

GALLERY: dict[str, Picture] = {
    "pairs": Picture(drawings.pairs, "Pairs of the first coordinates.", needs.nothing, _MODELS),
    "3d": Picture(drawings.space, "Three coordinates.", needs.three, _MODELS),
    "manifold": Picture(
        drawings.manifold,
        "Three coordinates with the geodesic from ignorance to truth.",
        needs.three,
        _MODELS,
    ),
    "spectrum": Picture(
        drawings.spectrum, "Eigenvalues, and the stress that they explain.", needs.nothing
    ),
    "corner": Picture(
        drawings.corner,
        "Two coordinates, coloured by setting, loss, error and nearest point.",
        needs.nothing,
        (*_MODELS, "within"),
    ),
    "counts": Picture(
        drawings.counts,
        "Models that are away from the manifold.",
        needs.away,
        (*_MODELS, "away"),
        by_setting=True,
    ),
    "progress-error": Picture(
        drawings.progress_error, "Error against progress.", needs.error, _MODELS
    ),
    "progress-epoch": Picture(
        drawings.progress_epoch,
        "Progress against the epoch: mean of the runs, from the lowest to the highest of them.",
        needs.epoch,
        _MODELS,
        by_setting=True,
    ),
    "explained": Picture(
        drawings.explained,
        "Explained pairwise distances (Eq. 12) for each number of coordinates.",
        needs.compared,
        ("at", "sigma"),
    ),
    "samples": Picture(
        drawings.samples,
        "How well embeddings from few samples explain all distances.",
        needs.stored,
        heavy=True,
    ),
    "joint": Picture(
        drawings.joint,
        "Other sample sets in the embedding's coordinates (Eq. 10), pale.",
        needs.joined,
        _MODELS,
    ),
    "four-point": Picture(
        drawings.four_point,
        "The embedding of four points (Eq. 11), turned to lie on that of all models beside it.",
        needs.four,
        ("color", "at", "sigma"),
    ),
    "dendrogram": Picture(
        drawings.dendrogram,
        f"Tree of the trainings by their distance at equal progress. {_HELD}",
        needs.runs,
        _TRAININGS,
        by_setting=True,
    ),
    "trajectories": Picture(
        drawings.trajectories,
        f"Each training as one point. {_HELD}",
        needs.runs,
        _TRAININGS,
        by_setting=True,
    ),
    "importance": Picture(
        drawings.importance,
        f"Which settings tell trainings apart. {_HELD}",
        needs.settings,
        ("select", "points"),
    ),
    "tubes": Picture(
        drawings.tubes,
        f"Width of each configuration's tube, and distance to the geodesic. {_HELD}",
        needs.seeds,
        _TRAININGS,
        by_setting=True,
    ),
    "shares": Picture(
        drawings.shares,
        "Share of the samples that are learnt last in each coordinate.",
        needs.attributed,
        heavy=True,
    ),
}
