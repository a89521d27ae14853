"""What computes chunks of steps: XLA's scan, or on the CPU compiled calls (:mod:`.native`).

States, outputs, buffer and what is counted are the same bits; gradients are float32, equal within
an engine (GRAD-020) and close between engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, Final

import jax

from revrnn.config import Config
from revrnn.engine_plan import EnginePlan
from revrnn.errors import RevRNNError, one_of

from .product import product_is_named, product_method
from .sequence import Stack
from .state import check_config
from .walk import Forward, Reverse, sequence_forward, sequence_reverse

NATIVE: Final = "native"
ENGINES: Final = ("auto", "scan", NATIVE)

_chosen = "auto"
# A part of what JAX knows a traced function by.
_context: Final = jax.make_user_context("auto")


def set_engine(name: str) -> None:
    """Choose what computes sequences from now on; no state depends on it.

    Functions under ``jit`` are traced again when they are next called.

    Args:
        name: ``"native"`` (compiled calls on the CPU, an error where it refuses), ``"scan"``
            (XLA's own, on every device, also for ``jax.export``), or ``"auto"``, which is the scan
            today: :func:`engine_plan` says what stands against the other.

    Raises:
        RevRNNError: ``E_ARGUMENT``.
    """
    global _chosen
    if name not in ENGINES:
        raise RevRNNError("E_ARGUMENT", "name", repr(name), one_of(ENGINES))
    _chosen = name
    if hasattr(_context, "set_global"):
        _context.set_global(name)
    else:  # JAX before 0.10: functions traced by other threads keep their engine
        _context(name).__enter__()


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose an engine for the time of a ``with`` block."""
    before = _chosen
    set_engine(name)
    try:
        yield
    finally:
        set_engine(before)


def _refusal(config: Config, name: str) -> str | None:
    """Return why the native engine does not take a stack, or ``None``."""
    if name == "auto" and product_is_named():
        return "a product method is chosen, which is the scan's"
    if name == "auto" and jax.device_count() > 1:
        return "there are several devices, each of which would compute the whole batch"
    reason: str | None = _native("engine").refusal(config)
    if reason is None and name == "auto":
        return "it is taken by name alone, since jax.export cannot keep its calls"
    return reason


def method_of(config: Config, name: str | None = None) -> str:
    """Return the engine and product, in one word: a static argument of all that is compiled.

    Args:
        config: the stack.
        name: of the engine; by default the one that was chosen.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` with the reason if a named engine refuses.
    """
    name = _chosen if name is None else name
    if name != NATIVE:
        return product_method()
    reason = _refusal(config, name)
    if reason is None:
        return NATIVE
    raise RevRNNError("E_UNSUPPORTED", "engine", repr(name), f"'auto' or 'scan' here: {reason}")


def engine_plan(config: Config) -> EnginePlan:
    """Return what would compute a sequence of a stack, and how.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if the chosen engine refuses.
    """
    check_config(config)
    method = method_of(config)
    if method == NATIVE:
        tiles: Any = import_module("revrnn.native.tiles")
        return EnginePlan(NATIVE, f"int16 pairs ({tiles.KERNEL})", {})
    reason = _refusal(config, _chosen) if _chosen != "scan" else None
    return EnginePlan("scan", method, {} if reason is None else {NATIVE: reason})


def prepared(config: Config, exact: dict[str, jax.Array], method: str) -> Any:
    """Return parameters in fixed point as the engine wants them for every chunk."""
    return _native("weights").pack(config, exact) if method == NATIVE else exact


def forward_of(config: Config, exact: Any, method: str) -> Callable[..., Forward]:
    """Return what goes over some steps, with what :func:`prepared` gave."""
    if method == NATIVE:
        go: Callable[..., Forward] = _native("stack").NativeStack(config, exact).forward
        return go
    return partial(sequence_forward, Stack(config, exact, method))


def reverse_of(config: Config, exact: Any, method: str) -> Callable[..., Reverse]:
    """Return what takes them back."""
    if method == NATIVE:
        go: Callable[..., Reverse] = _native("stack").NativeStack(config, exact).reverse
        return go
    return partial(sequence_reverse, Stack(config, exact, method))


def _native(name: str) -> Any:
    return import_module(f".native.{name}", __package__)
