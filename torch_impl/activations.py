"""Activations by table and integer interpolation (ACT)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from revrnn.tanh_table import tanh_table

# A plain dictionary, which a compiler can look into.
_tables: dict[torch.device, Tensor] = {}


def packed_table(device: torch.device) -> Tensor:
    """Return ``TANH[i]·512 + (TANH[i+1] − TANH[i])``, int32 ``[1025]``: one look-up gives both."""
    if device not in _tables:
        table = torch.from_numpy(tanh_table())
        step = torch.diff(table, append=table[-1:])  # at most 256
        _tables[device] = ((table << 9) + step).to(device)
    return _tables[device]


def tanh(s: Tensor, bits: int) -> Tensor:
    """Return tanh of int32 or int64 ``s`` (``bits`` fraction bits), int32 of 15 (ACT-002)."""
    end = 1 << (bits + 3)  # at most 2^30
    # Clip before taking the magnitude, which for the smallest integer does not fit its type.
    s = s.clamp(-end, end).to(torch.int32)
    u = s.abs()
    shift = bits - 7
    index = u >> shift
    packed = packed_table(s.device).index_select(0, index.view(-1)).view(index.shape)
    f = u & ((1 << shift) - 1)
    # The difference is at most 2^8 and f below 2^20: their product fits int32.
    t = (packed >> 9) + (((packed & 511) * f + (1 << (shift - 1))) >> shift)
    sign = s >> 31  # 0 or −1
    return (t ^ sign) - sign


def sigmoid(s: Tensor, bits: int) -> Tensor:
    """Return the sigmoid of ``s``, int32 with 15 fraction bits (ACT-003)."""
    return (tanh(s, bits + 1) + 2**15) >> 1


class ForgetGate(NamedTuple):
    """A forget gate and what its gradient needs.

    Attributes:
        z: the gate in 1024ths, int32.
        sigma: the sigmoid that it is made of, int32 with 15 fraction bits.
        passes: where the clip did not act (GRAD-010), or ``None`` where it cannot act.
    """

    z: Tensor
    sigma: Tensor
    passes: Tensor | None


def forget_gate(sigma: Tensor, max_forget_bits: int | None, z_max: int) -> ForgetGate:
    """Return the forget gate made of a sigmoid (ACT-004 with a limit, ACT-005 without)."""
    if max_forget_bits is None:
        unclipped = (sigma + 2**4) >> 5
    else:
        n = max_forget_bits
        unclipped = (sigma * (2**n - 1) + (2**15 + 2 ** (4 + n))) >> (5 + n)
        if z_max == 1024:  # 2^(10-n) … 1024: the clip cannot act
            return ForgetGate(unclipped, sigma, None)
    z = unclipped.clamp(1, z_max)
    return ForgetGate(z, sigma, z == unclipped)
