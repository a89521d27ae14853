"""RevGRU: updates of one group for some rows, forward and back, and factors of gradients (CELL)."""

from __future__ import annotations

from typing import Any, Final

from .arithmetic import STATE_BITS, Z_MAX, Gates, Sums, sigmoid_slope, tanh_slope, unit
from .buffers import TOP, Stack, Wraps, count_gates
from .compiling import Array, Maybe, inner
from .copies import idle
from .lanes import Group, Lanes, Place
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
def gates_row(
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
    view: Place,
    sigma: Place,
    r: Place,
    u: Place,
) -> None:
    """Write the sigmoids that z is made of, r, and the candidate's operand (CELL-010, CELL-011)."""
    sums, gates = Sums(k, stride, (s, x, bias), left, shift), Gates(k, plan, table)

    def write(group: Group) -> None:
        group.store(sigma, gates.sigmoid(sums.of(group, 0)))
        reset = gates.sigmoid(sums.of(group, 1))
        group.store(r, reset)
        group.store_short(u, (reset * group.load(view)).rounded(15))

    k.each(n, write)


class _Update:
    """The candidate and the change of one row."""

    def __init__(
        self,
        k: Kernel,
        places: tuple[Place, Place, Place],
        left: Any,
        shift: Any,
        plan: Place,
        table: Place,
    ) -> None:
        """Take the candidate's sums and numbers."""
        self.sums = Sums(k, k.scalar(plan, 0), places, left, shift)
        self.gates, self.top = Gates(k, plan, table), k.number(plan, Z_MAX)
        self.to_state = 25 - k.number(plan, STATE_BITS)

    def candidate(self, group: Group) -> Lanes:
        """Return g."""
        return self.gates.tanh(self.sums.of(group, 0))

    def change(self, z: Lanes, g: Lanes) -> Lanes:
        """Return what is added to the state (CELL-012)."""
        return ((1024 - z) * g).rounded(self.to_state)


@kernel
def forward_row(
    k: Kernel,
    n: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    buffered: Any,
    sigma: Place,
    h: Place,
    heads: Place,
    z: Place,
    words: Place,
    keep: Any,
    tally: Place,
) -> None:
    """Update a row (CELL-012); gates go to ``z``."""
    update, wraps = _Update(k, (s, x, bias), left, shift, plan, table), Wraps(k, tally)
    stack, everywhere = Stack(k, words, tally), k.truth(buffered)

    def write(group: Group) -> None:
        forget = update.gates.forget(group.load(sigma), update.top)
        change = update.change(forget, update.candidate(group))
        head = group.load(heads)
        new = stack.update(group, h, forget, change, head, everywhere, keep, wraps)
        group.store(heads, new.head)
        group.store(z, forget)

    k.each(n, write)
    stack.close()
    wraps.close()


@kernel
def plain_row(
    k: Kernel,
    n: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    sigma: Place,
    h: Place,
    tally: Place,
) -> None:
    """Update a row without forgetting (CELL-030)."""
    update, wraps = _Update(k, (s, x, bias), left, shift, plan, table), Wraps(k, tally)

    def write(group: Group) -> None:
        forget = update.gates.forget(group.load(sigma), update.top)
        change = update.change(forget, update.candidate(group))
        group.store(h, wraps.sum(group, group.load(h), change))

    k.each(n, write)
    wraps.close()


