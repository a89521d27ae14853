"""Training and evaluation by chunks: nothing of size steps × batch × hidden ever exists.

The inputs of the recurrent stack are computed from the user's data chunk by chunk, in the forward
and again in the backward pass; the readout and its loss run once, in the backward pass, on
recovered outputs. Gradients are collected until the end, and passed on in one backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from revrnn.saturation import Saturation

from .autograd import Output
from .bptt import Bptt
from .checks import check_reduction, flag
from .dropout import one_sequence
from .failures import undone_on_failure
from .modules import Floats, RevRNNBase
from .own_settings import Own
from .report import LayerReport, MemoryReport, report_of
from .run import Run
from .sharded import whole_parameters
from .state import State
from .stream_checks import check_readout, check_scale, check_targets
from .transforms import not_compiled


class Readout(Protocol):
    """A function from outputs to a loss."""

    def __call__(self, outputs: Tensor, targets: Any, /) -> Tensor | tuple[Tensor, Tensor | float]:
        """Return the loss of a chunk's outputs ``[C, B, H]`` and targets.

        Either a scalar, which with reduction ``"mean"`` is a mean or a sum over the chunk's steps;
        or ``(sum, count)``: the sum of the losses and the number of targets, both of which are
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
        report: what it cost to remember, if ``report`` was set.
        grad_hx: the gradient with respect to ``hx``, as :func:`value_and_grad` was given it.
        saturation: the share of inputs and states at the ends of their ranges.
    """

    loss: Tensor
    state: State
    h_n: Tensor
    c_n: Tensor | None
    wraps: int
    report: MemoryReport | None = None
    grad_hx: Floats = None
    saturation: Saturation | None = None


@not_compiled
def value_and_grad(
    module: RevRNNBase,
    inputs: Any,
    targets: Any,
    readout: Readout,
    *,
    embed: Callable[[Any], Tensor] | None = None,
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
    returns the result of ``F.cross_entropy`` or ``F.nll_loss`` unchanged, gives what these give for
    all steps at once, wherever ignored targets and class weights occur. So does a scalar that is a
    mean over all or some of a chunk's steps, or a sum; if its computation does not show which, the
    readout is also called for parts of every chunk. A scalar that is neither is an error. ``(sum,
    count)`` states the weight of a chunk, for any loss. If nothing counts, the mean is NaN and
    gradients are 0.

    Gradients reach the module's parameters and all that ``embed`` and ``readout`` use, by ordinary
    autograd: parameters, and tensors with a graph of their own, which is differentiated once, at
    the end. They are collected until then, in float32 if they are narrower, so a call that fails
    changes no ``.grad``, and hooks of parameters see whole gradients. That takes the memory of one
    more gradient where there is a ``.grad`` already. Hooks of tensors with a graph of their own
    also see the chunks' parts. The count of ``(sum, count)`` is known only at the end, so gradients
    inside ``readout`` and ``embed`` are those of the sum over steps × rows, and are rescaled then.

    ``embed`` is called a second time in the backward pass and must return the same (random numbers
    are drawn again, BatchNorm counts once); ``docs/limits.md`` says what both functions must obey.

    Forward pre-hooks of the module run as in a call, once if they do not look at the input; those
    that do, and forward hooks, see a chunk at a time. DistributedDataParallel does not see
    streaming: give the bare module, then call ``average_gradients``. Parameters that FSDP2 shards
    are gathered for the call, in their own type, and gradients are averaged into the shards.

    Args:
        module: the recurrent module, in one direction.
        inputs: ``[T, B, …]``, of any type: tokens, features. Steps come first, also for a module
            with ``batch_first``. Floats may require a gradient. With ``embed`` also dicts, lists
            and tuples of such, of which it is given cuts.
        targets: anything that can be cut by ``targets[first:stop]`` along the steps, or dicts,
            lists and tuples of such; a list or tuple of T members is cut itself.
        readout: from outputs ``[C, B, H]`` and the targets' cut to a scalar loss or ``(sum,
            count)``. For large vocabularies :class:`LinearCrossEntropy` takes the least memory.
        embed: from a cut of the inputs to float ``[C, B, input_size]``; without it inputs are that.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]``, for instance an
            encoder's final state. Its gradient is returned, and goes no further (GRAD-004).
        state: exact state that another call returned, instead; without either a fresh one.
        mask: bool ``[T, B]``, which steps a row has (SEQ-002). At other steps the readout sees the
            unchanged outputs, which count in the loss unless their targets are ignored.
        resets: bool ``[T, B]``, where a row starts anew from zero (SEQ-013).
        reduction: ``"mean"``: the loss of the sequence, see above; ``"sum"``: losses of chunks
            are added, of ``(sum, count)`` the sums. A :class:`LinearCrossEntropy` gives the sum of
            all losses if either says so.
        loss_scale: factor of the gradients, but not of the returned loss.
        chunk_size: steps handled together, at most, by default the module's, else 16 or
            nearly so many. It bounds the logits that exist at a time.
        checkpoint_every: see :func:`revrnn.torch_impl.rev_rnn`; by default the module's.
        offload: by default the module's.
        report: whether to count what is forgotten and stored, which takes time.
        through_hx: whether the gradient of ``hx`` also goes on to what ``hx`` was made from, in the
            same backward pass as the graphs of ``embed`` and ``readout``. That spares a reversible
            encoder a second one; :func:`encode`, which allows one alone, needs it.

    Raises:
        RevRNNError: bad input, by the argument's name; ``E_NONFINITE`` if ``embed`` gives NaN, or
            ``readout`` as the mean of a chunk; ``E_REVERSAL`` (SEQ-009), of ``embed`` if it
            returned something else the second time.
    """
    scales: list[Tensor] = []

    def check(steps: int, rows: int, device: torch.device) -> None:
        check_readout(readout, module)
        check_targets(targets, readout, steps, rows, device)
        check_reduction(reduction)
        scales.append(check_scale(loss_scale, device))
        flag("through_hx", through_hx)

    used = module, embed, readout
    undone, whole = undone_on_failure(*used), whole_parameters(*used, train=True)
    with torch.inference_mode(False), undone, whole as others_come, torch.enable_grad():
        with one_sequence():
            own = Own(chunk_size, checkpoint_every, offload, report)
            by_step = {"mask": mask, "resets": resets}
            run = Run(module, inputs, embed, hx, state, by_step, own, back=True, check=check)
            loss, bptt, grad_hx, hand_on = run.train(
                targets, readout, reduction == "mean", scales[0], through_hx
            )
            made = _streamed(run, loss, bptt, grad_hx)
        others_come()
        hand_on()
    return made


@not_compiled
def value(
    module: RevRNNBase,
    inputs: Any,
    targets: Any,
    readout: Readout,
    *,
    embed: Callable[[Any], Tensor] | None = None,
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

    used = module, embed, readout
    undone, whole = undone_on_failure(*used), whole_parameters(*used, train=False)
    with torch.inference_mode(False), undone, whole, one_sequence(), torch.no_grad():
        own, by_step = Own(chunk_size, offload=False), {"mask": mask, "resets": resets}
        run = Run(module, inputs, embed, hx, state, by_step, own, back=False, check=check)
        loss, bptt = run.measure(targets, readout, reduction == "mean")
    return _streamed(run, loss, bptt)


def _streamed(run: Run, loss: Tensor, bptt: Bptt, grad_hx: Floats = None) -> Streamed:
    end = bptt.end
    c_n = None if end.c is None else run.floats(end.c)
    report = report_of(run.config, bptt, run.mask, run.rows) if run.settings.count else None
    saturation = run.saturation(bptt)
    return Streamed(loss, end, run.floats(end.h), c_n, bptt.wraps, report, grad_hx, saturation)


torch.serialization.add_safe_globals([Streamed, Output, MemoryReport, LayerReport, Saturation])
