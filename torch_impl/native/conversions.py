"""Conversions in one pass each, by :mod:`revrnn.native.conversions`."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from revrnn.formats import OPERAND_MAX, Formats

from ...native import conversions as kernels
from ..conversions import Conversions, as_array
from ..quantise import fraction_bits
from ..transforms import is_wrapper


class CompiledConversions(Conversions):
    """Of float32 on the CPU; what is something else goes by PyTorch's operations.

    They start no threads, which would keep cores busy for milliseconds (see :mod:`.threads`).
    """

    def check_finite(self, **named: Tensor | None) -> None:
        """Raise ``E_NONFINITE`` for the first float tensor with NaN or an infinity (QNT-004)."""
        given = [value for value in named.values() if value is not None]
        if not all(_suits(value) and _is_finite(value) for value in given):
            super().check_finite(**named)

    def is_finite(self, x: Tensor) -> Tensor:
        """Return whether no float is NaN or infinite, a bool without axes."""
        return torch.tensor(_is_finite(x), device="cpu") if _suits(x) else super().is_finite(x)

    def quantise(self, kind: str, x: Tensor, formats: Formats) -> Tensor:
        """Return floats in fixed point: int16 for operands and weights, else int32 (QNT-001)."""
        if not _suits(x):
            return super().quantise(kind, x, formats)
        scale, short = 2.0 ** fraction_bits(kind, formats), kind in ("operand", "weight")
        out = torch.empty(x.shape, dtype=torch.int16 if short else torch.int32, device="cpu")
        at, count, to = x.data_ptr(), x.numel(), out.data_ptr()
        if short:
            kernels.quantise(at, count, scale, float(OPERAND_MAX), to)
        else:
            kernels.quantise_wide(at, count, scale, to)
        return out

    def dequantise(self, q: Tensor, bits: int, out: Tensor | None = None) -> Tensor:
        """Return the nearest float32 to ``q · 2^-bits`` (QNT-006), in ``out`` if it is given."""
        if out is None:
            out = torch.empty(q.shape, dtype=torch.float32, device="cpu")
        if q.dtype != torch.int32 or not q.is_contiguous() or not _suits(out):
            return super().dequantise(q, bits, out)
        at, to = q.data_ptr(), out.data_ptr()
        if at == to:
            kernels.dequantise_in_place(at, q.numel(), 2.0**-bits)
        else:
            kernels.dequantise(at, q.numel(), 2.0**-bits, to)
        return out

    def place_in(self, out: Tensor) -> Tensor | None:
        """Return the same memory as int32."""
        return out.view(torch.int32) if _suits(out) else None

    def largest(self, v: Tensor) -> int:
        """Return the largest magnitude of integers."""
        whole = v.contiguous()
        return int(kernels.largest(whole.data_ptr(), whole.numel(), 8 * whole.element_size()))

    def add_rows(self, into: Tensor, index: Tensor, rows: Tensor) -> None:
        """Add ``rows``, ``[N, E]``, to those of ``into`` that ``index``, int64 ``[N]``, names."""
        if _suits(into) and _suits(rows) and index.is_contiguous():
            kernels.add_rows(*(as_array(tensor) for tensor in (into, index, rows)))
        else:
            super().add_rows(into, index, rows)


def _suits(x: Tensor) -> bool:
    """Say whether a tensor's memory is its numbers, float32, one behind the other."""
    return x.dtype == torch.float32 and x.is_contiguous() and not x.is_neg() and not is_wrapper(x)


def _is_finite(x: Tensor) -> bool:
    return bool(kernels.is_finite(x.data_ptr(), x.numel()))


CONVERSIONS: Final = CompiledConversions()
