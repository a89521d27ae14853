"""Gradients of several processes, for streaming, which wrappers of modules do not see."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from revrnn.errors import RevRNNError

_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def check_not_wrapped(**used: object) -> None:
    """Raise ``E_UNSUPPORTED`` for what averages gradients of calls of its own (DDP), by name."""
    for name, one in used.items():
        wrapped = {name: one, f"{name}.linear": getattr(one, "linear", None)}
        for place, module in wrapped.items():
            if isinstance(module, _WRAPPERS):
                allowed = "the module inside, .module, and average_gradients afterwards"
                raise RevRNNError("E_UNSUPPORTED", place, type(module).__name__, allowed)


def check_not_sharded(module: nn.Module) -> None:
    """Raise ``E_UNSUPPORTED`` for sharded parameters (FSDP2), where nothing makes them whole."""
    if any(hasattr(parameter, "full_tensor") for parameter in module.parameters()):
        allowed = "whole parameters; what FSDP2 shards can be called, or given to value_and_grad"
        raise RevRNNError("E_UNSUPPORTED", "module", "sharded parameters", allowed)


@torch.no_grad()
def average_gradients(*modules: nn.Module, group: Any = None) -> None:
    """Average ``.grad`` over processes, as DistributedDataParallel does after a backward pass.

    For training by chunks: ``value_and_grad(parallel.module, …)`` with the bare modules, then this.
    Every process calls it with the same modules. FSDP2 averages by itself.

    Args:
        modules: whose parameters; a gradient that a process does not have counts as zero.
        group: the processes, by default all.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` if a parameter is sharded (FSDP2).
    """
    for module in modules:
        given: object = module
        if not isinstance(given, nn.Module):
            kind = type(given).__name__
            raise RevRNNError("E_ARGUMENT", "modules", kind, "modules, one after the other")
        check_not_sharded(module)
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    size = dist.get_world_size(group)
    for parameter in dict.fromkeys(parameters):
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= size
