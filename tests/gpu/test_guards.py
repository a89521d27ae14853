"""No kernel reads or writes outside its arrays, and what lies outside has no part in any result."""

from __future__ import annotations

from typing import Any

import pytest
import small
import torch
import triton
import triton.language as tl
from torch import Tensor
from watch import watched

from revrnn.config import Config
from revrnn.conformance.contents import Shape
from revrnn.torch_impl.triton import arrays, passes

GUARD = 64  # elements before and after


class Guarded:
    """``torch``, but what it makes lies between guards."""

    def __init__(self) -> None:
        self.guards: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def _made(self, shape: Any, dtype: torch.dtype, fill: float) -> Tensor:
        shape = tuple(shape) if isinstance(shape, (tuple, list, torch.Size)) else (shape,)
        count = torch.Size(shape).numel()
        # NaN is seen wherever it gets to; an odd number nearly everywhere.
        guard = float("nan") if dtype.is_floating_point else 0x55
        whole = torch.full((count + 2 * GUARD,), guard, dtype=dtype)
        self.guards.append((whole, whole.clone()))
        inside = whole[GUARD : GUARD + count]
        inside.fill_(fill)
        return inside.view(shape)

    def zeros(self, shape: Any, *, dtype: Any = torch.float32, device: Any = None) -> Tensor:
        return self._made(shape, dtype, 0)

    def full(self, shape: Any, fill: float, *, dtype: Any, device: Any = None) -> Tensor:
        return self._made(shape, dtype, fill)

    def empty(
        self, shape: Any, *, dtype: Any, device: Any = None, pin_memory: bool = False
    ) -> Tensor:
        return self._made(shape, dtype, 0x33)

    def zeros_like(self, like: Tensor, **_: Any) -> Tensor:
        return self._made(like.shape, like.dtype, 0)

    def broken(self) -> list[torch.Size]:
        """Return the sizes of what was written beside."""
        ends = (slice(0, GUARD), slice(-GUARD, None))
        return [
            whole.shape
            for whole, before in self.guards
            if any(
                not torch.equal(whole[e].view(torch.uint8), before[e].view(torch.uint8))
                for e in ends
            )
        ]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_nothing_is_written_beside_an_array(
    cell: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded = Guarded()
    monkeypatch.setattr(arrays, "torch", guarded)
    monkeypatch.setattr(passes, "torch", guarded)
    with watched() as watch:
        lines = small.wrong(*small.SETUPS[cell][number], seed=1)
    assert not lines
    assert len(guarded.guards) > 30
    assert not guarded.broken()
    assert not watch.outside
    assert watch.inside > 10_000


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_many_steps_in_one_launch_stay_inside(cell: str) -> None:
    with watched() as watch:
        assert not small.wrong(*small.SETUPS[cell][1], seed=2, engine=small.PERSISTENT)
    assert not watch.outside
    assert watch.inside > 10_000


@pytest.mark.parametrize("cell", ["revgru", "revlstm"])
def test_kernels_that_jax_launches_stay_inside(cell: str) -> None:
    setup = (Config(cell, 2, 6, 2, 3, slice_size=1), Shape(3, 2, gains=True))
    with watched() as watch:
        assert not small.wrong(*setup, seed=2, engine=small.JAX)
    assert not watch.outside
    assert watch.inside > 10_000


@triton.jit
def reads_and_writes(a, b, n, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, SIZE)
    tl.store(b + at, tl.load(a + at, mask=at < n, other=0))


@pytest.mark.parametrize(
    ("n", "size", "outside"),
    [
        (6, 8, []),
        (7, 8, [("create_masked_load", 24, 24)]),
        (6, 16, [("create_masked_store", 32, 32)]),
    ],
)
def test_an_address_outside_is_seen(n: int, size: int, outside: list[Any]) -> None:
    whole = torch.zeros(64, dtype=torch.int32)
    with watched() as watch:
        reads_and_writes[(1,)](whole[:6], whole[32:40], n, SIZE=size)
    assert watch.outside[:1] == outside


def test_a_write_beside_an_array_is_seen() -> None:
    guarded = Guarded()
    made = guarded.zeros((3, 4), dtype=torch.int8)
    assert not guarded.broken()
    made.as_strided((1,), (1,), made.storage_offset() + 12)[0] = 1
    assert guarded.broken() == [torch.Size([12 + 2 * GUARD])]
