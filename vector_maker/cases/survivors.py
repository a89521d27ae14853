"""Requests that notice changes of one place which no vector had noticed (``nox -s mutants``)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from revrnn.config import Config

from .draft import Arguments, Draft, Evaluate, Numbers, i16, i32, i64
from .requests import STILL, Contents, configured, pushed, sequence, tiny, without, wrong


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _ends_of_int32(evaluate)
    yield from _stores()
    yield from _accounts()
    yield from _refused()


def _ends_of_int32(evaluate: Evaluate) -> Iterator[Draft]:
    """Give sums that are the last within int32, and the first beyond, of either sign."""
    config = Config("revgru", 1, 4, forgetting=False)
    for sign in (1, -1):
        args = sequence("ends", config, [[1]], STILL)
        args["bias_l0"] = i32(([-(2**30)] * 4 + [sign * 2**30] * 2) * 2)
        change = int(evaluate("sequence_forward", args)["h"][0, 0, 0])
        last = 2**31 - 1 if sign > 0 else -(2**31)
        args["h"] = i32([[[last - change, last + sign - change, last - change, 0]]])
        yield Draft("sequence_forward", args, ("MUL-006", "GEN-006", "CELL-030"), ("wraps_zero",))


def _stores() -> Iterator[Draft]:
    """Give stores that begin with one word, and that hold very many."""
    full = [[2**31 - 1, 2**31 - 2]]
    one = pushed("stream", [[5, -6]], 3, full, words=np.array([77], np.uint16))
    yield Draft("revmul", one, ("BUF-031", "BUF-005"))
    # 1025 words, all in use, and units that push more.
    words = Numbers("many words").array((1025,), 49, np.int64) + 49
    many = pushed("stream", [[5, -6]], 3, full, words=words.astype(np.uint16))
    yield Draft("revmul", many, ("BUF-031", "BUF-005"))
    # A plane of more than 1024 units.
    config = Config("revgru", 1, 16, buffer="wordlist")
    wide = sequence("wide plane", config, [[1] * 129], STILL)
    wide["heads"][0, 0] = wide["heads"][-1, -1] = 2**53
    yield Draft("sequence_storage", wide, ("BUF-021", "ACC-003"))


def _accounts() -> Iterator[Draft]:
    """Give gates of 1, the least that there is."""
    drop = Contents(weights=0, inputs=0, bias=0, state=0, forget=-(2**30))
    args = sequence("least gates", Config("revgru", 1, 2), [[1], [1]], drop)
    yield Draft("sequence_storage", args, ("ACC-001", "ACC-002"))
    # No steps at all: heads and the first slices are stored, and nothing else.
    none = sequence("accounts of nothing", Config("revgru", 1, 4, slice_size=1), np.zeros((0, 2)))
    yield Draft("sequence_storage", none, ("ACC-001", "ACC-002", "ACC-003", "ACC-004"))
    rules = ("EVAL-009", "SEQ-001", "SEQ-007")
    yield Draft("sequence_forward", none | {"trace": True}, rules)


def _refused() -> Iterator[Draft]:
    """Give requests with one thing that is beyond what is allowed."""
    array, name = "unchecked_array", "unchecked_name"
    yield wrong("sequence_forward", without(tiny(), "bias_l0"), "E_ARGUMENT", name, "ERR-002")
    view: Arguments = {"h": i32(np.zeros((0, 3))), "state_bits": 23, "view_bits": 12}
    yield Draft("view", view, ("EVAL-004", "FMT-004", "GEN-007"))
    store: Arguments = {"flags": np.ones(1, np.uint8)}
    planes = np.array([[[5, -1]]], np.int64)
    below = pushed("wordlist", [[1, 2]], 512, [[0, 0]], **store, words=planes)
    yield wrong("revmul", below, "E_RANGE", array, "EVAL-006")
    flags = below | {"words": np.abs(planes), "flags": np.ones((1, 1), np.uint8)}
    yield wrong("revmul", flags, "E_SHAPE", array, "EVAL-006")
    words = pushed("stream", [[1, 2]], 512, [[32768] * 2], words=np.zeros((1, 2), np.uint16))
    yield wrong("revmul", words, "E_SHAPE", array, "EVAL-006")
    for value in (32513, -32513):
        beyond = {"a": i16([[value]]), "w": i16([[1]])}
        yield wrong("product", beyond, "E_RANGE", array, "PROD-002")
    config = Config("revgru", 1, 2, 2)
    gained = sequence("gains beyond", config, [[1]], STILL)
    for value in (65537, -1):
        beyond = gained | {"gains": i32([4096, value]).reshape(1, 1, 1, 2)}
        yield wrong("sequence_forward", beyond, "E_RANGE", array, "SEQ-012")
    single = tiny(gains=np.zeros((1, 0, 1, 2), np.int32))
    yield wrong("sequence_forward", single, "E_ARGUMENT", name, "SEQ-012")
    yield Draft("sequence_forward", gained | {"trace": False}, ("EVAL-009",))
    # Without forgetting there are no heads to trace.
    keep = sequence("keeping traced", Config("revlstm", 1, 2, forgetting=False), [[1], [1]])
    yield Draft("sequence_forward", keep | {"trace": True}, ("EVAL-009", "CELL-031"))
    yield from _names_and_shapes()
    yield from _settings()


def _names_and_shapes() -> Iterator[Draft]:
    """Give names that are nearly right, and shapes that differ in one axis."""
    array, name = "unchecked_array", "unchecked_name"
    yield wrong("sequence_forward", without(tiny(), "weight_ih_l0"), "E_ARGUMENT", name, "CELL-003")
    weights = tiny()["weight_ih_l0"]
    for odd in ("weight_ih_l00", "weight_ih_l", "weight_ih_l-0", "weight_ih_"):
        yield wrong("sequence_forward", tiny(**{odd: weights}), "E_ARGUMENT", name, "CELL-003")
    short = tiny(bias_l0=tiny()["bias_l0"][:-1])
    yield wrong("sequence_forward", short, "E_SHAPE", array, "CELL-003")
    none = tiny(x=i16(np.zeros((0, 1, 1))))
    yield wrong("sequence_forward", none, "E_SHAPE", array, "EVAL-002")
    empty = {"a": i16(np.zeros((0, 1))), "w": i16([[1]])}
    yield wrong("product", empty, "E_SHAPE", array, "EVAL-002")
    yield wrong("tanh", {"s": i64(5), "bits": 24}, "E_SHAPE", array, "EVAL-004")


def _settings() -> Iterator[Draft]:
    """Give configurations that are refused, or decide, at one value."""
    value = "unchecked_value"
    flat = {"kind": "state", "x": np.ones(1, np.float32), "formats": 5}
    yield wrong("quantise", flat, "E_ARGUMENT", value, "EVAL-003")
    narrow = configured(formats={"operand_bits": 7, "lstm_view_bits": 7})
    yield wrong("sequence_forward", narrow, "E_FORMAT", value, "FMT-002")
    yield wrong("sequence_storage", configured(input_size=0), "E_ARGUMENT", value, "EVAL-003")
    # No layers, and arrays of no layers: all else is right.
    bare = sequence("no layers", Config("revgru", 1, 2), [[1]], STILL)
    bare = {n: v for n, v in bare.items() if not n.endswith("_l0")} | {
        "h": i32([]).reshape(0, 1, 2)
    }
    bare["config"] = bare["config"] | {"num_layers": 0}
    yield wrong("sequence_forward", bare, "E_ARGUMENT", value, "EVAL-003")
    # The cap of p is that of f where that is below 768, by one.
    open_wide = Contents(weights=0, inputs=0, bias=0, state=2**24, forget=2**30)
    for cap in (767, 768):
        args = sequence("cap of p", Config("revlstm", 1, 2, z_max=cap), [[1]], open_wide)
        yield Draft("sequence_forward", args, ("FMT-007",))
