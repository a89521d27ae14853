"""Activations by table and integer interpolation (ACT)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from revrnn.tanh_table import tanh_table

Ints = npt.NDArray[np.int64]

TANH: Final = tanh_table().astype(np.int64)


def tanh(s: Ints, bits: int) -> Ints:
    """Return tanh of ``s`` (``bits`` fraction bits) with 15 fraction bits (ACT-002)."""
    # The magnitude of -2^63 does not fit int64; at -2^62 tanh has long been -1.
    s = np.maximum(s, -(2**62))
    u = np.minimum(np.abs(s), 1 << (bits + 3))
    i = u >> (bits - 7)
    f = u & ((1 << (bits - 7)) - 1)
    d = TANH[np.minimum(i + 1, 1024)] - TANH[i]
    t = TANH[i] + ((d * f + (1 << (bits - 8))) >> (bits - 7))
    signed: Ints = np.where(s >= 0, t, -t)
    return signed


def sigmoid(s: Ints, bits: int) -> Ints:
    """Return the sigmoid of ``s`` with 15 fraction bits (ACT-003)."""
    return (2**15 + tanh(s, bits + 1)) >> 1


class ForgetGate(NamedTuple):
    """A forget gate and what its gradient needs.

    Attributes:
        z: the gate in 1024ths, 1 … 1024.
        sigma: the sigmoid that it is made of, 15 fraction bits.
        passes: where the clip did not act (GRAD-010).
    """

    z: Ints
    sigma: Ints
    passes: npt.NDArray[np.bool_]


def forget_gate(s: Ints, bits: int, max_forget_bits: int | None, z_max: int) -> ForgetGate:
    """Return the forget gate of ``s`` (ACT-004 with a limit, ACT-005 without)."""
    sigma = sigmoid(s, bits)
    if max_forget_bits is None:
        unclipped = (sigma + 2**4) >> 5
    else:
        n = max_forget_bits
        unclipped = (2**15 + (2**n - 1) * sigma + 2 ** (4 + n)) >> (5 + n)
    z = np.clip(unclipped, 1, z_max)
    return ForgetGate(z, sigma, z == unclipped)
