"""RevGRU: updates of one group for some rows, forward and back, and factors of gradients (CELL)."""

from __future__ import annotations

from typing import Any, Final

from .arithmetic import STATE_BITS, Z_MAX, Gates, PreActivations, sigmoid_slope, tanh_slope, unit
from .buffers import TOP, WordStack, Wraps, count_gates
from .compiling import Array, Maybe, inner
from .copies import idle
from .lanes import Group, Lanes, Place
from .records import Back, GroupStep, Numbers, Room, Sums
from .vectors import Kernel, kernel

# Pieces of the tape, float32: of ``h`` in z's and g's pre-activations, the part of ``h`` that is
# kept, r, of ``u`` in r's pre-activation, u, the view, and where it passes.
KEPT: Final = 2
R: Final = 3
OF_U: Final = 4
U: Final = 5
VIEW: Final = 6
PASSES: Final = 7
GRU_PIECES: Final = 8


@kernel
def gates_row(k: Kernel, b: Any, sums: Sums, numbers: Numbers, room: Room) -> None:
    """Write the sigmoids that z is made of, r, and the candidate's operand (CELL-010, CELL-011)."""
    own, gates = PreActivations(k, sums, room.units, b), Gates(k, numbers)
    sigma, r = k.row(b, room.units).of(room.y, room.r)
    view, u = k.row(b, room.by_row).of(room.operand, room.u)

    def write(group: Group) -> None:
        group.store(sigma, gates.sigmoid(own.of(group, 0)))
        reset = gates.sigmoid(own.of(group, 1))
        group.store(r, reset)
        group.store_short(u, (reset * group.load(view)).rounded(15))

    k.each(room.units, write)


class _Update:
    """The gate, the candidate and the change of one row."""

    def __init__(
        self, k: Kernel, sums: Sums, numbers: Numbers, room: Room, b: Any, first: Any = None
    ) -> None:
        """Take the candidate's sums and numbers."""
        self.sums = PreActivations(k, sums, room.units, b, first)
        self.gates, self.top = Gates(k, numbers), k.number(numbers.plan, Z_MAX)
        self.to_state = 25 - k.number(numbers.plan, STATE_BITS)

    def of(self, group: Group, sigma: Place) -> tuple[Lanes, Lanes, Lanes]:
        """Return z, g, and what is added to the state (CELL-012)."""
        z = self.gates.forget(group.load(sigma), self.top)
        g = self.gates.tanh(self.sums.of(group, 0))
        return z, g, ((1024 - z) * g).rounded(self.to_state)


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
    """Update a row (CELL-012); gates go to ``room.z``."""
    update, wraps = _Update(k, sums, numbers, room, b, first), Wraps(k, step.tally)
    words, everywhere = WordStack(k, step.words, step.tally), k.truth(buffered)
    h, own, sigma, z = k.row(b, room.units, first).of(step.h, heads, room.y, room.z)

    def write(group: Group) -> None:
        forget, _, change = update.of(group, sigma)
        head = group.load(own)
        new = words.update(group, h, forget, change, head, everywhere, step.keep, wraps)
        group.store(own, new.head)
        group.store(z, forget)

    k.each(n, write)
    words.close()
    wraps.close()


@kernel
def plain_row(k: Kernel, b: Any, sums: Sums, numbers: Numbers, step: GroupStep, room: Room) -> None:
    """Update a row without forgetting (CELL-030)."""
    update, wraps = _Update(k, sums, numbers, room, b), Wraps(k, step.tally)
    h, sigma = k.row(b, room.units).of(step.h, room.y)

    def write(group: Group) -> None:
        _, _, change = update.of(group, sigma)
        group.store(h, wraps.sum(group, group.load(h), change))

    k.each(room.units, write)
    wraps.close()


