"""The loss of a whole sequence from what a readout says of its chunks."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from revrnn.errors import RevRNNError

from .readout import LinearCrossEntropy

_LOW = (torch.float16, torch.bfloat16)
# What PyTorch averages over the targets that count, not over all.
_AVERAGING: dict[Any, inspect.Signature] = {
    function: inspect.signature(function)
    for function in (functional.cross_entropy, functional.nll_loss)
}
_HOW = (
    "(sum, count) of the chunk: the sum of its losses and how many targets count, both added up"
    " over all chunks"
)


class Watch(TorchFunctionMode):
    """Notes cross-entropies that are computed, so that a mean can be told from its sum.

    Attributes:
        averages: each result, and its count if it is a mean.
        uneven: whether means were over something else than all targets, bool scalars.
    """

    def __init__(self) -> None:
        """Watch from here on."""
        super().__init__()
        self.averages: list[tuple[Tensor, Tensor | None]] = []
        self.uneven: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func``."""
        given = dict(kwargs or {})
        if func not in _AVERAGING or torch.compiler.is_compiling():
            return func(*args, **given)
        bound = _AVERAGING[func].bind(*args, **given)
        bound.apply_defaults()
        values = bound.arguments
        old_names = values["size_average"] is not None or values["reduce"] is not None
        if values["reduction"] not in ("mean", "sum") or old_names:
            return func(*args, **given)
        return self._noted(func, values)

    def _noted(self, func: Callable[..., Any], values: dict[str, Any]) -> Tensor:
        # Nothing is computed otherwise than without this: checkpoints compare.
        result: Tensor = func(**values)
        if values["reduction"] == "sum":
            self.averages.append((result, None))
            return result
        scores, target = values["input"], values["target"]
        with torch.no_grad():
            positions = float(target.numel())
            if target.is_floating_point():
                positions /= scores.shape[1 if scores.dim() > 1 else 0]
                count = torch.tensor(positions, device=target.device)
            else:
                keep, weight = target != values["ignore_index"], values["weight"]
                each = keep.float()
                if weight is not None:
                    each = torch.where(keep, weight.float()[torch.where(keep, target, 0).long()], 0)
                count = each.sum()
            self.uneven.append(count != positions)
        self.averages.append((result, count))
        return result


