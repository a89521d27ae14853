"""Counts what saturates while a sequence is processed, on its device."""

from __future__ import annotations

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
        self.ends = torch.zeros(2, dtype=torch.int64, device=device)
        self.largest = torch.zeros((), dtype=torch.int64, device=device)
        self.on_cpu, self._most = device.type == "cpu", 0
        self.inputs = self.views = 0
        self.end: State | None = None

    def add_inputs(self, x: Tensor) -> None:
        """Count a chunk's operands, int16 of any shape."""
        if x.numel():
            self.inputs += x.numel()
            if self.on_cpu and self._look(x) < OPERAND_MAX:
                return
            self.ends[0] += (x.abs() == OPERAND_MAX).sum()

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
        inputs, views, largest = [*self.ends.tolist(), max(int(self.largest), self._most)]
        if self.end is not None and self.end.h.numel():
            largest = max(largest, self._look(self.end.h.cpu()))
        return Saturation(
            inputs / max(self.inputs, 1), views / max(self.views, 1), largest / 2**self.bits
        )

    @property
    def none_of_inputs(self) -> bool:
        """Whether no operand so far was at an end; false where that would wait for the device."""
        return self.on_cpu and not int(self.ends[0])
