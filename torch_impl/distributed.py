"""Parameters and gradients that several processes share, for streaming.

Wrappers of modules (DistributedDataParallel, FSDP2) see calls, not streaming. So gradients of
replicated parameters are averaged by :func:`average_gradients`; :mod:`.sharded` is for FSDP2.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn

from revrnn.errors import RevRNNError

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


@contextmanager
def wrappers_refused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Raise ``E_UNSUPPORTED`` where a function calls a module wrapped by DDP, chunk by chunk.

    That may be one that it only refers to, for the module inside.
    """

    def refuse(module: nn.Module, _: Any) -> None:
        check_not_wrapped(**{"embed, readout": module})

    with ExitStack() as handles:
        for module in modules:
            if isinstance(module, _WRAPPERS):
                handles.callback(module.register_forward_pre_hook(refuse).remove)
        yield


def check_not_sharded(name: str, module: nn.Module, *, flat: bool = True) -> None:
    """Raise ``E_UNSUPPORTED`` for sharded parameters where nothing gathers them.

    ``flat`` is for those of FullyShardedDataParallel, which ``summon_full_params`` makes whole.
    """
    for parameter in module.parameters():
        if hasattr(parameter, "full_tensor") or (flat and is_flat(parameter)):
            allowed = "whole ones; what FSDP2 shards can be called, or given to value_and_grad"
            raise RevRNNError("E_UNSUPPORTED", name, "sharded parameters", allowed)


@torch.no_grad()
def average_gradients(*modules: nn.Module, group: Any = None) -> None:
    """Average ``.grad`` over processes, as DistributedDataParallel does after a backward pass.

    For training by chunks: ``value_and_grad(parallel.module, …)`` with the bare modules, then this.
    Every process calls it with the same modules. What shards parameters averages by itself.

    Args:
        modules: the modules; a gradient that a process does not have counts as zero, and one that
            none has stays ``None``.
        group: the processes, by default all.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if a parameter is sharded, if there is no group, or within
            ``join``; ``E_ARGUMENT`` for a group without this process, and, in all processes, if
            their parameters differ.
    """
    for module in modules:
        given: object = module
        if not isinstance(given, nn.Module):
            kind = type(given).__name__
            raise RevRNNError("E_ARGUMENT", "modules", kind, "modules, one after the other")
        check_not_sharded("modules", module)
        # It answers calls of DDP for processes that have no more data, and nothing else.
        if getattr(getattr(module, "_join_config", None), "enable", False):
            given, allowed = "a call within join", "as many steps in every process, without join"
            raise RevRNNError("E_UNSUPPORTED", "modules", given, allowed)
    if not (dist.is_available() and dist.is_initialized()):
        given = "one process without a group"
        raise RevRNNError("E_UNSUPPORTED", "group", given, "dist.init_process_group before it")
    size = dist.get_world_size(group) if group is None or _is_group(group) else -1
    if size < 1:  # of a group of others it is -1, by which gradients would be divided
        given = "a group without this process" if _is_group(group) else type(group).__name__
        allowed = "None, or what dist.new_group returns, in the processes that it is of"
        raise RevRNNError("E_ARGUMENT", "group", given, allowed)
    every = (p for module in modules for p in module.parameters() if p.requires_grad)
    parameters = list(dict.fromkeys(every))
    check_same("modules", parameters, [group])
    own = [0 if p.grad is None else 1 if p.grad.is_sparse else 2 for p in parameters]
    for parameter, any_has in zip(parameters, largest(own, parameters, [group]), strict=True):
        if not any_has:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad = parameter.grad.to_sparse(1) if any_has == 1 else parameter.grad
        elif any_has == 2 and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= size


def _is_group(group: object) -> bool:
    return group == dist.GroupMember.NON_GROUP_MEMBER or isinstance(group, dist.ProcessGroup)


# --- what processes tell one another --------------------------------------------------------------


def check_same(name: str, parameters: list[Any], groups: list[Any], call: object = None) -> None:
    """Raise ``E_ARGUMENT``, in all processes, unless they have as many parameters of these kinds.

    Else each would wait for what no other sends, or take another's numbers for its own. ``call``
    has to be the same too.
    """
    kinds = [
        (list(p.shape), p.dtype, p.requires_grad, str(getattr(p, "placements", "")))
        for p in parameters
    ]
    mark = zlib.crc32(repr((kinds, call)).encode())
    high, low = largest([mark, -mark], parameters, groups)
    if high != -low:
        given = "another call, or other parameters than in another process"
        raise RevRNNError("E_ARGUMENT", name, given, "the same in all, in the same order")


def largest(numbers: list[int], parameters: Iterable[Any], groups: list[Any]) -> list[int]:
    """Return the largest of each number over the processes; parameters say on which device."""
    devices = (getattr(p, "to_local", lambda p=p: p)().device for p in parameters)
    told = torch.tensor(numbers, dtype=torch.int64, device=next(devices, torch.device("cpu")))
    for group in groups if numbers else ():
        dist.all_reduce(told, dist.ReduceOp.MAX, group=group)
    return told.tolist()


def is_flat(parameter: object) -> bool:
    """Say whether it belongs to FullyShardedDataParallel, as PyTorch marks it."""
    return bool(getattr(parameter, "_fsdp_flattened", False))
