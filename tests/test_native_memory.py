"""The native engine's memory for chunks: made once for the longest, and handed back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from revrnn.native import packing
from revrnn.torch_impl import RevGRU, RevLSTM
from revrnn.torch_impl.native import memory

KINDS = pytest.mark.parametrize("kind", [RevGRU, RevLSTM])


@pytest.fixture
def made(monkeypatch: Any) -> list[int]:
    """Give the sizes of new memory, as it is made; the stock is empty at first."""
    sizes: list[int] = []

    def aligned(count: int, size: int, kind: Any) -> Any:
        sizes.append(size)
        return packing.aligned(count, size, kind)

    monkeypatch.setattr(memory, "aligned", aligned)
    memory.let_go()
    return sizes


@KINDS
@pytest.mark.parametrize(("steps", "chunk"), [(35, None), (35, 16), (7, 5), (5, 5)])
def test_all_chunks_of_a_call_share_memory(
    kind: Any, steps: int, chunk: int | None, made: list[int]
) -> None:
    """The last chunk comes first on the way back, and may be shorter than the others."""
    rnn, x = kind(3, 4, num_layers=2, chunk_size=chunk), torch.randn(steps, 2, 3)
    for _ in range(2):
        rnn(x)[0].sum().backward()
    # Factors, gradients of pre-activations, packed operands.
    assert len(made) == 3


@KINDS
def test_memory_that_was_let_go_is_made_anew(kind: Any, made: list[int]) -> None:
    rnn, x = kind(3, 4), torch.randn(7, 2, 3)
    for _ in range(2):
        rnn(x)[0].sum().backward()
        memory.let_go()
    assert len(made) == 6
