"""Floats to fixed point and back, and looks at whole arrays, in one pass each (QNT).

Arrays are flat.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, f32, i32, i64, native

# Added to a float32 of magnitude below 2^22 it leaves no bits for fractions, which are rounded half
# to even.
_HALVES: Final = np.float32(1.5 * 2.0**23)
_INFINITE: Final = 0x7F800000


@native
def is_finite(bits: Array) -> Any:
    """Return whether no float32 is NaN or infinite, from their bits as int32 (QNT-004)."""
    most = i32(0)
    for n in range(bits.size):
        most = max(most, i32(bits[n] & i32(0x7FFFFFFF)))
    return most < _INFINITE


@native
def quantise(x: Array, scale: float, most: float, out: Array) -> None:
    """Write float32 ``x·scale`` as int16, rounded half to even, ±``most`` at most (QNT-001)."""
    factor, end = f32(scale), f32(most)
    for n in range(x.size):
        v = f32(x[n] * factor)
        v = v if v < end else end
        v = v if v > -end else -end
        out[n] = i32(f32(f32(v + _HALVES) - _HALVES))


@native
def quantise_wide(x: Array, scale: float, out: Array) -> None:
    """Write float32 ``x·scale`` as int32, rounded half to even, within its range (QNT-001)."""
    low, high, halves = -(2.0**31), 2.0**31 - 1, 1.5 * 2.0**52
    for n in range(x.size):
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
def dequantise(q: Array, scale: float, out: Array) -> None:
    """Write the nearest float32 to int32 ``q·scale``, a power of two (QNT-006)."""
    factor = f32(scale)
    for n in range(q.size):
        out[n] = f32(q[n]) * factor


@native
def largest(v: Array) -> Any:
    """Return the largest magnitude of int16 or int32."""
    low, high = i32(0), i32(0)
    for n in range(v.size):
        low, high = min(low, i32(v[n])), max(high, i32(v[n]))
    return max(i64(high), -i64(low))
