"""The factors of the gradients of one group's update, in float32 (GRAD)."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from revrnn.config import Config
from revrnn.formats import FORGET_BITS, GATE_BITS

from .activations import ForgetGate
from .cells import GruGates, LstmGates
from .isolate import isolated
from .quantise import view_passes
from .sequence import GroupStep, LayerInput, LayerStep

Floats = dict[str, jax.Array]


class Slopes(NamedTuple):
    """What one group's gradients are multiplied by on the way back, float32 ``[B, G]``.

    Factors of masked rows are such that their gradients pass unchanged (GRAD-015). What a cell does
    not have is ``None``: RevGRU's gates depend on ``h`` alone, RevLSTM has no reset gate, and
    without forgetting all is kept (GRAD-011).

    Attributes:
        v: the view, int16.
        passes: where the view did not saturate, bool (GRAD-002).
        keep: of the new ``h`` in the old one.
        from_h: of ``h`` in the pre-activations that it reaches directly, by gate: RevGRU's ``z``
            and ``g``, RevLSTM's ``o`` and ``p``.
        u: RevGRU's ``u``, int16.
        r: RevGRU's reset gate.
        to_r: of ``u`` in the reset gate's pre-activation.
        to_c: of the new ``h`` in the new ``c``.
        keep_c: of the new ``c`` in the old one.
        from_c: of the new ``c`` in the pre-activations of ``f`` (if any), ``i``, ``g``, by gate.
    """

    v: jax.Array
    passes: jax.Array
    keep: jax.Array | None
    from_h: Floats
    u: jax.Array | None = None
    r: jax.Array | None = None
    to_r: jax.Array | None = None
    to_c: jax.Array | None = None
    keep_c: jax.Array | None = None
    from_c: Floats | None = None


class LayerSlopes(NamedTuple):
    """The slopes of a layer's two groups, and its input; ``None`` for layer 0."""

    groups: tuple[Slopes, Slopes]
    input: LayerInput | None


def real(v: jax.Array, bits: int) -> jax.Array:
    """Return the real number that ``v`` stands for, float32 (GEN-004)."""
    x: jax.Array = v.astype(jnp.float32) * jnp.float32(2.0**-bits)
    return x


def sigmoid_slope(y: jax.Array) -> jax.Array:
    """Return the derivative of the sigmoid from its value (GRAD-010)."""
    value = real(y, GATE_BITS)
    return value * (1 - value)


def tanh_slope(y: jax.Array) -> jax.Array:
    """Return the derivative of tanh from its value (GRAD-010)."""
    value = real(y, GATE_BITS)
    return (1 - value) * (1 + value)


def forget_slope(config: Config, gate: ForgetGate) -> jax.Array:
    """Return the derivative of a forget gate with respect to its pre-activation (GRAD-010)."""
    n = config.max_forget_bits
    slope = 1.0 if n is None else 1 - 2.0**-n
    return jnp.where(gate.passes, slope * sigmoid_slope(gate.sigma), jnp.float32(0))


def slopes_of(
    config: Config, step: tuple[LayerStep, ...], rows: jax.Array
) -> tuple[LayerSlopes, ...]:
    """Return the slopes of a step's updates, by layer; ``rows`` is its mask ``[B]``."""
    by_layer = []
    for (first, second), below in step:
        if below is not None:
            below = below._replace(operand=below.operand.astype(jnp.int16))
        pair = group_slopes(config, first, rows), group_slopes(config, second, rows)
        by_layer.append(LayerSlopes(pair, below))
    return tuple(by_layer)


def slopes_like(config: Config, steps: tuple[int, ...]) -> tuple[LayerSlopes, ...]:
    """Return shapes and types of the slopes of ``(C, B)`` steps."""
    of_group, of_layer = (*steps, config.group_size), (*steps, config.hidden_size)
    whole: Any = jax.ShapeDtypeStruct(of_group, jnp.int32)
    flag: Any = jax.ShapeDtypeStruct(of_group, jnp.bool_)
    forget = ForgetGate(whole, whole, flag)
    gates: Any = GruGates(forget, whole, whole, whole, whole)
    c = whole if config.has_cell_state else None
    if c is not None:
        gates = LstmGates(None, whole, whole, whole, None, whole)
        if config.forgetting:
            gates = gates._replace(f=forget, p=forget)
    group = GroupStep(gates, whole, c, c, whole)
    taken: Any = [jax.ShapeDtypeStruct(of_layer, kind) for kind in (jnp.int32, jnp.bool_)]
    below = LayerInput(*taken)
    step = [
        LayerStep((group, group), below if layer else None) for layer in range(config.num_layers)
    ]
    rows = jax.ShapeDtypeStruct(steps, jnp.bool_)
    like: tuple[LayerSlopes, ...] = jax.eval_shape(
        jax.vmap(partial(slopes_of, config)), tuple(step), rows
    )
    return like


@isolated
def group_slopes(config: Config, step: GroupStep, rows: jax.Array) -> Slopes:
    """Return one group's slopes; isolated, so that they round alike wherever states come from."""
    gates, bits = step.gates, config.view_bits
    passes = view_passes(step.other, config.formats.state_bits, bits)
    if isinstance(gates, GruGates):
        slopes = _gru_slopes(config, step, gates, passes)
    else:
        slopes = _lstm_slopes(config, step, gates, passes)

    def of_active_rows(tree: Any, others: int) -> Any:
        return jax.tree.map(lambda slope: jnp.where(rows[:, None], slope, others), tree)

    return slopes._replace(
        keep=of_active_rows(slopes.keep, 1),
        keep_c=of_active_rows(slopes.keep_c, 1),
        from_h=of_active_rows(slopes.from_h, 0),
        from_c=of_active_rows(slopes.from_c, 0),
        to_c=of_active_rows(slopes.to_c, 0),
    )


def _gru_slopes(config: Config, step: GroupStep, gates: GruGates, passes: jax.Array) -> Slopes:
    z, g, r = real(gates.z.z, FORGET_BITS), real(gates.g, GATE_BITS), real(gates.r, GATE_BITS)
    own = real(step.h, config.formats.state_bits) if config.forgetting else jnp.float32(0)
    from_h = {"z": (own - g) * forget_slope(config, gates.z), "g": (1 - z) * tanh_slope(gates.g)}
    return Slopes(
        gates.v.astype(jnp.int16),
        passes,
        z if config.forgetting else None,
        from_h,
        u=gates.u.astype(jnp.int16),
        r=r,
        to_r=real(gates.v, config.view_bits) * sigmoid_slope(gates.r),
    )


def _lstm_slopes(config: Config, step: GroupStep, gates: LstmGates, passes: jax.Array) -> Slopes:
    assert step.c is not None
    assert step.t is not None
    bits = config.formats.state_bits
    i, g, o, t = (real(v, GATE_BITS) for v in (gates.i, gates.g, gates.o, step.t))
    keep = keep_c = None
    from_h = {"o": t * sigmoid_slope(gates.o)}
    from_c = {"i": g * sigmoid_slope(gates.i), "g": i * tanh_slope(gates.g)}
    if gates.f is not None and gates.p is not None:
        keep, keep_c = real(gates.p.z, FORGET_BITS), real(gates.f.z, FORGET_BITS)
        from_h["p"] = real(step.h, bits) * forget_slope(config, gates.p)
        from_c["f"] = real(step.c, bits) * forget_slope(config, gates.f)
    return Slopes(
        gates.v.astype(jnp.int16),
        passes,
        keep,
        from_h,
        to_c=o * tanh_slope(step.t),
        keep_c=keep_c,
        from_c=from_c,
    )
