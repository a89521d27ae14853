"""The requests of the test vectors, each built to tell a right from a plausibly wrong answer.

Contents are written out where an edge is meant, and come from a fixed integer generator where any
numbers will do; NumPy's own generators may change their streams and are not used.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.evaluation import empty_store, fresh_heads
from revrnn.formats import Formats
from revrnn.tanh_table import tanh_table

Arguments = dict[str, Any]
Array = npt.NDArray[Any]
Mask = Sequence[Sequence[int]] | Array
Evaluate = Callable[[str, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Draft:
    """A case without its answer; ``error`` is the code that is meant to come."""

    operation: str
    args: Arguments
    rules: tuple[str, ...]
    catches: tuple[str, ...] = ()
    error: str | None = None


class Numbers:
    """A 64-bit linear congruential generator (Knuth's MMIX), started from a name."""

    def __init__(self, name: str) -> None:
        """Start from the SHA-256 of a name."""
        self._state = int.from_bytes(hashlib.sha256(name.encode("ascii")).digest()[:8], "little")

    def below(self, limit: int) -> int:
        """Return an integer in ``0 … limit − 1``."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self._state >> 32) * limit >> 32

    def array(self, shape: Sequence[int], magnitude: int, dtype: type) -> Array:
        """Return integers in ``±magnitude``."""
        count = int(np.prod(shape))
        values = [self.below(2 * magnitude + 1) - magnitude for _ in range(count)]
        return np.array(values, dtype).reshape(shape)

    def choice(self, shape: Sequence[int], values: Sequence[int], dtype: type) -> Array:
        """Return elements of ``values``."""
        picked = [values[self.below(len(values))] for _ in range(int(np.prod(shape)))]
        return np.array(picked, dtype).reshape(shape)


def i16(values: Any) -> Array:
    """Return an int16 array."""
    return np.array(values, np.int16)


def i32(values: Any) -> Array:
    """Return an int32 array."""
    return np.array(values, np.int32)


def i64(values: Any) -> Array:
    """Return an int64 array."""
    return np.array(values, np.int64)


def f32(values: Any) -> Array:
    """Return a float32 array."""
    return np.array(values, np.float32)


def drafts(evaluate: Evaluate) -> Iterator[Draft]:
    """Give all requests; ``evaluate`` computes what a reversal is to start from."""
    yield from _quantise()
    yield from _dequantise()
    yield from _round_shift()
    yield from _product()
    yield from _activations()
    yield from _forget_gate()
    yield from _view()
    yield from _revmul(evaluate)
    yield from _pops()
    yield from _cells(evaluate)
    yield from _sequences(evaluate)
    yield from _gradients()
    yield from _faults()
    yield from _orders_of_faults()
    yield from _situations()


# Numbers (QNT, GEN, PROD, FMT)


def _next_float(x: float, steps: int) -> float:
    """Return the binary32 number so many places after ``x > 0``."""
    (bits,) = struct.unpack("<i", struct.pack("<f", x))
    return float(struct.unpack("<f", struct.pack("<i", bits + steps))[0])


def _quantise() -> Iterator[Draft]:
    def case(kind: str, x: Any, *catches: str, **formats: int) -> Draft:
        args = {"kind": kind, "x": f32(x)} | ({"formats": formats} if formats else {})
        return Draft("quantise", args, ("QNT-001", "QNT-002", "QNT-003"), catches)

    rounding = ("half_even_vs_half_up", "half_even_vs_away", "truncation_vs_nearest")
    ties = [n + 0.5 for n in range(-4, 4)]
    yield case("operand", [t / 4096 for t in ties], *rounding)
    yield case("weight", [t / 4096 for t in ties], *rounding)
    yield case("bias", [t / 2**24 for t in ties], *rounding)
    yield case("state", [t / 2**23 for t in ties], *rounding)
    # Large ties, whose sum with one half is no binary32 number.
    yield case("bias", [(2**22 + n + 0.5) / 2**24 for n in range(4)], "half_even_vs_half_up")
    tie = 2.5 / 4096
    near = [_next_float(tie, -1), tie, _next_float(tie, 1)]
    yield case("operand", near + [-x for x in near], "truncation_vs_nearest")
    yield case("operand", [_next_float(0.5 / 4096, -1), -_next_float(0.5 / 4096, -1)])
    ends = [32511.5, 32512, 32512.5, 32513, 32767, 32768, 40000, 65536, 2.0**40, 3.4e38]
    both = [x / 4096 for x in ends] + [-x / 4096 for x in ends]
    for kind in ("operand", "weight"):
        yield case(kind, both, "operand_range", "clip_vs_wrap")
    high = [2**31 - 128, 2**31, 2**31 + 256, 2**32, 2.0**63, 2.0**64, 2.0**100]
    for kind, bits in (("bias", 24), ("state", 23)):
        yield case(kind, [s * x / 2**bits for s in (1, -1) for x in high], "clip_vs_wrap")
    yield case("state", [3.4028234663852886e38, -3.4028234663852886e38], "clip_vs_wrap")
    odd = {"state_bits": 17, "operand_bits": 9, "lstm_view_bits": 7, "weight_bits": 11}
    for kind in ("operand", "weight", "bias", "state"):
        yield case(kind, [[1.0, -1.0], [0.3, -0.7]], "kind_bits", **odd)
        default = ("kind_bits",) if kind in ("bias", "state") else ()
        yield case(kind, [[1.0, -1.0], [0.3, -0.7]], *default)
    yield case("operand", [1.0], operand_bits=13)
    yield case("state", [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1e-30])
    yield case("weight", np.zeros((0,)))
    yield case("state", np.zeros((2, 0, 3)))
    yield case("bias", [[[0.125]], [[-0.125]]])


def _dequantise() -> Iterator[Draft]:
    def case(q: Any, bits: int, *catches: str) -> Draft:
        return Draft("dequantise", {"q": i32(q), "bits": bits}, ("QNT-006",), catches)

    wide = [2**24 + n for n in range(8)] + [2**31 - 1, 2**31 - 64, 2**31 - 65, -(2**31)]
    for bits in (0, 23, 31):
        yield case(wide + [-v for v in wide[:-1]], bits, "dequantise_rounding")
    yield case([[0, 1, -1], [1023, 2**24 - 1, -(2**24)]], 24)
    yield case(np.zeros((3, 0)), 12)


def _round_shift() -> Iterator[Draft]:
    def case(v: Any, k: int, *catches: str) -> Draft:
        return Draft("round_shift", {"v": i64(v), "k": k}, ("GEN-003", "GEN-002"), catches)

    small = list(range(-9, 10))
    yield case(small, 0, "shift_zero")
    yield case(small, 1, "floor_vs_truncation", "tie_direction")
    yield case(small, 2, "floor_vs_truncation", "tie_direction")
    yield case([2**31 - 1, 2**31 - 2**14, 2**31 - 2**14 - 1, -(2**31)], 15, "shift_width")
    yield case([2**62 - 1, 1 - 2**62, 2**62 - 2**30, 2**62 - 2**30 - 1], 31, "shift_width")
    yield case([[3 * 2**30, -3 * 2**30], [2**30, -(2**30)]], 31, "tie_direction")
    yield case([2**40 + 7, -(2**40) - 8], 4, "shift_width", "tie_direction")
    yield case(np.zeros((0, 2)), 5)


def _product() -> Iterator[Draft]:
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


def _view() -> Iterator[Draft]:
    def case(h: Any, state_bits: int, view_bits: int, *catches: str) -> Draft:
        args = {"h": i32(h), "state_bits": state_bits, "view_bits": view_bits}
        return Draft("view", args, ("FMT-004", "GEN-003", "GEN-007"), catches)

    around = [n * 1024 + d for n in (-3, -2, -1, 1, 2, 3) for d in (-1, 0, 1)]
    yield case(around, 23, 12, "view_rounding", "tie_direction", "floor_vs_truncation")
    ends = [2**31 - 1, -(2**31), 2**31 - 1024, 2**30]
    yield case(ends, 23, 12, "clip_vs_wrap", "operand_range")
    yield case(ends, 16, 13, "clip_vs_wrap", "operand_range")
    yield case(ends, 23, 10, "clip_vs_wrap", "operand_range", "shift_width")
    yield case(ends, 24, 6, "shift_width", "view_rounding")
    edge = 32512 << 11
    near = [edge - 1025, edge - 1024, edge, edge + 1023, edge + 1024, edge + 2048]
    yield case([near, [-v for v in near]], 23, 12, "operand_range")
    yield case([[[5, 4, 3]], [[-3, -4, -5]]], 16, 13, "tie_direction")


# Activations (ACT)


def _activations() -> Iterator[Draft]:
    def case(operation: str, s: Any, bits: int, *catches: str) -> Draft:
        rule = {"tanh": "ACT-002", "sigmoid": "ACT-003"}[operation]
        return Draft(operation, {"s": i64(s), "bits": bits}, (rule, "ACT-001"), catches)

    def both(values: Sequence[int]) -> list[int]:
        return [*values, *(-v for v in values)]

    numbers = Numbers("activations")
    table = tanh_table().tolist()
    odd = [i for i in range(1024) if (table[i + 1] - table[i]) % 2][:200:40]
    for bits in (8, 16, 23, 24, 26, 27):
        end, step = 8 << bits, 1 << (bits - 7)
        edges = both([0, 1, step - 1, step, step + 1, end - step, end - 1, end, end + 1, 2 * end])
        yield case("tanh", edges, bits, "table_end")
        inside = both([numbers.below(3 << bits) for _ in range(8)])
        yield case("tanh", inside, bits, "interpolation_rounding")
        # Middles of intervals whose ends differ by an odd number: ties of the interpolation.
        middles = both([(2 * i + 1) * step // 2 for i in odd])
        yield case("tanh", middles, bits, "interpolation_rounding", "odd_symmetry")
    for bits in (8, 16, 23, 24, 26):
        end = 16 << bits
        edges = both([0, 1, 2, 3, end - 1, end, end + 1, end // 2, 2 * end])
        yield case("sigmoid", edges, bits, "table_end")
        inside = both([numbers.below(3 << bits) for _ in range(8)])
        yield case("sigmoid", inside, bits, "sigmoid_floor", "interpolation_rounding")
    # Odd integers at the coarsest reading: halving them loses a bit that counts.
    yield case("sigmoid", [3, 5, 7, 101, -3, -5, -7, -101], 8, "sigmoid_bits")
    for operation in ("tanh", "sigmoid"):
        yield case(operation, [-(2**31), 2**31, 1 - 2**31], 27 - (operation == "sigmoid"))
        yield case(operation, [-(2**31), -(2**31) - 1], 24, "int32_magnitude")
        yield case(operation, [-(2**63), 2**63 - 1, 1 - 2**63], 24, "int64_magnitude", "sum_width")
        yield case(operation, [2**32 + 5, -(2**32) - 5, 2**31 + 7], 24, "sum_width")
        yield case(operation, np.zeros((2, 0)), 24)
        yield case(operation, [[2**20], [-(2**22)], [3 * 2**23]], 24)


def _forget_gate() -> Iterator[Draft]:
    def case(s: Any, limit: int | None, z_max: int, *catches: str, bits: int = 24) -> Draft:
        args = {"s": i64(s), "bits": bits, "max_forget_bits": limit, "z_max": z_max}
        rule = "ACT-005" if limit is None else "ACT-004"
        return Draft("forget_gate", args, (rule, "ACT-003", "ACT-006"), catches)

    numbers = Numbers("forget_gate")
    wide = [-(2**63), -(2**40), -(16 << 24), 0, 16 << 24, 2**40, 2**63 - 1]
    for limit in (None, *range(1, 11)):
        inside = [numbers.below(6 << 24) - (3 << 24) for _ in range(24)]
        slope = ("none_vs_10",) if limit is None else ("limit_slope",)
        yield case(wide + inside, limit, 1024, "forget_rounding", *slope)
        yield case(wide, limit, 1019, "z_max_cap")
    yield case(wide, None, 1024, "forget_lower", "int64_magnitude")
    yield case([-(9 << 24), -(8 << 24), -(7 << 24), -(6 << 24)], None, 1024, "forget_lower")
    yield case(wide, 3, 512, "z_max_cap")
    yield case(wide, 3, 1023, "z_max_cap")
    yield case([-(2**30), 2**30], 1, 512, "z_max_cap")
    yield case([[0, 1 << 8], [-(1 << 8), 3]], None, 1024, bits=8)
    yield case([[0, 1 << 26], [-(1 << 26), 3]], 5, 1023, bits=26)
    yield case(np.zeros((0,)), 5, 1023)


# The buffer (BUF, MUL)


def _pushed(layout: str, h: Any, z: Any, heads: Any, **others: Any) -> Arguments:
    """Return the arguments of ``revmul`` on an empty store."""
    h = i32(h)
    dtype = object if layout == "bigint" else np.int64
    given: Arguments = {
        "layout": layout,
        "slice_size": 0,
        "h": h,
        "z": np.broadcast_to(i32(z), h.shape).copy(),
        "mask": np.ones(len(h), np.bool_),
        "heads": np.array(heads, dtype),
        **empty_store(layout, *h.shape),
    }
    return given | others


def _masked(*rows: bool) -> Array:
    return np.array(rows, np.bool_)


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
            yield from pair(_pushed(layout, signs, z, fresh), (rule, "MUL-002"), kept)
        each = [[1, 2, 1023], [1024, 512, 513]]
        yield from pair(_pushed(layout, signs, each, fresh), (rule, "MUL-002"), digits)
        rows = _pushed(layout, signs, each, fresh, mask=_masked(True, False))
        yield from pair(
            rows,
            ("BUF-004", "MUL-004", rule),
            ("mask_after_push", "mask_ignored"),
            ("mask_after_push", "mask_ignored"),
        )
        none = _pushed(layout, signs, each, fresh, mask=_masked(False, False))
        lost = ("flag_always",) if layout == "wordlist" else ()
        yield from pair(none, ("BUF-004", "MUL-004", rule), ("mask_ignored", *lost), lost)
        for width in (1, 3) if layout == "stream" else (1,):
            yield from pair(
                _pushed(layout, signs, 600, fresh, slice_size=width),
                ("MUL-005", "BUF-004"),
                ("slice_pushes",),
                ("slice_pushes",),
            )
        both = _pushed(layout, signs, 600, fresh, slice_size=2, mask=_masked(False, True))
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
    yield from pair(_pushed("stream", h, gates, at), rules, ("push_threshold", "threshold_z"))
    yield from pair(_pushed("stream", h, gates, below), (*rules, "BUF-034"), ("head_width",))
    top = [[2**31 - 1] * 3]
    yield from pair(_pushed("stream", h, [[1023, 1024, 1]], top), rules, ("head_width",))
    yield from pair(_pushed("stream", h, 1024, top), rules, ("head_width",))
    # Every unit pushes a word of its own: the order on the stack is seen.
    many = [[0x7FFF0001, 0x7FFF0002], [0x7FFF0003, 0x7FFF0004], [0x7FFF0005, 0x7FFF0006]]
    states = [[5, -6], [7, -8], [9, -10]]
    order = ("stack_order", "pop_order")
    yield from pair(_pushed("stream", states, 3, many), rules, ("stack_order",), order)
    some = [[0x7FFF0001, 0x7FFF0002], [0x7FFF0003, 32768], [0x7FFF0005, 32769]]
    gappy = _pushed("stream", states, 3, some, mask=_masked(True, True, False))
    yield from pair(gappy, rules, ("stack_order", "mask_after_push"), order)
    deep = _pushed("stream", states, 3, many, words=np.array([11, 22, 33], np.uint16))
    yield from pair(deep, rules, ("stack_order",), order)
    sliced = _pushed("stream", states, 3, many, slice_size=1)
    yield from pair(sliced, rules, ("slice_pushes",), ("slice_pushes", "pop_order"))

    # Spills of layout wordlist.
    rules = ("BUF-021", "BUF-022", "BUF-023")
    h = [[1, 2, 3], [-4, -5, -6]]
    full = [[2**53, 17, 2**53 - 1], [3, 2**60 + 1, 4]]
    one = [[2**53, 17, 18], [19, 20, 21]]
    any_unit = ("spill_any", "spill_threshold")
    yield from pair(_pushed("wordlist", h, 900, full), rules, ("spill_any",))
    yield from pair(_pushed("wordlist", h, 900, one), rules, any_unit)
    nearly = [[2**53 - 1] * 3, [2**53 - 2] * 3]
    yield from pair(_pushed("wordlist", h, [[1, 1023, 1024]] * 2, nearly), rules, ("head_float",))
    masked = _pushed("wordlist", h, 900, full, mask=_masked(True, False))
    yield from pair(masked, rules, ("spill_plane", *any_unit), ("spill_restore",))
    other = [[5, 17, 18], [2**60, 2**63 - 1, 21]]
    quiet = _pushed("wordlist", h, 900, other, mask=_masked(True, False))
    yield from pair(quiet, (*rules, "BUF-036"), ("spill_inactive",))
    cut = [[2**60, 17, 18], [2**61, 20, 21]]
    sliced = _pushed("wordlist", h, 900, cut, slice_size=1)
    yield from pair(sliced, rules, ("spill_inactive", "slice_pushes"))
    largest = [[2**63 - 1, 0, 1]] * 2
    yield from pair(_pushed("wordlist", h, 1, largest), rules, ("spill_any",))
    history = {
        "words": np.arange(6, dtype=np.int64).reshape(1, 2, 3),
        "flags": np.array([0, 1, 0], np.uint8),
    }
    yield from pair(_pushed("wordlist", h, 900, full, **history), rules, ("spill_any",))

    # Unbounded heads.
    long = [[2**200 + 12345, 2**64 - 1, 0], [2**63, 2**53 + 1, 10**30]]
    wide = ("bigint_width", "head_float")
    yield from pair(_pushed("bigint", h, [[3, 1, 1024]] * 2, long), ("BUF-010",), wide, wide)


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
    yield case(_pushed("stream", h, 1, fresh, **words), ("BUF-032",), "pop_order", "stack_order")
    kept = _pushed("stream", h, 1024, fresh)
    yield case(kept, ("BUF-032",), "pop_threshold")
    mixed = _pushed("stream", h, [[1023, 1024], [1024, 1023]], fresh, **words)
    yield case(mixed, ("BUF-032",), "pop_threshold", "pop_order")
    sliced = _pushed("stream", h, 1, fresh, slice_size=1, mask=_masked(False, True), **words)
    yield case(sliced, ("MUL-004", "MUL-005"), "slice_residue", "mask_after_push")
    for count in (0, 3):
        few = _pushed("stream", h, 1, fresh, words=np.arange(count, dtype=np.uint16))
        yield case(few, ("BUF-032",), "underflow", error="E_UNDERFLOW")
    zeros = np.zeros((2, 2), np.int64)
    empty = _pushed("wordlist", h, 1024, zeros)
    yield case(empty, ("BUF-023",), "underflow", error="E_UNDERFLOW")
    flag = _pushed("wordlist", h, 1024, zeros, flags=np.ones(1, np.uint8))
    yield case(flag, ("BUF-023",), "underflow", error="E_UNDERFLOW")
    idle = empty | {"mask": _masked(False, False)}
    yield case(idle, ("BUF-023",), "underflow", "flag_always", error="E_UNDERFLOW")
    older = _pushed("wordlist", h, 1024, zeros, flags=np.array([1, 0], np.uint8))
    yield case(older, ("BUF-023",))
    plane = {"words": np.arange(4, dtype=np.int64).reshape(1, 2, 2), "flags": np.ones(1, np.uint8)}
    part = _pushed("wordlist", h, 1024, zeros, mask=_masked(False, True), **plane)
    yield case(part, ("BUF-023",), "spill_restore")
    none = _pushed("wordlist", h, 1024, zeros, flags=np.zeros(1, np.uint8))
    edge = none | {"heads": np.full((2, 2), 2**53 - 1, np.int64), "h": i32([[1023] * 2] * 2)}
    yield case(edge, ("BUF-024",))
    over = none | {"heads": np.full((2, 2), 2**53, np.int64)}
    yield case(over, ("BUF-024",), "pop_range", error="E_RANGE")
    unused = over | {"mask": _masked(False, False)}
    yield case(unused, ("BUF-024",), "mask_after_push")
    below = _pushed("bigint", h, 5, fresh_heads("bigint", 2, 2))
    yield case(below, ("BUF-010",))


# Cells and sequences (CELL, SEQ, ACC)


def settings_of(config: Config) -> dict[str, Any]:
    """Return the mapping of EVAL-003 without what is a default."""
    plain = Config(config.cell, config.input_size, config.hidden_size)
    given = {
        name: value
        for name, value in config.as_dict().items()
        if name in ("cell", "input_size", "hidden_size") or value != plain.as_dict()[name]
    }
    if "formats" in given:
        usual = Formats().as_dict()
        given["formats"] = {n: v for n, v in given["formats"].items() if v != usual[n]}
    return given


@dataclass(frozen=True)
class Contents:
    """How large the numbers of a sequence are; biases of forget gates are moved by ``forget``."""

    weights: int = 6000
    inputs: int = 8000
    bias: int = 2**22
    state: int = 2**24
    forget: int = 0


def parameters(config: Config, numbers: Numbers, contents: Contents) -> Arguments:
    """Return weights and biases."""
    args: Arguments = {}
    gates = len(config.gates)
    for name, shape in config.parameter_shapes().items():
        if not name.startswith("bias"):
            args[name] = numbers.array(shape, contents.weights, np.int16)
            continue
        bias = numbers.array(shape, contents.bias, np.int64)
        for row in range(len(bias)):
            gate = config.gates[row // config.group_size % gates]  # CELL-003
            bias[row] += contents.forget if gate in "zfp" else 0
        args[name] = bias.clip(-(2**31), 2**31 - 1).astype(np.int32)
    return args


def state(
    config: Config, rows: int, numbers: Numbers, contents: Contents, heads: Sequence[int]
) -> Arguments:
    """Return h, c and heads; the heads are drawn from ``heads``, or fresh if that is empty."""
    args: Arguments = {}
    for name in ("h", "c")[: config.state_arrays]:
        shape = (config.num_layers, rows, config.hidden_size)
        args[name] = numbers.array(shape, contents.state, np.int32)
    if config.forgetting:
        args["heads"] = fresh_heads(config.buffer, rows, config.group_size)
        if heads:
            dtype = object if config.buffer == "bigint" else np.int64
            args["heads"] = numbers.choice((rows, config.group_size), heads, dtype)
    return args


def sequence(
    name: str,
    config: Config,
    mask: Mask,
    contents: Contents = Contents(),
    heads: Sequence[int] = (),
) -> Arguments:
    """Return the arguments of ``sequence_forward``."""
    numbers = Numbers(name)
    steps, rows = np.shape(mask)
    return {
        "config": settings_of(config),
        **parameters(config, numbers, contents),
        "x": numbers.array((steps, rows, config.input_size), contents.inputs, np.int16),
        "mask": np.array(mask, np.bool_).reshape(steps, rows),
        **state(config, rows, numbers, contents, heads),
    }


_CARRIED: Final = {
    "stream": (32768, 40000, 2**21, 2**26 + 12345, 2**31 - 1),
    "wordlist": (0, 5, 2**53 - 1, 2**40, 2**53),
    "bigint": (0, 1, 2**63, 2**100 + 7),
}
_LENGTHS: Final = [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
_HOLES: Final = [[1, 0], [0, 0], [1, 1], [0, 1]]
_ONE_STEP: Final = [[1, 1]]


def _cells(evaluate: Evaluate) -> Iterator[Draft]:
    def pair(
        name: str,
        config: Config,
        rows: int,
        forward: tuple[str, ...] = (),
        inverse: tuple[str, ...] = (),
        contents: Contents = Contents(forget=-(2**24)),
        heads: Sequence[int] = (),
        **changes: Any,
    ) -> Iterator[Draft]:
        args = sequence(name, config, [[1] * rows], contents, heads) | changes
        args["x"] = args["x"][0]
        del args["mask"]
        if config.forgetting:
            args |= empty_store(config.buffer, rows, config.group_size)
        rules = _rules_of(config)
        yield Draft("cell_forward", args, ("CELL-003", "CELL-004", *rules), forward)
        back = args | evaluate("cell_forward", args)
        yield Draft("cell_reverse", back, ("CELL-040", *rules), inverse)

    common: tuple[str, ...] = ("group_order", "weight_rows", "gate_order")
    for layout in ("stream", "wordlist", "bigint"):
        heads = _CARRIED[layout]
        gru = Config("revgru", 2, 4, buffer=layout)
        own = (*common, "group_old", "reset_ignored")
        yield from pair(f"gru {layout}", gru, 2, own, common, heads=heads)
        lstm = Config("revlstm", 2, 4, buffer=layout)
        forward = (*common, "group_old", "old_cell", "view_scale", "cell_tanh_bits")
        yield from pair(f"lstm {layout}", lstm, 2, forward, (*common, "undo_order"), heads=heads)
    gru = Config("revgru", 2, 4, forgetting=False, max_forget_bits=2)
    yield from pair("keeping gru", gru, 2, (*common, "group_old", "keeping_limit"), common)
    lstm = Config("revlstm", 2, 4, forgetting=False)
    yield from pair("keeping lstm", lstm, 2, (*common, "group_old", "old_cell"), common)
    odd = Formats(state_bits=20, operand_bits=9, lstm_view_bits=7, weight_bits=11)
    wide = Formats(state_bits=24, operand_bits=13, lstm_view_bits=6, weight_bits=13)
    for number, formats in enumerate((odd, wide)):
        contents = Contents(weights=3000, inputs=900, bias=2**19, state=2**21)
        catches: tuple[str, ...] = ("hard_coded_shift", "kind_bits")
        gru = Config("revgru", 1, 2, formats=formats)
        yield from pair(f"gru formats {number}", gru, 2, catches, catches, contents)
        lstm = Config("revlstm", 1, 2, formats=formats)
        catches = (*catches, "view_scale", "bias_scale")
        yield from pair(f"lstm formats {number}", lstm, 2, catches, catches, contents)
    # No shift where views and operands have the same fraction bits.
    same = Config("revlstm", 1, 2, formats=Formats(operand_bits=10, lstm_view_bits=10))
    yield from pair("lstm formats alike", same, 2)
    # Gates at both of their ends, states at the ends of int32.
    hard = Contents(weights=32512, inputs=32512, bias=2**31 - 1, state=2**31 - 1)
    for cell in ("revgru", "revlstm"):
        config = Config(cell, 2, 4)
        yield from pair(f"{cell} hard", config, 2, ("sum_width",), ("sum_width",), hard)
    yield from _tuned_cells(pair)


def _tuned_cells(pair: Callable[..., Iterator[Draft]]) -> Iterator[Draft]:
    """Give single cells in which one thing decides."""
    # All gates open wide: the default cap of RevLSTM is reached.
    keep = Contents(weights=100, inputs=100, bias=100, state=2**24, forget=2**29)
    cap = ("z_max_default",)
    default = (*cap, "p_max_default")
    yield from pair("lstm cap", Config("revlstm", 1, 2), 1, default, default, keep)
    own = ("p_max_cap",)
    for z_max, p_max in ((None, 600), (700, 1024)):
        config = Config("revlstm", 1, 2, z_max=z_max, p_max=p_max)
        yield from pair(f"lstm p cap {p_max}", config, 1, own, own, keep)
    low = Formats(state_bits=21, operand_bits=12, lstm_view_bits=10, weight_bits=12)
    yield from pair("lstm cap 21", Config("revlstm", 1, 2, formats=low), 1, cap, cap, keep)
    yield from pair("gru cap", Config("revgru", 1, 2, z_max=512), 1, ("z_max_cap",), (), keep)
    # Large weights on the recurrent side show the last bit of r·v.
    loud = Contents(weights=32512, inputs=0, bias=2**20, state=2**20)
    config = Config("revgru", 1, 4)
    yield from pair("gru reset", config, 4, ("reset_rounding",), ("reset_rounding",), loud)
    # All forgotten, the least possible gate.
    drop = Contents(weights=100, inputs=100, bias=100, state=2**30, forget=-(2**30))
    for limit in (None, 1, 3, 10):
        config = Config("revgru", 1, 2, max_forget_bits=limit)
        catches = ("forget_lower",) if limit is None else ()
        yield from pair(f"gru drop {limit}", config, 1, catches, (), drop)
    # Every head is as full as can be, so all units push in both operations.
    config = Config("revgru", 1, 4)
    yield from pair("gru full heads", config, 4, (), (), drop, heads=(2**31 - 1,))
    # States that leave int32.
    still = Contents(weights=0, inputs=0, bias=0, state=0)
    wraps = ("wrap_vs_saturation",)
    ends = i32([[[2**31 - 9, 2**31 - 1]] * 2])
    changes: Arguments = {"bias_l0": i32([2**30] * 10), "h": ends, "c": ends}
    config = Config("revlstm", 1, 2, z_max=1024, p_max=1024)
    yield from pair("lstm wraps", config, 2, wraps, wraps, still, **changes)
    changes = {"bias_l0": i32([-(2**30), 0, -(2**30)] * 2), "h": -ends}
    config = Config("revgru", 1, 2, forgetting=False)
    yield from pair("gru wraps", config, 2, wraps, wraps, still, **changes)


def _rules_of(config: Config) -> tuple[str, ...]:
    """Return the rules of a configuration's cell and buffer."""
    if config.cell == "revgru":
        rules = ("CELL-010", "CELL-011", "CELL-012" if config.forgetting else "CELL-030")
    else:
        cells = ("CELL-021", "CELL-022") if config.forgetting else ("CELL-031",)
        rules = ("CELL-020", *cells)
    stores = {
        "stream": ("BUF-031", "BUF-032"),
        "wordlist": ("BUF-021", "BUF-022", "BUF-023"),
        "bigint": ("BUF-010",),
    }
    return rules + (stores[config.buffer] if config.forgetting else ())


def _sequences(evaluate: Evaluate) -> Iterator[Draft]:
    def trio(
        name: str,
        config: Config,
        mask: Mask,
        *catches: str,
        back: tuple[str, ...] = (),
        bits: tuple[str, ...] = (),
        trace: bool = False,
        contents: Contents = Contents(forget=-(2**24)),
        heads: Sequence[int] = (),
        **changes: Any,
    ) -> Iterator[Draft]:
        """Give a sequence, its reversal and its accounts."""
        args = sequence(name, config, mask, contents, heads) | changes
        traced = {"trace": True} if trace else {}
        rules = ("SEQ-001", "SEQ-002", "SEQ-005", "SEQ-006", *_rules_of(config))
        if config.num_layers > 1:
            rules = (*rules, "SEQ-004", *(("SEQ-003",) if config.forgetting else ()))
        if "gains" in changes:
            rules = (*rules, "SEQ-012")
        if config.slice_size:
            rules = (*rules, "SEQ-007", "MUL-005")
        more = ("EVAL-009",) if trace else ()
        yield Draft("sequence_forward", args | traced, (*rules, "MUL-006", *more), catches)
        got = evaluate("sequence_forward", args)
        names = ("h", "c", "heads", "words", "flags", "slices")
        after = args | {n: got[n] for n in names if n in got}
        rules = ("SEQ-009", "BUF-003", "CELL-040", *rules, *more)
        yield Draft("sequence_reverse", after | traced, rules, back)
        # The counts of 1025 gates take room, so not every sequence has its accounts here.
        lstm_too = bool(config.slice_size) and config.buffer == "stream"
        if bits and (config.cell == "revlstm") == lstm_too:
            rules = ("ACC-001", "ACC-002", "ACC-003", "ACC-004")
            yield Draft("sequence_storage", args, rules, bits)

    for cell in ("revgru", "revlstm"):
        for layout in ("stream", "wordlist", "bigint"):
            yield from _forgetting_sequences(trio, cell, layout)
        keep = Config(cell, 1, 4, 2, forgetting=False)
        catches = ("mask_ignored", "upper_input_time", "upper_input_order", "output_masked")
        back = ("mask_ignored", "layer_order", "upper_input_order")
        bits = ("padding_counts",)
        yield from trio(f"{cell} keeping", keep, _HOLES, *catches, back=back, bits=bits)
        yield from trio(
            f"{cell} keeping one", Config(cell, 1, 2, forgetting=False), [[1]] * 3, "group_old"
        )
        yield from _gained_sequences(trio, cell)
    # A slice of neither one unit nor half a group.
    yield from trio("slice of three", Config("revlstm", 1, 8, slice_size=3), [[1]] * 2)
    yield from _wrapping_sequences(trio)
    yield from _segments(trio, evaluate)


def _forgetting_sequences(
    trio: Callable[..., Iterator[Draft]], cell: str, layout: str
) -> Iterator[Draft]:
    tag = f"{cell} {layout}"
    heads = _CARRIED[layout]
    none = np.zeros((0, 2))
    yield from trio(f"{tag} no steps", Config(cell, 1, 2, buffer=layout), none, heads=heads)
    tiny = Config(cell, 1, 2, buffer=layout)
    charges = {"stream": ("head_bits",), "wordlist": ("head_bits", "flag_bits"), "bigint": ()}
    yield from trio(
        f"{tag} tiny",
        tiny,
        [[1]] * 6,
        "group_old",
        "group_heads",
        "carry_heads",
        back=("group_order",),
        bits=charges[layout],
        heads=heads[-1:],
        trace=True,
    )
    # Two layers and lengths: what layers share, what they pass on, who is masked.
    deep = Config(cell, 1, 4, 2, 3, buffer=layout)
    between = ("layer_heads", "group_heads", "upper_input_time", "upper_input_order", "layer_order")
    masks = ("mask_ignored", "mask_after_push", "output_masked")
    upper = ("upper_input_scale",) if cell == "revlstm" else ()
    if layout != "bigint":
        yield from trio(
            f"{tag} deep",
            deep,
            _LENGTHS,
            *between,
            *masks,
            *upper,
            back=("layer_order", "mask_ignored", "mask_after_push", *upper),
            bits=("count_masked", "padding_counts") * (layout == "stream"),
            trace=tag == "revgru stream",
        )
    # Slices in the top layer, masks with holes.
    sliced = Config(cell, 1, 4, 2, 1, buffer=layout, slice_size=1)
    slices: tuple[str, ...] = ("slice_layer", "slice_group", "slice_pushes")
    slices += ("slice_cell_state",) if cell == "revlstm" else ()
    yield from trio(
        f"{tag} sliced",
        sliced,
        _HOLES,
        *slices,
        "carry_heads",
        back=("slice_index", "slice_layer"),
        bits=("count_sliced", "slice_bits", "count_masked"),
        heads=heads[1:],
        trace=tag in ("revlstm stream", "revgru wordlist"),
    )
    if layout == "stream":
        whole = Config(cell, 1, 4, slice_size=2)
        yield from trio(f"{tag} all sliced", whole, _LENGTHS[:2], *slices[1:])
        three = Config(cell, 1, 2, 3, 10)
        yield from trio(f"{tag} three", three, [[1]] * 3, *between[:4], back=("layer_order",))
        formats = Formats(state_bits=18, operand_bits=11, lstm_view_bits=8, weight_bits=9)
        other = Config(cell, 1, 4, 2, 5, z_max=700, formats=formats)
        contents = Contents(weights=900, inputs=3000, bias=2**18, state=2**19)
        catches = ("hard_coded_shift", "z_max_cap", *upper)
        yield from trio(
            f"{tag} formats", other, _HOLES, *catches, back=("hard_coded_shift",), contents=contents
        )
        hard = Contents(weights=32512, inputs=32512, bias=2**31 - 1, state=2**31 - 1)
        loud = Config(cell, 1, 4, 1, 3)
        yield from trio(f"{tag} hard", loud, _HOLES, "sum_width", contents=hard, heads=heads)
    if layout == "wordlist":
        yield from trio(
            f"{tag} spills",
            Config(cell, 1, 4, buffer=layout),
            [[1, 0], [0, 0], [1, 1]],
            "spill_any",
            "flag_always",
            "spill_plane",
            back=("flag_always", "spill_restore"),
            bits=("plane_bits", "flag_bits"),
            heads=(2**52, 2**50, 2**45),
            trace=True,
        )


def _gained_sequences(trio: Callable[..., Iterator[Draft]], cell: str) -> Iterator[Draft]:
    """Give three layers gains of dropout, of one, and so large that they saturate."""
    config = Config(cell, 1, 2, 3, 3, p_max=1019 if cell == "revlstm" else None)
    # Five values against groups of four: no two steps or layers have the same.
    gains = i32([4096, 5461, 0, 65536, 6001] * 5)[:24].reshape(3, 2, 2, 2)
    catches = ("gain_rounding", "gain_clip", "gain_layer")
    contents = Contents(forget=-(2**24), state=2**27)
    yield from trio(
        f"{cell} gains",
        config,
        [[1, 1], [1, 0], [1, 1]],
        *catches,
        back=(*catches, "gain_step"),
        contents=contents,
        gains=gains,
    )


def _wrapping_sequences(trio: Callable[..., Iterator[Draft]]) -> Iterator[Draft]:
    """Give states that leave int32, where nothing but z_max = 1024 prevents it."""
    mask = [[1, 1, 0], [1, 0, 0], [1, 1, 0]]
    fast = Contents(weights=0, inputs=0, bias=2**10, state=0, forget=2**30)
    config = Config("revlstm", 1, 2, z_max=1024, p_max=1024)
    rows = 2 * config.num_gates
    bias = i32([2**30] * rows)
    ends = i32([[[2**31 - 9, 2**31 - 1]] * 3])
    catches = ("wrap_vs_saturation", "wraps_zero", "wraps_masked")
    changes: Arguments = {"bias_l0": bias, "h": ends, "c": ends.copy()}
    back = ("wrap_vs_saturation",)
    yield from trio("wraps", config, mask, *catches, back=back, contents=fast, **changes)
    keep = Config("revlstm", 1, 2, forgetting=False)
    changes = changes | {"bias_l0": i32([-(2**30)] * 6), "h": -ends, "c": -ends}
    changes["bias_l0"][[0, 2, 3, 5]] = 2**30  # i and o open, g at -1
    yield from trio("keeping wraps", keep, mask, *catches, back=back, contents=fast, **changes)


def _segments(trio: Callable[..., Iterator[Draft]], evaluate: Evaluate) -> Iterator[Draft]:
    """Give a sequence whole and in two segments, the second from the state of the first."""
    for cell, layout in (("revgru", "stream"), ("revlstm", "wordlist"), ("revgru", "bigint")):
        config = Config(cell, 1, 2, buffer=layout)
        name, mask = f"segments {cell} {layout}", [[1, 1], [1, 0], [1, 1], [1, 1]]
        contents = Contents(forget=-(2**25))
        yield from trio(name, config, mask, "group_old", contents=contents)
        whole = sequence(name, config, mask, contents)
        first = {"x": whole["x"][:2], "mask": whole["mask"][:2]}
        yield Draft("sequence_forward", whole | first, ("SEQ-008", "SEQ-010"))
        got = evaluate("sequence_forward", whole | first)
        after = {n: got[n] for n in ("h", "c", "heads") if n in got}
        second = {"x": whole["x"][2:], "mask": whole["mask"][2:]} | after
        rules = ("SEQ-008", "SEQ-010")
        yield Draft("sequence_forward", whole | second, rules, ("carry_heads",))


# Gradients (GRAD)


def _gradients() -> Iterator[Draft]:
    def case(
        name: str,
        config: Config,
        mask: Mask,
        *catches: str,
        states: str = "reversed",
        contents: Contents = Contents(),
        **changes: Any,
    ) -> Draft:
        args = sequence(name, config, mask, contents) | changes
        numbers = Numbers(f"loss {name}")

        def loss(shape: Sequence[int]) -> Array:
            # Multiples of 2^-10 are short in hexadecimal.
            return (numbers.array(shape, 2048, np.int32) / 1024).astype(np.float32)

        steps, rows = np.shape(mask)
        args["states"] = states
        args["grad_outputs"] = loss((steps, rows, config.hidden_size))
        for letter in ("h", "c")[: config.state_arrays]:
            args[f"grad_{letter}"] = loss(args[letter].shape)
        cell = ("GRAD-012",) if config.cell == "revgru" else ("GRAD-013",)
        rules = ("GRAD-001", "GRAD-010", "GRAD-011", "GRAD-014", "GRAD-020", "GRAD-021", *cell)
        gained = ("SEQ-012", "GRAD-016") if "gains" in args else ()
        return Draft("sequence_gradient", args, (*rules, *gained), catches)

    for cell in ("revgru", "revlstm"):
        one = Config(cell, 1, 2)
        for states in ("reversed", "stored"):
            yield case(f"gradient {cell}", one, [[1]] * 3, states=states)
        deep = Config(cell, 2, 2, 2, 2, slice_size=1)
        masked = ("limit_gradient", "masked_gradient")
        yield case(f"gradient {cell} deep", deep, _HOLES, *masked)
        gains: Arguments = {"gains": i32(np.resize([0, 4096, 5461, 65536], (3, 1, 2, 2)))}
        layers = Config(cell, 1, 2, 2)
        yield case(f"gradient {cell} gains", layers, [[1] * 2] * 3, **gains)
        if cell == "revgru":
            # An input that its gain brings exactly to the largest operand has its gradient.
            layers = Config(cell, 1, 2, 2, forgetting=False)
            edges = i32([[[8128 << 11] * 2], [[5, 7]]])
            end: Arguments = {"h": edges, "gains": i32([[[[1 << 14] * 2]]])}
            for kind in ("weight_ih_l0", "weight_hh_l0", "bias_l0"):
                like = sequence("gradient gain end", layers, [[1]])[kind]
                end[kind] = np.zeros_like(like)
            yield case("gradient gain end", layers, [[1]], **end)
        keep = Config(cell, 1, 2, 1, 1, forgetting=False)
        catches = ("limit_gradient", "keeping_gradient") if cell == "revgru" else ()
        yield case(f"gradient {cell} keeping", keep, _LENGTHS, "masked_gradient", *catches)
        for layout in ("wordlist", "bigint"):
            yield case(f"gradient {cell} {layout}", Config(cell, 1, 2, buffer=layout), [[1]] * 2)
        # Views at and beyond their ends.
        edge = 32512 << (11 if cell == "revgru" else 13)
        rows = [[edge, -edge], [edge + 4095, edge + 2**20], [-edge - 2**20, -edge + 2**20]]
        ends: Arguments = {"h": i32([rows])}
        mild = Contents(weights=500, forget=2**25)
        name = f"gradient {cell} saturated"
        yield case(name, one, [[1, 1, 1]], "saturated_view", contents=mild, **ends)
        capped = Config(cell, 1, 2, z_max=512)
        most = Contents(weights=3000, forget=2**23)
        name = f"gradient {cell} capped"
        yield case(name, capped, [[1, 1]] * 2, "clipped_gate", contents=most)
        yield case(f"gradient {cell} no steps", one, np.zeros((0, 1)))


# Faults (ERR)


def _wrong(operation: str, args: Arguments, error: str, catches: str, *rules: str) -> Draft:
    return Draft(operation, args, ("ERR-001", *rules), (catches,), error)


def _tiny(**changes: Any) -> Arguments:
    """Return a small right request for ``sequence_forward``."""
    config = Config("revlstm", 1, 2, 1, 3, slice_size=1)
    args = sequence("faults", config, [[1]], Contents(weights=9, inputs=9, bias=9, state=9))
    return args | changes


def _configured(**changes: Any) -> Arguments:
    return _tiny(config=_tiny()["config"] | changes)


def _without(args: Arguments, name: str) -> Arguments:
    return {key: value for key, value in args.items() if key != name}


def _faults() -> Iterator[Draft]:
    yield _wrong("no_such_operation", {}, "E_OP", "unchecked_name")
    yield _wrong("no_such_operation", {"kind": "state"}, "E_OP", "error_order", "ERR-002")
    yield from _faults_of_elementary()
    yield from _faults_of_buffers()
    yield from _faults_of_sequences()


def _faults_of_elementary() -> Iterator[Draft]:
    name, value, array = "unchecked_name", "unchecked_value", "unchecked_array"
    x, s = f32([0.5]), i64([5])
    quantise: Arguments = {"kind": "operand", "x": x}
    for numbers in ([0, np.nan], [np.inf, 0], [0, -np.inf]):
        yield _wrong("quantise", quantise | {"x": f32(numbers)}, "E_NONFINITE", array, "QNT-004")
    yield _wrong("quantise", quantise | {"x": np.array([0.5])}, "E_DTYPE", array, "QNT-003")
    yield _wrong("quantise", quantise | {"kind": "gate"}, "E_ARGUMENT", value)
    yield _wrong("quantise", {"kind": "operand"}, "E_ARGUMENT", name)
    yield _wrong("quantise", {"x": x}, "E_ARGUMENT", name)
    yield _wrong("quantise", quantise | {"bits": 12}, "E_ARGUMENT", name)
    yield _wrong("quantise", quantise | {"formats": {"gate_bits": 15}}, "E_ARGUMENT", name)
    limits = {
        "state_bits": (15, 25),
        "operand_bits": (7, 14),
        "lstm_view_bits": (5, 13),
        "weight_bits": (7, 14),
    }
    for field, outside in limits.items():
        for number in outside:
            args = quantise | {"formats": {field: number}}
            yield _wrong("quantise", args, "E_FORMAT", value, "FMT-002")
    # The default view is wider than these operands.
    args = quantise | {"formats": {"operand_bits": 9}}
    yield _wrong("quantise", args, "E_FORMAT", value, "FMT-002")
    q = i32([1])
    for bits in (-1, 32):
        yield _wrong("dequantise", {"q": q, "bits": bits}, "E_ARGUMENT", value)
        yield _wrong("round_shift", {"v": s, "k": bits}, "E_ARGUMENT", value)
    yield _wrong("dequantise", {"q": s, "bits": 3}, "E_DTYPE", array)
    yield _wrong("dequantise", {"q": q, "bits": 3, "k": 3}, "E_ARGUMENT", name)
    for v in (2**62, -(2**62)):
        yield _wrong("round_shift", {"v": i64([v]), "k": 1}, "E_RANGE", array, "EVAL-004")
    yield _wrong("round_shift", {"v": q, "k": 1}, "E_DTYPE", array)
    pair: Arguments = {"a": i16([[1, 2]]), "w": i16([[3, 4]])}
    empty = np.zeros((1, 0), np.int16)
    bad: Arguments
    for bad in ({"a": empty, "w": empty}, {"a": i16([1, 2])}, {"w": i16([[3]])}):
        yield _wrong("product", pair | bad, "E_SHAPE", array, "PROD-002")
    for operand in (32513, -32513, -32768):
        bad = {"w": i16([[3, operand]])}
        yield _wrong("product", pair | bad, "E_RANGE", array, "PROD-002")
    yield _wrong("product", pair | {"a": i32([[1, 2]])}, "E_DTYPE", array)
    for operation, outside in (("tanh", (7, 28)), ("sigmoid", (7, 27))):
        for bits in outside:
            yield _wrong(operation, {"s": s, "bits": bits}, "E_ARGUMENT", value)
        yield _wrong(operation, {"s": q, "bits": 24}, "E_DTYPE", array)
        yield _wrong(operation, {"bits": 24}, "E_ARGUMENT", name)
    gate: Arguments = {"s": s, "bits": 24, "max_forget_bits": 3, "z_max": 1024}
    for limit in (0, 11, -1):
        args = gate | {"max_forget_bits": limit}
        yield _wrong("forget_gate", args, "E_FORGET_BITS", value, "ACT-006")
    for z_max in (511, 1025):
        yield _wrong("forget_gate", gate | {"z_max": z_max}, "E_FORMAT", value, "FMT-005")
    for bits in (7, 27):
        yield _wrong("forget_gate", gate | {"bits": bits}, "E_ARGUMENT", value)
    yield _wrong("forget_gate", _without(gate, "max_forget_bits"), "E_ARGUMENT", name)
    yield _wrong("forget_gate", gate | {"s": q}, "E_DTYPE", array)
    view: Arguments = {"h": q, "state_bits": 23, "view_bits": 12}
    for bad in ({"state_bits": 15}, {"state_bits": 25}, {"view_bits": 5}, {"view_bits": 14}):
        yield _wrong("view", view | bad, "E_FORMAT", value, "FMT-002")
    yield _wrong("view", view | {"h": s}, "E_DTYPE", array)


def _faults_of_buffers() -> Iterator[Draft]:
    value, array = "unchecked_value", "unchecked_array"
    bad: Arguments
    good = _pushed("stream", [[1, 2]], 512, [[32768, 32768]])
    wide = np.zeros((1, 3), np.int32)
    for bad, error in (
        ({"z": i32([[0, 5]])}, "E_RANGE"),
        ({"z": i32([[5, 1025]])}, "E_RANGE"),
        ({"heads": i64([[32767, 32768]])}, "E_RANGE"),
        ({"heads": i64([[32768, 2**31]])}, "E_RANGE"),
        ({"heads": i32([[32768, 32768]])}, "E_DTYPE"),
        ({"words": i64([])}, "E_DTYPE"),
        ({"mask": i32([1])}, "E_DTYPE"),
        ({"z": wide}, "E_SHAPE"),
        ({"mask": _masked(True, True)}, "E_SHAPE"),
        ({"flags": np.zeros(1, np.uint8)}, "E_SHAPE"),
        ({"heads": i64([32768, 32768])}, "E_SHAPE"),
    ):
        yield _wrong("revmul", good | bad, error, array, "EVAL-005", "EVAL-006")
    yield _wrong("revmul", good | {"layout": "list"}, "E_ARGUMENT", value, "BUF-037")
    for width in (-1, 3):
        yield _wrong("revmul", good | {"slice_size": width}, "E_SLICE", value, "EVAL-005")
    yield _wrong("revmul", good | {"restore": wide}, "E_ARGUMENT", "unchecked_name")
    yield _wrong("revmul", _without(good, "mask"), "E_ARGUMENT", "unchecked_name")
    listed = _pushed("wordlist", [[1, 2]], 512, [[0, 0]])
    for bad, error in (
        ({"heads": i64([[0, -1]])}, "E_RANGE"),
        ({"flags": np.array([2], np.uint8)}, "E_RANGE"),
        ({"words": np.zeros(0, np.uint16)}, "E_DTYPE"),
        ({"words": np.zeros((1, 1, 3), np.int64)}, "E_SHAPE"),
    ):
        yield _wrong("revmul", listed | bad, error, array, "EVAL-006", "BUF-020")
    big = _pushed("bigint", [[1, 2]], 512, [[0, 0]])
    for bad, error in (
        ({"heads": np.array([[0, -1]], object)}, "E_RANGE"),
        ({"heads": i64([[0, 1]])}, "E_DTYPE"),
        ({"words": np.zeros(1, np.uint16)}, "E_SHAPE"),
    ):
        yield _wrong("revmul", big | bad, error, array, "EVAL-006", "BUF-010")
    inverse = good | {"restore": np.zeros((1, 0), np.int32)}
    bad = inverse | {"restore": np.zeros((1, 1), np.int32)}
    yield _wrong("revmul_inverse", bad, "E_SHAPE", array, "EVAL-005")
    yield _wrong("revmul_inverse", good, "E_ARGUMENT", "unchecked_name", "EVAL-005")


def _faults_of_sequences() -> Iterator[Draft]:
    name, value, array = "unchecked_name", "unchecked_value", "unchecked_array"
    bad: Arguments
    for bad, error in (
        ({"cell": "gru"}, "E_ARGUMENT"),
        ({"buffer": "list"}, "E_ARGUMENT"),
        ({"input_size": 0}, "E_ARGUMENT"),
        ({"num_layers": 0}, "E_ARGUMENT"),
        ({"forgetting": "yes"}, "E_ARGUMENT"),
        ({"hidden_size": 3}, "E_HIDDEN_SIZE"),
        ({"hidden_size": 0}, "E_HIDDEN_SIZE"),
        ({"max_forget_bits": 0}, "E_FORGET_BITS"),
        ({"max_forget_bits": 11}, "E_FORGET_BITS"),
        ({"z_max": 511}, "E_FORMAT"),
        ({"z_max": 1025}, "E_FORMAT"),
        ({"cell": "revgru", "p_max": 896}, "E_FORMAT"),
        ({"cell": "revlstm", "p_max": 511}, "E_FORMAT"),
        ({"cell": "revlstm", "p_max": 1025}, "E_FORMAT"),
        ({"cell": "revlstm", "forgetting": False, "slice_size": 0, "p_max": 896}, "E_FORMAT"),
        ({"formats": {"state_bits": 25}}, "E_FORMAT"),
        ({"slice_size": 2}, "E_SLICE"),
        ({"slice_size": -1}, "E_SLICE"),
        ({"forgetting": False}, "E_SLICE"),
    ):
        yield _wrong("sequence_forward", _configured(**bad), error, value, "EVAL-003")
    yield _wrong("sequence_forward", _configured(proj_size=1), "E_ARGUMENT", name, "EVAL-003")
    config = _tiny()["config"]
    for field in ("cell", "input_size", "hidden_size"):
        args = _tiny(config=_without(config, field))
        yield _wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-003")
    for field in ("config", "weight_hh_l0", "x", "mask", "c", "heads"):
        yield _wrong("sequence_forward", _without(_tiny(), field), "E_ARGUMENT", name, "EVAL-008")
    for extra in ("words", "slices", "weight_ih_l1", "formats"):
        args = _tiny(**{extra: np.zeros(0, np.uint16)})
        if extra == "formats":
            args[extra] = {}
        yield _wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-008")
    gru = sequence("faults gru", Config("revgru", 1, 2), [[1]], Contents(state=9))
    args = gru | {"c": gru["h"].copy()}
    yield _wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-008")
    yield _wrong("sequence_forward", _tiny(trace="yes"), "E_ARGUMENT", value, "EVAL-009")
    good = _tiny()
    for bad, error in (
        ({"x": i32([[[1]]])}, "E_DTYPE"),
        ({"mask": np.ones((1, 1), np.uint8)}, "E_DTYPE"),
        ({"h": i64(good["h"])}, "E_DTYPE"),
        ({"x": i16([[1]])}, "E_SHAPE"),
        ({"mask": np.ones((2, 1), np.bool_)}, "E_SHAPE"),
        ({"c": np.zeros((1, 2, 2), np.int32)}, "E_SHAPE"),
        ({"weight_ih_l0": i16(good["weight_ih_l0"][:-1])}, "E_SHAPE"),
        ({"x": i16([[[32513]]])}, "E_RANGE"),
        ({"weight_hh_l0": i16(np.full_like(good["weight_hh_l0"], -32513))}, "E_RANGE"),
        ({"heads": i64([[2**31]])}, "E_RANGE"),
    ):
        yield _wrong("sequence_forward", good | bad, error, array, "EVAL-008")
    store = empty_store("stream", 1, 1)
    reverse = good | store | {"slices": np.zeros((2, 1, 1), np.int32)}
    args = reverse | {"slices": np.zeros((1, 1, 1), np.int32)}
    yield _wrong("sequence_reverse", args, "E_SHAPE", array, "SEQ-007")
    yield _wrong("sequence_reverse", _without(reverse, "slices"), "E_ARGUMENT", name, "SEQ-007")
    drop = reverse | {"bias_l0": np.full(10, -(2**31), np.int32)}
    yield _wrong("sequence_reverse", drop, "E_UNDERFLOW", "underflow", "BUF-032")
    # What would be too wide comes after the underflow, and so means nothing.
    listed = Config("revgru", 1, 2, buffer="wordlist")
    later = sequence("underflow first", listed, [[1, 1], [1, 0]]) | empty_store("wordlist", 2, 1)
    later |= {"heads": i64([[0], [2**63 - 1]])}
    yield _wrong("sequence_reverse", later, "E_UNDERFLOW", "underflow", "BUF-023")
    yield _wrong("sequence_storage", good | {"trace": True}, "E_ARGUMENT", name, "EVAL-008")
    loss = {"grad_h": f32(np.zeros((1, 1, 2))), "grad_c": f32(np.zeros((1, 1, 2)))}
    gradient = good | loss | {"grad_outputs": f32(np.zeros((1, 1, 2))), "states": "reversed"}
    for bad, error, catches in (
        ({"states": "both"}, "E_ARGUMENT", value),
        ({"grad_h": np.zeros((1, 1, 2))}, "E_DTYPE", array),
        ({"grad_outputs": f32(np.zeros((2, 1, 2)))}, "E_SHAPE", array),
        ({"grad_c": f32([[[0.0, np.inf]]])}, "E_NONFINITE", array),
    ):
        yield _wrong("sequence_gradient", gradient | bad, error, catches, "EVAL-008")
    cell = _without(gru, "mask") | store | {"x": gru["x"][0]}
    args = cell | {"config": gru["config"] | {"slice_size": 1}}
    for operation in ("cell_forward", "cell_reverse"):
        yield _wrong(operation, args, "E_SLICE", value, "EVAL-007")
        yield _wrong(operation, cell | {"x": gru["x"]}, "E_SHAPE", array, "EVAL-007")
        yield _wrong(operation, _without(cell, "words"), "E_ARGUMENT", name, "EVAL-007")
    two = sequence("faults two", Config("revgru", 1, 2, 2), [[1]], Contents(state=9))
    two = _without(two, "mask") | store | {"x": two["x"][0]}
    yield _wrong("cell_forward", two, "E_ARGUMENT", value, "EVAL-007")


def _orders_of_faults() -> Iterator[Draft]:
    """Give two neighbouring faults of ERR-002 at a time: the first is to be reported."""
    good = _tiny()
    config = good["config"]
    # In the order of ERR-002; each entry changes the request or its configuration.
    faults: list[tuple[str, Arguments, Arguments]] = [
        ("E_FORMAT", {}, {"formats": {"weight_bits": 99}}),
        ("E_ARGUMENT", {}, {"cell": "gru"}),
        ("E_HIDDEN_SIZE", {}, {"hidden_size": 3}),
        ("E_FORGET_BITS", {}, {"max_forget_bits": 0}),
        ("E_FORMAT", {}, {"z_max": 511}),
        ("E_SLICE", {}, {"slice_size": 9}),
        ("E_ARGUMENT", {"y": 1}, {}),
        ("E_ARGUMENT", {"trace": "yes"}, {}),
        ("E_DTYPE", {"heads": i32([[32768]])}, {}),
        ("E_SHAPE", {"mask": np.ones((2, 1), np.bool_)}, {}),
        ("E_RANGE", {"x": i16([[[32767]]])}, {}),
    ]
    rules = ("ERR-002",)
    for first, second in pairwise(faults):
        args = good | first[1] | second[1]
        args["config"] = config | first[2] | second[2]
        yield _wrong("sequence_forward", args, first[0], "error_order", *rules)
    everything = dict(good)
    for _, changes, settings in faults:
        everything |= changes
        everything["config"] = everything["config"] | settings
    yield _wrong("sequence_forward", everything, "E_FORMAT", "error_order", *rules)
    # Types of all arrays come before shapes of any, shapes before contents.
    pair: Arguments = {"a": i16([[32767]]), "w": i16([[3, 4]])}
    yield _wrong("product", pair, "E_SHAPE", "error_order", *rules)
    yield _wrong("product", pair | {"w": i32([[3, 4]])}, "E_DTYPE", "error_order", *rules)
    gate: Arguments = {"s": i64([5]), "bits": 7, "max_forget_bits": 0, "z_max": 0}
    yield _wrong("forget_gate", gate, "E_ARGUMENT", "error_order", *rules)
    gate |= {"bits": 24}
    yield _wrong("forget_gate", gate, "E_FORGET_BITS", "error_order", *rules)
    bad: Arguments = {"kind": "gate", "x": np.array([np.nan]), "formats": {"state_bits": 99}}
    yield _wrong("quantise", bad, "E_FORMAT", "error_order", *rules)
    bad = bad | {"formats": {}}
    yield _wrong("quantise", bad, "E_ARGUMENT", "error_order", *rules)
    bad = bad | {"kind": "operand"}
    yield _wrong("quantise", bad, "E_DTYPE", "error_order", *rules)
    revmul = _pushed("stream", [[1, 2]], 2000, [[0, 0]])
    args = revmul | {"slice_size": 5}
    yield _wrong("revmul", args, "E_SLICE", "error_order", *rules)
    args = revmul | {"slice_size": 5, "layout": "list"}
    yield _wrong("revmul", args, "E_ARGUMENT", "error_order", *rules)


# What the text says of situations that rules share (docs/rules-and-situations.md)


def _situations() -> Iterator[Draft]:
    name, value, array = "unchecked_name", "unchecked_value", "unchecked_array"
    gate: Arguments = {"s": i64([5]), "bits": 24, "max_forget_bits": None, "z_max": 1024}
    yield _wrong("forget_gate", gate | {"z_max": None}, "E_FORMAT", value, "EVAL-004")
    yield _wrong("forget_gate", _without(gate, "z_max"), "E_ARGUMENT", name, "EVAL-004")
    stray: Arguments = {"config": {"cell": "gru", "formats": {"state_bits": 99}}}
    yield _wrong("tanh", {"s": i64([5]), "bits": 24} | stray, "E_ARGUMENT", name, "ERR-002")
    stray = {"formats": {"state_bits": 99}}
    yield _wrong("sequence_storage", _tiny() | stray, "E_ARGUMENT", name, "ERR-002")
    wide = _configured(input_size=2**20 + 1)
    yield _wrong("sequence_forward", wide, "E_SHAPE", array, "PROD-002")
    # Members of an array, one too few or too many: an object, and no array.
    shapes: tuple[Any, ...] = (
        {"dtype": "i64", "shape": 1},
        {"data": 5, "dtype": "i64", "shape": 1, "x": 1},
    )
    for shape in shapes:
        args = {"s": shape, "bits": 24}
        yield _wrong("tanh", args, "E_DTYPE", array, "CONF-004")
    for odd in ({"dtype": "i64"}, None, 7, "revgru"):
        error = "E_ARGUMENT"
        yield _wrong("sequence_forward", _tiny(config=odd), error, value, "EVAL-003")
    good = _pushed("stream", [[1, 2]], 512, [[32768, 32768]])
    for width in (-1, 3, "one"):
        bad = good | {"slice_size": width, "h": i32([1, 2])}
        yield _wrong("revmul", bad, "E_SHAPE", array, "EVAL-005")
        bad = good | {"slice_size": width, "h": None}
        yield _wrong("revmul", bad, "E_DTYPE", array, "EVAL-005")
    loss = {name: f32(np.zeros((1, 1, 2))) for name in ("grad_outputs", "grad_h", "grad_c")}
    for field in loss:
        args = _tiny(states="stored") | loss | {field: f32([[[0.0, np.nan]]])}
        yield _wrong("sequence_gradient", args, "E_NONFINITE", array, "EVAL-008")
    # A row masked out takes a flag and a plane from layout wordlist all the same.
    for flag in (0, 1):
        store = {
            "words": np.arange(4, dtype=np.int64).reshape(1, 2, 2),
            "flags": np.array([1, flag], np.uint8),
        }
        args = _pushed("wordlist", [[5, -6], [7, 8]], 700, np.full((2, 2), 9), **store)
        args |= {"mask": _masked(False, False), "restore": np.zeros((2, 0), np.int32)}
        yield Draft("revmul_inverse", args, ("BUF-023", "MUL-004"))
    # Sliced units wrap and are counted; their gates are not. One row is masked out.
    still = Contents(weights=0, inputs=0, bias=0, state=0)
    config = Config("revlstm", 1, 4, z_max=1024, p_max=1024, slice_size=2)
    args = sequence("sliced wraps", config, [[1, 0], [1, 0]], still)
    args |= {
        "bias_l0": i32([2**30] * 20),
        "h": i32([[[2**31 - 1] * 4] * 2]),
        "c": i32([[[0] * 4] * 2]),
    }
    rules = ("MUL-005", "MUL-006", "SEQ-007")
    yield Draft("sequence_forward", args, rules)
    yield Draft("sequence_storage", args, ("ACC-001", "ACC-003"), ("count_sliced",))
