"""How work is cut and how far arrays are padded; imports no Triton."""

from __future__ import annotations

import os
from dataclasses import dataclass

from revrnn.config import Config
from revrnn.errors import RevRNNError

# Counts of an operation that a program adds up at once.
_COUNTS = 2**14


def interpreted() -> bool:
    """Say whether kernels run in Triton's interpreter, on any device (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on", "yes", "y")


def up(n: int, m: int) -> int:
    """Return ``n`` rounded up to a multiple of ``m``."""
    return -(-n // m) * m


def power(n: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << max(n - 1, 0).bit_length()


@dataclass(frozen=True)
class Tiles:
    """How work is cut: rows, units and summands of a block, and warps of a program."""

    rows: int
    units: int
    block: int
    warps: int = 4
    stages: int = 3

    @classmethod
    def for_batch(cls, batch: int) -> Tiles:
        """Return tiles with which no kernel spills registers."""
        if interpreted():  # the fewest programs
            return cls(16, 16, 16)
        return cls(16 if batch <= 16 else 32, 16, 64)


class Sizes:
    """The sizes of the arrays of one configuration, batch and chunk size.

    Attributes:
        slots: 2·L, the number of groups.
        units: G, padded as ``padded_units``; ``batch`` is padded as ``padded_rows``.
        across: tiles of a group's units; ``grid`` those of its rows and units.
        length: the padded width of the input.
        operations: operations on the buffer in a step.
        planes: float32 planes of a group's tape.
    """

    def __init__(self, config: Config, batch: int, steps: int, tiles: Tiles) -> None:
        """Raise ``E_UNSUPPORTED`` for sizes that kernels cannot index, before any allocation."""
        self.config, self.batch, self.steps, self.tiles = config, batch, steps, tiles
        self.slots, self.units = 2 * config.num_layers, config.group_size
        self.padded_units = up(self.units, max(tiles.units, tiles.block))
        self.padded_rows = up(batch, tiles.rows)
        self.across = self.padded_units // tiles.units
        self.grid = (self.padded_rows // tiles.rows) * self.across
        self.length = up(config.input_size, 64)
        self.operations = config.operations_per_step
        self.planes = 8 if config.cell == "revgru" else 10
        self._check()

    def _check(self) -> None:
        states = self.padded_rows * self.padded_units
        sizes = (
            self.steps * self.operations * states,
            self.steps * self.batch * 2 * self.config.num_gates * self.padded_units,
            self.steps * self.batch * self.config.input_size,
            (2 * self.slots + 1) * states,
            self.planes * self.steps * self.batch * self.padded_units,
        )
        if max(sizes) >= 2**31:
            most = self.steps * (2**31 - 1) // max(sizes)
            raise RevRNNError(
                "E_UNSUPPORTED", "chunk_size", self.steps, f"at most {most} by engine 'triton'"
            )
        counts = self.padded_rows * self.across
        if counts > _COUNTS:
            raise RevRNNError(
                "E_UNSUPPORTED",
                "engine",
                f"'triton' with {self.batch} rows of {self.units} units",
                f"'auto', or at most {_COUNTS * self.tiles.units} rows times units",
            )
