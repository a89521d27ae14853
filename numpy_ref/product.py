"""The exact product (PROD)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def product(a: npt.NDArray[Any], w: npt.NDArray[Any]) -> Ints:
    """Return ``Σ_k a[m, k]·w[n, k]``, int64 ``[M, N]`` (PROD-001).

    Float64 holds every partial sum: there are at most 2^20 terms below 2^30 (PROD-003).
    """
    return (a.astype(np.float64) @ w.astype(np.float64).T).astype(np.int64)


def preactivation(
    x_part: Ints, x_bits: int, v_part: Ints, view_bits: int, bias: Ints, operand_bits: int
) -> Ints:
    """Return ``s*`` with ``R_S`` fraction bits from the two products and the bias (PROD-004)."""
    return (x_part << (operand_bits - x_bits)) + (v_part << (operand_bits - view_bits)) + bias
