"""How many parameters a language model has, and which width gives it as many as another's."""

from __future__ import annotations

import dataclasses
import math

from ..settings import OWN
from .settings import LmSettings


def recurrent_parameters(settings: LmSettings) -> int:
    """Return the number of weights and biases of a model's stack.

    PyTorch's own cells have two biases a gate, of which one would do: one is counted.
    """
    if settings.cell not in OWN:
        return sum(math.prod(shape) for shape in settings.config().parameter_shapes().values())
    gates, hidden = {"gru": 3, "lstm": 4}[settings.cell], settings.hidden_size
    widths = [settings.embedding_size] + [hidden] * (settings.num_layers - 1)
    return sum(gates * hidden * (wide + hidden + 1) for wide in widths)


def all_parameters(settings: LmSettings, vocabulary: int) -> int:
    """Return the number of parameters of a whole model."""
    embedding, hidden = settings.embedding_size, settings.hidden_size
    total = vocabulary * embedding + vocabulary
    if not settings.tied:
        total += vocabulary * hidden
    elif hidden != embedding:
        total += hidden * embedding + embedding
    return total + recurrent_parameters(settings)


def matched(settings: LmSettings, vocabulary: int) -> LmSettings:
    """Return settings whose width gives the number of parameters that ``match`` would have."""
    if settings.match is None or settings.match == settings.cell:
        return dataclasses.replace(settings, match=None)
    wanted = all_parameters(
        dataclasses.replace(settings, cell=settings.match, match=None), vocabulary
    )

    def distance(hidden: int) -> int:
        other = dataclasses.replace(settings, hidden_size=hidden, match=None)
        return abs(all_parameters(other, vocabulary) - wanted)

    # Reversible cells have two groups of half the width.
    even = 1 if settings.cell in OWN else 2
    best = min(range(2, 4 * settings.hidden_size + 2, even), key=distance)
    return dataclasses.replace(settings, hidden_size=best, match=None)
