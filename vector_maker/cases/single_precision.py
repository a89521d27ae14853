"""What ports get wrong whose numbers are all binary32, or float64: exact only where they are small.

Each request has one product or sum, beyond 2^24, whose last bit decides a result.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from revrnn.config import Config
from revrnn.formats import Formats

from .draft import Draft, Evaluate, i32, i64
from .requests import STILL, first_sum, sequence


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    for s, bits in ((4784385, 27), (4444657, 24)):
        yield Draft("tanh", {"s": i64([s]), "bits": bits}, ("ACT-002",), ("slope_float32",))
    gate = {"s": i64([8211]), "bits": 16, "max_forget_bits": 10, "z_max": 1024}
    yield Draft("forget_gate", gate, ("ACT-004",), ("limit_float32",))
    yield from _of_revgru(evaluate)
    yield from _of_revlstm()
    yield from _of_gains()


def _of_revgru(evaluate: Evaluate) -> Iterator[Draft]:
    """Give steps of one unit a group, most of whose gates are set by their biases."""

    def bias(function: str, wanted: int) -> int:
        """Return a pre-activation with 24 fraction bits that gives a value."""
        return first_sum(evaluate, function, {"bits": 24}, "y", wanted)

    plain = Config("revgru", 1, 2, forgetting=False)
    args = sequence("pre-activation beyond 2^24", plain, [[1]], STILL)
    args["bias_l0"] = i32([-(2**30), 0, 19680781] * 2)
    yield Draft("sequence_forward", args, ("PROD-004", "CELL-030"), ("preactivation_float32",))
    # r = 1443 times a view of 27125; the candidate's pre-activation is near 0.
    args = sequence("candidate's product", plain, [[1]], STILL)
    args["h"] = i32([[[0, 27125 << 11]]])
    args["weight_hh_l0"] = np.array([[0], [0], [32512]] * 2, np.int16)
    near = -(1443 * 27125 + 2**14 >> 15) * 32512
    args["bias_l0"] = i32([-(2**30), bias("sigmoid", 1443), near] * 2)
    yield Draft("sequence_forward", args, ("CELL-011", "CELL-030"), ("reset_float32",))
    other = Config("revgru", 1, 2, formats=Formats(state_bits=22))
    args = sequence("update's product", other, [[1]], STILL)
    args["bias_l0"] = i32([-(2**30), 0, bias("tanh", 16405)] * 2)
    yield Draft("sequence_forward", args, ("CELL-012",), ("update_float32",))


def _of_revlstm() -> Iterator[Draft]:
    """Give a cell state that no gate changes."""
    args = sequence("cell state", Config("revlstm", 1, 2, forgetting=False), [[1]], STILL)
    args["c"] = i32([[[17393663, -17393663]]])
    args["bias_l0"] = i32([0, 0, 2**30] * 2)
    yield Draft("sequence_forward", args, ("CELL-022", "CELL-031"), ("cell_float32",))


def _of_gains() -> Iterator[Draft]:
    """Give a layer that stays as it is, and one whose candidate sees an operand of it."""
    args = sequence("gain", Config("revgru", 1, 2, 2, forgetting=False), [[1]], STILL)
    args["h"] = i32([[[595 << 11, 0]], [[0, 0]]])
    args["gains"] = i32([[[[34341, 0]]]])
    args["weight_ih_l1"] = np.array([[0, 0], [0, 0], [32512, 0]] * 2, np.int16)
    near = -(595 * 34341 + 2**11 >> 12) * 32512
    args["bias_l1"] = i32([-(2**30), 0, near] * 2)
    yield Draft("sequence_forward", args, ("SEQ-012", "CELL-030"), ("gain_float32",))
