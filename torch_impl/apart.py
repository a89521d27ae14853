"""Whether the loss of a chunk is put together from those of its parts, as numbers show.

It is not if steps depend on one another. This is tried where the computation leaves a doubt
(:mod:`.mixing`), in one chunk of a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from torch import Tensor

from revrnn.errors import RevRNNError

from .averages import Watch
from .counts import TINY
from .part_sums import Close, number_of
from .parts import HOW, Parts, mixed
from .results import OWN
from .scalars import Average
from .step_functions import BEYOND, FEW, OTHER
from .step_places import Place

# A result, how it was made, its targets and the number of its steps.
Made = tuple[Any, Average | None, Any, int]
_PAIR: Final = (
    "(0, 0) of nothing, since both are added up over chunks: a count that is not kept above 0"
    " (a mean over nothing is NaN, its gradients 0); or a chunk_size of all steps"
)
# From these to a sum and a count, or to None if that cannot be said.
Form = Callable[[Any, Average | None, Any, int], tuple[Any, Any] | None]


def check_apart(parts: Parts, doubt: Place, forms: Sequence[Form], result: Any, made: Any) -> bool:
    """Raise ``E_ARGUMENT`` unless the chunk's loss is put together from those of parts.

    Args:
        parts: the chunk.
        doubt: the function that may have mixed steps.
        forms: from a result, how it was made, its targets and the number of its steps to a sum
            and a count; parts must add up in one of them.
        result: of the chunk.
        made: how it was made.

    Returns:
        Whether the chunk could show it.
    """
    steps = len(parts.outputs)
    error = mixed(doubt)
    if doubt.doubt == BEYOND:
        raise error
    if parts.outputs._version != parts.version or not parts.can_be_cut():
        if doubt.certain and steps > 1:
            raise error
        return False
    if steps == 1:
        return False
    drops = not parts.drew
    if not drops:
        result, made = parts.of(slice(None), drops)
        if parts.differ(parts.now):
            if doubt.certain:
                raise error
            return False  # random numbers differ between a chunk and its parts
    result, made, low = parts.precisely(result, made, drops)
    whole = result, made, parts.part, steps
    # Other cuts are tried if in some part nothing counts. One step is broadcast to an array that
    # is as long as the chunk, which fails with more.
    inners = [(1, steps // 2 + 1), (steps // 2,), (steps - 1,)]
    if doubt.doubt == OTHER:
        inners = inners[1:2] if steps > 3 else []
    for inner in inners:
        cuts = [slice(*pair) for pair in pairwise(sorted({0, *inner, steps}))]
        try:
            each = [(*parts.of(cut, drops), parts.part[cut], cut.stop - cut.start) for cut in cuts]
        except OWN:
            raise
        except Exception as cause:
            # A chunk's, which embed left for the readout; or a layer that needs several steps.
            if doubt.doubt in (OTHER, FEW):
                return False
            raise error from cause
        if len({_form_of(one[0]) for one in (whole, *each)}) > 1:
            given = "a scalar for some steps, (sum, count) or something else for others"
            raise RevRNNError("E_ARGUMENT", "readout", given, "the same for every chunk")
        low |= parts.low
        close = Close(0.05 if low else 1e-4)
        answers = [_adds_up(form, whole, each, close, parts, low) for form in forms]
        if not any(one is not False for one in answers):
            raise error
        if True in answers:
            return True
    return False


def _form_of(result: Any) -> str:
    if isinstance(result, (tuple, list)):
        return "pair"
    scalar = not result.dim() if isinstance(result, Tensor) else isinstance(result, (int, float))
    return "scalar" if scalar else "other"


def check_joined(joined: Parts, doubt: Place, forms: Callable[..., Sequence[Form]]) -> bool:
    """Raise as :func:`check_apart` does, of chunks that were put together."""
    try:
        result, made = joined.whole()
    except OWN:
        raise
    except Exception as cause:
        if doubt.doubt in (OTHER, FEW):
            return False
        raise mixed(doubt) from cause
    return check_apart(joined, doubt, forms(result, made), result, made)


def doubt_of_pair(result: Any, watch: Watch) -> Place | None:
    """Return a doubt if one of two scalars is a mean: it adds up only if it is multiplied.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the second one is a mean over all steps, such as an accuracy.
    """
    if isinstance(result[1], Tensor) and watch.is_even_mean(result[1]):
        given = "a mean in (sum, count) as the count, which an accuracy is"
        raise RevRNNError("E_ARGUMENT", "readout", given, f"the loss alone, or {HOW}")
    made = [watch.of(value) for value in result if isinstance(value, Tensor)]
    means = any(one is not None and one.kind == "mean" for one in made)
    return Place(doubt="a mean in (sum, count)") if means else None


def check_pair(
    parts: Parts, result: Any, watch: Watch, told: bool | None, before: Parts | None
) -> bool | None:
    """Raise ``E_ARGUMENT`` unless sum and count of no steps are 0, as what is added up must be.

    A mean, a fixed number, a count kept above 0 or a penalty on weights would count once a chunk.
    It is tried if the computation leaves a doubt.

    Args:
        parts: the chunk.
        result: its sum and count, scalars.
        watch: how they were made.
        told: whether no steps have shown it in another chunk; ``None`` if they were not tried.
        before: another chunk, which shows it together with one of one step.

    Returns:
        The same, for the next chunk.
    """
    sums = all(isinstance(one, Tensor) and watch.is_sum(one) for one in result)
    if told or (sums and not watch.apart.asked):
        return told
    total, count = result
    given = "(sum, count) whose count does not add up over parts of a chunk"
    place = watch.apart.place(count) if isinstance(count, Tensor) else None
    made_of_sums = place is not None and place.of_sums and watch.counts.of(count) is None
    if made_of_sums or not watch.counts.adds_up(count):
        raise RevRNNError("E_ARGUMENT", "readout", given, _PAIR)
    none = None if told is False else _of_nothing(parts)
    if none is not None:
        wrong = any(math.isfinite(value) and abs(value) > TINY for value in none)
        given = f"(sum, count) of which no steps give ({none[0]:.4g}, {none[1]:.4g})"
    else:
        # A count may be kept above 0 where the sum is 0.
        tried = told is None or not number_of(total)
        wrong = tried and not _counts_add_up(parts, count, before)
    if wrong:
        raise RevRNNError("E_ARGUMENT", "readout", given, _PAIR)
    return none is not None


def _of_nothing(parts: Parts) -> list[float] | None:
    """Return sum and count of no steps, or ``None`` if the readout does not take them."""
    try:
        total, count = parts.of(slice(0, 0), drops=False)[0]
        return [number_of(total), number_of(count)]
    except Exception:
        return None


def _counts_add_up(parts: Parts, count: Tensor | float, before: Parts | None) -> bool:
    """Say whether the counts of two parts make up that of a chunk, as far as they show it."""
    joined = parts.joined(before) if len(parts.outputs) == 1 else None
    try:
        if joined is not None:
            parts, count = joined, joined.whole()[0][1]
        steps = 2 if joined is not None else len(parts.outputs)
        cuts = (slice(0, steps // 2), slice(steps // 2, steps))
        each = [number_of(parts.of(cut, drops=False)[0][1]) for cut in cuts]
    except Exception:
        return True
    return Close(1e-4)(number_of(count), sum(each), *each)


def _adds_up(
    form: Form, whole: Made, each: Sequence[Made], close: Close, parts: Parts, low: bool
) -> bool | None:
    """Say whether sums and counts of parts add up; ``None`` if they do not show it."""
    pairs = [form(*one) for one in (whole, *each)]
    if None in pairs:
        return False if pairs[0] is None else None
    totals = [total for total, _ in pairs]  # type: ignore[misc]
    (total, count), *others = [(number_of(a), number_of(b)) for a, b in pairs]  # type: ignore[misc]
    sums, counts = [a for a, _ in others], [b for _, b in others]
    if not all(math.isfinite(value) for value in (total, count, *sums, *counts)):
        return None
    fits = close(total, sum(sums), *sums) and close(count, sum(counts))
    # 0: nothing may count there.
    return fits and parts.same_gradients(totals, low) and (True if all(sums) else None)


def forms_of(made: Average | None, single: bool) -> list[Form]:
    """Return what sum and count of a scalar may be, a mean's of a single step or another's."""
    if made is None or not made.sure:
        # Of one step it can only be a mean over a count, as ``tell`` says.
        return [as_ratio] if single else [as_sum, as_mean, as_ratio]
    return [as_sum if made.kind == "sum" else as_mean if made.count is None else as_ratio]


def as_sum(result: Tensor, *_: Any) -> tuple[Any, Any]:
    """Return sum and count of a sum."""
    return result, 0


def as_mean(result: Tensor, _: Any, __: Any, steps: int) -> tuple[Any, Any]:
    """Return sum and count of a mean over all steps."""
    return result * steps, steps


def as_ratio(result: Tensor, made: Average | None, _: Any, __: int) -> tuple[Any, Any] | None:
    """Return what is divided by what in a mean over some elements."""
    count = None if made is None else made.size if made.count is None else made.count
    if made is None or count is None:  # a mean over what is kept, or 0 where nothing is
        return None if result else (result, 0)
    if made.total is not None:
        return made.total, count
    return (result * count if count else 0), count
