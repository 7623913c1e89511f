"""What a picture needs of an ensemble: each function says in words what is lacking, or None."""

import numpy as np

from inpca.distance.divergences import BHATTACHARYYA
from inpca.plotting.subject import Subject
from inpca.plotting.table import colorable, is_reference
from inpca.store.settings import kinds_apart

# Numbers that every table has, or that say which training rather than how it was trained.
_NO_SETTINGS = {"run", "checkpoint", "step", "epoch", "kind", "seed"}


def nothing(subject: Subject) -> str | None:
    """Every embedding will do."""
    return None


def three(subject: Subject) -> str | None:
    """Three coordinates."""
    if subject.embedding.embedding_.shape[1] >= 3:
        return None
    return "it needs three coordinates; embed with --components 3 or more"


def error(subject: Subject) -> str | None:
    """The error of each model."""
    return _column(subject, error_column(subject))


def epoch(subject: Subject) -> str | None:
    """The epoch of some models."""
    there = "epoch" in subject.models.columns and subject.models["epoch"].notna().any()
    return None if there else "the models have no column 'epoch'"


def away(subject: Subject) -> str | None:
    """A model that is further from truth than asked for."""
    missing = _column(subject, f"{subject.sample_set}_loss")
    if missing:
        return missing
    far = from_truth(subject)
    if not np.isfinite(far).any():
        return f"no model has a {subject.sample_set}_loss"
    if np.nanmax(far) > subject.settings.away:
        return None
    return (
        f"no model is more than {subject.settings.away:g} nats per sample from truth, the farthest "
        f"is at {np.nanmax(far):.3g}; give a smaller --away"
    )


def joined(subject: Subject) -> str | None:
    """Another sample set in the same coordinates, three of them."""
    if not subject.embedding.joint_:
        return "no other sample set is joined to the embedding; inpca join does that"
    return three(subject)


def runs(subject: Subject, at_least: int = 3) -> str | None:
    """Trainings of several checkpoints."""
    found = subject.own.models["run"].value_counts()
    if len(found) < at_least:
        return f"it needs at least {at_least} runs, not {len(found)}"
    if found.min() < 2:
        return f"run {found.idxmin()!r} has one checkpoint: it is no trajectory"
    return None


def settings(subject: Subject) -> str | None:
    """Trainings that differ in a setting."""
    varied = [name for name in setting_columns(subject) if name != "seed"]
    return runs(subject, 4) or (None if varied else "the runs differ in no setting")


def seeds(subject: Subject) -> str | None:
    """Trainings that differ in a setting, if only in the seed."""
    missing = runs(subject, 2)
    if missing or setting_columns(subject):
        return missing
    return "the runs differ in no setting"


def stored(subject: Subject) -> str | None:
    """The distances that the embedding was made from."""
    if subject.ensemble.distances_path(subject.name).exists():
        return None
    return f"there are no distances {subject.name!r} in the ensemble to compare it with"


def averages(subject: Subject) -> str | None:
    """Models near the two values of progress that averages are taken at."""
    s = subject.model_progress
    # As far as `inpca.four_point` looks.
    reach = 4 * subject.settings.sigma
    lacking = [
        f"{at:g}" for at in subject.settings.at if np.nanmin(np.abs(s - at), initial=np.inf) > reach
    ]
    if not lacking:
        return None
    return f"no models have a progress near {' and '.join(lacking)}; give other values (--at)"


def compared(subject: Subject) -> str | None:
    """What `stored` and `averages` ask for."""
    return stored(subject) or averages(subject)


def four(subject: Subject) -> str | None:
    """What `averages` and `three` ask for."""
    return three(subject) or averages(subject)


def attributed(subject: Subject) -> str | None:
    """Bhattacharyya distances of all samples, of a training or more."""
    if subject.metric != BHATTACHARYYA.name:
        return (
            "only logarithms of affinities are attributed to samples: it needs an embedding of "
            f"Bhattacharyya distances, not of {subject.metric!r}"
        )
    if subject.embedding.samples_ is not None:
        return "it compares samples, and the embedding is of some of them only"
    return runs(subject, 1)


# --- columns ---------------------------------------------------------------------------------


def error_column(subject: Subject) -> str:
    """The column of the error on the embedding's samples."""
    return f"{subject.sample_set}_error"


def from_truth(subject: Subject) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Bhattacharyya distance of each shown model from a one-hot truth: half of its loss, (n,)."""
    loss = subject.shown_models[f"{subject.sample_set}_loss"]
    return np.asarray(loss.to_numpy(np.float64, na_value=np.nan) / 2)


def setting_columns(subject: Subject) -> list[str]:
    """Columns of the configuration in which runs differ."""
    models = subject.own.models
    metrics = {
        f"{name}_{kind}" for name in subject.ensemble.sample_sets for kind in ("loss", "error")
    }
    found = []
    for name in colorable(models):
        if name in _NO_SETTINGS or name in metrics:
            continue
        column = kinds_apart(models[name])
        by_run = column.groupby(models["run"]).nunique()
        if by_run.max() <= 1 and column.nunique() > 1:
            found.append(name)
    return found


def _column(subject: Subject, name: str) -> str | None:
    models = subject.models[~is_reference(subject.models)]
    there = name in models.columns and models[name].notna().any()
    return None if there else f"the models have no column {name!r}"
