"""Gradients of a chunk: recurrence by shares of the rows, then products by parts; its handler.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.gradient`, and of
:mod:`revrnn.torch_impl.native.gradient`, which calls shares itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, Maybe, hold, i64, inner
from .frames import (
    argument,
    floats_1,
    floats_2,
    floats_3,
    floats_4,
    ints_1,
    ints_2,
    pointer,
    result,
)
from .own_rows import columns_of, put_states, states_of
from .packing import pack_float, packed_floats, room_of_floats
from .parameter_gradients import add_layer, input_gradient
from .pullback import pull
from .records import Factors, Outputs
from .tasks import AGAIN, BELOW, COUNT, DS, FRAME, INDEX, part_of, run_by_helpers, task_at, tasks_of

_carray: Any = carray
_FLOAT: Any = types.float32


@inner
def _factors(frame: int) -> Any:
    pieces, operands = floats_1(argument(frame, 0)), floats_1(argument(frame, 1))
    return Factors(pieces, operands, floats_1(argument(frame, 2)))


@inner
def _ds(task: Array, columns: int) -> Any:
    """Return the gradients of pre-activations, ``[L, 2, C, B, N·G]``."""
    layers, _, rows, _ = floats_4(result(task[FRAME], 0)).shape
    steps = floats_3(argument(task[FRAME], 4)).shape[0]
    return _carray(pointer(task[DS], _FLOAT), (layers, 2, steps, rows, columns))


@inner
def carry_back_share(address: int, w_u: Maybe, dc: Maybe, forgetting: bool) -> None:
    """Carry gradients of a share's rows back over a chunk; ``dc`` is those rows' own."""
    task = task_at(address)
    frame, dh = task[FRAME], floats_4(result(task[FRAME], 0))
    first, end = part_of(task, dh.shape[2], i64(1))
    own = states_of(dh, first, end)
    outputs = Outputs(floats_3(argument(frame, 5)), first)
    aside_at = columns_of(ints_2(argument(frame, 3)), first, end)
    w_l, w_h = floats_3(argument(frame, 7)), floats_3(argument(frame, 8))
    ds = _ds(task, floats_1(result(frame, 5)).size // 2)
    pull(own, dc, outputs, _factors(frame), aside_at, w_l, w_h, w_u, forgetting, ds)
    put_states(dh, first, own)


@inner
def parameters_share(address: int, first_piece: int, of_u: int) -> None:
    """Add a share's part to the gradients of parameters, and write that of the input.

    Args:
        address: of the task.
        first_piece: the piece of the tape that has the view.
        of_u: the one that has RevGRU's other operand, or −1.
    """
    task = task_at(address)
    frame, x = task[FRAME], floats_3(argument(task[FRAME], 4))
    layers, _, _, units = floats_4(result(frame, 0)).shape
    ds = _ds(task, floats_1(result(frame, 5)).size // 2)
    total, columns = ds.shape[2] * ds.shape[3], ds.shape[4]
    flat, dx = ds.reshape(layers, 2, total, columns), floats_3(result(frame, 2))
    first, end = part_of(task, total, i64(8))
    if first < end and dx.size:
        to = dx.reshape(total, x.shape[2])[first:end]
        input_gradient(flat[0], floats_2(argument(frame, 6)), first, to)
    pieces, at = floats_1(argument(frame, 0)), i64(0)
    for k in range(layers):
        of_input, of_state = floats_2(result(frame, 3 + 3 * k)), floats_2(result(frame, 4 + 3 * k))
        of_bias, width = floats_1(result(frame, 5 + 3 * k)), of_input.shape[1]
        size = packed_floats(width, total)
        below = _carray(pointer(task[BELOW] + 4 * at, _FLOAT), (size,))
        seen, layer, to_ = (first_piece, of_u), (i64(k), layers), (of_input, of_state, of_bias)
        add_layer(flat[k], below, pieces, seen, layer, units, *to_, task[INDEX], task[COUNT])
        at += size


@inner
def pull_back(frame: int, share: int) -> bool:
    """Carry gradients back over a chunk, and add to those of parameters, all shares."""
    x, operands = floats_3(argument(frame, 4)), floats_1(argument(frame, 1))
    layers, _, rows, units = floats_4(result(frame, 0)).shape
    total, hidden = x.shape[0] * rows, 2 * units
    columns = floats_1(result(frame, 5)).size // 2
    tasks = tasks_of(frame, ints_1(argument(frame, 12))[0])
    ds = np.empty(layers * 2 * total * columns, np.float32)
    of_x, above = packed_floats(x.shape[2], total), packed_floats(hidden, total)
    below = room_of_floats(of_x + (layers - 1) * above)
    for k in range(len(tasks)):
        tasks[k, DS], tasks[k, BELOW] = ds.ctypes.data, below.ctypes.data
    if not run_by_helpers(share, tasks):
        return False
    pack_float(x.reshape(total, x.shape[2]), 1.0, below[:of_x])
    for k in range(1, layers):
        at, to = (k - 1) * total * hidden, of_x + (k - 1) * above
        seen = operands[at : at + total * hidden].reshape(total, hidden)
        pack_float(seen, 1.0, below[to : to + above])
    for k in range(len(tasks)):
        tasks[k, AGAIN] = 1
    enough: bool = run_by_helpers(share, tasks)
    hold(ds)
    hold(below)
    return enough
