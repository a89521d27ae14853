"""What a readout makes of a count: kept above 0, halved, or another number beyond a threshold.

The count of the whole sequence is the sum of the chunks' counts, and what was made of each chunk's
is made of that sum at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

# What a plain whole number among their arguments may be is not seen: a chunk's length, say.
_MULTIPLES: Final = ("mul", "rmul", "multiply", "div", "divide", "truediv", "true_divide")
_WITH_LENGTHS: Final = ("add", "radd", "sub", "rsub", "subtract", *_MULTIPLES)
_KEEPS: Final = ("clamp", "clamp_min", "clip", "add", "maximum")
# Counts of chunks and of sequences, at which a function of a count is tried.
_TRIED: Final = tuple(float(n) for n in (*range(1, 65), *(2**k for k in range(7, 31)), 10**6 + 1))
# What may be added to a count: of all chunks it changes nothing that can be measured.
TINY: Final = 1e-5


@dataclass(frozen=True)
class Made:
    """A scalar that was made of a count.

    Attributes:
        scalar: kept alive, so that no other one can get its ``id``.
        root: the count.
        make: what was done to it.
    """

    scalar: Tensor
    root: Tensor
    make: Callable[[Tensor], Tensor]


class Counts:
    """Scalars that were made of counts."""

    def __init__(
        self, is_sum: Callable[[Tensor], bool], has_steps: Callable[[Tensor], bool], steps: int
    ) -> None:
        """Start with none.

        Args:
            is_sum: whether a scalar is known to be a sum over steps.
            has_steps: whether a scalar was made of what has steps.
            steps: of the chunk.
        """
        self._is_sum, self._has_steps, self._steps = is_sum, has_steps, steps
        self._made: dict[int, Made] = {}

    def of(self, scalar: object) -> Made | None:
        """Return what a scalar was made of, if that is known."""
        return self._made.get(id(scalar))

    def note(
        self, func: Any, name: str, result: Tensor, args: Any, given: Mapping[str, Any]
    ) -> None:
        """Remember what a scalar was made of, if it was made of one count alone."""
        values = [*args, *given.values()]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if not tensors or any(t.dim() or t is result or t.requires_grad for t in tensors):
            return
        roots = {id(one.root): one.root for t in tensors if (one := self.of(t)) is not None}
        roots |= {id(t): t for t in tensors if self.of(t) is None and self._is_sum(t)}
        if not roots and name in _KEEPS and isinstance(args[0], Tensor):
            roots = {id(args[0]): args[0]}  # of which it is found out later whether it is a count
        root = next(iter(roots.values()), None)
        if root is None or (name in _WITH_LENGTHS and any(map(self._is_length, values))):
            return
        # One count may have been computed several times; two counts are never one.
        if len(roots) > 1 and (name in _WITH_LENGTHS or any(one != root for one in roots.values())):
            return
        if any(self.of(t) is None and id(t) not in roots and self._has_steps(t) for t in tensors):
            return
        if name in _MULTIPLES and len(tensors) == 1:
            return  # a multiple of a count is a count
        known = dict(self._made)

        def of_count(count: Tensor, value: Any) -> Any:
            made = known.get(id(value))
            return count if id(value) in roots else value if made is None else made.make(count)

        def make(count: Tensor) -> Tensor:
            again = [of_count(count, value) for value in args]
            result: Tensor = func(*again, **{n: of_count(count, v) for n, v in given.items()})
            return result

        self._made[id(result)] = Made(result, root, make)

    def _is_length(self, value: object) -> bool:
        if isinstance(value, Tensor):
            # What is read from a GPU waits for it.
            made = value.numel() == 1 and value.device.type == "cpu" and not self._has_steps(value)
            return made and self.of(value) is None and self._is_length(value.item())
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return value != 0 and value % self._steps == 0

    def depends_on_size(self, scalar: object) -> bool:
        """Say whether a truth value made of a count is not the same of all counts above 0."""
        made = self.of(scalar)
        return made is not None and len(set(_tried(made, _TRIED))) > 1

    def adds_up(self, scalar: object) -> bool:
        """Say whether what was made of counts adds up as they do."""
        made = self.of(scalar)
        if made is None:
            return True
        (least,) = _tried(made, (0.0,))
        return abs(float(least)) <= TINY and self.grows(scalar)

    def grows(self, scalar: object) -> bool:
        """Say whether what was made of a count grows as it does, from 1 on."""
        made = self.of(scalar)
        if made is None:
            return False
        each = [float(value) for value in _tried(made, _TRIED)]
        slope = each[-1] / _TRIED[-1]
        return all(
            abs(value - slope * count) <= 1e-4 * abs(slope) * count + TINY
            for value, count in zip(each, _TRIED, strict=True)
        )


def _tried(made: Made, counts: tuple[float, ...]) -> list[Any]:
    with torch.no_grad():
        values = torch.tensor(counts, dtype=torch.float64, device=made.root.device)
        try:
            made_of = made.make(values)
        except RuntimeError:  # what takes scalars alone: reshape(()), say
            made_of = torch.stack([made.make(value) for value in values])
        return list(made_of.expand(values.shape).tolist())


def finished(make: Callable[[Tensor], Tensor], mean: bool) -> Callable[[Tensor, int], Tensor]:
    """Return what is done to a count, or to a mean over so many steps that is given as a sum."""
    return lambda count, steps: make(count / steps) * steps if mean else make(count)
