"""Sharded parameters (FSDP2) made whole for one call by chunks, and their gradients averaged.

What FSDP2 does around a call of a module, streaming would have it do for every chunk; and it would
miss the gradients, which come at the end. So here parameters are gathered once, the functions run
on whole ones, and each gradient is reduced once into its shard.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from revrnn.errors import RevRNNError

from .repeat import modules_of

_FSDP = "torch.distributed.fsdp"


@contextmanager
def whole_parameters(*used: object) -> Iterator[None]:
    """Make parameters whole for the time of the block; then add their averaged gradients.

    After an error no gradient is added.

    Args:
        used: modules and functions, whose modules are found as :func:`modules_of` finds them.
    """
    if not (dist.is_available() and dist.is_initialized() and _FSDP in sys.modules):
        yield
        return
    modules = modules_of(used)
    _shard_again(modules)
    made = _gathered(modules)
    hooks = _without_hooks(modules) if made else []
    places = [
        (module, name, value)
        for module in modules
        for name, value in module._parameters.items()
        if id(value) in made
    ]
    for module, name, value in places:
        module._parameters[name] = made[id(value)][1]
    try:
        yield
    finally:
        for module, name, value in places:
            module._parameters[name] = value
        for own, before in hooks:
            since = dict(own)
            own.clear()
            own.update(before | since)
    for sharded, full in made.values():
        if full.grad is not None:
            _reduce(sharded, full)


def check_present(leaf: Tensor | None) -> None:
    """Raise for a parameter that FSDP2 has let go of: its gradient would never reach the shard.

    It belongs to a module that was not found, and whose calls FSDP2 saw, chunk by chunk.
    """
    if type(leaf) not in (Tensor, nn.Parameter) or not dist.is_available():
        return
    assert leaf is not None
    if leaf.layout == torch.strided and leaf.numel() and not leaf.untyped_storage().size():
        given = f"a function with a sharded module, parameter {list(leaf.shape)}, out of sight"
        allowed = "modules themselves, or functions that close over them"
        raise RevRNNError("E_UNSUPPORTED", "embed, readout", given, allowed)


def _shard_again(modules: list[nn.Module]) -> None:
    """Have parameters sharded that a call outside left whole, as saving them does."""
    for module in modules:
        for hook in list(module._state_dict_pre_hooks.values()):
            if _is_fsdp(hook):
                hook(module, "", False)


def _gathered(modules: list[nn.Module]) -> dict[int, tuple[Any, nn.Parameter]]:
    """Return sharded parameters by their ``id``, each with the whole one."""
    from torch.distributed.tensor import DTensor

    made: dict[int, tuple[Any, nn.Parameter]] = {}
    for module in modules:
        values: list[object] = list(module._parameters.values())
        for value in values:
            if isinstance(value, DTensor) and id(value) not in made:
                sharded: Any = value
                full = sharded.detach().full_tensor()
                made[id(value)] = sharded, nn.Parameter(full, sharded.requires_grad)
    return made


def _without_hooks(modules: list[nn.Module]) -> list[tuple[dict[int, Any], dict[int, Any]]]:
    """Take FSDP2's own hooks away; return what they were taken from, and how it was."""
    changed: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for module in modules:
        for own in (module._forward_pre_hooks, module._forward_hooks):
            theirs = [key for key, hook in own.items() if _is_fsdp(hook)]
            if theirs:
                changed.append((own, dict(own)))
                for key in theirs:
                    del own[key]
    return changed


def _is_fsdp(hook: object) -> bool:
    return str(getattr(hook, "__module__", "")).startswith(_FSDP)


def _reduce(sharded: Any, full: nn.Parameter) -> None:
    """Add the mean over processes to the gradient of a shard; hooks of the parameter see it."""
    from torch.distributed.tensor import DTensor, Partial

    mesh = sharded.device_mesh
    assert full.grad is not None
    parts = DTensor.from_local(full.grad / mesh.size(), mesh, [Partial()] * mesh.ndim)
    full.grad = None
    torch.autograd.backward([sharded], [parts.redistribute(placements=sharded.placements)])
