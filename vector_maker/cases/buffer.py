"""The cases of BUF and MUL: multiplication by a gate, and undoing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from revrnn.evaluation import fresh_heads

from .draft import Arguments, Draft, Evaluate, i32, mistakes
from .requests import pushed, rows_present

MISTAKES: Final = mistakes("""
signed_digit BUF-001 The digit and quotient of a negative state are those of division towards 0.
residue_lost MUL-001 The product lacks the residue.
push_threshold BUF-031 A head of exactly z·2^21 does not push a word.
threshold_z BUF-031 The threshold for pushing does not depend on the gate.
pop_threshold BUF-032 A head of exactly 2^15 takes a word back.
stack_order BUF-005 Words enter the stack by unit and then row instead of by row and then unit.
pop_order BUF-005 Units take words in the order in which they pushed instead of the reverse.
mask_after_push MUL-004 Units of masked rows use the buffer.
slice_pushes MUL-005 Sliced units use the buffer.
slice_residue MUL-005 Sliced units that are masked out lose their digits, or take stored values.
head_width BUF-001 The number n = 1024·x + low is reduced to 32 bits.
head_float BUF-001 A head is divided in floating point.
bigint_width BUF-010 Heads of layout bigint are reduced to 64 bits.
spill_any BUF-022 Only the units that are full are spilled instead of all active ones.
spill_inactive BUF-022 Inactive units decide about a spill.
spill_plane BUF-022 A plane holds the heads of inactive units instead of 0.
spill_threshold BUF-021 A head of exactly 2^53 does not spill.
spill_restore BUF-023 Inactive units take their heads from a plane.
flag_always BUF-021 An operation without an active unit appends no flag.
underflow BUF-032 Popping from an empty store delivers zeros.
pop_range BUF-024 A pop that passes 2^63 is carried out.
wrap_vs_saturation MUL-006 A state that leaves int32 saturates instead of wrapping.
wraps_zero MUL-006 Wraps are not counted.
wraps_masked MUL-006 Wraps that a masked row would have made are counted.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _revmul(evaluate)
    yield from _pops()


