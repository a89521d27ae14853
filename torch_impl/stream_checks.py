"""Checks of the streaming functions' arguments, before any work is done (ERR-004)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from revrnn.errors import RevRNNError, shown
from revrnn.functions import check_takes
from revrnn.plan import check_shape

from .checks import check_dense
from .distributed import check_not_wrapped
from .modules import RevRNNBase
from .readout import LinearCrossEntropy
from .shortcuts import has_plain_forward, is_plain_embedding, is_plain_linear
from .transforms import check_surroundings, forward_mode, is_abstract, refuse_forward_mode
from .trees import Tree, named_leaves, tree_of

_NUMBERS: Final = "numbers: streaming looks at losses"


def check_module(module: object) -> None:
    """Raise unless ``module`` can be streamed."""
    if not isinstance(module, RevRNNBase):
        given = type(module).__name__
        raise RevRNNError("E_ARGUMENT", "module", given, "a RevGRU or RevLSTM")
    if module.bidirectional:
        given = "bidirectional=True"
        raise RevRNNError("E_UNSUPPORTED", "module", given, "one direction")
    if type(module).forward is not RevRNNBase.forward or not has_plain_forward(module):
        given = f"{type(module).__name__} with a forward of its own"
        allowed = "RevGRU and RevLSTM: layers before and after belong in embed and readout"
        if "_hf_hook" in module.__dict__:
            given = f"{type(module).__name__} with a hook of accelerate"
            allowed = "one without: accelerate.hooks.remove_hook_from_module(module)"
        raise RevRNNError("E_UNSUPPORTED", "module", given, allowed)
    if not any(True for _ in module.parameters()):
        given = "a module without parameters, as FullyShardedDataParallel leaves it"
        raise RevRNNError("E_UNSUPPORTED", "module", given, "its own parameters, or fully_shard")
    if torch._C._functorch.peek_interpreter_stack() is not None:
        given = "a call inside torch.func"
        raise RevRNNError("E_UNSUPPORTED", "module", given, "calls outside: gradients go to .grad")
    if forward_mode():  # which would give a loss without a tangent
        refuse_forward_mode()
    check_surroundings(module.any_weight())


def check_inputs(inputs: Any, embed: object, input_size: int, device: torch.device) -> Any:
    """Return ``inputs``, several as a :class:`.trees.Tree`.

    Raises:
        RevRNNError: unless they have steps and rows, and the features if nothing embeds them.
    """
    if device.type == "meta":
        raise RevRNNError("E_UNSUPPORTED", "module", "parameters on meta", _NUMBERS)
    leaves = named_leaves("inputs", inputs)
    for name, leaf in leaves:
        _check_array(name, leaf)
    tree = tree_of(inputs)
    if isinstance(tree, Tree):
        _check_alike(inputs, leaves, embed)
    if embed is not None:
        if not callable(embed):
            given = type(embed).__name__
            raise RevRNNError("E_ARGUMENT", "embed", given, "a function of a cut of the inputs")
        _check_function("embed", embed, 1, "a function of a cut of the inputs")
        if is_plain_embedding(embed) and inputs.dtype not in (torch.int64, torch.int32):
            allowed = "torch.int64 or torch.int32, of which embed takes rows"
            raise RevRNNError("E_DTYPE", "inputs", inputs.dtype, allowed)
        return tree
    if not inputs.is_floating_point():
        allowed = "floats [T, B, input_size], or embed, which makes them"
        raise RevRNNError("E_DTYPE", "inputs", inputs.dtype, allowed)
    if inputs.dim() != 3 or inputs.shape[2] != input_size:
        given = f"shape {list(inputs.shape)}"
        allowed = f"[T, B, {input_size}], steps first, or embed, which makes it"
        raise RevRNNError("E_SHAPE", "inputs", given, allowed)
    if inputs.device != device:
        given, allowed = f"device {inputs.device}", f"device {device}"
        raise RevRNNError("E_ARGUMENT", "inputs", given, allowed)
    return inputs


def _check_array(name: str, value: object) -> None:
    """Raise unless a value is a tensor that has steps and rows."""
    if not isinstance(value, Tensor):
        allowed = "a tensor [T, B, …], or with embed dicts, lists and tuples of them"
        raise RevRNNError("E_DTYPE", name, type(value).__name__, allowed)
    check_dense(name, value)
    check_shape(name, value.shape)
    if is_abstract([value]):
        raise RevRNNError("E_UNSUPPORTED", name, "a tensor without numbers (meta, fake)", _NUMBERS)
    if value.dim() < 2 or 0 in value.shape[:2]:
        given = f"shape {list(value.shape)}"
        raise RevRNNError("E_SHAPE", name, given, "[T, B, …], steps first, T and B at least 1")


def _check_alike(inputs: object, leaves: list[tuple[str, Any]], embed: object) -> None:
    """Raise unless several inputs have the same steps and rows, and a function takes them."""
    if not leaves or embed is None or is_plain_embedding(embed):
        allowed = "a tensor [T, B, …], or embed, a function that takes several"
        given = type(inputs).__name__ + ("" if leaves else " without tensors")
        raise RevRNNError("E_DTYPE", "inputs", given, allowed)
    (first, one), *others = leaves
    for name, leaf in others:
        if leaf.shape[:2] != one.shape[:2]:
            allowed = f"{list(one.shape[:2])} first, as {first}"
            raise RevRNNError("E_SHAPE", name, f"shape {list(leaf.shape)}", allowed)


def _check_function(name: str, function: object, count: int, allowed: str) -> None:
    """Raise ``E_ARGUMENT`` for a function that cannot be called with so many arguments."""
    if not isinstance(function, nn.Module):
        check_takes(name, function, count, allowed)
    # Hooks, and what stands around them, may change the arguments.
    elif not function._forward_pre_hooks and type(function).__call__ is nn.Module.__call__:
        check_takes(name, function, count, allowed, called=function.forward)


def check_targets(
    targets: Any, readout: object, steps: int, rows: int, device: torch.device
) -> None:
    """Raise unless there are targets for every step, of known classes."""
    if isinstance(readout, LinearCrossEntropy):
        readout.check_targets(targets, steps, rows, device)
        return
    leaves = named_leaves("targets", targets, steps)
    for name, leaf in leaves or [("targets", None)]:
        beside = f" in {_kind(targets)}" if name != "targets" else ""
        if isinstance(leaf, (Mapping, PackedSequence)) or not hasattr(leaf, "__getitem__"):
            given = type(leaf if leaves else targets).__name__ + beside
            allowed = "what can be cut by targets[first:stop], or dicts, lists and tuples of such"
            raise RevRNNError("E_ARGUMENT", name, given, allowed)
        if isinstance(leaf, Tensor) and (leaf.is_nested or leaf.layout != torch.strided):
            check_dense(name, leaf)
        if isinstance(leaf, Tensor) and is_abstract([leaf]):
            raise RevRNNError("E_UNSUPPORTED", name, "a tensor without numbers (meta)", _NUMBERS)
        scalar = getattr(leaf, "ndim", 1) == 0  # NumPy's too, which have no length
        length = 0 if scalar else len(leaf) if hasattr(leaf, "__len__") else steps
        if length != steps:
            given = f"{length} steps"
            if isinstance(leaf, Tensor):
                given = f"shape {list(leaf.shape)}"
            given += beside
            raise RevRNNError("E_SHAPE", name, given, f"{steps} steps, as inputs have them")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__} of {len(value)}"


def check_readout(readout: object, module: RevRNNBase) -> None:
    """Raise unless ``readout`` can be called, chunk by chunk, with the module's outputs."""
    check_not_wrapped(readout=readout)
    if isinstance(readout, LinearCrossEntropy) and not module._forward_hooks:
        width = getattr(readout.linear, "in_features", module.hidden_size)
        # That of a lazy layer is 0 until it is called.
        if width != module.hidden_size and not isinstance(readout.linear, nn.LazyLinear):
            allowed = f"the module's hidden_size, {module.hidden_size}"
            raise RevRNNError("E_SHAPE", "readout.linear", f"in_features={width}", allowed)
        like = module.any_weight()
        kind = readout.linear.weight.dtype if is_plain_linear(readout.linear) else like.dtype
        if kind != like.dtype and not torch.is_autocast_enabled(like.device.type):
            allowed = f"{like.dtype}, that of the module, or torch.autocast"
            raise RevRNNError("E_DTYPE", "readout.linear", kind, allowed)
    if not callable(readout):
        given = type(readout).__name__
        raise RevRNNError("E_ARGUMENT", "readout", given, "a function of outputs and targets")
    _check_function("readout", readout, 2, "a function of outputs and targets")


