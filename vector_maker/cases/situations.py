"""What the text says of situations that rules share (docs/rules-and-situations.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from revrnn.config import Config

from .draft import Arguments, Draft, Evaluate, f32, i32, i64
from .requests import STILL, configured, pushed, rows_present, sequence, tiny, without, wrong


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    name, value, array = "unchecked_name", "unchecked_value", "unchecked_array"
    gate: Arguments = {"s": i64([5]), "bits": 24, "max_forget_bits": None, "z_max": 1024}
    yield wrong("forget_gate", gate | {"z_max": None}, "E_FORMAT", value, "EVAL-004")
    yield wrong("forget_gate", without(gate, "z_max"), "E_ARGUMENT", name, "EVAL-004")
    stray: Arguments = {"config": {"cell": "gru", "formats": {"state_bits": 99}}}
    yield wrong("tanh", {"s": i64([5]), "bits": 24} | stray, "E_ARGUMENT", name, "ERR-002")
    stray = {"formats": {"state_bits": 99}}
    yield wrong("sequence_storage", tiny() | stray, "E_ARGUMENT", name, "ERR-002")
    wide = configured(input_size=2**20 + 1)
    yield wrong("sequence_forward", wide, "E_SHAPE", array, "PROD-002")
    # Members of an array, one too few or too many: an object, and no array.
    shapes: tuple[Any, ...] = (
        {"dtype": "i64", "shape": 1},
        {"data": 5, "dtype": "i64", "shape": 1, "x": 1},
    )
    for shape in shapes:
        args = {"s": shape, "bits": 24}
        yield wrong("tanh", args, "E_DTYPE", array, "CONF-004")
    for odd in ({"dtype": "i64"}, None, 7, "revgru"):
        error = "E_ARGUMENT"
        yield wrong("sequence_forward", tiny(config=odd), error, value, "EVAL-003")
    good = pushed("stream", [[1, 2]], 512, [[32768, 32768]])
    for width in (-1, 3, "one"):
        bad = good | {"slice_size": width, "h": i32([1, 2])}
        yield wrong("revmul", bad, "E_SHAPE", array, "EVAL-005")
        bad = good | {"slice_size": width, "h": None}
        yield wrong("revmul", bad, "E_DTYPE", array, "EVAL-005")
    loss = {name: f32(np.zeros((1, 1, 2))) for name in ("grad_outputs", "grad_h", "grad_c")}
    for field in loss:
        args = tiny(states="stored") | loss | {field: f32([[[0.0, np.nan]]])}
        yield wrong("sequence_gradient", args, "E_NONFINITE", array, "EVAL-008")
    # A row masked out takes a flag and a plane from layout wordlist all the same.
    for flag in (0, 1):
        store = {
            "words": np.arange(4, dtype=np.int64).reshape(1, 2, 2),
            "flags": np.array([1, flag], np.uint8),
        }
        args = pushed("wordlist", [[5, -6], [7, 8]], 700, np.full((2, 2), 9), **store)
        args |= {"mask": rows_present(False, False), "restore": np.zeros((2, 0), np.int32)}
        yield Draft("revmul_inverse", args, ("BUF-023", "MUL-004"))
    # Sliced units wrap and are counted; their gates are not. One row is masked out.
    config = Config("revlstm", 1, 4, z_max=1024, p_max=1024, slice_size=2)
    args = sequence("sliced wraps", config, [[1, 0], [1, 0]], STILL)
    args |= {
        "bias_l0": i32([2**30] * 20),
        "h": i32([[[2**31 - 1] * 4] * 2]),
        "c": i32([[[0] * 4] * 2]),
    }
    rules = ("MUL-005", "MUL-006", "SEQ-007")
    yield Draft("sequence_forward", args, rules)
    yield Draft("sequence_storage", args, ("ACC-001", "ACC-003"), ("count_sliced",))
