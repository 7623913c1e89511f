"""The models table of an ensemble, derived from its runs and cached in the file `catalogue`.

The cache is never trusted for more than it saw: an entry counts only while the run's root
`zarr.json` is the very file it was made from (inode, size, time of change). So the file may be
deleted, garbage or old at any time; where it may not be read or written, or the disk is full, it is
done without.
"""

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inpca import durable
from inpca.errors import DamagedStoreError, InputError
from inpca.store import layout, schema
from inpca.store.claim import sweep_beside
from inpca.store.deletion import lost_root
from inpca.store.files import (
    FULL,
    REFUSED,
    Damage,
    damaged,
    file_lock,
    is_own,
    read_bytes,
    take,
    where_writable,
)
from inpca.store.layout import CorruptChunk
from inpca.store.run import SUFFIX, Recording, Run, root_error
from inpca.store.settings import setting_column

_VERSION = f"inpca catalogue {schema.FORMAT_VERSION}\n".encode()
# A commit within the resolution of the file's time could leave the same stamp: a run that changed
# less than this before it was read is read again next time.
_TIMES = 20  # that runs which change meanwhile are read
_SETTLED_NS = 2_000_000_000

Entry = dict[str, Any]
Stamp = list[int]
Recordings = Mapping[str, Recording]


