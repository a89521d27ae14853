"""The differentiable front: a reversible stack as one PyTorch function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .bptt import Bptt, Settings
from .checks import check_params, check_settings, check_state, check_tensor
from .gradients import Gradients
from .quantise import check_finite, dequantise, operand_passes, quantise
from .sequence import GAIN_BITS, Schedule
from .state import State, initial_state

# A step's gains between layers, int32 [L-1, B, H] with 12 fraction bits, from its number (SEQ-012).
Gains = Callable[[int], Tensor]


class Output(NamedTuple):
    """What :func:`rev_rnn` returns.

    Attributes:
        outputs: float32 ``[T, B, H]``, differentiable (SEQ-005); ``[0, B, H]`` if not wanted.
        h_n: float32 ``[L, B, H]``, the final ``h``, differentiable.
        c_n: the same for RevLSTM, else ``None``.
        state: the exact final state, to be given to the next call (SEQ-008).
        slices: int32 ``[T+1, B, D]``, or ``None`` (SEQ-007).
        wraps: how often a state wrapped; 0 without a look where none can (FMT-006).
        context: float32 ``[T, B, D]``, the first D units after each step, differentiable, or
            ``None`` without slices.
    """

    outputs: Tensor
    h_n: Tensor
    c_n: Tensor | None
    state: State
    slices: Tensor | None
    wraps: int
    context: Tensor | None


def quantise_parameters(params: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return float parameters in fixed point: int16 weights, int32 biases (QNT-002, QNT-005)."""
    kinds = {name: "bias" if name.startswith("bias") else "weight" for name in params}
    return {
        name: quantise(kinds[name], value.detach(), config.formats)
        for name, value in params.items()
    }


class _Call:
    """The forward pass of one call and what its backward pass needs."""

    def __init__(
        self,
        config: Config,
        schedule: Schedule,
        start: State,
        settings: Settings,
        differentiable: bool,
        with_outputs: bool,
    ) -> None:
        self.config, self.schedule, self.start, self.settings = config, schedule, start, settings
        self.differentiable, self.with_outputs = differentiable, with_outputs
        self.used = False
        self.slices: Tensor | None = None

    def run(self, x: Tensor, params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None, State]:
        """Compute outputs and context, float, and the final state."""
        config, (steps, rows, _) = self.config, x.shape
        depth, bits = config.slice_size, config.formats.state_bits
        context, wanted = None, steps if self.with_outputs else 0
        outputs = x.new_empty((wanted, rows, config.hidden_size), dtype=torch.float32)
        if depth:
            self.slices = x.new_empty((steps + 1, rows, depth), dtype=torch.int32)
            self.slices[0] = self.start.h[-1][:, :depth]

        def deliver(first: int, h: Tensor) -> None:
            if self.with_outputs:
                outputs[first : first + len(h)] = dequantise(h, bits)
            if self.slices is not None:
                self.slices[first + 1 : first + 1 + len(h)] = h[:, :, :depth]

        params = quantise_parameters(params, config)
        self.bptt = Bptt(config, params, steps, self.start, self.schedule, self.settings)
        taker = deliver if self.with_outputs or depth else None
        state = self.bptt.forward(self._inputs(x), taker, self.differentiable)
        if self.slices is not None:
            context = dequantise(self.slices[1:], bits)
        return outputs, context, state

    def _inputs(self, x: Tensor) -> Callable[[int, int], Tensor]:
        return lambda first, stop: quantise("operand", x[first:stop], self.config.formats)

    def gradients(
        self,
        x: Tensor,
        grad_outputs: Tensor | None,
        grad_context: Tensor | None,
        grad_h: Tensor | None,
        grad_c: Tensor | None,
        grad_x: Tensor | None,
    ) -> Gradients:
        """Compute the backward pass, writing the gradient of the input into ``grad_x``."""
        formats = self.config.formats

        def of_outputs(first: int, h: Tensor) -> Tensor | None:
            steps = slice(first, first + len(h))
            part = None
            if grad_outputs is not None and self.with_outputs:
                part = grad_outputs[steps].float()
            if grad_context is None:
                return part
            part = h.new_zeros(h.shape, dtype=torch.float32) if part is None else part.clone()
            part[:, :, : self.config.slice_size] += grad_context[steps]
            return part

        def of_inputs(first: int, dx: Tensor) -> None:
            if grad_x is not None:
                steps = slice(first, first + len(dx))
                grad_x[steps] = dx * operand_passes(x[steps], formats)  # GRAD-002

        inputs = self._inputs(x)
        return self.bptt.backward(inputs, inputs, (grad_h, grad_c), of_outputs, of_inputs)


