"""Float to fixed point and back (QNT)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.formats import INT32_MAX, INT32_MIN, OPERAND_MAX, Formats

# Elements handled at a time, which fit a processor's cache.
_CACHED: Final = 2**18
# PyTorch handles fewer than 2^15 without its other threads. After each operation these keep their
# cores busy for milliseconds, waiting for the next one, and hold up the native engine's threads,
# which begin at sizes where a chunk has about as many elements as the second number.
ALONE: Final = 2**15 - 1
_FEW: Final = 2**17
# Added to a float32 of magnitude below 2^22 it leaves no bits for fractions, which are rounded half
# to even. (torch.round starts threads from 2048 elements on.)
_HALVES: Final = 1.5 * 2.0**23

# Types whose sums would lose too much.
LOW: Final = (torch.float16, torch.bfloat16)

# QNT-002
_RANGES: Final = {
    "operand": (-OPERAND_MAX, OPERAND_MAX),
    "weight": (-OPERAND_MAX, OPERAND_MAX),
    "bias": (INT32_MIN, INT32_MAX),
    "state": (INT32_MIN, INT32_MAX),
}


def fraction_bits(kind: str, formats: Formats) -> int:
    """Return R of a kind of quantity (QNT-002)."""
    return {
        "operand": formats.operand_bits,
        "weight": formats.weight_bits,
        "bias": formats.sum_bits,
        "state": formats.state_bits,
    }[kind]


def check_finite(**named: Tensor | None) -> None:
    """Raise ``E_NONFINITE`` for the first float tensor with NaN or an infinity (QNT-004).

    All tensors are looked at with one synchronisation.
    """
    given = {name: value for name, value in named.items() if value is not None}
    if not given:
        return
    # One pass: a sum is not finite if an element is not. It may also have overflown.
    sums = torch.stack([value.detach().sum().float() for value in given.values()])
    if bool(torch.isfinite(sums).all()):
        return
    finite = torch.stack([torch.isfinite(value).all() for value in given.values()]).tolist()
    for name, good in zip(given, finite, strict=True):
        if not good:
            raise RevRNNError("E_NONFINITE", name, "NaN or infinity", "finite numbers")


def quantise(kind: str, x: Tensor, formats: Formats) -> Tensor:
    """Return float32 ``x`` in fixed point: int16 for operands and weights, else int32.

    Rounds half to even (QNT-001); ``x`` must be finite.
    """
    low, high = _RANGES[kind]
    bits = fraction_bits(kind, formats)
    if high == OPERAND_MAX:
        # Above ±32512 values are clipped; below, a scaled float32 is exact.
        out = torch.empty(x.shape, dtype=torch.int16, device=x.device)
        for part, to in parts(x, out):
            scaled = torch.mul(part.float(), 2.0**bits).clamp_(low, high)
            to.copy_(scaled.add_(_HALVES).sub_(_HALVES))
        return out
    # 2^31 − 1 is no float32, so clip in float64.
    return (x.double() * 2.0**bits).round_().clamp_(low, high).to(torch.int32)


def quantise_parameters(
    params: Mapping[str, Tensor],
    config: Config,
    by: Callable[[str, Tensor, Formats], Tensor] = quantise,
) -> dict[str, Tensor]:
    """Return float parameters in fixed point: int16 weights, int32 biases (QNT-002, QNT-005).

    ``by`` is :func:`quantise`, or what gives the same.
    """
    kinds = {name: "bias" if name.startswith("bias") else "weight" for name in params}
    return {name: by(kinds[name], value.detach(), config.formats) for name, value in params.items()}


def blocks(x: Tensor) -> list[slice]:
    """Return slices of the first axis that fit a processor's cache."""
    if x.device.type != "cpu":
        return [slice(None)]
    rows = max(1, _CACHED * len(x) // max(x.numel(), 1))
    return [slice(begin, begin + rows) for begin in range(0, len(x), rows)]


def parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of one shape into pieces that one thread handles alone and in its cache."""
    first, whole, piece = tensors[0], _CACHED, _CACHED
    if torch.get_num_threads() > 1:
        whole, piece = _FEW, ALONE
    if first.device.type != "cpu" or first.numel() <= whole:
        yield tensors
    elif all(tensor.is_contiguous() for tensor in tensors):
        pieces = [torch.split(tensor.view(-1), piece) for tensor in tensors]
        yield from zip(*pieces, strict=True)
    else:
        for steps in zip(*tensors, strict=True):
            yield from parts(*steps)


def operand_passes(x: Tensor, formats: Formats) -> Tensor:
    """Say where a quantised float operand did not saturate (GRAD-002)."""
    return (x.float() * 2.0**formats.operand_bits).round_().abs_() <= OPERAND_MAX


def wide(value: Tensor) -> Tensor:
    """Return floats of low precision, whose sums would lose too much, in float32."""
    return value.float() if value.dtype in LOW else value


def is_low(value: Tensor) -> bool:
    """Say whether floats are of low precision, or were computed where autocast may make them so."""
    return value.dtype in LOW or torch.is_autocast_enabled(value.device.type)


def dequantise(q: Tensor, bits: int, out: Tensor | None = None) -> Tensor:
    """Return the nearest float32 to ``q · 2^-bits`` (QNT-006), in ``out`` if it is given."""
    if out is None:
        out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    for part, to in parts(q, out):
        torch.mul(part.to(torch.float32), 2.0**-bits, out=to)
    return out


def round_shift(v: Tensor, k: int) -> Tensor:
    """Return ``rs(v, k)`` without leaving the type of ``v`` (GEN-003)."""
    return ((v >> (k - 1)) + 1) >> 1 if k else v.clone()


def floor_divide(v: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``v // z`` and ``v mod z`` of int32 ``v`` and gates 1 … 1024, exactly (GEN-002).

    Processors divide integers one at a time, binary64 numbers many at once. The exact quotient is
    a whole number, or at least 2^-10 away from one, and below 2^31 binary64 errs by at most 2^-22.
    """
    quotient = (v.to(torch.float64) / z).floor().to(torch.int32)
    return quotient, v - quotient * z


def view(h: Tensor, state_bits: int, view_bits: int) -> Tensor:
    """Return states int32 as operands int32 with ``view_bits`` fraction bits (FMT-004)."""
    return round_shift(h, state_bits - view_bits).clamp_(-OPERAND_MAX, OPERAND_MAX)


def view_passes(h: Tensor, state_bits: int, view_bits: int) -> Tensor:
    """Say where :func:`view` did not saturate (GRAD-002)."""
    return round_shift(h, state_bits - view_bits).abs_() <= OPERAND_MAX
