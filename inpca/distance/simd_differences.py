"""More vector primitives: sums over differences, in the manner of `simd`.

The trap for developers named there holds here too: Numba's cache on disk watches only the file of
the kernel, `kernels_difference.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inpca.distance.simd import LANES, _Emitter, _register


def add_squares(totals: Any, rows: NDArray[Any], i: int, columns: NDArray[Any], j: int) -> Any:
    """totals[r, l] + (rows[i + r] − columns[j + l])², the product rounded with the sum.

    `rows` and `columns` are contiguous (size,) arrays of one dtype.
    """
    difference = rows[i : i + len(totals), None] - columns[j : j + LANES]
    square = difference.astype(np.longdouble) ** 2
    return (totals + square).astype(totals.dtype)


def add_products(
    totals: Any,
    rows: NDArray[Any],
    i: int,
    columns: NDArray[Any],
    j: int,
    other_rows: NDArray[Any],
    other_columns: NDArray[Any],
) -> Any:
    """`add_squares` with the difference of two other features in place of one of its factors."""
    one = rows[i : i + len(totals), None] - columns[j : j + LANES]
    other = other_rows[i : i + len(totals), None] - other_columns[j : j + LANES]
    return (totals + one.astype(np.longdouble) * other).astype(totals.dtype)


# ---- The same in LLVM ----------------------------------------------------------------------------


def _load_columns(emit: _Emitter, column: Any) -> list[Any]:
    block = emit.block
    return [
        emit.load(emit.beside(column, v * block.width), block.vector) for v in range(block.columns)
    ]


def _emit_add_squares(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block, row_type, _, column_type, _ = signature.args
    totals, rows, i, columns, j = arguments
    emit = _Emitter(context, builder, block)
    row = emit.pointer(row_type, rows, i)
    loaded = _load_columns(emit, emit.pointer(column_type, columns, j))
    for r in range(block.rows):
        value = emit.broadcast(builder.load(emit.beside(row, r)))
        for v in range(block.columns):
            k = r * block.columns + v
            difference = builder.fsub(value, loaded[v])
            total = emit.multiply_add(difference, difference, builder.extract_value(totals, k))
            totals = builder.insert_value(totals, total, k)
    return totals


def _emit_add_products(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    block, row_type, _, column_type, _, other_row_type, other_column_type = signature.args
    totals, rows, i, columns, j, other_rows, other_columns = arguments
    emit = _Emitter(context, builder, block)
    row, other_row = (
        emit.pointer(row_type, rows, i),
        emit.pointer(other_row_type, other_rows, i),
    )
    loaded = _load_columns(emit, emit.pointer(column_type, columns, j))
    others = _load_columns(emit, emit.pointer(other_column_type, other_columns, j))
    for r in range(block.rows):
        value = emit.broadcast(builder.load(emit.beside(row, r)))
        other = emit.broadcast(builder.load(emit.beside(other_row, r)))
        for v in range(block.columns):
            k = r * block.columns + v
            one, two = builder.fsub(value, loaded[v]), builder.fsub(other, others[v])
            total = emit.multiply_add(one, two, builder.extract_value(totals, k))
            totals = builder.insert_value(totals, total, k)
    return totals


def _type_add_squares(totals: Any, rows: Any, i: Any, columns: Any, j: Any) -> Any:
    return totals


def _type_add_products(
    totals: Any, rows: Any, i: Any, columns: Any, j: Any, other_rows: Any, other_columns: Any
) -> Any:
    return totals


_register(add_squares, _type_add_squares, _emit_add_squares)
_register(add_products, _type_add_products, _emit_add_products)
