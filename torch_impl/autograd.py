"""The differentiable front: a reversible stack as one PyTorch function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.errors import RevRNNError

from .buffer import make_buffer
from .checks import check_params, check_state, check_tensor
from .gradients import Gradients, sequence_gradient
from .quantise import check_finite, dequantise, operand_passes, quantise
from .sequence import CHUNK_SIZE, Forward, Stack, State, initial_state, sequence_forward


class Output(NamedTuple):
    """What :func:`rev_rnn` returns.

    Attributes:
        outputs: float32 ``[T, B, H]``, differentiable (SEQ-005).
        h_n: float32 ``[L, B, H]``, the final ``h``, differentiable.
        c_n: the same for RevLSTM, else ``None``.
        state: the exact final state, to be given to the next call (SEQ-008).
        slices: int32 ``[T+1, B, D]``, or ``None`` (SEQ-007).
        wraps: how often a state wrapped; 0 without a look where none can (FMT-006).
    """

    outputs: Tensor
    h_n: Tensor
    c_n: Tensor | None
    state: State
    slices: Tensor | None
    wraps: int


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
        mask: Tensor | None,
        start: State,
        states: str,
        chunk_size: int,
        differentiable: bool,
    ) -> None:
        self.config, self.mask, self.start = config, mask, start
        self.states, self.chunk_size = states, chunk_size
        self.differentiable = differentiable
        self.used = False

    def run(self, x: Tensor, params: Mapping[str, Tensor]) -> Forward:
        """Compute the forward pass; keep its inputs in fixed point for the way back."""
        self.x = quantise("operand", x, self.config.formats)
        self.params = quantise_parameters(params, self.config)
        self.stack = Stack(self.config, self.params)
        stored = self.states == "stored"
        # SEQ-010: without a way back nothing is kept.
        self.forward = sequence_forward(
            self.stack,
            self.x,
            self.mask,
            self.start,
            make_buffer(self.config, self.start.heads, self.differentiable and not stored),
            chunk_size=self.chunk_size,
            keep_states=self.differentiable and stored,
        )
        return self.forward

    def gradients(
        self, grad_outputs: Tensor | None, grad_h: Tensor | None, grad_c: Tensor | None
    ) -> Gradients:
        """Compute the backward pass; what has no gradient counts as zero."""
        steps, rows, _ = self.x.shape
        state = self.start.h.shape

        def or_zeros(gradient: Tensor | None, shape: tuple[int, ...]) -> Tensor:
            if gradient is None:
                return torch.zeros(shape, dtype=torch.float32, device=self.x.device)
            return gradient.float()

        return sequence_gradient(
            self.stack,
            self.params,
            self.x,
            self.mask,
            self.start,
            self.forward,
            or_zeros(grad_outputs, (steps, rows, self.config.hidden_size)),
            or_zeros(grad_h, state),
            or_zeros(grad_c, state) if self.config.has_cell_state else None,
            states=self.states,
            chunk_size=self.chunk_size,
        )


class _RevRNN(torch.autograd.Function):
    """Quantised inputs forward, gradients by reversal backward (GRAD)."""

    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor | None) -> Any:
        """Return outputs, ``h_n`` and ``c_n`` as floats."""
        names = list(call.config.parameter_shapes())
        params = {n: t for n, t in zip(names, tensors, strict=False) if t is not None}
        forward = call.run(x, params)
        ctx.call = call
        ctx.save_for_backward(x, *tensors[: len(names)])
        bits, state = call.config.formats.state_bits, forward.state
        outputs = dequantise(forward.outputs, bits)
        c_n = None if state.c is None else dequantise(state.c, bits)
        # Integer copies of what is returned as float are not kept.
        forward.outputs = forward.outputs.new_empty(0)
        return outputs, dequantise(state.h, bits), c_n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradients of all inputs of ``forward``."""
        call, config = ctx.call, ctx.call.config
        saved = ctx.saved_tensors  # also checks that nobody changed them in place
        grad_outputs, grad_h, grad_c = gradients
        if torch.is_grad_enabled():
            raise RevRNNError(
                "E_UNSUPPORTED", "create_graph", "True", "False: first-order gradients"
            )  # GRAD-022
        if call.states == "reversed" and call.used:
            raise RevRNNError(
                "E_UNSUPPORTED", "retain_graph", "a second backward pass", "one backward pass"
            )
        call.used = True
        # A backward pass under autocast would round its products to fewer bits.
        with torch.autocast(call.x.device.type, enabled=False):
            grads = call.gradients(grad_outputs, grad_h, grad_c)
        x, *params = saved
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = (grads.x * operand_passes(x, config.formats)).to(x.dtype)  # GRAD-002
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
    states: str = "reversed",
    chunk_size: int | None = None,
) -> Output:
    """Run a stack of reversible layers over a sequence; backward recomputes the states.

    Args:
        x: ``[T, B, I]``, any float type; quantised by QNT-001.
        params: float tensors by name, of the shapes of ``config.parameter_shapes()`` (CELL-003).
        config: the stack.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, ``[L, B, H]``; differentiable.
        state: exact state carried from another call instead; not differentiable (GRAD-004).
        mask: bool ``[T, B]``, true where a row has a step; ``None`` for everywhere (SEQ-002).
        states: ``"reversed"`` recovers states on the way back, ``"stored"`` keeps them all; the
            results are equal bit for bit (GRAD-020).
        chunk_size: steps handled together, by default 16. States do not depend on it.

    Returns:
        Outputs, final state as float and exact, slices, wraps.

    Raises:
        RevRNNError: bad input, with the argument's name (``E_ARGUMENT``, ``E_DTYPE``, ``E_SHAPE``,
            ``E_NONFINITE``); in the backward pass ``E_REVERSAL`` if the reversal fails (SEQ-009)
            and ``E_UNSUPPORTED`` for a second derivative (GRAD-022).
    """
    check_tensor("x", x, None, (None, None, config.input_size))
    steps, rows, _ = x.shape
    if rows == 0:
        raise RevRNNError("E_SHAPE", "x", f"shape {list(x.shape)}", "at least one row")
    check_params(params, config, x.device)
    if states not in ("reversed", "stored"):
        raise RevRNNError("E_ARGUMENT", "states", repr(states), "'reversed', 'stored'")
    size = CHUNK_SIZE if chunk_size is None else chunk_size
    if not isinstance(size, int) or size < 1:
        raise RevRNNError(
            "E_ARGUMENT", "chunk_size", repr(chunk_size), "a whole number, at least 1"
        )
    if mask is not None:
        check_tensor("mask", mask, [torch.bool], (steps, rows), x.device)
    given = _initial_floats(hx, state, config, rows, x.device)
    check_finite(x=x, **params, **{f"hx[{i}]": h for i, h in enumerate(given)})
    start = _start(given, state, config, rows, x.device)
    ordered = [params[name] for name in config.parameter_shapes()]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *ordered, *given))
    call = _Call(config, mask, start, states, size, wanted)
    floats = [*given, *[None] * (2 - len(given))]
    found = _RevRNN.apply(call, x, *ordered, *floats)  # type: ignore[no-untyped-call]
    outputs, h_n, c_n = found
    forward = call.forward
    final = forward.state
    if final.heads is not None:
        # The buffer goes on from its heads; the caller's copy must not be that object.
        final = State(final.h, final.c, final.heads.clone())
    wraps = 0 if forward.wraps is None else int(forward.wraps)
    return Output(outputs, h_n, c_n, final, forward.slices, wraps)


def _initial_floats(
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


def _start(
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
