"""RevLSTM with its defaults follows ``nn.LSTM`` on English text (FMT-007 says what it takes)."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn

from revrnn.experiments.text import batches, help_topics
from revrnn.torch_impl import RevLSTM

CORPUS = help_topics()
UNITS, ROWS, STEPS = 128, 32, 64


def bits_of_updates(cell: type[nn.LSTM] | type[RevLSTM], seed: int, updates: int) -> list[float]:
    """Return the bits per character of every update: Adam 3e-3, gradients clipped to 1."""
    torch.manual_seed(seed)
    characters = len(CORPUS.vocabulary)
    embed, rnn, linear = nn.Embedding(characters, 64), cell(64, UNITS), nn.Linear(UNITS, characters)
    parameters = [*embed.parameters(), *rnn.parameters(), *linear.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    state: Any = rnn.initial_state(ROWS) if isinstance(rnn, RevLSTM) else None
    losses = []
    for batch in islice(batches(CORPUS, ROWS, STEPS), updates):
        tokens, targets = (torch.from_numpy(a).long() for a in (batch.tokens, batch.targets))
        outputs, state = rnn(embed(tokens), state)
        if isinstance(state, tuple):
            state = tuple(part.detach() for part in state)
        loss = nn.functional.cross_entropy(linear(outputs).flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(loss.item() / math.log(2))
    return losses


def mean_of_last(losses: list[float], count: int) -> float:
    return sum(losses[-count:]) / count


@pytest.mark.rule("FMT-007")
def test_first_updates_follow_lstm() -> None:
    ours, theirs = (bits_of_updates(cell, 0, 120) for cell in (RevLSTM, nn.LSTM))
    assert mean_of_last(ours, 20) < 1.05 * mean_of_last(theirs, 20)
    assert max(ours) < ours[0] + 0.5


@pytest.mark.slow
@pytest.mark.rule("FMT-007")
@pytest.mark.parametrize("seed", range(3))
def test_two_thousand_updates_follow_lstm(seed: int) -> None:
    ours, theirs = (bits_of_updates(cell, seed, 2000) for cell in (RevLSTM, nn.LSTM))
    assert mean_of_last(ours, 100) < 1.05 * mean_of_last(theirs, 100)
