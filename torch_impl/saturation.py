"""Counts what saturates while a sequence is processed, on its device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.formats import OPERAND_MAX
from revrnn.saturation import Saturation, view_limit

from .conversions import Conversions
from .state import State


class SaturationCounter:
    """Counts of one pass; nothing waits for the device before :meth:`read`.

    A chunk costs three small reductions. Outputs are counted in the forward pass if it delivers
    them, else when they are recovered.
    """

    def __init__(self, config: Config, device: torch.device, conversions: Conversions) -> None:
        """Start from nothing; ``conversions`` look at tensors on the CPU."""
        self._look = conversions.largest
        self.limit, self.bits = view_limit(config), config.formats.state_bits
        self.ends = torch.zeros(4, dtype=torch.int64, device=device)
        self.largest = torch.zeros((), dtype=torch.int64, device=device)
        self.on_cpu, self._most = device.type == "cpu", 0
        self.inputs = self.views = self.weights = 0
        self.end: State | None = None

    def add_inputs(self, x: Tensor, mask: Tensor | None) -> None:
        """Count a chunk's operands, int16 ``[C, B, I]``, of the steps that rows have."""
        if mask is None:
            self.inputs += x.numel()
        else:
            self.ends[3] += mask.sum() * x.shape[2]
        self._add(0, x, mask)

    def add_weights(self, params: Mapping[str, Tensor]) -> None:
        """Count a pass's weights, int16 tensors by name; biases have a range of their own."""
        for name, value in params.items():
            if name.startswith("weight"):
                self.weights += value.numel()
                self._add(2, value)

    def _add(self, place: int, x: Tensor, mask: Tensor | None = None) -> None:
        if x.numel() and not (self.on_cpu and self._look(x) < OPERAND_MAX):
            ends = x.abs() == OPERAND_MAX
            self.ends[place] += (ends if mask is None else ends & mask[:, :, None]).sum()

    def add_states(self, h: Tensor) -> None:
        """Count states, int32 of any shape."""
        if h.numel():
            self.views += h.numel()
            if self.on_cpu:
                most = self._look(h)
                self._most = max(self._most, most)
                if most <= self.limit:
                    return  # nothing to count
            else:
                low, high = h.aminmax()
                magnitude = torch.maximum(high.to(torch.int64), -low.to(torch.int64))
                self.largest = torch.maximum(self.largest, magnitude)
            self.ends[1] += ((h > self.limit) | (h < -self.limit)).sum()

    def read(self) -> Saturation:
        """Return the shares; this waits for the device."""
        if self.views == 0 and self.end is not None:
            self.add_states(self.end.h)
        inputs, views, weights, masked = self.ends.tolist()
        largest = max(int(self.largest), self._most)
        if self.end is not None and self.end.h.numel():
            largest = max(largest, self._look(self.end.h.cpu()))
        return Saturation(
            inputs / max(self.inputs + masked, 1),
            views / max(self.views, 1),
            largest / 2**self.bits,
            weights / max(self.weights, 1),
        )

    @property
    def none_of_inputs(self) -> bool:
        """Whether no operand that counts was at an end; false where that waits for a device."""
        return self.on_cpu and not int(self.ends[0])
