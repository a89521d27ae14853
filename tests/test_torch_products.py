"""The ways of computing exact products in PyTorch, and the choice among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from revrnn import RevRNNError
from revrnn.conformance.contents import contents
from revrnn.torch_impl import product_method
from revrnn.torch_impl.product import Weight, product
from strategies import SEEDS


@pytest.mark.rule("PROD-003")
@settings(max_examples=15)
@given(seed=SEEDS, style=st.sampled_from(("saturated", "large")))
@pytest.mark.parametrize("shape", [(1, 3, 2), (5, 70, 9), (20, 600, 64), (40, 70000, 3)])
def test_ways_of_computing_products_agree(seed: int, style: str, shape: Any) -> None:
    generator = np.random.default_rng(seed)
    m, k, n = shape
    a = torch.from_numpy(contents("operand", generator, (m, k), style))
    w = torch.from_numpy(contents("operand", generator, (n, k), style))
    wanted = a.to(torch.int64) @ w.to(torch.int64).t()
    for method in ("float64", "int8", "auto"):
        with product_method(method):
            assert torch.equal(product(a, w), wanted), method


@pytest.mark.rule("PROD-003")
def test_bytes_that_saturate_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that saturates 16-bit intermediates must fail the self-check and not be used."""
    from revrnn.torch_impl import product as module

    right = torch._int_mm

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        pairs = range(0, a.shape[1], 2)
        return sum(
            (right(a[:, i : i + 2], b[i : i + 2]).clamp(-32768, 32767) for i in pairs),
            torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32),
        )

    module._bytes_are_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    try:
        assert not module._bytes_are_exact("cpu", 0)
        assert not Weight(torch.ones((64, 1024), dtype=torch.int16)).by_bytes
        with product_method("int8"), pytest.raises(RevRNNError, match="E_UNSUPPORTED"):
            Weight(torch.ones((2, 2), dtype=torch.int16))
    finally:
        monkeypatch.undo()
        module._bytes_are_exact.cache_clear()
    assert module._bytes_are_exact("cpu", 0)


@pytest.mark.parametrize("slow", [True, False])
def test_a_slow_way_is_not_taken(slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being exact is not enough: the choice is measured."""
    from revrnn.torch_impl import product as module

    clock = iter(range(10**6))
    right = module.Weight.product

    def timed(self: Weight, a: torch.Tensor) -> torch.Tensor:
        for _ in range(50 * (self.by_bytes == slow)):
            next(clock)
        return right(self, a)

    monkeypatch.setattr(module.Weight, "product", timed)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    module._bytes_are_faster.cache_clear()
    try:
        assert module._bytes_are_exact("cpu", 0)
        assert Weight(torch.ones((512, 512), dtype=torch.int16)).by_bytes == (not slow)
    finally:
        module._bytes_are_faster.cache_clear()
