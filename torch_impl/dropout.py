"""Dropout that is the same on the way back: between layers, locked, and of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError

from .sequence import GAIN_BITS

# The largest gain is 16 (SEQ-012), so that one product fits int32.
_LARGEST = 1 - 2.0**-4


def check_probability(name: str, p: object, largest: float = 1.0) -> float:
    """Raise ``E_ARGUMENT`` unless ``p`` is a probability up to ``largest``, or 1."""
    number = isinstance(p, Real) and not isinstance(p, bool)  # NumPy's as well
    if not number or not (0 <= p <= largest or p == 1):  # type: ignore[operator]
        raise RevRNNError("E_ARGUMENT", name, repr(p), f"0 … {largest} or 1")
    return float(p)  # type: ignore[arg-type]


def check_gain_probability(p: object) -> float:
    """Raise ``E_ARGUMENT`` unless ``p`` can be dropped between layers (SEQ-012)."""
    return check_probability("dropout", p, _LARGEST)


class GainsOfDropout:
    """Gains between layers that drop units with a probability (SEQ-012).

    A step's gains depend on a seed and the step's number alone, so they need not be kept, and do
    not depend on how steps are grouped.
    """

    def __init__(
        self, p: float, shape: tuple[int, int, int], device: torch.device, locked: bool
    ) -> None:
        """Draw a seed from PyTorch's generator.

        Args:
            p: probability of dropping, as :func:`check_gain_probability` allows it.
            shape: ``(L−1, B, H)``.
            device: where the gains are wanted.
            locked: whether all steps have the same gains (variational dropout).
        """
        self.p, self.shape, self.device, self.locked = p, shape, device, locked
        self.seed = int(torch.randint(2**62, ()))
        self.gain = 0 if p == 1 else int((1 << GAIN_BITS) / (1 - p) + 0.5)
        self._drawn: Tensor | None = None

    def __call__(self, t: int) -> Tensor:
        """Return the gains of step ``t``, int32 ``[L−1, B, H]``."""
        if not self.locked:
            return self._draw(self.seed + t)
        if self._drawn is None:
            self._drawn = self._draw(self.seed)
        return self._drawn

    def _draw(self, seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        kept = torch.rand(self.shape, generator=generator, device=self.device) >= self.p
        return kept.to(torch.int32) * self.gain


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence (variational dropout).

    Input is ``[T, B, F]`` or a chunk of it; the mask is ``[1, B, F]``. A call outside
    :func:`one_sequence` is a sequence of its own; what streams opens one around all its chunks.
    """

    def __init__(self, p: float = 0.5) -> None:
        """Drop with probability ``p``."""
        super().__init__()
        self.p = check_probability("p", p)
        self._seed: int | None = None
        self._mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with the same features dropped in all steps, the rest scaled up."""
        if not self.training or self.p == 0:
            return x
        mask = self._mask
        if mask is None or mask.shape[1:] != x.shape[1:] or mask.device != x.device:
            # Within a sequence PyTorch's own generator is left alone: others draw from it.
            generator = None
            if self._seed is not None:
                generator = torch.Generator(x.device).manual_seed(self._seed)
            keep = 1 - self.p
            mask = torch.rand((1, *x.shape[1:]), generator=generator, device=x.device) < keep
            mask = mask.to(x.dtype) / (keep or 1.0)
            self._mask = None if self._seed is None else mask
        return x * mask

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"


@contextmanager
def one_sequence(*modules: object) -> Iterator[None]:
    """Let every :class:`LockedDropout` keep one mask for the ``with`` block.

    Args:
        modules: where to look for them: modules, and methods of modules. What they do not lead to,
            such as the variables of a function, is not found.
    """
    owners = [getattr(module, "__self__", module) for module in modules]
    held = [
        part
        for module in owners
        if isinstance(module, nn.Module)
        for part in module.modules()
        if isinstance(part, LockedDropout) and part._seed is None
    ]
    for part in held:
        part._seed, part._mask = int(torch.randint(2**62, ())), None
    try:
        yield
    finally:
        for part in held:
            part._seed = part._mask = None
