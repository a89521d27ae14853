"""Whether a readout's scalar is a mean or a sum over a chunk's steps, by trying parts of the chunk.

Of most losses the computation shows it (:mod:`.averages`). Of the rest it follows from the scalars
of unequal parts of the chunk. A scalar that is neither (a root, a perplexity, one of the last step
alone) would give another loss with every ``chunk_size``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final, Literal

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from .averages import Watch
from .collect import now
from .modes import NoDropout
from .part_gradients import gradients_add_up
from .part_sums import Close, by_counts, number_of, total_of
from .quantise import LOW, is_low
from .repeat import no_trace, random_state, set_random_state
from .results import OWN, named_failure
from .scalars import Average
from .step_functions import BEYOND, FEW
from .step_places import Place
from .trees import Tree, as_given, joined

HOW: Final = (
    "(sum, count) of the chunk: the sum of its losses and how many targets count, both added up"
    " over all chunks"
)
SEVERAL: Final = (
    f"{HOW}; or with several counts a sum of losses times weights that are among the targets and"
    " were divided by their sum before, mask / mask.sum()"
)
_OF: Final = "a loss of outputs [C, B, hidden_size] and targets; LinearCrossEntropy for classes"


class Parts:
    """One chunk, of which the readout can be tried on parts."""

    def __init__(self, readout: Callable[..., Any], outputs: Tensor, part: Any) -> None:
        """Note versions and generators before the readout is called.

        Args:
            readout: the user's.
            outputs: of the chunk, ``[C, B, H]``.
            part: the targets' cut.
        """
        self.readout, self.outputs, self.part = readout, outputs, part
        self.version, self.chunk = outputs._version, len(outputs)
        self._random = self.now = random_state(outputs.device)
        self._exact = self.compared = self.low = False
        # Whether gradients are compared too, where a graph leads to them, and whether they were.
        self.graph = self._able = torch.is_grad_enabled() and outputs.requires_grad
        self._since = now() if self.graph else 0

    def tell(
        self, made: Average | None, result: Tensor, doubt: Place | None = None
    ) -> Average | None:
        """Return what the scalar is, or ``None`` if it is 0 and counts nothing.

        Args:
            made: what its computation showed, not sure.
            result: the scalar.
            doubt: the function that may have mixed steps.

        Raises:
            RevRNNError: ``E_ARGUMENT`` if it is neither a mean nor a sum, ``E_NONFINITE`` if that
                cannot be found out because it is infinite.
        """
        steps = len(self.outputs)
        drawn = self.drew
        even = Average("mean", True)
        if self.outputs._version != self.version or not self.can_be_cut():
            return even
        if steps == 1:
            answer = self._by_rows(made, result, values=not drawn)
            if answer != "no":
                return None if answer == "nothing" or made is None else replace(made, sure=True)
            given = "a scalar that may be a mean or a sum, which one step does not show"
            allowed = f"another chunk_size, a mean of all steps, or {HOW}"
            raise RevRNNError("E_ARGUMENT", "readout", given, allowed)
        ends = sorted({0, 1, steps // 2 + 1, steps})
        tried, how, low = self.precisely(result, made)
        whole = number_of(tried)
        scalars = [self._scalar_of(slice(*pair)) for pair in pairwise(ends)]
        low |= self.low
        if made is not None and how is not None and how.kind == "mean" and how.count is not None:
            answer = by_counts(how, tried, scalars, not drawn, low)
            if answer == "yes" and not drawn:
                self._check_gradients(
                    [total_of(*one) for one in ((tried, how), *scalars)], low, doubt
                )
            if answer == "nothing":
                return self._of_zero(ends)
            if answer == "yes":
                return replace(made, sure=True)
        if abs(whole) == math.inf:
            given = "infinity for a chunk, which does not show whether it is a mean"
            raise RevRNNError("E_NONFINITE", "readout", given, f"finite numbers, or {HOW}")
        if drawn and (made is None or made.count is None):
            return even  # random numbers differ between a chunk and its parts
        each = [number_of(scalar) for scalar, _ in scalars]
        if not any((whole, *each)):
            return self._of_zero(ends)
        close = Close(0.05 if low else 5e-5)
        sizes = [stop - first for first, stop in pairwise(ends)]
        mean = sum(value * size for value, size in zip(each, sizes, strict=True)) / steps
        totals = [tried, *(scalar for scalar, _ in scalars)]
        if not drawn and (whole != whole or close(whole, mean, *each)):
            by_steps = zip(totals, [steps, *sizes], strict=True)
            self._check_gradients([total * size for total, size in by_steps], low, doubt)
            return even
        if not drawn and close(whole, sum(each), *each):
            self._check_gradients(totals, low, doubt)
            return Average("sum", True)
        given = "a scalar that is neither the mean nor the sum of losses of the chunk's steps"
        raise RevRNNError("E_ARGUMENT", "readout", given, SEVERAL)

    def _of_zero(self, ends: list[int]) -> Average | None:
        """Return what a scalar of 0 is, by its gradient; ``None`` without one."""
        self.graph, sizes = self._able, [stop - first for first, stop in pairwise(ends)]
        if not self.graph:
            return None
        cuts = [slice(None), *(slice(*pair) for pair in pairwise(ends))]
        each = [self._scalar_of(cut)[0] for cut in cuts]
        by_steps = [one * size for one, size in zip(each, [ends[-1], *sizes], strict=True)]
        kinds: list[tuple[Literal["mean", "sum"], list[Tensor]]] = [
            ("mean", by_steps),
            ("sum", each),
        ]
        low = is_low(each[0])
        answers = [(gradients_add_up(of[0], of[1:], self._since, low), kind) for kind, of in kinds]
        shown = [kind for answer, kind in answers if answer]
        if not shown and any(answer is False for answer, _ in answers):
            given = "a scalar of 0 whose gradient is neither a mean nor a sum over the steps"
            raise RevRNNError("E_ARGUMENT", "readout", given, HOW)
        return Average(shown[0], True) if shown else None

    def _check_gradients(self, totals: list[Tensor], low: bool, doubt: Place | None) -> None:
        if not self.same_gradients(totals, low):
            if doubt is not None:
                raise mixed(doubt)
            given = "a mean or sum of losses of the chunk's steps, whose gradient is none"
            allowed = f"functions of each step alone, or {HOW}; or a chunk_size of all steps"
            raise RevRNNError("E_ARGUMENT", "readout", given, allowed)

    def same_gradients(self, totals: list[Tensor], low: bool) -> bool:
        """Say whether the gradient of the first is the sum of those of the others, if compared."""
        answer = gradients_add_up(totals[0], totals[1:], self._since, low) if self.graph else None
        self.compared |= answer is True
        return answer is not False

    def precisely(
        self, result: Any, made: Average | None, drops: bool = True
    ) -> tuple[Any, Average | None, bool]:
        """Return what to compare parts with, and whether it is of few bits.

        Without autocast, if there is one and the readout also computes without it.
        """
        kind, low = self.outputs.device.type, self.outputs.dtype in LOW
        if torch.is_autocast_enabled(kind):
            self._exact = True
            try:
                result, made = self.of(slice(None), drops)
            except Exception:
                self._exact, low = False, True
        return result, made, low or (isinstance(result, Tensor) and result.dtype in LOW)

    def _by_rows(self, made: Average | None, result: Tensor, values: bool) -> str:
        """Answer as :func:`by_counts`, from halves of the rows of one step.

        Only for a count that was computed: a plain number may be the number of rows.
        """
        rows, part = self.outputs.shape[1], self.part
        computed = made is not None and (isinstance(made.count, Tensor) or made.total is None)
        arrays = part.leaves if isinstance(part, Tree) else [part]
        fits = rows > 1 and all(
            isinstance(one, Tensor) and one.dim() > 1 and one.shape[1] == rows
            for one in arrays
            if one is not None
        )
        if made is None or made.count is None or not computed or not fits:
            return "no"
        cuts = (slice(0, rows // 2), slice(rows // 2, None))
        scalars = [self._scalar_of((slice(None), cut)) for cut in cuts]
        return by_counts(made, result, scalars, values, self.low or self.outputs.dtype in LOW)

    def can_be_cut(self) -> bool:
        """Say whether the targets have steps that can be chosen."""
        try:
            return len(self.part[0:1]) == 1
        except Exception:
            return False

    def _scalar_of(self, steps: slice | tuple[slice, slice]) -> tuple[Tensor, Average | None]:
        """Return the scalar of some steps or rows, and how it was made."""
        try:
            result, made = self.of(steps)
        except OWN:
            raise
        except Exception as cause:
            given = f"{type(cause).__name__} for a part of a chunk"
            raise RevRNNError(
                "E_ARGUMENT", "readout", given, f"what takes any steps, or {HOW}"
            ) from cause
        if not isinstance(result, Tensor) or result.dim():
            given = "a scalar for a chunk, something else for a part of it"
            raise RevRNNError("E_ARGUMENT", "readout", given, "the same for every chunk")
        return result, made

    def of(
        self, steps: slice | tuple[slice, slice], drops: bool = True
    ) -> tuple[Any, Average | None]:
        """Return the result for some steps or rows, and how it was made, without lasting effects.

        With ``drops`` false nothing is dropped out.
        """
        # As in the call itself, whose readout may differentiate something.
        given = self.outputs if self._able else self.outputs.detach()
        outputs, part = given[steps].clone(), copied(self.part[steps])
        watch = Watch(outputs, part)
        watch.chunk = self.chunk
        inner = nullcontext() if drops else NoDropout()
        seen = watch if outputs.numel() else nullcontext()  # no steps show nothing
        same = torch.autocast(outputs.device.type, enabled=False) if self._exact else nullcontext()
        grad = torch.set_grad_enabled(self._able)
        with grad, no_trace(self.readout, outputs.device), same, inner, seen:
            set_random_state(self._random, outputs.device)
            result = self.readout(outputs, as_given(part))
            self.now = random_state(outputs.device)
        chosen = watch.apart.doubt(result if isinstance(result, (tuple, list)) else [result])
        if chosen is not None and chosen.doubt == BEYOND and len(outputs):
            raise mixed(chosen)
        self.low |= watch.low
        return result, watch.of(result) if isinstance(result, Tensor) else None

    def joined(self, other: Parts | None) -> Parts | None:
        """Return two chunks as one, if there is another one and their targets can be joined."""
        if other is None or other.outputs._version != other.version:
            return None
        part = joined(self.part, other.part)
        if part is None:
            return None
        outputs = torch.cat([self.outputs.detach(), other.outputs.detach()])
        both = Parts(self.readout, outputs.requires_grad_(self._able), part)
        both.graph &= self.graph
        both.chunk = self.chunk  # by which numbers of its length are told
        return both

    def whole(self) -> tuple[Any, Average | None]:
        """Return the result for all steps, and how it was made."""
        return self.of(slice(None))

    @property
    def drew(self) -> bool:
        """Whether the readout has drawn random numbers."""
        return self.differ(random_state(self.outputs.device)) or self.differ(self.now)

    def differ(self, now: list[Tensor]) -> bool:
        """Say whether generators are not where they were before the readout was called."""
        return not all(torch.equal(a, b) for a, b in zip(now, self._random, strict=True))


def copied(part: Any) -> Any:
    """Return targets of their own, which a readout may change in place, as its outputs."""
    return part.clone() if isinstance(part, (Tensor, Tree)) else part


def called(readout: Callable[..., Any], outputs: Tensor, part: Any) -> tuple[Any, Watch]:
    """Return a readout's result, and what was seen of its computation."""
    part = copied(part)
    given = as_given(part)
    with (
        Watch(outputs, part) as watch,
        named_failure("readout", readout, outputs, given, allowed=_OF),
    ):
        return readout(outputs, given), watch


def mixed(doubt: Place) -> RevRNNError:
    """Return the error for a loss in which steps depend on one another."""
    given = f"a loss with {doubt.doubt} along the steps, of which it sees a chunk"
    allowed = HOW if doubt.of_sums else "functions of each step alone"
    if doubt.doubt == FEW:
        given = (
            "a loss of several chunks that those of fewer steps do not make up: functions along the"
            " steps, an if on their number, or in chunks of one step a sum"
        )
        allowed += "; a larger chunk_size"
    allowed += "; or a chunk_size of all steps"
    return RevRNNError("E_ARGUMENT", "readout", given, allowed)
