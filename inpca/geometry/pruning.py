"""Pruning plans: which samples to train on again, without S(t) or without as many random ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inpca.checks import LABELS, plain_array
from inpca.errors import InputError

Plan = dict[str, dict[str, Any]]


def pruning_plan(
    sets: Mapping[str, ArrayLike],
    *,
    sample_set: str = "train",
    n_random: int = 1,
    seed: int = 0,
    whole: bool = True,
) -> Plan:
    """What to train on to see what the samples of some sets are for (Fig. 2).

    A plan is plain data, ready for JSON and YAML: a name for each training set, with the samples
    to keep and the columns that tell the runs apart in the models table. Written to a file of its
    own (``json.dump(plan[name], file)``), an entry is what a sweep takes as ``keep``.

    Parameters
    ----------
    sets : name → mask of the samples to leave out, (n_samples,), such as
        ``{"stragglers": stragglers(p, y, t), "late": stragglers(p, y, 2 * t)}``
    sample_set : the sample set they are samples of
    n_random : controls for every set, each without a random set of the same size
    seed : of the random sets
    whole : whether training on all samples is in the plan, under the name ``"all"``

    Returns
    -------
    name → ``{"sample_set": …, "keep": [index, …], "config": {"pruned": name, "n_pruned": …,
    "pruned_at_random": …}}``; indices increase

    Raises
    ------
    InputError
        For masks that are not truth values over the same samples, or that leave nothing.

    Examples
    --------
    >>> plan = pruning_plan({"stragglers": [False, True, False, False]})
    >>> list(plan)
    ['all', 'without-stragglers', 'without-stragglers-random-0']
    >>> plan["without-stragglers"]["keep"]
    [0, 2, 3]
    >>> len(plan["without-stragglers-random-0"]["keep"])
    3
    """
    masks = _check_sets(sets)
    if n_random < 0:
        raise InputError(f"`n_random` must be at least 0, not {n_random}.")
    generator = np.random.default_rng(seed)
    plan: Plan = {}
    if whole:
        nothing = np.zeros_like(next(iter(masks.values())))
        plan["all"] = _entry(sample_set, nothing, "none", at_random=False)
    for name, mask in masks.items():
        plan[f"without-{name}"] = _entry(sample_set, mask, name, at_random=False)
        for number in range(n_random):
            chance = generator.permutation(mask)
            plan[f"without-{name}-random-{number}"] = _entry(
                sample_set, chance, name, at_random=True
            )
    return plan


def _entry(
    sample_set: str, mask: NDArray[np.bool_], name: str, *, at_random: bool
) -> dict[str, Any]:
    config = {"pruned": name, "n_pruned": int(mask.sum()), "pruned_at_random": at_random}
    kept = np.flatnonzero(~mask).tolist()
    return {"sample_set": sample_set, "keep": kept, "config": config}


def _check_sets(sets: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.bool_]]:
    if not isinstance(sets, Mapping) or not sets:
        raise InputError("`sets` must map at least one name to a mask of samples to leave out.")
    masks = {name: plain_array(mask, f"sets[{name!r}]", LABELS) for name, mask in sets.items()}
    length = next(iter(masks.values())).size
    for name, mask in masks.items():
        if mask.dtype != bool or mask.shape != (length,):
            raise InputError(
                f"`sets[{name!r}]` must be truth values, one for each of {length:,} samples, not "
                f"{mask.dtype} of shape {mask.shape}."
            )
        if mask.all():
            raise InputError(f"`sets[{name!r}]` is every sample: nothing is left to train on.")
    return masks
