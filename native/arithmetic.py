"""Activations and views of vectors of numbers (ACT, FMT, GRAD-010)."""

from __future__ import annotations

from typing import Any, Final

from .compiling import Array, f32, i32, i64, inner, round_shift
from .lanes import Group, Lanes, Place, Variable
from .vectors import Kernel, kernel

OPERAND_MAX: Final = 32512

# Places in the plan, int64, the numbers of a configuration.
SUM_BITS: Final = 0
STATE_BITS: Final = 1
VIEW_BITS: Final = 2
GATE_FACTOR: Final = 3  # of ACT-004: (σ·factor + term) >> shift
GATE_TERM: Final = 4
GATE_SHIFT: Final = 5
Z_MAX: Final = 6
FORGETTING: Final = 7
INPUT_SHIFT: Final = 8  # PROD-004, of layer 0, of the layers above and of views
LAYER_SHIFT: Final = 9
VIEW_SHIFT: Final = 10
SLICES: Final = 11
FORGET_BITS: Final = 12  # the limit, 0 without one
P_MAX: Final = 13
NUMBERS: Final = 14


class Tanh:
    """The hyperbolic tangent of numbers with so many fraction bits (ACT-002).

    ``table`` has a value and the step to the next one in one number, as
    :func:`revrnn.torch_impl.activations.packed_table` makes it.
    """

    def __init__(self, k: Kernel, table: Place, bits: Lanes) -> None:
        """Take fraction bits, the same in all lanes."""
        one = k.zeros() + 1
        self.k, self.table, self.shift = k, table, bits - 7
        self.end = one << (bits + 3)
        self.mask, self.half = (one << self.shift) - 1, one << (self.shift - 1)

    def __call__(self, s: Lanes) -> Lanes:
        """Return int32 of 15 fraction bits."""
        u, sign = s.magnitude(self.end), s >> 31
        pair = self.k.look_up(self.table, u >> self.shift)
        step = ((pair & 511) * (u & self.mask) + self.half) >> self.shift
        return (((pair >> 9) + step) ^ sign) - sign


class Gates:
    """The activations of one row of gates."""

    def __init__(self, k: Kernel, plan: Place, table: Place) -> None:
        """Take numbers of the configuration and the table."""
        bits = k.number(plan, SUM_BITS)
        self.tanh, self._half = Tanh(k, table, bits), Tanh(k, table, bits + 1)
        self._factor, self._term = k.number(plan, GATE_FACTOR), k.number(plan, GATE_TERM)
        self._shift = k.number(plan, GATE_SHIFT)

    def sigmoid(self, s: Lanes) -> Lanes:
        """Return int32 of 15 fraction bits (ACT-003): tanh of half the number."""
        return (self._half(s) + 32768) >> 1

    def unclipped(self, sigma: Lanes) -> Lanes:
        """Return a forget gate before its clip."""
        return (sigma * self._factor + self._term) >> self._shift

    def forget(self, sigma: Lanes, top: Lanes) -> Lanes:
        """Return forget gates (ACT-004, ACT-005)."""
        return self.unclipped(sigma).at_least(1).at_most(top)

    def forget_slope(self, sigma: Lanes, z: Lanes, scale: Lanes) -> Lanes:
        """Return the derivative of forget gates times ``scale`` (GRAD-010)."""
        slope = sigmoid_slope(unit(sigma)) * scale
        return self.unclipped(sigma).equals(z).choose(slope, slope.with_value(slope.lift(0.0)))


def unit(v: Lanes) -> Lanes:
    """Return an int32 of 15 fraction bits as a float32."""
    return v.as_real() * 2.0**-15


def sigmoid_slope(y: Lanes) -> Lanes:
    """Return the derivative of a sigmoid by its value."""
    return y - y * y


def tanh_slope(y: Lanes) -> Lanes:
    """Return the derivative of tanh by its value."""
    return 1.0 - y * y


class Sums:
    """Pre-activations of one row: recurrent sums, input sums and biases (PROD-004)."""

    def __init__(
        self, k: Kernel, stride: Any, places: tuple[Place, Place, Place], left: Any, shift: Any
    ) -> None:
        """Take numbers from one gate to the next, and shifts of both sums."""
        self.k, self.stride, self.places = k, stride, places
        self.left, self.shift = k.all_lanes(left), k.all_lanes(shift)

    def of(self, group: Group, gate: int) -> Lanes:
        """Return those of a gate."""
        offset = self.k.times(self.stride, gate)
        recurrent, inputs, bias = (group.load(place.after(offset)) for place in self.places)
        return (recurrent << self.left) + ((inputs << self.shift) + bias)


