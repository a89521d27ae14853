"""Compares calls with sharded arrays, on two devices, with the same on one.

Run by ``test_jax_meshes.py``, with the type of the axes, and maybe names of tasks, as arguments.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import revrnn.jax_impl.flax as in_flax
from revrnn import Config, RevRNNError
from revrnn.jax_impl import (
    LinearCrossEntropy,
    State,
    apply,
    check,
    dropout_gains,
    encode,
    init,
    initial_state,
    step_dropout,
    value,
    value_and_grad,
)

Tree = Any
STEPS, ROWS = 3, 4
CONFIG = Config("revgru", 3, 4, 2, max_forget_bits=3, slice_size=1)
PARAMS = init(jax.random.key(0), CONFIG)
SIMPLE = Config("revlstm", 3, 4)
SIMPLE_PARAMS = init(jax.random.key(0), SIMPLE)
OUTER = {"embedding": jnp.ones((7, 3)), "kernel": jnp.ones((4, 5))}
MODULE = in_flax.RevGRU(3, 4, 2, dropout=0.4, batch_first=True, rngs=nnx.Rngs(0))
READOUT = LinearCrossEntropy(lambda outer: outer["kernel"])
NUMBERS = jnp.arange(STEPS)


def embed(outer: Tree, tokens: jax.Array) -> jax.Array:
    x: jax.Array = outer["embedding"][tokens]
    return x


def plain(given: Tree) -> Tree:
    """Call with a float initial state, ragged rows and gains."""
    settings = {name: given[name] for name in ("hx", "mask", "gains")}
    return apply(given["params"], given["x"], CONFIG, chunk_size=2, **settings)


def gradient(given: Tree) -> Tree:
    """Differentiate it by all floats."""
    floats = {name: given[name] for name in ("params", "x", "hx")}
    return jax.grad(lambda part: (plain(given | part).outputs ** 2).mean())(floats)


def trained(given: Tree) -> Tree:
    """Train by chunks."""
    first = given["params"], OUTER, given["tokens"], given["y"], CONFIG
    settings = {"embed": embed, "readout": READOUT, "mask": given["mask"]}
    return value_and_grad(*first, **settings, chunk_size=2)


def further(given: Tree) -> Tree:
    """Differentiate a loss of chunks by what has no gradient in the result."""

    def loss(x: jax.Array) -> jax.Array:
        out = value_and_grad(
            PARAMS, OUTER, x, given["y"], CONFIG, readout=READOUT, checkpoint_every=2, chunk_size=2
        )
        return out.loss

    return jax.grad(loss)(given["x"])


def measured(given: Tree) -> Tree:
    """Evaluate by chunks."""
    first = given["params"], OUTER, given["x"], given["y"], CONFIG
    return value(*first, readout=READOUT, hx=given["hx"], gains=given["gains"], chunk_size=2)


def closed(given: Tree) -> Tree:
    """Close over an array of the batch."""
    row = given["x"][0, :, :1]
    first = given["params"], OUTER, given["x"], given["y"], CONFIG
    out = value(*first, embed=lambda _, x: x * row[None], readout=READOUT)
    return out.state, out.status


def encoded(given: Tree) -> Tree:
    """Encode, and differentiate it."""

    def total(params: Tree) -> Tree:
        out = encode(params, OUTER, given["tokens"], CONFIG, embed=embed, chunk_size=2)
        return (out.context**2).sum(), out

    return jax.value_and_grad(total, has_aux=True)(given["params"])


def reset(given: Tree) -> Tree:
    """Let rows start anew."""

    def total(x: jax.Array) -> jax.Array:
        out = apply(SIMPLE_PARAMS, x, SIMPLE, resets=given["mask"], reset_capacity=16)
        return (out.outputs**2).mean()

    return jax.grad(total)(given["x"])


def carried(given: Tree) -> Tree:
    """Carry the state from step to step."""

    def step(state: Tree, x: jax.Array) -> Tree:
        out = apply(PARAMS, x[None], CONFIG, state=state)
        return out.state, out.outputs[0]

    return jax.lax.scan(step, apply(PARAMS, given["x"], CONFIG).state, given["x"])


def dropped(given: Tree) -> Tree:
    """Drop inputs and what goes between layers."""
    x = step_dropout(jax.random.key(3), 0.5, given["x"], NUMBERS)
    gains = dropout_gains(jax.random.key(3), 0.5, CONFIG, NUMBERS, ROWS)
    return apply(PARAMS, x, CONFIG, gains=gains).outputs


def module(given: Tree) -> Tree:
    """Call a Flax module, batch first."""
    x, mask = (given[name].swapaxes(0, 1) for name in ("x", "mask"))
    return MODULE(x, mask=mask, rngs=nnx.Rngs(dropout=1)).outputs


# Gradients are sums over rows: their order is the compiler's.
TASKS: tuple[tuple[Callable[[Tree], Tree], bool], ...] = (
    (plain, True),
    (gradient, False),
    (trained, False),
    (further, False),
    (measured, True),
    (closed, True),
    (encoded, False),
    (reset, False),
    (carried, True),
    (dropped, True),
    (module, True),
)


def compare(got: Tree, wanted: Tree, exact: bool) -> None:
    """Assert that integers are equal, and floats too, or nearly so."""
    same: bool = jax.tree.structure(got) == jax.tree.structure(wanted)  # type: ignore[operator]
    assert same
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        if exact or not jnp.issubdtype(other.dtype, jnp.floating):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def apart() -> None:
    """See that arrays on different devices are told, by name where it can be seen at the door."""
    one, two = (partial(jax.device_put, device=device) for device in jax.devices())
    x, state = jnp.ones((STEPS, ROWS, 3)), initial_state(SIMPLE, ROWS)
    far, key = two(x), one(jax.random.key(0))
    first = one(SIMPLE_PARAMS), None

    def square(_: None, outputs: jax.Array, targets: Tree) -> jax.Array:
        return jnp.square(outputs * (1 if targets is None else targets)).mean()

    calls: dict[str, Callable[[], Any]] = {
        "x: got an array on .*1; .*0, where params": lambda: apply(first[0], far, SIMPLE),
        "x: got .*, where state": lambda: apply(SIMPLE_PARAMS, far, SIMPLE, state=one(state)),
        "params.*got .*, where inputs": lambda: value(*first, far, None, SIMPLE, readout=square),
        "targets: got .*": lambda: value_and_grad(
            SIMPLE_PARAMS, None, one(x), far[..., :1], SIMPLE, readout=square
        ),
        "streaming: got arrays on": lambda: value(
            *first, x, None, SIMPLE, readout=lambda _, h, t: (h * far[0, 0, 0]).mean()
        ),
        "apply: got arrays on": lambda: jax.grad(
            lambda params: apply(params, far, SIMPLE).outputs.sum()
        )(first[0]),
        "key: got .*|x: got .*, where key": lambda: step_dropout(key, 0.5, far, NUMBERS),
        "steps: got .*, where key": lambda: dropout_gains(key, 0.5, CONFIG, two(NUMBERS), ROWS),
        r"states\[1\]: got": lambda: State.cat([one(state), two(state)]),
    }
    for said, call in calls.items():
        with pytest.raises(RevRNNError, match=r"^\[E_ARGUMENT\] " + said):
            call()
    assert two(state) == one(state)
    assert list(apply(SIMPLE_PARAMS, far, SIMPLE).outputs.devices()) == jax.devices()[1:]
    jax.jit(lambda: apply(first[0], far, SIMPLE))()  # JAX moves what is closed over


def main(kind: str, names: list[str]) -> None:
    """Compare the tasks of these names, or all; print a line at the end."""
    assert len(jax.devices()) == 2
    mesh = jax.make_mesh((2,), ("data",), axis_types=(getattr(AxisType, kind),))

    def sharded(v: Any, axis: int) -> Any:
        return jax.device_put(v, NamedSharding(mesh, P(*[None] * axis, "data")))

    h = jnp.full((2, ROWS, 4), 0.1)
    x = jax.random.normal(jax.random.key(1), (STEPS, ROWS, 3))
    tokens = jnp.arange(STEPS * ROWS).reshape(STEPS, ROWS)
    mask = jnp.ones((STEPS, ROWS), bool).at[1:, 1].set(False)
    gains = jnp.full((STEPS, 1, ROWS, 4), 5000, jnp.int32)
    given: Tree = {
        "x": x,
        "tokens": tokens % 7,
        "y": tokens % 5,
        "mask": mask,
        "hx": h,
        "gains": gains,
    }
    parts: Tree = {name: sharded(v, 2 if name == "gains" else 1) for name, v in given.items()}
    given["params"] = parts["params"] = PARAMS
    for task, exact in TASKS:
        if names and task.__name__ not in names:
            continue
        wanted = jax.jit(task)(given)
        compare(jax.jit(task)(parts), wanted, exact)
        if not names:
            with jax.set_mesh(mesh):
                compare(jax.jit(task)(given), wanted, True)
    at_once = apply(PARAMS, parts["x"], CONFIG)
    wanted = apply(PARAMS, x, CONFIG)
    assert jax.typeof(at_once.outputs) == jax.typeof(parts["x"]).update(shape=(STEPS, ROWS, 4))
    compare(at_once, wanted, True)
    apart()
    if not names:
        explicitly(parts, sharded)
    print("all the same")


def explicitly(parts: Tree, sharded: Callable[..., Any]) -> None:
    """See that gradients are sharded as what they are of, and that faults are told."""
    weights = {name: sharded(v, 0) for name, v in PARAMS.items()}
    grads = jax.jit(gradient)(parts | {"params": weights})
    for name, grad in grads["params"].items():
        assert jax.typeof(grad) == jax.typeof(weights[name]), name
    state = initial_state(CONFIG, ROWS)
    with pytest.raises(RevRNNError, match="E_NONFINITE"):
        apply(PARAMS, parts["x"] * jnp.nan, CONFIG, state=state)
    out = jax.jit(lambda x: apply(PARAMS, x, CONFIG))(parts["x"])
    check(out.status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
