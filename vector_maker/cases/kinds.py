"""For every argument: another type, another shape, none, another kind of value, one at a time.

The errors come from the table of operations; that the oracle gives them is checked with every case.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.kinds import DTYPES, RECORDS, Field
from revrnn.operations import OPERATIONS

from .draft import Arguments, Array, Draft, Evaluate, f32, i16, i32, i64
from .requests import pushed, sequence, tiny, without, wrong

# A type with the same elements.
_NEIGHBOURS: Final = {
    "int16": "i32",
    "int32": "i64",
    "int64": "i32",
    "uint8": "i32",
    "uint16": "i32",
    "float32": "f64",
    "bool": "u8",
    "object": "i64",
}
_ODD: Final = (None, True, "4", 4.0)


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    asked: set[tuple[str, bool]] = set()
    for operation, given in _right(evaluate):
        single = {field.name: field for field in OPERATIONS[operation].arguments}
        for name, value in given.items():
            # An argument of several operations, once alone and once in a sequence or cell.
            place = (name, "config" in given)
            if place in asked:
                continue
            asked.add(place)
            if isinstance(value, np.ndarray):
                yield from _arrays(operation, given, name, value)
            elif name not in RECORDS and name != "formats":
                yield from _singles(operation, given, name, single[name])
    yield from _configurations()


def _right(evaluate: Evaluate) -> Iterator[tuple[str, Arguments]]:
    """Give a right request for each operation."""
    s = i64([6])
    yield "quantise", {"kind": "state", "x": f32([1.0])}
    yield "dequantise", {"q": i32([6]), "bits": 3}
    yield "round_shift", {"v": s, "k": 3}
    yield "product", {"a": i16([[5]]), "w": i16([[6]])}
    yield "tanh", {"s": s, "bits": 13}
    yield "forget_gate", {"s": s, "bits": 13, "max_forget_bits": 3, "z_max": 1000}
    yield "view", {"h": i32([6]), "state_bits": 23, "view_bits": 10}
    planes = {"words": np.ones((1, 1, 2), np.int64), "flags": np.ones(1, np.uint8)}
    yield (
        "revmul_inverse",
        pushed("wordlist", [[1, 2]], 512, [[9, 9]], slice_size=1, restore=i32([[1]]), **planes),
    )
    yield "revmul", pushed("stream", [[1, 2]], 512, [[32768] * 2], words=np.ones(1, np.uint16))
    gained = sequence("kinds gained", Config("revlstm", 1, 2, 2, slice_size=1), [[1]])
    gained |= {"gains": i32([[[[4096, 4096]]]]), "trace": False}
    yield "sequence_forward", gained
    forward = evaluate("sequence_forward", tiny())
    reverse = tiny() | {name: forward[name] for name in ("h", "c", "heads", "words", "flags")}
    yield "sequence_reverse", reverse | {"slices": forward["slices"]}
    loss = {"grad_outputs": f32([[[1, 1]]]), "grad_h": f32([[[1, 1]]]), "grad_c": f32([[[1, 1]]])}
    yield "sequence_gradient", tiny() | loss | {"states": "reversed"}


def _arrays(operation: str, given: Arguments, name: str, array: Array) -> Iterator[Draft]:
    """Give another type, other axes with the same elements, none, and a single value."""
    rules = ("EVAL-002", "ERR-002")
    kind = DTYPES[_NEIGHBOURS[array.dtype.name]]
    others: list[tuple[Any, str]] = [(array.astype(kind), "E_DTYPE"), (None, "E_DTYPE")]
    if array.ndim > 1:
        others += [(array.reshape(-1), "E_SHAPE"), (array[None], "E_SHAPE")]
    elif operation.startswith(("cell", "sequence", "revmul")):
        others += [(array[None], "E_SHAPE")]
    for other, error in others:
        yield wrong(operation, given | {name: other}, error, "unchecked_array", *rules)


def _odd_values(field: Field) -> list[Any]:
    """Return values of other kinds than a field's."""
    if field.kind.type == "bool":
        return [odd for odd in (*_ODD, 1) if odd is not True]
    return [odd for odd in _ODD if odd is not None or not field.none]


def _singles(operation: str, given: Arguments, name: str, field: Field) -> Iterator[Draft]:
    """Give values of other kinds."""
    for odd in _odd_values(field):
        error = field.kind.error
        yield wrong(operation, given | {name: odd}, error, "unchecked_value", "ERR-002")
    if not field.is_optional:
        lacking = without(given, name)
        yield wrong(operation, lacking, "E_ARGUMENT", "unchecked_name", "ERR-002")


def _configurations() -> Iterator[Draft]:
    """Give values of other kinds of each field of configuration and formats."""
    good = sequence("kinds", Config("revgru", 1, 2), [[1]])
    fields = [(field, False) for field in RECORDS["config"] if field.name != "formats"]
    fields += [(field, True) for field in RECORDS["formats"]]
    for field, inside in fields:
        for odd in _odd_values(field):
            if inside and odd == 4.0:
                continue  # the schema has no floats so deep
            changed = {"formats": {field.name: odd}} if inside else {field.name: odd}
            args = good | {"config": good["config"] | changed}
            error = field.kind.error
            yield wrong("sequence_forward", args, error, "unchecked_value", "ERR-002", "EVAL-003")
    none = good | {"config": good["config"] | {"formats": None, "z_max": None, "p_max": None}}
    yield Draft("sequence_forward", none, ("EVAL-003", "FMT-007"))
    yield wrong("tanh", {"s": {}, "bits": 13}, "E_DTYPE", "unchecked_array", "EVAL-002")
    # Numbers beyond 64 bits are of a wrong kind; those within are sizes.
    beyond = {"s": i64([6]), "bits": 2**64 + 13}
    yield wrong("tanh", beyond, "E_ARGUMENT", "unchecked_value", "EVAL-002")
    value = "unchecked_value"
    for name, number, error in (
        ("input_size", 2**63 - 1, "E_SHAPE"),
        ("input_size", 2**31, "E_SHAPE"),
        ("input_size", 2**63, "E_ARGUMENT"),
        ("num_layers", 10**6, "E_ARGUMENT"),
        ("hidden_size", 2**62, "E_SHAPE"),
        ("hidden_size", 2**53 + 1, "E_HIDDEN_SIZE"),  # which float64 has as an even number
        ("hidden_size", 2**63 - 1, "E_HIDDEN_SIZE"),
        ("hidden_size", 2**70, "E_HIDDEN_SIZE"),
    ):
        args = good | {"config": good["config"] | {name: number}}
        yield wrong("sequence_forward", args, error, value, "EVAL-002", "PROD-002")
