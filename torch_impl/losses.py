"""The loss of a whole sequence from the losses of its chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from .apart import Form, check_apart, check_joined, check_pair, doubt_of_pair, forms_of
from .averages import Watch
from .longer import Longer
from .parts import HOW, SEVERAL, Parts, called, mixed
from .quantise import wide
from .readout import LinearCrossEntropy
from .results import as_count, checked, counts_nothing, pair_of
from .scalars import Average
from .step_functions import FEW
from .step_places import Place
from .taken import check_numbers

_OVER_SOME = Place(doubt="a mean over what counts", of_sums=True)
# By these a loss may be switched off for a chunk: a product with ``keep.any()``, say.
_GATES = ("mul", "multiply", "rmul", "imul", "where", "any", "all")
# What is found of chunks in the end: code, what was given, what is allowed.
_FAULTS = (
    ("E_ARGUMENT", "a count that is negative, infinite or NaN", "0 or more"),
    ("E_ARGUMENT", "a loss with a mean over some targets (ignore_index, weights)", SEVERAL),
    ("E_NONFINITE", "NaN as the mean of a chunk", f"numbers, or {HOW}"),
    ("E_NONFINITE", "NaN as a chunk's loss or sum", "numbers"),
)
_FEW = 64  # losses, of which the middle one may be the same in parts
_SHORT = 4  # steps, fewer of which do not show what is done by halves or by twos
_TOGETHER = 64  # steps, of which chunks are put together as long as they do not show it


class Tally:
    """Adds up the losses of chunks, which come in any order.

    For each chunk a readout returns

    * a scalar: with reduction ``"mean"`` a mean or a sum over the chunk's steps, with ``"sum"``
      whatever is to be added;
    * ``(sum, count)``: the loss is the sum of all sums over the sum of all counts;
    * a mean over some targets, such as ``F.cross_entropy``, which is taken apart into the two.

    Gradients of the last two kinds are to be divided by the count of all chunks, known at the end.
    So each chunk's are divided by ``reference``, a number near the count, for which :meth:`factor`
    corrects at the end: nothing runs twice, and nothing overflows that would not otherwise.
    """

    def __init__(self, readout: Any, mean: bool, positions: int, steps: int, size: int) -> None:
        """Start with no chunks.

        Args:
            readout: what gives the losses.
            mean: whether the loss is a mean.
            positions: steps × rows.
            steps: of the sequence.
            size: of chunks, in steps.
        """
        self.readout, self.mean, self.steps, self._short = readout, mean, steps, size < 3
        self.known = isinstance(readout, LinearCrossEntropy)
        self.reference: Tensor | float = float(positions)
        self.kind = ""
        self.total: Tensor | None = None
        self.count: Tensor | None = None
        self._nan, self._uneven, self._wrong = list[Tensor](), list[Tensor](), list[Tensor]()
        self._finish: Callable[[Tensor, int], Tensor] | None = None
        self._sizes: list[float | None] = []
        self._steps = self._apart = self._compared = 0  # read; chunks that show it, or gradients
        self._told: bool | None = None
        # Whether a loss of 0 may have been switched off, or was beside no other; and others seen.
        self._off = self._alone = self._some = False
        self._single: Parts | None = None
        self._last: dict[bool, Parts | None] = {False: None, True: None}
        self._numbers_told = self._used = self._seen = False
        self._longer = Longer(steps, size, positions)

    def read(self, outputs: Tensor, part: Any) -> Tensor:
        """Call the readout; return what is to be differentiated."""
        loss = self._read(outputs, part)
        self._steps += len(outputs)
        return loss

    def _read(self, outputs: Tensor, part: Any) -> Tensor:
        steps = len(outputs)
        # One chunk is the whole, of which any scalar is the loss.
        parts = Parts(self.readout, outputs, part) if steps < self.steps else None
        result, watch = called(self.readout, outputs, part)
        pair = checked(result)
        doubt = watch.apart.doubt([result] if pair is None else result)
        if parts is not None and self.mean and watch.apart.sure is not None:
            raise mixed(watch.apart.sure)
        if parts is not None and not self._numbers_told:
            self._numbers_told = check_numbers(parts, watch.taken)
        mean = doubt_of_pair(result, watch) if self.mean and pair is not None else None
        if self.mean and parts is not None and pair is not None:
            if mean is None:
                self._told = check_pair(parts, result, watch, self._told, self._last[False])
            doubt = mean if doubt is None else doubt
        # Few numbers may be alike by chance, and weights of one chunk while others' are not.
        again = self._apart < (1 if outputs.shape[:2].numel() >= _FEW else 3)
        again |= doubt is not None and doubt.of_sums
        if doubt is None and (steps == 1 or self._short or counts_nothing(result)):
            doubt = Place(doubt=FEW)
        elif steps == 1:
            again = True  # a mask may hide it in two steps and not in others
        if parts is not None and doubt is not None and again:
            self._check_apart(parts, doubt, result, watch)
        if parts is not None:
            self._longer.check(parts, watch, self._forms)
        parts = None if self.known or not self.mean else parts
        if pair is not None:
            total, count = pair
            if parts is not None and mean is not None:  # else it was checked above
                self._told = check_pair(parts, result, watch, self._told, self._last[False])
            self._last[False] = parts or self._last[False]
            self._used |= total.requires_grad
            self._wrong.append(~(torch.isfinite(count) & (count >= 0)))
            return self.add_counted(total, count)
        self._used |= result.requires_grad
        if self.known and (self.mean or self.readout.reduction == "mean"):
            averaged = self.readout.reduction == "mean"
            return self._add_average(result, self.readout.count(part) if averaged else None)
        if not self.mean:
            return self._add("mean", result * 1.0)
        made = watch.of(result)
        if parts and made and made.doubt:
            raise mixed(made.doubt)
        # Of sums over steps, of which Python saw nothing to choose by, one chunk is enough.
        sums = made is not None and made.seen and not (watch.apart.asked or watch.taken)
        if parts is not None and not ((sums and self._seen) or (made and made.sure)):
            parts.graph &= self._compared < 3
            made = parts.tell(made, result, doubt)
            self._compared += parts.compared
            gate, beside = doubt is not None and doubt.doubt in _GATES, False
            if not gate and (made is None or made.count is None) and not result.isnan():
                asked = self._check_beside(parts, doubt or _OVER_SOME) is not None
                beside = asked and not parts.drew
            self._off |= gate and made is None
            self._alone = (self._alone or made is None) and not (beside and (made or self._some))
            if made is None:
                return wide(result) * 0
            if made.count is not None and made.total is None and not made.count:
                result = outputs.sum() * 0  # by NaN no factor has a gradient
            self._some = True
            self._seen |= sums and made.seen and steps > 1 and bool(result / result == 1)
        if made is not None and made.kind == "sum" and parts is not None:
            return self.add_counted(result, None)
        if made is not None and made.kind == "mean" and made.count is not None:
            if self.kind == "count" and (made.finish is None) != (self._finish is None):
                raise mixed(Place(doubt="a count made in several ways", of_sums=True))
            self._finish, count = made.finish, as_count(made.count, result)
            self._count_from_here()
            if made.total is None:
                return self._add_average(result, count)
            return self.add_counted(made.total, count)
        size = None if made is None else made.size
        if self.kind == "count" and size is not None:
            return self._add_average(result, as_count(size, result))
        self._uneven += watch.uneven if steps < self.steps else []
        self._nan.append(result.detach().isnan())
        self._sizes.append(None if size is None else size / steps)
        return self._add("mean", result * (steps / self.steps))

    def _check_apart(self, parts: Parts, doubt: Place, result: Any, watch: Watch) -> None:
        """Raise if steps depend on one another, which two steps or more can show."""
        made = watch.of(result) if isinstance(result, Tensor) else None
        single = len(parts.outputs) == 1
        sure = made.sure if made else not isinstance(result, Tensor)
        here = sure or single or not self.mean or self.known or parts.drew  # else tried anyway
        forms = self._forms(result, made, single)
        if single:
            joined, self._single = parts.joined(self._single), parts
            if joined is None:
                return
            parts, (result, made) = joined, joined.whole()
        shown = here and check_apart(parts, doubt, forms, result, made)
        of_sums = here and doubt.of_sums
        if of_sums or len(parts.outputs) < _SHORT or (here and not shown):
            shown |= bool(self._check_beside(parts, doubt, short=not of_sums))
        self._apart += shown

    def _check_beside(self, parts: Parts, doubt: Place, short: bool = False) -> bool | None:
        """Raise if chunks show together what none shows; say if they do, ``None`` of one alone."""
        before, self._last[short] = self._last[short], parts
        joined = parts.joined(before)
        if joined is None:
            return None
        shown = check_joined(joined, doubt, self._forms)
        if short and not shown and len(joined.outputs) < _TOGETHER:
            self._last[short] = joined  # what is made of distant steps takes many
        return shown

    def _forms(self, result: Any, made: Average | None, single: bool = False) -> list[Form]:
        """Return what sum and count of a chunk may be."""
        if isinstance(result, (tuple, list)):
            return [lambda result, *_: pair_of(result) if self.mean else (pair_of(result)[0], 0)]
        if self.known:
            return [self._known]
        return forms_of(made, single and self.mean)

    def _known(self, result: Tensor, _: Any, part: Any, __: int) -> tuple[Any, Any]:
        if self.readout.reduction == "sum":
            return result, 0
        count = self.readout.count(part)
        return (result * count if count else 0), count

    def _count_from_here(self) -> None:
        """Treat the means so far, over all steps, as means over so many elements."""
        each = set(self._sizes)
        if self.kind != "mean" or self.total is None or len(each) != 1 or None in each:
            return
        # Gradients so far were divided by the number of elements of the whole sequence.
        (size,) = each
        assert size is not None
        self.reference = size * self.steps
        self.total = self.total * self.reference
        self.count = self.total.new_tensor(size * self._steps)
        self.kind = "count"

    def _add_average(self, result: Tensor, count: Tensor | None) -> Tensor:
        """Add a chunk's mean over ``count``, or its sum."""
        if count is None:
            return self.add_counted(result, None)
        # A mean over nothing is NaN; its count is 0.
        x = wide(result)
        self.add_counted(torch.where(count != 0, x.detach() * count, 0), count)
        if not self.mean:
            return x * count
        # Exactly 1 if this chunk is the whole, so that its gradients are the mean's bit for bit.
        return x * torch.where(count != 0, count / self.reference, 0)

    def add_counted(self, total: Tensor, count: Tensor | None) -> Tensor:
        """Add a chunk of known sum; return what is to be differentiated."""
        total = wide(total)
        if count is None or not self.mean:
            return self._add("sum", total)
        self._add("count", total)
        dtype = total.dtype if total.dtype == torch.float64 else torch.float32
        count = count.detach().to(total.device, dtype)
        self.count = count if self.count is None else self.count + count
        return total * self.share

    @property
    def share(self) -> Tensor | float:
        """What a chunk's sum is multiplied by before it is differentiated."""
        if self.kind == "sum" or not self.mean:
            return 1.0
        by = self.reference
        return torch.where(by != 0, 1 / by, 0) if isinstance(by, Tensor) else 1 / by

    def _add(self, kind: str, value: Tensor) -> Tensor:
        if self.kind not in ("", kind):
            names = {"mean": "a scalar", "sum": "a sum", "count": "(sum, count) or a cross-entropy"}
            given = f"{names[self.kind]} for some chunks, {names[kind]} for others"
            raise RevRNNError("E_ARGUMENT", "readout", given, "the same for every chunk")
        self.kind, part = kind, wide(value.detach())
        self.total = part if self.total is None else self.total + part
        return value

    def check(self) -> None:
        """Raise if the chunks' losses cannot be combined, with one synchronisation."""
        if (self.kind == "mean" and self._alone) or (self.kind in ("mean", "sum") and self._off):
            given = "0 for a chunk of which nothing counts, a loss of all steps for others"
            raise RevRNNError("E_ARGUMENT", "readout", given, HOW)
        if self.total is None:
            return
        # Where nothing counts, a mean's sum was taken for 0.
        kinds = (self._wrong, self._uneven, self._nan, [self.total.isnan()])
        each = iter(torch.stack([f.to(self.total.device) for kind in kinds for f in kind]).tolist())
        for kind, fault in zip(kinds, _FAULTS, strict=True):
            if sum(next(each) for _ in kind):
                raise RevRNNError(fault[0], "readout", *fault[1:])

    def check_used(self) -> None:
        """Raise if no loss has a graph, as ``backward`` of such a loss does."""
        if not self._used and (self.count is None or bool(self.count > 0)):
            given = "a loss without a graph (detached, or computed without the outputs)"
            raise RevRNNError("E_ARGUMENT", "readout", given, "a loss that can be differentiated")

    def loss(self) -> Tensor:
        """Return the loss of the whole sequence."""
        if self.total is None:  # no chunk counted anything
            return torch.zeros((), device="cpu")
        return self.total if self.count is None else self.total / self._whole(self.count)

    def factor(self) -> Tensor | None:
        """Return the factor that all gradients still lack; 0 if nothing counted."""
        if self.count is None:
            return None
        count = self._whole(self.count)
        return torch.where(count != 0, self.reference / count, 0)

    def _whole(self, count: Tensor) -> Tensor:
        return count if self._finish is None else self._finish(count, self.steps)
