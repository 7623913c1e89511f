"""Vector primitives: LLVM vectors under compiled kernels, NumPy rows in plain Python.

A kernel keeps a *register block* of affinities: a few models (rows) against the `LANES` models of a
column panel, each row a few vector registers wide. LLVM does not make this form out of loops over
arrays, so the operations on a block are written here as LLVM vectors; the kernel around them is
ordinary Python with its own loops.

Every primitive is a plain function on NumPy arrays, which is what runs with
``NUMBA_DISABLE_JIT=1``; compiled code calls the LLVM form that is registered for it at the end of
this file. Multiplication and addition are fused where the machine can (x86 with FMA, NEON), in
every lane alike.

A trap for developers: Numba's cache on disk watches only the file of the kernel itself. After a
change here, edit ``VERSION`` in ``kernels_numba.py``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.extending import (
    lower_builtin,
    models,
    register_jitable,
    register_model,
    type_callable,
)
from numpy.typing import NDArray


def vector_registers(features: set[str]) -> tuple[int, int]:
    """Bits of a vector register and how many there are, from LLVM's names of CPU features.

    >>> vector_registers({"avx", "avx2"}), vector_registers({"avx", "avx2", "avx512f"})
    ((256, 16), (512, 32))
    """
    if "avx512f" in features:
        return 512, 32
    if "avx" in features:
        return 256, 16
    return 128, 32 if "neon" in features else 16


def cpu_features() -> set[str]:
    """CPU features that Numba compiles for: the host's, or ``NUMBA_CPU_FEATURES``."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    found = binding.get_host_cpu_features()
    return {
        name for name, there in found.items() if there and (config.ENABLE_AVX or "avx" not in name)
    }


_BITS, _N_REGISTERS = vector_registers(cpu_features())
# 4 × 4 registers of totals of 32, or 4 × 3 of 16: the rest hold a column and the row values. On
# AVX-512, 4 × 4, 8 × 2, 8 × 3, 6 × 4 and 4 × 6 measured the same within 5 %, 16 × 1 10 % slower.
_COLUMNS = 4 if _N_REGISTERS == 32 else 3
LANES = _COLUMNS * _BITS // 32  # models in a panel
_BLOCK_BYTES = 16  # of row values at a time: 4 float32 or 2 float64

# Products are kept at 2¹²⁵: four factors ≥ 2⁻⁶² then stay normal in float32 (2⁻¹²³), and four
# ≤ √2 stay finite (2¹²⁸).
SCALE = 125
CHAIN = 4


def block_rows(itemsize: int) -> int:
    """Rows of a register block: 4 of float32, 2 of float64.

    >>> block_rows(4), block_rows(8)
    (4, 2)
    """
    return _BLOCK_BYTES // itemsize


