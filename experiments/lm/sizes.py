"""How many parameters a language model has, and which width gives it as many as another's."""

from __future__ import annotations

import dataclasses

from .settings import FLOAT, OWN, REVERSIBLE, LmSettings


def recurrent_parameters(cell: str, input_size: int, hidden_size: int, num_layers: int,
                         forgetting: bool = True) -> int:  # fmt: skip
    """Return the number of weights and biases of a stack.

    PyTorch's own cells have two biases a gate, of which one would do: one is counted.
    """
    total = 0
    for layer in range(num_layers):
        wide = input_size if layer == 0 else hidden_size
        gates = {"gru": 3, "lstm": 4}.get(cell)
        if gates is not None:
            total += gates * hidden_size * (wide + hidden_size + 1)
            continue
        cell = {**REVERSIBLE, **FLOAT}.get(cell, cell)
        gates = 5 if cell == "revlstm" and forgetting else 3
        total += gates * hidden_size * (wide + hidden_size // 2 + 1)
    return total


def all_parameters(settings: LmSettings, vocabulary: int) -> int:
    """Return the number of parameters of a whole model."""
    embedding, hidden = settings.embedding_size, settings.hidden_size
    total = vocabulary * embedding + vocabulary
    if not settings.tied:
        total += vocabulary * hidden
    elif hidden != embedding:
        total += hidden * embedding + embedding
    return total + recurrent_parameters(
        settings.cell, embedding, hidden, settings.num_layers, settings.forgetting
    )


def matched(settings: LmSettings, vocabulary: int) -> LmSettings:
    """Return settings whose width gives the number of parameters that ``match`` would have."""
    if settings.match is None or settings.match == settings.cell:
        return dataclasses.replace(settings, match=None)
    wanted = all_parameters(
        dataclasses.replace(settings, cell=settings.match, match=None), vocabulary
    )

    def distance(hidden: int) -> int:
        found = dataclasses.replace(settings, hidden_size=hidden, match=None)
        return abs(all_parameters(found, vocabulary) - wanted)

    # Reversible cells have two groups of half the width.
    even = 1 if settings.cell in OWN else 2
    best = min(range(2, 4 * settings.hidden_size + 2, even), key=distance)
    return dataclasses.replace(settings, hidden_size=best, match=None)
