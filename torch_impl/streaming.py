"""Training and evaluation by chunks: nothing of size steps × batch × hidden ever exists.

The inputs of the recurrent stack are computed from the user's data chunk by chunk, forwards and
again on the way back; the readout and its loss run on the way back alone, once, on recovered
outputs. Gradients are collected until the end, and handed on in one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from revrnn.errors import RevRNNError
from revrnn.saturation import Saturation, warn_of_saturation

from .bptt import Bptt
from .dropout import one_sequence
from .modules import Floats, RevRNNBase
from .quantise import dequantise
from .report import MemoryReport, report_of
from .run import Run
from .sharded import whole_parameters
from .state import State
from .stream_checks import check_flag, check_readout, check_reduction, check_scale, check_targets


class Readout(Protocol):
    """What turns outputs into a loss."""

    def __call__(self, outputs: Tensor, targets: Any, /) -> Tensor | tuple[Tensor, Tensor | float]:
        """Return the loss of a chunk's outputs ``[C, B, H]`` and targets.

        Either a scalar, which with reduction ``"mean"`` is a mean or a sum over the chunk's steps;
        or ``(sum, count)``: what the losses come to, and over how many targets, both of which are
        added up over all chunks.
        """


@dataclass(frozen=True)
class Streamed:
    """What :func:`value_and_grad` and :func:`value` return.

    Attributes:
        loss: a scalar, without a graph, in float32 or float64.
        state: the exact final state, to be given to the next call.
        h_n: float ``[L, B, H]``, the final ``h``.
        c_n: the same for RevLSTM, else ``None``.
        wraps: how often a state wrapped (MUL-006).
        report: what it cost to remember, if asked for.
        grad_hx: the gradient with respect to ``hx``, as :func:`value_and_grad` was given it.
        saturation: how much of inputs and states lies at the end of its range.
    """

    loss: Tensor
    state: State
    h_n: Tensor
    c_n: Tensor | None
    wraps: int
    report: MemoryReport | None = None
    grad_hx: Floats = None
    saturation: Saturation | None = None


def value_and_grad(
    module: RevRNNBase,
    inputs: Tensor,
    targets: Any,
    readout: Readout,
    *,
    embed: Callable[[Tensor], Tensor] | None = None,
    hx: Floats = None,
    state: State | None = None,
    mask: Tensor | None = None,
    resets: Tensor | None = None,
    reduction: str = "mean",
    loss_scale: float | Tensor = 1.0,
    chunk_size: int | None = None,
    checkpoint_every: int | None = None,
    offload: bool | None = None,
    report: bool = False,
    through_hx: bool = False,
) -> Streamed:
    """Compute a loss over a sequence and add its gradients to ``.grad``.

    The loss is that of the whole sequence. A readout that is a :class:`LinearCrossEntropy`, or that
    returns the very result of ``F.cross_entropy`` or ``F.nll_loss``, gives what these would give of
    all steps at once, however its ignored targets and class weights are spread. So does a scalar
    that is seen to be a mean over all or some of a chunk's steps, or a sum; where it is not seen
    from its computation, the readout is also called for parts of every chunk. A scalar that
    is neither is an error. ``(sum, count)`` says how much a chunk weighs whatever it was made of.
    If nothing counts, the mean is NaN and gradients are 0.

    Gradients reach the module's parameters and all that ``embed`` and ``readout`` use, by ordinary
    autograd: parameters, and tensors that hang on a graph of their own, which is gone through once,
    at the end. They are collected until then, in float32 if they are narrower, so a call that fails
    changes no ``.grad``, and hooks of parameters see whole gradients. That takes the memory of one
    more gradient where there is a ``.grad`` already. Hooks of tensors of an outer graph are also
    shown the parts. The count of ``(sum, count)`` is known at the end alone, so gradients inside
    ``readout`` and ``embed`` are those of the sum over steps × rows, and are put right then.

    ``embed`` is called a second time on the way back and must repeat itself (random numbers are
    drawn again, BatchNorm counts once); ``docs/limits.md`` says what is asked of both functions.

    Forward pre-hooks of the module run as in a call, once if they do not look at the input; those
    that do, and forward hooks, see a chunk at a time. DistributedDataParallel sees nothing of this:
    give the bare module, then ``average_gradients``. What FSDP2 shards is made whole for the call,
    in the type of its parameters, and gradients are averaged into the shards.

    Args:
        module: the recurrent module, in one direction.
        inputs: ``[T, B, …]``, of any type: tokens, features. Steps come first, also for a module
            with ``batch_first``. Floats may require a gradient.
        targets: anything that can be cut by ``targets[first:stop]`` along the steps.
        readout: from outputs ``[C, B, H]`` and the targets' cut to a scalar loss or ``(sum,
            count)``. For large vocabularies :class:`LinearCrossEntropy` takes the least memory.
        embed: from a cut of the inputs to float ``[C, B, input_size]``; without it inputs are that.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]``, of a decoder for
            instance. Its gradient is returned, and goes no further by itself (GRAD-004).
        state: exact state that another call returned, instead; without either a fresh one.
        mask: bool ``[T, B]``, which steps a row has (SEQ-002); the readout sees the unchanged
            outputs of the others, which count like any unless their targets are ignored.
        resets: bool ``[T, B]``, where a row starts anew from zero (SEQ-013).
        reduction: ``"mean"``: the loss of the sequence, see above; ``"sum"``: losses of chunks
            are added, of ``(sum, count)`` the sums. A :class:`LinearCrossEntropy` gives the sum of
            all losses if either says so.
        loss_scale: what gradients, but not the loss returned, are multiplied by.
        chunk_size: steps handled together, by default the module's, else 16. It bounds the logits
            that exist at a time.
        checkpoint_every: see :func:`revrnn.torch_impl.rev_rnn`; by default the module's.
        offload: by default the module's.
        report: whether to count what is forgotten and stored, which takes time.
        through_hx: whether the gradient of ``hx`` also goes on to what ``hx`` was made from, in the
            same backward pass as what ``embed`` and ``readout`` hang on. A reversible encoder,
            whose backward pass can be had once, needs this.

    Raises:
        RevRNNError: bad input, by the argument's name; ``E_NONFINITE`` if ``embed`` gives NaN, or
            ``readout`` as the mean of a chunk; ``E_REVERSAL`` (SEQ-009), of ``embed`` if that did
            not repeat itself.
    """
    scales: list[Tensor] = []

    def check(steps: int, rows: int, device: torch.device) -> None:
        check_readout(readout, module)
        check_targets(targets, readout, steps, rows, device)
        check_reduction(reduction)
        scales.append(check_scale(loss_scale, device))
        check_flag("through_hx", through_hx)

    whole = whole_parameters(module, embed, readout)
    with torch.inference_mode(False), whole, one_sequence(), torch.enable_grad():
        run = Run(
            module,
            inputs,
            embed=embed,
            hx=hx,
            state=state,
            by_step={"mask": mask, "resets": resets},
            chunk_size=chunk_size,
            checkpoint_every=checkpoint_every,
            offload=offload,
            report=report,
            back=True,
            check=check,
        )
        loss, bptt, grad_hx = run.train(
            targets, readout, reduction == "mean", scales[0], through_hx
        )
    return _streamed(run, loss, bptt, grad_hx)


@torch.no_grad()
def value(
    module: RevRNNBase,
    inputs: Tensor,
    targets: Any,
    readout: Readout,
    *,
    embed: Callable[[Tensor], Tensor] | None = None,
    hx: Floats = None,
    state: State | None = None,
    mask: Tensor | None = None,
    resets: Tensor | None = None,
    reduction: str = "mean",
    chunk_size: int | None = None,
) -> Streamed:
    """Compute a loss as :func:`value_and_grad` does, without gradients, in constant memory."""

    def check(steps: int, rows: int, device: torch.device) -> None:
        check_readout(readout, module)
        check_targets(targets, readout, steps, rows, device)
        check_reduction(reduction)

    with whole_parameters(module, embed, readout), one_sequence():
        run = Run(
            module,
            inputs,
            embed=embed,
            hx=hx,
            state=state,
            by_step={"mask": mask, "resets": resets},
            chunk_size=chunk_size,
            back=False,
            check=check,
        )
        loss, bptt = run.measure(targets, readout, reduction == "mean")
    return _streamed(run, loss, bptt)


def encode(
    module: RevRNNBase,
    inputs: Tensor,
    *,
    embed: Callable[[Tensor], Tensor] | None = None,
    state: State | None = None,
    mask: Tensor | None = None,
    chunk_size: int | None = None,
    checkpoint_every: int | None = None,
    offload: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run an encoder by chunks and return its slices for attention, differentiable (SEQ-007).

    Neither embedded inputs nor outputs of the whole sequence exist. Gradients flow as usual to the
    module's parameters, to ``inputs`` and to the parameters that ``embed`` uses for its first
    chunk. Those that it uses for later ones alone, and tensors that hang on a graph of their own,
    have theirs added in the course of the backward pass, where ``torch.autograd.grad`` does not see
    them. Pre-hooks of the module run as in :func:`value_and_grad`; forward hooks do not, as in
    ``module.encode``.

    Args:
        module: the recurrent module, in one direction, with ``slice_size`` of 1 or more.
        inputs: as in :func:`value_and_grad`.
        embed: as there.
        state: as there.
        mask: as there.
        chunk_size: as there.
        checkpoint_every: as there.
        offload: as there.

    Returns:
        The first ``slice_size`` units after each step, float32 ``[T, B, D]``; the final ``h``
        ``[L, B, H]``; the final ``c`` or ``None``.
    """
    if isinstance(module, RevRNNBase) and not module.config.slice_size:
        raise RevRNNError("E_ARGUMENT", "slice_size", 0, "at least 1, to encode")
    back = torch.is_grad_enabled()
    with one_sequence() as sequence:
        run = Run(
            module,
            inputs,
            embed=embed,
            hx=None,
            state=state,
            by_step={"mask": mask},
            chunk_size=chunk_size,
            checkpoint_every=checkpoint_every,
            offload=offload,
            back=back,
        )
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
        context = torch.empty((run.steps, run.rows, depth), device=run.device)

        def outputs(first: int, h: Tensor) -> None:
            context[first : first + len(h)] = dequantise(h[:, :, :depth], bits)

        ctx.bptt.forward(run.inputs.forwards, outputs, keep=any(ctx.needs_input_grad))
        run.inputs.check()
        end, met = ctx.bptt.end, ctx.bptt.saturation.read()
        warn_of_saturation(
            met, run.config, "inputs" if run.inputs.embed is None else "embed's results"
        )
        return context, run.floats(end.h), None if end.c is None else run.floats(end.c)

    @staticmethod
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

        with one_sequence(ctx.sequence):
            grads = run.gradients(ctx.bptt, (grad_h, grad_c), of_outputs, run.inputs.backward)
        run.inputs.cut.hand_on(run.into)
        for name, tensor in run.tensors.items():
            run.into.add(tensor, grads.params[name].to(tensor.dtype))
        own = run.into.gradients_of(run.tensors.values())
        known = run.into.gradients_of(ctx.leaves)
        run.into.hand_on(retain_graph=True)  # to what is no input of this function
        return None, None, None, *own, *known


def _streamed(run: Run, loss: Tensor, bptt: Bptt, grad_hx: Floats = None) -> Streamed:
    end = bptt.end
    c_n = None if end.c is None else run.floats(end.c)
    report = report_of(run.config, bptt, run.mask, run.rows) if run.settings.count else None
    met = bptt.saturation.read()
    warn_of_saturation(met, run.config, "inputs" if run.inputs.embed is None else "embed's results")
    return Streamed(loss, end, run.floats(end.h), c_n, bptt.wraps, report, grad_hx, met)
