"""The repeat task: sequences of random tokens, of which each is to be given back."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Part = Literal["train", "valid", "test"]
_STREAMS: Final[dict[Part, int]] = {"train": 1, "valid": 2, "test": 3}


def tokens(
    symbols: int, steps: int, rows: int, seed: int, part: Part, number: int = 0
) -> npt.NDArray[np.int64]:
    """Return random tokens, each of ``symbols`` kinds as likely as the others.

    Args:
        symbols: kinds of tokens.
        steps: length T of the sequences.
        rows: how many, B.
        seed: all networks of one seed see the same data.
        part: what they are for.
        number: which batch.

    Returns:
        int64 ``[T, B]``, ``0 … symbols − 1``; a function of the arguments alone, so that a run that
        goes on has no generator to restore.
    """
    generator = np.random.default_rng([seed, _STREAMS[part], number])
    return generator.integers(symbols, size=(steps, rows), dtype=np.int64)


def repeat(given: npt.NDArray[np.int64], lag: int) -> tuple[Tensor, Tensor]:
    """Return inputs ``[T, B]`` and targets ``[T − lag, B]``.

    The target of the output after step ``t`` is the token of step ``t − lag``; the first ``lag``
    steps have none. With a lag of 0 this is the paper's task (its figure 1): a network that can
    undo a step, once it knows the step's token, finds that token in its own output, so the final
    state alone gives back the whole sequence.
    """
    inputs = torch.from_numpy(given)
    return inputs, inputs[: len(inputs) - lag]
