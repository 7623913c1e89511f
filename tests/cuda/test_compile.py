"""Every kernel compiles to machine code for the GPUs it is written for, and keeps to registers.

NVRTC needs no driver and no GPU; the sizes that the Python side counts are asserted in the sources.
"""

import re

import pytest

from inpca.distance.gpu_layout import Gpu, Layout, macros, source, tensor_shape

nvrtc = pytest.importorskip(
    "cupy_backends.cuda.libs.nvrtc", reason="cupy is not installed", exc_type=ImportError
)


def missing_compiler() -> str | None:
    try:
        nvrtc.getVersion()
    except (RuntimeError, OSError, ImportError) as error:
        return f"the NVRTC library is not installed ({error}): pip install nvidia-cuda-nvrtc"
    return None


pytestmark = pytest.mark.skipif(missing_compiler() is not None, reason=str(missing_compiler()))

# What a block may take on an A100 and an H100.
SHARED = {"sm_80": (166912, 167936), "sm_90": (232448, 233472)}
CLASSES = [2, 10, 17, 100]
# Spilled bytes that were looked at: addresses computed once per stage, none in the inner loop.
SPILLS_SEEN = 160


def gpu(arch: str) -> Gpu:
    block, multiprocessor = SHARED[arch]
    return Gpu(0, arch, (8, 0), 0, 0, 132, block, multiprocessor, 0)


def compiled(kernel, n_classes, arch, tile_size=256):
    """(cubin, compiler's log) of one kernel."""
    layout = Layout(n_classes)
    file, defined = macros(kernel, layout, tensor_shape(layout, gpu(arch), tile_size))
    options = ["-std=c++17", f"-arch={arch}", "--ptxas-options=-v"]
    options += [f"-D{name}={value}" for name, value in defined.items()]
    program = nvrtc.createProgram(source(file), file, (), ())
    try:
        nvrtc.compileProgram(program, tuple(options))
        return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


def resources(log):
    """Registers, bytes of the stack frame, bytes spilled; the worst of what the log names."""
    numbers = [
        [int(n) for n in re.findall(pattern, log)]
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes stack", r"(\d+) bytes spill stores")
    ]
    assert all(numbers), f"the compiler's log tells no resources: {log!r}"
    return [max(found) for found in numbers]


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("kernel", ["ffma_tiles", "ffma_redo"])
def test_ffma__keeps_to_registers(kernel, n_classes, arch):
    cubin, log = compiled(kernel, n_classes, arch)
    registers, _, spilled = resources(log)
    assert cubin.startswith(b"\x7fELF")
    assert registers <= 255
    assert spilled <= 16


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("tile_size", [128, 256])
@pytest.mark.parametrize("n_classes", CLASSES)
def test_tensor__keeps_to_registers(n_classes, tile_size, arch):
    _, log = compiled("tensor_tiles", n_classes, arch, tile_size)
    registers, _, spilled = resources(log)
    assert registers <= 255
    assert spilled <= SPILLS_SEEN


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("n_classes", CLASSES)
def test_prepare__needs_no_stack(n_classes, arch):
    registers, stack, _ = resources(compiled("prepare_slab", n_classes, arch)[1])
    assert registers <= 128
    assert stack == 0


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("n_classes", CLASSES)
@pytest.mark.parametrize("kernel", ["mark_floored", "count_floored"])
def test_floor__needs_few_registers_and_no_stack(kernel, n_classes, arch):
    registers, stack, _ = resources(compiled(kernel, n_classes, arch)[1])
    assert registers <= 64
    assert stack == 0


@pytest.mark.parametrize("kernel", ["reduce_logs", "finish_tiles"])
def test_ends__need_few_registers(kernel):
    assert resources(compiled(kernel, 10, "sm_80")[1])[0] <= 64


@pytest.mark.parametrize("n_classes", [*range(1, 23), 32, 33, 1000])
def test_layout__counts_as_the_sources_do(n_classes):
    """The sources assert what Python counted; preprocessing and semantics suffice to tell."""
    layout = Layout(n_classes)
    shape = tensor_shape(layout, gpu("sm_90"), 128)
    assert shape is not None
    for kernel in ("prepare_slab", "ffma_tiles", "tensor_tiles", "count_floored"):
        file, defined = macros(kernel, layout, shape)
        options = ["-std=c++17", "-arch=compute_90", *(f"-D{k}={v}" for k, v in defined.items())]
        unfinished = source(file).replace("#pragma unroll", "#pragma unroll 1 //")
        program = nvrtc.createProgram(unfinished, file, (), ())
        nvrtc.compileProgram(program, tuple(options))
        nvrtc.destroyProgram(program)


def test_source__holds_each_header_once():
    text = source("tensor.cu")
    assert text.count("struct Patch {") == 1
    assert '#include "tile.cuh"' not in text
