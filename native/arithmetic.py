"""Activations and views of vectors of numbers (ACT, FMT, GRAD-010)."""

from __future__ import annotations

from typing import Any, Final

from .compiling import Array, f32, i32, inner, round_shift
from .lanes import Group, Lanes, Place, Variable
from .records import Back, Factors, Numbers, Sums
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
INPUT_SHIFT: Final = 7  # PROD-004, of layer 0, of the layers above and of views
LAYER_SHIFT: Final = 8
VIEW_SHIFT: Final = 9
SLICES: Final = 10
P_MAX: Final = 11
NUMBERS: Final = 12


class Tanh:
    """The hyperbolic tangent of numbers with so many fraction bits (ACT-002).

    ``table`` has a value and the step to the next one in one number (:func:`.plan.packed_table`).
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

    def __init__(self, k: Kernel, numbers: Numbers) -> None:
        """Take numbers of the configuration and the table."""
        plan, table = numbers.plan, numbers.table
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


class PreActivations:
    """Pre-activations of one row: recurrent sums, input sums and biases (PROD-004)."""

    def __init__(self, k: Kernel, sums: Sums, units: Any, b: Any, first: Any = None) -> None:
        """Take the sums, numbers from one gate to the next, and which row from which unit on."""
        self.k, self.stride = k, units
        bias = sums.bias.after(sums.bias_at)
        (recurrent,) = k.row(b, sums.width, first).of(sums.recurrent)
        (inputs,) = k.row(b, sums.across, first).of(sums.inputs.after(sums.inputs_at))
        self.places = (recurrent, inputs, bias if first is None else bias.after(first))
        self.left, self.shift = k.all_lanes(sums.left), k.all_lanes(sums.shift)

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
def view_row(
    k: Kernel, n: Any, b: Any, bits: Any, h: Place, out: Place, by_row: Any, largest: Place
) -> None:
    """Write a row of states as operands int16 (FMT-004), and raise the largest magnitude.

    The last vector of a row is filled with zeros.
    """
    views = _Views(k, bits)
    (states,), (operands,) = k.row(b, n).of(h), k.row(b, by_row).of(out)
    k.each(n, lambda group: views.write(group, states, operands))
    k.raise_to(largest, views.most)


@kernel
def view_row_back(
    k: Kernel,
    n: Any,
    b: Any,
    bits: Any,
    h: Place,
    out: Place,
    by_row: Any,
    largest: Place,
    unit: Any,
    real: Place,
    size: Any,
) -> None:
    """Write also float32 of the operands, and 1 where nothing saturated, else 0 (GRAD-002)."""
    views, by = _Views(k, bits), k.all_lanes(unit)
    (operands,) = k.row(b, by_row).of(out)
    states, reals = k.row(b, n).of(h, real)

    def see(group: Group) -> None:
        v, w = views.write(group, states, operands)
        group.store(reals, w.as_real() * by)
        group.store(reals.after(size), v.equals(w).choose(1.0, k.zeros(real=True)))

    k.each(n, see)
    k.raise_to(largest, views.most)


@inner
def views(h: Array, bits: int, out: Array, by_row: int, largest: Array) -> None:
    """Write states ``[R, G]`` as operands, and the largest magnitude into ``largest``."""
    rows, units = h.shape
    largest[0] = 0
    for b in range(rows):
        view_row(units, b, bits, h, 0, out, 0, by_row, largest, 0)


@inner
def views_back(
    h: Array, bits: int, out: Array, by_row: int, largest: Array, unit: float, real: int, back: Back
) -> None:
    """Do so, and write to two pieces of the tape from ``real`` on."""
    rows, units = h.shape
    largest[0] = 0
    for b in range(rows):
        view_row_back(
            units, b, bits, h, 0, out, 0, by_row, largest, 0, unit, back.pieces, real, back.size
        )


@inner
def layer_input(
    h: Array, gains: Array, plan: Array, out: Array, factors: Factors, base: int
) -> None:
    """Write a layer's states as the operand of the layer above (SEQ-004, SEQ-012).

    Args:
        h: int32 ``[2, R, G]``.
        gains: int32 ``[R, H]`` with 12 fraction bits, or of no rows.
        plan: numbers of the configuration.
        out: int16, flat ``[R, H]``.
        factors: where its real numbers and its derivative by the state go (GRAD-002, GRAD-016).
        base: where to begin there, or −1 not to write there.
    """
    _, rows, units = h.shape
    shift, unit, gain_unit = (
        plan[STATE_BITS] - plan[VIEW_BITS],
        f32(2.0 ** -plan[VIEW_BITS]),
        f32(2.0**-12),
    )
    gained = gains.shape[0] > 0
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
                at = (b * 2 + j) * units + i
                out[at] = w
                if base >= 0:
                    factors.operands[base + at] = f32(w) * unit
                    factors.slopes[base + at] = factor if passes else f32(0)
