"""Whether a scalar is a sum or a mean, and over how much, as its computation shows.

The loss of a whole sequence is put together from those of its chunks. For that it must be known
whether a chunk's scalar is a mean or a sum, and over how many elements a mean is taken.
:class:`Watch` records the operations while a readout computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .counts import Counts
from .mixing import Steps
from .modes import Mode
from .step_functions import DETACHED, LOSSES, TAKES_NUMBERS
from .step_places import Place
from .target_counts import CROSS, counted
from .trees import lengths

# Losses whose mean is over all elements of what they compare.
_LOSSES: Final = {
    getattr(functional, name)
    for name in LOSSES - {"cross_entropy", "nll_loss", "gaussian_nll_loss"}
}
_SAME: Final = frozenset(
    """
    float double half bfloat16 to type clone contiguous squeeze view reshape flatten requires_grad
    mean sum cpu cuda type_as
    """.split()  # noqa: SIM905 - one word a line would be a page
)

Count = Tensor | float
_broadcast: Any = torch.broadcast_shapes


@dataclass(frozen=True)
class Average:
    """How a scalar was made from a chunk.

    Attributes:
        kind: a mean, or a sum.
        sure: whether it is known to be one over all steps of the chunk, or over ``count``; else
            that must still be found out.
        count: the number (or weight) that a mean was divided by; ``None`` if every step has the
            same share in it.
        total: what was divided by ``count``, with its graph, if that is known.
        finish: what is done to a count before it divides, ``clamp(min=1)`` for instance, from it
            and the steps of the sequence.
        size: elements of what was reduced, if that is known.
        doubt: the function that made what is divided by of sums over steps, so that it is none.
        by: what was divided by, as it was given.
        seen: whether dividend and divisor are sums over steps, as far as the computation shows.
    """

    kind: Literal["mean", "sum"]
    sure: bool
    count: Count | None = None
    total: Tensor | None = None
    finish: Callable[[Tensor, int], Tensor] | None = None
    size: float | None = None
    doubt: Place | None = None
    by: Tensor | None = None
    seen: bool = False


class Watch(Mode):
    """Records how scalars are computed from a chunk.

    Attributes:
        uneven: bool scalars: whether a cross-entropy's mean was not over all targets.
        apart: which arrays have steps, and whether they are kept apart.
        counts: what was made of counts.
        taken: of each time that numbers left PyTorch, what they are of: ``"count"``; ``"chunk"``
            if they depend on the chunk otherwise; or ``""``.
    """

    def __init__(self, outputs: Any, part: object) -> None:
        """Start recording.

        Args:
            outputs: of the chunk, ``[C, B, H]``.
            part: the targets' cut.
        """
        super().__init__()
        self.steps, self.rows = lengths(outputs)
        self.uneven: list[Tensor] = []
        self.apart = Steps(self.steps, outputs, part)
        # Tensors are kept alive so that no other one can get the same ``id``.
        self._known: dict[int, tuple[Tensor, Average]] = {}
        self.counts = Counts(self.is_sum, lambda t: self.apart.place(t) is not None, self.steps)
        self.taken: list[str] = []

    def is_sum(self, scalar: Tensor) -> bool:
        """Say whether a scalar is a sum over arrays that have steps, as its computation shows."""
        made = self.of(scalar)
        return made is not None and made.kind == "sum" and self.apart.place(scalar) == Place(None)

    def _is_even_mean(self, scalar: Tensor) -> bool:
        """Say whether a scalar is a mean in which every step has the same share."""
        made = self.of(scalar)
        return made is not None and (made.kind, made.count, made.sure) == ("mean", None, True)

    def of(self, result: Tensor) -> Average | None:
        """Return how a scalar was made, or ``None`` if that was not seen."""
        known = self._known.get(id(result))
        return None if known is None else known[1]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``, and compute nothing else: checkpoints compare what is computed."""
        given = dict(kwargs or {})
        result = func(*args, **given)
        if torch.compiler.is_compiling():
            return result
        if isinstance(result, Tensor) and result.dim() == 0 and result.dtype != torch.bool:
            made = self._made(func, result, args, given)
            # A tensor that was changed in place is no longer what it was.
            self._known.pop(id(result), None)
            if made is not None:
                self._known[id(result)] = (result, made)
        name = _name(func)
        if isinstance(result, Tensor) and result.dim() == 0 and not result.requires_grad:
            self.counts.note(func, name, result, args, given)
        if name in TAKES_NUMBERS and not isinstance(result, Tensor):
            self.taken.append(self._kind_of_numbers(args[0]))
        if name == "bool" and self.counts.depends_on_size(args[0]):
            self.apart.put_doubt("an if on a count")
        self.apart.follow(name, args, given, result)
        return result

    def _kind_of_numbers(self, x: Tensor) -> str:
        place = self.apart.place(x)
        if place is None or x.dim():
            return ""
        if x.requires_grad or place.doubt == DETACHED:
            return "chunk"
        if self.is_sum(x) or self.counts.grows(x):
            return "count"
        return "" if self.counts.of(x) is None else "chunk"

    # --- scalars from arrays -----------------------------------------------------------------

    def _made(self, func: Any, result: Tensor, args: Any, given: dict[str, Any]) -> Average | None:
        if func in CROSS:
            return self._cross(func, args, given)
        name = _name(func)
        if func in _LOSSES:
            return self._loss(name, args, given)
        first = args[0] if args else given.get("input")
        if not isinstance(first, Tensor):
            first, args = (args[1], (args[1], args[0])) if len(args) == 2 else (first, args)
            if not isinstance(first, Tensor) or name not in ("add", "mul", "radd", "rmul"):
                return None
        if name in ("mean", "sum", "nansum", "count_nonzero") and first.dim():
            return self._reduced("mean" if name == "mean" else "sum", first)
        if name == "nanmean" and first.dim():
            return Average("mean", self._has_steps(first), (~first.detach().isnan()).sum())
        if name in ("div", "divide", "true_divide", "truediv"):
            return self._divided(result, first, args, given)
        known = self.of(first)
        if known is None:
            return None
        if name in _SAME:
            total = None if known.total is None else known.total.to(result.dtype)
            return replace(known, total=total)
        return self._combined(name, known, args, given)

    def _reduced(self, name: Any, whole: Tensor) -> Average:
        sure = self._has_steps(whole)
        if name == "sum":
            return Average("sum", sure)
        size = float(whole.numel())
        return Average("mean", sure, None if sure else size, size=size)

    def _has_steps(self, whole: Tensor) -> bool:
        """Say whether an array has equally many elements for each step and row."""
        shape, size = whole.shape, self.steps * self.rows
        return (
            tuple(shape[:2]) == (self.steps, self.rows)
            or (len(shape) == 3 and shape[0] == self.steps and shape[2] == self.rows)
            or (shape[0] > 0 and shape[0] % size == 0)
        )

    def _loss(self, name: str, args: Any, given: dict[str, Any]) -> Average | None:
        old_names = ("size_average", "reduce")
        if any(given.get(key) is not None for key in old_names) or len(args) > 2:
            return None
        if given.get("weight") is not None and not name.startswith("binary"):
            return None  # means over the sum of weights
        reduction = given.get("reduction", "mean")
        parts = [*args, given.get("input"), given.get("target")]
        both = [part.shape for part in parts if isinstance(part, Tensor)]
        whole = torch.empty(_broadcast(*both), device="meta")
        known = whole.dim() > 0 and reduction in ("mean", "sum")  # of a scalar it is any function
        return self._reduced(reduction, whole) if known else None

    def _cross(self, func: Any, args: Any, given: dict[str, Any]) -> Average | None:
        found = counted(func, args, given)
        if found is None:
            return None
        count, positions = found
        if count is None:
            return Average("sum", positions % (self.steps * self.rows) == 0)
        self.uneven.append(count != positions)
        return Average("mean", True, count)

    # --- scalars from scalars ----------------------------------------------------------------

    def _divided(
        self, result: Tensor, first: Tensor, args: Any, given: dict[str, Any]
    ) -> Average | None:
        by: Any = args[1] if len(args) > 1 else given.get("other")
        divisor = by if isinstance(by, Tensor) else None
        if first.dim() or first is result or given.get("rounding_mode"):
            return None
        known = self.of(first)
        if known is not None and known.kind == "mean" and self._is_constant(by):
            total = None if known.total is None else known.total / by
            return replace(known, total=total)
        if isinstance(by, Tensor) and (by.dim() or by.requires_grad):
            return None
        finish, place, seen = None, None, False
        if isinstance(by, Tensor):
            made = self.counts.of(by)
            by = by if made is None else made.root
            place = self.apart.place(by)
            means = self._is_even_mean(first) and self._is_even_mean(by)
            seen = (means or (self.is_sum(first) and self.is_sum(by))) and place == Place(None)
            seen &= self.apart.place(first) == Place(None)
            finish = None if made is None else _finished(made.make, means)
            # By their steps means are sums. And what divides may be changed in place.
            first, by = (first * self.steps, by * self.steps) if means else (first, by.clone())
        elif not _is_number(by):
            return None
        # Whether ``by`` is a count may be found out later, so the dividend is kept.
        doubt = place if place is not None and place.of_sums else None
        return Average("mean", False, by, first, finish, doubt=doubt, by=divisor, seen=seen)

    def _combined(
        self, name: str, known: Average, args: Any, given: dict[str, Any]
    ) -> Average | None:
        other: Any = args[1] if len(args) > 1 else given.get("other")
        if name == "neg":
            return replace(known, total=None if known.total is None else -known.total)
        if name in ("mul", "rmul", "multiply") and _is_number(other):
            total = None if known.total is None else known.total * other
            return replace(known, total=total, sure=known.sure and self._is_constant(other))
        if name not in ("add", "radd", "sub", "rsub", "subtract"):
            return None
        if _is_number(other):
            return known if (known.kind, known.count, known.sure) == ("mean", None, True) else None
        theirs = self.of(other) if isinstance(other, Tensor) else None
        if theirs is not None and known.seen and theirs.seen and not given:
            return self._both(name, known, theirs)
        if theirs is None or not (known.sure and theirs.sure) or known.kind != theirs.kind:
            return None
        # Counts of cross-entropies that differ from the whole are seen in ``uneven``.
        return Average(known.kind, True)

    def _both(self, name: str, known: Average, theirs: Average) -> Average | None:
        """Return what two means are together that were divided by one count."""
        if known.by is not theirs.by or name.startswith("r"):
            return None
        assert known.total is not None
        assert theirs.total is not None
        other = -theirs.total if name in ("sub", "subtract") else theirs.total
        return replace(known, total=known.total + other)

    def _is_constant(self, value: object) -> bool:
        """Say whether a number is the same for all chunks: no multiple of the chunk's steps."""
        return _is_number(value) and (value == 1 or float(value) % self.steps != 0)  # type: ignore[arg-type]


def _finished(make: Callable[[Tensor], Tensor], mean: bool) -> Callable[[Tensor, int], Tensor]:
    """Return what is done to a count, or to a mean over so many steps that is given as a sum."""
    return lambda count, steps: make(count / steps) * steps if mean else make(count)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _name(func: Any) -> str:
    name = str(getattr(func, "__name__", ""))
    if name == "__get__":  # of an attribute
        name = str(getattr(func.__self__, "__name__", ""))
    return name.strip("_")