def _revmul(evaluate: Evaluate) -> Iterator[Draft]:
    def pair(
        args: Arguments,
        rules: tuple[str, ...],
        forward: tuple[str, ...] = (),
        inverse: tuple[str, ...] = (),
    ) -> Iterator[Draft]:
        """Give an operation and its inverse."""
        yield Draft("revmul", args, ("MUL-001", "BUF-001", "BUF-005", *rules), forward)
        restore = args["h"][:, : args["slice_size"]].copy()
        back = args | evaluate("revmul", args) | {"restore": restore}
        rules = ("MUL-003", "BUF-002", "BUF-003", "BUF-005", *rules)
        yield Draft("revmul_inverse", back, rules, inverse)

    signs = [[-1, -1024, -1025], [2**31 - 1, -(2**31), -(2**31) + 1023]]
    for layout in ("stream", "wordlist", "bigint"):
        used = [[5, 70000, 2**40], [123456789, 2**30, 999]]
        fresh = fresh_heads(layout, 2, 3) if layout == "stream" else used
        rule = {"stream": "BUF-030", "wordlist": "BUF-020", "bigint": "BUF-010"}[layout]
        digits = ("signed_digit", "residue_lost")
        for z in (1, 777, 1024) if layout == "stream" else (777,):
            kept = digits[: 1 if z == 1 else 2]  # a residue modulo 1 is 0
            yield from pair(pushed(layout, signs, z, fresh), (rule, "MUL-002"), kept)
        each = [[1, 2, 1023], [1024, 512, 513]]
        yield from pair(pushed(layout, signs, each, fresh), (rule, "MUL-002"), digits)
        rows = pushed(layout, signs, each, fresh, mask=rows_present(True, False))
        yield from pair(
            rows,
            ("BUF-004", "MUL-004", rule),
            ("mask_after_push", "mask_ignored"),
            ("mask_after_push", "mask_ignored"),
        )
        none = pushed(layout, signs, each, fresh, mask=rows_present(False, False))
        lost = ("flag_always",) if layout == "wordlist" else ()
        yield from pair(none, ("BUF-004", "MUL-004", rule), ("mask_ignored", *lost), lost)
        for width in (1, 3) if layout == "stream" else (1,):
            yield from pair(
                pushed(layout, signs, 600, fresh, slice_size=width),
                ("MUL-005", "BUF-004"),
                ("slice_pushes",),
                ("slice_pushes",),
            )
        both = pushed(layout, signs, 600, fresh, slice_size=2, mask=rows_present(False, True))
        yield from pair(
            both,
            ("MUL-004", "MUL-005"),
            ("slice_pushes", "mask_after_push", "slice_residue"),
            ("slice_pushes", "mask_after_push"),
        )

    # Thresholds of layout stream, exactly at and one below.
    h = [[0, 1023, -1]]
    gates = [[1, 7, 1000]]
    at = [[1 << 21, 7 << 21, 1000 << 21]]
    below = [[(1 << 21) - 1, (7 << 21) - 1, (1000 << 21) - 1]]
    rules = ("BUF-031", "BUF-032", "BUF-033")
    yield from pair(pushed("stream", h, gates, at), rules, ("push_threshold", "threshold_z"))
    yield from pair(pushed("stream", h, gates, below), (*rules, "BUF-034"), ("head_width",))
    top = [[2**31 - 1] * 3]
    yield from pair(pushed("stream", h, [[1023, 1024, 1]], top), rules, ("head_width",))
    yield from pair(pushed("stream", h, 1024, top), rules, ("head_width",))
    # Every unit pushes a word of its own: the order on the stack is seen.
    many = [[0x7FFF0001, 0x7FFF0002], [0x7FFF0003, 0x7FFF0004], [0x7FFF0005, 0x7FFF0006]]
    states = [[5, -6], [7, -8], [9, -10]]
    order = ("stack_order", "pop_order")
    yield from pair(pushed("stream", states, 3, many), rules, ("stack_order",), order)
    some = [[0x7FFF0001, 0x7FFF0002], [0x7FFF0003, 32768], [0x7FFF0005, 32769]]
    gappy = pushed("stream", states, 3, some, mask=rows_present(True, True, False))
    yield from pair(gappy, rules, ("stack_order", "mask_after_push"), order)
    deep = pushed("stream", states, 3, many, words=np.array([11, 22, 33], np.uint16))
    yield from pair(deep, rules, ("stack_order",), order)
    sliced = pushed("stream", states, 3, many, slice_size=1)
    yield from pair(sliced, rules, ("slice_pushes",), ("slice_pushes", "pop_order"))

    # Spills of layout wordlist.
    rules = ("BUF-021", "BUF-022", "BUF-023")
    h = [[1, 2, 3], [-4, -5, -6]]
    full = [[2**53, 17, 2**53 - 1], [3, 2**60 + 1, 4]]
    one = [[2**53, 17, 18], [19, 20, 21]]
    any_unit = ("spill_any", "spill_threshold")
    yield from pair(pushed("wordlist", h, 900, full), rules, ("spill_any",))
    yield from pair(pushed("wordlist", h, 900, one), rules, any_unit)
    nearly = [[2**53 - 1] * 3, [2**53 - 2] * 3]
    yield from pair(pushed("wordlist", h, [[1, 1023, 1024]] * 2, nearly), rules, ("head_float",))
    masked = pushed("wordlist", h, 900, full, mask=rows_present(True, False))
    yield from pair(masked, rules, ("spill_plane", *any_unit), ("spill_restore",))
    other = [[5, 17, 18], [2**60, 2**63 - 1, 21]]
    quiet = pushed("wordlist", h, 900, other, mask=rows_present(True, False))
    yield from pair(quiet, (*rules, "BUF-036"), ("spill_inactive",))
    cut = [[2**60, 17, 18], [2**61, 20, 21]]
    sliced = pushed("wordlist", h, 900, cut, slice_size=1)
    yield from pair(sliced, rules, ("spill_inactive", "slice_pushes"))
    largest = [[2**63 - 1, 0, 1]] * 2
    yield from pair(pushed("wordlist", h, 1, largest), rules, ("spill_any",))
    # As many planes as there are units in a row, and more than rows.
    history = {
        "words": np.arange(18, dtype=np.int64).reshape(3, 2, 3),
        "flags": np.array([1, 0, 1, 1], np.uint8),
    }
    yield from pair(pushed("wordlist", h, 900, full, **history), rules, ("spill_any",))

    # Unbounded heads.
    long = [[2**200 + 12345, 2**64 - 1, 0], [2**63, 2**53 + 1, 10**30]]
    wide = ("bigint_width", "head_float")
    yield from pair(pushed("bigint", h, [[3, 1, 1024]] * 2, long), ("BUF-010",), wide, wide)


