"""Names and texts that are nearly right: in another case, with a space, cut, or looking alike.

A port that takes them compares less than all characters (EVAL-001).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from revrnn.config import Config

from .draft import Arguments, Draft, Evaluate, f32, i16, i32, i64
from .requests import configured, pushed, rows_present, sequence, tiny, without, wrong

# Unknown names of operations, beginning with requests that are right but for the name.
_OPERATIONS: Final = (
    *("TANH", "Tanh", " tanh", "tanh ", "tanh\n", "tanh\0", "tanh\0x", "tan", "tanhh", ""),
    *("t\u0430nh", "__class__", "constructor", "toString", "__proto__", "hasOwnProperty"),
    # Which become `tanh` and `sigmoid` under Unicode's normal form NFKC.
    *("\uff54anh", "\u017figmoid"),
)
_OTHERS: Final = ("Forget_Gate", "forget-gate", "forgetGate", "forget gate")


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    for number, name in enumerate(_OPERATIONS):
        yield _misnamed(name, {"s": i64([number]), "bits": 13})
    gate: Arguments = {"bits": 13, "max_forget_bits": 3, "z_max": 1000}
    for number, name in enumerate(_OTHERS):
        yield _misnamed(name, {"s": i64([number]), **gate})
    yield _misnamed("REVMUL", pushed("stream", [[1, 2]], 512, [[32768] * 2]))
    # What a port may be greeted with is no operation, and an unknown name is E_OP before all else.
    yield _misnamed("hello", {"spec_version": "0.2"})
    yield _misnamed("Product", {"a": i16([[5]]), "w": i32([[6]]), "zz": 1})
    yield from _arguments()
    yield from _of_others()
    yield from _texts()


def _misnamed(name: str, args: Arguments) -> Draft:
    return wrong(name, args, "E_OP", "unchecked_name", "EVAL-001")


def _renamed(args: Arguments, name: str, new: str) -> Arguments:
    return without(args, name) | {new: args[name]}


def _arguments() -> Iterator[Draft]:
    """Give unknown names of arguments and fields, in the places of known ones and beside them."""

    def refused(operation: str, args: Arguments) -> Draft:
        return wrong(operation, args, "E_ARGUMENT", "unchecked_name", "EVAL-001", "ERR-002")

    s: Arguments = {"s": i64([5]), "bits": 13}
    for name, new in (("s", "S"), ("bits", "Bits"), ("bits", "bits "), ("bits", "bits\0")):
        yield refused("sigmoid", _renamed(s, name, new))
        yield refused("sigmoid", s | {new: s[name]})
    yield refused("sequence_forward", _renamed(tiny(), "weight_ih_l0", "weight_ih_l+0"))
    config = tiny()["config"]
    yield refused("sequence_forward", tiny(config=_renamed(config, "hidden_size", "hiddenSize")))
    for new in ("toString", "__proto__", "constructor", "\uff53"):
        yield refused("sigmoid", s | {new: s["s"]})
    for new in ("State_bits", "state_bits ", "", "toString", "__proto__"):
        args: Arguments = {"kind": "state", "x": f32([1]), "formats": {new: 20}}
        yield refused("quantise", args)


def _of_others() -> Iterator[Draft]:
    """Give names that other operations have, other cells, or other configurations."""

    def refused(operation: str, args: Arguments, rule: str) -> Draft:
        return wrong(operation, args, "E_ARGUMENT", "unchecked_name", rule)

    for operation in ("tanh", "sigmoid"):
        yield refused(operation, {"s": i64([7]), "bits": 13, "z_max": 1000}, "EVAL-004")
    keeping = sequence("names", Config("revgru", 1, 2, forgetting=False), np.zeros((0, 1)))
    yield refused("sequence_forward", keeping | {"heads": i64([[32768]])}, "EVAL-008")
    yield refused("sequence_forward", keeping | {"bias_l1": keeping["bias_l0"]}, "EVAL-008")
    yield refused("sequence_forward", keeping | {"states": "stored"}, "EVAL-008")
    slices = {"slices": np.zeros((1, 1, 0), np.int32)}
    yield refused("sequence_reverse", keeping | slices, "SEQ-007")
    loss = {"grad_outputs": f32(np.zeros((0, 1, 2))), "states": "reversed"}
    loss |= {f"grad_{name}": f32(np.zeros((1, 1, 2))) for name in "hc"}
    yield refused("sequence_gradient", keeping | loss, "EVAL-008")
    cell = sequence("names", Config("revgru", 1, 2, forgetting=False), [[1]])
    cell["x"] = cell["x"][0]
    yield refused("cell_forward", cell | {"mask": rows_present(True)}, "EVAL-007")


def _texts() -> Iterator[Draft]:
    """Give texts that are nearly one of those allowed."""

    def refused(operation: str, args: Arguments) -> Draft:
        return wrong(operation, args, "E_ARGUMENT", "unchecked_value", "EVAL-001", "EVAL-003")

    for kind in ("Operand", "state ", " state", "weights", "state\0", "st\u0430te", "\u017ftate"):
        yield refused("quantise", {"kind": kind, "x": f32([1])})
    yield refused("sequence_forward", configured(cell="RevLSTM"))
    for layout in ("Stream", "wordList"):
        yield refused("revmul", pushed("stream", [[1, 2]], 512, [[32768] * 2]) | {"layout": layout})
