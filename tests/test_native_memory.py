"""The native engine's chunks: their memory, made once for the longest; which go together."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch

from revrnn.native import packing
from revrnn.torch_impl import RevGRU, RevLSTM
from revrnn.torch_impl.native import memory
from revrnn.torch_impl.native.engine import NativeEngine
from revrnn.torch_impl.native.work import NativePass

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
    kind: Any, steps: int, chunk: int | None, made: list[int], monkeypatch: Any
) -> None:
    """The last chunk comes first on the way back, and may be shorter than the others.

    How many go forward together takes no more.
    """
    rnn, x = kind(3, 4, num_layers=2, chunk_size=chunk), torch.randn(steps, 2, 3)
    for ahead in (1, 4):
        monkeypatch.setattr(NativeEngine, "ahead", ahead)
        memory.let_go()
        for _ in range(2):
            rnn(x)[0].sum().backward()
    # Factors; gradients of pre-activations with packed operands behind them.
    assert len(made) == 4
    assert made[:2] == made[2:]


@KINDS
def test_memory_that_was_let_go_is_made_anew(kind: Any, made: list[int]) -> None:
    rnn, x = kind(3, 4), torch.randn(7, 2, 3)
    for _ in range(2):
        rnn(x)[0].sum().backward()
        memory.let_go()
    assert len(made) == 4


@pytest.fixture
def lengths(monkeypatch: Any) -> dict[str, list[int]]:
    """Give how many steps go forward together, and back, call by call."""
    noted: dict[str, list[int]] = {"advance": [], "take_back": []}

    def count(name: str) -> None:
        does = getattr(NativePass, name)

        def counted(self: NativePass, x: torch.Tensor, *more: Any) -> None:
            noted[name].append(len(x))
            does(self, x, *more)

        monkeypatch.setattr(NativePass, name, counted)

    count("advance")
    count("take_back")
    return noted


@KINDS
@pytest.mark.parametrize("every", [None, 15])
def test_chunks_that_go_together_give_the_same_bits(
    kind: Any, every: int | None, lengths: dict[str, list[int]], monkeypatch: Any
) -> None:
    """Forward and back, also a second time, and in pieces that are run again."""
    made = []
    for ahead in (1, 4):
        monkeypatch.setattr(NativeEngine, "ahead", ahead)
        torch.manual_seed(0)
        rnn = kind(3, 4, num_layers=2, chunk_size=3, checkpoint_every=every, slice_size=1)
        x = torch.randn(22, 2, 3, requires_grad=True)
        outputs, _ = rnn(x)
        for _ in range(2):
            outputs.square().sum().backward(retain_graph=True)
        made.append([outputs, *(value.grad for value in (x, *rnn.parameters()))])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))
    together = [12, 10] if every is None else [12, 3, 7]
    again = [] if every is None else [12, 3]  # the first piece, on the way back
    once_more = [*together, *again]
    rest = [3] * 5 * bool(again)
    alone = ([3] * 7 + [1] + rest) * 2
    assert lengths["advance"] == [*alone, *together, *again, *once_more]
    alone, together = [1, *[3] * 7], [10, 12] if every is None else [7, 3, 12]
    assert lengths["take_back"] == [*alone * 2, *together * 2]


@pytest.mark.parametrize("given", ["mask", "resets"])
def test_chunks_with_a_schedule_go_one_by_one(given: str, lengths: dict[str, list[int]]) -> None:
    of = {given: torch.ones(7, 2, dtype=torch.bool)}
    outputs, _ = RevGRU(3, 4, chunk_size=3)(torch.randn(7, 2, 3), **of)
    outputs.sum().backward()
    assert lengths == {"advance": [3, 3, 1], "take_back": [1, 3, 3]}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc's malloc")
def test_what_a_step_frees_is_kept_for_the_next() -> None:
    """In a process of its own, which has freed nothing large: pages cleared anew by a step."""
    program = """if True:
        import resource, torch
        from revrnn.torch_impl import RevLSTM

        rnn, x = RevLSTM(200, 200), torch.randn(70, 20, 200, requires_grad=True)

        def steps(count):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(count):
                rnn.zero_grad()
                x.grad = None
                out = rnn(x)[0]
                out.square().mean().backward()
            return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / count

        steps(5)
        print(steps(25))
    """
    own = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100