class _Factors:
    """What undoing a row writes whether or not there is forgetting."""

    def __init__(
        self, k: Kernel, update: _Update, room: Room, back: Back, b: Any, first: Any = None
    ) -> None:
        """Take where a row's pieces are, units of numbers, and m of GRAD-010."""
        self.k, self.update, self.size = k, update, back.size
        (self.pieces,) = k.row(b, room.units, first).of(back.pieces.after(back.base))
        self.sigma, self.r = k.row(b, room.units, first).of(room.y, room.r)
        (self.u,) = k.row(b, room.by_row, first).of(room.u)
        self.unit_h, self.unit_view = k.all_lanes(back.unit_h), k.all_lanes(back.unit_view)
        self.scale = k.all_lanes(back.scale)

    def write(self, group: Group, z: Lanes, g: Lanes, h: Lanes | None) -> None:
        """Write factors; ``h`` is the state before, ``None`` without forgetting."""
        gg, zz, gates = unit(g), z.as_real() * 2.0**-10, self.update.gates
        own = 0.0 - gg if h is None else h.as_real() * self.unit_h - gg
        y = unit(group.load(self.r))
        factors = {
            0: own * gates.forget_slope(group.load(self.sigma), z, self.scale),
            1: (1.0 - zz) * tanh_slope(gg),
            R: y,
            OF_U: group.load(self.piece(VIEW)) * sigmoid_slope(y),
            U: group.load(self.u).as_real() * self.unit_view,
        }
        if h is not None:
            factors[KEPT] = zz
        for number, value in factors.items():
            group.store(self.piece(number), value)

    def piece(self, number: int) -> Place:
        """Return where the row is in a piece."""
        return self.k.piece(self.pieces, self.size, number)


@kernel
def back_row(
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
    """Undo a row, and write its factors (CELL-040, GRAD-010 … GRAD-012)."""
    update = _Update(k, sums, numbers, room, b, first)
    factors = _Factors(k, update, room, back, b, first)
    words, everywhere = WordStack(k, step.words, step.tally), k.truth(buffered)
    h, own, restore = k.row(b, room.units, first).of(step.h, heads, back.old_h)

    def undo(group: Group) -> None:
        z, g, change = update.of(group, factors.sigma)
        factors.write(group, z, g, words.undo(group, h, z, change, own, everywhere, restore))

    k.each(n, undo, backwards=True)
    words.close()


@kernel
def plain_back(
    k: Kernel, b: Any, sums: Sums, numbers: Numbers, step: GroupStep, room: Room, back: Back
) -> None:
    """Undo a row without forgetting, or look it up, and write its factors (CELL-030)."""
    update, recovers = _Update(k, sums, numbers, room, b), k.truth(back.recovers)
    factors = _Factors(k, update, room, back, b)
    h, restore = k.row(b, room.units).of(step.h, back.old_h)

    def undo(group: Group) -> None:
        z, g, change = update.of(group, factors.sigma)
        group.store(h, recovers.choose(group.load(h) - change, group.load(restore)))
        factors.write(group, z, g, None)

    k.each(room.units, undo)


@inner
def gates(sums: Sums, numbers: Numbers, rows: int, room: Room) -> None:
    """Write gates and the candidate's operand of all rows."""
    for b in range(rows):
        gates_row(b, sums, numbers, room)


@inner
def advance(
    sums: Sums, numbers: Numbers, step: GroupStep, heads: Maybe, room: Room, counts: Array
) -> None:
    """Update one group of all rows; arguments are those of :func:`.lstm.advance`."""
    rows, units = step.h.shape
    for b in range(rows):
        if not step.active[b]:
            continue
        if heads is None:
            plain_row(b, sums, numbers, step, room)
        else:
            for part in range(2):  # sliced units, the others
                first, last = (0, step.depth) if part == 0 else (step.depth, units)
                if first < last:
                    forward_row(last - first, b, first, part, sums, numbers, step, heads, 0, room)
    if heads is not None and counts.size:
        count_gates(room.z, step.active, step.depth, units, counts)


@inner
def recover(
    sums: Sums, numbers: Numbers, step: GroupStep, heads: Maybe, room: Room, back: Back
) -> bool:
    """Take one group of all rows back; arguments are those of :func:`.lstm.recover`."""
    rows, units = step.h.shape
    for down in range(rows):
        b = rows - 1 - down
        if not step.active[b]:
            idle(back.pieces, back.base + b * units, back.size, units, VIEW, KEPT, KEPT)
        elif heads is None:
            plain_back(b, sums, numbers, step, room, back)
        else:
            for part in range(2):  # in the order of units from the last to the first
                first, last = (step.depth, units) if part == 0 else (0, step.depth)
                n, on = last - first, back.recovers * (1 - part)
                if n > 0:
                    back_row(n, b, first, on, sums, numbers, step, heads, 0, room, back)
    return bool(step.tally[TOP] >= 0)
