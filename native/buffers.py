"""The reversible multiplication of vectors of units, and its stack of words (MUL, BUF).

A quotient is found from one reciprocal in float32: a first quotient, off by a little, leaves a
small remainder, whose own quotient is then exact, since half a unit is added to the dividend and
the error stays below half a unit over the divisor. No operation leaves int32 (BUF-034).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from llvmlite import ir

from .compiling import Array, inner
from .lanes import I16, I32, I64, Group, Lanes, Place, Variable, vector
from .processor import WIDE
from .tiles import LANES
from .vectors import Kernel

# Places in the tallies that a pass keeps, int64.
TOP: Final = 0
UNDERFLOW: Final = 1
WRAPS: Final = 2
LATER: Final = 3  # top of the words that go on the stack after those of another operation
TALLIES: Final = 4


class Exchanged(NamedTuple):
    """What :func:`exchange` gives.

    Attributes:
        h: states.
        head: heads.
        word: heads whose low 16 bits go on the stack
        full: where they do.
        wraps: −1 where a state wrapped, else 0 or more.
    """

    h: Lanes
    head: Lanes
    word: Lanes
    full: Lanes
    wraps: Lanes


def exchange(h: Lanes, z: Lanes, change: Lanes, head: Lanes, buffered: Lanes) -> Exchanged:
    """Return ``h·z + change``, and what becomes of heads (CELL-012, MUL-001, BUF-001, BUF-031).

    Where not ``buffered`` a unit is sliced, and inactive in the buffer (MUL-005).
    """
    full = ((head >> 21) >= z) & buffered
    short = full.choose(head >> 16, head)
    inverse = 1.0 / z.as_real()
    # Below z·2^21: the quotient is off by one at most, the remainder in −z … 2z.
    q = (short.as_real() * inverse).as_integer()
    m = ((short - q * z) << 10) + (h & 1023)
    e = ((m.as_real() + 0.5) * inverse).call("floor").as_integer()
    residue = buffered.choose(m - e * z, h.with_value(h.lift(0)))
    product = (h >> 10) * z + residue
    total = product + change
    wraps = ((product ^ total) & (change ^ total)) >> 31
    return Exchanged(total, buffered.choose((q << 10) + e, head), head, full, wraps)


def exchange_back(
    h: Lanes, z: Lanes, change: Lanes, head: Lanes, buffered: Lanes, restore: Lanes
) -> tuple[Lanes, Lanes, Lanes]:
    """Undo :func:`exchange` but for words (MUL-003, BUF-002, BUF-032).

    Returns:
        States, those not ``buffered`` as ``restore`` says; heads; which of them want a word.
    """
    p = h - change
    inverse = 1.0 / z.as_real()
    # Without its last 8 bits p is a float32 that no rounding takes out of int32.
    a = ((p & -256).as_real() * inverse).as_integer()
    rest = p - a * z  # its magnitude is below 2^11
    more = ((rest.as_real() + 0.5) * inverse).call("floor").as_integer()
    m = (head & 1023) * z + (rest - more * z)
    old = ((a + more) << 10) + (m & 1023)
    before = buffered.choose((head >> 10) * z + (m >> 10), head)
    return buffered.choose(old, restore), before, (before < 32768) & buffered


class WordStack:
    """Words in memory, with room for :data:`.tiles.LANES` more at both ends of what is used."""

    def __init__(self, k: Kernel, words: Place, tally: Place, index: int = TOP) -> None:
        """Take words, and where among the tallies their number is."""
        self.k, self.words, self.tally, self.index = k, words, tally, index
        self.top = Variable(k.builder, k.scalar(tally, index))

    def close(self) -> None:
        """Note the number of words."""
        self.k.put(self.tally, self.index, self.top.get())

    def push(self, group: Group, where: Lanes, heads: Lanes, keep: Any) -> None:
        """Push words of heads, or without ``keep`` none."""
        k, builder, top = self.k, self.k.builder, self.top.get()
        where = group.counting(where)
        if WIDE:
            kind = vector(I32)
            squeeze = k.function(
                f"llvm.x86.avx512.mask.compress.v{LANES}i32", kind, [kind, kind, where.value.type]
            )
            words = builder.call(squeeze, [heads.value, ir.Constant(kind, None), where.value])
            place = builder.bitcast(self.words.after(top).pointer, vector(I16).as_pointer())
            builder.store(builder.trunc(words, vector(I16)), place).align = 2
        else:
            before = k.before(where).value
            for lane in range(LANES):  # overwritten unless it is pushed
                one = ir.Constant(I32, lane)
                offset = builder.zext(builder.extract_element(before, one), I64)
                word = builder.trunc(builder.extract_element(heads.value, one), I16)
                builder.store(word, self.words.after(builder.add(top, offset)).pointer)
        count = builder.mul(k.count_of(where), keep)
        self.top.set(builder.add(top, count))

    def update(
        self,
        group: Group,
        state: Place,
        z: Lanes,
        change: Lanes,
        head: Lanes,
        buffered: Lanes,
        keep: Any,
        wraps: Wraps,
    ) -> Exchanged:
        """Multiply states in place, push words and count wraps; return what became of them."""
        new = exchange(group.load(state), z, change, head, buffered)
        self.push(group, new.full, new.word, keep)
        wraps.add(group, new.wraps)
        group.store(state, new.h)
        return new

    def undo(
        self,
        group: Group,
        state: Place,
        z: Lanes,
        change: Lanes,
        heads: Place,
        buffered: Lanes,
        restore: Place,
    ) -> Lanes:
        """Undo :meth:`update` in place; return the states before (CELL-040)."""
        old, head, wanting = exchange_back(
            group.load(state), z, change, group.load(heads), buffered, group.load(restore)
        )
        group.store(state, old)
        group.store(heads, self.pop(group, wanting, head))
        return old

    def pop(self, group: Group, where: Lanes, heads: Lanes) -> Lanes:
        """Return heads with their words; the top becomes negative if there were too few."""
        k, builder, kind = self.k, self.k.builder, vector(I32)
        where = group.counting(where)
        top = builder.sub(self.top.get(), k.count_of(where))
        self.top.set(top)
        none = ir.Constant(I64, 0)
        first = builder.select(builder.icmp_signed("<", top, none), none, top)
        place = builder.bitcast(self.words.after(first).pointer, vector(I16).as_pointer())
        loaded = builder.load(place)
        loaded.align = 2
        words = builder.zext(loaded, kind)
        if WIDE:
            spread = k.function(
                f"llvm.x86.avx512.mask.expand.v{LANES}i32", kind, [kind, kind, where.value.type]
            )
            own = builder.call(spread, [words, ir.Constant(kind, None), where.value])
        elif LANES == 8:
            permute = k.function("llvm.x86.avx2.permd", kind, [kind, kind])
            own = builder.call(permute, [words, k.before(where).value])
        else:
            before, own = k.before(where).value, ir.Constant(kind, ir.Undefined)
            for lane in range(LANES):
                one = ir.Constant(I32, lane)
                picked = builder.extract_element(words, builder.extract_element(before, one))
                own = builder.insert_element(own, picked, one)
        return where.choose((heads << 16) | Lanes(builder, own), heads)


class Wraps:
    """Counts states that wrapped (MUL-006)."""

    def __init__(self, k: Kernel, tally: Place) -> None:
        """Start from nothing."""
        self.k, self.tally = k, tally
        self.total = Variable(k.builder, k.zeros().value)

    def add(self, group: Group, wraps: Lanes) -> None:
        """Count lanes that are −1."""
        value = wraps.value
        if group.mask is not None:
            value = self.k.builder.select(group.mask, value, self.k.zeros().value)
        self.total.set(self.k.builder.sub(self.total.get(), value))

    def sum(self, group: Group, h: Lanes, change: Lanes) -> Lanes:
        """Return states that are not multiplied, and count (CELL-030)."""
        total = h + change
        self.add(group, ((h ^ total) & (change ^ total)) >> 31)
        return total

    def close(self) -> None:
        """Add to the tallies."""
        builder, kind = self.k.builder, vector(I32)
        add = self.k.function(f"llvm.vector.reduce.add.v{LANES}i32", I32, [kind])
        count = builder.sext(builder.call(add, [self.total.get()]), I64)
        before = self.k.scalar(self.tally, WRAPS)
        self.k.put(self.tally, WRAPS, builder.add(before, count))


@inner
def count_gates(z: Array, active: Array, first: int, units: int, counts: Array) -> None:
    """Add the active gates of units from ``first`` on to a histogram."""
    for b in range(active.size):
        if active[b]:
            for i in range(first, units):
                counts[z[b * units + i]] += 1


@inner
def append_later(words: Array, later: Array, tally: Array) -> None:
    """Put words that waited on the stack."""
    top = tally[TOP]
    for i in range(tally[LATER]):
        words[top + i] = later[i]
    tally[TOP] = top + tally[LATER]
    tally[LATER] = 0
