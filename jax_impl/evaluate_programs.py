"""What the evaluation interface compiles, and how its arrays enter and leave JAX (EVAL).

What is compiled depends on the configuration and on shapes alone. Arrays of free length are padded
to a power of two, stores to what their configuration can fill. Almost all time goes into compiling,
so it is done quickly rather than well (:data:`QUICKLY`); integers are exact either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial, wraps
from inspect import signature
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from revrnn.config import Config

from .bptt import Bptt
from .buffer import Buffer, Store, heads_of, make_buffer, store_of
from .engines import Method, prepared, stack_of
from .groups import Groups
from .passing import Data, Pullback, Recover
from .sequence import Steps
from .settings import Settings
from .state import State
from .walk import Forward, Reverse, Trace, status_of
from .x64 import join64_numpy, split64_numpy

# Without the passes that make code fast, and in one piece: compiling takes a third of the time. The
# last went with JAX 0.11.1.
QUICKLY: Final[dict[str, bool | int]] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_use_fusion_emitters": False,
}

Numbers = npt.NDArray[Any]


def quick_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return a function compiled with :data:`QUICKLY`; options are those of ``jax.jit``."""

    @cache  # at the first call, not while this module is imported
    def compiled() -> Callable[..., Any]:
        return jax.jit(function, compiler_options=known_options(), **options)

    @wraps(function)
    def call(*arguments: Any, **others: Any) -> Any:
        return compiled()(*arguments, **others)

    return call


@cache
def known_options() -> dict[str, bool | int]:
    """Return the options of :data:`QUICKLY` that this version of XLA has: others are errors."""
    if _knows(QUICKLY):
        return QUICKLY
    return {name: value for name, value in QUICKLY.items() if _knows({name: value})}


def _knows(options: dict[str, bool | int]) -> bool:
    program = jax.jit(lambda: jnp.int32(0), compiler_options=options).lower()
    try:
        program.compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


# --- arrays in and out ----------------------------------------------------------------------------


def on_device(tree: Any) -> Any:
    """Return NumPy arrays as JAX arrays of the same types."""
    return jax.device_put(tree)


def numbers(array: jax.Array) -> Numbers:
    """Return a NumPy array; 64-bit integers cross the boundary of JAX as uint32 halves."""
    plain = np.asarray(array)
    return join64_numpy(plain) if plain.dtype == np.uint32 else plain


def heads_from(layout: str, heads: Numbers) -> Numbers:
    """Return heads as they cross the boundary of JAX (:class:`State`)."""
    return heads.astype(np.int32) if layout == "stream" else split64_numpy(heads)


def store_from(layout: str, arrays: Mapping[str, Numbers], words: int, flags: int) -> Store:
    """Return the given store with room for so many words (or planes) and flags more."""
    given, count = arrays["words"], np.int32(len(arrays["words"]))
    padded = np.zeros((power_of_two(len(given) + words), *given.shape[1:]), given.dtype)
    padded[:count] = given
    if layout == "stream":
        return Store(*on_device((padded, count, None, None)))
    length = np.int32(len(arrays["flags"]))
    padded_flags = np.zeros(power_of_two(len(arrays["flags"]) + flags), np.uint8)
    padded_flags[:length] = arrays["flags"]
    return Store(*on_device((split64_numpy(padded), count, padded_flags, length)))


def buffer_results(heads: jax.Array | None, store: Store | None) -> dict[str, Any]:
    """Return ``heads``, ``words`` and ``flags`` (EVAL-006)."""
    if heads is None or store is None:
        return {}
    flags: Any = ()
    if store.flags is not None:
        flags = np.asarray(store.flags)[: int(store.flags_length or 0)]
    words = numbers(store.words)[: int(store.length)]
    return {"heads": numbers(heads), "words": words, "flags": flags}


def power_of_two(length: int) -> int:
    """Return the length to which arrays are padded, so that few lengths are compiled."""
    return max(16, 1 << (length - 1).bit_length())


# --- elementary operations ------------------------------------------------------------------------


def elementwise(function: Callable[..., jax.Array]) -> Callable[..., Numbers]:
    """Compile a function of an array and settings, for arrays of any shape."""
    compiled = quick_jit(function, static_argnums=range(1, len(signature(function).parameters)))

    def apply(v: Numbers, *settings: Any) -> Numbers:
        padded = np.zeros(power_of_two(v.size), v.dtype)
        padded[: v.size] = v.reshape(-1)
        return np.asarray(compiled(jax.device_put(padded), *settings))[: v.size].reshape(v.shape)

    return apply


# --- buffer operations ----------------------------------------------------------------------------


