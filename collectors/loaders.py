"""Loaders of sample sets: that they bring every sample, once, in an order that does not change.

What a sampler will draw is asked of the sampler itself, which reads no data. What only shows in
the data, such as a collate function that thins batches out, is counted while it is read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from inpca.errors import InputError

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_OVERRIDE = "or pass check_inputs=False if it is meant to"


def check_loaders(sample_sets: Mapping[str, Any], *, count: bool = True) -> None:
    """Refuse loaders that shuffle, drop or repeat samples, or can be read only once.

    Parameters
    ----------
    sample_sets : a loader for each sample set
    count : also compare what the samplers draw with the data sets

    Raises
    ------
    InputError
        Naming the sample set, and the sampler.
    """
    for name, loader in sample_sets.items():
        if isinstance(loader, Iterator):
            raise InputError(
                f"`sample_sets[{name!r}]` is an iterator, which can be read only once; pass a "
                "loader."
            )
        _check_order(name, loader)
        _check_iterable(name, loader, count)
        if count:
            _check_draws(name, loader)


def expected_samples(loader: Any) -> int | None:
    """How many samples a loader of torch must bring; None where only its data can tell."""
    indices = _drawn(loader)
    if indices is not None:
        return len(indices) if getattr(loader, "batch_sampler", None) is not None else None
    return _size(loader) if _of_samples(loader) else None


def check_count(name: str, loader: Any, found: int, *, exact: bool) -> None:
    """Refuse a pass that brought another number of labels than the loader has samples.

    Parameters
    ----------
    name, loader : the sample set
    found : labels that the pass brought
    exact : whether a sample has one label, and not several (as with a `forward` of its own)
    """
    expected = expected_samples(loader)
    if expected is None or found == expected or (not exact and found > expected):
        return
    what = "loses samples" if found < expected else "repeats samples"
    raise InputError(
        f"The loader of sample set {name!r} {what}: it brought {found:,} labels of a data set of "
        f"{expected:,} samples; mend its data set or collate_fn, {_OVERRIDE}."
    )


def _samplers(loader: Any) -> list[Any]:
    """The loader's samplers, those inside others as well."""
    found = [getattr(loader, name, None) for name in ("sampler", "batch_sampler")]
    for outer in found:
        if outer is None or len(found) > 10:
            continue
        inner = [getattr(outer, name, None) for name in ("sampler", "batch_sampler")]
        found += [one for one in inner if one is not None and all(one is not f for f in found)]
    return [one for one in found if one is not None]


def _check_order(name: str, loader: Any) -> None:
    for sampler in _samplers(loader):
        if isinstance(sampler, _SHUFFLING) or getattr(sampler, "shuffle", False) is True:
            raise InputError(
                f"The loader of sample set {name!r} shuffles ({type(sampler).__name__}), so its "
                "samples have no fixed order; pass a second loader over the same data set, with "
                "shuffle=False."
            )
        if (parts := _parts(sampler)) > 1:
            raise InputError(
                f"The loader of sample set {name!r} brings one part of {parts} "
                f"({type(sampler).__name__}), that of this process; pass a second loader over the "
                "whole data set, without a sampler."
            )


def _parts(sampler: Any) -> int:
    """Over how many processes a sampler spreads the samples."""
    counts = (getattr(sampler, word, 1) for word in ("num_replicas", "num_processes"))
    return max((count for count in counts if isinstance(count, int)), default=1)


def _check_iterable(name: str, loader: Any, count: bool) -> None:
    if not isinstance(getattr(loader, "dataset", None), IterableDataset):
        return
    if getattr(loader, "drop_last", False):
        raise InputError(
            f"The loader of sample set {name!r} drops the samples of an incomplete last batch; "
            "make it with drop_last=False."
        )
    if count and getattr(loader, "num_workers", 0) > 1:
        raise InputError(
            f"The loader of sample set {name!r} reads an IterableDataset in {loader.num_workers} "
            "processes, each of which brings all samples unless the data set shares them out; "
            f"make it with num_workers=0, {_OVERRIDE}."
        )


def _check_draws(name: str, loader: Any) -> None:
    """Compare what the samplers draw, twice, with the numbers of the data set's samples."""
    indices, size = _drawn(loader), _size(loader)
    if indices is None or size is None:
        return
    if _drawn(loader) != indices:
        sampler = type(_samplers(loader)[0]).__name__
        raise InputError(
            f"The loader of sample set {name!r} shuffles ({sampler}): two passes draw its samples "
            "in different orders; pass a second loader, with shuffle=False."
        )
    chosen = any(_chosen_by_hand(sampler) for sampler in _samplers(loader))
    repeated = len(indices) - len(set(indices))
    if repeated or (len(indices) != size and not chosen):
        lost = f"{size - len(set(indices)):,} of {size:,} samples are never drawn"
        again = f"{repeated:,} are drawn again"
        dropping = any(getattr(one, "drop_last", False) for one in [loader, *_samplers(loader)])
        cure = "make it with drop_last=False" if dropping else "leave the sampler out"
        raise InputError(
            f"The loader of sample set {name!r} does not bring every sample once: {lost}, {again}; "
            f"{cure}, pass torch.utils.data.Subset(data, indices) for a part of the data, "
            f"{_OVERRIDE}."
        )


def _chosen_by_hand(sampler: Any) -> bool:
    """Whether the samples are a plain list of numbers, which says what is wanted."""
    return isinstance(sampler, Sequence | np.ndarray | torch.Tensor)


def _drawn(loader: Any) -> list[Any] | None:
    """The numbers of the samples that a loader draws, in order; None where it draws by none."""
    batches, size = getattr(loader, "batch_sampler", None), _size(loader)
    if size is None or isinstance(loader.dataset, IterableDataset):
        return None
    if batches is None and not hasattr(loader, "sampler"):
        return None
    draws = chain.from_iterable(batches) if batches is not None else loader.sampler
    # A sampler without an end is cut off where it must have begun again.
    return list(islice(_numbers(draws), 2 * size + 1))


def _numbers(draws: Iterable[Any]) -> Iterator[Any]:
    """The numbers of samples, whatever holds them; a sampler may draw whole batches."""
    for one in draws:
        if isinstance(one, np.generic | np.ndarray | torch.Tensor):
            one = one.tolist()
        if isinstance(one, list):
            yield from one
        else:
            yield one


def _size(loader: Any) -> int | None:
    """Items of the data set; None where it does not know."""
    try:
        return len(loader.dataset)
    except (AttributeError, TypeError, NotImplementedError):
        return None


def _of_samples(loader: Any) -> bool:
    """Whether an item of the data set is a sample, and not a batch made before."""
    return getattr(loader, "batch_size", None) is not None