class _Back:
    """What undoing a row writes whether or not there is forgetting."""

    def __init__(
        self,
        k: Kernel,
        update: _Update,
        tape: Place,
        size: Any,
        unit_h: Any,
        unit_view: Any,
        scale: Any,
    ) -> None:
        """Take the tape, units of numbers, and m of GRAD-010."""
        self.k, self.update, self.tape, self.size = k, update, tape, size
        self.unit_h, self.unit_view = k.all_lanes(unit_h), k.all_lanes(unit_view)
        self.scale = k.all_lanes(scale)

    def write(self, group: Group, piece: int, value: Lanes) -> None:
        """Write into a piece of the tape."""
        group.store(self.k.piece(self.tape, self.size, piece), value)

    def factors(
        self, group: Group, sigma: Lanes, z: Lanes, g: Lanes, h: Lanes | None, r: Lanes, u: Lanes
    ) -> None:
        """Write factors; ``h`` is the state before, ``None`` without forgetting."""
        gg, zz, view = unit(g), z.as_real() * 2.0**-10, group.load(self.view_piece())
        own = 0.0 - gg if h is None else h.as_real() * self.unit_h - gg
        self.write(group, 0, own * self.update.gates.forget_slope(sigma, z, self.scale))
        self.write(group, 1, (1.0 - zz) * tanh_slope(gg))
        if h is not None:
            self.write(group, KEPT, zz)
        y = unit(r)
        self.write(group, R, y)
        self.write(group, OF_U, view * sigmoid_slope(y))
        self.write(group, U, u.as_real() * self.unit_view)

    def view_piece(self) -> Place:
        """Return where the view is, which has been written before."""
        return self.k.piece(self.tape, self.size, VIEW)


@kernel
def back_row(
    k: Kernel,
    n: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    buffered: Any,
    sigma: Place,
    r: Place,
    u: Place,
    h: Place,
    restore: Place,
    heads: Place,
    words: Place,
    tally: Place,
    unit_h: Any,
    unit_view: Any,
    scale: Any,
    tape: Place,
    size: Any,
) -> None:
    """Undo a row, and write its factors (CELL-040, GRAD-010 … GRAD-012)."""
    update = _Update(k, (s, x, bias), left, shift, plan, table)
    back = _Back(k, update, tape, size, unit_h, unit_view, scale)
    stack, everywhere = Stack(k, words, tally), k.truth(buffered)

    def undo(group: Group) -> None:
        y, g = group.load(sigma), update.candidate(group)
        z = update.gates.forget(y, update.top)
        old = stack.undo(group, h, z, update.change(z, g), heads, everywhere, restore)
        back.factors(group, y, z, g, old, group.load(r), group.load(u))

    k.each(n, undo, backwards=True)
    stack.close()


@kernel
def plain_back(
    k: Kernel,
    n: Any,
    s: Place,
    x: Place,
    bias: Place,
    left: Any,
    shift: Any,
    plan: Place,
    table: Place,
    recovered: Any,
    sigma: Place,
    r: Place,
    u: Place,
    h: Place,
    restore: Place,
    unit_h: Any,
    unit_view: Any,
    scale: Any,
    tape: Place,
    size: Any,
) -> None:
    """Undo a row without forgetting, or look it up, and write its factors (CELL-030)."""
    update, computed = _Update(k, (s, x, bias), left, shift, plan, table), k.truth(recovered)
    back = _Back(k, update, tape, size, unit_h, unit_view, scale)

    def undo(group: Group) -> None:
        y, g = group.load(sigma), update.candidate(group)
        z = update.gates.forget(y, update.top)
        before = group.load(h) - update.change(z, g)
        group.store(h, computed.choose(before, group.load(restore)))
        back.factors(group, y, z, g, None, group.load(r), group.load(u))

    k.each(n, undo)