def zeros(like: NDArray[Any]) -> Any:
    """A register block of zeros, of the dtype of `like`."""
    return np.zeros((_BLOCK_BYTES // like.itemsize, LANES), like.dtype)


def multiply_add(totals: Any, rows: NDArray[Any], i: int, columns: NDArray[Any], j: int) -> Any:
    """totals[r, l] + rows[i + r] · columns[j + l], rounded once where the machine fuses.

    `rows` and `columns` are contiguous (size,) arrays of one dtype.
    """
    row = rows[i : i + len(totals), None].astype(np.longdouble)
    column = columns[j : j + LANES].astype(np.longdouble)
    return (totals + row * column).astype(totals.dtype)


def put(totals: Any, block: NDArray[Any]) -> None:
    """Set aside `totals` in the contiguous array `block` of as many items."""
    block[:] = totals.reshape(totals.size)


def add(block: NDArray[Any], totals: Any) -> Any:
    """`totals` plus the register block that was set aside in `block`."""
    return block.reshape(totals.shape) + totals


def multiply(products: NDArray[Any], at: int, totals: Any) -> None:
    """products[at + …] ∗= totals, row after row."""
    products[at : at + totals.size] *= totals.reshape(totals.size)


def multiply_and_split(
    products: NDArray[Any], exponents: NDArray[Any], at: int, totals: Any
) -> None:
    """`multiply`, then move the biased exponents of the products to `exponents`, by integers.

    The products keep their mantissas, with the exponent `SCALE`; `exponents` (int32 beside
    float32, int64 beside float64) grows by the exponent field, bias included: see `split_bias`.
    """
    multiply(products, at, totals)
    bits = products[at : at + totals.size].view(exponents.dtype)
    shift, mantissa, scaled = _fields(products.itemsize)
    exponents[at : at + totals.size] += bits >> shift
    bits &= mantissa
    bits |= scaled


def split_bias(itemsize: int) -> int:
    """What `multiply_and_split` adds to an exponent for a product that was just split.

    >>> split_bias(4), split_bias(8)
    (252, 1148)
    """
    return (127 if itemsize == 4 else 1023) + SCALE


def _fields(itemsize: int) -> tuple[int, int, int]:
    """Where the exponent begins, the mask of the mantissa, the exponent field of 2**SCALE."""
    shift = 23 if itemsize == 4 else 52
    return shift, (1 << shift) - 1, split_bias(itemsize) << shift


# ---- The same in LLVM ----------------------------------------------------------------------------


class BlockType(types.Type):  # type: ignore[misc]
    """Numba's type of a register block: an array of LLVM vectors, row after row."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"inpca.Block({dtype}, {LANES})")

    @property
    def width(self) -> int:
        """Lanes of one vector."""
        return int(_BITS // self.dtype.bitwidth)

    @property
    def columns(self) -> int:
        """Vectors in a row."""
        return LANES // self.width

    @property
    def rows(self) -> int:
        """Rows of the block."""
        return block_rows(self.dtype.bitwidth // 8)

    @property
    def vector(self) -> Any:
        """One register in LLVM."""
        single = self.dtype.bitwidth == 32
        return ir.VectorType(ir.FloatType() if single else ir.DoubleType(), self.width)

    @property
    def integers(self) -> Any:
        """One register seen as integers."""
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.width)


class _BlockModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, block: BlockType) -> None:
        super().__init__(manager, block, ir.ArrayType(block.vector, block.rows * block.columns))


register_model(BlockType)(_BlockModel)


class _Emitter:
    """LLVM instructions on the vectors of one block type."""

    def __init__(self, context: Any, builder: Any, block: BlockType) -> None:
        self.context, self.builder, self.block = context, builder, block

    def pointer(self, array_type: Any, array: Any, index: Any) -> Any:
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [index])

    def beside(self, pointer: Any, offset: int) -> Any:
        return self.builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])

    def load(self, pointer: Any, vector: Any) -> Any:
        """A register from any address: a multiple of the item size is enough."""
        value = self.builder.load(self.builder.bitcast(pointer, vector.as_pointer()))
        value.align = self.block.dtype.bitwidth // 8
        return value

    def store(self, value: Any, pointer: Any) -> None:
        instruction = self.builder.store(
            value, self.builder.bitcast(pointer, value.type.as_pointer())
        )
        instruction.align = self.block.dtype.bitwidth // 8

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.block.vector, ir.Undefined)
        index = ir.IntType(32)
        first = self.builder.insert_element(undefined, scalar, ir.Constant(index, 0))
        everywhere = ir.Constant(ir.VectorType(index, self.block.width), [0] * self.block.width)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        vector = self.block.vector
        name = f"llvm.fmuladd.v{self.block.width}f{self.block.dtype.bitwidth}"
        function = self.builder.module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(vector, [vector] * 3)
            function = ir.Function(self.builder.module, signature, name)
        return self.builder.call(function, [a, b, total])

    def integers(self, value: int) -> Any:
        return ir.Constant(self.block.integers, [value] * self.block.width)

    def fence(self) -> None:
        """Keep memory in memory: without it LLVM carries the products in registers from sample
        to sample, spills them all, and the kernel takes a third longer."""
        nothing = ir.FunctionType(ir.VoidType(), [])
        self.builder.asm(nothing, "", "~{memory}", [], True)


def _emit_zeros(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return ir.Constant(context.get_value_type(signature.return_type), None)


def _emit_multiply_add(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block, row_type, _, column_type, _ = signature.args
    totals, rows, i, columns, j = arguments
    emit = _Emitter(context, builder, block)
    row, column = emit.pointer(row_type, rows, i), emit.pointer(column_type, columns, j)
    loaded = [
        emit.load(emit.beside(column, v * block.width), block.vector) for v in range(block.columns)
    ]
    for r in range(block.rows):
        value = emit.broadcast(builder.load(emit.beside(row, r)))
        for v in range(block.columns):
            k = r * block.columns + v
            total = emit.multiply_add(value, loaded[v], builder.extract_value(totals, k))
            totals = builder.insert_value(totals, total, k)
    return totals


def _emit_put(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block, array_type = signature.args
    totals, array = arguments
    emit = _Emitter(context, builder, block)
    base = emit.pointer(array_type, array, ir.Constant(ir.IntType(64), 0))
    for k in range(block.rows * block.columns):
        emit.store(builder.extract_value(totals, k), emit.beside(base, k * block.width))
    emit.fence()
    return context.get_dummy_value()


def _emit_add(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array_type, block = signature.args
    array, totals = arguments
    emit = _Emitter(context, builder, block)
    base = emit.pointer(array_type, array, ir.Constant(ir.IntType(64), 0))
    for k in range(block.rows * block.columns):
        before = emit.load(emit.beside(base, k * block.width), block.vector)
        total = builder.fadd(before, builder.extract_value(totals, k))
        totals = builder.insert_value(totals, total, k)
    return totals


def _emit_multiply(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    product_type, _, block = signature.args
    products, at, totals = arguments
    emit = _Emitter(context, builder, block)
    base = emit.pointer(product_type, products, at)
    emit.fence()
    for k in range(block.rows * block.columns):
        pointer = emit.beside(base, k * block.width)
        factor = builder.extract_value(totals, k)
        emit.store(builder.fmul(emit.load(pointer, block.vector), factor), pointer)
    return context.get_dummy_value()


def _emit_multiply_and_split(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    product_type, exponent_type, _, block = signature.args
    products, exponents, at, totals = arguments
    emit = _Emitter(context, builder, block)
    base = emit.pointer(product_type, products, at)
    exponent_base = emit.pointer(exponent_type, exponents, at)
    shift, mantissa, scaled = map(emit.integers, _fields(block.dtype.bitwidth // 8))
    emit.fence()
    for k in range(block.rows * block.columns):
        pointer = emit.beside(base, k * block.width)
        exponent = emit.beside(exponent_base, k * block.width)
        factor = builder.extract_value(totals, k)
        product = builder.fmul(emit.load(pointer, block.vector), factor)
        bits = builder.bitcast(product, block.integers)
        field = builder.lshr(bits, shift)
        emit.store(builder.add(emit.load(exponent, block.integers), field), exponent)
        emit.store(builder.or_(builder.and_(bits, mantissa), scaled), pointer)
    return context.get_dummy_value()


def _register(
    function: Callable[..., Any], result: Callable[..., Any], emit: Callable[..., Any]
) -> None:
    """Let compiled code call `function`: `result` gives its type from those of the arguments."""
    type_callable(function)(lambda context: result)
    lower_builtin(function, types.VarArg(types.Any))(emit)


def _type_zeros(like: Any) -> Any:
    return BlockType(like.dtype)


def _type_multiply_add(totals: Any, rows: Any, i: Any, columns: Any, j: Any) -> Any:
    return totals


def _type_put(totals: Any, block: Any) -> Any:
    return types.none


def _type_add(block: Any, totals: Any) -> Any:
    return totals


def _type_multiply(products: Any, at: Any, totals: Any) -> Any:
    return types.none


def _type_multiply_and_split(products: Any, exponents: Any, at: Any, totals: Any) -> Any:
    return types.none


register_jitable(block_rows)
register_jitable(split_bias)
_register(zeros, _type_zeros, _emit_zeros)
_register(multiply_add, _type_multiply_add, _emit_multiply_add)
_register(put, _type_put, _emit_put)
_register(add, _type_add, _emit_add)
_register(multiply, _type_multiply, _emit_multiply)
_register(multiply_and_split, _type_multiply_and_split, _emit_multiply_and_split)
