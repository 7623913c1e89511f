"""Conservation: how many stragglers two runs have in common, against chance (Eq. 12)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import plain_array
from inpca.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Conservation:
    """Common samples M of the sets of two runs, over all pairs of runs, against random sets.

    Attributes
    ----------
    overlap : ⟨M⟩, the mean number of common samples
    overlap_std : σ_M, its standard deviation over pairs; NaN of a single pair
    null : ⟨M̂⟩, the mean for random sets of the same sizes
    null_std : σ_M̂, the standard deviation for random sets
    share, null_share : the same means, each pair's over the mean size of its two sets
    n_pairs : number of pairs
    pairs : M of every pair, (n_runs, n_runs_other); the diagonal of a set with itself is its size
    """

    overlap: float
    overlap_std: float
    null: float
    null_std: float
    share: float
    null_share: float
    n_pairs: int
    pairs: NDArray[np.int64]

    @property
    def z(self) -> float:
        """z = (⟨M⟩ − ⟨M̂⟩) / σ_M (Eq. 12): over the spread between runs, as the paper has it."""
        return _ratio(self.overlap - self.null, self.overlap_std)

    @property
    def z_null(self) -> float:
        """(⟨M⟩ − ⟨M̂⟩) / σ_M̂: over the spread of the null, which a test against chance takes."""
        return _ratio(self.overlap - self.null, self.null_std)


def conservation(sets: ArrayLike, others: ArrayLike | None = None) -> Conservation:
    """Conservation of sets of samples between runs (Eq. 12) with the hypergeometric null.

    For two random sets of sizes k and l among N samples, M̂ is hypergeometric: its mean is k·l/N,
    its variance k·l·(N − k)·(N − l) / (N²·(N − 1)). Over pairs of other sizes, ⟨M̂⟩ is the mean of
    the means, and σ_M̂² the mean of the variances and the variance of the means together.

    Parameters
    ----------
    sets : masks of one architecture's runs, such as their stragglers, (n_runs, n_samples)
    others : masks of another architecture's runs over the same samples, (n_runs_other,
        n_samples); every run of one is paired with every run of the other. Without it, all pairs
        of different runs of `sets`

    Raises
    ------
    InputError
        For masks that are not truth values or of other samples, for fewer than two runs.

    Examples
    --------
    >>> masks = np.zeros((2, 100), dtype=bool)
    >>> masks[0, :10] = masks[1, 2:12] = True
    >>> found = conservation(masks)
    >>> found.overlap, found.share, found.null
    (8.0, 0.8, 1.0)
    """
    first = _check_masks(sets, "sets")
    second = first if others is None else _check_masks(others, "others", first.shape[1])
    if others is None and len(first) < 2:
        raise InputError("`sets` must be of at least two runs, or `others` be given.")
    # float64 counts are exact, and go through the matrix product that integers lack.
    pairs = np.rint(first.astype(np.float64) @ second.astype(np.float64).T).astype(np.int64)
    rows, columns = (
        np.triu_indices(len(first), 1)
        if others is None
        else tuple(axis.ravel() for axis in np.indices(pairs.shape))
    )
    sizes = first.sum(axis=1)[rows], second.sum(axis=1)[columns]
    common = pairs[rows, columns].astype(np.float64)
    means, variances = _hypergeometric(*sizes, first.shape[1])
    mean_size = np.maximum((sizes[0] + sizes[1]) / 2, 1)
    return Conservation(
        overlap=float(common.mean()),
        overlap_std=float(common.std(ddof=1)) if len(common) > 1 else float("nan"),
        null=float(means.mean()),
        null_std=float(np.sqrt(variances.mean() + means.var())),
        share=float((common / mean_size).mean()),
        null_share=float((means / mean_size).mean()),
        n_pairs=len(common),
        pairs=pairs,
    )


def _hypergeometric(
    k: NDArray[np.int64], size: NDArray[np.int64], n_samples: int
) -> tuple[Floats, Floats]:
    """Mean and variance of the common samples of random sets of sizes `k` and `size`."""
    first, second = k.astype(np.float64), size.astype(np.float64)
    mean = first * second / n_samples
    rest = (n_samples - first) * (n_samples - second)
    return mean, mean * rest / (n_samples * max(n_samples - 1, 1))


def _check_masks(masks: ArrayLike, name: str, n_samples: int | None = None) -> NDArray[np.bool_]:
    values = plain_array(masks, name)
    if values.ndim != 2 or values.dtype != bool or not values.size:
        raise InputError(
            f"`{name}` must be truth values of shape (n_runs, n_samples), such as `stragglers` "
            f"gives, not {values.dtype} of shape {values.shape}."
        )
    if n_samples is not None and values.shape[1] != n_samples:
        raise InputError(
            f"`{name}` must be over the same {n_samples:,} samples as `sets`, not "
            f"{values.shape[1]:,}."
        )
    return values


def _ratio(difference: float, spread: float) -> float:
    """Their quotient; infinite where nothing spreads, NaN where the spread is not known."""
    if spread == 0:
        return float(np.copysign(np.inf, difference)) if difference else 0.0
    return difference / spread
