"""Which arrays of a readout have steps, and whether what was computed kept the steps apart.

A readout sees one chunk at a time. What it computes for one step must not depend on other steps: a
softmax, a convolution or a shift along the steps gives for a chunk something else than for the
whole sequence. :class:`Steps` follows the axis of the steps through functions that keep steps
apart. Any other function leaves a doubt, which :func:`.apart.check_apart` settles by numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from .step_functions import (
    ALONG,
    BEYOND,
    DEFAULTS,
    DETACHED,
    FACTORS,
    LENGTHS,
    LIMITS,
    LINEAR,
    LOSSES,
    MAKES,
    NAMES,
    OTHER,
    OVER,
    PERMUTES,
    POINTWISE,
    RESHAPES,
    SUMS,
    TAKES,
    TAKES_NUMBERS,
    TWO_SCALARS,
)
from .step_places import Place, asks_length, axes_of, permuted, reduced, reshaped
from .trees import tensors_of


class Steps:
    """Follows arrays that have steps through the functions of a readout, or of an embedding.

    Attributes:
        of_embed: whether BatchNorm in training mode is taken as it is.
        asked: whether Python asked for a truth value, which an ``if`` may depend on.
        asked_length: whether it asked how many steps there are.
        sure: what certainly makes the result depend on how many steps there are.
    """

    def __init__(self, steps: int, *arrays: object) -> None:
        """Start from arrays ``[C, B, …]``.

        Args:
            steps: C.
            arrays: outputs and targets, or trees; what is no tensor is passed over.
        """
        self.steps = steps
        # Weak references, so that arrays live no longer; without callbacks, which lose Ctrl-C.
        self._places: dict[int, tuple[Any, Place]] = {}
        # Arrays whose numbers were taken out of PyTorch, and how.
        self._taken: list[tuple[Any, str]] = []
        self.of_embed = self.asked = self.asked_length = False
        self.sure: Place | None = None
        for array in tensors_of(*arrays):
            if array.dim():
                self._put(array, Place(0))

    def place(self, array: Tensor) -> Place | None:
        """Return where an array has its steps, if that is known."""
        ref, place = self._places.get(id(array), (None, None))
        return place if ref is not None and ref() is array else None

    def _put(self, array: Tensor, place: Place) -> None:
        self._places[id(array)] = TensorWeakRef(array), place

    def doubt(self, result: Iterable[object]) -> Place | None:
        """Return a place with a doubt if results may depend on steps mixed, else ``None``."""
        places = [self.place(one) for one in result if isinstance(one, Tensor)]
        for place in places:
            if place is not None and place.doubt:
                return place
        # What was made by no function that was seen.
        if None in places[:1]:
            return Place(doubt="functions that do not show it")
        # Numbers that left PyTorch may have come back; the loss itself is but looked at.
        own = {id(one) for one in result}
        taken = [name for ref, name in self._taken if id(ref()) not in own]
        return Place(doubt=f"{taken[0]}() of numbers") if taken else None

    def follow(self, name: str, args: Any, given: Mapping[str, Any], result: Any) -> None:
        """Note where the result of a function has its steps."""
        tensors = list(_tensors((*args, *given.values())))
        placed = [(t, place) for t in tensors if (place := self.place(t)) is not None]
        if not placed:
            if name in MAKES and isinstance(result, Tensor) and result.shape[:1] == (self.steps,):
                self._put(result, Place(0))  # each step's is made in one way
            return
        if name in TAKES_NUMBERS and not isinstance(result, Tensor):
            self._taken.append((TensorWeakRef(placed[0][0]), name))
        self.asked |= name == "bool" and not isinstance(result, Tensor)
        self.asked_length |= name in LENGTHS and asks_length(*placed[0], args, given)
        made = [args[0]] if name == "setitem" else list(_tensors((result,)))
        if not made:
            return
        doubts = [place for _, place in placed if place.doubt]
        if name == "detach" and not made[0].dim() and args[0].requires_grad:
            made_at: Place | None = Place(doubt=DETACHED)
        elif doubts:
            sure = [place for place in doubts if place.doubt in (BEYOND, DETACHED)]
            made_at = [*sure, *doubts][0]
        else:
            try:
                made_at = self._place(name, args, given, tensors, placed, made[0])
            except Exception:  # arguments of another kind than expected
                made_at = None
        for one in made:
            self._put(one, Place(doubt=NAMES.get(name, name)) if made_at is None else made_at)

    # --- by kind of function; None leaves a doubt --------------------------------------------

    def _place(
        self,
        name: str,
        args: Any,
        given: Mapping[str, Any],
        tensors: list[Tensor],
        placed: list[tuple[Tensor, Place]],
        made: Tensor,
    ) -> Place | None:
        x, place = placed[0]
        if all(one.axis is None for _, one in placed):
            alone = len(placed) == 1 and name in LINEAR
            alone &= name not in LIMITS or not x.requires_grad
            plain = alone or (name in TWO_SCALARS and made.dim() == 0)
            return place if plain else self._of_sums(name)
        if any(one.axis is None for _, one in placed):
            return self._of_sums(name)
        if name.removeprefix("new_") in MAKES:
            return Place(0) if made.shape[:1] == (self.steps,) else None
        if name in LOSSES:
            return self._loss(name, args, given, placed, made)
        if name in POINTWISE:
            if name in FACTORS and any(map(self._is_length, (*args, *given.values()))):
                return None
            return self._pointwise(tensors, placed, made)
        if name in ("cat", "concat", "concatenate"):
            return self._joined(args, given, tensors, placed)
        if name == "embedding" or (name == "getitem" and x is args[1] and x.dtype != torch.bool):
            rows = args[:1] if name == "embedding" else args[1:]
            return place if len(placed) == 1 and x is rows[0] else None
        if name in ("linear", "matmul", "rmatmul"):
            first = tensors[1] if name == "rmatmul" else tensors[0]
            alone = len(placed) == 1 and x is first and tensors[-1].dim() <= 2
            return place if alone and place.axis != x.dim() - 1 else None
        if name == "getitem":
            return self._indexed(x, place, args[1], placed)
        if name in ("gather", "take_along_dim"):  # one number for each index
            dim = args[1 if name == "gather" else 2] if len(args) > 2 else given.get("dim")
            alike = len(placed) == 2 and len({one for _, one in placed}) == 1
            return place if alike and place.axis not in axes_of(dim, x.dim()) else None
        if name == "masked_select":
            same = self._pointwise(tensors, placed, x)
            return same if same is None or same.doubt else Place(0, -1)
        if name in ("view_as", "reshape_as"):
            return reshaped(self.steps, x, place, made) if x is args[0] else None
        if len(placed) > 1 or x is not (args[0] if args else given.get("input")):
            return None
        if name == "one_hot":
            return place
        if name == "batch_norm":  # in training its batch is the chunk
            training = args[5] if len(args) > 5 else given.get("training")
            return None if training and not self.of_embed else place
        if name in RESHAPES:
            return reshaped(self.steps, x, place, made)
        if name in PERMUTES:
            return permuted(name, x, place, args, given)
        if name == "layer_norm":
            axes = args[1] if len(args) > 1 else given["normalized_shape"]
            return place if (place.axis or 0) < x.dim() - len(axes) else None
        if name in SUMS or name in OVER:
            at = reduced(name, x, place, args, given, made)
            return self._of_sums(name) if at is None else at
        if name in TAKES:
            return reduced(name, x, place, args, given, made)
        at_arg = ALONG.get(name)
        if at_arg is None:
            return None
        dim = args[at_arg] if len(args) > at_arg else given.get("dim", given.get("dims"))
        dim = DEFAULTS.get(name) if dim is None else dim
        return place if place.axis not in axes_of(dim, x.dim()) else None

    def put_doubt(self, what: str) -> None:
        """Note what certainly makes a result depend on how many steps there are."""
        self.sure = Place(doubt=what, of_sums=True)

    def _of_sums(self, name: str) -> Place:
        return Place(doubt=NAMES.get(name, name), of_sums=True)

    def _is_length(self, value: object) -> bool:
        """Say whether a number may be made of the chunk's length."""
        if not isinstance(value, (int, float)) or not value or self.steps == 1:
            return False
        return value % self.steps == 0 or round(1 / value, 9) % self.steps == 0

    def _joined(
        self,
        args: Any,
        given: Mapping[str, Any],
        tensors: list[Tensor],
        placed: list[tuple[Tensor, Place]],
    ) -> Place | None:
        """Return the place in arrays that are joined along another axis."""
        place = placed[0][1]
        dim = args[1] if len(args) > 1 else given.get("dim", given.get("axis", 0))
        alike = len(placed) == len(tensors) and all(one == place for _, one in placed)
        return place if alike and place.axis not in axes_of(dim, tensors[0].dim()) else None

    def _pointwise(
        self, tensors: list[Tensor], placed: list[tuple[Tensor, Place]], made: Tensor
    ) -> Place | None:
        """Return the place in a result of broadcast arrays: all must have it at the same axis."""
        ends = {((one.axis or 0) - t.dim(), one.major) for t, one in placed}
        if len(ends) > 1:
            return None
        ((end, major),) = ends
        others = [t for t in tensors if self.place(t) is None]
        # Another array along the steps has the same numbers in each chunk.
        least = min(2, self.steps)
        if any(t.dim() >= -end and t.shape[end] >= least for t in others):
            return Place(doubt=OTHER)
        return Place(made.dim() + end, major)

    def _loss(
        self,
        name: str,
        args: Any,
        given: Mapping[str, Any],
        placed: list[tuple[Tensor, Place]],
        made: Tensor,
    ) -> Place | None:
        """Return the place in a loss of scores and targets."""
        pair = [*args, *(given[key] for key in ("input", "target") if key in given)][:2]
        if name not in ("cross_entropy", "nll_loss"):
            place = self._pointwise(pair, placed, made if made.dim() else pair[0])
            return place if place is None or place.doubt or made.dim() else Place(None)
        # Scores have an axis of classes, the second, that class numbers lack.
        scores, targets = (self.place(t) for t in pair)
        if scores is None or targets is None or scores.axis in (1, None) or pair[0].dim() == 1:
            return None
        shift = int(scores.axis > 1 and pair[1].dim() < pair[0].dim())
        if replace(scores, axis=scores.axis - shift) != targets:
            return None
        return targets if made.dim() else Place(None)

    def _indexed(
        self, x: Tensor, place: Place, index: Any, placed: list[tuple[Tensor, Place]]
    ) -> Place | None:
        if isinstance(index, Tensor) and index.dtype == torch.bool:
            chosen = self.place(index)
            same = chosen is not None and (chosen.axis, chosen.major) == (place.axis, place.major)
            return Place(0, -1) if same and place.axis == 0 and len(placed) == 2 else None
        items = list(index) if isinstance(index, tuple) else [index]
        if len(placed) > 1 or any(isinstance(one, (Tensor, list)) for one in items):
            return None
        if Ellipsis in items:
            at = items.index(Ellipsis)
            rest = x.dim() - sum(one is not None for one in items) + 1
            items[at : at + 1] = [slice(None)] * rest
        axis, new = 0, 0
        for item in items:
            if item is None:
                new += 1
                continue
            if axis == place.axis:
                return replace(place, axis=new) if item == slice(None) else self._cut(item, place)
            axis, new = axis + 1, new + (not isinstance(item, int))
        assert place.axis is not None
        return replace(place, axis=place.axis - axis + new)

    def _cut(self, item: Any, place: Place) -> Place | None:
        """Return a doubt about some steps that are chosen by numbers."""
        numbers = [item.start, item.stop] if isinstance(item, slice) else []
        fixed = [n for n in numbers if isinstance(n, int) and abs(n) > self.steps]
        beyond = fixed or (numbers and numbers[0] == self.steps)
        return Place(doubt=BEYOND) if beyond and place.major == 1 else None


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)
