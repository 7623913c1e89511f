"""The GPU that is to compute: found and looked at before any work, refused with the cure."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from inpca.backend import namespace
from inpca.distance.gpu_layout import Gpu, Layout, TensorShape, macros, source
from inpca.errors import InputError, ResourceError

_WITH_TOOLKIT = "pip install 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]')"
CAPABILITY = (8, 0)  # asynchronous copies and mma.m16n8k16


def get_cupy() -> Any:
    """The module cupy.

    Raises
    ------
    ResourceError
        If it is not installed, or cannot be imported.
    """
    try:
        return namespace("cupy")
    except ImportError as error:
        raise ResourceError(
            f"cupy is installed but cannot be imported ({error}); reinstall it with its toolkit: "
            "pip install --force-reinstall 'cupy-cuda13x[ctk]' (or 'cupy-cuda12x[ctk]')."
        ) from error


def find_gpu(device: int | None = None) -> Gpu:
    """The device of that number, or the first one; what it has, and its memory free just now.

    Raises
    ------
    ResourceError
        No cupy, no device, a driver older than cupy's CUDA, a device too old. The message tells
        the cure.
    InputError
        `device` is not one of the devices there are.
    """
    cupy = get_cupy()
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise _no_device(runtime, error) from error
    if count == 0:
        raise ResourceError("cupy sees no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES.")
    index = 0 if device is None else device
    if not 0 <= index < count:
        raise InputError(f"`device` must be 0 to {count - 1}, not {device}.")
    has = runtime.getDeviceProperties(index)
    try:
        with cupy.cuda.Device(index):
            free, total = runtime.memGetInfo()
            pooled = cupy.get_default_memory_pool().free_bytes()  # of the current device
    except runtime.CUDARuntimeError as error:
        raise ResourceError(
            f"GPU {index} cannot be used ({error}); if another process holds it, choose another "
            "one with `device`."
        ) from error
    gpu = Gpu(
        index=index,
        name=has["name"].decode(),
        capability=(has["major"], has["minor"]),
        memory_total=int(total),
        memory_free=int(free) + int(pooled),
        multiprocessors=has["multiProcessorCount"],
        shared_per_block=has["sharedMemPerBlockOptin"],
        shared_per_multiprocessor=has["sharedMemPerMultiprocessor"],
        driver=runtime.driverGetVersion(),
    )
    if gpu.capability < CAPABILITY:
        raise ResourceError(
            f"{gpu} has compute capability {gpu.capability[0]}.{gpu.capability[1]}; the kernels "
            "need 8.0 (Ampere) or newer; choose another `device` or backend='numba'."
        )
    return gpu


def _no_device(runtime: Any, error: Exception) -> ResourceError:
    needed, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    if driver == 0:
        return ResourceError(
            f"No NVIDIA driver is installed ({error}), so no GPU can be used; install one, or "
            "choose backend='numba'."
        )
    if 0 < driver < needed // 1000 * 1000:
        return ResourceError(
            f"The NVIDIA driver offers CUDA {driver // 1000}.{driver % 1000 // 10} but cupy needs "
            f"{needed // 1000}; update the driver or install the cupy of its CUDA, "
            "e.g. pip install 'inpca[gpu-cuda12]'."
        )
    return ResourceError(
        f"No GPU can be used ({error}); check `nvidia-smi`, or choose backend='numba'."
    )


@cache
def compiled(
    kernel: str, layout: Layout, shape: TensorShape | None, device: int
) -> tuple[Any, int]:
    """The kernel as something to launch, and its shared memory; `device` is part of the key.

    Raises
    ------
    ResourceError
        If cupy's compiler or its headers are missing.
    """
    cupy = get_cupy()
    file, defined = macros(kernel, layout, shape)
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defined.items()))
    with _needing_compiler(cupy):
        module = cupy.RawModule(code=source(file), options=options, backend="nvrtc")
        module.compile()
    function = module.get_function(kernel)
    shared = defined.get("INPCA_SHARED_BYTES", 0)
    if shared:
        function.max_dynamic_shared_size_bytes = shared
    return function, shared


def check_compiler(gpu: Gpu) -> None:
    """Refuse a cupy that cannot compile, by compiling a small kernel; see `compiled`.

    And one of cupy's own, which alone needs the headers of CUDA: the first is wanted only when
    hours of work have been done.
    """
    with on_device(gpu):
        compiled("finish_tiles", Layout(2), None, gpu.index)
        cupy = get_cupy()
        with _needing_compiler(cupy):
            cupy.zeros((2, 2), np.int32).diagonal().copy()


def check_linear_algebra(gpu: Gpu) -> None:
    """Refuse a cupy without the libraries that an eigensolver needs.

    Raises
    ------
    ResourceError
        If cuBLAS or cuSOLVER are missing.
    """
    cupy = get_cupy()
    with on_device(gpu):
        try:
            cupy.linalg.qr(cupy.ones((2, 2)) @ cupy.ones((2, 1)))
        except (RuntimeError, OSError, ImportError) as error:
            raise ResourceError(
                f"cupy cannot multiply or factorise matrices ({error}); it lacks cuBLAS or "
                f"cuSOLVER: {_WITH_TOOLKIT}."
            ) from error


@contextmanager
def on_device(gpu: Gpu, planned: str = "") -> Iterator[None]:
    """`gpu` is the current device, whichever thread this is; what it lacks is named with the cure.

    Parameters
    ----------
    planned : what it should have sufficed for, in words

    Raises
    ------
    ResourceError
        In place of cupy's errors of memory and of calls to the device.
    """
    cuda = get_cupy().cuda
    try:
        with cuda.Device(gpu.index):
            yield
    except (
        cuda.memory.OutOfMemoryError,
        cuda.runtime.CUDARuntimeError,
        cuda.driver.CUDADriverError,
    ) as error:
        raise ResourceError(
            f"{gpu} gave up ({error}){planned}: if another process has taken its memory meanwhile, "
            "call again when it is free, choose another `device`, or backend='numba'."
        ) from error


@contextmanager
def _needing_compiler(cupy: Any) -> Iterator[None]:
    not_of_the_compiler = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
    try:
        yield
    except not_of_the_compiler:
        raise
    except (RuntimeError, OSError, ImportError, cupy.cuda.compiler.CompileException) as error:
        raise ResourceError(
            f"The GPU kernels cannot be compiled ({error}); cupy lacks its CUDA compiler or "
            f"headers: {_WITH_TOOLKIT}."
        ) from error
