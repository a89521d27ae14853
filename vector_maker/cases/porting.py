"""What ports in languages with narrow numbers and flat memory get wrong: found by making mistakes.

Ties and sums in the middle of a cell, the exact places where functions step, equal lengths that
hide a wrong order of axes, sizes beyond a byte or a vector, and what is kept between requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from revrnn.config import Config
from revrnn.formats import Formats

from .draft import Arguments, Draft, Evaluate, Numbers, f32, i16, i32, i64
from .requests import Contents, first_sum, pushed, rules_of, sequence

_TOP = 32512


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _steps_of_functions(evaluate)
    yield from _shapes()
    yield _ties()
    yield from _wide_sums()
    yield from _caps()
    yield from _gains()
    yield from _sizes(evaluate)
    yield from _limbs()


def _steps_of_functions(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the last number before a function steps and the first after it, of many steps.

    A pre-activation in binary32 has lost what decides there.
    """

    def case(operation: str, result: str, wanted: Any, **settings: Any) -> Draft:
        places = [first_sum(evaluate, operation, settings, result, value) for value in wanted]
        s = sorted({place + step for place in places for step in (-1, 0)})
        args = {"s": i64(s), **settings}
        catches = () if operation == "forget_gate" else ("sum_float32",)
        return Draft(operation, args, (rules[operation], "GEN-001"), catches)

    rules = {"tanh": "ACT-002", "sigmoid": "ACT-003", "forget_gate": "ACT-004"}
    values = (150, 4001, 12345, 20000, 28003, 31999, 32700, 32767)
    signed = [sign * value for value in values for sign in (1, -1)]
    for bits in (24, 27):
        yield case("tanh", "y", signed, bits=bits)
    for bits in (24, 26):
        yield case("sigmoid", "y", values, bits=bits)
        gate = {"bits": bits, "max_forget_bits": 3, "z_max": 1024}
        yield case("forget_gate", "z", (129, 200, 512, 777, 1000, 1023), **gate)


def _shapes() -> Iterator[Draft]:
    """Give arrays of three axes, of the most axes there may be, and squares."""
    s = np.arange(-3, 3, dtype=np.int64).reshape(2, 1, 3) << 21
    q = s.astype(np.int32)
    gate: Arguments = {"bits": 24, "max_forget_bits": None, "z_max": 1024}
    yield Draft("tanh", {"s": s, "bits": 24}, ("EVAL-004", "ACT-002"))
    yield Draft("sigmoid", {"s": s, "bits": 24}, ("EVAL-004", "ACT-003"))
    yield Draft("forget_gate", {"s": s, **gate}, ("EVAL-004", "ACT-005"))
    yield Draft("round_shift", {"v": s, "k": 22}, ("EVAL-004", "GEN-003"))
    yield Draft("dequantise", {"q": q, "bits": 23}, ("EVAL-004", "QNT-006"))
    x = f32(np.arange(-3, 3).reshape(2, 1, 3) / 8)
    yield Draft("quantise", {"kind": "weight", "x": x}, ("EVAL-004", "QNT-001"))
    many = (2, 1, 3, *[1] * 29)
    yield Draft("round_shift", {"v": s.reshape(many), "k": 21}, ("EVAL-002", "GEN-003"))
    square = {"a": i16([[1, 2, 3], [-4, 5, -6], [7, 8, 300]]), "w": i16(np.arange(9).reshape(3, 3))}
    yield Draft("product", square, ("PROD-001",))
    # Sums of more terms than binary32 has room for, and of few beyond 32 bits.
    for name, shape in (("long", (1, 80)), ("short", (2, 3))):
        numbers = Numbers(f"product {name}")
        a, w = (numbers.array(shape, 900, np.int16) + i16(_TOP - 900) for _ in "aw")
        yield Draft("product", {"a": a, "w": w}, ("PROD-001", "PROD-003"), ("product_width",))
    # A zero has no sign (QNT-006).
    for bits in (0, 31):
        yield Draft(
            "dequantise", {"q": i32([0, 1, -1]), "bits": bits}, ("QNT-006",), ("zero_sign",)
        )
    # Heads and planes of as many rows as units, of which no two are alike.
    planes: Arguments = {
        "words": i64(np.arange(1, 19).reshape(2, 3, 3)) << 40,
        "flags": np.ones(2, np.uint8),
        "restore": np.zeros((3, 0), np.int32),
    }
    heads = np.arange(9).reshape(3, 3) + 5
    popped = pushed("wordlist", np.arange(9).reshape(3, 3) * 777, 601, heads, **planes)
    yield Draft("revmul_inverse", popped, ("BUF-023", "EVAL-006"))


def _ties() -> Draft:
    """Give states whose views, and reset gates whose products, lie between two operands."""
    config = Config("revgru", 1, 4)
    args = sequence("ties in a cell", config, [[1] * 4], Contents(inputs=0, state=0, bias=0))
    gates = 3 * config.group_size
    weights = Numbers("ties").array((2 * gates, 2), 9000, np.int16)
    # The reset gate is a half: its products of odd views are ties.
    weights[[2, 3, gates + 2, gates + 3]] = 0
    args["weight_hh_l0"] = weights
    odd = [[-3, 5, -7, -1], [1, -1, 3, -9], [-1, -3, -5, -7], [9, -11, -13, 15]]
    args["h"] = (i32(odd)[None] << 11) - i32([[[0, 1024, 1024, 0]]])
    return Draft("sequence_forward", args, ("FMT-004", "CELL-011", "GEN-003"), ("tie_direction",))


