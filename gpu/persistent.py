"""Kernels that take many steps in one launch: a barrier of all programs in place of launches.

Each program does the tile of its number in every phase, and waits for all others in between
(:func:`meet`). That ends only if all programs run at once: ``support.resident`` says how many can,
no more are started, and CUDA refuses a cooperative launch that does not fit. ``a`` holds the
weights of the first layer, ``b`` those above it, whose constants are ``U``.
"""

import triton
import triton.language as tl

from .gradient import add_outputs_tile, layer_below_tile, lstm_back_tile, to_u_tile, to_view_tile
from .gru import gates_tile, state_tile
from .gru_back import unstate_tile
from .lstm import cell_tile
from .lstm_back import uncell_tile, unhide_tile
from .tiles import RUNTIME

STEPS = [*RUNTIME, "first", "steps"]


@triton.jit
def meet(a, turn):
    """Wait until all programs have got here; return the number of the next meeting.

    ``a.meeting`` counts arrivals and is 0 before a launch. Whatever programs wrote before they
    arrived is seen by all after it.
    """
    tl.debug_barrier()  # all threads of the program have written
    due = turn * tl.num_programs(0)
    arrived = tl.atomic_add(a.meeting, 1, sem="acq_rel", scope="gpu") + 1
    while arrived < due:  # a load that acquires
        arrived = tl.atomic_add(a.meeting, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()
    return turn + 1


@triton.jit
def tasks_of(Bp, K: tl.constexpr):
    """Return the program's number, and how many tiles a group has."""
    return tl.program_id(0), Bp // K.BM * K.NT


@triton.jit
def operation(t, layer, J, depth, K: tl.constexpr):
    """Return the number of a group's first operation in a step, and its sliced units."""
    own = 2 * layer + J
    return (t * K.SLOTS + own) * K.STATES, tl.where(own == K.SLOTS - 2, depth, 0)


@triton.jit
def layer_forward(a, t, layer, turn, depth, B, Bp, K: tl.constexpr):
    """Take a layer's step; return the number of the next meeting."""
    task, tiles = tasks_of(Bp, K)
    for J in range(2):
        op, sliced = operation(t, layer, J, depth, K)
        if K.GRU:
            if task < 2 * tiles:
                gate = task // tiles
                gates_tile(a, task % tiles, gate, t, layer, J, -1, 0, 0, B, Bp, K)
            turn = meet(a, turn)
            if task < tiles:
                state_tile(a, task, t, layer, J, op, sliced, B, Bp, K)
        else:
            if task < tiles:
                cell_tile(a, task, t, layer, J, op, sliced, B, Bp, K)
        turn = meet(a, turn)
    return turn


@triton.jit(do_not_specialize=STEPS)
def forward(a, b, first, steps, depth, B, Bp, K: tl.constexpr, U: tl.constexpr):
    """Take ``steps`` steps from ``first`` on."""
    turn, t = 1, first
    while t < first + steps:
        turn = layer_forward(a, t, 0, turn, depth, B, Bp, K)
        if K.SLOTS > 2:
            for layer in range(1, K.SLOTS // 2):
                turn = layer_forward(b, t, layer, turn, depth, B, Bp, U)
        t += 1


@triton.jit
def layer_back(a, t, layer, turn, last_op, last_t, last_depth, depth, B, Bp, C, K: tl.constexpr):
    """Take a layer's step back.

    Returns the number of the next meeting, and number, step and sliced units of the operation
    undone last.
    """
    task, tiles = tasks_of(Bp, K)
    for i in range(2):
        J = 1 - i
        op, sliced = operation(t, layer, J, depth, K)
        if K.GRU:
            if task < 2 * tiles:
                tile, gate = task % tiles, task // tiles
                gates_tile(a, tile, gate, t, layer, J, last_op, last_t, last_depth, B, Bp, K)
            turn = meet(a, turn)
            if task < tiles:
                unstate_tile(a, task, t, layer, J, op, sliced, B, Bp, C, K)
            last_depth = sliced
        else:
            if task < tiles:
                unhide_tile(a, task, t, layer, J, op, sliced, last_op, last_t, B, Bp, C, K)
            if K.FORGET:
                turn = meet(a, turn)
                if task < tiles:
                    uncell_tile(a, task, t, layer, J, op, sliced, B, Bp, C, K)
        last_op = op
        last_t = t
        turn = meet(a, turn)
    return turn, last_op, last_t, last_depth


@triton.jit(do_not_specialize=STEPS)
def back(
    a,
    b,
    first,
    steps,
    last_op,
    last_t,
    last_depth,
    depth,
    B,
    Bp,
    C,
    K: tl.constexpr,
    U: tl.constexpr,
):
    """Take the ``steps`` steps from ``first`` on back, the last one first."""
    turn, t = 1, first + steps - 1
    while t >= first:
        if K.SLOTS > 2:
            for k in range(1, K.SLOTS // 2):
                turn, last_op, last_t, last_depth = layer_back(
                    b, t, K.SLOTS // 2 - k, turn, last_op, last_t, last_depth, depth, B, Bp, C, U
                )
        turn, last_op, last_t, last_depth = layer_back(
            a, t, 0, turn, last_op, last_t, last_depth, depth, B, Bp, C, K
        )
        t -= 1


@triton.jit
def layer_pull(a, t, layer, now, turn, B, Bp, C, K: tl.constexpr):
    """Carry the gradients over a layer's step; return the number of the next meeting."""
    task, tiles = tasks_of(Bp, K)
    for i in range(2):
        J = 1 - i
        if K.GRU:
            if task < tiles:
                to_u_tile(a, task, t, layer, J, B, Bp, C, K)
            turn = meet(a, turn)
            if task < tiles:
                to_view_tile(a, task, t, layer, J, B, Bp, C, K)
        else:
            if task < tiles:
                lstm_back_tile(a, task, t, layer, J, now, B, Bp, C, K)
        turn = meet(a, turn)
    if not K.FIRST:
        job = task
        while job < 2 * tiles:
            layer_below_tile(a, job % tiles, job // tiles, t, layer, now, B, Bp, C, K)
            job += tl.num_programs(0)
        turn = meet(a, turn)
    return turn


@triton.jit(do_not_specialize=STEPS)
def pull(a, b, first, steps, now, B, Bp, C, GIVEN: tl.constexpr, K: tl.constexpr, U: tl.constexpr):
    """Carry the gradients over the ``steps`` steps from ``first`` on, the last one first."""
    task, tiles = tasks_of(Bp, K)
    turn, t = 1, first + steps - 1
    while t >= first:
        if GIVEN:
            job = task
            while job < 2 * tiles:
                add_outputs_tile(a, job % tiles, job // tiles, t, now, B, Bp, K)
                job += tl.num_programs(0)
            turn = meet(a, turn)
        if K.SLOTS > 2:
            for k in range(1, K.SLOTS // 2):
                turn = layer_pull(b, t, K.SLOTS // 2 - k, now, turn, B, Bp, C, U)
        turn = layer_pull(a, t, 0, now, turn, B, Bp, C, K)
        if not K.GRU:
            now = 1 - now
        t -= 1
