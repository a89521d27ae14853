"""Whether a device computes the kernels right: checked once a process, before they are used."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from revrnn.config import Config

from ..eager import EagerWork
from ..engine import Settings, Work
from ..gradients import Gradients
from ..sequence import Schedule
from ..state import initial_state
from .work import TritonWork

# Two tiles of rows and of units, two layers, chunks of unequal length.
_STEPS, _ROWS, _CHUNK = 5, 18, 3
CONFIGS = tuple(
    Config(cell, 7, 2 * 18, 2, max_forget_bits=3, slice_size=4) for cell in ("revgru", "revlstm")
)


def _random(shape: tuple[int, ...], scale: float, generator: torch.Generator) -> Tensor:
    values = (torch.randn(shape, dtype=torch.float32, generator=generator) * scale).round()
    return values if scale > 2**15 else values.clamp(-32512, 32512)


def _there_and_back(work: Work, config: Config, x: Tensor) -> list[Tensor]:
    """Return states, words, slices and gradients, after the forward and the backward pass."""
    current = work.start(initial_state(config, _ROWS, x.device), keep=True, count=False)
    firsts = range(0, len(x), _CHUNK)
    outputs = x.new_empty((*x.shape[:2], config.hidden_size), dtype=torch.int32)
    for first in firsts:
        part = slice(first, first + _CHUNK)
        current.advance(x[part], first, outputs[part])
    store, end = current.store(), current.state()
    exact = [outputs, store.words, *end.tensors().values()]
    into = Gradients.zeros(config, end)
    into.add_to_state(torch.ones_like(into.h), None)
    for first in reversed(firsts):
        part = slice(first, first + _CHUNK)
        tape = current.recover(x[part], first)
        exact.append(torch.empty_like(x[part], dtype=torch.float32))
        current.pullback(tape, outputs[part] * 2.0**-23, into, exact[-1])
    exact += [*current.state().tensors().values(), into.h, *into.params.values()]
    return [value.cpu() for value in exact]


def differs(config: Config, device: torch.device, persistent: bool = False) -> bool:
    """Say whether the results of a random sequence differ from the eager engine's."""
    generator = torch.Generator().manual_seed(0)
    params = {
        name: _random(shape, 2.0**22 if name.startswith("bias") else 1500.0, generator).to(
            device, torch.int32 if name.startswith("bias") else torch.int16
        )
        for name, shape in config.parameter_shapes().items()
    }
    x = _random((_STEPS, _ROWS, config.input_size), 4000.0, generator).to(device, torch.int16)
    mask = (torch.rand(_STEPS, _ROWS, dtype=torch.float32, generator=generator) < 0.8).to(device)
    schedule, settings = Schedule(mask), Settings(_CHUNK)
    arguments = (config, params, schedule, settings)
    ours, wanted = (
        _there_and_back(work, config, x)
        for work in (TritonWork(*arguments, persistent), EagerWork(*arguments))
    )
    for a, b in zip(ours, wanted, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return True
        if a.is_floating_point():
            if not bool((a - b).norm() <= 1e-4 * b.norm()):
                return True
        elif not torch.equal(a, b):
            return True
    return False


@cache
def refusal(device: torch.device, persistent: bool) -> str | None:
    """Return why kernels are not used on a device, or ``None``."""
    with torch.no_grad():
        for config in CONFIGS:
            try:
                wrong = differs(config, device, persistent)
            except Exception as error:
                return f"kernels fail on {device}: {type(error).__name__}: {error}"
            if wrong:
                return f"kernels of {config.cell} give other numbers on {device}"
    return None
