"""Floats to fixed point and back, and looks at whole arrays, in one pass each (QNT).

Arrays are given by address and number of elements: at small sizes making arrays of a framework's
memory takes longer than what is done with them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.extending import intrinsic

from .compiling import Array, f32, i32, i64, inner, native
from .frames import pointer

_intrinsic: Any = intrinsic
_carray: Any = carray
_SHORT: Any = types.int16
_INT: Any = types.int32
_FLOAT: Any = types.float32

# Added to a float32 of magnitude below 2^22 it leaves no bits for fractions, which are rounded half
# to even.
_HALVES: Final = np.float32(1.5 * 2.0**23)
_INFINITE: Final = 0x7F800000


@native
def is_finite(at: int, count: int) -> Any:
    """Return whether no float32 is NaN or infinite, by their bits (QNT-004)."""
    bits, most = _carray(pointer(at, _INT), (count,)), i32(0)
    for n in range(count):
        most = max(most, i32(bits[n] & i32(0x7FFFFFFF)))
    return most < _INFINITE


@native
def quantise(at: int, count: int, scale: float, most: float, to: int) -> None:
    """Write float32 times ``scale`` as int16, rounded half to even, ±``most`` at most (QNT-001)."""
    x, out = _carray(pointer(at, _FLOAT), (count,)), _carray(pointer(to, _SHORT), (count,))
    factor, end = f32(scale), f32(most)
    for n in range(count):
        v = f32(x[n] * factor)
        v = v if v < end else end
        v = v if v > -end else -end
        out[n] = i32(f32(f32(v + _HALVES) - _HALVES))


@native
def quantise_wide(at: int, count: int, scale: float, to: int) -> None:
    """Write float32 times ``scale`` as int32, rounded half to even, in its range (QNT-001)."""
    x, out = _carray(pointer(at, _FLOAT), (count,)), _carray(pointer(to, _INT), (count,))
    low, high, halves = -(2.0**31), 2.0**31 - 1, 1.5 * 2.0**52
    for n in range(count):
        v = x[n] * scale  # in float64, which has all of int32
        v = v if v < high else high
        v = v if v > low else low
        out[n] = i64((v + halves) - halves)


@native
def add_rows(into: Array, index: Array, rows: Array) -> None:
    """Add ``rows``, ``[N, E]``, to those of ``into`` that ``index`` names, one after the other."""
    for n in range(index.size):
        at = index[n]
        for i in range(rows.shape[1]):
            into[at, i] += rows[n, i]


@native
def dequantise(at: int, count: int, scale: float, to: int) -> None:
    """Write the nearest float32 to int32 times ``scale``, a power of two (QNT-006)."""
    q, out = _carray(pointer(at, _INT), (count,)), _carray(pointer(to, _FLOAT), (count,))
    factor = f32(scale)
    for n in range(count):
        out[n] = f32(q[n]) * factor


def _bits(typingctx: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], context.get_value_type(_INT))

    return _INT(types.float32), codegen


_bits_of = _intrinsic(_bits)


@native
def dequantise_in_place(at: int, count: int, scale: float) -> None:
    """Do so where the int32 are."""
    q, factor = _carray(pointer(at, _INT), (count,)), f32(scale)
    for n in range(count):
        q[n] = _bits_of(f32(f32(q[n]) * factor))


@inner
def _largest(v: Array) -> Any:
    low, high = i32(0), i32(0)
    for n in range(v.size):
        low, high = min(low, i32(v[n])), max(high, i32(v[n]))
    return max(i64(high), -i64(low))


@native
def largest(at: int, count: int, bits: int) -> Any:
    """Return the largest magnitude of integers of 16 or 32 bits."""
    if bits == 16:
        return _largest(_carray(pointer(at, _SHORT), (count,)))
    return _largest(_carray(pointer(at, _INT), (count,)))
