"""Files that `torch.save` or safetensors wrote, read without running what may hide in them.

A torch file is a pickle, and a pickle is a program. So only tensors, arrays, numbers, text,
containers and plain namespaces are built; what asks for more is refused, unless the caller says
``allow_pickle=True``.
"""

import argparse
import pickle
import re
import types
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.errors import InputError, MissingExtraError
from inpca.opening import UNREADABLE, open_regular, reading, regular_file, unreadable
from inpca.units import format_bytes

try:
    import torch
except ImportError as error:
    raise MissingExtraError(
        f"Files of torch need torch, which cannot be imported ({error}); "
        "pip install 'inpca[torch]'."
    ) from error

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".p")

DANGER = (
    "a pickle is a program, and loading it runs whatever its author put in: do so only with files "
    "that you made, or whose maker you trust"
)

# What torch, and the unpickler under it, raise for bytes that are damaged or refused.
_UNREADABLE = (pickle.UnpicklingError, *UNREADABLE)
# A tensor may be larger than its file, as a view that repeats one number is; up to this, bytes.
_SMALL = 64 * 2**20
# Of an archive's pickle, which names the tensors, bytes.
_PICKLE_LIMIT = 256 * 2**20

# Where a pickle of NumPy 1, and one of NumPy 2, say that NumPy's own builders are.
_BUILDERS = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}
_HARMLESS: list[Any] = [
    types.SimpleNamespace,
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"},
    *(
        (builder, f"{module}.multiarray.{name}")
        for name, builder in _BUILDERS.items()
        for module in ("numpy.core", "numpy._core")
    ),
]


def load_torch(path: Path, *, allow_pickle: bool = False) -> Any:
    """The content of a file of `torch.save` or safetensors, tensors on the CPU.

    Tensors stay on disk until they are looked at, where the format allows it (all but torch before
    1.6).

    Parameters
    ----------
    path : the file; ``.safetensors``, or anything that `torch.save` wrote
    allow_pickle : load objects of any class, and so run any program that the file holds

    Raises
    ------
    InputError
        If the file is missing, cut off or of another format, or holds objects that are no data
        (without `allow_pickle`).
    """
    regular_file(path)
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    with reading(path, "a file of torch.save"):
        is_archive = zipfile.is_zipfile(path)
    if not is_archive and not _is_old_torch_file(path):
        # Not given to the unpickler: bytes of another kind break it in a dozen ways.
        raise InputError(
            f"{path} cannot be read as a file of torch.save: it does not begin as one."
        )
    if is_archive:
        _check_members(path)
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            # What it warns of either works or is refused below.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(
                path,
                map_location="cpu",
                weights_only=not allow_pickle,
                mmap=is_archive,
            )
    except (AttributeError, ImportError, TypeError) as error:
        # A class that is gone, or has changed, since the file was pickled.
        raise InputError(
            f"{path} holds objects that cannot be built here ({error}); load it where it was "
            "made, and save its tensors alone."
        ) from error
    except _UNREADABLE as error:
        raise _named(path, error) from None


def _check_members(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; torch packs nothing."""
    with reading(path, "a file of torch.save"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            packed = member.compress_type != zipfile.ZIP_STORED
            if packed or (member.filename.endswith(".pkl") and member.file_size > _PICKLE_LIMIT):
                raise InputError(
                    f"{path} has the member {member.filename!r} of "
                    f"{format_bytes(member.file_size)}{', packed' if packed else ''}, which "
                    "torch.save does not write; save it again with torch.save."
                )


def _named(path: Path, error: Exception) -> InputError:
    """What torch says in a paragraph, in a sentence that names file and cure."""
    text = str(error).strip()
    refused = re.search(r"GLOBAL (\S+)", text)
    if refused is not None or "Unsupported operand" in text:
        what = _python3(refused[1]) if refused is not None else "a pickle of protocol 3 or later"
        return InputError(
            f"{path} holds objects beyond tensors, numbers and text ({what}); save its tensors "
            "alone with torch.save, or pass allow_pickle=True (--allow-pickle) if you trust the "
            f"file: {DANGER}."
        )
    # An unpickler that stumbles over bytes says nothing that helps.
    if isinstance(error, RecursionError | MemoryError):
        return unreadable(path, error, "a file of torch.save")
    known = isinstance(error, OSError) or (isinstance(error, RuntimeError) and text)
    reason = text.splitlines()[0].split(". ")[0] if known else "it is cut off or damaged"
    return InputError(f"{path} cannot be read as a file of torch.save: {reason}.")


def _python3(name: str) -> str:
    """What old pickles call by its name in Python 2, by its name today."""
    module, _, attribute = name.rpartition(".")
    module, attribute = NAME_MAPPING.get((module, attribute), (module, attribute))
    return f"{IMPORT_MAPPING.get(module, module)}.{attribute}" if module else name


def _is_old_torch_file(path: Path) -> bool:
    """By its first bytes: before torch 1.6 a pickle of protocol 2."""
    with open_regular(path) as file:
        return file.read(2) == b"\x80\x02"


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Reading {path} needs safetensors, which is not installed: pip install safetensors."
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, *UNREADABLE) as error:
        raise InputError(f"{path} cannot be read as .safetensors: {error}.") from None


def arrays_of(content: Any, path: Path) -> NDArray[Any] | dict[str, Any]:
    """Tensors as arrays: one, or a mapping of them whose inner mappings are joined by slashes.

    A list of tensors of one shape, one for each checkpoint, counts as one. Whatever else a mapping
    holds (text, settings) is left out.

    Raises
    ------
    InputError
        If there is no tensor; if one announces far more numbers than the file has bytes; if
        mappings or lists are nested too deeply, as in a circle.
    """
    with reading(path, "tensors"):
        if isinstance(content, Mapping):
            found = dict(_leaves(content, "", path))
        else:
            single = _as_array(content, path)
            if single is not None:
                return single
            found = {}
    if not found:
        raise InputError(
            f"{path} holds a {type(content).__name__} where a tensor, or a mapping with tensors, "
            "is expected."
        )
    return found


def _leaves(
    content: Mapping[Any, Any], prefix: str, path: Path
) -> Iterator[tuple[str, NDArray[Any]]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/", path)
            continue
        array = _as_array(value, path)
        if array is not None:
            yield f"{prefix}{key}", array


def _as_array(value: Any, path: Path) -> NDArray[Any] | None:
    """`value` as an array; None if it is none."""
    if isinstance(value, torch.Tensor):
        _check_size(value.numel() * value.element_size(), path)
        # What NumPy has no type for, and what is kept in another way than densely.
        plain = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    if isinstance(value, np.ndarray):
        _check_size(value.nbytes, path)
        return value
    if isinstance(value, list | tuple) and value:
        if all(isinstance(one, int | float) for one in value):
            return np.asarray(value)
        parts = [_as_array(one, path) for one in value]
        _check_size(sum(part.nbytes for part in parts if part is not None), path)
        shapes = {None if part is None else part.shape for part in parts}
        if len(shapes) == 1 and None not in shapes:
            return np.stack([part for part in parts if part is not None])
    return None


def _check_size(n_bytes: int, path: Path) -> None:
    """Refuse what is not all in the file: a number repeated without end, zeros never written."""
    there = path.stat().st_size
    if n_bytes > max(2 * there, _SMALL):
        raise InputError(
            f"{path} announces tensors of {format_bytes(n_bytes)} but has {format_bytes(there)}; "
            "save them whole (tensor.contiguous())."
        )
