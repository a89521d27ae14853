"""Numbers at the end of their range: how many a pass met, and a warning where they are many.

An operand saturates at ±32512 (FMT-003): with the default formats an input beyond ±7.94, a view of
RevLSTM's state beyond ±31.75. It is computed with as that end, and passes no gradient (GRAD-002).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

from .config import Config
from .formats import OPERAND_MAX

# Above this share a pass warns.
WARNED_SHARE: Final = 0.01


class SaturationWarning(UserWarning):
    """More than 1 % of the inputs or of the states seen lie at the end of their range."""


@dataclass(frozen=True)
class Saturation:
    """What a pass met at the end of its range.

    Attributes:
        inputs: share of the input's operands at ±32512, 0 … 1.
        views: share of the top layer's outputs whose view is at ±32512, 0 … 1 (FMT-004). Of a
            pass that gave no outputs, share of the final states of all layers.
        largest_h: the largest magnitude of those outputs and of the final ``h``.
    """

    inputs: float
    views: float
    largest_h: float

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"saturated: inputs {self.inputs:.2%}, views {self.views:.2%};"
            f" largest |h| {self.largest_h:.3g}"
        )


def view_limit(config: Config) -> int:
    """Return the largest state, in its own fraction bits, whose view is not beyond ±32512."""
    shift = config.formats.state_bits - config.view_bits
    return (OPERAND_MAX << shift) + (1 << (shift - 1)) - 1


_warned: set[str] = set()


def warn_of_saturation(saturation: Saturation, config: Config, inputs: str = "inputs") -> None:
    """Warn, once a process and kind, of a share above 1 %.

    Args:
        saturation: what a pass met.
        config: its stack.
        inputs: what the caller calls the inputs.
    """
    formats = config.formats
    kinds = (
        ("inputs", inputs, saturation.inputs, formats.operand_bits, "scale them down"),
        (
            "views",
            "states",
            saturation.views,
            config.view_bits,
            "use a smaller learning rate, clip gradients, or lower p_max and z_max",
        ),
    )
    for kind, name, share, bits, advice in kinds:
        if share > WARNED_SHARE and kind not in _warned:
            _warned.add(kind)
            end = OPERAND_MAX / 2**bits
            warnings.warn(
                f"{share:.1%} of the {name} are at or beyond ±{end:.2f}, where they saturate and"
                f" pass no gradient: {advice}. (Said once a process.)",
                SaturationWarning,
                stacklevel=2,
            )
