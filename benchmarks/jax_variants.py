"""The variants of a training step in JAX; the two kinds of work are those of ``torch_variants``.

*plain* is Flax's cell under ``lax.scan``, layer by layer, *checkpointed* the same under
``jax.checkpoint`` around √T segments. Gradients take the place of the last step's.
"""

from __future__ import annotations

import math
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
from revrnn.jax_impl import LinearCrossEntropy, apply, init, plan, set_engine, value_and_grad
from revrnn.plan import CHUNK_SIZE

Tree = Any
Options = dict[str, Any]
CELLS = {"gru": nnx.GRUCell, "lstm": nnx.OptimizedLSTMCell}
PEERS = ("plain", "checkpointed")


def embed(outer: Tree, data: jax.Array) -> jax.Array:
    """Look tokens up; float inputs are as they are."""
    x: jax.Array = outer["embedding"][data] if "embedding" in outer else data
    return x


def readout(outer: Tree, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean loss of some steps."""
    if "weight" not in outer:
        return jnp.square(outputs).mean()
    logits = outputs @ outer["weight"] + outer["bias"]
    loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return loss


def layer(outer: Tree) -> Tree:
    """Return the readout's kernel and bias."""
    return outer["weight"], outer["bias"]


class Peer:
    """Flax's cells, one on the other."""

    def __init__(self, options: Options) -> None:
        """Make the cells of all layers."""
        self.options = options
        self.static: list[Any] = []
        self.params: list[Any] = []
        for layer in range(options["layers"]):
            width = options["hidden"] if layer else options["inputs"]
            cell = CELLS[options["cell"]](width, options["hidden"], rngs=nnx.Rngs(layer))
            graph, *states = nnx.split(cell, nnx.Param, ...)
            params, rest = states
            self.static.append((graph, rest))
            self.params.append(params)

    def zeros(self) -> Tree:
        """Return the first carry of all layers."""
        zero = jnp.zeros((self.options["batch"], self.options["hidden"]))
        carry = zero if self.options["cell"] == "gru" else (zero, zero)
        return [carry] * self.options["layers"]

    def __call__(self, params: Tree, carries: Tree, x: jax.Array) -> tuple[Tree, jax.Array]:
        """Go over a sequence; return the carries and the top layer's outputs."""
        last = []
        for (graph, rest), layer, carry in zip(self.static, params, carries, strict=True):
            carry, x = jax.lax.scan(partial(one_step, graph, rest, layer), carry, x)
            last.append(carry)
        return last, x


def one_step(graph: Any, rest: Tree, params: Tree, carry: Tree, x_t: Tree) -> tuple[Tree, Tree]:
    """Do a step of a Flax cell."""
    result: tuple[Tree, Tree] = nnx.merge(graph, params, rest)(carry, x_t)
    return result


def plain(peer: Peer, params: Tree, data: Tree, targets: Tree) -> Tree:
    """Return the loss as everybody does."""
    rnn, outer = params
    _, outputs = peer(rnn, peer.zeros(), embed(outer, data))
    return readout(outer, outputs, targets)


def checkpointed(peer: Peer, params: Tree, data: Tree, targets: Tree) -> Tree:
    """Return the loss under ``jax.checkpoint``."""
    rnn, outer = params
    steps = len(data)
    size = math.ceil(math.sqrt(steps))
    number, rest = divmod(steps, size)

    @jax.checkpoint
    def segment(carry: Tree, part: Tree) -> tuple[Tree, jax.Array]:
        data, targets = part
        carry, outputs = peer(rnn, carry, embed(outer, data))
        return carry, readout(outer, outputs, targets) * (len(data) / steps)

    def cut(a: jax.Array) -> jax.Array:
        return a[: number * size].reshape(number, size, *a.shape[1:])

    carry, losses = jax.lax.scan(segment, peer.zeros(), (cut(data), cut(targets)))
    total: jax.Array = losses.sum()
    if rest:
        last = segment(carry, (data[number * size :], targets[number * size :]))
        total += last[1]
    return total


def drop_in(config: Config, params: Tree, data: Tree, targets: Tree) -> Tree:
    """Return the loss by reversal, with all outputs and logits."""
    rnn, outer = params
    return readout(outer, apply(rnn, embed(outer, data), config).outputs, targets)


def build(options: Options) -> tuple[Callable[[], float], dict[str, Any]]:
    """Return a function that does a step and returns its loss, and facts about the variant."""
    set_engine(options["engine"] or "auto")
    chunk = options["chunk"] or CHUNK_SIZE
    facts: dict[str, Any] = {"gradient_bytes": 0}  # they take the place of the last step's
    model: Any
    if options["variant"] in PEERS:
        model = Peer(options)
        rnn = model.params
    else:
        cell = "rev" + options["cell"]
        model = Config(
            cell,
            options["inputs"],
            options["hidden"],
            num_layers=options["layers"],
            max_forget_bits=options["bits"],
        )
        rnn = init(jax.random.key(2), model)
    if options["variant"] == "hybrid":
        memory_plan = plan(model, options["steps"], options["batch"], chunk_size=chunk)
        facts["checkpoint_every"] = memory_plan.checkpoint_every
    outer, data, targets = data_of(options)
    lm = options["work"] == "lm"

    @partial(jax.jit, donate_argnums=0, keep_unused=True)
    def train(gradients: Tree, rnn: Tree, outer: Tree, data: Tree, targets: Tree) -> Tree:
        """Return a loss, and gradients in place of those of the last step."""
        if options["variant"] in ("streaming", "hybrid"):
            result = value_and_grad(
                rnn,
                outer,
                data,
                targets,
                model,
                readout=LinearCrossEntropy(layer) if lm else readout,
                embed=embed,
                chunk_size=chunk,
                checkpoint_every=facts.get("checkpoint_every"),
            )
            return result.loss, result.grads
        losses: Any = {"plain": plain, "checkpointed": checkpointed, "drop_in": drop_in}
        function = partial(losses[options["variant"]], model)
        if lm:
            return jax.value_and_grad(function)((rnn, outer), data, targets)
        # The float inputs want a gradient as well.
        return jax.value_and_grad(function, argnums=(0, 1))((rnn, outer), data, targets)

    wanted = (rnn, outer) if lm else ((rnn, outer), data)
    held = [jax.block_until_ready(jax.tree.map(lambda a: a + 0, wanted))]
    start = time.perf_counter()
    program = train.lower(held[0], rnn, outer, data, targets).compile()
    facts["compile_seconds"] = time.perf_counter() - start
    sizes: Any = program.memory_analysis()
    facts["temporary_bytes"] = sizes.temp_size_in_bytes
    facts["aliased_bytes"] = sizes.alias_size_in_bytes

    def step() -> float:
        loss, held[0] = jax.block_until_ready(program(held[0], rnn, outer, data, targets))
        return float(loss)

    return step, facts


def data_of(options: Options) -> tuple[Tree, jax.Array, jax.Array]:
    """Return the parameters around the stack, inputs and targets."""
    steps, rows, width = options["steps"], options["batch"], options["inputs"]
    keys = jax.random.split(jax.random.key(0), 3)
    if options["work"] == "layer":
        return {}, jax.random.normal(keys[0], (steps, rows, width)), jnp.zeros((steps, rows))
    hidden, classes = options["hidden"], options["vocabulary"]
    outer = {
        "embedding": jax.random.normal(keys[0], (classes, width)),
        "weight": jax.random.normal(keys[1], (hidden, classes)) * hidden**-0.5,
        "bias": jnp.zeros(classes),
    }
    tokens = jax.random.randint(keys[2], (steps + 1, rows), 0, classes)
    return outer, tokens[:-1], tokens[1:]


def reset_peak(options: Options) -> int:
    """Forget the peak so far; return the bytes in use."""
    return process_memory.reset_peak()


def peak(options: Options) -> int:
    """Return the most bytes that were in use."""
    return process_memory.peak()
