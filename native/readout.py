"""A linear readout and the cross-entropy of its logits, for a block of rows.

Logits lie by panels of :data:`ROWS` rows, ``[P, V, ROWS]``: a class beside the next one,
a row in a lane of its own. So the weight of the classes is the left operand of both products with
it and is read as it is, and what they give is the right operand of the next one, already packed.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from .compiling import Array, f32, i64, inner
from .lanes import F32, Group, Lanes, Place, vector
from .packing import padded_columns
from .processor import AMX
from .products import add_outer_products, float_panel
from .readout_tiles import (
    PANEL_OF_TILES,
    gradients_by_tiles,
    logits_by_tiles,
    pack_into_tiles,
    tile_sizes,
    weights_by_tiles,
)
from .tiles import PANEL, TALL
from .vectors import Kernel, kernel

# Rows of a panel.
ROWS: Final = PANEL_OF_TILES if AMX else PANEL
# Numbers of a weight that stay in a processor's second cache (256 kB), and most classes whose
# logits of a panel stay in its first.
_CACHED: Final = 2**16
_MOST: Final = 128

# exp by a polynomial on ±log(2)/2: log2(e), log(2) in two parts, coefficients, and the least
# argument with a normal result.
_LOG2_E: Final = 1.44269504088896341
_LOG_2: Final = (0.693359375, -2.12194440e-4)
_POWERS: Final = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
_LEAST: Final = -87.0


def _exponential(x: Lanes) -> Lanes:
    """Return exp of float32 that are 0 or less; NaN where it is NaN."""
    normal = x >= _LEAST
    below = x < _LEAST
    least = normal.choose(x, x.with_value(x.lift(_LEAST)))
    whole = (least * _LOG2_E + 0.5).call("floor")
    rest = least - whole * _LOG_2[0] - whole * _LOG_2[1]
    total = rest * _POWERS[0] + _POWERS[1]
    for power in _POWERS[2:]:
        total = total * rest + power
    total = total * rest * rest + rest + 1.0
    bits = (whole.as_integer() + 127) << 23
    scale = x.with_value(x.builder.bitcast(bits.value, vector(F32)))
    return normal.choose(total * scale, below.choose(0.0, x))


@kernel
def _raise_row(k: Kernel, n: Any, x: Place, most: Place) -> None:
    """Raise ``most`` to ``x``."""

    def raise_to(group: Group) -> None:
        value, so_far = group.load(x), group.load(most)
        group.store(most, (value >= so_far).choose(value, so_far))

    k.each(n, raise_to)


@kernel
def _exponentials_row(k: Kernel, n: Any, x: Place, most: Place, total: Place) -> None:
    """Write ``exp(x − most)`` over ``x``, and add it to ``total``."""

    def write(group: Group) -> None:
        value = _exponential(group.load(x) - group.load(most))
        group.store(x, value)
        group.store(total, group.load(total) + value)

    k.each(n, write)


@kernel
def _scale_row(k: Kernel, n: Any, factor: Place, x: Place) -> None:
    """Multiply ``x`` by ``factor``."""
    k.each(n, lambda group: group.store(x, group.load(x) * group.load(factor)))


@kernel
def _shift_row(k: Kernel, n: Any, bias: Any, x: Place) -> None:
    """Add a number to ``x``."""
    k.each(n, lambda group: group.store(x, group.load(x) + k.all_lanes(bias)))


@inner
def _together(length: int) -> Any:
    """Return how many classes of so many weights are handled together."""
    return min(_MOST, max(_CACHED // length // TALL, 1) * TALL)


@inner
def sizes_of_outputs(panels: int, length: int) -> Any:
    """Return the size of a panel of outputs of ``length`` by row, and the shape of all by term."""
    if AMX:
        of_rows, of_columns = tile_sizes(panels, length)
        return of_rows, (i64(1), of_columns)
    return length * ROWS, (panels, ROWS * padded_columns(length))


@inner
def pack_outputs(x: Array, of_rows: Array, of_columns: Array) -> None:
    """Pack ``[R, H]`` twice, by panels of rows; rows that fill the last one are 0.

    ``of_rows``, ``[P, H·ROWS]``, has the rows as columns of a right operand, ``of_columns``,
    ``[P, ROWS·whole panels of H]``, has each panel's rows as the terms of one. Where there are
    registers for tiles, they have what :mod:`.readout_tiles` wants.
    """
    if AMX:
        pack_into_tiles(x, of_rows, of_columns)
        return
    rows, length = x.shape
    for p in range(of_rows.shape[0]):
        for i in range(ROWS):
            r = p * ROWS + i
            for c in range(padded_columns(length)):
                value = x[r, c] if r < rows and c < length else f32(0)
                if c < length:
                    of_rows[p, c * ROWS + i] = value
                at = ((c // ROWS) * ROWS + i) * ROWS + c % ROWS
                of_columns[p, at] = value


@inner
def write_logits(w: Array, bias: Array, x: Array, first: int, last: int, out: Array) -> None:
    """Write logits of some classes.

    Args:
        w: float32 ``[V, H]``.
        bias: float32 ``[V]``, or empty.
        x: outputs packed as columns, ``[P, H·ROWS]``.
        first: the first class.
        last: the one after the last.
        out: ``[P, V·ROWS]``.
    """
    length, flat, together = w.shape[1], w.reshape(-1), _together(w.shape[1])
    if AMX:
        logits_by_tiles(w, x, first, last, out)
    for begin in range(first, last, together):
        count, at = min(together, last - begin), begin * length
        for p in range(x.shape[0]):
            to, one, panel = begin * ROWS, i64(1), i64(ROWS)
            if not AMX:
                float_panel(
                    flat, at, length, one, count, x[p], i64(0), length, out[p], to, panel, ROWS
                )
            if bias.size:
                for v in range(begin, begin + count):
                    _shift_row(i64(ROWS), bias[v], out[p], v * ROWS)


@inner
def cross_entropy(
    logits: Array, targets: Array, weights: Array, factors: Array, losses: Array
) -> None:
    """Write losses of a panel of rows, and their gradients over the logits.

    Args:
        logits: float32 ``[V·ROWS]``.
        targets: int64 ``[r]``, class numbers of the panel's rows.
        weights: float32 ``[r]``: what each row's loss counts.
        factors: float32 ``[r]``: what each row's gradient is multiplied by; empty for none.
        losses: float32 ``[r]``, to be written.
    """
    classes, rows, panel = logits.size // ROWS, targets.size, i64(ROWS)
    most, total = np.empty(ROWS, np.float32), np.zeros(ROWS, np.float32)
    chosen, factor = np.empty(ROWS, np.float32), np.zeros(ROWS, np.float32)
    most[:] = logits[:ROWS]
    for v in range(classes):
        _raise_row(panel, logits, v * ROWS, most, 0)
    for r in range(rows):
        chosen[r] = logits[targets[r] * ROWS + r]
    for v in range(classes):
        _exponentials_row(panel, logits, v * ROWS, most, 0, total, 0)
    for r in range(rows):
        # As JAX has it: the gradient is NaN where the logit is infinite; PyTorch's is everywhere.
        if most[r] == math.inf:
            total[r] = f32(1)
        norm = f32(most[r] + f32(math.log(total[r])))
        losses[r] = f32(norm - chosen[r]) * weights[r]
    if factors.size:
        for r in range(rows):
            factor[r] = factors[r] / total[r]
        for v in range(classes):
            _scale_row(panel, factor, 0, logits, v * ROWS)
        for r in range(rows):
            logits[targets[r] * ROWS + r] -= factors[r]


@inner
def write_gradients(w: Array, of_logits: Array, first: int, last: int, dx: Array) -> None:
    """Write some columns of the gradient of outputs.

    Args:
        w: float32 ``[V, H]``.
        of_logits: ``[P, V·ROWS]``.
        first: the first column.
        last: the one after the last.
        dx: float32 ``[R, H]``.
    """
    if AMX:
        gradients_by_tiles(w, of_logits, first, last, dx)
        return
    (classes, length), flat, count = w.shape, w.reshape(-1), last - first
    panels, panel, one = of_logits.shape[0], i64(ROWS), i64(1)
    part, together = np.zeros((panels, count, ROWS), np.float32), _together(length)
    for begin in range(0, classes, together):
        some, at = min(together, classes - begin), begin * length + first
        for p in range(panels):
            terms = of_logits[p][begin * ROWS : (begin + some) * ROWS]
            add_outer_products(flat, at, one, length, count, some, terms, panel, part[p], 0)
    for r in range(dx.shape[0]):
        for c in range(count):
            dx[r, first + c] = part[r // ROWS, c, r % ROWS]


@inner
def add_to_weight(
    of_logits: Array, x: Array, first: int, last: int, of_weight: Array, of_bias: Array
) -> None:
    """Add to the gradients of some classes' weights and biases.

    Args:
        of_logits: ``[P, V·ROWS]``.
        x: outputs packed as terms, ``[P, ROWS·whole panels of H]``.
        first: the first class.
        last: the one after the last.
        of_weight: float32 ``[V, H]``, or of no classes.
        of_bias: float32 ``[V]``, or empty.
    """
    classes, length = of_weight.shape
    together = _together(length)
    if AMX and classes:
        weights_by_tiles(of_logits, x.reshape(-1), first, last, of_weight)
    for begin in range(first, last, together):
        count = min(together, last - begin)
        for p in range(of_logits.shape[0]):
            own, one = of_logits[p], i64(1)
            if classes and not AMX:
                at, panel = begin * ROWS, i64(ROWS)
                add_outer_products(own, at, panel, one, count, ROWS, x[p], length, of_weight, begin)
            if of_bias.size:
                for v in range(begin, begin + count):
                    total = f32(0)
                    for i in range(ROWS):
                        total += own[v * ROWS + i]
                    of_bias[v] += total
