"""Requests with a fault, and the code that the specification names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from revrnn import Config
from revrnn.conformance.contents import Arguments, Shape, gradient_arguments, sequence_arguments
from revrnn.evaluation import empty_store, fresh_heads

CONFIG = Config("revlstm", 3, 4, 2, 3, slice_size=1)


def forward() -> Arguments:
    return sequence_arguments(CONFIG, Shape(3, 2), np.random.default_rng(0))


def changed(name: str, value: Any) -> Arguments:
    return forward() | {name: value}


def configured(**changes: Any) -> Arguments:
    arguments = forward()
    return arguments | {"config": arguments["config"] | changes}


def without(name: str) -> Arguments:
    return {key: value for key, value in forward().items() if key != name}


def revmul(**changes: Any) -> Arguments:
    layout = changes.get("layout", "stream")
    given: Arguments = {
        "layout": layout,
        "slice_size": 0,
        "h": np.zeros((2, 3), np.int32),
        "z": np.full((2, 3), 1024, np.int32),
        "mask": np.array([True, True]),
        "heads": fresh_heads(layout, 2, 3),
        **empty_store(layout, 2, 3),
    }
    return given | changes


def inverse(**changes: Any) -> Arguments:
    return {"restore": np.zeros((2, changes.get("slice_size", 0)), np.int32)} | revmul(**changes)


def pop_from_empty() -> Arguments:
    return inverse(z=np.full((2, 3), 1, np.int32))


def reverse(**changes: Any) -> Arguments:
    arguments = forward() | empty_store("stream", 2, 2)
    arguments["slices"] = np.zeros((4, 2, 1), np.int32)
    return arguments | changes


def gradient(**changes: Any) -> Arguments:
    arguments = gradient_arguments(forward(), np.random.default_rng(0))
    return arguments | {"states": "reversed"} | changes


SUM = np.zeros(1, np.int64)
GATE = {"s": SUM, "bits": 24, "max_forget_bits": 3, "z_max": 1024}
PAIR = {"a": np.zeros((2, 3), np.int16), "w": np.zeros((4, 3), np.int16)}
X = np.zeros(2, np.float32)

# What is asked for, with what, and the code that must come back.
CASES: dict[str, tuple[str, Callable[[], Arguments], str]] = {
    "unknown operation": ("softmax", dict, "E_OP"),
    "missing argument": ("sequence_forward", lambda: without("mask"), "E_ARGUMENT"),
    "unknown argument": ("sequence_forward", lambda: changed("y", 1), "E_ARGUMENT"),
    "missing config": ("sequence_forward", lambda: changed("config", None), "E_ARGUMENT"),
    "unknown cell": ("sequence_forward", lambda: configured(cell="gru"), "E_ARGUMENT"),
    "unknown config name": ("sequence_forward", lambda: configured(proj_size=1), "E_ARGUMENT"),
    "trace is no bool": ("sequence_forward", lambda: changed("trace", 1), "E_ARGUMENT"),
    "unknown layout": ("sequence_forward", lambda: configured(buffer="list"), "E_ARGUMENT"),
    "no layers": ("sequence_forward", lambda: configured(num_layers=0), "E_ARGUMENT"),
    "forgetting is no bool": ("sequence_forward", lambda: configured(forgetting=1), "E_ARGUMENT"),
    "unknown kind": ("quantise", lambda: {"kind": "gate", "x": X}, "E_ARGUMENT"),
    "unknown states": ("sequence_gradient", lambda: gradient(states="both"), "E_ARGUMENT"),
    "bits out of range": ("tanh", lambda: {"s": SUM, "bits": 28}, "E_ARGUMENT"),
    "sigmoid bits": ("sigmoid", lambda: {"s": SUM, "bits": 27}, "E_ARGUMENT"),
    "bits are no number": ("tanh", lambda: {"s": SUM, "bits": True}, "E_ARGUMENT"),
    "shift out of range": ("round_shift", lambda: {"v": SUM, "k": 32}, "E_ARGUMENT"),
    "odd hidden size": ("sequence_forward", lambda: configured(hidden_size=5), "E_HIDDEN_SIZE"),
    "no hidden units": ("sequence_forward", lambda: configured(hidden_size=0), "E_HIDDEN_SIZE"),
    "0 bits": ("sequence_forward", lambda: configured(max_forget_bits=0), "E_FORGET_BITS"),
    "11 bits": ("sequence_forward", lambda: configured(max_forget_bits=11), "E_FORGET_BITS"),
    "half a bit": ("forget_gate", lambda: GATE | {"max_forget_bits": 0.5}, "E_FORGET_BITS"),
    "z_max too low": ("sequence_forward", lambda: configured(z_max=511), "E_FORMAT"),
    "z_max too high": ("forget_gate", lambda: GATE | {"z_max": 1025}, "E_FORMAT"),
    "too many bits": (
        "sequence_forward",
        lambda: configured(formats={"weight_bits": 14}),
        "E_FORMAT",
    ),
    "formats before the rest of config": (
        "sequence_forward",
        lambda: configured(proj_size=1, formats={"weight_bits": 99}),
        "E_FORMAT",
    ),
    "view wider than operand": (
        "sequence_forward",
        lambda: configured(formats={"operand_bits": 9}),
        "E_FORMAT",
    ),
    "view of a wrong state": (
        "view",
        lambda: {"h": np.zeros(1, np.int32), "state_bits": 25, "view_bits": 12},
        "E_FORMAT",
    ),
    "slice too wide": ("sequence_forward", lambda: configured(slice_size=3), "E_SLICE"),
    "slice while keeping all": (
        "sequence_forward",
        lambda: configured(forgetting=False),
        "E_SLICE",
    ),
    "wrong type of x": ("sequence_forward", lambda: changed("x", np.zeros((3, 2, 3))), "E_DTYPE"),
    "a list": ("sequence_forward", lambda: changed("x", [[[1, 2, 3]]]), "E_DTYPE"),
    "64-bit state": (
        "sequence_forward",
        lambda: changed("h", np.zeros((2, 2, 4), np.int64)),
        "E_DTYPE",
    ),
    "float64 input": ("quantise", lambda: {"kind": "state", "x": np.zeros(2)}, "E_DTYPE"),
    "mask of numbers": (
        "sequence_forward",
        lambda: changed("mask", np.ones((3, 2), np.int32)),
        "E_DTYPE",
    ),
    "wrong rows of h": (
        "sequence_forward",
        lambda: changed("h", np.zeros((2, 3, 4), np.int32)),
        "E_SHAPE",
    ),
    "one axis too few": (
        "sequence_forward",
        lambda: changed("x", np.zeros((3, 2), np.int16)),
        "E_SHAPE",
    ),
    "other steps": ("sequence_forward", lambda: changed("mask", np.ones((2, 2), bool)), "E_SHAPE"),
    "wrong weights": (
        "sequence_forward",
        lambda: changed("weight_hh_l1", np.zeros((20, 4), np.int16)),
        "E_SHAPE",
    ),
    "wrong slices": (
        "sequence_reverse",
        lambda: reverse(slices=np.zeros((3, 2, 1), np.int32)),
        "E_SHAPE",
    ),
    "no axes": ("tanh", lambda: {"s": np.zeros((), np.int64), "bits": 24}, "E_SHAPE"),
    "slices of no axes": (
        "revmul",
        lambda: revmul(h=np.zeros(3, np.int32), slice_size=2),
        "E_SHAPE",
    ),
    "inner lengths": ("product", lambda: PAIR | {"w": np.zeros((4, 2), np.int16)}, "E_SHAPE"),
    "no terms": (
        "product",
        lambda: {"a": np.zeros((2, 0), np.int16), "w": np.zeros((4, 0), np.int16)},
        "E_SHAPE",
    ),
    "too long": (
        "product",
        lambda: {name: np.zeros((1, 2**20 + 1), np.int16) for name in "aw"},
        "E_SHAPE",
    ),
    "no rows": ("revmul", lambda: revmul(mask=np.zeros(0, bool)), "E_SHAPE"),
    "not a number": (
        "quantise",
        lambda: {"kind": "operand", "x": np.array([0, np.nan], np.float32)},
        "E_NONFINITE",
    ),
    "infinity": (
        "quantise",
        lambda: {"kind": "weight", "x": np.array([-np.inf], np.float32)},
        "E_NONFINITE",
    ),
    "gradient not finite": (
        "sequence_gradient",
        lambda: gradient(grad_h=np.full((2, 2, 4), np.inf, np.float32)),
        "E_NONFINITE",
    ),
    "operand too large": (
        "product",
        lambda: PAIR | {"a": np.full((2, 3), 32513, np.int16)},
        "E_RANGE",
    ),
    "weight too small": (
        "product",
        lambda: PAIR | {"w": np.full((4, 3), -32768, np.int16)},
        "E_RANGE",
    ),
    "gate 0": ("revmul", lambda: revmul(z=np.zeros((2, 3), np.int32)), "E_RANGE"),
    "gate 1025": ("revmul", lambda: revmul(z=np.full((2, 3), 1025, np.int32)), "E_RANGE"),
    "head too small": (
        "revmul",
        lambda: revmul(heads=np.full((2, 3), 2**15 - 1, np.int64)),
        "E_RANGE",
    ),
    "head too large": ("revmul", lambda: revmul(heads=np.full((2, 3), 2**31, np.int64)), "E_RANGE"),
    "head below 0": (
        "revmul",
        lambda: revmul(layout="wordlist", heads=np.full((2, 3), -1, np.int64)),
        "E_RANGE",
    ),
    "too wide a pop": (
        "revmul_inverse",
        lambda: inverse(
            layout="wordlist", heads=np.full((2, 3), 2**62, np.int64), flags=np.zeros(1, np.uint8)
        ),
        "E_RANGE",
    ),
    "negative plane": (
        "revmul_inverse",
        lambda: inverse(layout="wordlist", words=np.full((1, 2, 3), -1, np.int64)),
        "E_RANGE",
    ),
    "negative plane of an inactive unit": (
        "revmul_inverse",
        lambda: inverse(
            layout="wordlist",
            mask=np.array([True, False]),
            words=np.array([[[5, 6, 7], [0, -1, 0]]]),
            flags=np.ones(1, np.uint8),
        ),
        "E_RANGE",
    ),
    "flag 2": (
        "revmul_inverse",
        lambda: inverse(layout="wordlist", flags=np.full(1, 2, np.uint8)),
        "E_RANGE",
    ),
    "sum of 2^62": ("round_shift", lambda: {"v": np.array([2**62]), "k": 1}, "E_RANGE"),
    "empty stream": ("revmul_inverse", pop_from_empty, "E_UNDERFLOW"),
    "one word for two": (
        "revmul_inverse",
        lambda: inverse(z=np.full((2, 3), 1, np.int32), words=np.zeros(1, np.uint16)),
        "E_UNDERFLOW",
    ),
    "empty wordlist": ("revmul_inverse", lambda: inverse(layout="wordlist"), "E_UNDERFLOW"),
    "flag without plane": (
        "revmul_inverse",
        lambda: inverse(layout="wordlist", flags=np.ones(1, np.uint8)),
        "E_UNDERFLOW",
    ),
    "empty store of a sequence": (
        "sequence_reverse",
        lambda: reverse(**{f"bias_l{layer}": np.full(20, -(2**31), np.int32) for layer in (0, 1)}),
        "E_UNDERFLOW",
    ),
}
