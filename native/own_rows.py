"""A share's rows of a batch in arrays of their own, and back where they belong.

Bytes are copied, whatever they are of: code for each type and shape would take longer to compile
than the kernels' parts that it serves. A share of all rows has the arrays themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, i64, inner
from .frames import pointer

_carray: Any = carray
_BYTE: Any = types.uint8


@inner
def _copy(to: int, of: int, count: int) -> None:
    source, target = _carray(pointer(of, _BYTE), (count,)), _carray(pointer(to, _BYTE), (count,))
    for i in range(count):
        target[i] = source[i]


@inner
def take_rows(of: int, outer: int, batch: int, each: int, first: int, rows: int, to: int) -> None:
    """Copy some rows of an array ``[outer, B, …]``.

    Args:
        of: its address.
        outer: the product of its axes before the batch.
        batch: B.
        each: bytes of a row.
        first: the first of the rows.
        rows: how many.
        to: address of an array ``[outer, rows, …]``.
    """
    for k in range(outer):
        _copy(to + k * rows * each, of + (k * batch + first) * each, rows * each)


@inner
def give_rows(to: int, outer: int, batch: int, each: int, first: int, rows: int, of: int) -> None:
    """Copy rows the other way, from ``of`` to some rows of ``to``; see :func:`take_rows`."""
    for k in range(outer):
        _copy(to + (k * batch + first) * each, of + k * rows * each, rows * each)


@inner
def states_of(v: Array, first: int, end: int) -> Any:
    """Return a share's rows of ``[L, 2, B, G]``, of 4 bytes an element."""
    layers, two, batch, units = v.shape
    rows = end - first
    if rows == batch:
        return v
    own = np.empty((layers, two, rows, units), v.dtype)
    take_rows(v.ctypes.data, layers * two, batch, 4 * units, first, rows, own.ctypes.data)
    return own


@inner
def put_states(v: Array, first: int, own: Array) -> None:
    """Write them back, if they are a share's own."""
    layers, two, batch, units = v.shape
    rows = own.shape[2]
    if rows != batch:
        give_rows(v.ctypes.data, layers * two, batch, 4 * units, first, rows, own.ctypes.data)


@inner
def columns_of(v: Array, first: int, end: int) -> Any:
    """Return a share's rows of ``[C, B]``."""
    steps, batch = v.shape
    rows = end - first
    if rows == batch:
        return v
    own = np.empty((steps, rows), v.dtype)
    take_rows(v.ctypes.data, steps, batch, i64(v.itemsize), first, rows, own.ctypes.data)
    return own
