"""Where trajectory distances are kept: made, gone on with, replaced, or refused."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inpca.errors import DamagedStoreError, InputError
from inpca.geometry.runs import PROGRESS, RunOptions, Trajectories
from inpca.store.claim import claimed, door
from inpca.store.replacement import tidy
from inpca.store.trajectories import (
    KIND,
    StoredTrajectories,
    create_trajectories,
    open_trajectories,
)


@contextmanager
def claimed_trajectories(
    path: Path,
    found: Trajectories,
    metric: str,
    options: RunOptions,
    resume: bool,
    restart: bool,
) -> Iterator[StoredTrajectories]:
    """The folder at `path`, held for writing, to be filled with the distances of `found`.

    Raises
    ------
    InputError
        If what is there is none, or was computed from something else; or exists and resume=False.
    ResourceError
        If another process is writing there, to resume or to restart.
    """
    if os.path.lexists(path):
        with ExitStack() as tolerated:
            if restart:
                tolerated.enter_context(suppress(DamagedStoreError))
            open_trajectories(path)  # refuses what is none, before a lock is laid beside it
    with ExitStack() as held:
        with door(path):
            held.enter_context(claimed(path))
            tidy(path, KIND)
            store = _stored_at(path, found, metric, options, resume, restart)
        yield store


def _stored_at(
    path: Path,
    found: Trajectories,
    metric: str,
    options: RunOptions,
    resume: bool,
    restart: bool,
) -> StoredTrajectories:
    index = options.get("index", PROGRESS)
    attrs = {
        "fingerprint": found.fingerprint(),
        "metric": metric,
        "sample_set": options.get("sample_set", "train"),
        "index": index if isinstance(index, str) else "values",
        "outside": options.get("outside", "hold"),
    }
    if restart or not os.path.lexists(path):
        counts = {"backwards": found.backwards, "outside": found.outside}
        return create_trajectories(path, found.runs, found.s, counts, attrs)
    store = open_trajectories(path)
    if not resume:
        raise InputError(
            f"`out` {path} exists already and resume=False; pass resume=True to go on, "
            "restart=True (--restart) to replace it, or another `out` (--name)."
        )
    if any(
        store.attrs.get(name) != attrs[name] for name in ("fingerprint", "metric", "sample_set")
    ):
        raise InputError(
            f"`out` {path} was computed from something else ({_different(store, found, attrs)}); "
            "pass restart=True (--restart) to replace it, or another `out` (--name)."
        )
    return store


def _different(store: StoredTrajectories, found: Trajectories, attrs: dict[str, str]) -> str:
    """How what is stored differs from what is asked for."""
    parts = []
    if not np.array_equal(store.s, found.s):
        parts.append(f"{_shown(store.s)} instead of {_shown(found.s)}")
    there, asked = store.runs.index, found.runs.index
    for runs, text in (
        (asked.difference(there), "now asked for are not in it"),
        (there.difference(asked), "in it are not asked for now"),
    ):
        if len(runs):
            parts.append(f"{len(runs):,} of the runs {text}, {runs[0]!r} first")
    for name in ("metric", "sample_set", "index", "outside"):
        stored = store.attrs.get(name, attrs[name])  # older ones do not say all of it
        if stored != attrs[name]:
            parts.append(f"{name} {stored!r} instead of {attrs[name]!r}")
    return "; ".join(parts) or "the same runs with other predictions, or indexed by other values"


def _shown(s: NDArray[np.float64]) -> str:
    return f"{len(s)} values of s from {s.min():.6g} to {s.max():.6g}"
