"""Truth values by which Python chooses, made by comparing what is added up over a chunk's steps.

Of all steps at once the comparison might turn out otherwise: ``if loss > 10``, ``min(loss, 10)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

_COMPARES: Final = frozenset("lt gt le ge less greater less_equal greater_equal".split())  # noqa: SIM905


class Choices:
    """Scalars that say whether something of a chunk is larger than something else."""

    def __init__(self, of_chunk: Callable[[Tensor], bool]) -> None:
        """Start with none; ``of_chunk`` says whether a scalar would differ for all steps."""
        self._of_chunk = of_chunk
        # Tensors are kept alive so that no other one can get the same ``id``.
        self._made: dict[int, Tensor] = {}

    def note(self, name: str, result: Any, args: Any) -> None:
        """Remember a truth value that was made so. A sign is that of all chunks, or a check."""
        if not isinstance(result, Tensor) or result.dim() or result.is_floating_point():
            return
        scalars = [one for one in args if isinstance(one, Tensor) and not one.dim()]
        compared = name in _COMPARES and not any(_is_zero(one) for one in args)
        if any(map(self.has, scalars)) or (compared and any(map(self._of_chunk, scalars))):
            self._made[id(result)] = result

    def has(self, value: object) -> bool:
        """Say whether a value is one of them."""
        return id(value) in self._made


def _is_zero(value: object) -> bool:
    return isinstance(value, (int, float)) and not value
