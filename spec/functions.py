"""Whether a function that a caller gives can be called as it will be."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .errors import RevRNNError


def check_takes(
    name: str, function: object, count: int, allowed: str, called: Callable[..., Any] | None = None
) -> None:
    """Raise ``E_ARGUMENT`` for a function that cannot be called with so many arguments.

    Nor may it be a class, which returns an object of it. A function whose signature is not known,
    one in C for instance, is let pass.

    Args:
        name: what the caller calls it.
        function: what was given.
        count: how many arguments it will get, by position.
        allowed: what such a function is, in words.
        called: what is called in the end, if not ``function`` itself.
    """
    if isinstance(function, type):
        given = f"the class {function.__name__}"
        raise RevRNNError("E_ARGUMENT", name, given, f"{allowed}, an object of the class maybe")
    to_call: Any = function if called is None else called
    try:
        signature = inspect.signature(to_call)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        kind = getattr(function, "__name__", type(function).__name__)
        raise RevRNNError("E_ARGUMENT", name, f"{kind}{signature}", allowed) from None
