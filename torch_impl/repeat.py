"""Calling a function of the user's a second time such that it returns the same.

For the second call the random generators and the buffers of modules (BatchNorm's running
statistics, spectral normalisation's vectors) are set to what they were before the first; afterwards
they are as if there had been no second call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from revrnn.errors import RevRNNError

# Odd, so that every element changes a checksum modulo 2^64.
_SPREAD = 0x5851F42D4C957F2D


def modules_of(function: object) -> list[nn.Module]:
    """Return the modules that a function uses.

    They are found in modules, methods, partial functions, variables that a function closes over,
    its defaults, globals that it names, attributes of callable objects, and containers of these.
    """
    roots: list[nn.Module] = []
    seen: set[int] = set()
    waiting: list[tuple[object, int]] = [(function, 0)]
    while waiting:
        one, depth = waiting.pop()
        if id(one) in seen or depth > 6:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            roots.append(one)
        else:
            waiting += [(part, depth + 1) for part in _parts(one)]
    modules = {id(module): module for root in roots for module in root.modules()}
    return list(modules.values())


def _parts(one: Any) -> list[object]:
    """Return the objects that a function or container refers to directly."""
    if isinstance(one, (list, tuple, set)):
        return list(one)
    if isinstance(one, dict):
        return list(one.values())
    if isinstance(one, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if inspect.ismethod(one):
        return [one.__self__, one.__func__]
    if inspect.isfunction(one):
        cells = [cell.cell_contents for cell in one.__closure__ or () if _is_full(cell)]
        used = [one.__globals__.get(name) for name in one.__code__.co_names]
        named = [part for part in used if isinstance(part, nn.Module) or inspect.isfunction(part)]
        return [*cells, *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), *named]
    plain = isinstance(one, (Tensor, type, str, bytes)) or inspect.ismodule(one)
    return [] if plain else list(getattr(one, "__dict__", {}).values())


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True


class Repeat:
    """One function, called once for every chunk and then again for some."""

    def __init__(self, function: object, device: torch.device) -> None:
        """Note the buffers of the function's modules.

        Args:
            function: what is called, or a tuple of all that is called.
            device: whose random numbers it draws, besides the host's.
        """
        self.device = device
        self._random: dict[int, list[Tensor]] = {}
        self._buffers = _Buffers(modules_of(function))
        self._sums: dict[int, Tensor] = {}
        self._differ: list[Tensor] = []

    @contextmanager
    def first(self, at: int) -> Iterator[None]:
        """Call the function for the first time for chunk ``at``."""
        before = random_state(self.device)
        yield
        if not _same(before, random_state(self.device)):
            self._random[at] = before
        self._buffers.note(at)

    @contextmanager
    def again(self, at: int) -> Iterator[None]:
        """Call it again, without lasting effect on generators and buffers."""
        states = self._random.get(at)
        saved = random_state(self.device) if states is not None else None
        try:
            if states is not None:
                set_random_state(states, self.device)
            with self._buffers.as_before(at):
                yield
        finally:
            if saved is not None:
                set_random_state(saved, self.device)

    def note(self, at: int, made: Tensor) -> None:
        """Remember the result for chunk ``at``, int16, as a checksum."""
        self._sums[at] = _checksum(made)

    def compare(self, at: int, made: Tensor) -> None:
        """Compare the second result with it."""
        self._differ.append(_checksum(made) != self._sums[at])

    def differs(self) -> bool:
        """Say whether any second result differed, with one synchronisation."""
        return bool(self._differ) and bool(torch.stack(self._differ).any())


def _checksum(made: Tensor) -> Tensor:
    """Return a checksum, int64, of an int16 tensor."""
    flat = made.contiguous().flatten()
    whole = len(flat) // 4 * 4
    words = flat[:whole].view(torch.int64)
    odd = torch.arange(1, 2 * len(words) + 1, 2, device=made.device) * _SPREAD
    return (words * odd).sum() + (flat[whole:].to(torch.int64) * _SPREAD).sum()


class _Buffers:
    """What buffers were before each chunk that changed them."""

    def __init__(self, modules: list[nn.Module]) -> None:
        for module in modules:
            if any(isinstance(value, nn.UninitializedBuffer) for value in module._buffers.values()):
                given = f"{type(module).__name__} without a shape yet"
                allowed = "modules that have been called once"
                raise RevRNNError("E_UNSUPPORTED", "embed", given, allowed)
        self._modules = [module for module in modules if _named(module)]
        self._now = [_copy(module) for module in self._modules]
        self._marks = [_marks(module) for module in self._modules]
        self._before: dict[int, list[tuple[nn.Module, dict[str, Tensor]]]] = {}

    def note(self, at: int) -> None:
        """Keep the buffers that chunk ``at`` changed, as they were before it."""
        for number, module in enumerate(self._modules):
            marks = _marks(module)
            # BatchNorm's running statistics change without a new version number.
            hidden = isinstance(module, _NormBase) and module.training
            if marks == self._marks[number] and not hidden:
                continue
            self._before.setdefault(at, []).append((module, self._now[number]))
            self._now[number], self._marks[number] = _copy(module), marks

    @contextmanager
    def as_before(self, at: int) -> Iterator[None]:
        """Give modules, for the time of the block, the buffers that they had before ``at``."""
        changed = self._before.get(at, [])
        held = held_buffers(module for module, _ in changed)
        try:
            for module, values in changed:
                put_buffers(module, {name: value.clone() for name, value in values.items()})
            yield
        finally:
            put_buffers_back(held)


# Modules, and which buffers each has.
Held = list[tuple[nn.Module, dict[str, Tensor | None]]]


def held_buffers(modules: Iterable[nn.Module]) -> Held:
    """Return which buffers modules have, not copied."""
    return [(module, dict(module._buffers)) for module in modules]


def put_buffers_back(held: Held) -> None:
    """Give modules the buffers that they had."""
    for module, buffers in held:
        for name in set(module._buffers.keys()) - set(buffers):
            del module._buffers[name]
        put_buffers(module, buffers)


def put_buffers(module: nn.Module, buffers: Mapping[str, Tensor | None]) -> None:
    """Give a module some buffers; those of a compiled one (``torch.jit``) are no dict."""
    for name, value in buffers.items():
        module._buffers[name] = value


def _named(module: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in module._buffers.items() if value is not None}


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in _named(module).items()}


def _marks(module: nn.Module) -> list[tuple[int, int]]:
    """Return numbers that change when buffers do."""
    return [(id(value), version_of(value)) for value in _named(module).values()]


def version_of(value: Tensor) -> int:
    """Return a number that most changes of a tensor raise; -1 where PyTorch counts none."""
    return -1 if value.is_inference() else value._version


def random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the random generators of the host and of ``device``."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_random_state(states: list[Tensor], device: torch.device) -> None:
    """Set the states of the generators."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@contextmanager
def no_trace(function: object, device: torch.device) -> Iterator[None]:
    """Restore buffers of modules and random generators afterwards."""
    random, held = random_state(device), held_buffers(modules_of(function))
    for module, buffers in held:
        put_buffers(module, {n: None if v is None else v.clone() for n, v in buffers.items()})
    try:
        yield
    finally:
        set_random_state(random, device)
        put_buffers_back(held)
