"""One training step of a language model in JAX, one variant, in a process of its own.

``python benchmarks/jax_variant.py '{"cell": "gru", "variant": "plain", …}'`` prints one line of
JSON: peak memory above parameters and gradients, the time of a step, and that of its compilation.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from revrnn import Config
from revrnn.experiments import process_memory
from revrnn.jax_impl import apply, init, plan, value_and_grad

Tree = Any


def readout(outer: Tree, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean cross-entropy of some steps."""
    logits = outputs @ outer["weight"] + outer["bias"]
    loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return loss


def embed(outer: Tree, tokens: jax.Array) -> jax.Array:
    """Look tokens up."""
    x: jax.Array = outer["embedding"][tokens]
    return x


def cell_of(options: dict[str, Any]) -> tuple[Any, Tree]:
    """Return Flax's cell, as a graph definition and its parameters."""
    kind = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}[options["cell"]]
    cell = kind(options["embedding"], options["hidden"], rngs=nnx.Rngs(0))
    graph, *states = nnx.split(cell, nnx.Param, ...)
    return (graph, states[1]), states[0]


def scanned(static: Any, params: Tree, carry: Tree, x: jax.Array) -> tuple[Tree, jax.Array]:
    """Run Flax's cell over a sequence by ``lax.scan``."""
    graph, rest = static

    def body(carry: Tree, x_t: jax.Array) -> tuple[Tree, jax.Array]:
        found: tuple[Tree, jax.Array] = nnx.merge(graph, params, rest)(carry, x_t)
        return found

    found: tuple[Tree, jax.Array] = jax.lax.scan(body, carry, x)
    return found


def first_carry(options: dict[str, Any]) -> Tree:
    """Return zeros as the cell carries them."""
    zero = jnp.zeros((options["batch"], options["hidden"]))
    return zero if options["cell"] == "gru" else (zero, zero)


def plain(static: Any, options: dict[str, Any], params: Tree, tokens: Tree) -> Tree:
    """Return loss and gradients as everybody does."""

    def loss(params: Tree) -> jax.Array:
        rnn, outer = params
        x = embed(outer, tokens[:-1])
        _, outputs = scanned(static, rnn, first_carry(options), x)
        return readout(outer, outputs, tokens[1:])

    return jax.value_and_grad(loss)(params)


def checkpointed(static: Any, options: dict[str, Any], params: Tree, tokens: Tree) -> Tree:
    """Return loss and gradients under ``jax.checkpoint``, √T segments, the readout inside."""
    steps = len(tokens) - 1
    size = math.ceil(math.sqrt(steps))
    number, rest = divmod(steps, size)
    inputs, targets = tokens[:-1], tokens[1:]

    def loss(params: Tree) -> jax.Array:
        rnn, outer = params

        @jax.checkpoint
        def segment(carry: Tree, part: Tree) -> tuple[Tree, jax.Array]:
            tokens, targets = part
            carry, outputs = scanned(static, rnn, carry, embed(outer, tokens))
            return carry, readout(outer, outputs, targets) * (len(tokens) / steps)

        def cut(a: jax.Array) -> jax.Array:
            return a[: number * size].reshape(number, size, *a.shape[1:])

        carry, losses = jax.lax.scan(segment, first_carry(options), (cut(inputs), cut(targets)))
        total: jax.Array = losses.sum()
        if rest:
            last = segment(carry, (inputs[number * size :], targets[number * size :]))
            total += last[1]
        return total

    return jax.value_and_grad(loss)(params)


def streaming(config: Config, options: dict[str, Any], params: Tree, tokens: Tree) -> Tree:
    """Return loss and gradients by reversal, chunk by chunk."""
    rnn, outer = params
    found = value_and_grad(
        rnn, outer, tokens[:-1], tokens[1:], config, readout=readout, embed=embed,
        chunk_size=options["chunk"], checkpoint_every=options.get("every"),
    )  # fmt: skip
    return found.loss, found.grads


def drop_in(config: Config, options: dict[str, Any], params: Tree, tokens: Tree) -> Tree:
    """Return loss and gradients by reversal, with all outputs and logits."""

    def loss(params: Tree) -> jax.Array:
        rnn, outer = params
        outputs = apply(rnn, embed(outer, tokens[:-1]), config).outputs
        return readout(outer, outputs, tokens[1:])

    return jax.value_and_grad(loss)(params)


def run(options: dict[str, Any]) -> dict[str, Any]:
    """Measure one variant."""
    width, hidden, classes = (options[name] for name in ("embedding", "hidden", "vocabulary"))
    keys = jax.random.split(jax.random.key(0), 4)
    outer = {
        "embedding": jax.random.normal(keys[0], (classes, width)),
        "weight": jax.random.normal(keys[1], (hidden, classes)) * hidden**-0.5,
        "bias": jnp.zeros(classes),
    }
    static: Any
    function: Callable[..., Tree]
    if options["variant"] in ("plain", "checkpointed"):
        static, rnn = cell_of(options)
        function = plain if options["variant"] == "plain" else checkpointed
    else:
        cell = "rev" + options["cell"]
        static = Config(cell, width, hidden, max_forget_bits=options["bits"])
        rnn = init(keys[2], static)
        function = drop_in if options["variant"] == "drop_in" else streaming
        if options["variant"] == "hybrid":
            found = plan(static, options["steps"], options["batch"], chunk_size=options["chunk"])
            options = options | {"every": found.checkpoint_every}
    params = (rnn, outer)
    tokens = jax.random.randint(keys[3], (options["steps"] + 1, options["batch"]), 0, classes)

    @partial(jax.jit, donate_argnums=1, keep_unused=True)
    def step(params: Tree, gradients: Tree, tokens: jax.Array) -> Tree:
        """Return a loss, and gradients in place of those of the last step."""
        return function(static, options, params, tokens)

    gradients = jax.block_until_ready(jax.tree.map(lambda a: a + 0, params))
    start = time.perf_counter()
    program = step.lower(params, gradients, tokens).compile()
    compiling = time.perf_counter() - start
    sizes: Any = program.memory_analysis()
    if options.get("limit_mb"):
        process_memory.limit(options["limit_mb"] * 2**20)
    before = process_memory.reset_peak()
    times, loss = [], jnp.float32(0)
    for _ in range(options["repeats"]):
        start = time.perf_counter()
        loss, gradients = jax.block_until_ready(program(params, gradients, tokens))
        times.append(time.perf_counter() - start)
    return options | {
        "seconds": min(times),
        "peak_bytes": process_memory.peak() - before,
        "temporary_bytes": sizes.temp_size_in_bytes,
        "compile_seconds": compiling,
        "loss": float(loss),
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    try:
        print(json.dumps(run(given)))
    except RuntimeError as error:  # what JAX raises when memory runs out
        if not any(sign in str(error) for sign in ("memory", "RESOURCE_EXHAUSTED", "bad_alloc")):
            raise
        print(json.dumps(given | {"out_of_memory": True}))
