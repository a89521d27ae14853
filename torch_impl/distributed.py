"""Parameters and gradients that several processes share, for streaming.

Wrappers of modules (DistributedDataParallel, FSDP2) see calls, not streaming. So gradients of
replicated parameters are averaged by :func:`average_gradients`. Parameters that FSDP2 shards are
gathered once for a whole sequence, where FSDP2 would gather them for every chunk and would miss the
gradients, which come at the end; each gradient is reduced once into its shard.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from revrnn.errors import RevRNNError

from .repeat import modules_of

_FSDP: Final = "torch.distributed.fsdp"
_WRAPPERS: Final = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def check_not_wrapped(**used: object) -> None:
    """Raise ``E_UNSUPPORTED`` for modules wrapped by DDP, which averages only its own calls.

    The recurrent module may not be wrapped by ``torch.compile`` either.
    """
    for name, one in used.items():
        wrapped = {name: one, f"{name}.linear": getattr(one, "linear", None)}
        for place, module in wrapped.items():
            if isinstance(module, _WRAPPERS):
                allowed = "the module inside, .module, and average_gradients afterwards"
                raise RevRNNError("E_UNSUPPORTED", place, type(module).__name__, allowed)
    module = used.get("module")
    if isinstance(getattr(module, "_orig_mod", None), nn.Module):
        given = f"a compiled module, {type(module).__name__}"
        allowed = "the module itself, ._orig_mod, whose steps need no compiling"
        raise RevRNNError("E_UNSUPPORTED", "module", given, allowed)


def check_not_sharded(module: nn.Module) -> None:
    """Raise ``E_UNSUPPORTED`` for sharded parameters (FSDP2) where nothing gathers them."""
    if any(hasattr(parameter, "full_tensor") for parameter in module.parameters()):
        allowed = "whole parameters; what FSDP2 shards can be called, or given to value_and_grad"
        raise RevRNNError("E_UNSUPPORTED", "module", "sharded parameters", allowed)


@torch.no_grad()
def average_gradients(*modules: nn.Module, group: Any = None) -> None:
    """Average ``.grad`` over processes, as DistributedDataParallel does after a backward pass.

    For training by chunks: ``value_and_grad(parallel.module, …)`` with the bare modules, then this.
    Every process calls it with the same modules. What shards parameters averages by itself.

    Args:
        modules: the modules; a gradient that a process does not have counts as zero.
        group: the processes, by default all.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if a parameter is sharded, or if there is no group.
    """
    for module in modules:
        given: object = module
        if not isinstance(given, nn.Module):
            kind = type(given).__name__
            raise RevRNNError("E_ARGUMENT", "modules", kind, "modules, one after the other")
        if any(map(_is_flat, module.parameters())):
            given, allowed = "sharded parameters", "whole ones: FSDP averages by itself"
            raise RevRNNError("E_UNSUPPORTED", "modules", given, allowed)
        check_not_sharded(module)
    if not (dist.is_available() and dist.is_initialized()):
        given = "one process without a group"
        raise RevRNNError("E_UNSUPPORTED", "group", given, "dist.init_process_group before it")
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    size = dist.get_world_size(group)
    for parameter in dict.fromkeys(parameters):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= size


# --- sharded parameters ---------------------------------------------------------------------------


@contextmanager
def whole_parameters(*used: object, train: bool) -> Iterator[None]:
    """Gather sharded parameters for the duration of the block; then add averaged gradients.

    After an error no gradient is added.

    Args:
        used: modules and functions; the modules of functions are those of :func:`modules_of`.
        train: whether gradients are computed.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` for parameters of FullyShardedDataParallel (FSDP1), which
            sees calls alone; its ``summon_full_params`` makes them whole, but has no gradients.
    """
    if not (dist.is_available() and dist.is_initialized() and _FSDP in sys.modules):
        yield
        return
    modules = modules_of(used)
    flat = [p for module in modules for p in module._parameters.values() if _is_flat(p)]
    if flat and (train or all(p is None or p.dim() < 2 for p in flat)):
        given = "parameters of FullyShardedDataParallel"
        allowed = "what fully_shard (FSDP2) shards, or what is not sharded"
        raise RevRNNError("E_UNSUPPORTED", "module, embed or readout", given, allowed)
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
    """Raise for a parameter that FSDP2 has freed: its gradient would never reach the shard.

    It belongs to a module that :func:`modules_of` did not reach, so that FSDP2 gathered its
    parameters chunk by chunk.
    """
    if type(leaf) not in (Tensor, nn.Parameter) or not dist.is_available():
        return
    assert leaf is not None
    if leaf.layout == torch.strided and leaf.numel() and not leaf.untyped_storage().size():
        given = f"a function that hides its sharded module, parameter {list(leaf.shape)}"
        allowed = "modules themselves, or functions that close over them"
        raise RevRNNError("E_UNSUPPORTED", "embed, readout", given, allowed)


def _shard_again(modules: list[nn.Module]) -> None:
    """Shard parameters again that an earlier call left gathered, as ``state_dict`` does."""
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
    """Remove FSDP2's hooks; return the dictionaries changed, and what they held."""
    changed: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for module in modules:
        for own in (module._forward_pre_hooks, module._forward_hooks):
            theirs = [key for key, hook in own.items() if _is_fsdp(hook)]
            if theirs:
                changed.append((own, dict(own)))
                for key in theirs:
                    del own[key]
    return changed


def _is_flat(parameter: object) -> bool:
    """Say whether it belongs to FullyShardedDataParallel, as PyTorch marks it."""
    return bool(getattr(parameter, "_fsdp_flattened", False))


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
