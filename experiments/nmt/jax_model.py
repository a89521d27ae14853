"""The translation model in JAX: encoder, decoder, attention, softmax, and dropout."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from revrnn.experiments.flax_cells import FlaxStack
from revrnn.jax_impl import State, apply, dropout_gains, encode, value_and_grad

from .parameters import outer_shapes
from .settings import NmtSettings

Tree = Any
Params = dict[str, jax.Array]
NO_FAULT = 0


class Tokens(NamedTuple):
    """A :class:`~revrnn.experiments.nmt.batches.Batch` as a pytree."""

    source: jax.Array
    source_mask: jax.Array
    inputs: jax.Array
    targets: jax.Array
    target_mask: jax.Array


class Keys(NamedTuple):
    """What decides the dropouts of a batch."""

    source: jax.Array
    target: jax.Array
    outputs: jax.Array
    encoder: jax.Array
    decoder: jax.Array


class SearchState(NamedTuple):
    """What is known of translations begun: a row each.

    Attributes:
        parts: of the context, ``[S, N, ·]``.
        mask: bool ``[S, N]``.
        carried: the decoder's state; exact for reversible cells once there was a step.
    """

    parts: list[jax.Array]
    mask: jax.Array
    carried: Tree


class JaxModel:
    """A translation model; parameters are ``(encoder, decoder, outer)``, dictionaries of arrays.

    ``outer`` has the names and shapes of PyTorch; encoder and decoder have them too, without a
    prefix, if they are reversible.
    """

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Know the shapes; make no arrays."""
        self.settings = settings
        outer = outer_shapes(settings, source_words, target_words)
        if settings.is_reversible:
            self.configs = settings.encoder_config(), settings.decoder_config()
            stacks = [config.parameter_shapes() for config in self.configs]
        else:
            sizes = settings.embedding_size, settings.hidden_size, settings.num_layers
            self.own = FlaxStack(settings.cell, *sizes)
            stacks = [self.own.shapes] * 2
        self.shapes = {f"encoder.{name}": shape for name, shape in stacks[0].items()}
        self.shapes |= {f"decoder.{name}": shape for name, shape in stacks[1].items()}
        self.shapes |= outer

    # --- parts -----------------------------------------------------------------------------------

    def _embed(self, name: str, outer: Params, inputs: Tree) -> jax.Array:
        """Return ``[C, B, E]`` of ``(words, keys)``, or of ``(words,)`` without dropout."""
        words, *keys = inputs
        x = outer[name][words]
        return self._drop(keys[0], x) if keys else x

    def embed_source(self, outer: Params, inputs: Tree) -> jax.Array:
        """Return embedded source words."""
        return self._embed("source_embedding", outer, inputs)

    def embed_target(self, outer: Params, inputs: Tree) -> jax.Array:
        """Return embedded target words."""
        return self._embed("target_embedding", outer, inputs)

    def _drop(self, keys: jax.Array, x: jax.Array) -> jax.Array:
        """Drop elements of ``[C, B, F]``, by a key (uint32 ``[2]``) for each step."""
        rate = self.settings.dropout

        def kept(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.wrap_key_data(key), 1 - rate, x.shape[1:])

        return jnp.where(jax.vmap(kept)(keys), x / (1 - rate), 0) if rate else x

    def _between(self, key: jax.Array | None, number: int, x: jax.Array) -> jax.Array:
        if key is None:
            return x
        return self._drop(_step_keys(jax.random.fold_in(key, number), len(x)), x)

    def _gains(self, key: jax.Array | None, which: int, steps: int, rows: int) -> Any:
        rate = self.settings.dropout
        if key is None or not rate or self.settings.num_layers == 1:
            return None
        numbers = jnp.arange(steps, dtype=jnp.int32)
        return dropout_gains(key, rate, self.configs[which], numbers, rows)

    def scores(
        self,
        outer: Params,
        outputs: jax.Array,
        parts: list[jax.Array],
        mask: jax.Array,
        keys: jax.Array | None = None,
    ) -> jax.Array:
        """Return scores of the next words ``[C, B, V]`` for outputs ``[C, B, H]``.

        Attention is Luong's 'general' one, as in
        :class:`revrnn.experiments.nmt.attention.Attention`.
        """
        queries = outputs @ outer["attention.score"].T
        first, scores = 0, jnp.float32(0)
        for part in parts:
            query = queries[..., first : first + part.shape[2]]
            scores = scores + jnp.einsum("tbc,sbc->bts", query, part)
            first += part.shape[2]
        # Finite, so that a row without positions gives no NaN.
        weights = jax.nn.softmax(jnp.where(mask.T[:, None], scores, -1e9), 2)
        seen = [jnp.einsum("bts,sbc->tbc", weights, part) for part in parts]
        together = jnp.concatenate([*seen, outputs], 2)
        found = jnp.tanh(together @ outer["attention.combine"].T)
        if keys is not None:
            found = self._drop(keys, found)
        return found @ outer["readout.weight"].T + outer["readout.bias"]

    def _read(self, mask: jax.Array, outer: Tree, outputs: jax.Array, given: Tree) -> jax.Array:
        """Return the sum of weighted losses of outputs ``[C, B, H]``.

        ``given`` is ``(targets, weights, keys)`` or without keys; ``outer`` has the context too, as
        ``parts``, so that its gradient is found.
        """
        targets, weights, *keys = given
        scores = self.scores(outer, outputs, outer["parts"], mask, keys[0] if keys else None)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, targets)
        total: jax.Array = (losses * weights).sum()
        return total

    def encode(
        self, params: tuple[Params, Params], batch: Tokens, keys: Keys | None
    ) -> tuple[tuple[list[jax.Array], Tree], jax.Array]:
        """Return the context's parts and the decoder's first state, and the status.

        ``params`` are the encoder's and the outer ones, of which the source's embedding is used.
        """
        encoder, outer = params
        seen, (steps, rows) = self.settings.attended, batch.source.shape
        inputs: Tree = (batch.source,)
        if keys is not None:
            inputs = (batch.source, _step_keys(keys.source, steps))
        if not self.settings.is_reversible:
            x = self.embed_source(outer, inputs)
            between = partial(self._between, None if keys is None else keys.encoder)
            start = self.own.fresh(rows)
            outputs, final = self.own(encoder, start, x, batch.source_mask, between)
            own = [outputs[:, :, : seen.units]] if seen.units != 0 else []
            return ([x, *own] if seen.embeddings else own, final), jnp.int32(NO_FAULT)
        gains = self._gains(None if keys is None else keys.encoder, 0, steps, rows)
        config, chunk = self.configs[0], self.settings.chunk_size
        if not seen.embeddings and seen.units:
            # Embeddings are made chunk by chunk, and again on the way back.
            found = encode(
                encoder,
                outer,
                inputs,
                config,
                embed=self.embed_source,
                mask=batch.source_mask,
                gains=gains,
                chunk_size=chunk,
            )
            return ([found.context], _final(found)), found.status
        x = self.embed_source(outer, inputs)
        out = apply(
            encoder,
            x,
            config,
            mask=batch.source_mask,
            gains=gains,
            with_outputs=seen.units is None,
            chunk_size=chunk,
        )
        parts = [x] if seen.embeddings else []
        if seen.units is None:
            parts.append(out.outputs)
        elif out.context is not None:
            parts.append(out.context)
        return (parts, _final(out)), out.status

    # --- whole batches ---------------------------------------------------------------------------

    def gradients(self, params: Tree, batch: Tokens, keys: Keys) -> tuple[Any, Tree, jax.Array]:
        """Return the mean loss in nats a word, its gradients, and the status."""
        if not self.settings.is_reversible:
            loss, grads = jax.value_and_grad(self._own_loss)(params, batch, keys)
            return loss, grads, jnp.int32(NO_FAULT)
        encoder, decoder, outer = params
        source = {"source_embedding": outer["source_embedding"]}
        rest = {name: value for name, value in outer.items() if name not in source}

        def encoded(encoder: Params, source: Params) -> Any:
            return self.encode((encoder, source), batch, keys)

        (parts, final), pull, fault = jax.vjp(encoded, encoder, source, has_aux=True)
        steps, rows = batch.inputs.shape
        step = value_and_grad(
            decoder,
            rest | {"parts": parts},
            (batch.inputs, _step_keys(keys.target, steps)),
            (batch.targets, _weights(batch), _step_keys(keys.outputs, steps)),
            self.configs[1],
            readout=partial(self._read, batch.source_mask),
            embed=self.embed_target,
            hx=final,
            mask=batch.target_mask,
            gains=self._gains(keys.decoder, 1, steps, rows),
            reduction="sum",
            chunk_size=self.settings.chunk_size,
        )
        of_decoder, of_rest = step.grads
        of_encoder, of_source = pull((of_rest.pop("parts"), step.grad_hx))
        status = jnp.where(fault == NO_FAULT, step.status, fault)
        return step.loss, (of_encoder, of_decoder, of_source | of_rest), status

    def _own_loss(self, params: Tree, batch: Tokens, keys: Keys | None) -> jax.Array:
        """Return the mean loss of a model of Flax's own cells."""
        encoder, decoder, outer = params
        (parts, final), _ = self.encode((encoder, outer), batch, keys)
        steps = len(batch.inputs)
        inputs: Tree = (batch.inputs,)
        given: Tree = (batch.targets, _weights(batch))
        if keys is not None:
            inputs += (_step_keys(keys.target, steps),)
            given += (_step_keys(keys.outputs, steps),)
        x = self.embed_target(outer, inputs)
        between = partial(self._between, None if keys is None else keys.decoder)
        outputs, _ = self.own(decoder, final, x, batch.target_mask, between)
        return self._read(batch.source_mask, outer | {"parts": parts}, outputs, given)

    def measure(self, params: Tree, batch: Tokens) -> tuple[jax.Array, jax.Array]:
        """Return the mean loss in nats a word, without dropout, and the status."""
        if not self.settings.is_reversible:
            return self._own_loss(params, batch, None), jnp.int32(NO_FAULT)
        encoder, decoder, outer = params
        (parts, final), fault = self.encode((encoder, outer), batch, None)
        x = self.embed_target(outer, (batch.inputs,))
        out = apply(decoder, x, self.configs[1], hx=final, mask=batch.target_mask)
        given = batch.targets, _weights(batch)
        loss = self._read(batch.source_mask, outer | {"parts": parts}, out.outputs, given)
        return loss, jnp.where(fault == NO_FAULT, out.status, fault)

    def first(self, params: Tree, batch: Tokens) -> tuple[SearchState, jax.Array]:
        """Return the state before a translation's first word, and the status."""
        (parts, final), status = self.encode((params[0], params[2]), batch, None)
        return SearchState(parts, batch.source_mask, final), status

    def step(self, params: Tree, state: SearchState, words: jax.Array) -> Any:
        """Return log probabilities ``[N, V]`` after words ``[N]``, the new state, the status."""
        _, decoder, outer = params
        x = self.embed_target(outer, (words[None],))
        status, carried = jnp.int32(NO_FAULT), state.carried
        if self.settings.is_reversible:
            exact = isinstance(carried, State)
            out = apply(
                decoder,
                x,
                self.configs[1],
                hx=None if exact else carried,
                state=carried if exact else None,
            )
            outputs, carried, status = out.outputs, out.state, out.status
        else:
            there = jnp.ones((1, len(words)), jnp.bool_)
            between = partial(self._between, None)
            outputs, carried = self.own(decoder, carried, x, there, between)
        scores = self.scores(outer, outputs, state.parts, state.mask)[0]
        return jax.nn.log_softmax(scores), state._replace(carried=carried), status

    def select(self, state: SearchState, rows: jax.Array) -> SearchState:
        """Return these rows of a state."""
        carried = state.carried
        if isinstance(carried, State):
            heads = None if carried.heads is None else carried.heads[rows]
            c = None if carried.c is None else carried.c[:, rows]
            carried = carried._replace(h=carried.h[:, rows], c=c, heads=heads)
        elif self.settings.is_reversible:
            carried = jax.tree.map(lambda v: v[:, rows], carried)
        else:
            carried = jax.tree.map(lambda v: v[rows], carried)
        parts = [part[:, rows] for part in state.parts]
        return SearchState(parts, state.mask[:, rows], carried)


def _final(found: Any) -> Tree:
    """Return ``h`` or ``(h, c)``."""
    return found.h_n if found.c_n is None else (found.h_n, found.c_n)


def _weights(batch: Tokens) -> jax.Array:
    """Return what each word's loss counts, ``[T, B]``: together they are 1."""
    return batch.target_mask / batch.target_mask.sum()


def _step_keys(key: jax.Array, steps: int) -> jax.Array:
    """Return a key for each step, uint32 ``[T, 2]``."""
    return jax.random.key_data(jax.random.split(key, steps))
