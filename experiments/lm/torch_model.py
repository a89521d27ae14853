"""The language model in PyTorch: embedding, recurrent stack, (projection,) softmax, and dropout."""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from revrnn.experiments.settings import OWN, REVERSIBLE
from revrnn.torch_impl import (
    LinearCrossEntropy,
    LockedDropout,
    RevGRU,
    RevLSTM,
    State,
    value,
    value_and_grad,
)

from .float_cells import FloatRev
from .settings import LmSettings

Carried = Any


class TorchModel(nn.Module):
    """A language model of any of the cells.

    Parameters are named ``embedding``, ``rnn.*``, ``projection.*`` (where the softmax shares the
    embedding's weight and widths differ) and ``readout.*``.
    """

    def __init__(self, settings: LmSettings, vocabulary: int) -> None:
        """Make a model whose values are set later."""
        super().__init__()
        self.settings = settings
        embedding, hidden = settings.embedding_size, settings.hidden_size
        self.embedding = nn.Parameter(torch.empty(vocabulary, embedding))
        self.rnn: Any = make_stack(settings)
        self.projection = None
        wide = embedding if settings.tied else hidden
        if settings.tied and embedding != hidden:
            self.projection = nn.Linear(hidden, embedding)
        self.readout = nn.Linear(wide, vocabulary)
        if settings.tied:
            self.readout.weight = self.embedding
        self.loss = LinearCrossEntropy(self.readout)
        self.drop_input = LockedDropout(settings.dropout_input)
        self.drop_output = LockedDropout(settings.dropout_output)
        self.words: Tensor | None = None

    @property
    def is_reversible(self) -> bool:
        """Whether the stack is trained by reversal."""
        return self.settings.cell in REVERSIBLE

    def draw_words(self) -> None:
        """Drop words everywhere in the next segment, if the model is training."""
        p = self.settings.dropout_words
        self.words = None
        if p and self.training:
            ones = torch.ones(len(self.embedding), device=self.embedding.device)
            self.words = nn.functional.dropout(ones, p)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return inputs ``[C, B, E]`` of words ``[C, B]``."""
        x = nn.functional.embedding(tokens, self.embedding)
        if self.words is not None:
            x = x * self.words[tokens].unsqueeze(-1)
        return cast("Tensor", self.drop_input(x))

    def read(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of outputs ``[C, B, H]`` in nats a word."""
        outputs = self.drop_output(outputs)
        if self.projection is not None:
            outputs = self.projection(outputs)
        return cast("Tensor", self.loss(outputs, targets))

    def initial_state(self, rows: int) -> Carried:
        """Return a fresh state, exact for reversible cells, as a tuple of floats for others."""
        return self.rnn.initial_state(rows)

    def backward(self, tokens: Tensor, targets: Tensor, state: Carried) -> tuple[float, Carried]:
        """Add gradients of a segment's loss to ``.grad``; return the loss and the new state."""
        self.draw_words()
        if self.is_reversible:
            step = value_and_grad(
                self.rnn,
                tokens,
                targets,
                self.read,
                embed=self.embed,
                state=state,
                chunk_size=self.settings.chunk_size,
            )
            return float(step.loss), step.state
        outputs, state = self.rnn(self.embed(tokens), state)
        loss = self.read(outputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), detached(state)

    @torch.no_grad()
    def measure(self, tokens: Tensor, targets: Tensor, state: Carried) -> tuple[float, Carried]:
        """Return a segment's mean loss in nats a word, and the new state."""
        self.draw_words()
        if self.is_reversible:
            found = value(self.rnn, tokens, targets, self.read, embed=self.embed, state=state)
            return float(found.loss), found.state
        outputs, state = self.rnn(self.embed(tokens), state)
        return float(self.read(outputs, targets)), detached(state)


def detached(state: Carried) -> Carried:
    """Return float states without their graph."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(None if part is None else detached(part) for part in state)


def make_stack(settings: LmSettings) -> nn.Module:
    """Return the recurrent stack of a model."""
    if settings.cell in REVERSIBLE:
        kind = RevGRU if settings.cell == "revgru" else RevLSTM
        return kind(
            settings.embedding_size,
            settings.hidden_size,
            settings.num_layers,
            dropout=settings.dropout_layers if settings.num_layers > 1 else 0.0,
            max_forget_bits=settings.max_forget_bits,
            forgetting=settings.forgetting,
            buffer=settings.buffer,
            weight_drop=settings.weight_drop,
            locked_dropout=True,
        )
    if settings.cell in OWN:
        return OwnStack(settings)
    return FloatRev(settings.config(), settings.weight_drop, settings.dropout_layers)


class OwnStack(nn.Module):
    """PyTorch's own ``nn.GRU`` or ``nn.LSTM``, a module a layer, with the same dropouts."""

    def __init__(self, settings: LmSettings) -> None:
        """Make the layers."""
        super().__init__()
        kind: Any = nn.GRU if settings.cell == "gru" else nn.LSTM
        sizes = [settings.embedding_size] + [settings.hidden_size] * settings.num_layers
        self.layers = nn.ModuleList(kind(i, o) for i, o in itertools.pairwise(sizes))
        self.drop = LockedDropout(settings.dropout_layers)
        self.weight_drop, self.hidden_size = settings.weight_drop, settings.hidden_size
        self.has_cell_state = settings.cell == "lstm"

    def initial_state(self, rows: int) -> tuple[Any, ...]:
        """Return zeros for each layer."""
        h = torch.zeros(1, rows, self.hidden_size)
        return tuple((h, h) if self.has_cell_state else h for _ in self.layers)

    def forward(self, x: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """Return outputs ``[T, B, H]`` of inputs ``[T, B, I]`` and the final states."""
        last = []
        for number, (layer, start) in enumerate(zip(self.layers, state, strict=True)):
            if number:
                x = self.drop(x)
            weights = {}
            if self.weight_drop and self.training:
                whole = cast("Tensor", layer.weight_hh_l0)
                weights["weight_hh_l0"] = nn.functional.dropout(whole, self.weight_drop)
            x, end = functional_call(layer, weights, (x, start))
            last.append(end)
        return x, tuple(last)


def state_arrays(state: Carried) -> dict[str, Tensor]:
    """Return a carried state's tensors by name."""
    if isinstance(state, State):
        found = {"h": state.h, "c": state.c, "heads": state.heads}
        return {name: value for name, value in found.items() if value is not None}
    flat: list[Tensor] = []

    def collect(part: Carried) -> None:
        if isinstance(part, Tensor):
            flat.append(part)
        elif part is not None:
            for inner in part:
                collect(inner)

    collect(state)
    return {str(number): value for number, value in enumerate(flat)}


def state_from(arrays: dict[str, Tensor], like: Carried) -> Carried:
    """Return the state that :func:`state_arrays` took apart, of the structure of ``like``."""
    if isinstance(like, State):
        return State(arrays["h"], arrays.get("c"), arrays.get("heads"))
    left = iter([arrays[str(number)] for number in range(len(arrays))])

    def build(part: Carried) -> Carried:
        if isinstance(part, Tensor):
            return next(left)
        return None if part is None else tuple(build(inner) for inner in part)

    return build(like)
