"""Sizes of random requests: small ones, and now and then those at which ports cut work into parts.

A port that works on so many lanes, rows or terms at a time goes wrong only beyond them; one that
takes an axis for another only where lengths differ, or only where they are equal.
"""

from __future__ import annotations

from typing import Final, cast

import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.operations import AXES

from .contents import Shape

# The largest lengths of axes of the elementary operations and those on the buffer; of free shape,
# arrays are always of one length.
USUAL: Final = {"M": 5, "N": 5, "K": 70, "B": 4, "G": 5}
FREE: Final = 28
# Terms of one product in twenty: more than 32 bits hold of sums of products of bytes (PROD-003).
LONG: Final = 2**17 + 1
_LONG_EVERY: Final = 20
# Of so many requests for products one has as many terms as there may be (PROD-002), and of as many
# with faults one has a term more.
_LONGEST_EVERY: Final = 1000
_LONGEST_AT: Final = 9
MOST: Final = cast("int", AXES["K"].most)  # which the law limits

# Two requests of so many, one after the other, so that both layouts and both cells are among them,
# have more rows and units than go together in ports: lanes, warps, blocks, what a byte counts.
_LARGE_EVERY: Final = 20
_LARGE_AT: Final = (12, 13)
LARGE_ROWS: Final = 34
# Rows, units of a group and inputs of a step; rows and units of an operation on the buffer.
LARGE_CELLS: Final = ((LARGE_ROWS, 33, 3), (2, 67, 259))
LARGE_BUFFERS: Final = ((LARGE_ROWS, 67), (3, 259))


def pool_for(examples: int) -> int:
    """Return how many configurations serve so many requests for each operation."""
    return max(2, min(8, examples // 4))


def is_long(number: int) -> bool:
    """Say whether a request for a product has more terms than usual."""
    return number % _LONG_EVERY == _LONG_EVERY - 1


def is_longest(number: int) -> bool:
    """Say whether a request for a product has as many terms as there may be."""
    return number % _LONGEST_EVERY == _LONGEST_AT


def is_large(number: int) -> bool:
    """Say whether a request has many rows, and many units where it has a single step."""
    return number % _LARGE_EVERY in _LARGE_AT


def scattered() -> npt.NDArray[np.bool_]:
    """Say which terms of the longest product are not 0, which is short to write.

    Enough that their sum leaves 48 bits, and those of their bytes' products 32 bits wherever sums
    are kept apart: of so many terms in a row, of every eighth, of four of every 32. And enough that
    the line is longer than 2^23 bytes, which is no limit of requests.
    """
    terms = np.arange(MOST)
    there: npt.NDArray[np.bool_] = (terms < LONG) | (terms % 2 == 0) | (terms % 32 < 4)
    return there


def rows_of(config: Config) -> int:
    """Return a number of rows that depends on the configuration alone."""
    return 1 + (config.input_size + config.hidden_size) % 3


def has_gains(config: Config) -> bool:
    """Say whether there are gains between layers: where the size of inputs is even."""
    return config.input_size % 2 == 0


def usual_shape(config: Config, number: int, pool: int) -> Shape:
    """Return sizes that depend on the configuration alone; once in a pool, no steps at all."""
    steps = 3 + (config.hidden_size + config.num_layers) % 5
    none = number % (5 * pool) == 4 * pool
    return Shape(0 if none else steps, rows_of(config), gains=has_gains(config))


def shape_of(config: Config, number: int, pool: int) -> Shape:
    """Return sizes of which now and then two are equal, or that are large."""
    shape, turn = usual_shape(config, number, pool), number // pool % 4
    steps, rows = shape.steps, shape.rows
    if is_large(number):
        rows = LARGE_ROWS
    elif turn == 1 and shape.gains and config.num_layers > 2:
        steps = config.num_layers - 1  # those that have gains
    elif turn == 2 and steps:
        rows = steps
    return Shape(steps, rows, shape.gains)