def check_scale(scale: object, device: torch.device) -> Tensor:
    """Raise unless ``scale`` is a finite number; return it as a tensor."""
    allowed = "a finite number, or a scalar tensor without a gradient"
    if isinstance(scale, Tensor):
        real = scale.numel() == 1 and not scale.is_complex() and scale.dtype != torch.bool
        real = real and not is_abstract([scale])
        if not real or scale.requires_grad:
            given = f"shape {list(scale.shape)}, {scale.dtype}, {scale.device}"
            given += ", requires_grad=True" * scale.requires_grad
            raise RevRNNError("E_ARGUMENT", "loss_scale", given, allowed)
        # A tensor on another device is not checked, which would wait for that device.
        if scale.device.type == "cpu" and not bool(torch.isfinite(scale)):
            raise RevRNNError("E_NONFINITE", "loss_scale", float(scale), allowed)
        wide = scale.dtype if scale.dtype == torch.float64 else torch.float32
        _narrow(scale.reshape(()).to(torch.float64))
        return scale.reshape(()).to(device, wide)
    plain: Any = scale
    number = isinstance(scale, (int, float, np.number, np.ndarray)) and np.size(plain) == 1
    if not number or isinstance(scale, bool) or np.asarray(plain).dtype.kind not in "iuf":
        raise RevRNNError("E_ARGUMENT", "loss_scale", shown(scale), allowed)
    try:
        value = float(np.asarray(plain).item())
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise RevRNNError("E_NONFINITE", "loss_scale", value, allowed)
    return _narrow(torch.tensor(value, device=device, dtype=torch.float64))


def _narrow(scale: Tensor) -> Tensor:
    """Return a scale in float32, the type of losses; refuse one that does not fit."""
    narrow = scale.to(torch.float32)
    if scale.device.type == "cpu" and not bool(torch.isfinite(narrow)):
        largest = torch.finfo(torch.float32).max
        raise RevRNNError("E_RANGE", "loss_scale", float(scale), f"at most {largest:.3g}")
    return narrow
