"""The models an embedding was made from: what new models are compared with, also years later."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from inpca.errors import InputError
from inpca.predictions import ArrayPredictions, Kind, PredictionSource
from inpca.store.ensemble import Ensemble, open_ensemble
from inpca.store.manifest import MANIFEST
from inpca.store.matrix import TiledMatrix

_PASS_DISTANCES = (
    "pass the distances of the new models to the training models, an array of shape "
    "(new models, {m}), for example inpca.pairwise_distances(new, training)"
)

_CHANGED = "the predictions were not there, or had changed"


@dataclass
class TrainingModels:
    """Where the training predictions are, and which they are.

    Attributes
    ----------
    metric : divergence that D was computed with; None if D came as an array
    sample_set : name of the sample set, for an ensemble
    models : table of the training models, or None
    ensemble : folder of the ensemble they are in, or None
    fingerprint : of the training predictions, when the embedding was made; checked each time
        before they are used, since an array can be filled anew and a run be recorded anew
    source : the predictions, once they are open
    held : fingerprint of `source` when it was taken; another one than `fingerprint` where a saved
        embedding keeps the predictions in another form
    kept : whether the embedding keeps the predictions themselves when it is saved
    samples : numbers of the samples of the set that D is over; None: all
    """

    metric: str | None = None
    sample_set: str | None = None
    models: pd.DataFrame | None = None
    ensemble: Path | None = None
    fingerprint: str | None = None
    sample_set_fingerprint: str | None = None
    source: PredictionSource | None = field(default=None, repr=False)
    held: str | None = None
    kept: bool = False
    samples: NDArray[np.intp] | None = None

    @classmethod
    def of_array(cls, predictions: ArrayLike, kind: Kind, metric: str) -> "TrainingModels":
        """Predictions in memory; the array is kept, and is not saved with the embedding.

        It is kept by reference, and the caller may fill it anew: what it holds now is known by
        its fingerprint.
        """
        return cls.of_source(ArrayPredictions(predictions, kind), metric)

    @classmethod
    def of_source(cls, source: PredictionSource, metric: str) -> "TrainingModels":
        """Any source; it may say what its models are and which samples they are on."""
        fingerprint = source.fingerprint()
        return cls(
            metric=metric,
            source=source,
            fingerprint=fingerprint,
            held=fingerprint,
            models=getattr(source, "models", None),
            sample_set=getattr(source, "sample_set", None),
            sample_set_fingerprint=getattr(source, "sample_set_fingerprint", None),
        )

    @classmethod
    def of_ensemble(cls, ensemble: Ensemble, sample_set: str, metric: str) -> "TrainingModels":
        source = ensemble.predictions(sample_set)
        fingerprint = source.fingerprint()
        return cls(
            metric=metric,
            sample_set=sample_set,
            models=ensemble.models,
            ensemble=Path(ensemble.path).absolute(),
            fingerprint=fingerprint,
            held=fingerprint,
            sample_set_fingerprint=ensemble.sample_sets[sample_set].fingerprint,
            source=source,
        )

    @classmethod
    def of_matrix(cls, matrix: TiledMatrix) -> "TrainingModels":
        """What a distance matrix on disk says of the models it was computed from."""
        ensemble, sample_set = _ensemble_around(matrix.path), matrix.attrs.get("sample_set")
        known = {} if ensemble is None else ensemble.sample_sets
        return cls(
            metric=matrix.attrs.get("metric"),
            sample_set=sample_set,
            models=matrix.models,
            ensemble=None if ensemble is None else Path(ensemble.path),
            fingerprint=matrix.attrs.get("identity", {}).get("predictions"),
            sample_set_fingerprint=known[sample_set].fingerprint if sample_set in known else None,
        )

    @classmethod
    def of_selection(cls, matrix: TiledMatrix, models: pd.DataFrame) -> "TrainingModels":
        """The same for some of the models of a matrix.

        Their fingerprint is taken from the predictions that are on disk now, if these are the
        ones the matrix was computed from; otherwise it is one that nothing has, so that they are
        refused once they are needed. The distances are good without them.
        """
        training = replace(cls.of_matrix(matrix), models=models, fingerprint=_CHANGED)
        if training.ensemble is None or training.sample_set is None:
            return training
        there = open_ensemble(training.ensemble).with_references().models.index
        if models.index.isin(there).all():
            source = replace(training, fingerprint=None)._reopen(len(models))
            if not changed_models(matrix, models, source):
                fingerprint = source.fingerprint()
                return replace(training, fingerprint=fingerprint, held=fingerprint, source=source)
        return training

    def record(self, embedding: Path) -> dict[str, Any]:
        """What a saved embedding keeps of this; the ensemble's path relative if it is around it."""
        where = self.ensemble
        if where is not None and where in embedding.absolute().parents:
            where = Path(os.path.relpath(where, embedding.absolute()))
        return {
            "metric": self.metric,
            "sample_set": self.sample_set,
            "ensemble": None if where is None else where.as_posix(),
            "fingerprint": self.fingerprint,
            "sample_set_fingerprint": self.sample_set_fingerprint,
        }

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], embedding: Path, models: pd.DataFrame | None
    ) -> "TrainingModels":
        where = record["ensemble"]
        fields = {**record, "ensemble": None if where is None else (embedding / where).resolve()}
        return cls(models=models, **fields)

    def open(self, n_models: int) -> PredictionSource:
        """The training predictions, verified to be those the embedding was made from.

        Raises
        ------
        InputError
            If they are not on disk, or have changed; says to pass distances instead.
        """
        if self.samples is not None:
            raise InputError(
                f"This embedding is of {len(self.samples):,} samples, its `samples_`, alone: "
                + _PASS_DISTANCES.format(m=n_models)
                + ", both over these samples."
            )
        if self.source is None:
            if self.ensemble is None or self.models is None:
                raise InputError(
                    "The training predictions of this embedding are not on disk: "
                    + _PASS_DISTANCES.format(m=n_models)
                    + "; or fit on an Ensemble, which the embedding then finds again."
                )
            self.hold(self._reopen(n_models))
        elif self.source.fingerprint() != self.held:
            raise InputError(
                "The training predictions have changed since the embedding was made from them (an "
                "array that was filled anew, or runs that were recorded anew): fit again, on a "
                f"copy of the array if it is used for something else; or "
                f"{_PASS_DISTANCES.format(m=n_models)}."
            )
        assert self.source is not None
        return self.source

    def hold(self, source: PredictionSource) -> None:
        """Take `source` as the training predictions, as they are now."""
        self.source, self.held = source, source.fingerprint()

    def attach(self, predictions: ArrayLike, kind: Kind) -> None:
        """Take the training predictions in memory back in, after verifying that they are those."""
        source = ArrayPredictions(predictions, kind, name="training")
        if source.fingerprint() != self.fingerprint:
            raise InputError(
                "`training` must be the predictions that the embedding was made from, of the "
                "same kind and precision, in the same order; these have another fingerprint."
            )
        self.hold(source)

    def check_sample_set(self, ensemble: Ensemble, sample_set: str) -> None:
        """Refuse new models whose samples are not the training models' samples, in their order."""
        if sample_set not in ensemble.sample_sets:
            raise InputError(
                f"`sample_set` must be one of {', '.join(ensemble.sample_sets)}, not "
                f"{sample_set!r}."
            )
        fingerprint = ensemble.sample_sets[sample_set].fingerprint
        if self.sample_set_fingerprint not in (None, fingerprint):
            raise InputError(
                f"`X`: sample set {sample_set!r} of {ensemble.path} is not the one the embedding "
                "was made from (other samples, or another order); record the models on the "
                "embedding's samples."
            )

    def _reopen(self, n_models: int) -> PredictionSource:
        assert self.ensemble is not None
        assert self.sample_set is not None
        assert self.models is not None
        keys = [str(key) for key in self.models.index]
        references = [key for key in keys if key.startswith("@")]
        try:
            view = open_ensemble(self.ensemble)
            if references:
                view = view.with_references(*references)
            view = view.select(keys)
        except InputError as error:
            raise InputError(
                f"The embedding's training models are no longer in {self.ensemble}: {error} "
                f"Otherwise {_PASS_DISTANCES.format(m=n_models)}."
            ) from error
        source = view.predictions(self.sample_set)
        if self.fingerprint is not None and source.fingerprint() != self.fingerprint:
            raise InputError(
                f"The predictions in {self.ensemble} are not those the embedding was made from "
                f"(other fingerprint); fit again, or {_PASS_DISTANCES.format(m=n_models)}."
            )
        return source


def changed_models(
    matrix: TiledMatrix, models: pd.DataFrame, source: PredictionSource
) -> list[str]:
    """Keys of those `models` whose predictions in `source` are not those `matrix` was made of."""
    assert matrix.models is not None
    names = [str(key) for key in models.index]
    recorded, digests = matrix.digests, getattr(source, "digests", None)
    if recorded is None or digests is None:
        return names
    rows = matrix.models.index.get_indexer(models.index)
    return [name for name, old, new in zip(names, recorded[rows], digests()) if old != new]


def _ensemble_around(path: Path) -> Ensemble | None:
    """The ensemble whose folder `path` lies in: distances/<name>.zarr of it."""
    for folder in Path(path).absolute().parents[:2]:
        if (folder / MANIFEST).is_file():
            return open_ensemble(folder)
    return None
