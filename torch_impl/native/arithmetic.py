"""Activations and operands of one number at a time, for loops that a compiler makes vectors of."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .compiling import Array, f32, i32, i64, native, round_shift, sar

OPERAND_MAX: Final = 32512


@native
def clip(sums: Array, parts: Array, left: int, bits: int, c: Array, pairs: Array) -> None:
    """Write ``(sums << left) + parts``, clipped to where tanh changes, and its places in the table.

    Args:
        sums: int32 ``[n]``.
        parts: int64 ``[n]``.
        left: left shift of the sums.
        bits: fraction bits of the result.
        c: int32 ``[n]``.
        pairs: int32 ``[n]``.
    """
    end, shift = i64(1) << (bits + 3), bits - 7
    for i in range(c.size):
        s = (i64(sums[i]) << left) + parts[i]
        v = i32(min(max(s, -end), end))
        sign = sar(v, 31)
        c[i] = v
        pairs[i] = sar(i32(i32(v ^ sign) - sign), shift)


@native
def clip_state(h: Array, bits: int, c: Array, pairs: Array) -> None:
    """Do the same for int32 ``h`` ``[n]``."""
    end, shift = i32(i64(1) << (bits + 3)), bits - 7
    for i in range(c.size):
        v = i32(min(max(h[i], i32(-end)), end))
        sign = sar(v, 31)
        c[i] = v
        pairs[i] = sar(i32(i32(v ^ sign) - sign), shift)


@native
def tanh(c: Array, pairs: Array, bits: int, table: Array, out: Array) -> None:
    """Write tanh of clipped int32 ``c`` with ``bits`` fraction bits, int32 of 15 (ACT-002).

    ``table`` has a value and the step to the next one in one number, as
    :func:`revrnn.torch_impl.activations.packed_table` makes it. Looking it up is the one loop that
    is not made vectors of, so it is one by itself.
    """
    for i in range(c.size):
        pairs[i] = table[np.uintp(pairs[i])]
    shift = bits - 7
    mask, half = i32((i64(1) << shift) - 1), i32(i64(1) << (shift - 1))
    for i in range(c.size):
        sign, pair = sar(c[i], 31), pairs[i]
        f = i32(i32(i32(c[i] ^ sign) - sign) & mask)
        t = i32(sar(pair, 9) + sar(i32(i32(i32(pair & 511) * f) + half), shift))
        out[i] = i32(i32(t ^ sign) - sign)


@native
def to_sigmoid(t: Array) -> None:
    """Replace tanh of half a number by its sigmoid, int32 of 15 fraction bits (ACT-003)."""
    for i in range(t.size):
        t[i] = sar(i32(t[i] + 32768), 1)


@native
def forget_gates(sigma: Array, factor: int, term: int, shift: int, top: int, z: Array) -> None:
    """Write forget gates from sigmoids (ACT-004, ACT-005)."""
    times, plus, most = i32(factor), i32(term), i32(top)
    for i in range(z.size):
        z[i] = i32(min(max(sar(i32(i32(sigma[i] * times) + plus), shift), i32(1)), most))


@native
def forget_slopes(
    sigma: Array, z: Array, old: Array, factor: int, term: int, shift: int, limit: int,
    unit: float, on: float, out: Array,
) -> None:  # fmt: skip
    """Write ``old·unit`` times the derivative of forget gates (GRAD-010)."""
    times, plus, by = i32(factor), i32(term), f32(unit)
    scale = f32(1.0 - 2.0**-limit) * f32(on) if limit else f32(on)
    for i in range(z.size):
        y = f32(sigma[i]) * f32(2.0**-15)
        slope = (y - y * y) * scale
        unclipped = sar(i32(i32(sigma[i] * times) + plus), shift)
        out[i] = old[i] * by * (slope if unclipped == z[i] else f32(0))


@native
def reals(v: Array, unit: float, out: Array) -> None:
    """Write ``v·unit`` in float32."""
    by = f32(unit)
    for i in range(out.size):
        out[i] = f32(v[i]) * by


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
    return i64(largest)


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
    return i64(largest)