class Catalogue:
    """The models table of the ensemble at `path`, read again when a run has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[dict[str, Stamp], pd.DataFrame, Recordings] | None = None

    def models(self) -> pd.DataFrame:
        """A copy of the models table as it is now; see `models_table`."""
        return self.listing()[0]

    def listing(self) -> tuple[pd.DataFrame, Recordings]:
        """A copy of the models table as it is now, and the recordings of runs that it lists."""
        stamps = run_stamps(self._path / "runs")
        if self._seen is None or self._seen[0] != stamps:
            now = time.time_ns()
            entries = read_entries(self._path)
            table = models_table(entries)
            seen = {name: entry["stamp"] for name, entry in entries.items()}
            if not all(_is_settled(stamp, now) for stamp in seen.values()):
                return table, _recordings(entries)
            self._seen = seen, table, _recordings(entries)
        return self._seen[1].copy(), self._seen[2]


def _recordings(entries: Mapping[str, Entry]) -> Recordings:
    found = {}
    for run_id, entry in entries.items():
        n_checkpoints, columns, digest = entry["recording"]
        found[run_id] = Recording(n_checkpoints, tuple(columns), digest)
    return found


def _is_settled(stamp: Stamp, now: int) -> bool:
    return now - stamp[2] > _SETTLED_NS


def read_entries(ensemble: Path) -> dict[str, Entry]:
    """What the models table needs of every committed run, by run id in sorted order.

    An entry has ``stamp``, ``config``, ``columns`` (step, epoch and metrics, lists) and
    ``recording`` (see `Recording`, a list). Where a run is deleted or recorded anew while it is
    read, all is read again.
    """
    for _ in range(_TIMES):
        stamps = run_stamps(ensemble / "runs")
        try:
            return _read_entries(ensemble, stamps)
        except (InputError, DamagedStoreError):
            if run_stamps(ensemble / "runs") == stamps:
                raise
    return _read_entries(ensemble, run_stamps(ensemble / "runs"))


def _read_entries(ensemble: Path, stamps: Mapping[str, Stamp]) -> dict[str, Entry]:
    cached = _load(ensemble / "catalogue")
    now = time.time_ns()
    entries: dict[str, Entry] = {}
    for run_id, stamp in stamps.items():
        known = cached.get(run_id)
        if known is None or known["stamp"] != stamp:
            known = _read_entry(ensemble, run_id, stamp)
        entries[run_id] = known
    settled = {name: e for name, e in entries.items() if _is_settled(e["stamp"], now)}
    if settled != cached and is_own(ensemble):
        with where_writable((*REFUSED, *FULL, errno.EIO, errno.ESTALE)):
            _save(ensemble / "catalogue", settled)
    return entries


def run_stamps(runs: Path) -> dict[str, Stamp]:
    """Inode, size and time of change (ns) of every committed run's root `zarr.json`.

    Raises
    ------
    DamagedStoreError
        If a run has lost it: without it, its models would be missing silently.
    """
    stamps, lost = find_runs(runs)
    if lost:
        raise root_error(runs / f"{lost[0]}{SUFFIX}")
    return stamps


def find_runs(runs: Path) -> tuple[dict[str, Stamp], list[str]]:
    """`run_stamps` of the runs that have their root `zarr.json`, and ids of those without."""
    stamps, lost = {}, []
    try:
        names = sorted(os.listdir(runs))
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(runs, "is no folder of runs", "restore it from a copy") from None
    for name in names:
        if not name.endswith(SUFFIX) or name.startswith("."):  # a desktop's hidden files
            continue
        run_id = name.removesuffix(SUFFIX)
        stamp = _stamp(runs / name)
        if stamp is None and lost_root(runs / name):
            lost.append(run_id)
        elif stamp is not None:  # else nothing of it is committed
            stamps[run_id] = stamp
    return stamps, lost


def _stamp(run: Path) -> Stamp | None:
    try:
        status = os.stat(run / "zarr.json")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def listed_runs(ensemble: Path) -> dict[str, int]:
    """Runs that the catalogue lists as it lies on disk, and how many models each had then."""
    entries = _load(ensemble / "catalogue")
    return {run_id: len(entry["columns"]["step"]) for run_id, entry in entries.items()}


def catalogue_damage(ensemble: Path) -> list[Damage]:
    """Whether the file `catalogue` is not as it was written: harmless, for it is derived."""
    try:
        content = read_bytes(ensemble / "catalogue")
    except (CorruptChunk, PermissionError):
        return []
    head, _, rest = content.partition(b"\n")
    sound = rest[: layout.CRC_BYTES] == layout.checksum(rest[layout.CRC_BYTES :])
    if sound and re.fullmatch(rb"inpca catalogue \d+", head):
        return []
    reason = "does not match its checksum; delete it: it is made again when the models are listed"
    return [Damage("catalogue", reason)]


def _read_entry(ensemble: Path, run_id: str, stamp: Stamp) -> Entry:
    run = Run(ensemble / "runs" / f"{run_id}{SUFFIX}")
    names = ["step", "epoch", *run.metric_names]
    columns = {name: run.column(name).tolist() for name in names}
    now = run.recording
    recording = [now.n_checkpoints, list(now.columns), now.digest]
    return {"stamp": stamp, "config": run.config, "columns": columns, "recording": recording}


def _load(path: Path) -> dict[str, Entry]:
    """The cached entries; none where no file of ours, whole, can be read at `path`."""
    try:
        content = read_bytes(path)
    except (CorruptChunk, PermissionError):
        return {}
    head = len(_VERSION)
    body = content[head + layout.CRC_BYTES :]
    if content[: head + layout.CRC_BYTES] != _VERSION + layout.checksum(body):
        return {}
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(entries, dict) and all(map(_is_entry, entries.values()))
    return entries if whole else {}


def _is_entry(entry: Any) -> bool:
    """Whether a cached entry has the parts of one; it counts only if its stamp is the run's."""
    if not isinstance(entry, dict) or not isinstance(entry.get("columns"), dict):
        return False
    columns = entry["columns"].values()
    known = isinstance(entry.get("config"), dict) and isinstance(entry.get("stamp"), list)
    known = known and _is_recording(entry.get("recording"))
    return known and "step" in entry["columns"] and all(isinstance(one, list) for one in columns)


def _is_recording(value: Any) -> bool:
    """Whether it is what identifies a recording; an older inpca noted none."""
    if not isinstance(value, list) or len(value) != 3:
        return False
    n_checkpoints, columns, digest = value
    names = isinstance(columns, list) and all(isinstance(name, str) for name in columns)
    return type(n_checkpoints) is int and names and isinstance(digest, str)


