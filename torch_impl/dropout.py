"""Dropout that the backward pass repeats: between layers, locked, and of weights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError, shown
from revrnn.formats import GAIN_BITS

# The largest gain is 16 (SEQ-012), so that one product fits int32.
_LARGEST = 1 - 2.0**-4


def check_probability(name: str, p: object, largest: float = 1.0) -> float:
    """Raise ``E_ARGUMENT`` unless ``p`` is a probability up to ``largest``, or 1."""
    number = isinstance(p, Real) and not isinstance(p, bool)  # NumPy's as well
    if not number or not (0 <= p <= largest or p == 1):  # type: ignore[operator]
        raise RevRNNError(
            "E_ARGUMENT", name, shown(p), f"0 … {largest} or 1" if largest < 1 else "0 … 1"
        )
    return float(p)  # type: ignore[arg-type]


def check_gain_probability(p: object) -> float:
    """Raise ``E_ARGUMENT`` unless ``p`` can be dropped between layers (SEQ-012)."""
    return check_probability("dropout", p, _LARGEST)


def draw(generator: torch.Generator | None = None) -> int:
    """Return a seed from a generator of the CPU, by default PyTorch's."""
    return int(torch.randint(2**62, (), generator=generator, device="cpu"))


def _uniform(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw numbers from 0 to 1, float32 whatever the default type is."""
    return torch.rand(shape, dtype=torch.float32, generator=generator, device=device)


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
        self.seed = draw()
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
        kept = _uniform(self.shape, self.device, generator) >= self.p
        return kept.to(torch.int32) * self.gain


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence (variational dropout).

    Input is ``[T, B, F]`` or a chunk of it; the mask is ``[1, B, F]``. A call outside
    :func:`one_sequence` is a sequence of its own; streaming opens one around all its chunks.
    """

    def __init__(self, p: float = 0.5) -> None:
        """Drop with probability ``p``."""
        super().__init__()
        self.p = p

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a probability is checked, now and later."""
        checked: Any = check_probability("p", value) if name == "p" else value
        super().__setattr__(name, checked)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with the same features dropped in all steps, the rest scaled up.

        Raises:
            RevRNNError: ``E_DTYPE`` unless ``x`` is a tensor of floats.
        """
        given: object = x
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise RevRNNError("E_DTYPE", "x", kind, "a floating-point tensor")
        if not self.training or self.p == 0:
            return x
        sequence = _open.sequences[-1] if _open.sequences else None
        mask = None if sequence is None else sequence.masks.get(id(self))
        sizes = tuple(x.size(axis) for axis in range(1, x.dim()))  # not the steps (:mod:`.longer`)
        if mask is None or mask.shape[1:] != sizes or mask.device != x.device:
            # Within a sequence masks do not draw from PyTorch's generator, which others use.
            generator = None
            if sequence is not None:
                generator = torch.Generator(x.device).manual_seed(sequence.seed(self))
            keep = 1 - self.p
            drawn = _uniform((1, *sizes), x.device, generator)
            mask = (drawn < keep).to(x.dtype) / (keep or 1.0)
            if sequence is not None:
                sequence.masks[id(self)] = mask
        return x * mask

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"


class Sequence:
    """The masks of one sequence, by the module that uses them."""

    def __init__(self) -> None:
        """Take the state of PyTorch's generator, without drawing from it."""
        self.masks: dict[int, Tensor] = {}
        # Modules are kept alive so that no other one can get the same ``id``.
        self.used: dict[int, tuple[LockedDropout, int]] = {}
        self._start = torch.get_rng_state()

    def seed(self, module: LockedDropout) -> int:
        """Return a module's seed, which depends on what was used before it."""
        if id(module) not in self.used:
            generator = torch.Generator()
            generator.set_state(self._start)
            draws = [draw(generator) for _ in range(2)]
            seed = (draws[0] + draws[1] * len(self.used)) % 2**62
            self.used[id(module)] = (module, seed)
        return self.used[id(module)][1]


class _Open(threading.local):
    """The sequences in progress in a thread, the innermost last."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []


_open = _Open()


@contextmanager
def one_sequence(sequence: Sequence | None = None) -> Iterator[Sequence]:
    """Let every :class:`LockedDropout` that is called keep one mask for the ``with`` block.

    Args:
        sequence: the sequence of an earlier block, to use its masks again.
    """
    sequence = Sequence() if sequence is None else sequence
    before = len(sequence.used)
    _open.sequences.append(sequence)
    try:
        yield sequence
    finally:
        _open.sequences.remove(sequence)
        if sequence.used and not before:
            draw()  # so that the next sequence has other masks
