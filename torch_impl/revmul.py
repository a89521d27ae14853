"""Reversible multiplication by a forget gate (MUL)."""

from __future__ import annotations

import torch
from torch import Tensor

from .buffer import Buffer
from .quantise import floor_divide


def active_units(rows: Tensor | None, units: int, slice_size: int, like: Tensor) -> Tensor | None:
    """Return bool ``[B, G]``: who uses the buffer; ``None`` for all (MUL-004, MUL-005)."""
    if not slice_size:
        return None if rows is None else rows.expand(len(like), units)
    tail = torch.arange(units, device=like.device) >= slice_size
    return tail.expand(len(like), units) if rows is None else rows & tail


def revmul(h: Tensor, z: Tensor, active: Tensor | None, buffer: Buffer) -> Tensor:
    """Return ``h·z/1024``, int32, the digits of active units pushed to ``buffer`` (MUL-001).

    Units that are not active lose their digits (MUL-005). Masked rows are left to the caller.
    """
    residue = buffer.push(h & 1023, z, active)
    if active is not None:
        residue = residue * active
    return (h >> 10) * z + residue


def revmul_inverse(p: Tensor, z: Tensor, active: Tensor | None, buffer: Buffer) -> Tensor:
    """Undo :func:`revmul` for active units (MUL-003); the values of others are arbitrary."""
    quotient, residue = floor_divide(p, z)
    return (quotient << 10) + buffer.pop(residue, z, active)