def _pops() -> Iterator[Draft]:
    """Give pops that no push came before."""

    def case(args: Arguments, rules: tuple[str, ...], *catches: str, error: str = "") -> Draft:
        width = args["slice_size"]
        restore = i32([[100 + 10 * b + u for u in range(width)] for b in range(len(args["h"]))])
        args = {"restore": restore.reshape(len(args["h"]), width)} | args
        return Draft("revmul_inverse", args, ("MUL-003", *rules), catches, error or None)

    h = [[0, 0], [0, 0]]
    fresh = fresh_heads("stream", 2, 2)
    words = {"words": np.array([9, 1, 2, 3, 4], np.uint16)}
    yield case(pushed("stream", h, 1, fresh, **words), ("BUF-032",), "pop_order", "stack_order")
    kept = pushed("stream", h, 1024, fresh)
    yield case(kept, ("BUF-032",), "pop_threshold")
    mixed = pushed("stream", h, [[1023, 1024], [1024, 1023]], fresh, **words)
    yield case(mixed, ("BUF-032",), "pop_threshold", "pop_order")
    sliced = pushed("stream", h, 1, fresh, slice_size=1, mask=rows_present(False, True), **words)
    yield case(sliced, ("MUL-004", "MUL-005"), "slice_residue", "mask_after_push")
    for count in (0, 3):
        few = pushed("stream", h, 1, fresh, words=np.arange(count, dtype=np.uint16))
        yield case(few, ("BUF-032",), "underflow", error="E_UNDERFLOW")
    zeros = np.zeros((2, 2), np.int64)
    empty = pushed("wordlist", h, 1024, zeros)
    # There is no flag, though there is a plane.
    plane: Arguments = {"words": np.arange(4, dtype=np.int64).reshape(1, 2, 2)}
    yield case(empty | plane, ("BUF-023",), "underflow", error="E_UNDERFLOW")
    flag = pushed("wordlist", h, 1024, zeros, flags=np.ones(1, np.uint8))
    yield case(flag, ("BUF-023",), "underflow", error="E_UNDERFLOW")
    idle = empty | {"mask": rows_present(False, False)}
    yield case(idle, ("BUF-023",), "underflow", "flag_always", error="E_UNDERFLOW")
    older = pushed("wordlist", h, 1024, zeros, flags=np.array([1, 0], np.uint8))
    yield case(older, ("BUF-023",))
    plane["flags"] = np.ones(1, np.uint8)
    part = pushed("wordlist", h, 1024, zeros, mask=rows_present(False, True), **plane)
    yield case(part, ("BUF-023",), "spill_restore")
    none = pushed("wordlist", h, 1024, zeros, flags=np.zeros(1, np.uint8))
    edge = none | {"heads": np.full((2, 2), 2**53 - 1, np.int64), "h": i32([[1023] * 2] * 2)}
    yield case(edge, ("BUF-024",))
    over = none | {"heads": np.full((2, 2), 2**53, np.int64)}
    yield case(over, ("BUF-024",), "pop_range", error="E_RANGE")
    for ends in ([0, 2**63 - 1], [2**63 - 1, 0]):  # one unit passes 2^63, and the other is there
        one = pushed("wordlist", [[1, 2]], 1024, [ends], flags=np.zeros(1, np.uint8))
        yield case(one, ("BUF-024",), "pop_range", error="E_RANGE")
    unused = over | {"mask": rows_present(False, False)}
    yield case(unused, ("BUF-024",), "mask_after_push")
    below = pushed("bigint", h, 5, fresh_heads("bigint", 2, 2))
    yield case(below, ("BUF-010",))
