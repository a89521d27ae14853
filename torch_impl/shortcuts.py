"""Whether a module is exactly PyTorch's own, so that a short cut gives what calling it gives."""

from __future__ import annotations

from typing import Any, Final, TypeGuard, TypeVar

from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

M = TypeVar("M", bound=nn.Module)

_OWN_HOOKS: Final = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_GLOBAL_HOOKS: Final = tuple(f"_global{name}" for name in _OWN_HOOKS)
# Modules of what computes a forward under autocast and converts its results.
_AROUND: Final = ("accelerate.utils.operations", "torch.amp.autocast_mode")
# As they were when PyTorch was loaded: some libraries replace methods of classes.
_METHODS: Final = {kind: (kind.forward, kind.__call__) for kind in (nn.Linear, nn.Embedding)}


def is_bare(module: object, kind: type[nn.Module]) -> bool:
    """Say whether calling ``module`` does what ``kind.forward`` does, and nothing else.

    It must be of exactly this class (a subclass, an adapter, a parametrised module and what
    ``torch.compile`` returns are not), without a hook of its own or for all modules (which weight
    normalisation and pruning are), and with the forward of its class.
    """
    if type(module) is not kind:
        return False
    own: Any = module.__dict__
    changed = kind in _METHODS and _METHODS[kind] != (kind.forward, kind.__call__)
    return not (
        changed
        or ("forward" in own and not _is_bound(own["forward"], module))
        or any(own.get(name) for name in _OWN_HOOKS)
        or any(getattr(global_hooks, name, None) for name in _GLOBAL_HOOKS)
    )


def _is_bound(forward: Any, module: nn.Module) -> bool:
    """Say whether a ``forward`` put on a module is its class's own, bound to it.

    Libraries that take off what they put around a module leave that on it.
    """
    own = getattr(forward, "__func__", None) is type(module).forward
    return own and forward.__self__ is module


def has_plain_forward(module: nn.Module) -> bool:
    """Say whether calling ``module`` calls the ``forward`` of its class, at most under autocast.

    ``Accelerator.prepare`` gives a module such a ``forward``, which makes float32 of its results;
    libraries that take off what they put around a module leave the bound method on it.
    """
    around: Any = module.__dict__.get("forward")
    if around is None:
        return True
    own: Any = type(module).forward
    within = [own]  # decorators are taken off too
    while hasattr(within[-1], "__wrapped__"):
        within.append(within[-1].__wrapped__)
    bound_to = None
    while True:
        around, one = getattr(around, "__func__", around), getattr(around, "__self__", None)
        bound_to = one if bound_to is None else bound_to
        if around in within:
            return bound_to is module
        # Where it was written: what wraps a function takes over all its attributes.
        made_by = getattr(around, "__globals__", {}).get("__name__", type(around).__module__)
        if made_by not in _AROUND:
            return False
        around = getattr(around, "__wrapped__", None)  # of none the module is no such one


def has_plain_parameters(module: nn.Module, *names: str) -> bool:
    """Say whether parameters are ordinary dense tensors, or ``None``."""
    for name in names:
        value = module._parameters.get(name)
        if value is None:
            if name not in module._parameters:
                return False
        elif type(value) not in (nn.Parameter, Tensor) or value.layout.__str__() != "torch.strided":
            return False
    return True


def is_plain_linear(module: object) -> TypeGuard[nn.Linear]:
    """Say whether ``module`` is ``nn.Linear`` and nothing else."""
    return is_bare(module, nn.Linear) and has_plain_parameters(module, "weight", "bias")  # type: ignore[arg-type]


def is_plain_embedding(module: object) -> bool:
    """Say whether ``module`` is ``nn.Embedding`` with a gradient that is a sum of rows."""
    return (
        is_bare(module, nn.Embedding)
        and isinstance(module, nn.Embedding)
        and has_plain_parameters(module, "weight")
        and not module.sparse
        and module.max_norm is None
    )
