"""Call one kernel of a compiled source on NumPy arrays that lie between guarded margins."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

GUARD = 4096  # bytes before and behind every array
ALIGNMENT = 256  # what the device allocator promises
CANARY = np.array(0x7FBF7DBF, np.uint32)  # a signalling NaN as float32 and as two float16


class EmulationError(RuntimeError):
    """The kernel did what a GPU leaves undefined; the message says where."""


class Dim3(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]


class Launch(ctypes.Structure):
    _fields_ = [
        ("grid", Dim3),
        ("block", Dim3),
        ("shared_bytes", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
    ]


class GuardedArray:
    """A copy of an array's bytes between two margins of NaN; ``restore`` checks and copies back.

    A view with gaps between its rows is copied with the gaps.
    """

    def __init__(self, array: np.ndarray) -> None:
        low, high = np.lib.array_utils.byte_bounds(array)
        self.array = array
        self.n_bytes = high - low
        self.outside = np.frombuffer((ctypes.c_uint8 * self.n_bytes).from_address(low), np.uint8)
        self.memory = np.empty(2 * GUARD + self.n_bytes + ALIGNMENT + 4, np.uint8)
        self.memory[: self.memory.size // 4 * 4].view(np.uint32)[:] = CANARY
        self.first = GUARD + (-(self.memory.ctypes.data + GUARD)) % ALIGNMENT
        self.untouched = self.memory.copy()
        self.inside[:] = self.outside

    @property
    def inside(self) -> np.ndarray:
        return self.memory[self.first : self.first + self.n_bytes]

    @property
    def address(self) -> int:
        return int(self.memory.ctypes.data) + self.first

    def restore(self) -> None:
        before, behind = slice(0, self.first), slice(self.first + self.n_bytes, None)
        for margin in (before, behind):
            if not np.array_equal(self.memory[margin], self.untouched[margin]):
                raise EmulationError(
                    f"the kernel wrote outside an array of shape {self.array.shape}"
                )
        if not np.array_equal(self.outside, self.inside):
            self.outside[:] = self.inside


def launch(
    library: ctypes.CDLL,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    shared_bytes: int,
    seed: int,
) -> None:
    """Run ``kernel``; arrays among ``arguments`` are changed in place, as device memory is."""
    kinds = signature(library, kernel)
    if len(kinds) != len(arguments):
        raise TypeError(f"{kernel} takes {len(kinds)} arguments, not {len(arguments)}.")
    guarded = {id(a): GuardedArray(a) for a in arguments if isinstance(a, np.ndarray)}
    values = [convert(*item, guarded) for item in zip(kinds, arguments, strict=True)]
    pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(v) for v in values))
    how = Launch(dim3(grid), dim3(block), shared_bytes, seed)
    message = ctypes.create_string_buffer(1024)
    watch(library, guarded.values())
    run = getattr(library, f"emu_launch_{kernel}")
    status = run(ctypes.byref(how), pointers, message, ctypes.c_uint64(len(message)))
    if status:
        raise EmulationError(message.value.decode())
    for array in guarded.values():
        array.restore()


def signature(library: ctypes.CDLL, kernel: str) -> list[str]:
    describe = getattr(library, f"emu_signature_{kernel}")
    describe.restype = ctypes.c_char_p
    return list(describe().decode().split())


def dim3(sizes: Sequence[int]) -> Dim3:
    return Dim3(*(*sizes, 1, 1)[:3])


def watch(library: ctypes.CDLL, arrays: Any) -> None:
    library.emu_forget_arrays()
    for array in arrays:
        library.emu_watch_array(
            ctypes.c_void_p(array.address),
            ctypes.c_uint64(array.n_bytes),
            ctypes.c_uint64(GUARD),
        )


def convert(kind: str, value: Any, guarded: dict[int, GuardedArray]) -> Any:
    """One argument as the C value that the parameter's kind and size ask for."""
    letter, size = kind[0], int(kind[1:])
    if letter == "p":
        return ctypes.c_void_p(pointer(size, value, guarded))
    if letter == "i":
        return ctypes.c_int64(int(value))  # little-endian: the low bytes are the smaller types
    if letter == "f":
        return {4: ctypes.c_float, 8: ctypes.c_double}[size](float(value))
    raw = bytes(value)
    if len(raw) != size:
        raise TypeError(f"The kernel's structure has {size} bytes, not {len(raw)}.")
    return ctypes.create_string_buffer(raw, size)


def pointer(size: int, value: Any, guarded: dict[int, GuardedArray]) -> int | None:
    if isinstance(value, np.ndarray):
        if size > 1 and size % value.itemsize:
            raise TypeError(
                f"The kernel's elements have {size} bytes, the array's {value.itemsize}."
            )
        return guarded[id(value)].address
    if value is None or value == 0:
        return None
    raise TypeError(f"A pointer parameter takes an array or None, not {value!r}.")