def _wide_sums() -> Iterator[Draft]:
    """Give products beyond 32 bits, of either side, whose sum is small."""
    rules = ("PROD-004", "PROD-001")
    for cell in ("revgru", "revlstm"):
        config = Config(cell, 3, 6)
        args = sequence(f"wide sums {cell}", config, [[1, 1]], Contents(state=2**20))
        for name in ("weight_ih_l0", "weight_hh_l0"):
            args[name] = np.full_like(args[name], _TOP)
        # The view of RevLSTM has two bits less: its product is shifted.
        view, rest = (23050, 2000) if cell == "revgru" else (5762, 500)
        bits = 11 if cell == "revgru" else 13
        args["x"] = i16([[[-23000, -23001, -23050], [23000, 23001, 23050]]])
        h = np.full((1, 2, 6), view << bits) - (i32([[[0, 1, 2] * 2] * 2]) * rest >> 8 << bits)
        args["h"] = i32(h * i32([1, -1]).reshape(1, 2, 1))
        yield Draft("sequence_forward", args, rules, ("product_width", "sum_parts_width"))


def _caps() -> Iterator[Draft]:
    """Give the gate p its default cap where the other gates have one of their own."""
    open_wide = Contents(weights=0, inputs=0, bias=0, forget=2**30)
    args = sequence("caps 900", Config("revlstm", 1, 2, z_max=900), [[1]], open_wide)
    yield Draft("sequence_forward", args, ("FMT-005", "FMT-007", "CELL-020"), ("p_max_of_z",))


def _gains() -> Iterator[Draft]:
    """Give ties of gains, and requests with and without them that are else alike.

    A port that keeps gains from one request to the next uses them where there are none.
    """
    config = Config("revgru", 1, 2, 2, forgetting=False)
    rules = ("SEQ-012", "GEN-003", "CONF-005")
    for number in range(2):
        args = sequence(f"gains kept {number}", config, [[1, 1]], Contents(bias=2**20))
        # Views of the layer below, which stays as it is, and a gain of a half.
        args["h"][0] = i32([[-3, 5], [-7, 9]]) * (number * 2 + 1) << 11
        args["bias_l0"] = i32([2**30, 2**30, 0, 0, 0, 0])
        yield Draft("sequence_forward", args, rules)
        if number == 1:
            continue
        args = args | {"gains": np.full((1, 1, 2, 2), 2048, np.int32)}
        yield Draft("sequence_forward", args, rules, ("gain_rounding",))


def _sizes(evaluate: Evaluate) -> Iterator[Draft]:
    """Give more steps than a byte counts, more layers, and units that fill no whole vector."""
    rules = ("SEQ-001", "SEQ-005")

    def undone(args: Arguments, *rules: str) -> Draft:
        got = evaluate("sequence_forward", args)
        names = ("h", "c", "heads", "words", "flags")
        after = args | {n: got[n] for n in names if n in got}
        return Draft("sequence_reverse", after, ("SEQ-006", "SEQ-009", *rules))

    many = Config("revgru", 1, 2, buffer="wordlist")
    small = Contents(inputs=9, forget=-(2**24))
    yield undone(sequence("many steps", many, [[1]] * 257, small), *rules_of(many))
    layers = Config("revgru", 1, 2, 5)
    args = sequence("many layers", layers, [[1]] * 2)
    yield Draft("sequence_forward", args, (*rules, *rules_of(layers)))
    for inputs, hidden in ((1, 18), (6, 2)):  # of the last the weights are a square
        args = sequence("odd sizes", Config("revgru", inputs, hidden), [[1]], Contents(bias=9))
        args["weight_hh_l0"][:, 1:-1] = 0
        yield Draft("sequence_forward", args, rules)


def _limbs() -> Iterator[Draft]:
    """Give numbers of two limbs of 32 bits where a carry goes from one to the other.

    The magnitude of -2^32, a product of a head and a gate to which a residue is added, and a
    pre-activation that 36 bits do not hold.
    """
    yield Draft("tanh", {"s": i64([-(2**32), 2**32]), "bits": 24}, ("ACT-002",))
    z = 1023
    heads = (-rest * pow(z, -1, 2**32) % 2**32 for rest in range(1, z))
    head = next(n for n in heads if 2**28 < n < 2**31)
    popped = pushed("stream", [[z - 1]], z, [[head]], restore=np.zeros((1, 0), np.int32))
    yield Draft("revmul_inverse", popped, ("BUF-002", "BUF-001"))
    formats = Formats(state_bits=16, operand_bits=13, lstm_view_bits=6)
    config = Config("revlstm", 1, 2, forgetting=False, formats=formats)
    args = sequence("wide", config, [[1]], Contents(weights=0, inputs=0, state=0, bias=0))
    args["weight_hh_l0"][...] = _TOP
    args["h"] = i32([[[2**28, -(2**28)]]])
    yield Draft("sequence_forward", args, ("PROD-004", "FMT-002", "FMT-004"))
