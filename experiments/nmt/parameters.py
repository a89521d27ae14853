"""The shapes and first values of a model's parameters, the same in both frameworks."""

from __future__ import annotations

from revrnn.experiments.runs import Arrays, uniform_parameters

from .settings import NmtSettings


def outer_shapes(
    settings: NmtSettings, source_words: int, target_words: int
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what is not recurrent, the same in both frameworks."""
    embedding, hidden = settings.embedding_size, settings.hidden_size
    seen = sum(settings.context_sizes())
    return {
        "source_embedding": (source_words, embedding),
        "target_embedding": (target_words, embedding),
        "attention.score": (seen, hidden),
        "attention.combine": (hidden, seen + hidden),
        "readout.weight": (target_words, hidden),
        "readout.bias": (target_words,),
    }


def initial_parameters(shapes: dict[str, tuple[int, ...]], seed: int, hidden_size: int) -> Arrays:
    """Return first values, the same in both frameworks for the same names and shapes.

    Embeddings are uniform in ±0.1, the output layer's bias is 0, all else is uniform in
    ±1/√hidden_size.
    """

    def bound(name: str) -> float:
        if name == "readout.bias":
            return 0.0
        return 0.1 if name.endswith("embedding") else hidden_size**-0.5

    return uniform_parameters(dict(sorted(shapes.items())), bound, seed)
