"""Compiled steps, and torch.compile around a module, have the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_torch import floats
from torch import Tensor, nn
from torch_results import both, gradients_of, same

from revrnn import RevRNNError
from revrnn.torch_impl import RevLSTM, compiled_steps, engine, rev_rnn
from revrnn.torch_impl.buffer import stream_pop, stream_push
from strategies import FIXED


@pytest.mark.rule("GEN-001", "BUF-031", "BUF-032")
@pytest.mark.filterwarnings("ignore")
def test_compiled_operations_have_the_same_bits() -> None:
    """``torch.compile`` of push and pop, the operations with the most traps for a compiler."""

    def there_and_back(
        head: torch.Tensor, h: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        block = torch.zeros(head.numel() + 1, dtype=torch.int16)
        top = torch.zeros(1, dtype=torch.int64)
        residue, new, count = stream_push(head, h & 1023, z, None, block, top)
        product = (h >> 10) * z + residue
        low, old, _ = stream_pop(new, product - (product // z) * z, z, None, block, count)
        return product, new, count, block[:-1].clone(), low, old

    compiled = torch.compile(there_and_back, fullgraph=True)
    generator = np.random.default_rng(0)
    for _ in range(20):
        head = torch.from_numpy(generator.integers(2**15, 2**31, (4, 5)).astype(np.int32))
        h = torch.from_numpy(generator.integers(-(2**31), 2**31, (4, 5)).astype(np.int32))
        z = torch.from_numpy(generator.integers(1, 1025, (4, 5)).astype(np.int32))
        for a, b in zip(there_and_back(head, h, z), compiled(head, h, z), strict=True):
            assert torch.equal(a, b)


@pytest.mark.rule("GEN-001")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", [1, 7])
def test_compiled_training_step_has_the_same_bits(number: int) -> None:
    config, shape = FIXED[number]
    x, params = floats(config, shape)

    def step(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = rev_rnn(x * 0.5, params, config)
        return out.outputs, (out.outputs * 3).sum()

    compiled = torch.compile(step)
    outputs, loss = step(x)
    compiled_outputs, compiled_loss = compiled(x)
    assert torch.equal(outputs, compiled_outputs)
    inputs = [x, *params.values()]
    a = torch.autograd.grad(loss, inputs)
    b = torch.autograd.grad(compiled_loss, inputs)
    assert all(torch.equal(left, right) for left, right in zip(a, b, strict=True))


@both
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.rule("GRAD-020")
def test_autocast_and_compilation_around_a_step(kind: Any) -> None:
    torch.manual_seed(10)
    module, linear, x = kind(4, 8), nn.Linear(4, 4), torch.randn(6, 3, 4)

    def step(x: Tensor) -> Tensor:
        outputs: Tensor = module(linear(x))[0]
        return outputs

    with torch.no_grad():
        exact = linear(x)
    wanted, _ = module(exact)
    wanted.square().sum().backward()
    gradients = gradients_of(module)
    assert torch.equal(torch.compile(step, backend="aot_eager")(x), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled_outputs, _ = module(exact)
        compiled_outputs.square().sum().backward()
        assert torch.equal(compiled_outputs, wanted)
        assert same(gradients_of(module), gradients)
        assert step(x).dtype == torch.float32


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.rule("GRAD-020")
@pytest.mark.parametrize("buffer", ["stream", pytest.param("wordlist", marks=pytest.mark.slow)])
def test_compiled_steps_have_the_same_bits(buffer: str) -> None:
    torch.manual_seed(11)
    module, x = RevLSTM(4, 8, 2, buffer=buffer, dropout=0.2), torch.randn(9, 3, 4)
    mask = torch.arange(9)[:, None] < torch.tensor([9, 4, 1])
    results = []
    for enabled in (False, True):
        torch.manual_seed(12)
        with engine("eager"), compiled_steps(enabled):
            outputs, _ = module(x, mask=mask)
            outputs.square().sum().backward()
        results.append((outputs.detach(), gradients_of(module)))
    assert torch.equal(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])
    with pytest.raises(RevRNNError, match="enabled"), compiled_steps(1):  # type: ignore[arg-type]
        pass
