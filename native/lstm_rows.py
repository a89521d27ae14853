"""RevLSTM: one row of one group, forward and back, and factors of its gradients (CELL, GRAD).

A row goes once through the registers: gates, cell, output and both multiplications. On the way
back the words of ``h`` must all be off the stack before those of ``c``, so a group goes twice, and
each time only the gates that it needs are computed.
"""

from __future__ import annotations

from typing import Any, Final

from .arithmetic import P_MAX, STATE_BITS, Z_MAX, Gates, Sums, Tanh, sigmoid_slope, tanh_slope, unit
from .buffers import LATER, TOP, Stack, Wraps
from .lanes import Group, Lanes, Place
from .vectors import Kernel, kernel

# Pieces of the tape, float32: of ``c`` in the pre-activations of f, i, g; of ``h`` in those of o,
# p; of ``h`` in ``c``; the parts of ``c`` and ``h`` that are kept; the view, and where it passes.
OF_C: Final = 5
KEPT_C: Final = 6
KEPT_H: Final = 7
VIEW: Final = 8
PASSES: Final = 9
LSTM_PIECES: Final = 10


class _Cell:
    """The gates and changes of one row."""

    def __init__(
        self,
        k: Kernel,
        stride: Any,
        places: tuple[Place, Place, Place],
        left: Any,
        shift: Any,
        plan: Place,
        table: Place,
        forgetting: bool,
    ) -> None:
        """Take sums and numbers; without forgetting the gates are i, g, o (CELL-031)."""
        self.sums, self.gates = Sums(k, stride, places, left, shift), Gates(k, plan, table)
        bits = k.number(plan, STATE_BITS)
        self.tanh, self.to_state = Tanh(k, table, bits), 30 - bits
        self.z_max, self.p_max = k.number(plan, Z_MAX), k.number(plan, P_MAX)
        self.first = 1 if forgetting else 0

    def sigmoid(self, group: Group, gate: int) -> Lanes:
        """Return f, i, o or p, by number from f = 0 on, before the clip of forget gates."""
        return self.gates.sigmoid(self.sums.of(group, gate - 1 + self.first))

    def candidate(self, group: Group) -> Lanes:
        """Return g."""
        return self.gates.tanh(self.sums.of(group, 1 + self.first))

    def change(self, a: Lanes, b: Lanes) -> Lanes:
        """Return what is added to a state (CELL-021, CELL-022)."""
        return (a * b).rounded(self.to_state)


@kernel
def forward_row(
    k: Kernel,
    n: Any,
    stride: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    buffered: Any,
    c: Place,
    h: Place,
    heads: Place,
    z: Place,
    p: Place,
    words: Place,
    later: Place,
    keep: Any,
    tally: Place,
) -> None:
    """Update a row (CELL-020 … CELL-022); gates go to ``z`` and ``p``."""
    cell = _Cell(k, stride, (s, x, bias), left, shift, plan, table, True)
    of_c, of_h = Stack(k, words, tally, TOP), Stack(k, later, tally, LATER)
    wraps, everywhere, all_or_none = Wraps(k, tally), k.truth(1), k.truth(buffered)

    def update(group: Group) -> None:
        head = group.load(heads)
        forget = cell.gates.forget(cell.sigmoid(group, 0), cell.z_max)
        change = cell.change(cell.sigmoid(group, 1), cell.candidate(group))
        new = of_c.update(group, c, forget, change, head, everywhere, keep, wraps)
        group.store(z, forget)
        forget = cell.gates.forget(cell.sigmoid(group, 4), cell.p_max)  # FMT-007
        change = cell.change(cell.sigmoid(group, 3), cell.tanh(new.h))
        new = of_h.update(group, h, forget, change, new.head, all_or_none, keep, wraps)
        group.store(p, forget)
        group.store(heads, new.head)

    k.each(n, update)
    of_c.close()
    of_h.close()
    wraps.close()


@kernel
def plain_row(
    k: Kernel,
    n: Any,
    stride: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    c: Place,
    h: Place,
    tally: Place,
) -> None:
    """Update a row without forgetting (CELL-031)."""
    cell = _Cell(k, stride, (s, x, bias), left, shift, plan, table, False)
    wraps = Wraps(k, tally)

    def update(group: Group) -> None:
        new = wraps.sum(
            group, group.load(c), cell.change(cell.sigmoid(group, 1), cell.candidate(group))
        )
        group.store(c, new)
        change = cell.change(cell.sigmoid(group, 3), cell.tanh(new))
        group.store(h, wraps.sum(group, group.load(h), change))

    k.each(n, update)
    wraps.close()


