"""A chunk of steps forward and back, for some rows of a batch, in one call each (SEQ)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from . import gru, lstm
from .arithmetic import layer_input, view_rows
from .buffers import TOP, UNDERFLOW, divide, multiply
from .compiling import Array, i32, i64, native
from .gru import INPUT_SHIFT, LAYER_SHIFT, SLICES, STATE_BITS, VIEW_BITS, VIEW_SHIFT
from .products import exact_product
from .tiles import PANEL

# Rows (steps times batch) whose input sums are computed together.
_TOGETHER: Final = 80
# Places in a layer's norms.
INPUT: Final = 0
VIEW: Final = 1
CANDIDATE: Final = 3


@native
def add_product(
    a: Array, largest: int, pairs: int, w: Array, norm: int, columns: int, sums: Array,
    parts: Array, at: int, shift: int,
) -> None:  # fmt: skip
    """Compute recurrent sums: into ``sums``, or into ``parts``, ``sums`` being 0."""
    rows = parts.shape[0]
    if not exact_product(a, largest, rows, pairs, w, norm, columns, sums, parts, at, shift):
        sums[: rows * -(-columns // PANEL) * PANEL] = 0


@native
def add_shifted(parts: Array, sums: Array, shift: int) -> None:
    """Add ``sums << shift`` to int64 ``parts``."""
    for i in range(parts.size):
        parts[i] += i64(sums[i]) << shift


@native
def input_parts(
    a: Array, largest: int, pairs: int, w: Array, norm: int, bias: Array, sums: Array,
    parts: Array, shift: int,
) -> None:  # fmt: skip
    """Write what input and bias give to all gates, int64 ``[M, 2·N·G]`` (PROD-004)."""
    rows, columns = parts.shape
    width = -(-columns // PANEL) * PANEL
    parts[:] = bias
    if exact_product(a, largest, rows, pairs, w, norm, columns, sums, parts, 0, shift):
        for r in range(rows):
            add_shifted(parts[r], sums[r * width :], shift)


@native
def largest_of(x: Array) -> Any:
    """Return the largest magnitude in int16 ``x``, flat."""
    largest = i32(0)
    for i in range(x.size):
        v = i32(x[i])
        largest = i32(max(largest, i32(max(v, i32(-v)))))
    return i64(largest)


@native
def forward(
    plan: Array, table: Array, x: Array, h: Array, c: Array, heads: Array, w_x: Array, w_l: Array,
    w_h: Array, w_u: Array, norms: Array, bias: Array, active: Array, aside_at: Array,
    aside: Array, gains: Array, words: Array, keep: bool, tally: Array, outputs: Array, b0: int,
    slices: Array, states: Array, counts: Array, pushed: Array,
) -> None:  # fmt: skip
    """Take a chunk of C steps of R rows forward.

    Args:
        plan: numbers of the configuration.
        table: of tanh.
        x: operands, int16 ``[C, R, I]``, I even.
        h: int32 ``[L, 2, R, G]``, carried on in place; as are ``c`` (no layers for RevGRU) and
            ``heads``, int32 ``[R, G]``.
        c: see ``h``.
        heads: see ``h``.
        w_x: packed input weights of layer 0.
        w_l: of the layers above, ``[L−1, …]``.
        w_h: packed weights of the view, ``[L, 2, …]``.
        w_u: of RevGRU's candidate.
        norms: of all, int64 ``[L, 5]``.
        bias: int64 ``[L, 2·N·G]``.
        active: uint8 ``[C, R]`` (SEQ-002).
        aside_at: int32 ``[C, R]``: where a row that starts anew is set aside, else −1; no steps
            where none does (SEQ-013).
        aside: int32 ``[n, 1 or 2, L, 2, G]``.
        gains: int32 ``[C, L−1, R, H]``, or of no steps (SEQ-012).
        words: see :func:`.buffers.multiply`.
        keep: see there.
        tally: see there.
        outputs: int32 ``[C, B, H]``, or of no steps; written from row ``b0`` on.
        b0: see ``outputs``.
        slices: int32 ``[C+1, R, D]``, or of no steps (SEQ-007).
        states: int32 ``[C+1, 1 or 2, L, 2, R, G]``, or of no steps (GRAD-020).
        counts: int64 ``[L, 1025]``, or ``[L, 0]``.
        pushed: int64 ``[L]``, counted with the gates; words must be kept then.
    """
    steps, rows, length = x.shape
    layers, _, _, units = h.shape
    columns = bias.shape[1]
    count, is_gru = columns // (2 * units), c.shape[0] == 0
    of_view = 2 * units if is_gru else count * units
    together = max(1, min(steps, _TOGETHER // rows))
    even = units + units % 2
    width = -(-columns // PANEL) * PANEL
    sums = np.empty(max(together, 1) * rows * width, np.int32)
    first_parts = np.empty((together * rows, columns), np.int64)
    more_parts = np.empty((rows, columns), np.int64)
    view = np.zeros(rows * even, np.int16)
    u = np.zeros(rows * even, np.int16)
    operand = np.zeros(rows * 2 * units, np.int16)
    no_bytes, no_floats = np.empty(0, np.uint8), np.empty(0, np.float32)
    no_gains = np.empty((0, 0), np.int32)
    z, g = np.empty((rows, units), np.int32), np.empty((rows, units), np.int32)
    sigma, change = np.empty((rows, units), np.int32), np.empty((rows, units), np.int32)
    y = np.empty((rows, (2 if is_gru else 5) * units), np.int32)
    to_view = plan[STATE_BITS] - plan[VIEW_BITS]
    forgetting, depth = plan[gru.FORGETTING] != 0, plan[SLICES]
    if slices.shape[0]:
        slices[0] = h[layers - 1, 0, :, :depth]
    if states.shape[0]:
        states[0, 0] = h
        if not is_gru:
            states[0, 1] = c
    for first in range(0, steps, together):
        some = min(together, steps - first)
        flat = x[first : first + some].reshape(-1)
        input_parts(
            flat, largest_of(flat), length // 2, w_x, norms[0, INPUT], bias[0], sums,
            first_parts[: some * rows], plan[INPUT_SHIFT],
        )  # fmt: skip
        for s in range(some):
            t = first + s
            if aside_at.shape[0]:
                for b in range(rows):
                    if aside_at[t, b] >= 0:
                        if aside.shape[0]:
                            aside[aside_at[t, b], 0] = h[:, :, b]
                            if not is_gru:
                                aside[aside_at[t, b], 1] = c[:, :, b]
                        h[:, :, b] = 0
                        if not is_gru:
                            c[:, :, b] = 0
            for k in range(layers):
                parts = first_parts[s * rows : (s + 1) * rows]
                if k:
                    gain = gains[t, k - 1] if gains.shape[0] else no_gains
                    largest = layer_input(
                        h[k - 1], gain, to_view, 2 * units, operand, no_floats, no_floats, -1, 0
                    )
                    input_parts(
                        operand, largest, units, w_l[k - 1], norms[k, INPUT], bias[k], sums,
                        more_parts, plan[LAYER_SHIFT],
                    )  # fmt: skip
                    parts = more_parts
                top = tally[TOP]
                for j in range(2):
                    at, own = j * count * units, h[k, j]
                    sliced = depth if k == layers - 1 and j == 0 else 0
                    largest = view_rows(h[k, 1 - j], to_view, even, view, no_bytes, -1)
                    add_product(
                        view, largest, even // 2, w_h[k, j], norms[k, VIEW + j], of_view, sums,
                        parts, at, plan[VIEW_SHIFT],
                    )  # fmt: skip
                    span = -(-of_view // PANEL) * PANEL
                    if is_gru:
                        gru.gates_zr(sums, span, parts, at, view, even, plan, table, z, y, u)
                        add_product(
                            u, largest, even // 2, w_u[k, j], norms[k, CANDIDATE + j], units, sums,
                            parts, at + 2 * units, 0,
                        )  # fmt: skip
                        span = -(-units // PANEL) * PANEL
                        gru.candidate(sums, span, parts, at, plan, table, z, g, change)
                    else:
                        lstm.gates(sums, span, parts, at, plan, table, sigma, z, y, change)
                        multiply(
                            c[k, j], sigma, change, active[t], 0, heads, words, keep, tally,
                            forgetting, counts[k],
                        )  # fmt: skip
                        lstm.hidden_change(c[k, j], y, plan, table, g, change)
                    multiply(
                        own, z, change, active[t], sliced, heads, words, keep, tally, forgetting,
                        counts[k],
                    )  # fmt: skip
                pushed[k] += tally[TOP] - top
            if outputs.shape[0]:
                for j in range(2):
                    outputs[t, b0 : b0 + rows, j * units : (j + 1) * units] = h[layers - 1, j]
            if slices.shape[0]:
                slices[t + 1] = h[layers - 1, 0, :, :depth]
            if states.shape[0]:
                states[t + 1, 0] = h
                if not is_gru:
                    states[t + 1, 1] = c


@native
def recover(
    plan: Array, table: Array, x: Array, h: Array, c: Array, heads: Array, w_x: Array, w_l: Array,
    w_h: Array, w_u: Array, norms: Array, bias: Array, active: Array, aside_at: Array,
    aside: Array, gains: Array, words: Array, tally: Array, outputs: Array, b0: int, batch: int,
    slices: Array, states: Array, tape: Array, ok: Array, operands: Array, slopes: Array,
) -> None:  # fmt: skip
    """Take a chunk back, or look its states up, and write its tape.

    Arguments are those of :func:`forward`, and:
        batch: rows of the whole batch, which the tape has room for.
        tape: float32, flat: by piece ``[L, 2, C, B, G]``; see :func:`.gru.factors`.
        ok: uint8, flat ``[L, 2, C, B, G]``: where the view did not saturate.
        operands: float32, flat ``[L−1, C, B, H]``: inputs of the layers above the first.
        slopes: the same: their derivatives by the states below.
    """
    steps, rows, length = x.shape
    layers, _, _, units = h.shape
    columns = bias.shape[1]
    count, is_gru = columns // (2 * units), c.shape[0] == 0
    of_view = 2 * units if is_gru else count * units
    together = max(1, min(steps, _TOGETHER // rows))
    even = units + units % 2
    width = -(-columns // PANEL) * PANEL
    sums = np.empty(max(together, 1) * rows * width, np.int32)
    first_parts = np.empty((together * rows, columns), np.int64)
    more_parts = np.empty((rows, columns), np.int64)
    view = np.zeros(rows * even, np.int16)
    u = np.zeros(rows * even, np.int16)
    operand = np.zeros(rows * 2 * units, np.int16)
    no_gains = np.empty((0, 0), np.int32)
    z, g = np.empty((rows, units), np.int32), np.empty((rows, units), np.int32)
    sigma, change = np.empty((rows, units), np.int32), np.empty((rows, units), np.int32)
    y = np.empty((rows, (2 if is_gru else 5) * units), np.int32)
    change_h = np.empty((rows, units), np.int32)
    to_view = plan[STATE_BITS] - plan[VIEW_BITS]
    forgetting, depth = plan[gru.FORGETTING] != 0, plan[SLICES]
    restore = np.zeros((rows, depth), np.int32)
    stored, size = states.shape[0] > 0, layers * 2 * steps * batch * units
    blocks = -(-steps // together)
    for block in range(blocks):
        first = (blocks - 1 - block) * together
        some = min(together, steps - first)
        flat = x[first : first + some].reshape(-1)
        input_parts(
            flat, largest_of(flat), length // 2, w_x, norms[0, INPUT], bias[0], sums,
            first_parts[: some * rows], plan[INPUT_SHIFT],
        )  # fmt: skip
        for back in range(some):
            s = some - 1 - back
            t = first + s
            if outputs.shape[0]:
                for j in range(2):
                    outputs[t, b0 : b0 + rows, j * units : (j + 1) * units] = h[layers - 1, j]
            if slices.shape[0]:
                restore[:] = slices[t]
                if aside_at.shape[0]:
                    for b in range(rows):
                        if aside_at[t, b] >= 0:
                            restore[b] = 0
            for down in range(layers):
                k = layers - 1 - down
                parts = first_parts[s * rows : (s + 1) * rows]
                if k:
                    gain = gains[t, k - 1] if gains.shape[0] else no_gains
                    base = (((k - 1) * steps + t) * batch + b0) * 2 * units
                    largest = layer_input(
                        h[k - 1], gain, to_view, 2 * units, operand, operands, slopes, base,
                        plan[VIEW_BITS],
                    )  # fmt: skip
                    input_parts(
                        operand, largest, units, w_l[k - 1], norms[k, INPUT], bias[k], sums,
                        more_parts, plan[LAYER_SHIFT],
                    )  # fmt: skip
                    parts = more_parts
                for j in (1, 0):
                    at, own = j * count * units, h[k, j]
                    base = (((k * 2 + j) * steps + t) * batch + b0) * units
                    sliced = depth if k == layers - 1 and j == 0 else 0
                    largest = view_rows(h[k, 1 - j], to_view, even, view, ok, base)
                    add_product(
                        view, largest, even // 2, w_h[k, j], norms[k, VIEW + j], of_view, sums,
                        parts, at, plan[VIEW_SHIFT],
                    )  # fmt: skip
                    span = -(-of_view // PANEL) * PANEL
                    enough = True
                    if is_gru:
                        gru.gates_zr(sums, span, parts, at, view, even, plan, table, z, y, u)
                        add_product(
                            u, largest, even // 2, w_u[k, j], norms[k, CANDIDATE + j], units, sums,
                            parts, at + 2 * units, 0,
                        )  # fmt: skip
                        span = -(-units // PANEL) * PANEL
                        gru.candidate(sums, span, parts, at, plan, table, z, g, change)
                        if not stored:
                            enough = divide(
                                own, z, change, active[t], sliced, restore, heads, words, tally,
                                forgetting,
                            )  # fmt: skip
                    else:
                        lstm.gates(sums, span, parts, at, plan, table, sigma, z, y, change)
                        lstm.hidden_change(c[k, j], y, plan, table, g, change_h)
                        if not stored:
                            enough = divide(
                                own, z, change_h, active[t], sliced, restore, heads, words, tally,
                                forgetting,
                            ) and divide(
                                c[k, j], sigma, change, active[t], 0, restore, heads, words, tally,
                                forgetting,
                            )  # fmt: skip
                    if not enough:
                        tally[UNDERFLOW] = 1
                        return
                    if stored:
                        for b in range(rows):
                            own[b] = states[t, 0, k, j, b]
                            if not is_gru:
                                c[k, j, b] = states[t, 1, k, j, b]
                            if aside_at.shape[0] and aside_at[t, b] >= 0:
                                own[b] = 0
                                if not is_gru:
                                    c[k, j, b] = 0
                    if is_gru:
                        gru.factors(z, g, y, view, u, even, own, active[t], plan, tape, base, size)
                    else:
                        lstm.factors(
                            sigma, z, y, g, view, even, own, c[k, j], active[t], plan, tape, base,
                            size,
                        )  # fmt: skip
            if aside_at.shape[0]:
                for b in range(rows):
                    n = aside_at[t, b]
                    if n >= 0 and stored:
                        h[:, :, b] = states[t, 0, :, :, b]
                        if not is_gru:
                            c[:, :, b] = states[t, 1, :, :, b]
                    elif n >= 0:
                        h[:, :, b] = aside[n, 0]
                        if not is_gru:
                            c[:, :, b] = aside[n, 1]
