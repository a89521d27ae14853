"""Nothing within a chunk waits for the host: no launch depends on a number read from the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from small import PERSISTENT, at_once
from torch.utils._python_dispatch import TorchDispatchMode

from revrnn.torch_impl import RevGRU, RevLSTM, engine, value_and_grad
from revrnn.torch_impl.triton import passes, places

# Operations whose results decide on the host what comes next, or how large it is.
WAITING = (
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave.Tensor"),
)


class Waits(TorchDispatchMode):
    """Notes operations after which the host knows what the device computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        by_mask = name.startswith("index") and any(
            isinstance(t, torch.Tensor) and t.dtype in (torch.bool, torch.uint8)
            for t in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        if name.startswith(WAITING) or by_mask:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def noted(function: Callable[..., Any], into: list[list[str]]) -> Callable[..., Any]:
    """Return a function that also notes what each call of it waited for."""

    def call(*arguments: Any, **named: Any) -> Any:
        with Waits() as waits:
            result = function(*arguments, **named)
        into.append(waits.seen)
        return result

    return call


@pytest.mark.parametrize(("kind", "name"), [(RevLSTM, "triton"), (RevGRU, PERSISTENT)])
def test_nothing_waits_for_the_host(kind: Any, name: str) -> None:
    torch.manual_seed(0)
    module, x = kind(2, 4, max_forget_bits=3, chunk_size=2), torch.randn(3, 2, 2)
    resets = torch.zeros(3, 2, dtype=torch.bool)
    resets[1, 1] = True
    launches: list[list[str]] = []
    ways: dict[str, list[list[str]]] = {"advance": [], "recover": [], "pullback": []}
    run = places.Place.run

    def launched(place: Any, key: Any, launch: Callable[[], None]) -> None:
        run(place, key, noted(launch, launches))

    patches = [patch.object(places.Place, "run", launched)]
    for way, into in ways.items():
        patches.append(
            patch.object(passes.TritonPass, way, noted(getattr(passes.TritonPass, way), into))
        )
    for each in patches:
        each.start()
    try:
        with engine(name), at_once(0, 64):
            value_and_grad(module, x, x, lambda y, _: y.square().mean(), resets=resets)
    finally:
        patch.stopall()
    # Two chunks, taken forward, back and differentiated.
    assert launches == [[]] * 6
    # How many words a chunk has is read when the next one has been launched.
    assert ways["advance"] == [[], ["_local_scalar_dense"]]
    assert ways["recover"] == [[], []]
    assert ways["pullback"] == [[], []]


def test_a_wait_is_seen() -> None:
    with Waits() as waits:
        value = torch.arange(3)
        int(value.sum())
        value[value > 1]
        value.nonzero()
    assert waits.seen == ["_local_scalar_dense", "index.Tensor", "nonzero"]
