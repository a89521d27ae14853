"""Reversible multiplication by a forget gate (MUL)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .buffer import Buffer
from .quantise import wrap32

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def active_units(rows: Bools, units: int, slice_size: int) -> Bools:
    """Return ``[B, G]``: the units that use the buffer (MUL-004, MUL-005)."""
    return rows[:, None] & (np.arange(units) >= slice_size)


def revmul(h: Ints, z: Ints, rows: Bools, slice_size: int, buffer: Buffer) -> Ints:
    """Return ``h·z/1024``, the lost digits pushed to ``buffer`` (MUL-001).

    Rows that are false keep ``h``; the first ``slice_size`` units lose their digits.
    """
    active = active_units(rows, h.shape[1], slice_size)
    residue = buffer.push(h & 1023, z, active).astype(np.int64)
    product = (h >> 10) * z + np.where(active, residue, 0)
    return np.where(rows[:, None], product, h)


def revmul_inverse(
    p: Ints, z: Ints, rows: Bools, slice_size: int, restore: Ints, buffer: Buffer
) -> Ints:
    """Undo :func:`revmul` (MUL-003); sliced units take their values from ``restore`` ``[B, D]``."""
    active = active_units(rows, p.shape[1], slice_size)
    low = buffer.pop(p % z, z, active).astype(np.int64)
    h = np.where(active, wrap32((p // z) * 1024 + low), p)
    h[:, :slice_size] = np.where(rows[:, None], restore, p[:, :slice_size])
    return h
