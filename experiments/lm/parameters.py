"""The first values of a model's parameters, the same in both frameworks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from revrnn.experiments.runs import Arrays, uniform_parameters

from .settings import LmSettings

Floats = npt.NDArray[np.float32]


def initial_parameters(
    shapes: dict[str, tuple[int, ...]], settings: LmSettings, log_frequencies: Floats
) -> Arrays:
    """Return first values, the same in both frameworks.

    Recurrent parameters and the projection are uniform in ±1/√hidden_size, the embedding and an own
    softmax in ±0.1. The softmax's bias begins at the log frequencies of the words: with a bias of 0
    the fastest way to learn them is a state that is large and always the same, and a RevLSTM, whose
    state has no small bound, is driven to the cap of its gates by it.
    """

    def bound(name: str) -> float:
        special = {"embedding": 0.1, "readout.weight": 0.1}
        return float(special.get(name, settings.hidden_size**-0.5))

    return uniform_parameters(shapes, bound, settings.seed) | {"readout.bias": log_frequencies}