class _Tape:
    """Where factors of gradients go (GRAD-013)."""

    def __init__(self, k: Kernel, tape: Place, size: Any) -> None:
        """Take the first piece, and how large a piece is."""
        self.k, self.tape, self.size = k, tape, size

    def write(self, group: Group, piece: int, value: Lanes) -> None:
        """Write into a piece."""
        group.store(self.k.piece(self.tape, self.size, piece), value)

    def output(self, group: Group, o: Lanes, t: Lanes) -> None:
        """Write the factors of ``o·tanh(c)``."""
        y, tt = unit(o), unit(t)
        self.write(group, 3, tt * sigmoid_slope(y))
        self.write(group, OF_C, y * tanh_slope(tt))

    def input(self, group: Group, i: Lanes, g: Lanes) -> None:
        """Write the factors of ``i·g``."""
        y, gg = unit(i), unit(g)
        self.write(group, 1, gg * sigmoid_slope(y))
        self.write(group, 2, y * tanh_slope(gg))


class _Back:
    """Undoing one of a row's two multiplications."""

    def __init__(
        self,
        k: Kernel,
        cell: _Cell,
        words: Place,
        tally: Place,
        buffered: Any,
        unit_h: Any,
        scale: Any,
        tape: _Tape,
    ) -> None:
        """Take the stack, the unit of states, and m of GRAD-010."""
        self.cell, self.tape, self.stack = cell, tape, Stack(k, words, tally)
        self.everywhere = k.truth(buffered)
        self.real, self.by = k.all_lanes(unit_h), k.all_lanes(scale)

    def undo(
        self,
        group: Group,
        sigma: Lanes,
        top: Lanes,
        change: Lanes,
        state: Place,
        heads: Place,
        restore: Place,
        to: int,
        kept: int,
    ) -> None:
        """Undo it, and write the forget gate's factor and what it keeps to two pieces."""
        gates = self.cell.gates
        forget = gates.forget(sigma, top)
        old = self.stack.undo(group, state, forget, change, heads, self.everywhere, restore)
        slope = gates.forget_slope(sigma, forget, self.by)
        self.tape.write(group, to, old.as_real() * self.real * slope)
        self.tape.write(group, kept, forget.as_real() * 2.0**-10)


@kernel
def hidden_back(
    k: Kernel,
    n: Any,
    stride: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    buffered: Any,
    c: Place,
    h: Place,
    restore: Place,
    heads: Place,
    words: Place,
    tally: Place,
    unit_h: Any,
    scale: Any,
    tape: Place,
    size: Any,
) -> None:
    """Undo a row's ``h``, and write the factors that belong to it (CELL-040, GRAD-013)."""
    cell = _Cell(k, stride, (s, x, bias), left, shift, plan, table, True)
    to = _Tape(k, tape, size)
    back = _Back(k, cell, words, tally, buffered, unit_h, scale, to)

    def undo(group: Group) -> None:
        t, o, sigma = cell.tanh(group.load(c)), cell.sigmoid(group, 3), cell.sigmoid(group, 4)
        back.undo(group, sigma, cell.p_max, cell.change(o, t), h, heads, restore, 4, KEPT_H)
        to.output(group, o, t)

    k.each(n, undo, backwards=True)
    back.stack.close()


@kernel
def cell_back(
    k: Kernel,
    n: Any,
    stride: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    buffered: Any,
    c: Place,
    restore: Place,
    heads: Place,
    words: Place,
    tally: Place,
    unit_h: Any,
    scale: Any,
    tape: Place,
    size: Any,
) -> None:
    """Undo a row's ``c``, and write the factors that belong to it (CELL-040, GRAD-013)."""
    cell = _Cell(k, stride, (s, x, bias), left, shift, plan, table, True)
    to = _Tape(k, tape, size)
    back = _Back(k, cell, words, tally, buffered, unit_h, scale, to)

    def undo(group: Group) -> None:
        i, g, sigma = cell.sigmoid(group, 1), cell.candidate(group), cell.sigmoid(group, 0)
        back.undo(group, sigma, cell.z_max, cell.change(i, g), c, heads, restore, 0, KEPT_C)
        to.input(group, i, g)

    k.each(n, undo, backwards=True)
    back.stack.close()


@kernel
def plain_back(
    k: Kernel,
    n: Any,
    stride: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    recovered: Any,
    c: Place,
    h: Place,
    old_c: Place,
    old_h: Place,
    tape: Place,
    size: Any,
) -> None:
    """Undo a row without forgetting, or look it up, and write its factors."""
    cell = _Cell(k, stride, (s, x, bias), left, shift, plan, table, False)
    computed, to = k.truth(recovered), _Tape(k, tape, size)

    def undo(group: Group) -> None:
        now = group.load(c)
        t, o = cell.tanh(now), cell.sigmoid(group, 3)
        i, g = cell.sigmoid(group, 1), cell.candidate(group)
        before = group.load(h) - cell.change(o, t)
        group.store(h, computed.choose(before, group.load(old_h)))
        group.store(c, computed.choose(now - cell.change(i, g), group.load(old_c)))
        to.output(group, o, t)
        to.input(group, i, g)

    k.each(n, undo)
