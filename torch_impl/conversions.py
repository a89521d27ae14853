"""Conversions of whole tensors (QNT) and their like, for which an engine may have a faster way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from revrnn.formats import Formats

from . import quantise as plain
from .transforms import is_wrapper


def as_array(tensor: Tensor) -> Any:
    """Return a caller's tensor on the CPU as a NumPy array of the same memory.

    ``Tensor.numpy`` would do, but the storage can never be resized afterwards, which FSDP does to
    that of parameters.
    """
    plain = tensor.detach()
    if plain.is_neg() or is_wrapper(plain):
        return plain.resolve_neg().numpy()  # its memory is not its numbers
    array = np.from_dlpack(plain)
    return array if array.flags.writeable else np.asarray(_Writable(array))


class _Writable:
    """Memory that may be written, which older versions (NumPy 2.1, for one) do not hand over."""

    def __init__(self, array: Any) -> None:
        self.array = array  # which keeps the memory
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


class Conversions:
    """PyTorch's operations; an engine's own give the same bits."""

    def check_finite(self, **named: Tensor | None) -> None:
        """Raise ``E_NONFINITE`` for the first float tensor with NaN or an infinity (QNT-004)."""
        plain.check_finite(**named)

    def is_finite(self, x: Tensor) -> Tensor:
        """Return whether no float is NaN or infinite, a bool without axes on the device."""
        return torch.isfinite(x).all()

    def quantise(self, kind: str, x: Tensor, formats: Formats) -> Tensor:
        """Return floats in fixed point: int16 for operands and weights, else int32 (QNT-001)."""
        return plain.quantise(kind, x, formats)

    def dequantise(self, q: Tensor, bits: int, out: Tensor | None = None) -> Tensor:
        """Return the nearest float32 to ``q · 2^-bits`` (QNT-006), in ``out`` if it is given."""
        return plain.dequantise(q, bits, out)

    def place_in(self, out: Tensor) -> Tensor | None:
        """Return where int32 can be put that :meth:`dequantise` then writes to float32 ``out``.

        ``None`` where they must not have the same memory.
        """
        return None

    def largest(self, v: Tensor) -> int:
        """Return the largest magnitude of integers on the CPU."""
        array = as_array(v)  # NumPy starts no threads for it
        return max(int(array.max()), -int(array.min()))

    def add_rows(self, into: Tensor, index: Tensor, rows: Tensor) -> None:
        """Add ``rows``, ``[N, E]``, to those of ``into`` that ``index``, int64 ``[N]``, names."""
        into.index_add_(0, index, rows)


CONVERSIONS = Conversions()