class Tally:
    """What the chunks' losses come to.

    Chunks come in any order. A readout gives of each chunk

    * a scalar: with reduction ``"mean"`` its mean over the chunk's steps, with ``"sum"`` its sum;
    * ``(sum, count)``: the loss is the sum of all sums over the sum of all counts;
    * the very result of ``F.cross_entropy`` or ``F.nll_loss``, which is taken apart into the two.

    Gradients of the third kinds need the count of all chunks before it is known. So they are those
    of the sum over ``reference``, near the count, and :meth:`factor` puts that right at the end:
    nothing is run twice and nothing overflows that would not otherwise.
    """

    def __init__(self, readout: Any, mean: bool, positions: int, steps: int) -> None:
        """Start with no chunks.

        Args:
            readout: what gives the losses.
            mean: whether the loss is a mean.
            positions: steps × rows.
            steps: of the sequence.
        """
        self.readout, self.mean, self.steps = readout, mean, steps
        self.known = isinstance(readout, LinearCrossEntropy)
        self.reference: Tensor | float = float(positions)
        self.kind = ""
        self.total: Tensor | None = None
        self.count: Tensor | None = None
        self._nan: list[Tensor] = []
        self._uneven: list[Tensor] = []

    def read(self, outputs: Tensor, part: Any) -> Tensor:
        """Call the readout; return what is to be differentiated."""
        with Watch() as watch:
            result = self.readout(outputs, part)
        if isinstance(result, (tuple, list)):
            return self.add_counted(*_pair(result))
        _check_loss(result)
        for value, count in watch.averages:
            if value is result and (self.mean or self.known):
                return self._add_average(result, count)
        if self.known and (self.mean or self.readout.reduction == "mean"):
            averaged = self.readout.reduction == "mean"
            return self._add_average(result, self.readout.count(part) if averaged else None)
        if self.mean:
            self._uneven += watch.uneven
            self._nan.append(result.detach().isnan())
        return self._add("mean", result * (len(outputs) / self.steps if self.mean else 1.0))

    def _add_average(self, result: Tensor, count: Tensor | None) -> Tensor:
        """Add a chunk's mean over ``count``, or its sum."""
        if count is None:
            return self.add_counted(result, None)
        # A mean over nothing is NaN, and counts nothing.
        wide = _wide(result)
        self.add_counted(torch.where(count > 0, wide.detach() * count, 0), count)
        if not self.mean:
            return wide * count
        # Exactly 1 if all is here, so that gradients are those of the mean bit for bit.
        reference = self.reference
        return wide * torch.where(count > 0, count / reference, 0)

    def add_counted(self, total: Tensor, count: Tensor | None) -> Tensor:
        """Add a chunk of known sum; return what is to be differentiated."""
        total = _wide(total)
        if count is None or not self.mean:
            return self._add("sum", total)
        self._add("count", total)
        wide = total.dtype if total.dtype == torch.float64 else torch.float32
        count = count.detach().to(total.device, wide)
        self.count = count if self.count is None else self.count + count
        return total * self.share

    @property
    def share(self) -> Tensor | float:
        """What a chunk's sum is multiplied by before it is differentiated."""
        if self.kind == "sum" or not self.mean:
            return 1.0
        reference = self.reference
        if isinstance(reference, Tensor):
            return torch.where(reference > 0, 1 / reference, 0)
        return 1 / reference

    def _add(self, kind: str, value: Tensor) -> Tensor:
        if self.kind not in ("", kind):
            names = {"mean": "a scalar", "sum": "a sum", "count": "(sum, count) or a cross-entropy"}
            given = f"{names[self.kind]} for some chunks, {names[kind]} for others"
            raise RevRNNError("E_ARGUMENT", "readout", given, "the same for every chunk")
        self.kind = kind
        part = _wide(value.detach())
        self.total = part if self.total is None else self.total + part
        return value

    def check(self) -> None:
        """Raise if the chunks' means cannot be put together, with one synchronisation."""
        if not (self._nan or self._uneven):
            return
        flags = self._nan + [flag.to(self._nan[0].device) for flag in self._uneven]
        values = torch.stack(flags).tolist()
        if any(values[len(self._nan) :]):
            given = "a loss with a mean over some targets (ignore_index, weights of classes)"
            raise RevRNNError("E_ARGUMENT", "readout", given, _HOW)
        if any(values):
            given = "NaN as the mean of a chunk"
            raise RevRNNError("E_NONFINITE", "readout", given, f"numbers, or {_HOW}")

    def loss(self) -> Tensor:
        """Return the loss of the whole sequence."""
        assert self.total is not None
        return self.total if self.count is None else self.total / self.count

    def factor(self) -> Tensor | None:
        """Return what all gradients are still to be multiplied by; 0 if nothing counted."""
        if self.count is None:
            return None
        return torch.where(self.count > 0, self.reference / self.count, 0)


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in _LOW else value


def _check_loss(loss: object, name: str = "a scalar tensor, or (sum, count)") -> None:
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        given = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise RevRNNError("E_SHAPE", "readout", given, name)
    if not loss.is_floating_point():
        raise RevRNNError("E_DTYPE", "readout", loss.dtype, f"{name}, of a float type")


def _pair(result: Any) -> tuple[Tensor, Tensor]:
    """Return sum and count as tensors."""
    if len(result) != 2:
        raise RevRNNError("E_SHAPE", "readout", f"{len(result)} results", "a scalar, (sum, count)")
    total, count = result
    _check_loss(total, "(sum, count), both scalars")
    if isinstance(count, Tensor):
        if count.numel() != 1 or count.is_complex():
            given = f"a count of shape {list(count.shape)}, {count.dtype}"
            raise RevRNNError("E_SHAPE", "readout", given, "(sum, count), both scalars")
        return total, count.detach().reshape(())
    try:
        number = float(operator.index(count) if not hasattr(count, "is_integer") else count)
    except (TypeError, ValueError):
        given = f"a count of type {type(count).__name__}"
        raise RevRNNError("E_ARGUMENT", "readout", given, "a number or a scalar tensor") from None
    if not 0 <= number < float("inf"):
        raise RevRNNError("E_ARGUMENT", "readout", f"a count of {number}", "0 or more")
    return total, torch.tensor(number, device=total.device)
