"""A reversible stack as one differentiable PyTorch function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from revrnn.config import Config, check_config
from revrnn.errors import RevRNNError, type_name
from revrnn.saturation import Saturation

from .call import Call
from .checks import check_params, check_settings, check_state, check_tensor, flag
from .engine import Settings
from .function import RevRNNFunction
from .modes import seen_whole
from .quantise import check_finite
from .quantise import quantise_parameters as _quantised
from .schedule import Gains, check_schedule
from .state import State
from .transforms import check_surroundings, not_compiled, transformed


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
        saturation: what saturated; ``None`` under ``vmap``, of no rows, for meta and fake tensors.
    """

    outputs: Tensor
    h_n: Tensor
    c_n: Tensor | None
    state: State
    slices: Tensor | None
    wraps: int
    context: Tensor | None
    saturation: Saturation | None = None


@not_compiled
@seen_whole
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
            which must give the same in the backward pass.
        states: ``"reversed"`` recovers states in the backward pass, ``"stored"`` keeps them; the
            results are equal bit for bit (GRAD-020).
        chunk_size: steps handled together, by default 16 or nearly so. States do not depend on it.
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
    check_config(config)
    check_tensor("x", x, None, (None, None, config.input_size))
    steps, rows, _ = x.shape
    check_params(params, config, x.device)
    settings = check_settings(steps, states, chunk_size, checkpoint_every, offload)
    check_schedule(config, steps, rows, x.device, mask, resets, gains)
    given = initial_floats(hx, state, config, rows, x.device)
    flag("with_outputs", with_outputs)
    return run(
        x,
        params,
        config,
        settings,
        hx=given,
        state=state,
        mask=mask,
        resets=resets,
        gains=gains,
        with_outputs=with_outputs,
        words={"hx[0]": "hx"} if isinstance(hx, Tensor) else None,
    )


def quantise_parameters(params: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Return float parameters in fixed point: int16 weights, int32 biases (QNT-002, QNT-005).

    Args:
        params: as in :func:`rev_rnn`, ``module.state_dict()`` for instance.
        config: the stack.

    Raises:
        RevRNNError: as there, for ``params`` and ``config``.
    """
    check_config(config)
    first = next(iter(params.values()), None) if isinstance(params, Mapping) else None
    check_params(params, config, first.device if isinstance(first, Tensor) else torch.device("cpu"))
    check_finite(**params)
    return _quantised(params, config)


def run(
    x: Tensor,
    params: Mapping[str, Tensor],
    config: Config,
    settings: Settings,
    *,
    hx: list[Tensor],
    state: State | None = None,
    mask: Tensor | None = None,
    resets: Tensor | None = None,
    gains: Tensor | Gains | None = None,
    with_outputs: bool = True,
    words: Mapping[str, str] | None = None,
) -> Output:
    """Do what :func:`rev_rnn` does, with arguments whose types and shapes have been checked.

    ``settings`` say how the sequence is processed; ``hx`` is a list of the float initial states:
    none, ``h``, or ``h`` and ``c``; ``words`` gives the caller's own names of ``x``, ``hx[0]`` and
    the parameters, where they differ.
    """
    check_surroundings(x)
    named: dict[str, Tensor] = {"x": x}
    named |= {name: params[name] for name in config.parameter_shapes()}
    named |= {f"hx[{i}]": value for i, value in enumerate(hx)}
    by_step = None
    for name, value in (("mask", mask), ("resets", resets), ("gains", gains)):
        if isinstance(value, Tensor):
            named[name] = value
        elif value is not None:
            by_step = value
    if state is not None:
        named |= {f"state.{name}": value for name, value in state.tensors().items()}
    # Tensors of torch.inference_mode can be read, but autograd does not keep them.
    if not torch.is_inference_mode_enabled():
        named = {n: v.clone() if v.is_inference() else v for n, v in named.items()}
    wanted = torch.is_grad_enabled() and (
        transformed() or any(value.requires_grad for value in named.values())
    )
    call = Call(config, settings, by_step, list(named), words or {}, wanted, with_outputs)
    made = RevRNNFunction.apply(call, *named.values())  # type: ignore[no-untyped-call]
    results = dict(zip(call.results, made, strict=True))
    end = State(results["state.h"], results.get("state.c"), results.get("state.heads"), config)
    return Output(
        results["outputs"],
        results["h_n"],
        results.get("c_n"),
        end,
        results.get("slices"),
        call.wraps,
        results.get("context"),
        call.saturation,
    )


def initial_floats(
    hx: object, state: State | None, config: Config, rows: int, device: torch.device
) -> list[Tensor]:
    """Check what was given as initial state and return its float tensors."""
    if hx is not None and state is not None:
        raise RevRNNError("E_ARGUMENT", "hx", "hx and state", "one of them")
    if state is not None:
        if not isinstance(state, State):
            raise RevRNNError("E_ARGUMENT", "state", type_name(state), "a State")
        check_state(state, config, rows, device)
        return []
    if hx is None:
        return []
    axes = "(layers, batch, hidden_size)"
    if isinstance(hx, State):
        raise RevRNNError("E_ARGUMENT", "hx", "a State", "floats; a State is given as state")
    given: list[Any] = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    if len(given) != config.state_arrays:
        allowed = f"(h, c), each {axes}" if config.has_cell_state else f"one tensor {axes}"
        raise RevRNNError("E_ARGUMENT", "hx", f"{len(given)} tensors", allowed)
    names = ("hx[0]", "hx[1]") if isinstance(hx, (tuple, list)) else ("hx",)
    shape = (config.num_layers, rows, config.hidden_size)
    for name, value in zip(names, given, strict=False):
        check_tensor(name, value, None, shape, device, axes)
    return given
