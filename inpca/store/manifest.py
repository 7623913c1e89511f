"""`ensemble.json`: the format, the classes and the sample sets of an ensemble; written last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpca.errors import DamagedStoreError, InputError
from inpca.store import documents as doc
from inpca.store import schema
from inpca.store.files import check_folder, commit_bytes, read_bytes
from inpca.store.layout import CorruptChunk
from inpca.store.samples import SampleSet

MANIFEST = "ensemble.json"
DTYPES = ("float32", "float16")
MOST_CLASSES = 100_000_000  # more than any vocabulary has


def make_manifest(sets: Mapping[str, SampleSet], n_classes: int, dtype: str) -> dict[str, Any]:
    """What `ensemble.json` says of an ensemble."""
    described = {
        name: {"n_samples": len(one), "fingerprint": one.fingerprint} for name, one in sets.items()
    }
    header = schema.header("ensemble")
    return {"inpca": header, "n_classes": int(n_classes), "dtype": dtype, "sample_sets": described}


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write it durably: from now on the folder `path` is an ensemble."""
    commit_bytes(path / MANIFEST, doc.sealed(manifest))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read it, hold it to the schema, and refuse folders that lead out of the ensemble.

    Raises
    ------
    InputError
        If there is none, or it was made by a newer version.
    DamagedStoreError
        If it is not what was written.
    """
    file = path / MANIFEST
    if not file.exists():
        raise InputError(
            f"`path` must be an ensemble made by inpca; {path} has no {MANIFEST}. Check the path; "
            "create_ensemble, or `inpca import`, makes one."
        )
    try:
        manifest = doc.parse(read_bytes(file, largest=doc.LARGEST))
        schema.check_header(manifest, "ensemble", path)
        _check(manifest)
    except CorruptChunk as error:
        raise DamagedStoreError(f"{file} {error}; restore it from a copy.") from None
    for folder in ("samples", "runs", ".locks"):
        _check_folder(path / folder)
    return manifest


def _check_folder(folder: Path) -> None:
    """Refuse a folder that leads out of the ensemble."""
    try:
        check_folder(folder)
    except CorruptChunk as error:
        raise DamagedStoreError(
            f"{folder} {error}; move what it points to here, or open the ensemble there."
        ) from None


def _check(manifest: Mapping[str, Any]) -> None:
    classes, sets = manifest.get("n_classes"), manifest.get("sample_sets")
    if type(classes) is not int or not 2 <= classes <= MOST_CLASSES:
        raise CorruptChunk(f"cannot be read: it has no number of classes ({classes!r})")
    if manifest.get("dtype") not in DTYPES:
        raise CorruptChunk(f"cannot be read: it has no dtype ({manifest.get('dtype')!r})")
    if not isinstance(sets, dict) or not all(map(_is_set, sets.items())):
        raise CorruptChunk("cannot be read: it has no sample sets that inpca writes")


def _is_set(item: tuple[str, Any]) -> bool:
    name, one = item
    if not doc.is_name(name) or not isinstance(one, dict):
        return False
    return type(one.get("n_samples")) is int and isinstance(one.get("fingerprint"), str)
