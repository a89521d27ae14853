"""Intel's registers for tiles (AMX) in Python, for processors that have none.

What LLVM would make instructions of is called here, by the same names and with the same arguments.
Misuse ends the process, as the processor's fault would.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import binding

_TILES, _ROWS, _BYTES = 8, 16, 64
# Where a configuration has the bytes of a row, and the rows, of each register.
_WIDTHS_AT, _ROWS_AT = 16, 48
_INSTRUCTIONS: Final = re.compile(r"llvm\.x86\.(ldtilecfg|tile\w+|tdp\w+)")
_REGISTER, _PLACE, _STRIDE = ctypes.c_uint8, ctypes.c_void_p, ctypes.c_int64

_rows: Final = [0] * _TILES
_widths: Final = [0] * _TILES
_tiles: Final = np.zeros((_TILES, _ROWS, _BYTES), np.uint8)
_AT: Final[int] = _tiles.ctypes.data
# Functions that C calls must live as long as the process.
_known: Final[dict[str, Any]] = {}


def _expect(right: bool) -> None:
    if not right:
        os._exit(1)


def _row(t: int, row: int) -> int:
    return _AT + (t * _ROWS + row) * _BYTES


def _ldtilecfg(place: int) -> None:
    given = ctypes.string_at(place, 64)
    _expect(given[0] == 1 and not any(given[1:_WIDTHS_AT]))
    _expect(not any(given[_WIDTHS_AT + 2 * _TILES : _ROWS_AT] + given[_ROWS_AT + _TILES :]))
    for t in range(_TILES):
        _widths[t] = given[_WIDTHS_AT + 2 * t] + 256 * given[_WIDTHS_AT + 2 * t + 1]
        _rows[t] = given[_ROWS_AT + t]
        _expect(_widths[t] <= _BYTES and _rows[t] <= _ROWS)
        _expect((_widths[t] == 0) == (_rows[t] == 0))
    _tiles[...] = 0


def _tilerelease() -> None:
    _rows[:] = _widths[:] = [0] * _TILES


def _tilezero(t: int) -> None:
    _expect(t < _TILES and _rows[t] > 0)
    _tiles[t] = 0


def _tileloadd64(t: int, place: int, stride: int) -> None:
    _tilezero(t)
    for row in range(_rows[t]):
        ctypes.memmove(_row(t, row), place + row * stride, _widths[t])


def _tilestored64(t: int, place: int, stride: int) -> None:
    _expect(t < _TILES and _rows[t] > 0)
    for row in range(_rows[t]):
        ctypes.memmove(place + row * stride, _row(t, row), _widths[t])


def _terms(t: int, a: int, b: int, per: int, kind: Any) -> tuple[Any, Any]:
    """Return two tiles as matrices of float64 to be multiplied; ``per`` terms lie side by side."""
    _expect(len({t, a, b}) == 3 and 0 < _rows[t] == _rows[a])
    _expect(_widths[a] == 4 * _rows[b] and _widths[b] == _widths[t])
    left, right = (_tiles[n].view(one) for n, one in zip((a, b), kind, strict=True))
    right = right.reshape(_ROWS, -1, per).transpose(0, 2, 1).reshape(_ROWS * per, -1)
    return left, right


def _bytes(left: Any, right: Any) -> Callable[[int, int, int], None]:
    def multiply(t: int, a: int, b: int) -> None:
        one, other = _terms(t, a, b, 4, (left, right))
        product = one.astype(np.float64) @ other.astype(np.float64)  # below 2^53: exact
        sums = _tiles[t].view(np.int32)
        sums[...] = (sums + product.astype(np.int64)).astype(np.int32)

    return multiply


def _tdpbf16ps(t: int, a: int, b: int) -> None:
    parts = []
    for upper in _terms(t, a, b, 2, (np.uint16, np.uint16)):
        one = (upper.astype(np.uint32) << 16).view(np.float32)
        parts.append(np.where(np.abs(one) < 2.0**-126, 0, one).astype(np.float64))
    sums = _tiles[t].view(np.float32)
    sums[...] = (sums + parts[0] @ parts[1]).astype(np.float32)


_DONE_BY: Final[dict[str, tuple[Callable[..., None], tuple[Any, ...]]]] = {
    "ldtilecfg": (_ldtilecfg, (_PLACE,)),
    "tilerelease": (_tilerelease, ()),
    "tilezero": (_tilezero, (_REGISTER,)),
    "tileloadd64": (_tileloadd64, (_REGISTER, _PLACE, _STRIDE)),
    "tilestored64": (_tilestored64, (_REGISTER, _PLACE, _STRIDE)),
    "tdpbf16ps": (_tdpbf16ps, (_REGISTER,) * 3),
    **{
        f"tdpb{name}d": (_bytes(*kinds), (_REGISTER,) * 3)
        for name, kinds in {
            "ss": (np.int8, np.int8),
            "su": (np.int8, np.uint8),
            "us": (np.uint8, np.int8),
            "uu": (np.uint8, np.uint8),
        }.items()
    },
}


def emulated(text: str) -> str:
    """Return LLVM's text with its operations on tiles done here."""

    def known(found: re.Match[str]) -> str:
        name = found[1]
        if name not in _known:
            function, kinds = _DONE_BY[name]
            _known[name] = ctypes.CFUNCTYPE(None, *kinds)(function)
            address = ctypes.cast(_known[name], ctypes.c_void_p).value
            binding.add_symbol(f"emulated_{name}", address)
        return f"emulated_{name}"

    return _INSTRUCTIONS.sub(known, text)
