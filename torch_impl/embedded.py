"""Whether an embedding gives of a chunk what it gives of parts of it, as readouts must.

``embed`` sees one chunk at a time. What it makes of one step must not depend on other steps: a
convolution, a shift, a running sum or positions from 0 along the steps give for a chunk something
else than for the whole sequence. Where its computation leaves a doubt, numbers settle it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from .averages import Watch
from .collect import now
from .longer import ROWS, longer
from .modes import Mode, NoDropout
from .part_gradients import gradients_add_up
from .quantise import is_low
from .repeat import no_trace, random_state, set_random_state
from .results import OWN
from .step_functions import BEYOND, FEW, OTHER
from .step_places import Place
from .trees import as_given, lengths, tensors_of

# Steps that are tried at least, if the sequence has them.
_FEWEST: Final = 8
_UNKNOWN: Final = Place(doubt="functions that do not show it")
_LONGER: Final = Place(doubt=FEW)
_COMPILED: Final = "_torchdynamo_orig_callable"


class Embedded:
    """Watches the first call of an ``embed``, and tries it on parts if that leaves a doubt."""

    def __init__(
        self, embed: Callable[[Any], Any], chunk_size: int, steps: int, back: bool
    ) -> None:
        """Note how the sequence is cut.

        Args:
            embed: the user's.
            chunk_size: steps of a chunk.
            steps: of the sequence, more than those of a chunk.
            back: whether there will be a backward pass, so that gradients count.
        """
        self.embed, self.chunk_size, self.steps, self.back = embed, chunk_size, steps, back
        # Under a mode of functions a compiled function would be compiled once more.
        self.compiled = hasattr(embed, _COMPILED) or hasattr(embed, "_orig_mod")
        self.doubt: Place | None = None
        self.asked_length, self.rows = False, 0
        self.random: list[Tensor] = []
        self._watch: Watch | None = None

    def watch(self, part: Any) -> Any:
        """Return what watches the call for the first chunk, as a context."""
        self.random, self.rows = random_state(_device(part)), lengths(part)[1]
        self._watch = None if self.compiled else Watch(part, None)
        if self._watch is None:
            return nullcontext()
        self._watch.apart.of_embed = True
        return self._watch

    def note(self, result: Any) -> None:
        """Note whether the result of that call leaves a doubt."""
        watch = self._watch
        self.asked_length = watch is not None and watch.apart.asked_length
        if watch is None or self.chunk_size == 1:
            self.doubt = _UNKNOWN
            return
        place = watch.apart.place(result) if isinstance(result, Tensor) else None
        self.doubt = watch.apart.doubt([result])
        if self.doubt is None and (place is None or (place.axis, place.major) != (0, 1)):
            self.doubt = _UNKNOWN

    def check(self, data: Callable[[int, int], Any]) -> None:
        """Raise ``E_ARGUMENT`` unless what is made of some steps is made of parts of them.

        Args:
            data: gives the inputs from one step to another.
        """
        if self.doubt is not None:
            several = min(self.steps, max(2 * self.chunk_size, _FEWEST))
            self._check(data(0, several), self.doubt)
        if self.asked_length or (self.doubt is not None and self.doubt.doubt == BEYOND):
            several = longer(self.steps, self.chunk_size, self.rows)
            if several > self.chunk_size:
                self._check(data(0, several)[:, :ROWS], _LONGER)

    def _check(self, x: Any, doubt: Place) -> None:
        made, since = [], now()
        try:
            for first, stop in pairwise(sorted({0, 1, self.chunk_size, len(x)})):
                made.append(self._of(x[first:stop]))
            with Watch(x, None) as watch:
                whole = self._of(x)
        except OWN:
            raise
        except Exception as cause:
            if doubt.doubt in (OTHER, FEW):  # a chunk's, which is there for no other length
                return
            raise _error(doubt) from cause
        shown = watch.apart.doubt([whole])
        # A threshold by what is added up may not show in these steps; a check by all() is none.
        if shown is not None and shown.of_sums and shown.doubt not in ("all", "any"):
            raise _error(shown)
        if any(one is None for one in (whole, *made)):
            return  # random numbers differ between a chunk and its parts
        low = watch.low or (isinstance(whole, Tensor) and is_low(whole))
        same = _is_same(whole, made, low)
        if not (same and (doubt is _LONGER or _of_one_gradient(whole, made, since, low))):
            raise _error(shown if shown and doubt in (_UNKNOWN, _LONGER) else doubt)

    def _of(self, x: Any) -> Any:
        """Return what ``embed`` makes of some steps without dropout, or ``None`` if it is random.

        BatchNorm, whose batch is the chunk (docs/limits.md), passes its input on.
        """
        embed: Any = getattr(self.embed, "_orig_mod", getattr(self.embed, _COMPILED, self.embed))
        device = _device(x)
        grad = torch.set_grad_enabled(self.back)
        with grad, no_trace(embed, device), NoDropout(), _NoBatch():
            set_random_state(self.random, device)
            result = embed(as_given(x.clone()))
            now = random_state(device)
        drew = not all(torch.equal(a, b) for a, b in zip(now, self.random, strict=True))
        return None if drew else result


class _NoBatch(Mode):
    """BatchNorm in training mode returns its input."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, unless it is that."""
        given = kwargs or {}
        if getattr(func, "__name__", "") == "batch_norm":
            training = args[5] if len(args) > 5 else given.get("training")
            if training:
                return args[0] if args else given["input"]
        return func(*args, **given)


def _error(doubt: Place) -> RevRNNError:
    given = f"a result with {doubt.doubt} along the steps, of which it sees a chunk"
    allowed = "functions of each step alone; or a chunk_size of all steps"
    return RevRNNError("E_ARGUMENT", "embed", given, allowed)


def _device(part: Any) -> torch.device:
    return next(tensors_of(part)).device


def _is_same(whole: Any, parts: list[Any], low: bool) -> bool:
    """Say whether parts joined are the whole, up to rounding."""
    if not all(isinstance(one, Tensor) for one in (whole, *parts)):
        return False
    if any(one.shape[1:] != whole.shape[1:] for one in parts):
        return False
    joined = torch.cat([part.detach() for part in parts])
    if joined.shape != whole.shape:
        return False
    a, b = whole.detach().double(), joined.double()
    if not bool(torch.isfinite(a).all()):
        return True  # refused as such
    if not bool(torch.isfinite(b).all()):
        return False  # the deviation of one step, for instance
    share = 0.05 if low else 1e-4
    return bool((a - b).abs().max() <= share * a.abs().max().clamp(min=1e-30))


def _of_one_gradient(whole: Tensor, parts: list[Tensor], since: int, low: bool) -> bool:
    """Say whether what any gradient of the whole becomes is the sum of what it becomes of parts."""
    some = torch.arange(whole.numel(), device=whole.device).cos().view(whole.shape)
    each = torch.split(some, [len(part) for part in parts])
    with torch.enable_grad():
        totals = [(part * one).sum() for part, one in zip(parts, each, strict=True)]
        same = gradients_add_up((whole * some).sum(), totals, since, low)
    return same is not False