class _RevRNN(torch.autograd.Function):
    """Quantised inputs forward, gradients by reversal backward (GRAD)."""

    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor | None) -> Any:
        """Return outputs, context, ``h_n`` and ``c_n`` as floats."""
        names = list(call.config.parameter_shapes())
        params = {n: t for n, t in zip(names, tensors, strict=False) if t is not None}
        outputs, context, state = call.run(x, params)
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *tensors[: len(names)])
        bits = call.config.formats.state_bits
        c_n = None if state.c is None else dequantise(state.c, bits)
        return outputs, context, dequantise(state.h, bits), c_n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradients of all inputs of ``forward``."""
        call, config = ctx.call, ctx.call.config
        saved = ctx.saved_tensors  # also checks that nobody changed them in place
        grad_outputs, grad_context, grad_h, grad_c = gradients
        if torch.is_grad_enabled():
            raise RevRNNError(
                "E_UNSUPPORTED", "create_graph", "True", "False: first-order gradients"
            )  # GRAD-022
        if call.used:
            raise RevRNNError(
                "E_UNSUPPORTED", "retain_graph", "a second backward pass", "one backward pass"
            )
        call.used = True
        x, *params = saved
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        # A backward pass under autocast would round its products to fewer bits.
        with torch.autocast(x.device.type, enabled=False):
            grads = call.gradients(x, grad_outputs, grad_context, grad_h, grad_c, grad_x)
        # GRAD-003, GRAD-004
        by_name = [
            grads.params[n].to(p.dtype)
            for n, p in zip(config.parameter_shapes(), params, strict=True)
        ]
        initial = [
            g if n else None
            for g, n in zip((grads.h, grads.c), ctx.needs_input_grad[-2:], strict=True)
        ]
        return None, grad_x, *by_name, *initial


@torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
def rev_rnn(
    x: Tensor,
    params: Mapping[str, Tensor],
    config: Config,
    *,
    hx: Tensor | tuple[Tensor, Tensor] | None = None,
    state: State | None = None,
    mask: Tensor | None = None,
    resets: Tensor | None = None,
    gains: Tensor | Gains | None = None,
    states: str = "reversed",
    chunk_size: int | None = None,
    checkpoint_every: int | None = None,
    offload: bool = False,
    with_outputs: bool = True,
) -> Output:
    """Run a stack of reversible layers over a sequence; backward recomputes the states.

    Args:
        x: ``[T, B, I]``, any float type; quantised by QNT-001.
        params: float tensors by name, of the shapes of ``config.parameter_shapes()`` (CELL-003).
        config: the stack.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]``; differentiable.
        state: exact state carried from another call instead; not differentiable (GRAD-004).
        mask: bool ``[T, B]``, true where a row has a step; ``None`` for everywhere (SEQ-002).
        resets: bool ``[T, B]``, true where a row's state starts anew from zero before the step
            (SEQ-013). Only those rows' states are kept.
        gains: what the layers above the first multiply their inputs by (SEQ-012): int32 ``[T, L−1,
            B, H]`` with 12 fraction bits, or a function from a step's number to ``[L−1, B, H]``,
            which must give the same on the way back.
        states: ``"reversed"`` recovers states on the way back, ``"stored"`` keeps them all; the
            results are equal bit for bit (GRAD-020).
        chunk_size: steps handled together, by default 16. States do not depend on it.
        checkpoint_every: for very long sequences: keep the exact state every so many steps and the
            buffer of one piece at a time. States and gradients do not depend on it, if it is a
            multiple of ``chunk_size`` (else it is rounded up to one).
        offload: keep the buffer in the host's memory.
        with_outputs: without it ``outputs`` has no steps; nothing of size T × B × H exists then.

    Returns:
        Outputs, final state as float and exact, slices, wraps, context.

    Raises:
        RevRNNError: bad input, with the argument's name (``E_ARGUMENT``, ``E_DTYPE``, ``E_SHAPE``,
            ``E_NONFINITE``, ``E_RANGE``); in the backward pass ``E_REVERSAL`` if the reversal fails
            (SEQ-009) and ``E_UNSUPPORTED`` for a second derivative (GRAD-022).
    """
    check_tensor("x", x, None, (None, None, config.input_size))
    steps, rows, _ = x.shape
    if rows == 0:
        raise RevRNNError("E_SHAPE", "x", f"shape {list(x.shape)}", "at least one row")
    check_params(params, config, x.device)
    settings = check_settings(states, chunk_size, checkpoint_every, offload)
    schedule = make_schedule(config, steps, rows, x.device, mask, resets, gains)
    given = initial_floats(hx, state, config, rows, x.device)
    check_finite(x=x, **params, **{f"hx[{i}]": h for i, h in enumerate(given)})
    start = start_of(given, state, config, rows, x.device)
    ordered = [params[name] for name in config.parameter_shapes()]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *ordered, *given))
    call = _Call(config, schedule, start, settings, wanted, with_outputs)
    floats = [*given, *[None] * (2 - len(given))]
    found = _RevRNN.apply(call, x, *ordered, *floats)  # type: ignore[no-untyped-call]
    outputs, context, h_n, c_n = found
    return Output(outputs, h_n, c_n, call.bptt.end, call.slices, call.bptt.wraps, context)


def make_schedule(
    config: Config,
    steps: int,
    rows: int,
    device: torch.device,
    mask: Tensor | None,
    resets: Tensor | None,
    gains: Tensor | Gains | None,
) -> Schedule:
    """Check mask, resets and gains and return them as a schedule."""
    for name, value in (("mask", mask), ("resets", resets)):
        if value is not None:
            check_tensor(name, value, [torch.bool], (steps, rows), device)
    by_step: Gains | None = None
    if gains is not None:
        if config.num_layers == 1:
            raise RevRNNError("E_ARGUMENT", "gains", "gains", "None for one layer")
        if isinstance(gains, Tensor):
            shape = (steps, config.num_layers - 1, rows, config.hidden_size)
            check_tensor("gains", gains, [torch.int32], shape, device)
            if bool((gains < 0).any() | (gains > 16 << GAIN_BITS).any()):
                raise RevRNNError("E_RANGE", "gains", "a value outside", f"0 … {16 << GAIN_BITS}")
            by_step = gains.__getitem__
        else:
            by_step = gains
    starts = None
    if resets is not None:
        # One look at the whole: which rows are reset must be known on the host.
        where: list[list[int]] = [[] for _ in range(steps)]
        for t, row in resets.nonzero().tolist():
            where[t].append(row)
        starts = [torch.tensor(found, device=device) if found else None for found in where]
    return Schedule(mask, starts, by_step)


def initial_floats(
    hx: object, state: State | None, config: Config, rows: int, device: torch.device
) -> list[Tensor]:
    """Check what was given as initial state and return its float tensors."""
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of them")
    if state is not None:
        if not isinstance(state, State):
            raise RevRNNError("E_ARGUMENT", "state", type(state).__name__, "a State")
        check_state(state, config, rows, device)
        return []
    if hx is None:
        return []
    given: list[Any] = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    if len(given) != config.state_arrays:
        allowed = "(h, c)" if config.has_cell_state else "one tensor"
        raise RevRNNError("E_ARGUMENT", "hx", f"{len(given)} tensors", allowed)
    for name, value in zip(("hx[0]", "hx[1]"), given, strict=False):
        check_tensor(name, value, None, (config.num_layers, rows, config.hidden_size), device)
    return given


def start_of(
    given: list[Tensor], state: State | None, config: Config, rows: int, device: torch.device
) -> State:
    """Return the exact state to start from, sharing nothing with the caller (ERR-003)."""
    if state is not None:
        return state
    fresh = initial_state(config, rows, device)
    if not given:
        return fresh
    exact = [quantise("state", value.detach(), config.formats) for value in given]
    return State(exact[0], exact[1] if config.has_cell_state else None, fresh.heads)
