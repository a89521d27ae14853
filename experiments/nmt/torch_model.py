"""The translation model in PyTorch: encoder, decoder, attention, softmax, and dropout."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from revrnn.torch_impl import RevGRU, RevLSTM, State, encode, rev_rnn, value, value_and_grad

from .attention import Attention
from .batches import Batch
from .settings import NmtSettings

# h, or for RevLSTM and nn.LSTM (h, c), [L, B, H] each.
Floats = Any


@dataclass(frozen=True)
class Tensors:
    """A :class:`Batch` as tensors; words are int64, targets without a word -100."""

    source: Tensor
    source_mask: Tensor
    inputs: Tensor
    targets: Tensor
    target_mask: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Tensors:
        """Copy a batch to a device."""
        found = {f.name: torch.from_numpy(getattr(batch, f.name)) for f in fields(cls)}
        for name in ("source", "inputs", "targets"):
            found[name] = found[name].long()
        found["targets"] = found["targets"].masked_fill(~found["target_mask"], -100)
        return cls(**{name: tensor.to(device) for name, tensor in found.items()})


@dataclass(frozen=True)
class Encoded:
    """A source sentence, as the decoder gets it.

    Attributes:
        parts: of the context: embeddings ``[S, B, E]``, units ``[S, B, D]``, what is asked for.
        final: the encoder's final state, the decoder's first.
    """

    parts: list[Tensor]
    final: Floats

    def flat(self) -> list[Tensor]:
        """Return all tensors."""
        return [*self.parts, *_as_tuple(self.final)]

    def leaves(self) -> Encoded:
        """Return the same values, with parts that collect gradients and no way back."""
        parts = [part.detach().requires_grad_() for part in self.parts]
        final = tuple(part.detach() for part in _as_tuple(self.final))
        return Encoded(parts, final if isinstance(self.final, tuple) else final[0])


class TorchModel(nn.Module):
    """A translation model of any of the cells.

    Parameters are named ``source_embedding``, ``target_embedding``, ``encoder.*``, ``decoder.*``,
    ``attention.score``, ``attention.combine`` and ``readout.*``.
    """

    def __init__(self, settings: NmtSettings, source_words: int, target_words: int) -> None:
        """Make a model whose values are set later."""
        super().__init__()
        self.settings = settings
        embedding, hidden = settings.embedding_size, settings.hidden_size
        self.source_embedding = nn.Parameter(torch.empty(source_words, embedding))
        self.target_embedding = nn.Parameter(torch.empty(target_words, embedding))
        if settings.is_reversible:
            stack = RevGRU if settings.cell == "revgru" else RevLSTM
            self.encoder: Any = stack(
                embedding,
                hidden,
                settings.num_layers,
                dropout=self._between(),
                max_forget_bits=settings.encoder_max_forget_bits,
                buffer=settings.buffer,
                slice_size=settings.encoder_config().slice_size,
                chunk_size=settings.chunk_size,
            )
            self.decoder: Any = stack(
                embedding,
                hidden,
                settings.num_layers,
                dropout=self._between(),
                max_forget_bits=settings.decoder_max_forget_bits,
                buffer=settings.buffer,
                chunk_size=settings.chunk_size,
            )
        else:
            own: Any = nn.GRU if settings.cell == "gru" else nn.LSTM
            self.encoder = own(embedding, hidden, settings.num_layers, dropout=self._between())
            self.decoder = own(embedding, hidden, settings.num_layers, dropout=self._between())
        self.attention = Attention(hidden, settings.context_sizes())
        self.readout = nn.Linear(hidden, target_words)

    def _between(self) -> float:
        return self.settings.dropout if self.settings.num_layers > 1 else 0.0

    # --- parts -----------------------------------------------------------------------------------

    def _drop(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.settings.dropout, self.training)

    def embed_source(self, words: Tensor) -> Tensor:
        """Return ``[C, B, E]`` of source words ``[C, B]``."""
        return self._drop(nn.functional.embedding(words, self.source_embedding))

    def embed_target(self, words: Tensor) -> Tensor:
        """Return ``[C, B, E]`` of target words ``[C, B]``."""
        return self._drop(nn.functional.embedding(words, self.target_embedding))

    def scores(self, outputs: Tensor, context: list[Tensor], mask: Tensor) -> Tensor:
        """Return scores of the next words ``[C, B, V]`` for outputs ``[C, B, H]``."""
        seen = self.attention(outputs, context, mask)
        return cast("Tensor", self.readout(self._drop(seen)))

    def loss(self, outputs: Tensor, targets: Tensor, context: list[Tensor], mask: Tensor) -> Tensor:
        """Return the sum of the losses of outputs ``[C, B, H]``, in nats."""
        scores = self.scores(outputs, context, mask)
        return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="sum")

    def encode(self, source: Tensor, mask: Tensor) -> Encoded:
        """Return what the decoder gets of source words ``[S, B]``.

        Where reversal trains, states of the encoder are not kept, and embeddings only where
        attention sees them.
        """
        seen = self.settings.attended
        if self.settings.is_reversible and not seen.embeddings and seen.units:
            # Embeddings are made chunk by chunk, and again on the way back.
            units, h, c = encode(self.encoder, source, embed=self.embed_source, mask=mask)
            return Encoded([units], h if c is None else (h, c))
        x = self.embed_source(source)
        parts = [x] if seen.embeddings else []
        if not self.settings.is_reversible:
            # The lengths of packed sequences live on the host.
            packed = pack_padded_sequence(x, mask.sum(0).cpu(), enforce_sorted=False)
            packed, final = self.encoder(packed)
            outputs, _ = pad_packed_sequence(packed)
            own = [outputs[:, :, : seen.units]] if seen.units != 0 else []
            return Encoded(parts + own, final)
        out = rev_rnn(
            x,
            self._stack(self.encoder),
            self.encoder.config,
            mask=mask,
            gains=self.encoder.gains(x.shape[1], x.device),
            chunk_size=self.settings.chunk_size,
            with_outputs=seen.units is None,
        )
        if seen.units is None:
            parts.append(out.outputs)
        elif out.context is not None:
            parts.append(out.context)
        return Encoded(parts, out.h_n if out.c_n is None else (out.h_n, out.c_n))

    def _stack(self, module: Any) -> dict[str, Tensor]:
        return {name: getattr(module, name) for name in module.config.parameter_shapes()}

    # --- whole batches ---------------------------------------------------------------------------

    def backward(self, batch: Tensors, report: bool = False) -> tuple[Tensor, Any]:
        """Add gradients of the mean loss to ``.grad``.

        Returns:
            The mean loss in nats a word, a scalar; with ``report`` the decoder's
            :class:`~revrnn.torch_impl.MemoryReport` if the model is reversible, else ``None``.
        """
        words = batch.target_mask.sum()
        encoded = self.encode(batch.source, batch.source_mask)
        if not self.settings.is_reversible:
            outputs, _ = self.decoder(self.embed_target(batch.inputs), encoded.final)
            total = self.loss(outputs, batch.targets, encoded.parts, batch.source_mask)
            mean = total / words
            mean.backward()  # type: ignore[no-untyped-call]
            return mean.detach(), None
        leaves = encoded.leaves()

        def read(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss(outputs, targets, leaves.parts, batch.source_mask)

        step = value_and_grad(
            self.decoder,
            batch.inputs,
            batch.targets,
            read,
            embed=self.embed_target,
            hx=leaves.final,
            mask=batch.target_mask,
            reduction="sum",
            loss_scale=1 / words,
            report=report,
        )
        grads = [part.grad for part in leaves.parts] + list(_as_tuple(step.grad_hx))
        torch.autograd.backward(encoded.flat(), grads)
        return step.loss / words, step.report

    @torch.no_grad()
    def measure(self, batch: Tensors) -> float:
        """Return the sum of the losses in nats."""
        encoded = self.encode(batch.source, batch.source_mask)

        def read(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.loss(outputs, targets, encoded.parts, batch.source_mask)

        if self.settings.is_reversible:
            found = value(
                self.decoder,
                batch.inputs,
                batch.targets,
                read,
                embed=self.embed_target,
                hx=encoded.final,
                mask=batch.target_mask,
                reduction="sum",
            )
            return float(found.loss)
        outputs, _ = self.decoder(self.embed_target(batch.inputs), encoded.final)
        return float(read(outputs, batch.targets))


@dataclass(frozen=True)
class SearchState:
    """What is known of translations begun: a row each.

    Attributes:
        parts: of the context, ``[S, N, ·]``.
        mask: bool ``[S, N]``.
        carried: the decoder's state; exact for reversible cells once there was a step.
    """

    parts: list[Tensor]
    mask: Tensor
    carried: Floats | State


class TorchStepper:
    """See :class:`revrnn.experiments.nmt.search.Stepper`."""

    def __init__(self, model: TorchModel) -> None:
        """Translate by a model in evaluation mode."""
        self.model = model

    @torch.no_grad()
    def first(self, batch: Tensors) -> SearchState:
        """Return the state before the first word."""
        encoded = self.model.encode(batch.source, batch.source_mask)
        return SearchState(encoded.parts, batch.source_mask, encoded.final)

    @torch.no_grad()
    def step(self, state: SearchState, words: Any) -> tuple[Any, SearchState]:
        """Go on by one word."""
        model = self.model
        given = torch.from_numpy(words).long().to(state.mask.device)
        x = model.embed_target(given[None])
        if model.settings.is_reversible:
            carried = state.carried
            exact = carried if isinstance(carried, State) else None
            out = rev_rnn(
                x,
                model._stack(model.decoder),
                model.decoder.config,
                hx=None if isinstance(carried, State) else carried,
                state=exact,
            )
            outputs, carried = out.outputs, out.state
        else:
            outputs, carried = model.decoder(x, state.carried)
        scores = model.scores(outputs, state.parts, state.mask)[0].log_softmax(1)
        return scores.cpu().numpy(), SearchState(state.parts, state.mask, carried)

    def select(self, state: SearchState, rows: Any) -> SearchState:
        """Return these rows."""
        at = torch.from_numpy(rows).to(state.mask.device)
        parts = [part.index_select(1, at) for part in state.parts]
        carried = state.carried
        if isinstance(carried, State):
            heads = None if carried.heads is None else carried.heads.index_select(0, at)
            c = None if carried.c is None else carried.c.index_select(1, at)
            carried = State(carried.h.index_select(1, at), c, heads)
        else:
            found = tuple(part.index_select(1, at) for part in _as_tuple(carried))
            carried = found if isinstance(carried, tuple) else found[0]
        return SearchState(parts, state.mask.index_select(1, at), carried)


def _as_tuple(floats: Floats) -> tuple[Tensor, ...]:
    return floats if isinstance(floats, tuple) else (floats,)
