"""The matrix at `out`: made, gone on with, extended, replaced, or refused."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inpca.distance.planner import default_tile_size
from inpca.distance.request import Request
from inpca.distance.sinks import FINISHED, FLOORED
from inpca.errors import DamagedStoreError, InputError, ResourceError
from inpca.reporting import Report
from inpca.store.claim import WHOLE, Part, claimed, door, others_at_work
from inpca.store.ensemble import open_ensemble
from inpca.store.growth import grow_matrix
from inpca.store.matrix import KIND, TiledMatrix, put_matrix
from inpca.store.replacement import is_there, tidy
from inpca.tiling import TileGrid
from inpca.units import count

_IDENTITY = "identity"
_PREDICTIONS = "predictions"
_RECORDED = "recorded"
_RESTART = "restart=True (--restart)"
_ANOTHER = "another `out` (--name)"


@dataclass(frozen=True)
class Target:
    """Where the distances go, and what may happen to what is there.

    Attributes
    ----------
    path : of the matrix
    part : (i, k): compute part i of k, beside other engines that compute the others
    resume, restart, extend : see `pairwise_distances`
    """

    path: Path
    part: Part = WHOLE
    resume: bool = True
    restart: bool = False
    extend: bool = False

    @property
    def there(self) -> bool:
        """Whether there is something to go on with."""
        return not self.restart and is_there(self.path, KIND)


@contextmanager
def claimed_matrix(request: Request, target: Target) -> Iterator[tuple[Request, TiledMatrix]]:
    """The matrix to fill, held for writing, and the request in the order of its models.

    Raises
    ------
    InputError
        If what is there is no matrix, or one of something else; or exists and resume=False.
    ResourceError
        If the distances do not fit, or another engine writes there.
    """
    path = target.path
    if os.path.lexists(path):
        with ExitStack() as tolerated:
            if target.restart:
                tolerated.enter_context(suppress(DamagedStoreError))
            TiledMatrix.open(path)  # refuses what is none, before a lock is laid beside it
    if not target.there:
        request.check_fits(request.plan(_tile_size(request), stored=True, out=path), path)
    with ExitStack() as held:
        with door(path):
            held.enter_context(claimed(path, target.part))
            alone = not others_at_work(path, target.part)
            if alone:
                tidy(path, KIND)
            request, matrix = _matrix(request, target, alone)
        yield request, matrix


def backend_there(target: Target) -> str | None:
    """The backend that the matrix at `target` was begun with, if it will be gone on with."""
    if not target.there or not os.path.lexists(target.path):
        return None
    backend = TiledMatrix.open(target.path).attrs.get(_IDENTITY, {}).get("backend")
    return None if backend is None else str(backend)


def _tile_size(request: Request) -> int:
    return request.tile_size or default_tile_size(request.n_rows)


def _matrix(request: Request, target: Target, alone: bool) -> tuple[Request, TiledMatrix]:
    path = target.path
    if target.restart or not os.path.lexists(path):
        return request, _create(request, path)
    if not target.resume:
        raise InputError(
            f"`out` {path} exists already and resume=False; pass resume=True to go on, "
            f"{_RESTART} to replace it, or {_ANOTHER}."
        )
    matrix = TiledMatrix.open(path)
    if request.tile_size is None:
        request = replace(request, tile_size=matrix.grid.tile_size)
    if target.extend:
        request = _in_order_of(matrix, request)
    if matrix.fingerprint == _fingerprint(_identity(request)):
        return request, matrix
    if not target.extend:
        request = _as_it_grew(matrix, request)
        if matrix.fingerprint != _fingerprint(_identity(request)):
            _refuse(matrix, request)
        return request, matrix
    return request, _extend(matrix, request, alone)


def _create(request: Request, path: Path) -> TiledMatrix:
    """An empty matrix for `request`, in the place of what is there."""
    description = _description(request)
    grid = TileGrid(description.pop("n_models"), _tile_size(request))
    put_matrix(path, grid, **description)
    return TiledMatrix.open(path)


def _description(request: Request) -> dict[str, Any]:
    """What a matrix says of itself, beside its tiles."""
    identity = _identity(request)
    return {
        "n_models": request.n_rows,
        "fingerprint": _fingerprint(identity),
        "owner": _owner(request, identity),
        "models": request.models,
        "digests": request.digests,
        "attrs": {
            "metric": request.divergence.name,
            "unit": request.divergence.unit,
            "sample_set": request.sample_set,
            "n_samples": request.shape[1],
            "n_classes": request.shape[2],
            _IDENTITY: identity,
            FLOORED: None,
            FINISHED: False,
        },
    }


def _owner(request: Request, identity: Mapping[str, str]) -> str:
    """Whom the seals of the tiles name: all of the identity that stays when the matrix grows.

    The models are bound by the list of their digests; without one a matrix cannot grow.
    """
    if request.digests is None:
        return _fingerprint(identity)
    lasting = {name: value for name, value in identity.items() if name != _PREDICTIONS}
    return _fingerprint({**lasting, "sample_set": f"{request.sample_set} {request.shape[1:]}"})


def _identity(request: Request) -> dict[str, str]:
    """What makes two distance jobs the same one, by name."""
    return {
        _PREDICTIONS: request.fingerprint,
        "metric": request.divergence.name,
        "dtype": request.source.dtype.name,
        "tile_size": str(_tile_size(request)),
        "backend": request.choice.backend,
        "kernel": request.kernel(_tile_size(request)),
    }


def _fingerprint(identity: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(identity.items())).encode()).hexdigest()


def _different(matrix: TiledMatrix, request: Request) -> dict[str, str]:
    """What of the identity is not the same, in words."""
    there = matrix.attrs.get(_IDENTITY, {})
    different = {
        name: f"{name} {there.get(name, '(not recorded)')} instead of {value}"
        for name, value in _identity(request).items()
        if there.get(name) != value
    }
    if _PREDICTIONS in different:
        different[_PREDICTIONS] = _other_models(matrix, request)
    changed = _recorded_again(matrix, request)
    return {_RECORDED: changed, **different} if changed else different


def _other_models(matrix: TiledMatrix, request: Request) -> str:
    """How the models of `matrix` and of the request differ, by number and by name if they have."""
    counts = f"{matrix.shape[0]:,} models instead of {request.n_rows:,}"
    if matrix.models is None or request.models is None:
        same = matrix.shape[0] == request.n_rows
        return "predictions of other values" if same else counts
    there, asked = matrix.models.index, request.models.index
    added, lost = asked.difference(there), there.difference(asked)
    parts = [
        f"{len(keys):,} {what}, {keys[0]!r} first"
        for keys, what in ((added, "added"), (lost, "no longer among them"))
        if len(keys)
    ]
    if not parts:
        set_there, set_asked = matrix.attrs.get("sample_set"), request.sample_set
        if set_there != set_asked:
            return f"predictions on the sample set {set_there!r} instead of {set_asked!r}"
        order = "in another order" if not asked.equals(there) else "with other predictions"
        return f"the same models {order}"
    return f"{counts}: {', '.join(parts)}"


def _recorded_again(matrix: TiledMatrix, request: Request) -> str:
    """Which models of both have other predictions now than when `matrix` was computed; or empty."""
    there, asked = matrix.digests, request.digests
    same_set = matrix.attrs.get("sample_set") == request.sample_set
    if matrix.models is None or request.models is None or there is None or asked is None:
        return ""
    before, now = pd.Series(there, matrix.models.index), pd.Series(asked, request.models.index)
    common = before.index.intersection(now.index, sort=False)
    changed = common[(before[common] != now[common]).to_numpy()]
    if not len(changed) or not same_set:
        return ""
    first = changed[0]
    return (
        f"{count(len(changed), 'model')} {'has' if len(changed) == 1 else 'have'} other "
        f"predictions now, model {first!r} first: run {str(first).rpartition('/')[0]!r} was "
        "recorded again"
    )


def _refuse(matrix: TiledMatrix, request: Request) -> None:
    different = _different(matrix, request)
    cure = f"pass {_RESTART} to replace it, or {_ANOTHER}"
    recorded_again = different.pop(_RECORDED, "")
    if recorded_again:
        raise InputError(
            f"`out` {matrix.path} was computed from other predictions: {recorded_again} "
            f"({'; '.join(different.values())}); {cure}."
        )
    if list(different) == [_PREDICTIONS] and request.n_rows >= matrix.shape[0]:
        cure = (
            "if models have been added, pass extend=True (--extend) to compute those alone; or "
            f"{cure}"
        )
    raise InputError(
        f"`out` {matrix.path} was computed from something else ({'; '.join(different.values())}); "
        f"{cure}."
    )


def _as_it_grew(matrix: TiledMatrix, request: Request) -> Request:
    """The request in the order of `matrix`, where it is of the same models of an ensemble.

    A matrix that grew has its old models first. An order that the caller has chosen, by a list of
    keys, is kept.
    """
    if matrix.models is None or request.ensemble is None:
        return request
    there, asked = matrix.models.index, request.ensemble.models.index
    if len(there) != len(asked) or not there.isin(asked).all():
        return request
    everything = open_ensemble(request.ensemble.path).with_references().models.index
    chosen = (np.diff(everything.get_indexer(asked)) < 0).any()
    return request if chosen else request.with_models(list(there))


# -- growth ---------------------------------------------------------------------------------------


def _in_order_of(matrix: TiledMatrix, request: Request) -> Request:
    """The request with the models of `matrix` first, in its order; of arrays as it is."""
    frozen = matrix.models
    if frozen is None or request.ensemble is None:
        return request
    asked = request.ensemble.models.index
    known = set(asked)
    lost = [key for key in frozen.index if key not in known]
    if lost:
        recorded_again = _recorded_again(matrix, request)
        raise InputError(
            f"`X` must hold all models of `out` {matrix.path} to extend it, but "
            f"{f'{recorded_again}; and ' if recorded_again else ''}{len(lost):,} are "
            f"not among its {len(asked):,}, {lost[0]!r} first; give {_ANOTHER}."
        )
    old = set(frozen.index)
    return request.with_models([*frozen.index, *(key for key in asked if key not in old)])


def _extend(matrix: TiledMatrix, request: Request, alone: bool) -> TiledMatrix:
    """`matrix` with the further models of `request`, whose first ones are proven to be its own."""
    _check_extends(matrix, request)
    if not alone:
        raise ResourceError(
            f"{matrix.path} cannot be extended while other processes compute parts of it; wait for "
            "them."
        )
    grid = TileGrid(request.n_rows, matrix.grid.tile_size)
    n_full = matrix.shape[0] // grid.tile_size
    todo = [tile for tile in grid.tiles() if tile[1] >= n_full] + matrix.missing()
    plan = request.plan(grid.tile_size, sorted(set(todo)), stored=True, out=matrix.path)
    request.check_fits(plan, matrix.path)
    return grow_matrix(matrix, **_description(request))


def _check_extends(matrix: TiledMatrix, request: Request) -> None:
    different = _different(matrix, request)
    different.pop(_PREDICTIONS, None)
    recorded_again = different.pop(_RECORDED, "")
    if recorded_again:
        raise InputError(
            f"`X` must begin with the models of `out` {matrix.path} to extend it, but "
            f"{recorded_again}; pass {_RESTART} to compute all distances again, or {_ANOTHER}."
        )
    if different:
        raise InputError(
            f"`out` {matrix.path} cannot be extended: it was computed with other settings "
            f"({'; '.join(different.values())}); use those, or {_ANOTHER}."
        )
    there, asked = matrix.digests, request.digests
    if there is None or asked is None:
        raise InputError(
            f"`out` {matrix.path} cannot be extended: {'it' if there is None else '`X`'} has no "
            f"`digests`, the identity of each model; pass {_RESTART}, or {_ANOTHER}."
        )
    if len(asked) < len(there):
        raise InputError(
            f"`X` must begin with the {len(there):,} models of `out` {matrix.path} to extend it, "
            f"but it has {len(asked):,} models; give {_ANOTHER}."
        )
    changed = np.flatnonzero(there != asked[: len(there)])
    if len(changed):
        name = changed[0] if request.models is None else repr(request.models.index[changed[0]])
        raise InputError(
            f"`X` must begin with the models of `out` {matrix.path} to extend it, but "
            f"{len(changed):,} are not what they were, model {name} first; pass {_RESTART} to "
            f"compute all distances again, or {_ANOTHER}."
        )


# -- repair ---------------------------------------------------------------------------------------


def remove_damaged(matrix: TiledMatrix, report: Report | None = None) -> list[str]:
    """Verify `matrix` and remove its damaged tiles; returns what was damaged.

    Raises
    ------
    DamagedStoreError
        If something else than a tile is damaged.
    """
    tiles = {f"distance/c.{i}.{j}": (i, j) for i, j in matrix.grid.tiles()}
    found = matrix.verify(report)
    for damage in found:
        if damage.key not in tiles:
            raise DamagedStoreError(
                f"{matrix.path}: {damage.key} {damage.reason}; tiles alone can be repaired: pass "
                f"{_RESTART} to compute the matrix again."
            )
        matrix.remove_tile(tiles[damage.key])
    return [f"{damage.key}: {damage.reason}" for damage in found]
