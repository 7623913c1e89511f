"""As much of cupy as `kernels_cupy` and `gpu_upload` use, on NumPy arrays and emulated kernels.

It is strict where cupy is lax: a scalar must have the size of the parameter it is passed for.
"""

import contextlib
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from emulator.build import build
from emulator.launch import signature


class Array(np.ndarray):
    def get(self):
        return np.array(self)

    def set(self, values, stream=None):
        self[...] = values

    @property
    def data(self):
        def memset_async(value, size):
            self.view(np.uint8).reshape(-1)[:size] = value

        return SimpleNamespace(memset_async=memset_async)


def array(values):
    return np.ascontiguousarray(values).view(Array)


def poisoned(shape, dtype):
    """Memory nobody has written: the sum of any of it is wrong."""
    return array(np.full(shape, 0x5A, np.uint8 if dtype == np.uint8 else dtype))


class Module:
    def __init__(self, code, options, backend):
        assert backend == "nvrtc"
        kernels = re.findall(r"\b(\w+)\(\s*const \w[^;{]*?\)\s*\{", code)
        defines = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        known = [
            "prepare_slab",
            "ffma_tiles",
            "ffma_redo",
            "tensor_tiles",
            "mark_floored",
            "count_floored",
        ]
        self.kernels = [k for k in known if k in kernels] or ["reduce_logs", "finish_tiles"]
        if "INPCA_REDO" in defines:
            self.kernels = ["ffma_redo" if defines["INPCA_REDO"] == "1" else "ffma_tiles"]
        folder = Path(tempfile.mkdtemp(prefix="inpca-fake-"))
        path = folder / "module.cu"
        path.write_text(code)
        self.module = build(path, self.kernels, defines=defines, watched=False)

    def compile(self):
        pass

    def get_function(self, name):
        return Function(self.module, name)


class Function:
    max_dynamic_shared_size_bytes = 48 << 10

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        kinds = signature(self.module.library, self.name)
        values = [strict(*pair) for pair in zip(kinds, arguments, strict=True)]
        getattr(self.module, self.name)(grid, block, *values, shared_bytes=shared_mem)


def strict(kind, value):
    if isinstance(value, np.ndarray):
        assert kind[0] == "p"
        return value
    if kind[0] == "p":
        assert value == 0
        assert value.nbytes == 8
        return None
    assert value.nbytes == int(kind[1:]), f"{value!r} is passed for a parameter {kind}"
    return value


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class Stream:
    def __init__(self, non_blocking=True):
        pass

    def wait_event(self, event):
        assert isinstance(event, Event)

    def synchronize(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Event:
    def __init__(self, disable_timing=True):
        pass

    def record(self, stream):
        assert isinstance(stream, Stream)

    def synchronize(self):
        pass


PROPERTIES = {
    "name": b"Emulated",
    "major": 9,
    "minor": 0,
    "multiProcessorCount": 2,
    "sharedMemPerBlockOptin": 232448,
    "sharedMemPerMultiprocessor": 233472,
}


# What the plain namespace form of a divergence uses.
ELEMENTWISE = ["any", "exp", "float64", "int64", "log", "maximum", "sqrt", "sum", "where"]


def fake_cupy(*, count=1, driver=13000, free=2**34, error=None, **properties):
    """A namespace that passes for the module cupy on a machine with `count` such devices."""

    def device_count():
        if error is not None:
            raise CUDARuntimeError(error)
        return count

    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=device_count,
        getDeviceProperties=lambda index: PROPERTIES | properties,
        memGetInfo=lambda: (free, 2**37),
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13000,
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        Device=lambda index: contextlib.nullcontext(),
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda begin, end: 1.0,
        get_current_stream=Stream,
        PinnedMemory=lambda size: bytearray(b"\x7f" * size),  # huge, where nobody has written
        PinnedMemoryPointer=lambda memory, offset: memory,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        compiler=SimpleNamespace(CompileException=type("CompileException", (Exception,), {})),
    )

    def zeros(shape, dtype):
        if np.prod(shape) * np.dtype(dtype).itemsize > free:
            raise OutOfMemoryError
        return array(np.zeros(shape, dtype))

    return SimpleNamespace(
        cuda=cuda,
        RawModule=Module,
        zeros=zeros,
        empty=lambda shape, dtype: poisoned(shape, dtype),
        asarray=lambda values, dtype=None: array(np.asarray(values, dtype)),
        ascontiguousarray=array,
        matmul=lambda a, b: array(np.matmul(a, b)),
        **{name: getattr(np, name) for name in ELEMENTWISE},
        ones=lambda shape: array(np.ones(shape)),
        linalg=SimpleNamespace(qr=np.linalg.qr),
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 0),
    )
