"""The factors of the gradients of a chunk of steps, all steps at once (GRAD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.formats import FORGET_BITS, GAIN_BITS, GATE_BITS

from .activations import ForgetGate
from .cells import GruGates
from .quantise import view_passes
from .sequence import GroupStep


def real(v: Tensor, bits: int) -> Tensor:
    """Return the float32 nearest to the number that ``v`` stands for (GEN-004)."""
    # A product of integers and a number would be computed in the default type, whatever ``out`` is.
    return v.to(torch.float32).mul_(2.0**-bits)


def together(values: list[Any], bits: int) -> Tensor:
    """Stack the tensors of many steps as real numbers, ``[C, B, …]``."""
    return real(torch.stack(values), bits)


@dataclass
class Slopes:
    """The factors of one group's gradients in the backward pass, for a chunk of steps.

    Factors of masked rows are such that their gradients pass unchanged (GRAD-015). RevGRU's gates
    depend on ``h`` alone, and its ``from_c`` and ``to_c`` are absent.

    Attributes:
        v: the view, ``[C, B, G]``.
        passes: where the view did not saturate (GRAD-002).
        keep: of the new ``h`` in the old one.
        from_h: of ``h`` in the pre-activations that it reaches directly: RevGRU's ``z`` and ``g``,
            RevLSTM's ``o`` and ``p``.
        u: RevGRU's ``u``.
        r: RevGRU's reset gate.
        to_r: of ``u`` in the reset gate's pre-activation.
        to_c: of the new ``h`` in the new ``c``.
        keep_c: of the new ``c`` in the old one.
        from_c: of the new ``c`` in the pre-activations of ``f`` (if any), ``i``, ``g``.
    """

    v: Tensor
    passes: Tensor
    keep: Tensor | None
    from_h: Tensor
    u: Tensor | None = None
    r: Tensor | None = None
    to_r: Tensor | None = None
    to_c: Tensor | None = None
    keep_c: Tensor | None = None
    from_c: Tensor | None = None


def sigmoid_slope(y: Tensor) -> Tensor:
    """Return the derivative of the sigmoid from its value (GRAD-010)."""
    return y - y * y


def tanh_slope(y: Tensor) -> Tensor:
    """Return the derivative of tanh from its value (GRAD-010)."""
    return 1 - y * y


def forget_slope(config: Config, gates: list[ForgetGate]) -> Tensor:
    """Return the derivatives of forget gates with respect to their pre-activations (GRAD-010)."""
    slope = sigmoid_slope(together([gate.sigma for gate in gates], GATE_BITS))
    if config.max_forget_bits is not None:
        slope *= 1 - 2.0**-config.max_forget_bits
    passes = [gate.passes for gate in gates if gate.passes is not None]
    return slope * torch.stack(passes) if passes else slope


def slopes_of(config: Config, steps: list[GroupStep], rows: Tensor | None) -> Slopes:
    """Return the factors of one group's updates in a chunk; ``rows`` is bool ``[C, B, 1]``."""
    first = steps[0].gates
    f, bits = config.formats, config.view_bits
    v = together([step.gates.v for step in steps], bits)
    passes = view_passes(torch.stack([step.other for step in steps]), f.state_bits, bits)
    if isinstance(first, GruGates):
        slopes = _gru_slopes(config, steps, v, passes)
    else:
        slopes = _lstm_slopes(config, steps, v, passes)
    if rows is not None:
        for name in ("from_h", "to_c", "from_c"):
            factor = getattr(slopes, name)
            if factor is not None:
                wide = rows.unsqueeze(-2) if factor.dim() == 4 else rows
                setattr(slopes, name, factor * wide)
        for name in ("keep", "keep_c"):
            factor = getattr(slopes, name)
            if factor is not None:
                setattr(slopes, name, torch.where(rows, factor, 1.0))
    return slopes


def _gru_slopes(config: Config, steps: list[GroupStep], v: Tensor, passes: Tensor) -> Slopes:
    gates: list[Any] = [step.gates for step in steps]
    z, g = together([x.z.z for x in gates], FORGET_BITS), together([x.g for x in gates], GATE_BITS)
    r = together([x.r for x in gates], GATE_BITS)
    own = -g
    if config.forgetting:
        own = together([step.h for step in steps], config.formats.state_bits) - g
    from_h = torch.stack(
        [own * forget_slope(config, [x.z for x in gates]), (1 - z) * tanh_slope(g)], -2
    )
    u = together([x.u for x in gates], config.view_bits)
    keep = z if config.forgetting else None  # GRAD-011
    return Slopes(v, passes, keep, from_h, u=u, r=r, to_r=v * sigmoid_slope(r))


def _lstm_slopes(config: Config, steps: list[GroupStep], v: Tensor, passes: Tensor) -> Slopes:
    gates: list[Any] = [step.gates for step in steps]
    i, g, o = (together([getattr(x, n) for x in gates], GATE_BITS) for n in ("i", "g", "o"))
    t = together([step.t for step in steps], GATE_BITS)
    from_c, from_h = [g * sigmoid_slope(i), i * tanh_slope(g)], [t * sigmoid_slope(o)]
    keep = keep_c = None
    if config.forgetting:
        bits = config.formats.state_bits
        f, p = [x.f for x in gates], [x.p for x in gates]
        c, h = together([step.c for step in steps], bits), together([s.h for s in steps], bits)
        from_c.insert(0, c * forget_slope(config, f))
        from_h.append(h * forget_slope(config, p))
        # GRAD-011
        keep, keep_c = (together([x.z for x in gate], FORGET_BITS) for gate in (p, f))
    return Slopes(
        v,
        passes,
        keep,
        torch.stack(from_h, -2),
        to_c=o * tanh_slope(t),
        keep_c=keep_c,
        from_c=torch.stack(from_c, -2),
    )


@dataclass
class Below:
    """A layer's input in a chunk, ``[C, B, H]``, and its derivative by the state below."""

    operand: Tensor
    slope: Tensor

    @classmethod
    def of(cls, config: Config, steps: list[GroupStep]) -> Below:
        """Stack what one group's updates of a chunk met."""
        taken = [step.input for step in steps if step.input is not None]
        slope = torch.stack([t.passes for t in taken]).to(torch.float32)
        gains = [t.gain for t in taken if t.gain is not None]
        if gains:
            slope *= together(gains, GAIN_BITS)  # GRAD-016
        return cls(together([t.operand for t in taken], config.view_bits), slope)
