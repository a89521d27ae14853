"""Sizes that no machine has are refused before memory is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from revrnn import RevRNNError
from revrnn.torch_impl import RevGRU, value

HUGE = 2**40


def _long(steps: int, rows: int) -> torch.Tensor:
    return torch.zeros(1, 1, 4).expand(steps, rows, 4)


def _measured() -> Any:
    return value(RevGRU(4, 6), _long(HUGE, 1), _long(HUGE, 1), lambda h, y: h.mean())


SIZES: dict[str, tuple[Callable[[], Any], str, str]] = {
    "features": (lambda: RevGRU(HUGE, 6), "E_SHAPE", "input_size"),
    "units": (lambda: RevGRU(4, HUGE), "E_SHAPE", "hidden_size"),
    "weights": (lambda: RevGRU(4, 2**20), "E_ARGUMENT", "hidden_size"),
    "layers": (lambda: RevGRU(4, 6, HUGE), "E_ARGUMENT", "num_layers"),
    "rows of a state": (lambda: RevGRU(4, 6).initial_state(HUGE), "E_ARGUMENT", "batch_size"),
    "steps": (lambda: RevGRU(4, 6)(_long(HUGE, 1)), "E_SHAPE", "input"),
    "rows": (lambda: RevGRU(4, 6)(_long(1, HUGE)), "E_SHAPE", "input"),
    "steps by chunks": (_measured, "E_SHAPE", "inputs"),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.rule("ERR-004", "PROD-002")
def test_sizes_beyond_any_memory_are_refused(case: str) -> None:
    call, code, argument = SIZES[case]
    with pytest.raises(RevRNNError) as caught:
        call()
    assert (caught.value.code, caught.value.argument) == (code, argument)
