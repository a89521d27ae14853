"""Which engine would compute a sequence, in words, for every implementation with engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class EnginePlan:
    """What would compute a sequence.

    Attributes:
        engine: the engine's name.
        product: its exact product, in words.
        refused: why others do not take it, by name.
    """

    engine: str
    product: str
    refused: Mapping[str, str]

    def __str__(self) -> str:
        """Return a line for the engine and one for each that refused."""
        lines = [f"engine {self.engine}, products: {self.product}"]
        return "\n".join([*lines, *(f"not {name}: {why}" for name, why in self.refused.items())])
