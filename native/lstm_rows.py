"""RevLSTM: one row of one group, forward and back, and factors of its gradients (CELL, GRAD).

A row goes once through the registers: gates, cell, output and both multiplications. On the way
back the words of ``h`` must all be off the stack before those of ``c``, so a group goes twice, and
each time only the gates that it needs are computed.
"""

from __future__ import annotations

from typing import Any, Final

from .arithmetic import (
    P_MAX,
    STATE_BITS,
    Z_MAX,
    Gates,
    PreActivations,
    Tanh,
    sigmoid_slope,
    tanh_slope,
    unit,
)
from .buffers import LATER, TOP, WordStack, Wraps
from .lanes import Group, Lanes, Place
from .records import Back, GroupStep, Numbers, Room, Sums
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
        sums: Sums,
        numbers: Numbers,
        room: Room,
        b: Any,
        first: Any = None,
        *,
        forgetting: bool = True,
    ) -> None:
        """Take sums and numbers; without forgetting the gates are i, g, o (CELL-031)."""
        self.sums, self.gates = PreActivations(k, sums, room.units, b, first), Gates(k, numbers)
        plan = numbers.plan
        bits = k.number(plan, STATE_BITS)
        self.tanh, self.to_state = Tanh(k, numbers.table, bits), 30 - bits
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
    b: Any,
    first: Any,
    buffered: Any,
    sums: Sums,
    numbers: Numbers,
    step: GroupStep,
    heads: Place,
    room: Room,
) -> None:
    """Update a row (CELL-020 … CELL-022); gates go to ``room.z`` and ``room.y``."""
    cell = _Cell(k, sums, numbers, room, b, first)
    of_c = WordStack(k, step.words, step.tally, TOP)
    of_h = WordStack(k, room.later, step.tally, LATER)
    wraps, everywhere, all_or_none = Wraps(k, step.tally), k.truth(1), k.truth(buffered)
    row = k.row(b, room.units, first)
    c, h, own, z, p = row.of(step.c, step.h, heads, room.z, room.y)

    def update(group: Group) -> None:
        head = group.load(own)
        forget = cell.gates.forget(cell.sigmoid(group, 0), cell.z_max)
        change = cell.change(cell.sigmoid(group, 1), cell.candidate(group))
        new = of_c.update(group, c, forget, change, head, everywhere, step.keep, wraps)
        group.store(z, forget)
        forget = cell.gates.forget(cell.sigmoid(group, 4), cell.p_max)  # FMT-007
        change = cell.change(cell.sigmoid(group, 3), cell.tanh(new.h))
        new = of_h.update(group, h, forget, change, new.head, all_or_none, step.keep, wraps)
        group.store(p, forget)
        group.store(own, new.head)

    k.each(n, update)
    of_c.close()
    of_h.close()
    wraps.close()


@kernel
def plain_row(k: Kernel, b: Any, sums: Sums, numbers: Numbers, step: GroupStep, room: Room) -> None:
    """Update a row without forgetting (CELL-031)."""
    cell = _Cell(k, sums, numbers, room, b, forgetting=False)
    wraps = Wraps(k, step.tally)
    c, h = k.row(b, room.units).of(step.c, step.h)

    def update(group: Group) -> None:
        change = cell.change(cell.sigmoid(group, 1), cell.candidate(group))
        new = wraps.sum(group, group.load(c), change)
        group.store(c, new)
        change = cell.change(cell.sigmoid(group, 3), cell.tanh(new))
        group.store(h, wraps.sum(group, group.load(h), change))

    k.each(room.units, update)
    wraps.close()


class _Factors:
    """Where factors of gradients go (GRAD-013)."""

    def __init__(self, k: Kernel, room: Room, back: Back, b: Any, first: Any = None) -> None:
        """Take where a row's pieces are, and how large a piece is."""
        self.k, self.size = k, back.size
        (self.pieces,) = k.row(b, room.units, first).of(back.pieces.after(back.base))

    def write(self, group: Group, piece: int, value: Lanes) -> None:
        """Write into a piece."""
        group.store(self.k.piece(self.pieces, self.size, piece), value)

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


