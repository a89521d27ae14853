"""Exact products of the compiled kernels: by tiles of bytes, and by pairs of int16 (PROD-001)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from revrnn.native import processor, products
from revrnn.native.amx import aligned_at
from revrnn.native.compiling import native
from revrnn.native.packing import aligned, pack_int16, packed_size, padded
from revrnn.native.records import Factor, Operand
from revrnn.native.tiles import LANES, PANEL

LARGEST = 32512


def product(a: Any, w: Any, shift: int) -> tuple[bool, Any]:
    """Return whether ``a·wᵀ`` is in int32, and what it is."""
    rows, terms = a.shape
    columns = len(w)
    own = np.zeros((rows, terms + terms % 2), np.int16)
    own[:, :terms] = a
    packed = aligned(1, packed_size(columns, terms), np.int16)[0]
    norm = pack_int16(w, packed)
    sums = np.full((rows + 3, padded(columns)), 7, np.int32)
    wide = np.full((rows, columns), 5, np.int64)
    largest = int(np.abs(a.astype(np.int64)).max())
    operand = Operand(own.reshape(-1), own.shape[1], rows, own.shape[1] // 2, largest)
    factor = Factor(packed, norm, columns)
    narrow = products.checked_product(operand, factor, sums.reshape(-1), wide, shift)
    assert (sums[rows:] == 7).all(), "rows beyond the result were written"
    return narrow, sums[:rows, :columns] if narrow else wide - 5


@pytest.mark.parametrize("most", [40, LARGEST])
@pytest.mark.parametrize(
    ("rows", "terms", "columns"),
    [(1, 1, 1), (15, 63, 17), (17, 64, 16), (20, 130, 49), (33, 66, 3), (50, 2, 100)],
)
@pytest.mark.rule("PROD-001")
def test_products(rows: int, terms: int, columns: int, most: int) -> None:
    generator = np.random.default_rng(rows)
    a = generator.integers(-most, most + 1, (rows, terms), np.int16)
    w = generator.integers(-most, most + 1, (columns, terms), np.int16)
    a[0], w[-1] = most, -most
    narrow, given = product(a, w, 3)
    wanted = a.astype(np.int64) @ w.astype(np.int64).T
    assert narrow == (most * most * terms < 2**31)
    np.testing.assert_array_equal(given, wanted if narrow else wanted << 3)


@pytest.mark.parametrize("columns", [1, LANES + 1, PANEL, PANEL + 1])
@pytest.mark.rule("PROD-001")
def test_any_few_rows(columns: int) -> None:
    """Which go together by eight, four, two and one."""
    generator = np.random.default_rng(columns)
    for rows in range(1, 18):
        a = generator.integers(-99, 100, (rows, 5), np.int16)
        w = generator.integers(-99, 100, (columns, 5), np.int16)
        np.testing.assert_array_equal(product(a, w, 0)[1], a.astype(np.int64) @ w.T)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_no_int32_holds(sign: int) -> None:
    """Of more terms than are added in int32 at a time, and large in both bytes."""
    terms, most = 40_001, LARGEST - 1
    a = np.full((2, terms), most, np.int16)
    w = np.full((3, terms), sign * most, np.int16)
    narrow, given = product(a, w, 0)
    assert not narrow
    np.testing.assert_array_equal(given, sign * terms * most**2)


def test_a_bound_of_two_to_the_31() -> None:
    """The least sum that int32 does not hold is not made there."""
    a = np.full((1, 8), 2**14, np.int16)
    narrow, given = product(a, a, 0)
    assert not narrow
    assert given.item() == 2**31


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("way", [True, False])
def test_a_check_notices_one_wrong_number(
    way: bool, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last of a product, made in int32 or in int64."""
    right = products.checked_product

    def wrong(a: Operand, f: Factor, sums: Any, wide: Any, shift: int) -> bool:
        narrow = bool(right(a, f, sums, wide, shift))
        if narrow is way:
            given = sums.reshape(a.rows, -1)[:, : f.columns] if narrow else wide
            given[at, at] += 1
        return narrow

    assert products.self_check()
    monkeypatch.setattr(products, "checked_product", wrong)
    assert not products.self_check()


@native
def _first(room: Any) -> int:
    first: int = aligned_at(room)
    return first


def test_room_begins_where_a_tile_is_best_read() -> None:
    room = np.empty(200, np.int8)
    for n in range(64):
        begin = int(room[n:].ctypes.data)
        assert _first(room[n:]) == -begin % 64


HELD = """
from revrnn.native import processor, products
from revrnn.native.amx import aligned_at
from revrnn.native.compiling import native
assert not processor.AMX and products.KIND != "AMX"
assert products.self_check()
"""


@pytest.mark.skipif(not processor.AMX, reason="a processor without tiles has the other product")
def test_a_processor_held_to_less() -> None:
    """Where there are tiles, the product of other processors can be asked for, and is right."""
    more = {"NUMBA_CPU_NAME": "skylake-avx512"}
    subprocess.run([sys.executable, "-c", HELD], check=True, env=os.environ | more)


def test_tiles_that_the_system_does_not_grant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_tiles_granted", lambda: False)
    assert not processor._has_tiles()
