"""Gradients of a chunk: recurrence by shares of the rows, then products by parts; its handler.

Arguments and results by number are those of :mod:`revrnn.jax_impl.native.gradient`, and of
:mod:`revrnn.torch_impl.native.gradient`, which calls shares itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from .compiling import Array, Maybe, f32, hold, i64, inner
from .float_parts import BLOCK
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
    shorts_3,
)
from .own_rows import columns_of, put_states, states_of
from .packing import pack_terms, packed_floats, room_of_floats
from .parameter_gradients import add_layer, input_gradient
from .pullback import pull
from .records import Factors, Outputs
from .tasks import (
    AGAIN,
    BELOW,
    COUNT,
    DS,
    FRAME,
    INDEX,
    LEFT,
    last_chunk,
    part_of,
    run_by_helpers,
    task_at,
    tasks_of,
)

_carray: Any = carray
_FLOAT: Any = types.float32


@inner
def _factors(frame: int) -> Any:
    pieces, operands = floats_1(argument(frame, 0)), floats_1(argument(frame, 1))
    return Factors(pieces, operands, floats_1(argument(frame, 2)))


@inner
def _chunk(task: Array) -> Any:
    """Return the first and the end of a chunk's steps, and its operands int16 ``[C, B, I]``."""
    x = shorts_3(argument(task[FRAME], 4))
    begin, stop = last_chunk(task, x.shape[0])
    return begin, stop, x[begin:stop]


@inner
def _ds(task: Array, steps: int) -> Any:
    """Return the gradients of pre-activations, ``[L, 2, C, B, N·G]``."""
    layers, _, rows, _ = floats_4(result(task[FRAME], 0)).shape
    columns = floats_1(result(task[FRAME], 5)).size // 2
    return _carray(pointer(task[DS], _FLOAT), (layers, 2, steps, rows, columns))


@inner
def _below(task: Array, layer: int, terms: int) -> Any:
    """Return the place of a layer's input, packed, with so many terms."""
    frame, at = task[FRAME], i64(0)
    for k in range(layer):
        at += packed_floats(floats_2(result(frame, 3 + 3 * k)).shape[1], terms)
    size = packed_floats(floats_2(result(frame, 3 + 3 * layer)).shape[1], terms)
    return _carray(pointer(task[BELOW] + 4 * at, _FLOAT), (size,))


@inner
def _pack_inputs(task: Array, x: Array, operands: Array) -> None:
    """Pack a share's terms of all layers' inputs, with which products will be made."""
    frame, (steps, batch, length) = task[FRAME], x.shape
    layers, _, _, units = floats_4(result(frame, 0)).shape
    total, hidden = steps * batch, 2 * units
    first, end = part_of(task, total, i64(BLOCK))
    unit = f32(2.0 ** -ints_1(argument(frame, 12))[1])
    pack_terms(x.reshape(total, length), unit, first, end, _below(task, i64(0), total))
    for k in range(1, layers):
        seen = operands[(k - 1) * total * hidden : k * total * hidden].reshape(total, hidden)
        pack_terms(seen, f32(1), first, end, _below(task, i64(k), total))


@inner
def carry_back_share(address: int, w_u: Maybe, dc: Maybe, forgetting: bool) -> None:
    """Carry gradients of a share's rows back over a chunk; ``dc`` is those rows' own."""
    task = task_at(address)
    frame, dh = task[FRAME], floats_4(result(task[FRAME], 0))
    begin, stop, x = _chunk(task)
    factors, ds = _factors(frame), _ds(task, stop - begin)
    _pack_inputs(task, x, factors.operands)
    first, end = part_of(task, dh.shape[2], i64(1))
    own = states_of(dh, first, end)
    outputs = Outputs(floats_3(argument(frame, 5))[begin:stop], first)
    aside_at = columns_of(ints_2(argument(frame, 3))[begin:stop], first, end)
    w_l, w_h = floats_3(argument(frame, 7)), floats_3(argument(frame, 8))
    pull(own, dc, outputs, factors, aside_at, w_l, w_h, w_u, forgetting, ds)
    put_states(dh, first, own)
    task[LEFT] = begin


@inner
def parameters_share(address: int, first_piece: int, of_u: int) -> None:
    """Add a share's part to the gradients of parameters, and write that of the input.

    Args:
        address: of the task.
        first_piece: the piece of the tape that has the view.
        of_u: the one that has RevGRU's other operand, or −1.
    """
    task = task_at(address)
    frame, dh = task[FRAME], floats_4(result(task[FRAME], 0))
    begin, stop, x = _chunk(task)
    layers, _, rows, units = dh.shape
    ds, total = _ds(task, stop - begin), (stop - begin) * rows
    flat, dx = ds.reshape(layers, 2, total, ds.shape[4]), floats_3(result(frame, 2))[begin:stop]
    first, end = part_of(task, total, i64(8))
    if first < end and dx.size:
        to = dx.reshape(total, x.shape[2])[first:end]
        input_gradient(flat[0], floats_2(argument(frame, 6)), first, to)
    pieces = floats_1(argument(frame, 0))
    for k in range(layers):
        of_input, of_state = floats_2(result(frame, 3 + 3 * k)), floats_2(result(frame, 4 + 3 * k))
        of_bias, below = floats_1(result(frame, 5 + 3 * k)), _below(task, i64(k), total)
        seen, layer, to_ = (first_piece, of_u), (i64(k), layers), (of_input, of_state, of_bias)
        add_layer(flat[k], below, pieces, seen, layer, units, *to_, task[INDEX], task[COUNT])
    task[LEFT] = begin


@inner
def pull_back(frame: int, share: int) -> bool:
    """Carry gradients back over a chunk, and add to those of parameters, all shares."""
    x = shorts_3(argument(frame, 4))
    layers, _, rows, units = floats_4(result(frame, 0)).shape
    total, columns = x.shape[0] * rows, floats_1(result(frame, 5)).size // 2
    tasks = tasks_of(frame, ints_1(argument(frame, 12))[0])
    ds = np.empty(layers * 2 * total * columns, np.float32)
    above = packed_floats(2 * units, total)
    below = room_of_floats(packed_floats(x.shape[2], total) + (layers - 1) * above)
    for k in range(len(tasks)):
        tasks[k, DS], tasks[k, BELOW] = ds.ctypes.data, below.ctypes.data
    if not run_by_helpers(share, tasks):
        return False
    for k in range(len(tasks)):
        tasks[k, AGAIN] = 1
    enough: bool = run_by_helpers(share, tasks)
    hold(ds)
    hold(below)
    return enough