class _Undo:
    """Undoing one of a row's two multiplications."""

    def __init__(
        self, k: Kernel, cell: _Cell, step: GroupStep, buffered: Any, back: Back, factors: _Factors
    ) -> None:
        """Take the stack of words, the unit of states, and m of GRAD-010."""
        self.gates, self.factors = cell.gates, factors
        self.words, self.everywhere = WordStack(k, step.words, step.tally), k.truth(buffered)
        self.real, self.by = k.all_lanes(back.unit_h), k.all_lanes(back.scale)

    def __call__(
        self,
        group: Group,
        sigma: Lanes,
        top: Lanes,
        change: Lanes,
        places: tuple[Place, ...],
        to: int,
        kept: int,
    ) -> None:
        """Undo it, and write the forget gate's factor and what it keeps to two pieces.

        Args:
            group: where the loop is.
            sigma: the sigmoid that the forget gate is made of.
            top: the gate's largest value.
            change: what was added.
            places: states, heads, and states to be restored where not buffered.
            to: piece of the factor.
            kept: piece of what is kept.
        """
        state, heads, restore = places
        forget = self.gates.forget(sigma, top)
        old = self.words.undo(group, state, forget, change, heads, self.everywhere, restore)
        slope = self.gates.forget_slope(sigma, forget, self.by)
        self.factors.write(group, to, old.as_real() * self.real * slope)
        self.factors.write(group, kept, forget.as_real() * 2.0**-10)


@kernel
def hidden_back(
    k: Kernel,
    n: Any,
    b: Any,
    first: Any,
    buffered: Any,
    sums: Sums,
    numbers: Numbers,
    step: GroupStep,
    heads: Place,
    room: Room,
    back: Back,
) -> None:
    """Undo a row's ``h``, and write the factors that belong to it (CELL-040, GRAD-013)."""
    cell, factors = _Cell(k, sums, numbers, room, b, first), _Factors(k, room, back, b, first)
    undo, row = _Undo(k, cell, step, buffered, back, factors), k.row(b, room.units, first)
    (c,), places = row.of(step.c), row.of(step.h, heads, back.old_h)

    def body(group: Group) -> None:
        t, o, sigma = cell.tanh(group.load(c)), cell.sigmoid(group, 3), cell.sigmoid(group, 4)
        undo(group, sigma, cell.p_max, cell.change(o, t), places, 4, KEPT_H)
        factors.output(group, o, t)

    k.each(n, body, backwards=True)
    undo.words.close()


@kernel
def cell_back(
    k: Kernel,
    b: Any,
    sums: Sums,
    numbers: Numbers,
    step: GroupStep,
    heads: Place,
    room: Room,
    back: Back,
) -> None:
    """Undo a row's ``c``, and write the factors that belong to it (CELL-040, GRAD-013)."""
    cell, factors = _Cell(k, sums, numbers, room, b), _Factors(k, room, back, b)
    undo = _Undo(k, cell, step, back.recovers, back, factors)
    places = k.row(b, room.units).of(step.c, heads, back.old_c)

    def body(group: Group) -> None:
        i, g, sigma = cell.sigmoid(group, 1), cell.candidate(group), cell.sigmoid(group, 0)
        undo(group, sigma, cell.z_max, cell.change(i, g), places, 0, KEPT_C)
        factors.input(group, i, g)

    k.each(room.units, body, backwards=True)
    undo.words.close()


@kernel
def plain_back(
    k: Kernel, b: Any, sums: Sums, numbers: Numbers, step: GroupStep, room: Room, back: Back
) -> None:
    """Undo a row without forgetting, or look it up, and write its factors."""
    cell = _Cell(k, sums, numbers, room, b, forgetting=False)
    recovers, factors = k.truth(back.recovers), _Factors(k, room, back, b)
    c, h, old_c, old_h = k.row(b, room.units).of(step.c, step.h, back.old_c, back.old_h)

    def undo(group: Group) -> None:
        now = group.load(c)
        t, o = cell.tanh(now), cell.sigmoid(group, 3)
        i, g = cell.sigmoid(group, 1), cell.candidate(group)
        before = group.load(h) - cell.change(o, t)
        group.store(h, recovers.choose(before, group.load(old_h)))
        group.store(c, recovers.choose(now - cell.change(i, g), group.load(old_c)))
        factors.output(group, o, t)
        factors.input(group, i, g)

    k.each(room.units, undo)
