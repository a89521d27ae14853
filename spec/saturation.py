"""Numbers at the end of their range: how many a pass met, and a warning where they are many.

An operand saturates at ±32512 (FMT-003): with the default formats an input beyond ±7.94, a view of
RevLSTM's state beyond ±31.75. It is computed with as that end, and passes no gradient (GRAD-002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .caller_warnings import warn_caller
from .config import Config
from .formats import OPERAND_MAX

# Above this share a pass warns.
WARNED_SHARE: Final = 0.01


class SaturationWarning(UserWarning):
    """More than 1 % of the inputs, states or weights seen lie at the end of their range."""


@dataclass(frozen=True)
class Saturation:
    """What a pass met at the end of its range.

    Attributes:
        inputs: share of the input's operands at ±32512, 0 … 1.
        views: share of the top layer's outputs whose view is at ±32512, 0 … 1 (FMT-004). Of a
            pass that gave no outputs, share of the final states of all layers.
        largest_h: the largest magnitude of those outputs and of the final ``h``.
        weights: share of the weights at ±32512 (FMT-003), where they were counted: in PyTorch by
            passes that can be differentiated, in JAX if they are given.
    """

    inputs: float
    views: float
    largest_h: float
    weights: float = 0.0

    def __str__(self) -> str:
        """Return one line."""
        return (
            f"saturated: inputs {self.inputs:.2%}, views {self.views:.2%}, weights"
            f" {self.weights:.2%}; largest |h| {self.largest_h:.3g}"
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
    formats, stops = config.formats, "saturate and pass no gradient"
    kinds = (
        ("inputs", inputs, saturation.inputs, formats.operand_bits, stops, "scale them down"),
        ("views", "states", saturation.views, config.view_bits, stops, _advice(config)),
        (
            "weights",
            "weights",
            saturation.weights,
            formats.weight_bits,
            "are computed with as that",
            "begin with smaller ones, use a smaller learning rate or weight decay",
        ),
    )
    for kind, name, share, bits, what, advice in kinds:
        if share > WARNED_SHARE and kind not in _warned:
            end = OPERAND_MAX / 2**bits
            text = f"{share:.1%} of the {name} are at or beyond ±{end:.2f}, where they {what}"
            warn_caller(f"{text}: {advice}. (Said once a process.)", SaturationWarning)
            _warned.add(kind)  # not if it is an error, which is raised every time


def _advice(config: Config) -> str:
    """Return what keeps states of a stack smaller."""
    if not config.forgetting:
        return "use a smaller learning rate, clip gradients, or a cell that forgets"
    if "p" in config.gates:
        return "use a smaller learning rate, clip gradients, or lower p_max and z_max"
    return "begin with smaller states"  # they do not grow beyond those, or ±1
