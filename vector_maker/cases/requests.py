"""Requests that many cases begin with: a multiplication, a sequence, and a request with a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from revrnn.config import Config
from revrnn.evaluation import empty_store, fresh_heads
from revrnn.formats import Formats

from .draft import Arguments, Array, Draft, Evaluate, Numbers, i32, i64

Mask = Sequence[Sequence[int]] | Array


def pushed(layout: str, h: Any, z: Any, heads: Any, **others: Any) -> Arguments:
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


def first_sum(
    evaluate: Evaluate, operation: str, settings: Arguments, result: str, wanted: int
) -> int:
    """Return the least pre-activation at which a function of one is at least ``wanted``."""
    high: int = 8 << settings["bits"]
    low = -high
    while high - low > 1:
        middle = (low + high) // 2
        answer = evaluate(operation, {"s": i64([middle]), **settings})[result]
        low, high = (middle, high) if answer[0] < wanted else (low, middle)
    return high


def rows_present(*rows: bool) -> Array:
    """Return the mask of one step."""
    return np.array(rows, np.bool_)


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


USUAL: Final = Contents()
FORGETFUL: Final = Contents(forget=-(2**24))
STILL: Final = Contents(weights=0, inputs=0, bias=0, state=0)


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
    name: str, config: Config, mask: Mask, contents: Contents = USUAL, heads: Sequence[int] = ()
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


CARRIED_HEADS: Final = {
    "stream": (32768, 40000, 2**21, 2**26 + 12345, 2**31 - 1),
    "wordlist": (0, 5, 2**53 - 1, 2**40, 2**53),
    "bigint": (0, 1, 2**63, 2**100 + 7),
}
# Masks, ``[T][B]``.
LENGTHS: Final = [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
HOLES: Final = [[1, 0], [0, 0], [1, 1], [0, 1]]


def rules_of(config: Config) -> tuple[str, ...]:
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


def wrong(operation: str, args: Arguments, error: str, catches: str, *rules: str) -> Draft:
    """Return a request that is answered by an error."""
    return Draft(operation, args, ("ERR-001", *rules), (catches,), error)


def tiny(**changes: Any) -> Arguments:
    """Return a small right request for ``sequence_forward``."""
    config = Config("revlstm", 1, 2, 1, 3, slice_size=1)
    args = sequence("faults", config, [[1]], Contents(weights=9, inputs=9, bias=9, state=9))
    return args | changes


def configured(**changes: Any) -> Arguments:
    """Return the same request with changes of its configuration."""
    return tiny(config=tiny()["config"] | changes)


def without(args: Arguments, name: str) -> Arguments:
    """Return a request that lacks a name."""
    return {key: value for key, value in args.items() if key != name}
