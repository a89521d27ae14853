"""Float to fixed point and back (QNT)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.array_checks import check_finite
from revrnn.formats import INT32_MAX, INT32_MIN, OPERAND_MAX, Formats

Ints = npt.NDArray[np.int64]

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


def quantise(kind: str, x: npt.NDArray[np.float32], formats: Formats) -> npt.NDArray[Any]:
    """Return ``x`` in fixed point: int16 for operands and weights, int32 for biases and states.

    Raises:
        RevRNNError: ``E_NONFINITE`` (QNT-004).
    """
    check_finite("x", x)
    low, high = _RANGES[kind]
    # QNT-001: float64 holds float32 times 2^26 exactly; np.rint rounds half to even.
    scaled = np.rint(x.astype(np.float64) * 2.0 ** fraction_bits(kind, formats))
    dtype = np.int16 if high == OPERAND_MAX else np.int32
    return np.clip(scaled, low, high).astype(dtype)


def dequantise(q: npt.NDArray[Any], bits: int) -> npt.NDArray[np.float32]:
    """Return the nearest float32 to ``q · 2^-bits`` (QNT-006)."""
    return np.asarray(q).astype(np.float32) * np.float32(2.0**-bits)


def round_shift(v: Ints, k: int) -> Ints:
    """Return ``rs(v, k)``: v / 2^k to the nearest integer, ties upwards (GEN-003)."""
    return (v + (1 << (k - 1))) >> k if k else v


def wrap32(v: Ints) -> Ints:
    """Return ``v`` reduced to int32 (GEN-006)."""
    return ((v + 2**31) & (2**32 - 1)) - 2**31


def view(h: Ints, state_bits: int, view_bits: int) -> Ints:
    """Return a state as an operand with ``view_bits`` fraction bits, saturated (FMT-004)."""
    return np.clip(round_shift(h, state_bits - view_bits), -OPERAND_MAX, OPERAND_MAX)


def view_passes(h: Ints, state_bits: int, view_bits: int) -> npt.NDArray[np.bool_]:
    """Say where :func:`view` did not saturate, so that gradients pass (GRAD-002)."""
    return np.abs(round_shift(h, state_bits - view_bits)) <= OPERAND_MAX
