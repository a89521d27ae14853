"""What PyTorch does with functions besides calling them: what works, what is refused in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C import _functorch
from torch._subclasses.fake_tensor import is_fake

from revrnn.errors import RevRNNError


def is_abstract(tensors: Iterable[Tensor]) -> bool:
    """Say whether some tensors have a shape, but no numbers: of the meta device, or fake."""
    return any(value.is_meta or is_fake(value) for value in tensors)


def transformed() -> bool:
    """Say whether a transform of ``torch.func`` is at work."""
    return _functorch.peek_interpreter_stack() is not None


def mapped() -> bool:
    """Say whether a ``torch.vmap`` is at work."""
    levels: Any = _functorch.get_interpreter_stack() or ()
    return any(level.key() == _functorch.TransformType.Vmap for level in levels)


def refuse_second_derivative() -> NoReturn:
    """Raise ``E_UNSUPPORTED`` (GRAD-022)."""
    raise RevRNNError("E_UNSUPPORTED", "create_graph", "True", "False: first-order gradients")


def check_surroundings(x: Tensor) -> None:
    """Raise ``E_UNSUPPORTED`` under what cannot look at numbers, or would fix them.

    Raises:
        RevRNNError: it names ``torch.jit.trace``, or the capture of a CUDA graph.
    """
    if torch.jit.is_tracing():
        allowed = "a call as it is, or torch.export"
        raise RevRNNError("E_UNSUPPORTED", "torch.jit.trace", "a traced call", allowed)
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RevRNNError("E_UNSUPPORTED", "CUDA graphs", "a captured call", "a call outside")