def _save(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the cache, unless another process or thread is at it, and sweep what the dead left."""
    lock = file_lock(path.parent / ".locks" / "catalogue" / "save.lock")
    if not take(lock):
        return  # the other one's is as good: each reader derives what it lacks
    try:
        sweep_beside(path)
        body = json.dumps(entries).encode()
        durable.write_bytes(path, _VERSION + layout.checksum(body) + body, sync=False)
    finally:
        lock.release()


def models_table(entries: Mapping[str, Entry]) -> pd.DataFrame:
    """One row per checkpoint, indexed by ``run_id/checkpoint``.

    Columns run, checkpoint, kind (``"checkpoint"``, or ``"reference"`` for stored averages), step,
    epoch, then the configuration, then the metrics; what a run does not have is missing there.
    """
    lengths = [len(entry["columns"]["step"]) for entry in entries.values()]
    checkpoints = [index for length in lengths for index in range(length)]
    runs = np.repeat(np.array(list(entries), dtype=object), lengths).tolist()
    index = pd.Index([f"{r}/{c}" for r, c in zip(runs, checkpoints)], dtype="str", name=schema.KEY)
    columns: dict[str, Any] = {
        "run": pd.array(runs, dtype="str"),
        "checkpoint": np.array(checkpoints, np.int64),
        "kind": pd.array(np.repeat(_kinds(entries), lengths).tolist(), dtype="str"),
        "step": np.array(_gather(entries, "step", lengths), np.int64),
        "epoch": np.array(_gather(entries, "epoch", lengths), np.float64),
    }
    for name in _first_seen(entry["config"] for entry in entries.values()):
        columns[name] = _setting(entries, name, lengths)
    for name in _first_seen(entry["columns"] for entry in entries.values()):
        if name not in columns:
            columns[name] = np.array(_gather(entries, name, lengths), np.float64)
    return pd.DataFrame(columns, index=index)


def _kinds(entries: Mapping[str, Entry]) -> list[str]:
    average = set(schema.AVERAGE_SETTINGS)
    return [
        "reference" if average <= e["config"].keys() else "checkpoint" for e in entries.values()
    ]


def _first_seen(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _gather(entries: Mapping[str, Entry], name: str, lengths: list[int]) -> list[Any]:
    values: list[Any] = []
    for entry, length in zip(entries.values(), lengths):
        values += entry["columns"].get(name) or [np.nan] * length
    return values


def _setting(entries: Mapping[str, Entry], name: str, lengths: list[int]) -> Any:
    """The column of a setting; a run that recorded it as a metric has its metric there.

    Raises
    ------
    DamagedStoreError
        If one run has the name as a setting and as a metric, or a text that is no Unicode.
    """
    both = [run_id for run_id, e in entries.items() if name in e["config"] and name in e["columns"]]
    if both:
        raise _unlistable(both[0], f"{name!r} as a setting and as a metric")
    try:
        if not any(name in entry["columns"] for entry in entries.values()):
            column = setting_column([entry["config"].get(name) for entry in entries.values()])
            return column.repeat(lengths)
        return setting_column(_merged(entries, name, lengths))
    except UnicodeEncodeError:
        bad = next(
            run_id for run_id, e in entries.items() if not _is_unicode(e["config"].get(name))
        )
        raise _unlistable(bad, f"a setting {name!r} that is no Unicode text") from None


def _merged(entries: Mapping[str, Entry], name: str, lengths: list[int]) -> list[Any]:
    """A value for each model: of the metric where its run has that, else of the setting."""
    values: list[Any] = []
    for entry, length in zip(entries.values(), lengths):
        metric = entry["columns"].get(name)
        if metric is None:
            values += [entry["config"].get(name)] * length
        else:
            values += [None if value != value else value for value in metric]
    return values


def _is_unicode(value: Any) -> bool:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unlistable(run_id: str, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"Run {run_id!r} has {what}, which an older inpca let in: its models cannot be listed; "
        f"record it again (--restart), or delete it: inpca delete ENSEMBLE {run_id}."
    )


def check_key(models: pd.DataFrame, keys: list[str]) -> None:
    """Refuse keys that are no models of the table."""
    unknown = [key for key in keys if key not in models.index]
    if unknown:
        raise InputError(
            f"`query` must list models of this ensemble; it has none named {unknown[0]!r} "
            f"({len(unknown)} unknown in all); keys look like {list(models.index[:3])}."
        )
