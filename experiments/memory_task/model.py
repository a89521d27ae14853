"""The network of the repeat task: embedding, one recurrent layer, softmax."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from ...torch_impl import RevGRU, RevLSTM
from ..torch_framework import seed_of
from .settings import VARIANTS, Job, MemorySettings


class Repeater(nn.Module):
    """A network that repeats tokens; parameters ``embedding.*``, ``rnn.*``, ``readout.*``."""

    def __init__(self, settings: MemorySettings, job: Job) -> None:
        """Make a network; its first weights depend on the job's seed alone."""
        super().__init__()
        self.lag = settings.lag
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(job.seed, 0))
            # As wide as there are symbols: no token's input need be made from others'.
            self.embedding = nn.Embedding(settings.symbols, settings.symbols)
            self.readout = nn.Linear(job.hidden_size, settings.symbols)
            self.rnn = _layer(settings, job)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits float32 ``[T − lag, B, symbols]`` of inputs int64 ``[T, B]``."""
        outputs, _ = self.rnn(self.embedding(inputs))
        return cast("Tensor", self.readout(outputs[self.lag :]))


def _layer(settings: MemorySettings, job: Job) -> nn.Module:
    """Return the recurrent layer of a job."""
    variant = VARIANTS[job.variant]
    if not variant.reversible:
        own = nn.GRU if variant.kind == "gru" else nn.LSTM
        return own(settings.symbols, job.hidden_size)
    reversible = RevGRU if variant.kind == "gru" else RevLSTM
    return reversible(
        settings.symbols,
        job.hidden_size,
        forgetting=variant.forgetting,
        max_forget_bits=settings.max_forget_bits if variant.limited else None,
    )


def bits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropies ``[T, B]``, bits a token, of logits ``[T, B, symbols]``."""
    nats = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return nats.view_as(targets) / math.log(2)


@torch.no_grad()
def measure(model: Repeater, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return bits a token and the part of tokens given back rightly, both float ``[T − lag]``."""
    logits = model(inputs)
    right = (logits.argmax(-1) == targets).double()
    return bits(logits, targets).double().mean(1), right.mean(1)
