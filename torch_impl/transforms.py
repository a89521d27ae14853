"""Transforms of PyTorch around a call: which work, and errors for those that do not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch._C import _functorch
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from revrnn.errors import RevRNNError

F = TypeVar("F", bound=Callable[..., Any])

_REASON = (
    "revrnn looks at numbers on the host and has its own backward pass: torch.compile leaves its"
    " calls as they are, and compiles the model around them (so not with fullgraph=True)"
)


def not_compiled(function: F) -> F:
    """Have ``torch.compile`` leave a function as it is, with the reason in its messages."""
    disable: Any = torch.compiler.disable
    known = inspect.signature(disable).parameters
    left_alone: F = disable(function, **({"reason": _REASON} if "reason" in known else {}))
    return left_alone


def is_abstract(tensors: Iterable[Tensor]) -> bool:
    """Say whether some tensors have a shape but no numbers: meta or fake tensors."""
    return any(value.is_meta or is_fake(value) for value in tensors)


def is_wrapper(value: Tensor) -> bool:
    """Say whether a tensor's class has operations of its own, as DTensor and MaskedTensor do."""
    kind: Any = type(value)
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def transformed() -> bool:
    """Say whether a transform of ``torch.func`` is active."""
    return _functorch.peek_interpreter_stack() is not None


def mapped() -> bool:
    """Say whether a ``torch.vmap`` is active."""
    levels: Any = _functorch.get_interpreter_stack() or ()
    return any(level.key() == _functorch.TransformType.Vmap for level in levels)


def mapped_the_old_way(tensors: Iterable[Tensor | None]) -> bool:
    """Say whether ``torch.autograd.grad(is_grads_batched=True)`` is active."""
    return any(t is not None and _functorch.is_legacy_batchedtensor(t) for t in tensors)


def refuse_second_derivative() -> NoReturn:
    """Raise ``E_UNSUPPORTED`` (GRAD-022)."""
    raise RevRNNError("E_UNSUPPORTED", "create_graph", "True", "False: first-order gradients")


def forward_mode() -> bool:
    """Say whether a level of forward-mode differentiation is open, as in ``jvp``."""
    return forward_ad._current_level >= 0


def refuse_forward_mode() -> NoReturn:
    """Raise ``E_UNSUPPORTED`` (GRAD-022)."""
    allowed = "backward passes (grad, vjp)"
    raise RevRNNError("E_UNSUPPORTED", "jvp", "forward-mode differentiation", allowed)


def refuse_tracing() -> NoReturn:
    """Raise ``E_UNSUPPORTED``."""
    allowed = "a call outside of it"
    raise RevRNNError("E_UNSUPPORTED", "torch.jit.trace", "a call that is traced", allowed)


def check_surroundings(x: Tensor) -> None:
    """Raise ``E_UNSUPPORTED`` where a call is traced, recorded or captured.

    Raises:
        RevRNNError: it names ``torch.export`` (and its like), ``torch.jit.trace``, or the
            capture of a CUDA graph.
    """
    if get_proxy_mode() is not None and forward_mode():
        refuse_forward_mode()  # torch.func.linearize records what it differentiates
    exporting: Any = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    if exporting() or get_proxy_mode() is not None:
        allowed = "a call outside of it; save_parameters carries the weights"
        raise RevRNNError("E_UNSUPPORTED", "torch.export", "a call that is recorded", allowed)
    levels: Any = _functorch.get_interpreter_stack() or ()
    if any(level.key() == _functorch.TransformType.Functionalize for level in levels):
        name = "torch.func.functionalize"
        raise RevRNNError("E_UNSUPPORTED", name, "a call inside of it", "a call outside of it")
    jit: Any = torch.jit
    if jit.is_tracing():
        refuse_tracing()
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        given = "a call that is captured"
        raise RevRNNError("E_UNSUPPORTED", "CUDA graphs", given, "a call outside of the capture")


def as_leaf(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the node of a call for ``torch.fx.symbolic_trace``, as for ``nn.GRU``, or ``None``."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.fx.Proxy):
            given = {name: v for name, v in kwargs.items() if v is not None}
            path = value.tracer.path_of_module(module)  # type: ignore[attr-defined]
            return value.tracer.create_proxy("call_module", path, args, given)
    return None


class NotRecorded:
    """A module that ``torch.jit`` refuses by name, and what uses that (``torch.onnx``)."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Say that ``torch.jit.script`` cannot compile it."""
        allowed = "the module as it is"
        raise RevRNNError("E_UNSUPPORTED", "torch.jit.script", type(self).__name__, allowed)

    def _slow_forward(self, *_: Any, **__: Any) -> NoReturn:
        """Say that a call cannot be traced, whatever arguments the tracer makes up for it."""
        refuse_tracing()
