"""Start vectors from a former embedding: what it knows of the models that it shares."""

from typing import Any

import numpy as np
import pandas as pd

from inpca.embedding.pairs import Float64
from inpca.errors import InputError


def start_vectors(former: Any, models: pd.DataFrame | None, m: int) -> Float64:
    """Eigenvectors of a fitted `InPCA` on the models that are to be embedded.

    Parameters
    ----------
    former : the fitted estimator
    models : table of the models to embed, or None
    m : their number

    Returns
    -------
    (m, k of `former`): rows are matched by model key, or one by one where neither side has keys.
        A new model has zeros: the first pass over D gives it what its distances say, which is its
        projection.

    Raises
    ------
    InputError
        If the models cannot be matched.
    """
    vectors: Float64 = former.eigenvectors_
    if former.models_ is None or models is None:
        if former.models_ is not None or models is not None or len(vectors) != m:
            raise InputError(
                f"`init` is an embedding of {len(vectors)} models, `X` has {m}, and not both know "
                "their models' keys, by which rows could be matched; leave `init` out."
            )
        return vectors
    rows = former.models_.index.get_indexer(models.index)
    known = rows >= 0
    if not known.any():
        raise InputError(
            "`init` must be an embedding of some of the models of `X`, but it shares none "
            f"(its first is {former.models_.index[0]!r}); leave `init` out."
        )
    start = np.zeros((m, vectors.shape[1]))
    start[known] = vectors[rows[known]]
    return start
