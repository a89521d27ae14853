"""Training and evaluation by chunks: nothing of size steps × batch × hidden ever exists.

The inputs of the recurrent stack are computed from the user's data chunk by chunk, forwards and
again on the way back; the readout and its loss run on the way back alone, once, on recovered
outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from revrnn.errors import RevRNNError, one_of

from .autograd import initial_floats, make_schedule, quantise_parameters, start_of
from .bptt import Bptt, Settings
from .checks import check_settings, check_tensor
from .dropout import one_sequence
from .gradients import Gradients
from .modules import Floats, RevRNNBase
from .quantise import check_finite, dequantise, operand_passes, quantise
from .readout import LinearCrossEntropy, add_embedding_gradient, adds_in_place
from .report import MemoryReport, report_of
from .state import State


class Readout(Protocol):
    """What turns outputs into a loss."""

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the loss, a scalar, of a chunk's outputs ``[C, B, H]`` and targets."""


@dataclass(frozen=True)
class Streamed:
    """What :func:`value_and_grad` and :func:`value` return.

    Attributes:
        loss: a scalar, without a graph.
        state: the exact final state, to be given to the next call.
        h_n: float ``[L, B, H]``, the final ``h``.
        c_n: the same for RevLSTM, else ``None``.
        wraps: how often a state wrapped (MUL-006).
        report: what it cost to remember, if asked for.
        grad_hx: the gradient with respect to ``hx``, as :func:`value_and_grad` was given it.
    """

    loss: Tensor
    state: State
    h_n: Tensor
    c_n: Tensor | None
    wraps: int
    report: MemoryReport | None = None
    grad_hx: Floats = None


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
) -> Streamed:
    """Compute a loss over a sequence and add its gradients to ``.grad``.

    Gradients reach the module's parameters and all parameters that ``embed`` and ``readout`` use,
    by ordinary autograd. Random numbers drawn in ``embed`` are drawn again on the way back. A
    :class:`LockedDropout` keeps its mask for the whole sequence if ``embed`` or ``readout`` is a
    module, or a method of one, that contains it.

    Gradients are added to ``.grad`` chunk by chunk, so hooks that expect one whole gradient, as
    DistributedDataParallel has them, do not see it: give the bare module and average ``.grad``
    afterwards.

    Args:
        module: the recurrent module, in one direction.
        inputs: ``[T, B, …]``, of any type: tokens, features.
        targets: anything that can be cut by ``targets[first:stop]`` along the steps.
        readout: from outputs ``[C, B, H]`` and the targets' cut to a scalar loss. For large
            vocabularies :class:`LinearCrossEntropy` takes the least memory.
        embed: from a cut of the inputs to float ``[C, B, input_size]``; without it inputs are that.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]``, of a decoder for
            instance. Its gradient is returned, and goes no further by itself (GRAD-004).
        state: exact state that another call returned, instead; without either a fresh one.
        mask: bool ``[T, B]``, which steps a row has (SEQ-002); the readout sees the unchanged
            outputs of the others.
        resets: bool ``[T, B]``, where a row starts anew from zero (SEQ-013).
        reduction: ``"mean"``: ``readout`` gives the mean over the steps of its cut, and the loss is
            the mean over all steps; ``"sum"``: losses of chunks are added.
        loss_scale: what gradients, but not the loss returned, are multiplied by.
        chunk_size: steps handled together, by default the module's, else 16. It bounds the logits
            that exist at a time.
        checkpoint_every: see :func:`revrnn.torch_impl.rev_rnn`; by default the module's.
        offload: by default the module's.
        report: whether to count what is forgotten and stored, which takes time.

    Raises:
        RevRNNError: bad input, by the argument's name, before any gradient is touched;
            ``E_NONFINITE`` if ``embed`` gives NaN; ``E_REVERSAL`` (SEQ-009).
    """
    run = _Run(module, inputs, embed, hx, state, mask, resets, reduction)
    settings = run.settings(chunk_size, checkpoint_every, offload, report)
    with one_sequence(embed, readout), torch.enable_grad():
        return run.train(targets, readout, settings, loss_scale)


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
    run = _Run(module, inputs, embed, hx, state, mask, resets, reduction)
    settings = run.settings(chunk_size, None, False, False)
    with one_sequence(embed, readout):
        return run.measure(targets, readout, settings)


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

    Neither embedded inputs nor outputs of the whole sequence exist. In the backward pass gradients
    of the parameters that ``embed`` uses are added to their ``.grad``; those of the module's
    parameters flow as usual. (So ``torch.autograd.grad`` sees the module's alone.)

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
    if not module.config.slice_size:
        raise RevRNNError("E_ARGUMENT", "slice_size", 0, "at least 1, to encode")
    run = _Run(module, inputs, embed, None, state, mask, None, "sum")
    settings = run.settings(chunk_size, checkpoint_every, offload, False)
    tensors = list(run.tensors.values())
    found = _Encode.apply(run, settings, *tensors)  # type: ignore[no-untyped-call]
    context, h_n, c_n = found
    return context, h_n, c_n


class _Run:
    """One sequence of a module, its inputs made from the user's data chunk by chunk."""

    def __init__(
        self,
        module: RevRNNBase,
        inputs: Tensor,
        embed: Callable[[Tensor], Tensor] | None,
        hx: Floats,
        state: State | None,
        mask: Tensor | None,
        resets: Tensor | None,
        reduction: str,
    ) -> None:
        given: object = module
        if not isinstance(given, RevRNNBase):
            given = type(module).__name__
            raise RevRNNError("E_ARGUMENT", "module", given, "a RevGRU or RevLSTM")
        module._one_direction("streaming")
        if not isinstance(inputs, Tensor) or inputs.dim() < 2 or 0 in inputs.shape[:2]:
            given = list(getattr(inputs, "shape", [])) or type(inputs).__name__
            raise RevRNNError("E_SHAPE", "inputs", given, "a tensor [T, B, …], T and B at least 1")
        if reduction not in ("mean", "sum"):
            raise RevRNNError("E_ARGUMENT", "reduction", repr(reduction), one_of(("mean", "sum")))
        config, device = module.config, module.weight_ih_l0.device
        self.module, self.data, self.embed, self.config = module, inputs, embed, config
        self.mean = reduction == "mean"
        self.steps, self.rows = inputs.shape[:2]
        # In the order in which the module draws its random numbers when it is called.
        (stack,) = module._stacks()
        self.tensors = module.stack_parameters(*stack)
        self.mask, gains = mask, module.gains(self.rows, device)
        self.schedule = make_schedule(config, self.steps, self.rows, device, mask, resets, gains)
        floats = initial_floats(hx, state, config, self.rows, device)
        check_finite(**self.tensors, **{f"hx[{i}]": value for i, value in enumerate(floats)})
        self.hx, self.start = hx, start_of(floats, state, config, self.rows, device)
        self._finite: list[Tensor] = []
        self._random: dict[int, Any] = {}
        self._made: dict[int, Tensor] = {}
        self._in_place = adds_in_place(embed)
        self._may_draw = embed is not None and not self._in_place
        kind = self.start.h.device.type
        self.users_autocast = torch.is_autocast_enabled(kind)
        self.autocast_dtype = torch.get_autocast_dtype(kind)

    def settings(
        self,
        chunk_size: int | None,
        checkpoint_every: int | None,
        offload: bool | None,
        report: bool,
    ) -> Settings:
        module = self.module
        chosen = chunk_size if chunk_size is not None else module.chunk_size
        every = checkpoint_every if checkpoint_every is not None else module.checkpoint_every
        kept = module.offload if offload is None else offload
        found = check_settings("reversed", chosen, every, kept)
        return Settings(found.chunk_size, "reversed", every, kept, report)

    def autocast(self, users: bool = True) -> torch.autocast:
        """Return the caller's autocast for the caller's functions, or none for our own work."""
        enabled = users and self.users_autocast
        kind = self.start.h.device.type
        return torch.autocast(kind, dtype=self.autocast_dtype, enabled=enabled)

    # --- inputs ------------------------------------------------------------------------------

    def _input(self, first: int, stop: int) -> Tensor:
        part = self.data[first:stop]
        with self.autocast():
            x = part if self.embed is None else self.embed(part)
        name = "embed" if self.embed else "inputs"
        shape = (stop - first, self.rows, self.config.input_size)
        check_tensor(name, x, None, shape, self.start.h.device)
        return x

    @torch.no_grad()
    def forwards(self, first: int, stop: int) -> Tensor:
        """Return a chunk's operands, for the first time."""
        # Only a function of the user's can draw random numbers; they are kept only where it did.
        before = _random_state(self.start.h.device) if self._may_draw else []
        x = self._input(first, stop)
        if before and not _same_random_state(before, _random_state(self.start.h.device)):
            self._random[first] = before
        self._finite.append(torch.isfinite(x).all())
        return quantise("operand", x, self.config.formats)

    @torch.no_grad()
    def again(self, first: int, stop: int) -> Tensor:
        """Return the same operands."""
        with _Replay(self._random.get(first), self.start.h.device):
            return quantise("operand", self._input(first, stop), self.config.formats)

    def backwards(self, first: int, stop: int) -> Tensor:
        """Return the same operands, keeping the graph by which they were made."""
        grad = not self._in_place
        with _Replay(self._random.get(first), self.start.h.device), torch.set_grad_enabled(grad):
            x = self._input(first, stop)
        if x.requires_grad or self._in_place:
            self._made[first] = x
        return quantise("operand", x.detach(), self.config.formats)

    def grad_inputs(self, first: int, dx: Tensor) -> None:
        """Carry a chunk's gradient on to what its input was made from."""
        x = self._made.pop(first, None)
        if x is None:
            return
        dx = dx * operand_passes(x.detach(), self.config.formats)  # GRAD-002
        if self._in_place:
            assert isinstance(self.embed, nn.Embedding)
            add_embedding_gradient(self.embed, self.data[first : first + len(dx)], dx)
        else:
            torch.autograd.backward(x, dx.to(x.dtype))

    def check_inputs(self) -> None:
        """Raise ``E_NONFINITE`` if an input was NaN or infinite, with one synchronisation."""
        if self._finite and not bool(torch.stack(self._finite).all()):
            name = "inputs" if self.embed is None else "embed"
            raise RevRNNError("E_NONFINITE", name, "NaN or infinity", "finite numbers")

    # --- runs --------------------------------------------------------------------------------

    def bptt(self, settings: Settings) -> Bptt:
        """Return the pass over the sequence."""
        params = quantise_parameters(self.tensors, self.config)
        return Bptt(self.config, params, self.steps, self.start, self.schedule, settings)

    def floats(self, h: Tensor) -> Tensor:
        """Return exact states as the module's outputs."""
        return self.module._cast(dequantise(h, self.config.formats.state_bits))

    def weight(self, outputs: Tensor) -> float:
        """Return what a chunk's loss counts."""
        return len(outputs) / self.steps if self.mean else 1.0

    def train(
        self, targets: Any, readout: Readout, settings: Settings, scale: float | Tensor
    ) -> Streamed:
        """Go forward, and back with the readout."""
        with torch.no_grad():
            bptt = self.bptt(settings)
            bptt.forward(self.forwards)
            self.check_inputs()
        total = torch.zeros((), device=self.start.h.device)

        def grad_outputs(first: int, h: Tensor) -> Tensor | None:
            outputs, part = self.floats(h), targets[first : first + len(h)]
            if isinstance(readout, LinearCrossEntropy) and not self.users_autocast:
                weight = self.weight(h)
                loss, gradient = readout.loss_and_grad(outputs, part, scale * weight)
                total.add_(loss * weight)
                return gradient
            outputs.requires_grad_()
            with torch.enable_grad():
                with self.autocast():
                    loss = readout(outputs, part)
                _check_loss(loss)
                loss = loss * self.weight(h)
                torch.autograd.backward(loss * scale)
            total.add_(loss.detach())
            return None if outputs.grad is None else outputs.grad.float()

        # Under autocast products of gradients would be rounded to fewer bits.
        with torch.no_grad(), self.autocast(users=False):
            grads = bptt.backward(
                self.again, self.backwards, (None, None), grad_outputs, self.grad_inputs
            )
        _spread(self.tensors, grads.params)
        return self._streamed(total, bptt, settings.count, self._grad_hx(grads))

    def measure(self, targets: Any, readout: Readout, settings: Settings) -> Streamed:
        """Go forward with the readout."""
        bptt, total = self.bptt(settings), torch.zeros((), device=self.start.h.device)

        def outputs(first: int, h: Tensor) -> None:
            part = targets[first : first + len(h)]
            with self.autocast():
                if isinstance(readout, LinearCrossEntropy):
                    loss, _ = readout.loss_and_grad(self.floats(h), part, None)
                else:
                    loss = readout(self.floats(h), part)
            _check_loss(loss)
            total.add_(loss * self.weight(h))

        bptt.forward(self.forwards, outputs, keep=False)
        self.check_inputs()
        return self._streamed(total, bptt, False)

    def _grad_hx(self, grads: Gradients) -> Floats:
        if self.hx is None or isinstance(self.hx, Tensor):
            return None if self.hx is None else grads.h.to(self.hx.dtype)
        found = [g for g in (grads.h, grads.c) if g is not None]
        return tuple(g.to(h.dtype) for g, h in zip(found, self.hx, strict=True))  # type: ignore[return-value]

    def _streamed(self, loss: Tensor, bptt: Bptt, count: bool, grad_hx: Floats = None) -> Streamed:
        end = bptt.end
        c_n = None if end.c is None else self.floats(end.c)
        report = report_of(self.config, bptt, self.mask, self.rows) if count else None
        return Streamed(loss, end, self.floats(end.h), c_n, bptt.wraps, report, grad_hx)


class _Encode(torch.autograd.Function):
    """An encoder whose outputs are its slices."""

    @staticmethod
    def forward(ctx: Any, run: _Run, settings: Settings, *tensors: Tensor) -> Any:
        depth, bits = run.config.slice_size, run.config.formats.state_bits
        ctx.run, ctx.bptt, ctx.used = run, run.bptt(settings), False
        ctx.set_materialize_grads(False)
        context = torch.empty((run.steps, run.rows, depth), device=run.start.h.device)

        def outputs(first: int, h: Tensor) -> None:
            context[first : first + len(h)] = dequantise(h[:, :, :depth], bits)

        ctx.bptt.forward(run.forwards, outputs, keep=any(ctx.needs_input_grad))
        run.check_inputs()
        end = ctx.bptt.end
        return context, run.floats(end.h), None if end.c is None else run.floats(end.c)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        run, (grad_context, grad_h, grad_c) = ctx.run, gradients
        if torch.is_grad_enabled() or ctx.used:
            raise RevRNNError("E_UNSUPPORTED", "backward", "twice", "once, first derivatives")
        ctx.used = True

        def grad_outputs(first: int, h: Tensor) -> Tensor | None:
            if grad_context is None:
                return None
            found = h.new_zeros(h.shape, dtype=torch.float32)
            found[:, :, : run.config.slice_size] = grad_context[first : first + len(h)]
            return found

        with torch.autocast(run.start.h.device.type, enabled=False):
            grads = ctx.bptt.backward(
                run.again, run.backwards, (grad_h, grad_c), grad_outputs, run.grad_inputs
            )
        found = [grads.params[name].to(t.dtype) for name, t in run.tensors.items()]
        return None, None, *found


def _check_loss(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.dim() != 0:
        given = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise RevRNNError("E_SHAPE", "readout", given, "a scalar tensor")


def _spread(tensors: dict[str, Tensor], grads: dict[str, Tensor]) -> None:
    """Add gradients to parameters, also through what made tensors of them (weight drop)."""
    wanted = [(t, grads[name].to(t.dtype)) for name, t in tensors.items() if t.requires_grad]
    if wanted:
        torch.autograd.backward([t for t, _ in wanted], [g for _, g in wanted])


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _same_random_state(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class _Replay:
    """Random numbers as from a saved state; afterwards as if none had been drawn."""

    def __init__(self, states: list[Tensor] | None, device: torch.device) -> None:
        self.states, self.device = states, device

    def __enter__(self) -> None:
        if self.states is not None:
            self.saved = _random_state(self.device)
            _set_random_state(self.states, self.device)

    def __exit__(self, *_: object) -> None:
        if self.states is not None:
            _set_random_state(self.saved, self.device)


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
