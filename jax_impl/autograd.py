"""The differentiable front: a reversible stack as one function, :func:`apply`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.errors import RevRNNError
from revrnn.plan import CHUNK_SIZE

from .call import Call, Inputs, Output, of_no_rows
from .checks import Params, check_arrays, check_initial, check_trees, in_binary32
from .meshes import batches_of, on_automatic_axes
from .scans import vary_together
from .settings import check_flag, in_even_chunks, settings_of
from .state import State, carried, initial_state
from .status import check, is_concrete, named_errors


def apply(
    params: Params,
    x: jax.Array,
    config: Config,
    *,
    hx: jax.Array | tuple[jax.Array, ...] | None = None,
    state: State | None = None,
    mask: jax.Array | None = None,
    gains: jax.Array | None = None,
    resets: jax.Array | None = None,
    with_outputs: bool = True,
    states: str = "reversed",
    chunk_size: int = CHUNK_SIZE,
    checkpoint_every: int | None = None,
    capacity: int | None = None,
    reset_capacity: int | None = None,
) -> Output:
    """Run a stack of reversible layers over a sequence; differentiable once, in reverse mode.

    Args:
        params: floats by the names of ``config.parameter_shapes()``; other types than float32 are
            converted to it (QNT-003), and so are those of ``x`` and ``hx``.
        x: float32 ``[T, B, I]``.
        config: the stack; static, as are all arguments that are no arrays.
        hx: float initial state, ``h`` or for RevLSTM ``(h, c)``, float32 ``[L, B, H]``;
            differentiable (GRAD-004), with fresh heads.
        state: exact initial state from another call; not differentiable. Without ``hx`` and
            ``state`` the fresh one.
        mask: bool ``[T, B]``, true where a row has the step (SEQ-002); all without it.
        gains: int32 ``[T, L-1, B, H]``, what layers above the first multiply their inputs by
            (SEQ-012); see :func:`revrnn.jax_impl.dropout_gains`.
        resets: bool ``[T, B]``, true where a row starts anew before the step (SEQ-013).
        with_outputs: whether all outputs are wanted; an encoder may do with ``context``, ``h_n``.
        states: how the backward pass comes by the states: ``"reversed"`` recovers them from the
            buffer, ``"stored"`` keeps them. The gradients are the same bits (GRAD-020).
        chunk_size: steps handled together, at most; no state depends on it.
        checkpoint_every: keep the exact state every so many steps (rounded to whole chunks) and
            the buffer of one such piece at a time.
        capacity: words (for ``wordlist`` planes) to set aside for the backward pass, for a piece
            if there are several; without it as many as can ever be needed (BUF-035), which for
            ``wordlist`` with a mask or slices may be a plane for every operation.
        reset_capacity: resets, of all rows together, to set aside for in the same way; under jit
            it must be given to differentiate with resets.

    Without differentiation no store is set aside (SEQ-010). After a fault ``status`` is not 0,
    floats are NaN from the fault on, and gradients are NaN; outside jit the error is raised.

    Raises:
        RevRNNError: while tracing ``E_ARGUMENT``, ``E_UNSUPPORTED``, ``E_DTYPE``, ``E_SHAPE``;
            outside jit also ``E_NONFINITE``, ``E_RANGE``, ``E_OVERFLOW``, ``E_REVERSAL``.
    """
    given = {"params": params, "hx": hx, "x": x}
    settings = settings_of(
        config, chunk_size, checkpoint_every, capacity, reset_capacity, resets, mask, states
    )
    with_outputs = check_flag("with_outputs", with_outputs)
    floats = check_initial(hx, state)
    if x is None:
        raise RevRNNError("E_ARGUMENT", "x", "nothing", "an array [T, B, I]")
    arrays = {"x": x, "mask": mask, "gains": gains, "resets": resets}
    check_trees(config, params, state, arrays, hx=hx)
    params, x, floats = in_binary32((dict(params), x, floats))
    check_arrays(params, x, config, floats, state, mask, gains, resets)
    if not x.shape[1]:
        return of_no_rows(config, x.shape[0] if with_outputs else 0, x.shape[0], state)
    if mask is None:
        mask = jnp.ones(x.shape[:2], jnp.bool_)
    if floats is None and state is None:
        state = initial_state(config, x.shape[1])
    inputs = vary_together(Inputs(dict(params), x, floats, state, mask, gains, resets))
    call: Any = Call(in_even_chunks(settings, x.shape[0]), with_outputs)
    batches = batches_of(floats, state, mask, gains, resets)
    with named_errors("apply", **given):
        out: Output = on_automatic_axes(call, inputs, [(x, 1), *batches], call.specs)
    if is_concrete(out.status):
        check(out.status, **given)
    return out._replace(state=carried(out.state, state, config))
