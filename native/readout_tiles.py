"""The products of :mod:`.readout` where there are registers for tiles (:mod:`.float_products`).

Outputs are packed in three parts: as columns ``[P, …]``, each panel's rows as four tiles of
columns, and as terms, all rows of a block together.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from .amx import SIDE, TERMS, aligned_at, configure, release
from .compiling import Array, f32, i64, inner
from .float_parts import BLOCK, PART, PARTS, split_row
from .float_products import add_outer_of_3, left_room, pack_3, row_length
from .float_tiles import FIRST_BY_ROWS, add_three_part_tiles, three_part_tiles

# Rows of a panel, whole tiles of terms, and its tiles of columns.
PANEL_OF_TILES: Final = 64
_TILES: Final = PANEL_OF_TILES // SIDE
# Float32 in the room of three parts of a tile of weights.
_FLOATS: Final = PARTS * PART // 4
# Classes whose weights are taken apart together: as rows, and as terms.
_ROWS: Final = 128
_TERMS: Final = 512


@inner
def tile_sizes(panels: int, length: int) -> tuple[int, int]:
    """Return how many float32 outputs of ``length`` take, as columns of a panel and as terms."""
    columns = _TILES * -(-length // BLOCK)
    terms = -(-length // (2 * SIDE)) * 2 * -(-panels * PANEL_OF_TILES // BLOCK)
    return columns * _FLOATS, terms * _FLOATS


@inner
def pack_into_tiles(x: Array, of_rows: Array, of_columns: Array) -> None:
    """Pack outputs ``[R, H]``: see the head of this file."""
    rows, length = x.shape
    turned = np.empty(length * PANEL_OF_TILES, np.float32)
    for p in range(of_rows.shape[0]):
        for i in range(PANEL_OF_TILES):
            r = p * PANEL_OF_TILES + i
            for c in range(length):
                turned[c * PANEL_OF_TILES + i] = x[r, c] if r < rows else f32(0)
        n, blocks = i64(PANEL_OF_TILES), -(-length // BLOCK)
        pack_3(turned, 0, n, n, length, blocks, _TILES, f32(1), of_rows[p], 0)
    blocks, tiles = of_rows.shape[0] * PANEL_OF_TILES // BLOCK, -(-length // (2 * SIDE)) * 2
    terms = of_columns.reshape(-1)
    pack_3(x.reshape(-1), 0, length, length, rows, blocks, tiles, f32(1), terms, 0)


@inner
def logits_by_tiles(w: Array, x: Array, first: int, last: int, out: Array) -> None:
    """Write logits without biases, as :func:`.readout.write_logits` does."""
    length, flat, blocks = w.shape[1], w.reshape(-1), -(-w.shape[1] // BLOCK)
    by, strip = row_length(blocks), blocks * PARTS * PART
    room, at, lower = left_room(_ROWS, by)
    configure(SIDE, FIRST_BY_ROWS)
    for begin in range(first, last, _ROWS):
        count = min(_ROWS, last - begin)
        for r in range(count):
            own, to = (begin + r) * length, at + r * by
            split_row(flat, own, length, room, to, lower, blocks * BLOCK)
        for p in range(x.shape[0]):
            for c in range(0, _TILES, 2):
                for r in range(0, count, 2 * SIDE):
                    here, to, rows = at + r * by, (begin + r) * PANEL_OF_TILES + c * SIDE, count - r
                    three_part_tiles(
                        room,
                        here,
                        by,
                        lower,
                        x[p],
                        c * strip,
                        strip,
                        blocks,
                        out[p],
                        to,
                        PANEL_OF_TILES,
                        SIDE,
                        min(rows, 2 * SIDE),
                        2 * SIDE,
                    )
    release()


@inner
def gradients_by_tiles(w: Array, of_logits: Array, first: int, last: int, dx: Array) -> None:
    """Write columns of the gradient of outputs, as :func:`.readout.write_gradients` does."""
    (classes, length), flat, count = w.shape, w.reshape(-1), last - first
    panels = of_logits.shape[0]
    part = np.zeros((count, panels * PANEL_OF_TILES), np.float32)
    most = _TILES * _TERMS // BLOCK * PARTS * PART
    packed = np.empty(panels * most + TERMS, np.int8)
    start: int = aligned_at(packed)
    for begin in range(0, classes, _TERMS):
        some, at = min(_TERMS, classes - begin), begin * length + first
        blocks, n = -(-some // BLOCK), i64(PANEL_OF_TILES)
        for p in range(panels):
            own, to = begin * n, start + p * _TILES * blocks * PARTS * PART
            pack_3(of_logits[p], own, n, n, some, blocks, _TILES, f32(1), packed, to)
        terms = packed[start:]
        add_outer_of_3(flat, at, length, count, some, terms, panels * PANEL_OF_TILES, part, 0)
    for r in range(dx.shape[0]):
        for c in range(count):
            dx[r, first + c] = part[c, r]


@inner
def weights_by_tiles(of_logits: Array, x: Array, first: int, last: int, of_weight: Array) -> None:
    """Add to the gradients of some weights, as :func:`.readout.add_to_weight` does."""
    length, panels, flat = of_weight.shape[1], of_logits.shape[0], of_weight.reshape(-1)
    blocks = panels * PANEL_OF_TILES // BLOCK
    by, strip = row_length(blocks), blocks * PARTS * PART
    room, at, lower = left_room(_ROWS, by)
    configure(SIDE, FIRST_BY_ROWS)
    for begin in range(first, last, _ROWS):
        count = min(_ROWS, last - begin)
        for p in range(panels):
            for r in range(count):
                to = at + r * by + 2 * p * PANEL_OF_TILES
                split_row(
                    of_logits[p],
                    (begin + r) * PANEL_OF_TILES,
                    PANEL_OF_TILES,
                    room,
                    to,
                    lower,
                    PANEL_OF_TILES,
                )
        for r in range(0, count, 2 * SIDE):
            for c in range(0, length, 2 * SIDE):  # along rows, as memory is best read
                here, to, rows = at + r * by, (begin + r) * length + c, count - r
                add_three_part_tiles(
                    room,
                    here,
                    by,
                    lower,
                    x,
                    c // SIDE * strip,
                    strip,
                    blocks,
                    flat,
                    to,
                    length,
                    SIDE,
                    min(rows, 2 * SIDE),
                    length - c,
                )
    release()
