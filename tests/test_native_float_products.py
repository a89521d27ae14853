"""Float32 products of the compiled kernels: by tiles of bfloat16, and by vectors (GRAD-014)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from revrnn.native import processor
from revrnn.native.compiling import f32, native
from revrnn.native.float_parts import BLOCK, PARTS
from revrnn.native.float_products import add_outer_of_3, pack_3
from revrnn.native.packing import aligned, float_size, pack_float, pack_terms, padded
from revrnn.native.products import add_outer_products, float_product
from revrnn.native.tiles import PANEL

BITS, LARGEST = 11, 32512


@native
def multiply(a: Any, rows: int, length: int, w: Any, columns: int, out: Any) -> None:
    """Call the product from Python."""
    float_product(a, 0, length, rows, length, w, columns, out)


@native
def add_outer(a: Any, length: int, rows: int, w: Any, columns: int, into: Any) -> None:
    """Call the sum of outer products from Python; the first row of ``into`` is left alone."""
    add_outer_products(a, 0, 1, rows, rows, length, w, columns, into, 1)


@native
def add_outer_of_floats(
    a: Any, length: int, rows: int, w: Any, columns: int, packed: Any, into: Any
) -> None:
    """Pack ``w`` in three parts, and call the sum of outer products of those."""
    blocks, tiles = -(-length // BLOCK), -(-columns // BLOCK) * 2
    pack_3(w, 0, columns, columns, length, blocks, tiles, 1.0, packed, 0)
    add_outer_of_3(a, 0, rows, rows, length, packed, columns, into, 1)


def numbers(rows: int, columns: int, seed: int = 0) -> Any:
    """Return float32 of very different magnitudes, all bits in use."""
    generator = np.random.default_rng(seed)
    shape = (rows, columns)
    made = generator.standard_normal(shape) * np.exp(3 * generator.standard_normal(shape))
    return made.astype(np.float32)


def weights(terms: int, columns: int, most: int = LARGEST) -> tuple[Any, Any]:
    """Return weights in fixed point, packed, and as float64."""
    w = np.random.default_rng(1).integers(-most, most + 1, (terms, columns), np.int16)
    packed = aligned(1, float_size(columns, terms), np.float32)[0]
    pack_float(w, 2.0**-BITS, packed)
    return packed, w * 2.0**-BITS


def bound(terms: int) -> float:
    """Return by how much of Σ|a·w| a sum of float32 products may differ from a·w.

    Tiles leave out less than 2^-22 of each product, and add 32 of them at a time.
    """
    return float(2.0**-21 if processor.AMX else max(terms, 8) * 2.0**-24)


def product(a: Any, packed: Any, columns: int) -> Any:
    """Return ``a·w``."""
    rows, terms = a.shape
    out = np.full((rows + 3, padded(columns)), 7, np.float32)
    multiply(np.ascontiguousarray(a).reshape(-1), rows, terms, packed, columns, out.reshape(-1))
    assert (out[rows:] == 7).all(), "rows beyond the result were written"
    return out[:rows, :columns]


SHAPES = [
    (1, 1, 1),
    (10, 40, 48),
    (12, 40, 140),
    (15, 63, 17),
    (16, 32, 64),
    (17, 33, 16),
    (20, 33, 48),
    (20, 130, 49),
    (33, 66, 3),
    (70, 2, 100),
]
shapes = pytest.mark.parametrize(("rows", "terms", "columns"), SHAPES)


@shapes
@pytest.mark.rule("GRAD-014")
def test_products(rows: int, terms: int, columns: int) -> None:
    a, (packed, w) = numbers(rows, terms), weights(terms, columns)
    wanted, scale = a.astype(np.float64) @ w, np.abs(a).astype(np.float64) @ np.abs(w)
    assert (np.abs(product(a, packed, columns) - wanted) <= bound(terms) * scale).all()


@shapes
@pytest.mark.rule("GRAD-014")
def test_outer_products(rows: int, terms: int, columns: int) -> None:
    """Added to what is there, and nowhere else."""
    a, (packed, w) = numbers(terms, rows), weights(terms, columns)
    into = np.ones((rows + 2, columns), np.float32)
    add_outer(a.reshape(-1), terms, rows, packed, columns, into)
    wanted, scale = a.astype(np.float64).T @ w, np.abs(a).astype(np.float64).T @ np.abs(w)
    assert (np.abs(into[1:-1] - 1 - wanted) <= bound(terms) * (scale + 1)).all()
    assert (into[[0, -1]] == 1).all()


@pytest.mark.skipif(not processor.AMX, reason="other processors take float32 as they are")
@shapes
def test_outer_products_of_weights_in_three_parts(rows: int, terms: int, columns: int) -> None:
    """Which have all bits of a float32, as those of readouts have."""
    a, w = numbers(terms, rows), numbers(terms, columns, 1)
    packed = aligned(1, float_size(columns, terms) * PARTS // 2, np.float32)[0]
    into = np.ones((rows + 2, columns), np.float32)
    add_outer_of_floats(a.reshape(-1), terms, rows, w.reshape(-1), columns, packed, into)
    wanted, scale = a.T.astype(np.float64) @ w, np.abs(a.T).astype(np.float64) @ np.abs(w)
    assert (np.abs(into[1:-1] - 1 - wanted) <= bound(terms) * (scale + 1)).all()
    assert (into[[0, -1]] == 1).all()


@pytest.mark.rule("GRAD-014")
def test_outer_products_of_more_than_a_cache_holds() -> None:
    """Sums of small integers, which no order of addition rounds."""
    rows, terms, columns = 70, 5600, 17
    packed, w = weights(terms, columns, 99)
    a = np.random.default_rng(2).integers(-9, 10, (terms, rows)).astype(np.float32)
    into = np.ones((rows + 2, columns), np.float32)
    add_outer(a.reshape(-1), terms, rows, packed, columns, into)
    np.testing.assert_array_equal(into[1:-1], 1 + a.T @ w)
    assert (into[[0, -1]] == 1).all()


@pytest.mark.rule("GRAD-020")
def test_rows_are_computed_alike_however_many_there_are() -> None:
    """A batch is shared out among threads, so that a row's product may not depend on the others."""
    a, (packed, _) = numbers(40, 130), weights(130, 50)
    whole = product(a, packed, 50)
    for count in (1, 10, 16, 17, 20):
        parts = [product(a[i : i + count], packed, 50) for i in range(0, 40, count)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_what_is_not_a_number_stays_so() -> None:
    """A NaN or an infinite gradient is not hidden, nor does it spread to other rows."""
    a, (packed, _) = numbers(20, 50), weights(50, 50)
    # A NaN whose upper half alone would be an infinite number.
    a.view(np.uint32)[3, 5], a[4, 6], a[5, 7] = 0x7F800001, np.inf, -np.inf
    given = product(a, packed, 50)
    fine = np.isfinite(given).all(1)
    assert not np.isfinite(given[3:6]).any()
    assert fine[:3].all()
    assert fine[6:].all()


def test_outer_products_of_what_is_not_a_number() -> None:
    """It does not spread to other rows either."""
    a, (packed, _) = numbers(20, 17), weights(20, 97)
    a[3, 5], a[4, 16] = np.inf, np.nan
    into = np.zeros((19, 97), np.float32)
    add_outer(a.reshape(-1), 20, 17, packed, 97, into)
    fine: list[bool] = np.isfinite(into).min(1).tolist()
    assert not fine[6]
    assert not fine[17]
    assert sum(fine) == 17


@pytest.mark.parametrize("terms", [33, 34])
def test_only_the_weights_are_packed(terms: int) -> None:
    """What lies behind them in memory is not read, whatever it is."""
    w = np.full((terms + 1, 20), np.nan, np.float32)
    w[:terms] = np.random.default_rng(1).integers(-9, 9, (terms, 20))
    packed = aligned(1, float_size(20, terms), np.float32)[0]
    pack_float(w[:terms], 1.0, packed)
    assert np.isfinite(product(numbers(20, terms), packed, 20)).all()


@native
def _pack(w: Any, first: int, end: int, packed: Any) -> None:
    pack_terms(w, f32(0.5), first, end, packed)


@pytest.mark.parametrize("terms", [3 * BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("columns", [1, 20, 2 * PANEL + 7])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_shares_pack_their_terms(kind: Any, columns: int, terms: int) -> None:
    """Whole blocks, and what fills none, in any order."""
    w = np.random.default_rng(0).integers(-99, 99, (terms, columns)).astype(kind)
    packed, whole = aligned(2, float_size(columns, terms), np.float32)
    pack_float(w, 0.5, whole)
    for first, end in ((2 * BLOCK, terms), (0, BLOCK), (BLOCK, 2 * BLOCK)):
        _pack(w, first, end, packed)
    np.testing.assert_array_equal(packed, whole)


def test_small_numbers() -> None:
    """Of less than 2^-110 tiles lose bits, but not the numbers."""
    a, (packed, w) = numbers(20, 40) * np.float32(2.0**-116), weights(40, 50)
    wanted, scale = a.astype(np.float64) @ w, np.abs(a).astype(np.float64) @ np.abs(w)
    most = 2.0**-7 if processor.AMX else bound(40)
    assert (np.abs(product(a, packed, 50) - wanted) <= most * scale).all()
