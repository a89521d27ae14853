"""A call that fails leaves everything as it was: gradients, buffers, random numbers.

The caller's functions may raise, memory may run out, Ctrl-C may be pressed, at any moment of a call
by chunks. Whoever catches that and calls again gets what a first call gives.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, overrides

from .repeat import (
    held_buffers,
    modules_of,
    put_buffers_back,
    random_state,
    set_random_state,
    version_of,
)
from .transforms import is_abstract

_private: Any = overrides


class undone_on_failure:  # noqa: N801 - read as a word of the ``with`` statement
    """Put buffers of modules and random numbers back if the block raises."""

    # No generator: one that is left by an exception in its caller's frame would go on when it is
    # collected, and put old values back at any later time.

    def __init__(self, *used: object) -> None:
        """Look at modules and functions, whose modules :func:`modules_of` finds."""
        self._modules = modules_of(used)

    def __enter__(self) -> None:
        """Remember how things are."""
        self._held = held_buffers(self._modules)
        values = [value for _, buffers in self._held for value in buffers.values()]
        kept = [value for value in values if value is not None and not is_abstract([value])]
        kept = [value for value in kept if not isinstance(value, nn.UninitializedBuffer)]
        self._copies = [(value, value.detach().clone(), version_of(value)) for value in kept]
        self._device = _device(self._modules)
        self._random = random_state(self._device)
        self._modes = _modes()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Put everything back after an error."""
        if kind is None:
            return
        with interrupts_wait():
            if _modes() != self._modes:  # Ctrl-C while one came or went
                for _ in _modes():
                    _private._pop_mode()
                for mode in self._modes:
                    _private._push_mode(mode)
            put_buffers_back(self._held)
            for kept in self._copies:
                _put_back(*kept)
            set_random_state(self._random, self._device)


def _modes() -> list[Any]:
    """Return PyTorch's modes of functions that are active."""
    return list(_private._get_current_function_mode_stack())


def _device(modules: list[nn.Module]) -> torch.device:
    """Return a device other than the host on which modules compute, if there is one."""
    values = [value for module in modules for value in module._parameters.values()]
    others = (value.device for value in values if value is not None and value.is_cuda)
    return next(others, torch.device("cpu"))


def _put_back(value: Tensor, copy: Tensor, version: int) -> None:
    with torch.inference_mode() if value.is_inference() else torch.no_grad():
        if value.layout != torch.strided or value.is_nested:  # numbers cannot be compared
            if version_of(value) != version:
                value.copy_(copy)
        elif value.shape != copy.shape:
            value.data = copy
        # Else autograd would take a write for a change.
        elif not torch.equal(value, copy):
            value.copy_(copy)


class gradients_whole_or_unchanged:  # noqa: N801 - as above
    """Let a backward pass add to ``.grad`` of all leaves, or of none if it raises.

    A backward pass writes one ``.grad`` after the other, and hooks and functions of the caller run
    in between. So gradients that are there are set aside for that time and added to at the end.
    """

    def __init__(self, leaves: Iterable[Tensor]) -> None:
        """Take the leaves that it may reach."""
        self._before = [(leaf, leaf.grad) for leaf in {id(leaf): leaf for leaf in leaves}.values()]

    def __enter__(self) -> None:
        """Set gradients aside."""
        # Hooks that run after a gradient was added to look at the sum.
        self._copies = {
            id(old): old.clone()
            for leaf, old in self._before
            if old is not None and getattr(leaf, "_post_accumulate_grad_hooks", None)
        }
        self._aside = [pair for pair in self._before if id(pair[1]) not in self._copies]
        for leaf, _ in self._aside:
            leaf.grad = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Add what came to what there was; after an error put back what there was."""
        with interrupts_wait(), torch.no_grad():
            if kind is not None:
                self._put_back()
                return
            try:
                sums = [_planned(leaf, old) for leaf, old in self._aside if old is not None]
                old = [total for _, total, new in sums if new is not None]
                if old:  # in one operation, which is done or not
                    torch._foreach_add_(old, [new for _, _, new in sums if new is not None])
            except BaseException:
                self._put_back()
                raise
            for leaf, total, _new in sums:
                leaf.grad = total

    def _put_back(self) -> None:
        for leaf, old in self._before:
            if old is not None and id(old) in self._copies:
                old.copy_(self._copies[id(old)])
            leaf.grad = old


def _planned(leaf: Tensor, old: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a leaf, what will be its gradient, and what is still to be added to that."""
    new = leaf.grad
    if new is None or old.layout == torch.strided:
        return leaf, old, new
    # A sparse sum takes memory that may not be there. PyTorch adds no dense gradient to a sparse.
    return leaf, new + old if new.layout == torch.strided else old + new, None


class interrupts_wait:  # noqa: N801 - as above
    """Have Ctrl-C wait until the block is done; only the main thread hears of it at all."""

    def __enter__(self) -> None:
        """Take note of interrupts instead."""
        self._missed: list[tuple[Any, ...]] = []
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            # None is a handler that was not set from Python, and could not be put back.
            self._before = signal.getsignal(signal.SIGINT)
        if self._before is not None:
            signal.signal(signal.SIGINT, lambda *given: self._missed.append(given))

    def __exit__(self, *_: object) -> None:
        """Let them have their way."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._missed and callable(self._before):
            self._before(*self._missed[0])
