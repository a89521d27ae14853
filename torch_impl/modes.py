"""What watches or changes PyTorch's functions while a user's are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch.overrides
from torch.overrides import TorchFunctionMode

P = ParamSpec("P")
R = TypeVar("R")
_overrides: Any = torch.overrides


class Mode(TorchFunctionMode):
    """A mode that an interrupt leaves as any other error does.

    PyTorch takes a mode off its stack while a function is called for it. An interrupt before it is
    put back leaves it off: taking it off again would end an outer mode, or fail in another way.
    """

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Leave the mode, if it is there."""
        if error is None or _overrides._get_current_function_mode() is self:
            leave: Any = super().__exit__
            leave(kind, error, traceback)


class NoDropout(Mode):
    """Functions that drop elements return all of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, unless it drops."""
        if "dropout" in getattr(func, "__name__", ""):
            return (args or tuple(kwargs.values()))[0]
        return func(*args, **(kwargs or {}))


def seen_whole(function: Callable[P, R]) -> Callable[P, R]:
    """Have a function, or a module's method, be one function for a :class:`Mode`, as PyTorch's are.

    Else the mode would see what it computes with, and messages would name that.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if not isinstance(_overrides._get_current_function_mode(), Mode):
            return function(*args, **kwargs)

        def whole(*given: Any, **named: Any) -> Any:
            return function(*given, **named)

        is_call = function.__name__ == "forward"
        whole.__name__ = type(args[0]).__name__ if is_call else function.__name__
        made: R = _overrides.handle_torch_function(whole, args, *args, **kwargs)
        return made

    return wrapped
