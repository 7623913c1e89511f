"""The emulator itself: fragments as the PTX ISA tabulates them, mistakes that it must refuse."""

from pathlib import Path

import numpy as np
import pytest
from emulator import EmulationError, build, missing_tools

pytestmark = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))

KERNELS = Path(__file__).parent / "emulator" / "kernels"
SEEDS = range(6)
WARP = (32,)


def halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16)


def fragments():
    names = ["load_matrices", "multiply", "convert"]
    return build(KERNELS / "fragments.cu", names)


def isa_a(lane, i):
    """Row and column of element ``a_i``, as the ISA writes it for m16n8k16, .f16."""
    group, place = lane >> 2, lane % 4
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, place * 2 + (i & 1) + (0 if i < 4 else 8)


def isa_b(lane, i):
    group, place = lane >> 2, lane % 4
    return place * 2 + (i & 1) + (0 if i < 2 else 8), group


def isa_c(lane, i):
    group, place = lane >> 2, lane % 4
    return (group if i < 2 else group + 8), place * 2 + (i & 1)


def by_lane(matrix, place, count):
    values = [[matrix[place(lane, i)] for i in range(count)] for lane in range(32)]
    return np.array(values, matrix.dtype)


@pytest.mark.parametrize("seed", SEEDS)
def test_mma__multiplies_the_fragments_of_the_isa(seed):
    rng = np.random.default_rng(seed)
    a, b = halves(rng, 16, 16), halves(rng, 16, 8)
    c = rng.standard_normal((16, 8)).astype(np.float32)
    registers = (by_lane(a, isa_a, 8), by_lane(b, isa_b, 4), by_lane(c, isa_c, 4))
    d = np.zeros((32, 4), np.float32)
    fragments().multiply((1,), WARP, *registers, d, seed=seed)
    expected = a.astype(float) @ b.astype(float) + c
    np.testing.assert_allclose(d, by_lane(expected, isa_c, 4), rtol=0, atol=4e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_ldmatrix__hands_out_rows_as_the_isa_does(seed):
    rows = np.arange(32 * 8, dtype=np.uint16).reshape(4, 8, 8)
    out = np.zeros((32, 4), np.uint32)
    fragments().load_matrices((1,), WARP, rows, out, shared_bytes=rows.nbytes, seed=seed)
    pairs = out.view(np.uint16).reshape(32, 4, 2)
    for lane in range(32):
        column = 2 * (lane % 4)
        np.testing.assert_array_equal(pairs[lane], rows[:, lane // 4, column : column + 2])


def test_half_conversion__rounds_as_numpy_does():
    every_half = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.sort(every_half[np.isfinite(every_half)].astype(np.float32))
    between = (finite[1:] + finite[:-1]) / 2  # ties
    near = [np.nextafter(between, np.float32(side)) for side in (-np.inf, np.inf)]
    outside = np.array([65519.0, 65520.0, 1e30, np.inf, 1e-8, 1e-30, 0.0], np.float32)
    values = np.concatenate([finite, between, *near, outside, -outside])
    got, back = np.zeros(values.size, np.uint16), np.zeros(values.size, np.float32)
    blocks = -(-values.size // 1024)
    fragments().convert((blocks,), (1024,), values, got, back, values.size)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(got, expected.view(np.uint16))
    np.testing.assert_array_equal(back, expected.astype(np.float32))


MISTAKES = {
    "misaligned_copy": "not a multiple of 16 bytes",
    "read_behind": "reads 4 bytes at offset 128 of a global array of 128 bytes",
    "write_behind": "writes 4 bytes at offset 128 of a global array",
    "write_far_away": "invalid address",
    "write_behind_shared": "writes 4 bytes that are not all in the block's shared memory",
    "half_a_warp_multiplies": r"16 in a warp operation \(mma\), 16 have left",
    "overwrite_a_copy_in_flight": "while a copy to it is in flight",
    "blocks_overlap": "which another block wrote",
}


def run_mistake(name, *, watched, seed=0):
    module = build(KERNELS / "fragments.cu", [*MISTAKES, "read_unwritten_shared"], watched=watched)
    numbers = np.arange(32, dtype=np.float32)
    out = np.zeros(32, np.float32)
    shared = 128 if "shared" in name else 512
    blocks = 2 if name == "blocks_overlap" else 1
    getattr(module, name)((blocks,), WARP, numbers, out, shared_bytes=shared, seed=seed)
    return out


@pytest.mark.parametrize("name", MISTAKES)
def test_emulator__names_the_mistake(name):
    with pytest.raises(EmulationError, match=MISTAKES[name]):
        run_mistake(name, watched=True)


@pytest.mark.parametrize("name", sorted(set(MISTAKES) - {"read_behind", "blocks_overlap"}))
def test_emulator__refuses_the_mistake_by_its_values_alone(name):
    with pytest.raises(EmulationError):
        run_mistake(name, watched=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_watch__lets_threads_write_one_value_but_not_two(seed):
    module = build(KERNELS / "fragments.cu", ["set_flag"])
    out = np.zeros(64, np.float32)
    module.set_flag((1,), (64,), out, 0, shared_bytes=4, seed=seed)
    assert (out == 1).all()
    with pytest.raises(EmulationError, match="writes another value to shared byte 0"):
        module.set_flag((1,), (64,), out, 1, shared_bytes=4, seed=seed)


def test_shared_memory__is_poisoned_before_it_is_written():
    assert np.isnan(run_mistake("read_unwritten_shared", watched=True)).all()
    assert np.isnan(run_mistake("read_behind", watched=False)[-1])


def test_poison__is_not_a_number_as_float_nor_as_half():
    word = np.array(0x7FBF7DBF, np.uint32)
    assert np.isnan(word.view(np.float32))
    assert np.isnan(word.reshape(1).view(np.float16)).all()


@pytest.mark.parametrize("waiting", [1, 40, 63])
@pytest.mark.parametrize("seed", SEEDS)
def test_barrier__refuses_a_diverged_block(seed, waiting):
    module = build(KERNELS / "transpose.cu", ["diverge"])
    out = np.zeros(64, np.float32)
    with pytest.raises(EmulationError, match=r"have left|leaves the kernel"):
        module.diverge((1,), (64,), out, waiting, seed=seed)
    module.diverge((1,), (64,), out, 64, seed=seed)


def test_launch__refuses_what_no_card_takes():
    module = build(KERNELS / "transpose.cu", ["diverge"])
    out = np.zeros(64, np.float32)
    with pytest.raises(EmulationError, match="227 KiB"):
        module.diverge((1,), (64,), out, 64, shared_bytes=228 << 10)
    with pytest.raises(EmulationError, match="1,024"):
        module.diverge((1,), (2048,), out, 64)
    with pytest.raises(TypeError, match="takes 2 arguments, not 1"):
        module.diverge((1,), (64,), out)
    with pytest.raises(TypeError, match="elements have 4 bytes, the array's 8"):
        module.diverge((1,), (64,), np.zeros(64), 64)
