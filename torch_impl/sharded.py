"""Parameters that FSDP2 shards, for streaming.

They are gathered once for a whole sequence, where FSDP2 would gather them for every chunk and would
miss the gradients, which come at the end; each gradient is reduced once into its shard.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from revrnn.errors import RevRNNError

from .distributed import check_same, is_flat, largest, wrappers_refused
from .repeat import modules_of

_FSDP: Final = "torch.distributed.fsdp"
_PARALLEL: Final = "torch.distributed.tensor"


@contextmanager
def whole_parameters(*used: object, train: bool) -> Iterator[Callable[[], None]]:
    """Gather sharded parameters for the duration of the block; then add averaged gradients.

    After an error in any process no gradient is added, and the others raise too. Yields a function
    that waits until all have come so far, for the moment before anything else is written.

    Args:
        used: modules and functions; the modules of functions are those of :func:`modules_of`.
        train: whether gradients are computed.

    Raises:
        RevRNNError: ``E_UNSUPPORTED`` for parameters of FullyShardedDataParallel (FSDP1), which
            sees calls alone; its ``summon_full_params`` makes them whole, but has no gradients;
            and in all other processes if one fails.
    """
    if not (dist.is_available() and dist.is_initialized()):
        yield lambda: None
        return
    modules = modules_of(used)
    with wrappers_refused(modules if train else ()), _whole(modules, train) as others_come:
        yield others_come


@contextmanager
def _whole(modules: list[nn.Module], train: bool) -> Iterator[Callable[[], None]]:
    if _FSDP not in sys.modules:
        yield lambda: None
        return
    flat = [p for module in modules for p in module._parameters.values() if is_flat(p)]
    if flat and (train or all(p is None or p.dim() < 2 for p in flat)):
        given = "parameters of FullyShardedDataParallel"
        allowed = "what fully_shard (FSDP2) shards, or what is not sharded"
        raise RevRNNError("E_UNSUPPORTED", "module, embed or readout", given, allowed)
    _shard_again(modules)
    made = _gathered(modules, train)
    hooks = _without_hooks(modules) if made else []
    places = [
        (module, name, value)
        for module in modules
        for name, value in module._parameters.items()
        if id(value) in made
    ]
    for module, name, value in places:
        module._parameters[name] = made[id(value)][1]
    others = _Others([sharded for sharded, _ in made.values()] if train else [])
    try:
        yield others.come_so_far
    except Exception as error:  # an interrupt does not wait for others
        others.are_told()
        if "mixed torch.Tensor and DTensor" in str(error):
            raise _hidden("") from error
        raise
    finally:
        for module, name, value in places:
            module._parameters[name] = value
        for own, before in hooks:
            since = dict(own)
            own.clear()
            own.update(before | since)
    held = others.have([full.grad is not None for _, full in made.values()])
    for (sharded, full), one in zip(made.values(), held, strict=True):
        if one:
            _reduce(sharded, full)


class _Others:
    """The other processes of a call with sharded parameters."""

    def __init__(self, parameters: list[Any]) -> None:
        self.parameters, self._gone = parameters, False

    def come_so_far(self) -> None:
        """Wait for the others; raise if one of them has failed."""
        self.have([False] * len(self.parameters))

    def are_told(self) -> None:
        """Tell the others that this process fails, unless one did before."""
        if not self._gone:
            self._tell([1] * (1 + len(self.parameters)))

    def have(self, held: list[bool]) -> list[bool]:
        """Return which gradients any process has."""
        _, *some = self._tell([0, *held])
        if self._gone:
            given = "an error in another process"
            allowed = "calls that succeed in all processes"
            raise RevRNNError("E_UNSUPPORTED", "module, embed or readout", given, allowed)
        return list(map(bool, some))

    def _tell(self, numbers: list[int]) -> list[int]:
        self._gone = True  # also if they cannot be reached
        told = largest(numbers, self.parameters, _groups(self.parameters))
        self._gone = bool(told) and bool(told[0])
        return told


def check_present(leaf: Tensor | None) -> None:
    """Raise for a parameter that FSDP2 has freed: its gradient would never reach the shard.

    It belongs to a module that :func:`modules_of` did not reach, so that FSDP2 gathered its
    parameters chunk by chunk.
    """
    if type(leaf) not in (Tensor, nn.Parameter) or not dist.is_available():
        return
    assert leaf is not None
    if leaf.layout == torch.strided and leaf.numel() and not leaf.untyped_storage().size():
        raise _hidden(f", parameter {list(leaf.shape)}")


def _hidden(which: str) -> RevRNNError:
    given = f"a function that hides its sharded module{which}"
    allowed = "modules themselves, or functions that close over them"
    return RevRNNError("E_UNSUPPORTED", "embed, readout", given, allowed)


def _shard_again(modules: list[nn.Module]) -> None:
    """Shard parameters again that an earlier call left gathered, as ``state_dict`` does."""
    for module in modules:
        for hook in list(module._state_dict_pre_hooks.values()):
            if _is_of(_FSDP, hook):
                hook(module, "", False)


def _gathered(modules: list[nn.Module], train: bool) -> dict[int, tuple[Any, nn.Parameter]]:
    """Return sharded parameters by their ``id``, each with the whole one."""
    from torch.distributed.tensor import DTensor

    sharded: dict[int, Any] = {}
    for module in modules:
        parts: list[Any] = [p for p in module._parameters.values() if isinstance(p, DTensor)]
        # What tensor parallelism cuts has hooks that make tensors of its own: it stays as it is.
        if not any(_is_of(_PARALLEL, hook) for hook in _forward_hooks(module)):
            sharded |= {id(part): part for part in parts}
        elif any(part.device_mesh.ndim > 1 for part in parts):
            given, allowed = "parameters of tensor parallelism and FSDP2", "those of one of them"
            raise RevRNNError("E_UNSUPPORTED", "module, embed or readout", given, allowed)
    every = list(sharded.values())
    check_same("module, embed or readout", every, _groups(every), train)
    made: dict[int, tuple[Any, nn.Parameter]] = {}
    for key, one in sharded.items():
        made[key] = one, nn.Parameter(one.detach().full_tensor(), one.requires_grad)
    return made


def _groups(sharded: Iterable[Any]) -> list[Any]:
    """Return the groups of the processes that share parameters, one for each axis of a mesh."""
    meshes = dict.fromkeys(parameter.device_mesh for parameter in sharded)
    return [group for mesh in meshes for group in mesh.get_all_groups()]


def _without_hooks(modules: list[nn.Module]) -> list[tuple[dict[int, Any], dict[int, Any]]]:
    """Remove FSDP2's hooks; return the dictionaries changed, and what they held."""
    changed: list[tuple[dict[int, Any], dict[int, Any]]] = []
    for module in modules:
        for own in (module._forward_pre_hooks, module._forward_hooks):
            theirs = [key for key, hook in own.items() if _is_of(_FSDP, hook)]
            if theirs:
                changed.append((own, dict(own)))
                for key in theirs:
                    del own[key]
    return changed


def _is_of(package: str, hook: object) -> bool:
    return str(getattr(hook, "__module__", "")).startswith(package)


def _forward_hooks(module: nn.Module) -> list[Any]:
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _reduce(sharded: Any, full: nn.Parameter) -> None:
    """Add the mean over processes to the gradient of a shard; hooks of the parameter see it."""
    from torch.distributed.tensor import DTensor, Partial

    mesh = sharded.device_mesh
    gradient = torch.zeros_like(full) if full.grad is None else full.grad
    parts = DTensor.from_local(gradient / mesh.size(), mesh, [Partial()] * mesh.ndim)
    full.grad = None
    torch.autograd.backward([sharded], [parts.redistribute(placements=sharded.placements)])
