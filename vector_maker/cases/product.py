"""The cases of PROD: sums of products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from .draft import Draft, Evaluate, Numbers, i16, mistakes

MISTAKES: Final = mistakes("""
product_width PROD-001 A sum of products is accumulated in 32 bits.
product_float32 PROD-001 A sum of products is accumulated in binary32.
byte_split PROD-003 Operands are split in bytes without carrying the low byte's sign upwards.
byte_saturation PROD-003 Pairs of byte products saturate at the ends of int16.
preactivation_float32 PROD-004 A cell's pre-activation is kept in binary32.
bias_scale PROD-004 The bias is scaled as if it had the fraction bits of another product.
sum_parts_width PROD-004 The products of a pre-activation are reduced to 32 bits before they are \
added.
view_scale PROD-004 The view's product is not brought to the fraction bits of the input's.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""

    def case(a: Any, w: Any, *catches: str) -> Draft:
        args = {"a": i16(a), "w": i16(w)}
        return Draft("product", args, ("PROD-001", "PROD-002", "PROD-003"), catches)

    top = 32512
    yield case([[3]], [[-5]])
    yield case([[1, 2, 3], [-4, 5, -6]], [[7, 8, 9], [1, 0, -1], [0, 0, 0], [-7, 11, 13]])
    yield case([[top] * 5, [-top] * 5], [[top] * 5, [-top] * 5], "product_width")
    yield case([[top] * 33], [[top] * 32 + [1]], "product_width", "product_float32")
    yield case([[top, 1, -top]], [[top, 1, top], [1, 1, 1]], "product_float32")
    edges = [127, 128, 129, 255, 256, 383, 384, 32511, -127, -128, -129, -255, -256, -384]
    yield case([edges], [edges, edges[::-1]], "byte_split")
    # The bytes of 32640-256·k are 127 and -128: the largest byte products of both signs.
    yield case([[32384] * 8, [-32384] * 8], [[32384] * 8, [128] * 8], "byte_saturation")
    yield case([[-128, -128, 127, 127]], [[-128, -128, -128, -128]], "byte_saturation")
    numbers = Numbers("product")
    for m, n, k in ((2, 3, 17), (1, 2, 64), (3, 1, 31)):
        a, w = (numbers.array((rows, k), top, np.int16) for rows in (m, n))
        yield case(a, w, "byte_split")
