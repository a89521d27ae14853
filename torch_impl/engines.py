"""The choice among engines, and what it would be for a stack: :func:`engine_plan`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Final

import torch

from revrnn.config import Config, check_config
from revrnn.engine_plan import EnginePlan
from revrnn.errors import RevRNNError, check_one_of, shown, type_name

from .engine import Engine, Settings
from .forks import wait_for_none

# In order of preference; the last one takes everything.
_ENGINES: Final = {
    "triton-persistent": "triton.persistent_engine",
    "triton": "triton.engine",
    "native": "native.engine",
    "eager": "eager",
}
# Those that "auto" does not choose, and why.
_UNTRIED: Final = "no GPU has run it yet, so it must be chosen by name"
_BY_NAME: Final = {"triton-persistent": _UNTRIED, "triton": _UNTRIED}

_chosen = "auto"


def set_engine(name: str) -> None:
    """Choose what computes sequences; no state depends on it.

    Args:
        name: ``"eager"`` takes every cell, layout and device; ``"auto"`` the fastest that takes
            what is asked; any other name that engine alone, an error where it refuses.
    """
    global _chosen
    check_one_of("name", name, ("auto", *_ENGINES))
    _chosen = name


def chosen_engine() -> str:
    """Return what :func:`set_engine` was given last, or ``"auto"``."""
    return _chosen


@contextmanager
def engine(name: str) -> Iterator[None]:
    """Choose an engine for the time of a ``with`` block."""
    before = _chosen
    set_engine(name)
    try:
        yield
    finally:
        set_engine(before)


@cache
def _engine(name: str) -> Engine:
    made: Engine = import_module(f".{_ENGINES[name]}", __package__).ENGINE
    return made


def choose(config: Config, device: torch.device, settings: Settings) -> Engine:
    """Return the engine for a sequence.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` with the reason if the chosen engine refuses.
    """
    wait_for_none()
    chosen, reasons = _first(config, device, settings)
    if chosen is None:
        raise RevRNNError("E_UNSUPPORTED", "engine", shown(_chosen), _allowed(reasons[_chosen]))
    return chosen


def _allowed(reason: str) -> str:
    return f"'auto' or 'eager' here: {reason}"


def _first(
    config: Config, device: torch.device, settings: Settings
) -> tuple[Engine | None, dict[str, str]]:
    """Return the first engine asked that does not refuse, and why the others did."""
    reasons: dict[str, str] = {}
    for name in _ENGINES if _chosen == "auto" else (_chosen,):
        candidate = _engine(name)
        reason = candidate.refusal(config, device, settings)
        if reason is None and _chosen == "auto":
            reason = _BY_NAME.get(name)
        if reason is None:
            return candidate, reasons
        reasons[name] = reason
    return None, reasons


def as_device(device: torch.device | str) -> torch.device:
    """Return a device, which need not exist on this machine, or raise ``E_ARGUMENT``."""
    try:
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RevRNNError("E_ARGUMENT", "device", shown(device), "a device") from error


def engine_plan(
    config: Config, device: torch.device | str = "cpu", settings: Settings | None = None
) -> EnginePlan:
    """Return what would compute a sequence of a stack on a device, and how.

    Args:
        config: the stack (``module.config``).
        device: where its parameters are.
        settings: how it will be processed; by default as modules do.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if the chosen engine refuses.
    """
    check_config(config)
    if settings is not None and not isinstance(settings, Settings):
        raise RevRNNError("E_ARGUMENT", "settings", type_name(settings), "None, or a Settings")
    settings, where = settings or Settings(), as_device(device)
    chosen = choose(config, where, settings)
    _, reasons = _first(config, where, settings)
    return EnginePlan(chosen.name, chosen.product(config, where), reasons)