class Multiplied(NamedTuple):
    """What the buffer operations deliver."""

    h: jax.Array
    heads: jax.Array
    store: Store | None
    status: jax.Array


@partial(quick_jit, static_argnums=(0, 1))
def multiplied(
    function: Callable[..., tuple[Buffer, jax.Array]],
    slice_size: int,
    given: tuple[jax.Array, ...],
    heads: jax.Array,
    store: Store,
    *restore: jax.Array,
) -> Multiplied:
    """Multiply by a gate or undo that, by :func:`revmul` or :func:`revmul_inverse`."""
    buffer, h = function(*given, slice_size, *restore, make_buffer(heads, store))
    return Multiplied(h, heads_of(buffer), store_of(buffer), buffer.faults())


# --- sequences ------------------------------------------------------------------------------------


class Given(NamedTuple):
    """What the programs of sequences take.

    Attributes:
        params: the parameters by name.
        steps: inputs, mask and gains.
        state: where to start.
        store: the store then, ``None`` without forgetting.
    """

    params: dict[str, jax.Array]
    steps: Steps
    state: State
    store: Store | None

    def start(self) -> tuple[Steps, Groups, Buffer | None]:
        """Return the steps, and state and store as the functions of sequences take them."""
        state = self.state
        buffer = None if state.heads is None else make_buffer(state.heads, self.store)
        return self.steps, Groups.cut(state.h, state.c), buffer


class Run(NamedTuple):
    """What the programs of sequences deliver.

    Attributes:
        state: at the end, or at the start of what was undone.
        store: the store then, ``None`` without forgetting.
        trace: what stood after each step, if asked for.
        status: faults.
        others: results by name.
    """

    state: State
    store: Store | None
    trace: Trace | None
    status: jax.Array
    others: dict[str, jax.Array | None]


@partial(quick_jit, static_argnums=(0, 1), static_argnames=("trace", "count_gates"))
def run_forward(
    config: Config, method: Method, given: Given, trace: bool = False, count_gates: bool = False
) -> Run:
    """Run a stack over a sequence (SEQ-001)."""
    stack = stack_of(config, prepared(config, given.params, method), method)
    run: Forward = stack.forward(*given.start(), trace=trace, count_gates=count_gates)
    others = {name: getattr(run, name) for name in ("outputs", "slices", "wraps", "gate_counts")}
    return Run(*_end(run.groups, run.buffer), run.trace, run.status, others)


@partial(quick_jit, static_argnums=(0, 1), static_argnames="trace")
def run_reverse(
    config: Config, method: Method, given: Given, slices: jax.Array, trace: bool = False
) -> Run:
    """Undo a sequence (CELL-040)."""
    stack = stack_of(config, prepared(config, given.params, method), method)
    run: Reverse = stack.reverse(*given.start(), slices, trace=trace)
    return Run(*_end(run.groups, run.buffer), run.trace, status_of(run.buffer), {})


Gradient = tuple[jax.Array, jax.Array, jax.Array | None]


@partial(quick_jit, static_argnums=(0, 1, 2))
def run_gradient(
    config: Config, method: Method, states: str, given: Given, gradient: Gradient
) -> tuple[Any, ...]:
    """Return the gradients of inputs, state and parameters, and the status (GRAD-020)."""
    steps, state = given.steps, given.state
    grad_outputs, *grad_state = gradient
    length, rows = steps.mask.shape
    data = Data((steps.x, grad_outputs), steps.mask, steps.gains, None)
    settings = Settings(config, method, states=states, capacity=planes(config, length))
    bptt = Bptt(settings, given.params, length, rows)

    def inputs(own: tuple[jax.Array, jax.Array]) -> jax.Array:
        return own[0]

    def chunk(
        extra: None, own: tuple[jax.Array, jax.Array], recover: Recover, pullback: Pullback
    ) -> tuple[None, jax.Array]:
        recover(own[0])
        return extra, pullback(own[1])

    kept, _ = bptt.forward(state, jnp.int32(0), data, inputs)
    back, dx = bptt.backward(kept, state, data, inputs, chunk, None, (grad_state[0], grad_state[1]))
    dx = jnp.zeros(steps.x.shape, jnp.float32) if dx is None else dx
    return dx, back.grad_state, back.grads, back.status


def planes(config: Config, steps: int) -> int | None:
    """Return room for one plane an operation, at least one (BUF-021).

    Rows are active at different times, and so are sliced units and others.
    """
    return max(1, steps * config.operations_per_step) if config.buffer == "wordlist" else None


def _end(groups: Groups, buffer: Buffer | None) -> tuple[State, Store | None]:
    if buffer is None:
        return State(*groups.arrays()), None
    return State(*groups.arrays(), heads_of(buffer)), store_of(buffer)
