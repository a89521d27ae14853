"""The translation model: encoder, decoder, attention, softmax, and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..framework import Array, Given, Params, StackSettings, Trained, Tree
from ..runs import Arrays, uniform_parameters
from .batches import Batch
from .settings import NmtSettings


class Sentences(NamedTuple):
    """A :class:`.batches.Batch` for a framework: where there is no target, targets are -100."""

    source: Array
    source_mask: Array
    inputs: Array
    targets: Array
    target_mask: Array

    @classmethod
    def of(cls, batch: Batch) -> Sentences:
        """Return a batch's arrays."""
        targets = np.where(batch.target_mask, batch.targets, -100).astype(np.int32)
        return cls(
            batch.source, batch.source_mask, batch.inputs, targets, np.array(batch.target_mask)
        )


class SearchState(NamedTuple):
    """What is known of translations begun: a row each.

    Attributes:
        parts: of the context, ``[S, N, ·]``.
        mask: bool ``[S, N]``.
        carried: the decoder's state; exact for reversible cells once there was a step.
    """

    parts: list[Array]
    mask: Array
    carried: Tree


class TranslationModel:
    """A translation model of any of the cells, in any framework; a :class:`.framework.Model`.

    Parameters are named ``source_embedding``, ``target_embedding``, ``encoder.*``, ``decoder.*``,
    ``attention.score``, ``attention.combine`` and ``readout.*``.

    Attention is Luong's 'general' one: from a decoder's output ``h`` to ``tanh(W·[seen, h])``. The
    score of a source position with context ``s`` is ``hᵀ·A·s``; what is ``seen`` is the mean of all
    ``s`` in the proportion of ``exp`` of the scores. The context comes in parts (embeddings, units
    of the encoder) that are never put side by side in memory.
    """

    def __init__(
        self, settings: NmtSettings, source_words: int, target_words: int, framework: Any
    ) -> None:
        """Know the shapes of a model of so many words."""
        self.settings, self.ops = settings, framework
        embedding, hidden = settings.embedding_size, settings.hidden_size
        sizes = embedding, hidden, settings.num_layers
        configs: list[Any] = [None, None]
        if settings.is_reversible:
            configs = [settings.encoder_config(), settings.decoder_config()]
        self.own = [
            StackSettings(
                name, settings.cell, sizes, config, settings.dropout, chunk_size=settings.chunk_size
            )
            for name, config in zip(("encoder", "decoder"), configs, strict=True)
        ]
        self.encoder, self.decoder = self.stacks = [*map(framework.make_stack, self.own)]
        wide = sum(settings.context_sizes())
        self.shapes = {
            "source_embedding": (source_words, embedding),
            "target_embedding": (target_words, embedding),
            "attention.score": (wide, hidden),
            "attention.combine": (hidden, wide + hidden),
            "readout.weight": (target_words, hidden),
            "readout.bias": (target_words,),
            **self.encoder.shapes,
            **self.decoder.shapes,
        }

    def first_values(self) -> Arrays:
        """Return first values, the same in all frameworks for the same names and shapes.

        Embeddings are uniform in ±0.1, the output layer's bias is 0, all else is uniform in
        ±1/√hidden_size, biases of RevLSTM's input and output gates around 1.
        """

        def bound(name: str) -> float:
            if name == "readout.bias":
                return 0.0
            return 0.1 if name.endswith("embedding") else self.settings.hidden_size**-0.5

        shapes = dict(sorted(self.shapes.items()))
        values = uniform_parameters(shapes, bound, self.settings.seed)
        for own in self.own:
            values = own.centred(values)
        return values

    # --- parts -----------------------------------------------------------------------------------

    def embed_source(self, params: Params, words: Array, drop: Any) -> Array:
        """Return ``[C, B, E]`` of source words ``[C, B]``."""
        x = self.ops.lookup(params["source_embedding"], words)
        return drop("source", self.settings.dropout, x)

    def embed_target(self, params: Params, words: Array, drop: Any) -> Array:
        """Return ``[C, B, E]`` of target words ``[C, B]``."""
        x = self.ops.lookup(params["target_embedding"], words)
        return drop("target", self.settings.dropout, x)

    def attend(
        self, params: Params, outputs: Array, parts: Sequence[Array], mask: Array
    ) -> tuple[Array, Array]:
        """Return ``tanh(W·[seen, h])`` ``[C, B, H]``, and the weights ``[B, C, S]``.

        Args:
            params: the parameters.
            outputs: of the decoder, ``[C, B, H]``.
            parts: of the context, ``[S, B, ·]`` each.
            mask: bool ``[S, B]``, which positions a sentence has.
        """
        ops, first, scores = self.ops, 0, 0.0
        queries = ops.linear(outputs, params["attention.score"])
        for part in parts:
            query = queries[..., first : first + part.shape[2]]
            scores = scores + ops.einsum("tbc,sbc->bts", query, part)
            first += part.shape[2]
        # Finite, so that a row without positions gives no NaN.
        weights = ops.softmax(ops.where(mask.T[:, None], scores, -1e9), 2)
        seen = [ops.einsum("bts,sbc->tbc", weights, part) for part in parts]
        together = ops.concatenate([*seen, outputs], 2)
        return ops.tanh(ops.linear(together, params["attention.combine"])), weights

    def scores(
        self, params: Params, outputs: Array, parts: Sequence[Array], mask: Array, drop: Any
    ) -> Array:
        """Return scores of the next words ``[C, B, V]`` for outputs ``[C, B, H]``."""
        x, _ = self.attend(params, outputs, parts, mask)
        x = drop("attended", self.settings.dropout, x)
        return self.ops.linear(x, params["readout.weight"], params["readout.bias"])

    def encode(self, params: Params, batch: Sentences, drop: Any) -> tuple[Tree, Any]:
        """Return the context's parts and the decoder's first state, and the status.

        Where reversal trains, states of the encoder are not kept, and embeddings only where
        attention sees them.
        """
        seen, mask = self.settings.attended, batch.source_mask
        is_reversible = self.settings.is_reversible
        if is_reversible and not seen.embeddings and seen.units:
            # Embeddings are made chunk by chunk, and again on the way back.
            passed = self.encoder.encode(params, batch.source, self.embed_source, drop, mask)
            return ([passed.context], passed.final), passed.status
        whole = seen.units is None or not is_reversible
        x = self.embed_source(params, batch.source, self.ops.over(drop, batch.source))
        passed = self.encoder.run(params, x, None, drop, mask, with_outputs=whole)
        parts = [x] if seen.embeddings else []
        if whole and seen.units != 0:
            parts.append(passed.outputs[:, :, : seen.units])
        elif seen.units:
            parts.append(passed.context)
        return (parts, passed.final), passed.status

    def _given(self, batch: Sentences, encoded: tuple[list[Array], Tree], drop: Any) -> Given:
        """Return what the decoder is given."""

        def read(
            params: Params, outputs: Array, targets: Array, seen: Sequence[Array], drop: Any
        ) -> Array:
            scores = self.scores(params, outputs, seen, batch.source_mask, drop)
            return self.ops.cross_entropy(scores, targets)

        parts, first = encoded
        words = batch.inputs, batch.targets
        return Given(*words, self.embed_target, read, first, drop, parts, batch.target_mask)

    # --- whole batches ---------------------------------------------------------------------------

    def gradients(
        self, params: Params, state: Tree, batch: Sentences, drop: Any, report: bool = False
    ) -> Trained:
        """Return the mean loss in nats a word, and its gradients; there is no state."""
        before = ("encoder.", "source_embedding")
        first = {name: value for name, value in params.items() if name.startswith(before)}
        rest = {name: value for name, value in params.items() if name not in first}
        encoded, fault, pull = self.ops.apart(lambda own: self.encode(own, batch, drop), first)
        scale = 1.0 / batch.target_mask.sum()
        trained = self.decoder.gradients(rest, self._given(batch, encoded, drop), scale, report)
        grads = pull((trained.of_seen, trained.of_start)) | trained.grads
        status = self.ops.first_fault(fault, trained.status)
        result: Trained = trained._replace(grads=grads, end=None, status=status)
        return result

    def account_of_encoder(
        self, params: Params, state: Tree, batch: Sentences, drop: Any
    ) -> Trained:
        """Return the account of the encoder's pass, which is run with a loss that is 0."""

        def nothing(params: Params, outputs: Array, *_: Any) -> Array:
            return 0.0 * outputs.sum()

        words = batch.source, batch.source
        given = Given(*words, self.embed_source, nothing, None, drop, mask=batch.source_mask)
        account: Trained = self.encoder.gradients(params, given, 1.0, report=True)
        return account

    def measure(self, params: Params, batch: Sentences) -> tuple[Array, Any]:
        """Return the sum of the losses in nats, without dropout, and the status."""
        drop = self.ops.Dropout()
        encoded, fault = self.encode(params, batch, drop)
        (total, _), status = self.decoder.measure(params, self._given(batch, encoded, drop))
        return total, self.ops.first_fault(fault, status)

    # --- search ----------------------------------------------------------------------------------

    def first(self, params: Params, batch: Sentences) -> tuple[SearchState, Any]:
        """Return the state before a translation's first word, and the status."""
        (parts, final), status = self.encode(params, batch, self.ops.Dropout())
        return SearchState(parts, batch.source_mask, final), status

    def next(self, params: Params, state: SearchState, words: Array) -> Any:
        """Return log probabilities ``[N, V]`` after words ``[N]`` and the new state; the status."""
        drop = self.ops.Dropout()
        x = self.embed_target(params, words[None], drop)
        passed = self.decoder.run(params, x, state.carried, drop)
        scores = self.scores(params, passed.outputs, state.parts, state.mask, drop)[0]
        new = state._replace(carried=passed.end)
        return (self.ops.log_softmax(scores, 1), new), passed.status

    def select(self, params: Params, state: SearchState, rows: Array) -> tuple[SearchState, Any]:
        """Return these rows of a state, and the status."""
        parts = [part[:, rows] for part in state.parts]
        carried = self.decoder.select(state.carried, rows)
        return SearchState(parts, state.mask[:, rows], carried), 0
