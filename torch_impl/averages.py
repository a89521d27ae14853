"""Whether a scalar is a sum or a mean, and over how much, as its computation shows.

The loss of a whole sequence is put together from those of its chunks. For that it must be known
whether a chunk's scalar is a mean or a sum, and over how many elements a mean is taken.
:class:`Watch` records the operations while a readout computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from weakref import proxy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .choices import Choices
from .counts import Counts, finished
from .mixing import Steps
from .modes import Mode
from .quantise import LOW
from .scalars import Average, same_count
from .step_functions import DETACHED, LOSSES, TAKES_NUMBERS, name_of
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

_broadcast: Any = torch.broadcast_shapes


class Watch(Mode):
    """Records how scalars are computed from a chunk.

    Attributes:
        uneven: bool scalars: whether a cross-entropy's mean was not over all targets.
        apart: which arrays have steps, and whether they are kept apart.
        counts: what was made of counts.
        chunk: steps of the chunk, of which this may be a part.
        low: whether numbers of few bits were computed, by an autocast inside, for instance.
        taken: of each time that a number or a truth value left PyTorch, what it is of:
            ``"count"``; ``"chunk"`` if it depends on the chunk otherwise; ``"choice"`` if it says
            which of two such is larger; or ``""``.
    """

    def __init__(self, outputs: Any, part: object) -> None:
        """Start recording.

        Args:
            outputs: of the chunk, ``[C, B, H]``.
            part: the targets' cut.
        """
        super().__init__()
        self.steps, self.rows = lengths(outputs)
        self.chunk = self.steps
        self.uneven: list[Tensor] = []
        self.apart = Steps(self.steps, outputs, part)
        # Tensors are kept alive so that no other one can get the same ``id``.
        self._known: dict[int, tuple[Tensor, Average]] = {}
        me = proxy(self)  # else tensors and their graphs stay alive in a cycle
        self.counts = Counts(
            lambda t: me.is_sum(t), lambda t: me.apart.place(t) is not None, self.steps
        )
        self.choices = Choices(lambda t: me._kind_of_numbers(t) == "chunk")
        self.taken: list[str] = []
        self.low = False

    def is_sum(self, scalar: Tensor) -> bool:
        """Say whether a scalar is a sum over arrays that have steps, as its computation shows."""
        made = self.of(scalar)
        return made is not None and made.kind == "sum" and self.apart.place(scalar) == Place(None)

    def is_even_mean(self, scalar: Tensor) -> bool:
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
        name = name_of(func)
        self.low |= isinstance(result, Tensor) and result.dtype in LOW
        if isinstance(result, Tensor) and result.dim() == 0 and not result.requires_grad:
            self.counts.note(func, name, result, args, given)
        self.choices.note(name, result, args)
        if name in (*TAKES_NUMBERS, "bool") and not isinstance(result, Tensor):
            kind = "" if name == "bool" else self._kind_of_numbers(args[0])
            self.taken.append("choice" if self.choices.has(args[0]) else kind)
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
        return "chunk" if not place.doubt or self.counts.of(x) is not None else ""

    # --- scalars from arrays -----------------------------------------------------------------

    def _made(self, func: Any, result: Tensor, args: Any, given: dict[str, Any]) -> Average | None:
        if func in CROSS:
            return self._cross(func, args, given)
        name = name_of(func)
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
        if known is None and name in ("mul", "multiply") and len(args) == 2:
            known, args = self.of(args[1]), args[::-1]
        if known is None:
            return None
        if name in _SAME:
            total = None if known.total is None else known.total.to(result.dtype)
            return replace(known, total=total)
        return self._combined(name, known, args, given)

    def _reduced(self, name: Any, whole: Tensor, *of: Tensor) -> Average:
        sure = self._has_steps(whole, *of)
        if name == "sum":
            return Average("sum", sure)
        size = float(whole.numel())
        return Average("mean", sure, None if sure else size, size=size)

    def _has_steps(self, whole: Tensor, *of: Tensor) -> bool:
        """Say whether an array has equally many elements for each step and row.

        Of those that a mask has chosen there may be as many by chance, and others of other chunks.
        """
        shape, size = whole.shape, self.steps * self.rows
        places = [place for one in (whole, *of) if (place := self.apart.place(one)) is not None]
        if any(place.major < 0 for place in places):
            return False
        return (
            tuple(shape[:2]) == (self.steps, self.rows)
            or (len(shape) == 3 and shape[0] == self.steps and shape[2] == self.rows)
            or (shape[0] > 0 and shape[0] % size == 0 and not any(one.doubt for one in places))
        )

    def _loss(self, name: str, args: Any, given: dict[str, Any]) -> Average | None:
        old_names = ("size_average", "reduce")
        if any(given.get(key) is not None for key in old_names) or len(args) > 2:
            return None
        if given.get("weight") is not None and not name.startswith("binary"):
            return None  # means over the sum of weights
        reduction = given.get("reduction", "mean")
        parts = [*args, given.get("input"), given.get("target")]
        both = [part for part in parts if isinstance(part, Tensor)]
        whole = torch.empty(_broadcast(*(one.shape for one in both)), device="meta")
        known = whole.dim() > 0 and reduction in ("mean", "sum")  # of a scalar it is any function
        return self._reduced(reduction, whole, *both) if known else None

    def _cross(self, func: Any, args: Any, given: dict[str, Any]) -> Average | None:
        found = counted(func, args, given)
        if found is None:
            return None
        count, positions = found
        whole = positions % (self.steps * self.rows) == 0  # else it may be of one step, say
        if count is None:
            return Average("sum", whole)
        self.uneven.append(count != positions)
        place = self.apart.place(args[0] if args else given["input"])
        apart = place is not None and place.axis is not None and not place.doubt
        return Average("mean", whole or apart, count)

    # --- scalars from scalars ----------------------------------------------------------------

    def _divided(
        self, result: Tensor, first: Tensor, args: Any, given: dict[str, Any]
    ) -> Average | None:
        by: Any = args[1] if len(args) > 1 else given.get("other")
        divisor = by if isinstance(by, Tensor) else None
        if first.dim() or first is result or given.get("rounding_mode"):
            return None
        known = self.of(first)
        # Of a mean over a count it follows from numbers whether one that divides is a length.
        fixed = self._is_fixed(by) and known is not None and known.count is not None
        if known is not None and known.kind == "mean" and (fixed or self._is_constant(by)):
            total = None if known.total is None else known.total / by
            return replace(known, total=total, sure=known.sure and self._is_sure(by))
        if isinstance(by, Tensor) and (by.dim() or by.requires_grad):
            return None
        finish, place, seen = None, None, False
        if isinstance(by, Tensor):
            made = self.counts.of(by)
            by = by if made is None else made.root
            place = self.apart.place(by)
            means = self.is_even_mean(first) and self.is_even_mean(by)
            seen = (means or (self.is_sum(first) and self.is_sum(by))) and place == Place(None)
            seen &= self.apart.place(first) == Place(None)
            finish = None if made is None else finished(made.make, means)
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
        if name in ("mul", "rmul", "multiply") and self._is_fixed(other):
            total = None if known.total is None else known.total * other
            return replace(known, total=total, sure=known.sure and self._is_sure(other))
        if name not in ("add", "iadd", "radd", "sub", "isub", "rsub", "subtract"):
            return None
        if _is_number(other):
            even = (known.kind, known.count, known.sure) == ("mean", None, True)
            return known if even or (other == 0 and name != "rsub") else None  # of ``sum([…])``
        theirs = self.of(other) if isinstance(other, Tensor) else None
        both = None if theirs is None or given else self._both(name, known, theirs)
        if both is not None:
            return both
        if theirs is None or not (known.sure and theirs.sure) or known.kind != theirs.kind:
            return None
        # Counts of cross-entropies that differ from the whole are seen in ``uneven``.
        size = known.size if known.size == theirs.size else None
        return Average(known.kind, True, size=size)

    def _both(self, name: str, known: Average, theirs: Average) -> Average | None:
        """Return what two means over one count are together."""
        if name.startswith("r") or not same_count(known, theirs):
            return None
        total, other = known.total, theirs.total
        if total is not None and other is not None:
            total = total - other if "sub" in name else total + other
        else:
            total = None  # it follows from the mean
        seen, sure = known.seen and theirs.seen, known.sure and theirs.sure
        return replace(known, total=total, seen=seen, sure=sure)

    def _is_fixed(self, value: object) -> bool:
        """Say whether a scalar is made of nothing that has steps."""
        plain = isinstance(value, Tensor) and not value.dim() and self.apart.place(value) is None
        return plain or _is_number(value)

    def _is_sure(self, value: object) -> bool:
        """Say whether a number is constant, and is no multiple of the steps of several chunks."""
        return self._is_constant(value) and (value == 1 or float(value) % self.steps != 0)  # type: ignore[arg-type]

    def _is_constant(self, value: object) -> bool:
        """Say whether a number is the same for all chunks: no multiple of the chunk's steps."""
        return _is_number(value) and (value == 1 or float(value) % self.chunk != 0)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
