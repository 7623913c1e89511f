"""Compile a kernel source for the CPU, once for each text and set of flags."""

from __future__ import annotations

import atexit
import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .launch import launch

HERE = Path(__file__).parent
CUDA = HERE.parents[2] / "inpca" / "distance" / "cuda"
FLAGS = [
    *("-std=c++20", "-O1", "-fPIC", "-DINPCA_EMULATE", "-march=native"),
    # Kernels look at the same bytes as half, float and vector, as nvcc allows.
    *("-fno-strict-aliasing", "-fvisibility=hidden", "-w"),
]
# The hooks that this option calls are the emulator's own; libtsan is never linked.
WATCH = ["-fsanitize=thread", "--param", "tsan-instrument-func-entry-exit=0"]


@dataclass(frozen=True)
class Edit:
    """Replace ``old`` by ``new`` in ``file``; the text must be there, ``which`` counts from 0."""

    file: str
    old: str
    new: str
    which: int = 0

    def apply(self, text: str) -> str:
        parts = text.split(self.old)
        if len(parts) < self.which + 2:
            raise ValueError(
                f"`{self.old}` occurs {len(parts) - 1} times in {self.file}, so that number "
                f"{self.which} cannot be edited; bring the edit in line with the source."
            )
        head, tail = parts[: self.which + 1], parts[self.which + 1 :]
        return self.old.join(head) + self.new + self.old.join(tail)


class Module:
    """The kernels of one compiled source; each is called with a grid, a block and arguments."""

    def __init__(self, library: ctypes.CDLL, constants: Sequence[str] = ()) -> None:
        self.library = library
        self.constants = {
            name: ctypes.c_longlong.in_dll(library, f"emu_constant_{i}").value
            for i, name in enumerate(constants)
        }

    def __getattr__(self, kernel: str) -> Callable[..., None]:
        def call(
            grid: Sequence[int],
            block: Sequence[int],
            *arguments: Any,
            shared_bytes: int = 0,
            seed: int = 0,
        ) -> None:
            launch(self.library, kernel, grid, block, arguments, shared_bytes, seed)

        return call


@cache
def missing_tools() -> str | None:
    """Why nothing can be emulated on this machine, or None."""
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"the emulator switches stacks on x86-64 and aarch64, not on {platform.machine()}"
    if platform.system() != "Linux" or shutil.which("g++") is None:
        return "the emulator needs g++ on Linux"
    return None


@cache
def workshop() -> Path:
    """A directory that lives as long as this process."""
    path = Path(tempfile.mkdtemp(prefix="inpca-emulator-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def build(
    source: Path,
    kernels: Sequence[str] | Mapping[str, str],
    *,
    constants: Sequence[str] = (),
    defines: Mapping[str, Any] | None = None,
    edits: Sequence[Edit] = (),
    watched: bool = True,
) -> Module:
    """Compile ``source`` and give its kernels.

    Parameters
    ----------
    source : the .cu file; the headers beside it are found.
    kernels : names of ``__global__`` functions, or alias → expression for template instances.
    constants : constant expressions of the source whose values the module shall know.
    defines : macros.
    edits : textual changes to the source, its headers or the emulator's own files.
    watched : instrument every access; without it only the values tell what went wrong.
    """
    files = edited_files(source, edits)
    exports = kernels if isinstance(kernels, Mapping) else {name: name for name in kernels}
    files["unit.cpp"] = "\n".join(
        ['#include "emulate.cuh"', f'#include "{source.name}"']
        + [f"EMU_EXPORT({alias}, {expression})" for alias, expression in exports.items()]
        + [f"EMU_CONSTANT({i}, {constant})" for i, constant in enumerate(constants)]
    )
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in (defines or {}).items())]
    library = compiled(tuple(sorted(files.items())), tuple(flags), watched)
    return Module(library, constants)


def edited_files(source: Path, edits: Sequence[Edit]) -> dict[str, str]:
    """Every text that the build may read, by file name, with the edits made."""
    headers = [*CUDA.glob("*.cuh"), *source.parent.glob("*.cuh")]
    paths = [*headers, source, HERE / "emulate.cuh", HERE / "runtime.cpp"]
    files = {path.name: path.read_text() for path in paths}
    for edit in edits:
        files[edit.file] = edit.apply(files[edit.file])
    return files


@cache
def compiled(files: tuple[tuple[str, str], ...], flags: tuple[str, ...], watched: bool) -> Any:
    """The loaded library; equal texts and flags are compiled once."""
    texts = dict(files)
    runtime = runtime_object(texts["emulate.cuh"], texts.pop("runtime.cpp"))
    unit = unit_object(tuple(texts.items()), (*flags, *(WATCH if watched else [])))
    folder = Path(tempfile.mkdtemp(dir=workshop()))
    gcc(["-shared", str(unit), str(runtime), "-o", "unit.so"], folder)
    return ctypes.CDLL(str(folder / "unit.so"))


@cache
def unit_object(files: tuple[tuple[str, str], ...], flags: tuple[str, ...]) -> Path:
    """The kernels of one source with the doors behind it."""
    folder = written(dict(files))
    gcc([*flags, "-c", "unit.cpp", "-o", "unit.o"], folder)
    return folder / "unit.o"


@cache
def runtime_object(header: str, body: str) -> Path:
    """The emulator itself."""
    folder = written({"emulate.cuh": header, "runtime.cpp": body})
    gcc([*FLAGS, "-O3", "-c", "runtime.cpp", "-o", "runtime.o"], folder)
    return folder / "runtime.o"


def written(files: Mapping[str, str]) -> Path:
    folder = Path(tempfile.mkdtemp(dir=workshop()))
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def gcc(arguments: Sequence[str], folder: Path) -> None:
    done = subprocess.run(["g++", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"g++ refused {' '.join(arguments)}:\n{done.stderr[:4000]}")
