"""Conversions in one pass each, by :mod:`revrnn.native.conversions`."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from revrnn.formats import OPERAND_MAX, Formats

from ...native import conversions as kernels
from ...native.compiling import Array
from ..conversions import Conversions
from ..quantise import fraction_bits


class CompiledConversions(Conversions):
    """Of float32 on the CPU; what is something else goes by PyTorch's operations.

    They start no threads, which would keep cores busy for milliseconds (see :mod:`.threads`).
    """

    def check_finite(self, **named: Tensor | None) -> None:
        """Raise ``E_NONFINITE`` for the first float tensor with NaN or an infinity (QNT-004)."""
        given = [value for value in named.values() if value is not None]
        if not all(_suits(v) and kernels.is_finite(_flat(v).view(np.int32)) for v in given):
            super().check_finite(**named)

    def quantise(self, kind: str, x: Tensor, formats: Formats) -> Tensor:
        """Return floats in fixed point: int16 for operands and weights, else int32 (QNT-001)."""
        if kind not in ("operand", "weight") or not _suits(x):
            return super().quantise(kind, x, formats)
        out = torch.empty(x.shape, dtype=torch.int16)
        scale = 2.0 ** fraction_bits(kind, formats)
        kernels.quantise(_flat(x), scale, float(OPERAND_MAX), _flat(out))
        return out

    def dequantise(self, q: Tensor, bits: int, out: Tensor | None = None) -> Tensor:
        """Return the nearest float32 to ``q · 2^-bits`` (QNT-006), in ``out`` if it is given."""
        if out is None:
            out = torch.empty(q.shape, dtype=torch.float32)
        if q.dtype != torch.int32 or not q.is_contiguous() or not _suits(out):
            return super().dequantise(q, bits, out)
        kernels.dequantise(_flat(q), 2.0**-bits, _flat(out))
        return out

    def largest(self, v: Tensor) -> int:
        """Return the largest magnitude of integers."""
        return int(kernels.largest(_flat(v.contiguous())))


def _suits(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.is_contiguous() and not x.is_neg()


def _flat(x: Tensor) -> Array:
    return x.detach().numpy().reshape(-1)


CONVERSIONS: Final = CompiledConversions()
