"""What ``embed`` and ``readout`` make of more steps than a chunk has, where they ask how many.

Python's ``if len(outputs) > 8`` (a loss of steps to come, a window) is in no computation of a chunk
of fewer steps, nor of two. So a few rows of as many steps are tried as a chunk has numbers, which
take no more memory than that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torch import Tensor

from .apart import Form, check_joined
from .averages import Watch
from .parts import Parts
from .step_functions import FEW
from .step_places import Place
from .trees import tensors_of

# Rows that are tried: of a single one, ``squeeze()`` would make another array.
ROWS: Final = 2
# Steps that are tried at least, if the sequence has them.
_FEWEST: Final = 64


def longer(steps: int, size: int, rows: int) -> int:
    """Return how many of a sequence's steps are tried, where chunks have ``size`` steps."""
    return min(steps, max(_FEWEST, size * rows // ROWS))


class Longer:
    """Puts together a few rows of chunks, until they are long enough to be tried."""

    def __init__(self, steps: int, size: int, positions: int) -> None:
        """Note how the sequence is cut.

        Args:
            steps: of the sequence.
            size: of chunks, in steps.
            positions: steps × rows.
        """
        self._limit = longer(steps, size, positions // max(steps, 1))
        self._so_far: Parts | None = None
        self._told = self._limit <= size

    def check(self, parts: Parts, watch: Watch, forms: Callable[..., Sequence[Form]]) -> None:
        """Raise ``E_ARGUMENT`` if enough steps show that their losses do not add up.

        Args:
            parts: the next chunk.
            watch: what its readout asked for.
            forms: what sum and count of a result may be.
        """
        if self._told or not watch.apart.asked_length:
            return
        some = _some_rows(parts)
        more = some if some is None or self._so_far is None else some.joined(self._so_far)
        self._told, self._so_far = more is None, more
        if more is not None and len(more.outputs) >= self._limit:
            self._told, self._so_far = True, None
            check_joined(more, Place(doubt=FEW), forms)


def _some_rows(parts: Parts) -> Parts | None:
    """Return a chunk of a few rows, or ``None`` if targets do not show what theirs are."""
    rows = parts.outputs.shape[1]
    given: list[Any] = list(tensors_of(parts.part))
    if parts.outputs._version != parts.version or not given:
        return None
    if any(one.dim() < 2 or one.shape[1] != rows for one in given):
        return None
    cut = slice(None), slice(ROWS)
    outputs: Tensor = parts.outputs[cut].detach().clone()
    some = Parts(parts.readout, outputs, parts.part[cut])
    some.chunk = parts.chunk
    return some
