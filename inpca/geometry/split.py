"""Stragglers against the rest: what each set of samples makes of the manifold by itself."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from inpca.checks import usable_path
from inpca.distance.pairwise import pairwise_distances
from inpca.distance.request import Models, source_of
from inpca.embedding.inpca import InPCA
from inpca.embedding.stress import explained_pairwise_distances
from inpca.embedding.subsets import SampleSubset, embed_samples
from inpca.embedding.tiles import DistanceTiles, as_tiles
from inpca.errors import InputError
from inpca.executor import Executor
from inpca.geometry.attribution import sample_mask
from inpca.predictions import Floats, Kind
from inpca.reporting import ProgressArgument, reporting

PARTS = ("chosen", "rest")


@dataclass(frozen=True)
class Split:
    """Embeddings of the same models by two disjoint sets of samples.

    Attributes
    ----------
    embeddings : ``"chosen"`` and ``"rest"`` → fitted `InPCA` of the distances on these samples,
        whose numbers are its ``samples_``
    explained : one row per set and number of coordinates, with the columns ``part``,
        ``n_samples``, ``d``; ``own``, Eq. 12 of the distances on its own samples; ``all``, Eq. 12
        of the distances on all samples, which are placed into the set's embedding by Eq. 10.
        Below 0 where the coordinates are further from the distances than 0 would be
    """

    embeddings: dict[str, InPCA]
    explained: pd.DataFrame


def split_embedding(
    X: Models,
    D: Floats | DistanceTiles,
    samples: ArrayLike,
    *,
    n_components: int = 3,
    kind: Kind = "probs",
    sample_set: str = "train",
    out: str | os.PathLike[str] | None = None,
    memory: int | float | str | None = None,
    executor: str | int | Executor | None = None,
    progress: ProgressArgument = None,
) -> Split:
    """Embed models by some samples alone and by the others alone.

    Parameters
    ----------
    X : predictions (m, N, C) of `kind`, an `Ensemble`, or any `PredictionSource`
    D : Bhattacharyya distances of the same models over all samples, in the same order
    samples : the chosen ones (stragglers), truth values (N,) or indices
    n_components : kept coordinates
    out : folder for the two matrices of distances, where they do not fit in memory; a killed call
        goes on from what is there
    kind, sample_set, memory, executor, progress : see `inpca.pairwise_distances`

    Returns
    -------
    Split

    Raises
    ------
    InputError
        If the samples are all or none, or `D` is of another number of models.

    Notes
    -----
    Two jobs of distances, two embeddings, and two passes over D: nothing of size m² is in memory
    with `out`.
    """
    source = source_of(X, kind, sample_set, "X")
    chosen = sample_mask(samples, source.shape[1])
    if chosen.all():
        raise InputError("`samples` are all samples: nothing is left to compare them with.")
    if as_tiles(D).grid.n_models != source.shape[0]:
        raise InputError(
            f"`D` is of {as_tiles(D).grid.n_models:,} models but `X` has {source.shape[0]:,}; pass "
            "the distances of the same models, in the same order."
        )
    embeddings, tables = {}, []
    shared: dict[str, Any] = {"memory": memory, "executor": executor}
    with reporting(progress, "samples apart") as report:
        for number, (part, mask) in enumerate(zip(PARTS, (chosen, ~chosen), strict=True)):
            report(number, len(PARTS), f"{part}: {mask.sum():,} samples")
            positions = np.flatnonzero(mask)
            place = None if out is None else usable_path(out, "out") / f"{part}.zarr"
            distances = pairwise_distances(SampleSubset(source, positions), out=place, **shared)
            embedding = embed_samples(
                X, positions, distances, n_components, kind=kind, sample_set=sample_set, **shared
            )
            embeddings[part] = embedding
            tables.append(_explained(part, int(mask.sum()), distances, D, embedding, executor))
        report(len(PARTS), len(PARTS), "done")
    return Split(embeddings, pd.concat(tables, ignore_index=True))


def _explained(
    part: str,
    n_samples: int,
    own: Floats | DistanceTiles,
    D: Floats | DistanceTiles,
    embedding: InPCA,
    executor: str | int | Executor | None,
) -> pd.DataFrame:
    signature = embedding.signature_
    of_own = explained_pairwise_distances(own, embedding.embedding_, signature, executor=executor)
    of_all = explained_pairwise_distances(D, embedding.join("all", D), signature, executor=executor)
    d = np.arange(1, len(of_own) + 1)
    columns = {"part": part, "n_samples": n_samples, "d": d, "own": of_own, "all": of_all}
    return pd.DataFrame(columns)
