"""A reversible stack as a differentiable function: forward, and gradients by reversal (GRAD).

Code that reads numbers is inside :class:`RevRNNFunction`, where ``torch.func`` has unwrapped its
tensors: under ``grad``, ``vjp``, ``vmap`` and ``vmap`` of ``grad`` they are ordinary ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from .call import Call
from .transforms import (
    mapped_the_old_way,
    not_compiled,
    refuse_forward_mode,
    refuse_second_derivative,
    transformed,
)


def _sliced(tensors: tuple[Any, ...], dims: tuple[Any, ...], index: int) -> list[Any]:
    """Return one entry of what ``vmap`` maps over."""
    return [
        value if dim is None or not isinstance(value, Tensor) else value.select(dim, index)
        for value, dim in zip(tensors, dims, strict=True)
    ]


def _stacked(results: list[tuple[Any, ...]]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return results of all entries, and along which axis."""
    columns = list(zip(*results, strict=True))
    stacked = tuple(None if c[0] is None else torch.stack(c) for c in columns)
    return stacked, tuple(None if c is None else 0 for c in stacked)


class RevRNNFunction(torch.autograd.Function):
    """Quantised inputs forward, gradients by reversal backward."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> Any:
        """Return what :meth:`Call.run` does, as a tuple."""
        made = call.run(dict(zip(call.keys, tensors, strict=True)))
        call.results = list(made)
        return tuple(made.values())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the call, and the inputs that gradients are computed with."""
        call, *tensors = inputs
        ctx.call = call
        # Results of torch.func.vjp may be differentiated after the transform has ended.
        ctx.functional = transformed()
        ctx.set_materialize_grads(False)
        # Saved with the context, so that a change in place is noticed.
        kept = [t for key, t in zip(call.keys, tensors, strict=True) if _is_kept(key)]
        ctx.save_for_backward(*kept)
        ctx.mark_non_differentiable(*(t for t in output if not t.is_floating_point()))

    @staticmethod
    @not_compiled  # a compiled training step calls it without the frame that forward disabled
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradients of all inputs of ``forward``."""
        call, saved = ctx.call, ctx.saved_tensors
        functional = ctx.functional or transformed()
        if torch.is_grad_enabled() and not functional:
            refuse_second_derivative()  # GRAD-022
        if mapped_the_old_way(gradients):
            _refuse_batched()
        wants_x = ctx.needs_input_grad[1]
        back: Any = _Backward.apply if functional else _back
        of_inputs = back(call, wants_x, len(saved), *saved, *gradients)
        by_name = dict(zip(call.differentiated, of_inputs, strict=True))
        return None, *(
            by_name.get(key) if need else None
            for key, need in zip(call.keys, ctx.needs_input_grad[1:], strict=True)
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, *tensors: Any) -> Any:
        """Run the entries one after another."""
        call.children = [replace(call) for _ in range(info.batch_size)]
        results = [
            RevRNNFunction.apply(child, *_sliced(tensors, in_dims[1:], index))  # type: ignore[no-untyped-call]
            for index, child in enumerate(call.children)
        ]
        call.results = call.children[0].results
        return _stacked(results)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        """Refuse."""
        refuse_forward_mode()


def _refuse_batched() -> NoReturn:
    given = "over the backward pass alone (jacrev, is_grads_batched)"
    raise RevRNNError("E_UNSUPPORTED", "vmap", given, "over the function: vmap(grad(f))")


def _is_kept(key: str) -> bool:
    kinds = ("weight", "bias", "state")
    return key in ("x", "mask", "gains") or key.startswith(kinds)


def _back(call: Call, wants_x: bool, count: int, *tensors: Any) -> tuple[Any, ...]:
    kept = [key for key in call.keys if _is_kept(key)]
    given = dict(zip(kept, tensors[:count], strict=True))
    grads = dict(zip(call.results, tensors[count:], strict=True))
    return tuple(call.back(given, grads, wants_x))


class _Backward(torch.autograd.Function):
    """The backward pass under ``torch.func``, which differentiates and maps that as well."""

    @staticmethod
    def forward(call: Call, wants_x: bool, count: int, *tensors: Any) -> Any:
        return _back(call, wants_x, count, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        refuse_second_derivative()

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: Call, wants_x: bool, count: int, *tensors: Any) -> Any:
        if call.children is None:
            _refuse_batched()
        results = [
            _Backward.apply(child, wants_x, count, *_sliced(tensors, in_dims[3:], index))  # type: ignore[no-untyped-call]
            for index, child in enumerate(call.children)
        ]
        return _stacked(results)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        refuse_second_derivative()
