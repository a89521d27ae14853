"""Tiles of matrix products in LLVM's terms: the part that no Python loop can say.

A tile is some rows of the left operand times a panel of the right one, its sums held in registers.
The right operand lies packed by panels: for each index (or pair of indices, for int16) of the sum,
:data:`PANEL` columns side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .processor import AMX, MIDDLE, WIDE, X86, ZEN

# 32-bit numbers in a vector, and vectors in a panel: so many that all sums of a tile fit registers.
LANES: Final = 16 if WIDE else 8 if MIDDLE else 4
VECTORS: Final = 2 if LANES == 8 else 3
PANEL: Final = LANES * VECTORS
FUSED: Final = LANES > 4 or not X86
# MKL, which makes PyTorch's products, holds itself to less than such processors have, and makes
# none of float32 with registers for tiles.
AHEAD: Final = AMX or (LANES > 4 and ZEN)
KERNEL: Final = {16: "AVX512", 8: "AVX2", 4: "128-bit vectors"}[LANES]

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_MULTIPLY_PAIRS: Final = {
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}


def place_of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Return the place of element ``at`` of a flat array of numba's type ``kind``."""
    made = cgutils.create_struct_proxy(kind)(context, builder, value=array)
    return builder.gep(made.data, [at])


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)


def _add_pairs(builder: Any, total: Any, a: Any, w: Any) -> Any:
    """Return ``total`` plus the products of pairs of int16, in int32."""
    sums = total.type
    if X86:
        kind = ir.FunctionType(sums, [a.type, a.type])
        name = _MULTIPLY_PAIRS[LANES]
        multiply = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.add(total, builder.call(multiply, [a, w]))
    for first in (0, 1):
        picks = ir.Constant(sums, [2 * i + first for i in range(LANES)])
        nothing = ir.Constant(a.type, ir.Undefined)
        wide = [builder.sext(builder.shuffle_vector(v, nothing, picks), sums) for v in (a, w)]
        total = builder.add(total, builder.mul(*wide))
    return total


def _add_product(builder: Any, total: Any, a: Any, w: Any) -> Any:
    """Return ``total + a·w`` in float32, rounded once where the processor can."""
    sums = total.type
    if not FUSED:
        return builder.fadd(total, builder.fmul(a, w))
    kind = ir.FunctionType(sums, [sums] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(fma, [a, w, total])


def _make(of_int16: bool, rows: int, vectors: int = VECTORS, adds: bool = False) -> Any:
    """Return a tile ``(a, at, by_row, by_index, w, at, length, out, at, by_row)``.

    Element ``k`` (pair ``k``) of row ``r`` is at ``a[at + r·by_row + k·by_index]``. Of a panel the
    first ``vectors`` are used. With ``adds`` the sums are added to what is there.
    """
    per = 2 if of_int16 else 1
    sums = ir.VectorType(_I32 if of_int16 else _F32, LANES)
    vector = ir.VectorType(_I16, 2 * LANES) if of_int16 else sums
    add: Callable[..., Any] = _add_pairs if of_int16 else _add_product

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def start(array: int, at: int) -> Any:
            return place_of(context, builder, signature.args[array], args[array], args[at])

        a, w, out = start(0, 1), start(4, 5), start(7, 8)
        by_row, by_index, length, out_by_row = args[2], args[3], args[6], args[9]
        from_row = [builder.gep(a, [builder.mul(by_row, _int(r))]) for r in range(rows)]
        before = builder.block
        head, body, done = (builder.append_basic_block(n) for n in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_I64)
        k.add_incoming(_int(0), before)
        total = [[builder.phi(sums) for _ in range(vectors)] for _ in range(rows)]
        for phi in (p for row in total for p in row):
            phi.add_incoming(ir.Constant(sums, None), before)
        builder.cbranch(builder.icmp_signed("<", k, length), body, done)
        builder.position_at_end(body)
        panel = builder.gep(w, [builder.mul(k, _int(per * PANEL))])
        columns = []
        for v in range(vectors):
            place = builder.gep(panel, [_int(v * per * LANES)])
            loaded = builder.load(builder.bitcast(place, vector.as_pointer()))
            loaded.align = 2 if of_int16 else 4
            columns.append(loaded)
        for row, place in zip(total, from_row, strict=True):
            place = builder.gep(place, [builder.mul(k, by_index)])
            one = builder.load(builder.bitcast(place, sums.element.as_pointer()))
            one.align = 2 if of_int16 else 4
            nothing = ir.Constant(sums, ir.Undefined)
            first = builder.insert_element(nothing, one, ir.Constant(_I32, 0))
            zeros = ir.Constant(ir.VectorType(_I32, LANES), None)
            all_lanes = builder.bitcast(builder.shuffle_vector(first, nothing, zeros), vector)
            for phi, column in zip(row, columns, strict=True):
                phi.add_incoming(add(builder, phi, all_lanes, column), body)
        k.add_incoming(builder.add(k, _int(1)), body)
        builder.branch(head)
        builder.position_at_end(done)
        for r, row in enumerate(total):
            for v, phi in enumerate(row):
                at = builder.add(builder.mul(out_by_row, _int(r)), _int(v * LANES))
                place = builder.bitcast(builder.gep(out, [at]), sums.as_pointer())
                if adds:
                    before = builder.load(place)
                    before.align = 4
                    phi = builder.fadd(before, phi)
                builder.store(phi, place).align = 4
        return context.get_dummy_value()

    def tile(
        typingctx: Any,
        a: Any,
        a_at: Any,
        by_row: Any,
        by_index: Any,
        w: Any,
        w_at: Any,
        length: Any,
        out: Any,
        out_at: Any,
        out_by_row: Any,
    ) -> Any:
        n = types.intp
        return types.void(a, n, n, n, w, n, n, out, n, n), codegen

    return intrinsic(tile)


# (rows, vectors of a panel): whole panels, and for columns that do not fill one as many of its
# vectors as they need, in tiles tall enough to keep the processor busy.
_SHAPES: Final = [(rows, VECTORS) for rows in (8, 4, 2, 1)]
_SHAPES_OF_REST: Final = [(rows, vectors) for vectors in range(1, VECTORS) for rows in (8, 4)]
INT16: Final = {shape: _make(True, *shape) for shape in _SHAPES + _SHAPES_OF_REST}
FLOAT: Final = {shape: _make(False, *shape) for shape in _SHAPES + _SHAPES_OF_REST}
float_add_8, float_add_4 = (_make(False, rows, adds=True) for rows in (8, 4))
# Rows of the tallest tile: on 16 registers four rows of two vectors leave room for operands.
TALL: Final = 8 if LANES == 16 or not X86 else 4
