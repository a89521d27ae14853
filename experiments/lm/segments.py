"""A text cut into parallel streams and these into segments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from revrnn.errors import RevRNNError

from .corpus import Ids

# As Merity et al. (2018) draw the number of steps: mostly around the full one, at times the half.
_HALF, _SPREAD, _LEAST = 0.05, 5.0, 5


def streams(ids: Ids, rows: int, part: str = "train") -> Ids:
    """Return a text ``[N]`` as ``[N // rows, rows]``; what does not fill a step is left out.

    Raises:
        RevRNNError: ``E_ARGUMENT`` if the text has not two words for every stream; for
            ``batch_size``, of another part of the corpus than ``train`` for ``data``.
    """
    length = len(ids) // rows
    if length < 2 and part != "train":
        given = f"{len(ids)} words in the {part} text"
        raise RevRNNError("E_ARGUMENT", "data", given, f"at least {2 * rows}")
    if length < 2:
        allowed = f"at most {len(ids) // 2}, so that a stream has two words"
        raise RevRNNError("E_ARGUMENT", "batch_size", rows, allowed)
    columns: Ids = np.ascontiguousarray(ids[: rows * length].reshape(rows, length).T)
    return columns


def longest(steps: int, random: bool) -> int:
    """Return the most steps that :func:`lengths` can draw."""
    return steps + 4 * int(_SPREAD) if random else steps


def lengths(total: int, steps: int, random: bool, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the steps of the segments of an epoch, which add up to ``total``.

    They depend on the seed and the epoch alone, so a run that goes on finds them again.
    """
    generator = np.random.default_rng([seed, 1, epoch])
    sizes: list[int] = []
    left = total
    while left:
        size = steps
        if random:
            middle = steps if generator.random() >= _HALF else steps / 2
            size = int(generator.normal(middle, _SPREAD))
            size = min(max(size, _LEAST), longest(steps, random))
        size = min(size, left)
        sizes.append(size)
        left -= size
    return np.array(sizes)
