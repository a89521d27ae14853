"""Activations and operands of one number at a time, for loops that a compiler makes vectors of."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, f32, i32, i64, inline, native, round_shift, sar

OPERAND_MAX: Final = 32512


@inline
def tanh(s: Any, bits: Any, table: Any) -> Any:
    """Return tanh of int64 ``s`` with ``bits`` fraction bits, int32 of 15 (ACT-002).

    ``table`` has a value and the step to the next one in one number, as
    :func:`revrnn.torch_impl.activations.packed_table` makes it.
    """
    end = i64(1) << (bits + 3)
    c = i32(min(max(s, -end), end))
    sign = sar(c, 31)
    u = i32((c ^ sign) - sign)
    shift = bits - 7
    pair = table[np.uintp(sar(u, shift))]
    f = i32(u & i32((i64(1) << shift) - 1))
    half = i32(i64(1) << (shift - 1))
    t = i32(sar(pair, 9) + sar(i32(i32(i32(pair & 511) * f) + half), shift))
    return i32(i32(t ^ sign) - sign)


@inline
def sigmoid(s: Any, bits: Any, table: Any) -> Any:
    """Return the sigmoid of ``s``, int32 of 15 fraction bits (ACT-003)."""
    return sar(i32(tanh(s, bits + 1, table) + 32768), 1)


@native
def view_rows(h: Array, shift: int, width: int, out: Array, ok: Array, base: int) -> Any:
    """Write states ``[R, G]`` as operands (FMT-004).

    Args:
        h: int32.
        shift: fraction bits to be lost.
        width: row length of ``out``, even.
        out: int16, flat.
        ok: uint8, flat: where nothing saturated (GRAD-002).
        base: where to begin in ``ok``, or −1 not to write there.

    Returns:
        The largest magnitude.
    """
    rows, units = h.shape
    largest = i32(0)
    for b in range(rows):
        for i in range(units):
            v = round_shift(h[b, i], shift)
            w = i32(min(max(v, i32(-OPERAND_MAX)), i32(OPERAND_MAX)))
            out[b * width + i] = w
            largest = i32(max(largest, i32(max(w, i32(-w)))))
        if base >= 0:
            for i in range(units):
                v = round_shift(h[b, i], shift)
                ok[base + b * units + i] = (v <= OPERAND_MAX) & (v >= -OPERAND_MAX)
    return largest


@native
def layer_input(
    h: Array, gains: Array, shift: int, width: int, out: Array, operand: Array, slope: Array,
    base: int, bits: int,
) -> Any:  # fmt: skip
    """Write a layer's states as the operand of the layer above (SEQ-004, SEQ-012).

    Args:
        h: int32 ``[2, R, G]``.
        gains: int32 ``[R, H]`` with 12 fraction bits, or of no rows.
        shift: fraction bits to be lost.
        width: row length of ``out``.
        out: int16, flat.
        operand: float32, flat: its real numbers, for gradients.
        slope: float32, flat: its derivative by the state (GRAD-002, GRAD-016).
        base: where to begin in ``operand`` and ``slope``, or −1 not to write there.
        bits: fraction bits of the operand.

    Returns:
        The largest magnitude.
    """
    _, rows, units = h.shape
    unit, gain_unit = f32(2.0**-bits), f32(2.0**-12)
    gained = gains.shape[0] > 0
    largest = i32(0)
    for b in range(rows):
        for j in range(2):
            for i in range(units):
                v = round_shift(h[j, b, i], shift)
                w = i32(min(max(v, i32(-OPERAND_MAX)), i32(OPERAND_MAX)))
                passes, factor = v == w, f32(1)
                if gained:
                    gain = gains[b, j * units + i]
                    v = round_shift(i32(w * gain), 12)
                    w = i32(min(max(v, i32(-OPERAND_MAX)), i32(OPERAND_MAX)))
                    passes = passes and v == w
                    factor = f32(gain) * gain_unit
                at = j * units + i
                out[b * width + at] = w
                largest = i32(max(largest, i32(max(w, i32(-w)))))
                if base >= 0:
                    to = base + b * 2 * units + at
                    operand[to] = f32(w) * unit
                    slope[to] = factor if passes else f32(0)
    return largest
