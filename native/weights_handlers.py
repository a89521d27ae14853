"""A stack's weights packed by calls of XLA's: for products, and as real numbers for gradients.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.weights`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import Array, i64, inner
from .frames import (
    argument,
    asks_for_metadata,
    buffers,
    floats_1,
    floats_2,
    floats_3,
    ints_2,
    longs_2,
    result,
    shorts_1,
    shorts_2,
    shorts_3,
    unexpected,
)
from .packing import pack_float, pack_int16
from .sums import BIAS, CANDIDATE, INPUT, VIEW
from .tasks import Handler

# Input weights of layer 0, of the layers above, recurrent weights by layer.
_WEIGHTS = ("i16[2]", "i16[3]", "i16[3]")
# And biases, or the value of a weight's last bit.
_FOR_SUMS = buffers(*_WEIGHTS, "i32[2]"), buffers("i16[1]", "i16[2]", "i16[3]", "i16[3]", "i64[2]")
_FOR_GRADIENTS = buffers(*_WEIGHTS, "f32[1]"), buffers("f32[2]", "f32[3]", "f32[3]", "f32[3]")
_NONE, _NOWHERE = buffers(), np.zeros((0, 2), np.int64)


@inner
def _largest(bias: Array) -> Any:
    most = i64(0)
    for value in bias:
        most = max(most, abs(i64(value)))
    return most


@inner
def _pack_for_sums(frame: int) -> None:
    """Pack weights as right operands of exact products; write norms and the largest biases."""
    w_x, above = shorts_2(argument(frame, 0)), shorts_3(argument(frame, 1))
    both, bias = shorts_3(argument(frame, 2)), ints_2(argument(frame, 3))
    w_l, w_h = shorts_2(result(frame, 1)), shorts_3(result(frame, 2))
    w_u, norms = shorts_3(result(frame, 3)), longs_2(result(frame, 4))
    rows, units = both.shape[1] // 2, both.shape[2]
    seen = 2 * units if len(w_u) else rows
    norms[:] = 0
    norms[0, INPUT] = pack_int16(w_x, shorts_1(result(frame, 0)))
    for k in range(len(above)):
        norms[k + 1, INPUT] = pack_int16(above[k], w_l[k])
    for k in range(len(both)):
        norms[k, BIAS] = _largest(bias[k])
        for j in range(2):
            middle = j * rows + seen
            norms[k, VIEW + j] = pack_int16(both[k, j * rows : middle], w_h[k, j])
            if len(w_u):
                norms[k, CANDIDATE + j] = pack_int16(both[k, middle : (j + 1) * rows], w_u[k, j])


@inner
def _pack_for_gradients(frame: int) -> None:
    """Pack weights by group as right operands of products of real numbers."""
    w_x, above = shorts_2(argument(frame, 0)), shorts_3(argument(frame, 1))
    both, scale = shorts_3(argument(frame, 2)), np.float64(floats_1(argument(frame, 3))[0])
    to_x, to_l = floats_2(result(frame, 0)), floats_3(result(frame, 1))
    to_h, to_u = floats_3(result(frame, 2)), floats_3(result(frame, 3))
    rows, units = both.shape[1] // 2, both.shape[2]
    seen = 2 * units if len(to_u) else rows
    for j in range(2):
        first, middle, end = j * rows, j * rows + seen, (j + 1) * rows
        pack_float(w_x[first:end], scale, to_x[j])
        for k in range(len(above)):
            pack_float(above[k, first:end], scale, to_l[k, j])
        for k in range(len(both)):
            pack_float(both[k, first:middle], scale, to_h[k, j])
            if len(to_u):
                pack_float(both[k, middle:end], scale, to_u[k, j])


def handler(gradients: bool) -> Handler:
    """Return a handler to be compiled, of weights for gradients or for sums."""
    given, made = _FOR_GRADIENTS if gradients else _FOR_SUMS

    def handle(frame: int) -> Any:
        if asks_for_metadata(frame):
            return 0
        error = unexpected(frame, given, made, _NONE, _NOWHERE)
        if error == 0 and gradients:
            _pack_for_gradients(frame)
        elif error == 0:
            _pack_for_sums(frame)
        return error

    return handle
