"""Forward hooks and pre-hooks of a recurrent module whose sequence is processed by chunks.

A call runs them once, on a whole sequence. Here a hook that does not look at the input (pruning and
weight normalisation install such hooks) runs once; one that does runs for every chunk, as ``embed``
and ``readout`` do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

from revrnn.errors import RevRNNError

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)


def runs_pre_hooks(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Have a method of a module run the forward pre-hooks first, as a call does.

    Those of FSDP2 are left to its ``register_fsdp_forward_method``.
    """

    @wraps(method)
    def wrapped(self: M, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given: Any = args
        named: Any = kwargs
        for hook, takes_names in _hooks(self, "_forward_pre_hooks"):
            if str(getattr(hook, "__module__", "")).startswith("torch.distributed.fsdp"):
                continue
            made = hook(self, given, named) if takes_names else hook(self, given)
            if made is None:
                continue
            if takes_names:
                given, named = made
            else:
                given = made if isinstance(made, tuple) else (made,)
        return method(self, *given, **named)

    return wrapped


class CallHooks:
    """The hooks of one call."""

    def __init__(self, module: nn.Module, others: tuple[Any, ...], options: Mapping[str, Any]):
        """Collect them.

        Args:
            module: the recurrent module.
            others: positional arguments of a call after the input.
            options: arguments by name.

        Raises:
            RevRNNError: ``E_UNSUPPORTED`` for hooks of the backward pass, which see gradients that
                never exist as a whole.
        """
        for where in (module, global_hooks):
            prefix = "_global" if where is global_hooks else ""
            for kind in ("_backward_hooks", "_backward_pre_hooks"):
                for hook in getattr(where, prefix + kind).values():
                    given = f"a backward hook, {_name(hook)}"
                    raise RevRNNError("E_UNSUPPORTED", "module", given, "forward hooks")
        self.module, self.others, self.options = module, others, dict(options)
        self._pre = _hooks(module, "_forward_pre_hooks")
        self._post = _hooks(module, "_forward_hooks")
        self._changing: list[tuple[Callable[..., Any], bool]] = []

    @property
    def before(self) -> bool:
        """Whether there are pre-hooks."""
        return bool(self._pre)

    @property
    def after(self) -> bool:
        """Whether there are forward hooks."""
        return bool(self._post)

    def start(self, x: Tensor) -> Tensor:
        """Run all pre-hooks on the first chunk's input, and note which must see all chunks."""
        looking = []
        for hook, named in self._pre:
            shown, looks = _watched(x)
            version = x._version
            made = self._pre_hook(hook, named, shown)
            changes = (made is not None and made is not shown) or x._version != version
            if changes or looks:
                looking.append((hook, named))
            if changes:
                self._changing.append((hook, named))
            x = x if made is None or made is shown else made
        self._pre = looking
        return x

    def inputs(self, x: Tensor, again: bool) -> Tensor:
        """Run pre-hooks on another chunk's input; with ``again`` only those that change it."""
        for hook, named in self._changing if again else self._pre:
            made = self._pre_hook(hook, named, x)
            x = x if made is None else made
        return x

    def outputs(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Run the forward hooks on a chunk's outputs."""
        for hook, named in self._post:
            last = _Later(_name(hook))
            given: tuple[Any, ...] = (self.module, (x, *self.others))
            given += (self.options,) if named else ()
            made = hook(*given, (outputs, last))
            if made is None:
                continue
            whole = isinstance(made, (tuple, list)) and len(made) == 2 and made[1] is last
            shape = outputs.shape[:2]
            if not whole or not isinstance(made[0], Tensor) or made[0].shape[:2] != shape:
                given_back = f"something else from the forward hook {_name(hook)}"
                allowed = "(outputs of the same steps and rows, the state as it was given)"
                raise RevRNNError("E_UNSUPPORTED", "module", given_back, allowed)
            outputs = made[0]
        return outputs

    def _pre_hook(self, hook: Callable[..., Any], named: bool, x: Tensor) -> Tensor | None:
        """Run a pre-hook; return the input that it gives instead, if any."""
        arguments = (x, *self.others)
        if not named:
            made = hook(self.module, arguments)
            if made is None:
                return None
            made = made if isinstance(made, tuple) else (made,)
            options = self.options
        else:
            pair = hook(self.module, arguments, self.options)
            if pair is None:
                return None
            made, options = pair
        same = len(made) == len(arguments) and all(
            a is b for a, b in zip(made[1:], self.others, strict=True)
        )
        same = same and set(options) == set(self.options)
        same = same and all(options[n] is v for n, v in self.options.items())
        if not same or not isinstance(made[0], Tensor) or made[0].shape != x.shape:
            given = f"other arguments from the forward pre-hook {_name(hook)}"
            allowed = "another input of the same shape, and nothing else changed"
            raise RevRNNError("E_UNSUPPORTED", "module", given, allowed)
        return made[0]


def _hooks(module: nn.Module, kind: str) -> list[tuple[Callable[..., Any], bool]]:
    """Return hooks in the order of a call, and whether each takes arguments by name."""
    by_name = getattr(module, f"{kind}_with_kwargs")
    everywhere = getattr(global_hooks, f"_global{kind}")
    pairs = [(hook, False) for hook in everywhere.values()]
    return pairs + [(hook, key in by_name) for key, hook in getattr(module, kind).items()]


def _watched(x: Tensor) -> tuple[Tensor, list[object]]:
    """Return ``x`` as a tensor that notes every function called with it, and the notes."""
    notes: list[object] = []

    class Watched(Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            notes.append(func)
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))

    shown = x.as_subclass(Watched)
    notes.clear()
    return shown, notes


class _Later:
    """Stands for the final state, which no chunk's hook can see."""

    def __init__(self, hook: str) -> None:
        object.__setattr__(self, "_hook", hook)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        hook = object.__getattribute__(self, "_hook")
        given = f"a forward hook that looks at the final state, {hook}"
        raise RevRNNError("E_UNSUPPORTED", "module", given, "hooks that look at outputs alone")

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    __getitem__ = __iter__ = __len__ = __bool__ = __add__ = __mul__ = __sub__ = _refuse


def _name(hook: object) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__name__))
