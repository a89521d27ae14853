"""Numbers that kernels are given: fixed, or following from the counter of a loop over steps."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Number:
    """``scale · counter + offset``, or whether that is odd.

    Attributes:
        scale: 0 for a number that is the same at every launch.
        offset: what is added.
        odd: whether the lowest bit alone counts.
    """

    scale: int
    offset: int
    odd: bool = False

    @classmethod
    def of(cls, value: int | Number) -> Number:
        """Return a number as one of these."""
        return value if isinstance(value, Number) else cls(0, value)

    @property
    def fixed(self) -> bool:
        """Say whether it is the same at every launch."""
        return self.scale == 0

    def at(self, counter: int) -> int:
        """Return it for a counter."""
        value = self.scale * counter + self.offset
        return value & 1 if self.odd else value

    def __add__(self, other: int) -> Number:
        return replace(self, offset=self.offset + other)

    def __sub__(self, other: int) -> Number:
        return self + -other

    def __mul__(self, other: int) -> Number:
        return replace(self, scale=self.scale * other, offset=self.offset * other)
