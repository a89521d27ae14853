"""An encoder by chunks, of whose states only slices are kept, for attention (SEQ-007)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from revrnn.errors import RevRNNError

from .distributed import check_not_sharded
from .dropout import one_sequence
from .failures import undone_on_failure
from .modes import seen_whole
from .modules import RevRNNBase
from .own_settings import Own
from .quantise import dequantise
from .repeat import modules_of
from .run import Run
from .state import State
from .transforms import not_compiled


@not_compiled
@seen_whole
def encode(
    module: RevRNNBase,
    inputs: Any,
    *,
    embed: Callable[[Any], Tensor] | None = None,
    state: State | None = None,
    mask: Tensor | None = None,
    chunk_size: int | None = None,
    checkpoint_every: int | None = None,
    offload: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run an encoder by chunks and return its slices for attention, differentiable (SEQ-007).

    Neither embedded inputs nor outputs of the whole sequence exist. Gradients flow as usual to the
    module's parameters, to ``inputs`` and to the parameters that ``embed`` uses for its first
    chunk. Parameters that it uses for later chunks alone, and tensors with a graph of their own,
    get theirs during the backward pass, where ``torch.autograd.grad`` does not see them. Pre-hooks
    of the module run as in streaming; forward hooks do not, as in ``module.encode``.

    ``module`` is the recurrent module, in one direction, with ``slice_size`` of 1 or more; other
    arguments are those of :func:`~revrnn.torch_impl.value_and_grad`.

    Returns:
        The first ``slice_size`` units after each step, float32 ``[T, B, D]``; the final ``h``
        ``[L, B, H]``; the final ``c`` or ``None``.
    """
    if isinstance(module, RevRNNBase) and not module.config.slice_size:
        raise RevRNNError("E_ARGUMENT", "slice_size", 0, "at least 1, to encode")
    for function in modules_of(embed):
        check_not_sharded("embed", function)
    back = torch.is_grad_enabled()
    with undone_on_failure(module, embed), one_sequence() as sequence:
        own = Own(chunk_size, checkpoint_every, offload)
        run = Run(module, inputs, embed, None, state, {"mask": mask}, own, back=back)
        leaves = run.leaves() if back else []
        held = [*run.tensors.values(), *leaves]
        context, h_n, c_n = _Encode.apply(run, sequence, len(leaves), *held)  # type: ignore[no-untyped-call]
    return context, h_n, c_n


class _Encode(torch.autograd.Function):
    """An encoder whose outputs are its slices."""

    @staticmethod
    def forward(ctx: Any, run: Run, sequence: Any, others: int, *tensors: Tensor) -> Any:
        depth, bits = run.config.slice_size, run.config.formats.state_bits
        ctx.run, ctx.bptt, ctx.used = run, run.bptt(), False
        ctx.sequence, ctx.leaves = sequence, tensors[len(tensors) - others :]
        ctx.set_materialize_grads(False)
        size = run.steps, run.rows, depth
        context = torch.empty(size, dtype=torch.float32, device=run.device)

        def outputs(first: int, h: Tensor) -> None:
            context[first : first + len(h)] = dequantise(h[:, :, :depth], bits)

        ctx.bptt.forward(run.inputs.forwards, outputs, keep=any(ctx.needs_input_grad))
        run.inputs.check()
        end, _ = ctx.bptt.end, run.saturation(ctx.bptt)
        return context, run.floats(end.h), None if end.c is None else run.floats(end.c)

    @staticmethod
    @not_compiled
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        run, (grad_context, grad_h, grad_c) = ctx.run, gradients
        if torch.is_grad_enabled() or ctx.used:
            raise RevRNNError("E_UNSUPPORTED", "backward", "twice", "once, first derivatives")
        ctx.used = True

        def of_outputs(first: int, h: Tensor) -> Tensor | None:
            if grad_context is None:
                return None
            wide = h.new_zeros(h.shape, dtype=torch.float32)
            wide[:, :, : run.config.slice_size] = grad_context[first : first + len(h)]
            return wide

        undone = undone_on_failure(run.module, run.inputs.embed)
        with undone, one_sequence(ctx.sequence):
            grads = run.gradients(ctx.bptt, (grad_h, grad_c), of_outputs, run.inputs.backward)
        run.inputs.cut.hand_on(run.into)
        for name, tensor in run.tensors.items():
            run.into.add(tensor, grads.params[name].to(tensor.dtype))
        own = run.into.gradients_of(run.tensors.values())
        known = run.into.gradients_of(ctx.leaves)
        run.into.hand_on(retain_graph=True)  # to tensors that are no inputs of this function
        return None, None, None, *own, *known
