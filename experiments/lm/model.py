"""The language model: embedding, recurrent stack, (projection,) softmax, and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..framework import Array, Given, Params, StackSettings, Trained, Tree
from ..runs import Arrays, uniform_parameters
from .settings import LmSettings

Floats = npt.NDArray[np.float32]


class Segment(NamedTuple):
    """Words and what follows them, ``[T, B]``; steps that are filled up have targets of -100.

    ``mask`` is bool ``[T, B]``, false where a step is filled up, or ``None``.
    """

    tokens: Array
    targets: Array
    mask: Array | None = None


class LanguageModel:
    """A language model of any of the cells, in any framework; a :class:`.framework.Model`.

    Parameters are named ``embedding``, ``rnn.*``, ``projection.*`` (where the softmax shares the
    embedding's weight and widths differ) and ``readout.*``.
    """

    def __init__(self, settings: LmSettings, vocabulary: int, framework: Any) -> None:
        """Know the shapes of a model of so many words."""
        self.settings, self.ops = settings, framework
        embedding, hidden = settings.embedding_size, settings.hidden_size
        self.own = StackSettings(
            "rnn",
            settings.cell,
            (embedding, hidden, settings.num_layers),
            settings.config() if settings.has_config else None,
            settings.dropout_layers,
            settings.weight_drop,
            locked=True,
            chunk_size=settings.chunk_size,
        )
        self.stack = framework.make_stack(self.own)
        self.stacks = (self.stack,)
        self.shapes = {"embedding": (vocabulary, embedding), **self.stack.shapes}
        if settings.tied and embedding != hidden:
            self.shapes |= {"projection.weight": (embedding, hidden)}
            self.shapes |= {"projection.bias": (embedding,)}
        if not settings.tied:
            self.shapes["readout.weight"] = (vocabulary, hidden)
        self.shapes["readout.bias"] = (vocabulary,)

    def first_values(self, log_frequencies: Floats) -> Arrays:
        """Return first values, the same in all frameworks.

        Recurrent parameters and the projection are uniform in ±1/√hidden_size (biases of RevLSTM's
        input and output gates around 1), the embedding and an own softmax in ±0.1. The softmax's
        bias begins at the log frequencies of the words: with a bias of 0 the fastest way to learn
        them is a state that is large and always the same, and a RevLSTM, whose state has no small
        bound, is driven to the cap of its gates by it.
        """
        special = {"embedding": 0.1, "readout.weight": 0.1}

        def bound(name: str) -> float:
            return float(special.get(name, self.settings.hidden_size**-0.5))

        values = self.own.centred(uniform_parameters(self.shapes, bound, self.settings.seed))
        return values | {"readout.bias": log_frequencies}

    def embed(self, params: Params, tokens: Array, drop: Any) -> Array:
        """Return inputs ``[C, B, E]`` of words ``[C, B]``."""
        table = params["embedding"]
        x = self.ops.lookup(table, tokens)
        if self.settings.dropout_words and drop.is_active:  # everywhere in the segment
            kept = drop.factors("words", self.settings.dropout_words, table[:, 0])
            x = x * kept[tokens][..., None]
        return drop("features", self.settings.dropout_input, x, locked=True)

    def read(
        self, params: Params, outputs: Array, targets: Array, seen: Sequence[Array], drop: Any
    ) -> Array:
        """Return the sum of the losses of outputs ``[C, B, H]``, nats."""
        outputs = drop("outputs", self.settings.dropout_output, outputs, locked=True)
        if "projection.weight" in params:
            weight, bias = params["projection.weight"], params["projection.bias"]
            outputs = self.ops.linear(outputs, weight, bias)
        weight = params.get("readout.weight", params["embedding"])
        logits = self.ops.linear(outputs, weight, params["readout.bias"])
        return self.ops.cross_entropy(logits, targets)

    def _given(self, state: Tree, batch: Segment, drop: Any) -> Given:
        return Given(
            batch.tokens, batch.targets, self.embed, self.read, state, drop, mask=batch.mask
        )

    def gradients(
        self, params: Params, state: Tree, batch: Segment, drop: Any, report: bool = False
    ) -> Trained:
        """Return the mean loss of a segment, nats a word, and its gradients."""
        scale = 1.0 / (batch.targets >= 0).sum()
        trained: Trained = self.stack.gradients(
            params, self._given(state, batch, drop), scale, report
        )
        return trained

    def measure(
        self, params: Params, state: Tree, batch: Segment
    ) -> tuple[tuple[Array, Tree], Any]:
        """Return the sum of a segment's losses and the last state, and the status."""
        given = self._given(state, batch, self.ops.Dropout())
        measured: tuple[tuple[Array, Tree], Any] = self.stack.measure(params, given)
        return measured