@inner
def gates(
    s: Array,
    width: int,
    x: Array,
    x_at: int,
    x_width: int,
    bias: Array,
    at: int,
    left: int,
    shift: int,
    plan: Array,
    table: Array,
    view: Array,
    by_row: int,
    units: int,
    sigma: Array,
    r: Array,
    u: Array,
) -> None:
    """Write gates and operands of some rows.

    Arguments are those of :func:`.lstm.advance`, and:
        view: int16, flat.
        by_row: its row length, and that of ``u``.
        units: G.
        sigma: int32, flat ``[R, G]``: the sigmoids that z is made of.
        r: the same: r.
        u: int16, flat: the candidate's operand.
    """
    for b in range(sigma.size // units):
        gates_row(
            units,
            units,
            s,
            b * width,
            x,
            x_at + b * x_width,
            bias,
            at,
            left,
            shift,
            plan,
            0,
            table,
            0,
            view,
            b * by_row,
            sigma,
            b * units,
            r,
            b * units,
            u,
            b * by_row,
        )


@inner
def advance(
    s: Array,
    width: int,
    x: Array,
    x_at: int,
    x_width: int,
    bias: Array,
    at: int,
    left: int,
    shift: int,
    plan: Array,
    table: Array,
    sigma: Array,
    h: Array,
    heads: Maybe,
    z: Array,
    active: Array,
    depth: int,
    words: Array,
    keep: int,
    tally: Array,
    counts: Array,
) -> None:
    """Update one group of some rows; arguments are those of :func:`.lstm.advance`."""
    rows, units = h.shape
    flat = h.reshape(-1)
    for b in range(rows):
        if not active[b]:
            continue
        if heads is None:
            plain_row(
                units,
                s,
                b * width,
                x,
                x_at + b * x_width,
                bias,
                at,
                left,
                shift,
                plan,
                0,
                table,
                0,
                sigma,
                b * units,
                flat,
                b * units,
                tally,
                0,
            )
        else:
            for part in range(2):  # sliced units, the others
                first, last = (0, depth) if part == 0 else (depth, units)
                to = b * units + first
                if first < last:
                    forward_row(
                        last - first,
                        s,
                        b * width + first,
                        x,
                        x_at + b * x_width + first,
                        bias,
                        at + first,
                        left,
                        shift,
                        plan,
                        0,
                        table,
                        0,
                        part,
                        sigma,
                        to,
                        flat,
                        to,
                        heads.reshape(-1),
                        to,
                        z,
                        to,
                        words,
                        0,
                        keep,
                        tally,
                        0,
                    )
    if heads is not None and counts.size:
        count_gates(z, active, depth, units, counts)


@inner
def recover(
    s: Array,
    width: int,
    x: Array,
    x_at: int,
    x_width: int,
    bias: Array,
    at: int,
    left: int,
    shift: int,
    plan: Array,
    table: Array,
    sigma: Array,
    r: Array,
    u: Array,
    by_row: int,
    h: Array,
    heads: Maybe,
    old_h: Array,
    active: Array,
    depth: int,
    stored: bool,
    words: Array,
    tally: Array,
    unit_h: Any,
    unit_view: Any,
    scale: Any,
    tape: Array,
    base: int,
    size: int,
) -> bool:
    """Take one group of some rows back; arguments are those of :func:`.lstm.recover`."""
    rows, units = h.shape
    flat, old = h.reshape(-1), old_h.reshape(-1)
    on = 0 if stored else 1
    for back in range(rows):
        b = rows - 1 - back
        place = base + b * units
        if not active[b]:
            idle(tape, place, size, units, VIEW, KEPT, KEPT)
        elif heads is None:
            plain_back(
                units,
                s,
                b * width,
                x,
                x_at + b * x_width,
                bias,
                at,
                left,
                shift,
                plan,
                0,
                table,
                0,
                on,
                sigma,
                b * units,
                r,
                b * units,
                u,
                b * by_row,
                flat,
                b * units,
                old,
                b * units,
                unit_h,
                unit_view,
                scale,
                tape,
                place,
                size,
            )
        else:
            for part in range(2):  # in the order of units from the last to the first
                first, last = (depth, units) if part == 0 else (0, depth)
                to = b * units + first
                if first < last:
                    back_row(
                        last - first,
                        s,
                        b * width + first,
                        x,
                        x_at + b * x_width + first,
                        bias,
                        at + first,
                        left,
                        shift,
                        plan,
                        0,
                        table,
                        0,
                        on * (1 - part),
                        sigma,
                        to,
                        r,
                        to,
                        u,
                        b * by_row + first,
                        flat,
                        to,
                        old,
                        to,
                        heads.reshape(-1),
                        to,
                        words,
                        0,
                        tally,
                        0,
                        unit_h,
                        unit_view,
                        scale,
                        tape,
                        place + first,
                        size,
                    )
    return bool(tally[TOP] >= 0)
