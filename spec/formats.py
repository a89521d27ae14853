"""Number formats: the constants of FMT-001 and the parameters of FMT-002."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Final

from .kinds import KINDS, check_record

_CONSTANTS: Final[dict[str, int]] = json.loads(
    files("revrnn").joinpath("data/constants.json").read_text(encoding="ascii")
)["constants"]

# FMT-001
FORGET_BITS: Final = _CONSTANTS["FORGET_BITS"]
GAIN_BITS: Final = _CONSTANTS["GAIN_BITS"]
GATE_BITS: Final = _CONSTANTS["GATE_BITS"]
OPERAND_MAX: Final = _CONSTANTS["OPERAND_MAX"]
WORD_BITS: Final = _CONSTANTS["WORD_BITS"]
HEAD_START: Final = _CONSTANTS["HEAD_START"]
MAX_PRODUCT_LENGTH: Final = _CONSTANTS["MAX_PRODUCT_LENGTH"]
P_MAX: Final = _CONSTANTS["P_MAX"]  # FMT-007
GAIN_MAX: Final = KINDS["gain"].ends[1]  # SEQ-012

INT32_MIN: Final = -(2**31)
INT32_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Formats:
    """Fraction bits of every quantity that has a choice (FMT-002).

    Attributes:
        state_bits: ``R_H`` of hidden and cell states, 16 … 24.
        operand_bits: ``R_A`` of inputs and of RevGRU's view of h, 8 … 13.
        lstm_view_bits: ``R_V`` of RevLSTM's view of h, 6 … ``operand_bits``.
        weight_bits: ``R_W`` of weights, 8 … 13.

    Raises:
        RevRNNError: ``E_FORMAT`` for any other value.
    """

    state_bits: int = 23
    operand_bits: int = 12
    lstm_view_bits: int = 10
    weight_bits: int = 12

    def __post_init__(self) -> None:
        """Check every field against FMT-002."""
        check_record(self, "formats", lambda name: getattr(self, name))

    @property
    def sum_bits(self) -> int:
        """``R_S``, the fraction bits of pre-activations and biases."""
        return self.operand_bits + self.weight_bits

    def view_bits(self, cell: str) -> int:
        """``R_view`` of a cell's own state (FMT-004)."""
        return self.operand_bits if cell == "revgru" else self.lstm_view_bits

    def default_z_max(self, cell: str) -> int:
        """Largest forget gate, in 1024ths, with which a cell cannot overflow (FMT-005)."""
        return 1024 if cell == "revgru" else 1023 - (2**self.state_bits >> 21)

    def as_dict(self) -> dict[str, int]:
        """Return the fields as a mapping (EVAL-003)."""
        return asdict(self)