class _Views:
    """Operands of a row of states (FMT-004), and their largest magnitude."""

    def __init__(self, k: Kernel, bits: Any) -> None:
        """Take how many fraction bits are lost."""
        self.k, self.shift = k, k.all_lanes(bits)
        self.most = Variable(k.builder, k.zeros().value)

    def write(self, group: Group, h: Place, out: Place) -> tuple[Lanes, Lanes]:
        """Write operands; return them before and after the ends of their range."""
        v = group.load(h).rounded(self.shift)
        w = v.at_least(-OPERAND_MAX).at_most(OPERAND_MAX)
        group.store_short(out, w)
        now = Lanes(self.k.builder, self.most.get())
        self.most.set(now.at_least(w).at_least(0 - w).value)
        return v, w


@kernel
def view_row(k: Kernel, n: Any, bits: Any, h: Place, out: Place, largest: Place) -> None:
    """Write a row of states as operands int16 (FMT-004), and raise the largest magnitude.

    ``out`` has room for whole vectors; the last one is filled with zeros.
    """
    views = _Views(k, bits)
    k.each(n, lambda group: views.write(group, h, out))
    k.raise_to(largest, views.most)


@kernel
def view_row_back(
    k: Kernel,
    n: Any,
    bits: Any,
    h: Place,
    out: Place,
    largest: Place,
    scale: Any,
    real: Place,
    ok: Place,
) -> None:
    """Write also float32 of the operands, and 1 where nothing saturated, else 0 (GRAD-002)."""
    views, by = _Views(k, bits), k.all_lanes(scale)

    def see(group: Group) -> None:
        v, w = views.write(group, h, out)
        group.store(real, w.as_real() * by)
        group.store(ok, v.equals(w).choose(1.0, k.zeros(real=True)))

    k.each(n, see)
    k.raise_to(largest, views.most)


@inner
def views(h: Array, bits: int, out: Array, by_row: int, largest: Array) -> None:
    """Write states ``[R, G]`` as operands, and the largest magnitude into ``largest``."""
    rows, units = h.shape
    largest[0] = 0
    for b in range(rows):
        view_row(units, bits, h.reshape(-1), b * units, out, b * by_row, largest, 0)


@inner
def views_back(
    h: Array,
    bits: int,
    out: Array,
    by_row: int,
    largest: Array,
    unit: float,
    tape: Array,
    real: int,
    ok: int,
) -> None:
    """Do so, and write to the tape from ``real`` and ``ok`` on."""
    rows, units = h.shape
    largest[0] = 0
    for b in range(rows):
        view_row_back(
            units,
            bits,
            h.reshape(-1),
            b * units,
            out,
            b * by_row,
            largest,
            0,
            unit,
            tape,
            real + b * units,
            tape,
            ok + b * units,
        )


@inner
def layer_input(
    h: Array,
    gains: Array,
    shift: int,
    width: int,
    out: Array,
    operand: Array,
    slope: Array,
    base: int,
    bits: int,
) -> Any:
    """Write a layer's states as the operand of the layer above (SEQ-004, SEQ-012).

    Args:
        h: int32 ``[2, R, G]``.
        gains: int32 ``[R, H]`` with 12 fraction bits, or of no rows.
        shift: fraction bits to be lost.
        width: row length of ``out``.
        out: int16, flat.
        operand: float32, flat: its real numbers, for gradients.
        slope: float32, flat: its derivative by the state (GRAD-002, GRAD-016).
        base: where to begin in ``operand`` and ``slope``, or −1 not to write there.
        bits: fraction bits of the operand.

    Returns:
        The largest magnitude.
    """
    _, rows, units = h.shape
    unit, gain_unit = f32(2.0**-bits), f32(2.0**-12)
    gained = gains.shape[0] > 0
    largest = i32(0)
    for b in range(rows):
        for j in range(2):
            for i in range(units):
                v = round_shift(h[j, b, i], shift)
                w = i32(min(max(v, i32(-OPERAND_MAX)), i32(OPERAND_MAX)))
                passes, factor = v == w, f32(1)
                if gained:
                    gain = gains[b, j * units + i]
                    v = round_shift(i32(w * gain), 12)
                    w = i32(min(max(v, i32(-OPERAND_MAX)), i32(OPERAND_MAX)))
                    passes = passes and v == w
                    factor = f32(gain) * gain_unit
                at = j * units + i
                out[b * width + at] = w
                largest = i32(max(largest, i32(max(w, i32(-w)))))
                if base >= 0:
                    to = base + b * 2 * units + at
                    operand[to] = f32(w) * unit
                    slope[to] = factor if passes else f32(0)
    return i64(largest)
