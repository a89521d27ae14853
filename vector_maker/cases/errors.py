"""The cases of ERR: requests with a fault, and which of several faults is reported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import empty_store

from .draft import Arguments, Draft, Evaluate, f32, i16, i32, i64, mistakes
from .requests import Contents, configured, pushed, rows_present, sequence, tiny, without, wrong

MISTAKES: Final = mistakes("""
unchecked_name ERR-002 A name that is unknown or missing is let through.
unchecked_value ERR-002 A setting outside its allowed values is let through, or wrongly reported.
unchecked_array ERR-002 A wrong type, shape or content of an array is let through.
error_order ERR-002 Of several faults another one than the first in order is reported.
""")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    yield from _faults()
    yield from _orders_of_faults()


def _faults() -> Iterator[Draft]:
    yield wrong("no_such_operation", {}, "E_OP", "unchecked_name")
    yield wrong("no_such_operation", {"kind": "state"}, "E_OP", "error_order", "ERR-002")
    yield from _faults_of_elementary()
    yield from _faults_of_buffers()
    yield from _faults_of_sequences()


def _faults_of_elementary() -> Iterator[Draft]:
    name, value, array = "unchecked_name", "unchecked_value", "unchecked_array"
    x, s = f32([0.5]), i64([5])
    quantise: Arguments = {"kind": "operand", "x": x}
    for numbers in ([0, np.nan], [np.inf, 0], [0, -np.inf]):
        yield wrong("quantise", quantise | {"x": f32(numbers)}, "E_NONFINITE", array, "QNT-004")
    yield wrong("quantise", quantise | {"x": np.array([0.5])}, "E_DTYPE", array, "QNT-003")
    yield wrong("quantise", quantise | {"kind": "gate"}, "E_ARGUMENT", value)
    yield wrong("quantise", {"kind": "operand"}, "E_ARGUMENT", name)
    yield wrong("quantise", {"x": x}, "E_ARGUMENT", name)
    yield wrong("quantise", quantise | {"bits": 12}, "E_ARGUMENT", name)
    yield wrong("quantise", quantise | {"formats": {"gate_bits": 15}}, "E_ARGUMENT", name)
    limits = {
        "state_bits": (15, 25),
        "operand_bits": (7, 14),
        "lstm_view_bits": (5, 13),
        "weight_bits": (7, 14),
    }
    for field, outside in limits.items():
        for number in outside:
            args = quantise | {"formats": {field: number}}
            yield wrong("quantise", args, "E_FORMAT", value, "FMT-002")
    # The default view is wider than these operands.
    args = quantise | {"formats": {"operand_bits": 9}}
    yield wrong("quantise", args, "E_FORMAT", value, "FMT-002")
    q = i32([1])
    for bits in (-1, 32):
        yield wrong("dequantise", {"q": q, "bits": bits}, "E_ARGUMENT", value)
        yield wrong("round_shift", {"v": s, "k": bits}, "E_ARGUMENT", value)
    yield wrong("dequantise", {"q": s, "bits": 3}, "E_DTYPE", array)
    yield wrong("dequantise", {"q": q, "bits": 3, "k": 3}, "E_ARGUMENT", name)
    for v in (2**62, -(2**62)):
        yield wrong("round_shift", {"v": i64([v]), "k": 1}, "E_RANGE", array, "EVAL-004")
    yield wrong("round_shift", {"v": q, "k": 1}, "E_DTYPE", array)
    pair: Arguments = {"a": i16([[1, 2]]), "w": i16([[3, 4]])}
    empty = np.zeros((1, 0), np.int16)
    bad: Arguments
    for bad in ({"a": empty, "w": empty}, {"a": i16([1, 2])}, {"w": i16([[3]])}):
        yield wrong("product", pair | bad, "E_SHAPE", array, "PROD-002")
    for operand in (32513, -32513, -32768):
        bad = {"w": i16([[3, operand]])}
        yield wrong("product", pair | bad, "E_RANGE", array, "PROD-002")
    yield wrong("product", pair | {"a": i32([[1, 2]])}, "E_DTYPE", array)
    for operation, outside in (("tanh", (7, 28)), ("sigmoid", (7, 27))):
        for bits in outside:
            yield wrong(operation, {"s": s, "bits": bits}, "E_ARGUMENT", value)
        yield wrong(operation, {"s": q, "bits": 24}, "E_DTYPE", array)
        yield wrong(operation, {"bits": 24}, "E_ARGUMENT", name)
    gate: Arguments = {"s": s, "bits": 24, "max_forget_bits": 3, "z_max": 1024}
    for limit in (0, 11, -1):
        args = gate | {"max_forget_bits": limit}
        yield wrong("forget_gate", args, "E_FORGET_BITS", value, "ACT-006")
    for z_max in (511, 1025):
        yield wrong("forget_gate", gate | {"z_max": z_max}, "E_FORMAT", value, "FMT-005")
    for bits in (7, 27):
        yield wrong("forget_gate", gate | {"bits": bits}, "E_ARGUMENT", value)
    yield wrong("forget_gate", without(gate, "max_forget_bits"), "E_ARGUMENT", name)
    yield wrong("forget_gate", gate | {"s": q}, "E_DTYPE", array)
    view: Arguments = {"h": q, "state_bits": 23, "view_bits": 12}
    for bad in ({"state_bits": 15}, {"state_bits": 25}, {"view_bits": 5}, {"view_bits": 14}):
        yield wrong("view", view | bad, "E_FORMAT", value, "FMT-002")
    yield wrong("view", view | {"h": s}, "E_DTYPE", array)


def _faults_of_buffers() -> Iterator[Draft]:
    value, array = "unchecked_value", "unchecked_array"
    bad: Arguments
    good = pushed("stream", [[1, 2]], 512, [[32768, 32768]])
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
        ({"mask": rows_present(True, True)}, "E_SHAPE"),
        ({"flags": np.zeros(1, np.uint8)}, "E_SHAPE"),
        ({"heads": i64([32768, 32768])}, "E_SHAPE"),
    ):
        yield wrong("revmul", good | bad, error, array, "EVAL-005", "EVAL-006")
    yield wrong("revmul", good | {"layout": "list"}, "E_ARGUMENT", value, "BUF-037")
    for width in (-1, 3):
        yield wrong("revmul", good | {"slice_size": width}, "E_SLICE", value, "EVAL-005")
    yield wrong("revmul", good | {"restore": wide}, "E_ARGUMENT", "unchecked_name")
    yield wrong("revmul", without(good, "mask"), "E_ARGUMENT", "unchecked_name")
    listed = pushed("wordlist", [[1, 2]], 512, [[0, 0]])
    for bad, error in (
        ({"heads": i64([[0, -1]])}, "E_RANGE"),
        ({"flags": np.array([2], np.uint8)}, "E_RANGE"),
        ({"words": np.zeros(0, np.uint16)}, "E_DTYPE"),
        ({"words": np.zeros((1, 1, 3), np.int64)}, "E_SHAPE"),
    ):
        yield wrong("revmul", listed | bad, error, array, "EVAL-006", "BUF-020")
    big = pushed("bigint", [[1, 2]], 512, [[0, 0]])
    for bad, error in (
        ({"heads": np.array([[0, -1]], object)}, "E_RANGE"),
        ({"heads": i64([[0, 1]])}, "E_DTYPE"),
        ({"words": np.zeros(1, np.uint16)}, "E_SHAPE"),
    ):
        yield wrong("revmul", big | bad, error, array, "EVAL-006", "BUF-010")
    inverse = good | {"restore": np.zeros((1, 0), np.int32)}
    bad = inverse | {"restore": np.zeros((1, 1), np.int32)}
    yield wrong("revmul_inverse", bad, "E_SHAPE", array, "EVAL-005")
    yield wrong("revmul_inverse", good, "E_ARGUMENT", "unchecked_name", "EVAL-005")


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
        yield wrong("sequence_forward", configured(**bad), error, value, "EVAL-003")
    # What means nothing where no gate forgets is looked at all the same.
    keeping = sequence("keeping", Config("revlstm", 1, 2, forgetting=False), np.zeros((0, 1)))
    for bad, error in (({"z_max": 511}, "E_FORMAT"), ({"buffer": "list"}, "E_ARGUMENT")):
        args = keeping | {"config": keeping["config"] | bad}
        yield wrong("sequence_forward", args, error, value, "EVAL-003")
    yield wrong("sequence_forward", configured(proj_size=1), "E_ARGUMENT", name, "EVAL-003")
    config = tiny()["config"]
    for field in ("cell", "input_size", "hidden_size"):
        args = tiny(config=without(config, field))
        yield wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-003")
    for field in ("config", "weight_hh_l0", "x", "mask", "c", "heads"):
        yield wrong("sequence_forward", without(tiny(), field), "E_ARGUMENT", name, "EVAL-008")
    for extra in ("words", "slices", "weight_ih_l1", "formats"):
        args = tiny(**{extra: np.zeros(0, np.uint16)})
        if extra == "formats":
            args[extra] = {}
        yield wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-008")
    gru = sequence("faults gru", Config("revgru", 1, 2), [[1]], Contents(state=9))
    args = gru | {"c": gru["h"].copy()}
    yield wrong("sequence_forward", args, "E_ARGUMENT", name, "EVAL-008")
    yield wrong("sequence_forward", tiny(trace="yes"), "E_ARGUMENT", value, "EVAL-009")
    good = tiny()
    for bad, error in (
        ({"x": i32([[[1]]])}, "E_DTYPE"),
        ({"mask": np.ones((1, 1), np.uint8)}, "E_DTYPE"),
        ({"h": i64(good["h"])}, "E_DTYPE"),
        ({"x": i16([[1]])}, "E_SHAPE"),
        ({"mask": np.ones((2, 1), np.bool_)}, "E_SHAPE"),
        ({"c": np.zeros((1, 2, 2), np.int32)}, "E_SHAPE"),
        ({"weight_ih_l0": i16(good["weight_ih_l0"][:-1])}, "E_SHAPE"),
        ({"x": i16([[[32513]]])}, "E_RANGE"),
        ({"heads": i64([[2**31]])}, "E_RANGE"),
    ):
        yield wrong("sequence_forward", good | bad, error, array, "EVAL-008")
    store = empty_store("stream", 1, 1)
    reverse = good | store | {"slices": np.zeros((2, 1, 1), np.int32)}
    args = reverse | {"slices": np.zeros((3, 1, 1), np.int32)}  # one too many
    yield wrong("sequence_reverse", args, "E_SHAPE", array, "SEQ-007")
    yield wrong("sequence_reverse", without(reverse, "slices"), "E_ARGUMENT", name, "SEQ-007")
    drop = reverse | {"bias_l0": np.full(10, -(2**31), np.int32)}
    yield wrong("sequence_reverse", drop, "E_UNDERFLOW", "underflow", "BUF-032")
    # What would be too wide comes after the underflow, and so means nothing.
    listed = Config("revgru", 1, 2, buffer="wordlist")
    later = sequence("underflow first", listed, [[1, 1], [1, 0]]) | empty_store("wordlist", 2, 1)
    later |= {"heads": i64([[0], [2**63 - 1]])}
    yield wrong("sequence_reverse", later, "E_UNDERFLOW", "underflow", "BUF-023")
    yield wrong("sequence_storage", good | {"trace": True}, "E_ARGUMENT", name, "EVAL-008")
    loss = {"grad_h": f32(np.zeros((1, 1, 2))), "grad_c": f32(np.zeros((1, 1, 2)))}
    gradient = good | loss | {"grad_outputs": f32(np.zeros((1, 1, 2))), "states": "reversed"}
    for bad, error, catches in (
        ({"states": "both"}, "E_ARGUMENT", value),
        ({"grad_h": np.zeros((1, 1, 2))}, "E_DTYPE", array),
        ({"grad_outputs": f32(np.zeros((2, 1, 2)))}, "E_SHAPE", array),
        ({"grad_c": f32([[[0.0, np.inf]]])}, "E_NONFINITE", array),
    ):
        yield wrong("sequence_gradient", gradient | bad, error, catches, "EVAL-008")
    cell = without(gru, "mask") | store | {"x": gru["x"][0]}
    args = cell | {"config": gru["config"] | {"slice_size": 1}}
    for operation in ("cell_forward", "cell_reverse"):
        yield wrong(operation, args, "E_SLICE", value, "EVAL-007")
        yield wrong(operation, cell | {"x": gru["x"]}, "E_SHAPE", array, "EVAL-007")
        yield wrong(operation, without(cell, "words"), "E_ARGUMENT", name, "EVAL-007")
    two = sequence("faults two", Config("revgru", 1, 2, 2), [[1]], Contents(state=9))
    bad = {"weight_hh_l1": i16([[0]] * 5 + [[-32513]])}
    yield wrong("sequence_forward", two | bad, "E_RANGE", array, "PROD-002")
    two = without(two, "mask") | store | {"x": two["x"][0]}
    yield wrong("cell_forward", two, "E_ARGUMENT", value, "EVAL-007")


def _orders_of_faults() -> Iterator[Draft]:
    """Give two neighbouring faults of ERR-002 at a time: the first is to be reported."""
    good = tiny()
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
        yield wrong("sequence_forward", args, first[0], "error_order", *rules)
    everything = dict(good)
    for _, changes, settings in faults:
        everything |= changes
        everything["config"] = everything["config"] | settings
    yield wrong("sequence_forward", everything, "E_FORMAT", "error_order", *rules)
    # Types of all arrays come before shapes of any, shapes before contents.
    pair: Arguments = {"a": i16([[32767]]), "w": i16([[3, 4]])}
    yield wrong("product", pair, "E_SHAPE", "error_order", *rules)
    yield wrong("product", pair | {"w": i32([[3, 4]])}, "E_DTYPE", "error_order", *rules)
    gate: Arguments = {"s": i64([5]), "bits": 7, "max_forget_bits": 0, "z_max": 0}
    yield wrong("forget_gate", gate, "E_ARGUMENT", "error_order", *rules)
    gate |= {"bits": 24}
    yield wrong("forget_gate", gate, "E_FORGET_BITS", "error_order", *rules)
    bad: Arguments = {"kind": "gate", "x": np.array([np.nan]), "formats": {"state_bits": 99}}
    yield wrong("quantise", bad, "E_FORMAT", "error_order", *rules)
    bad = bad | {"formats": {}}
    yield wrong("quantise", bad, "E_ARGUMENT", "error_order", *rules)
    bad = bad | {"kind": "operand"}
    yield wrong("quantise", bad, "E_DTYPE", "error_order", *rules)
    revmul = pushed("stream", [[1, 2]], 2000, [[0, 0]])
    args = revmul | {"slice_size": 5}
    yield wrong("revmul", args, "E_SLICE", "error_order", *rules)
    args = revmul | {"slice_size": 5, "layout": "list"}
    yield wrong("revmul", args, "E_ARGUMENT", "error_order", *rules)
