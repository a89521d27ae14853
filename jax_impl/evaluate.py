"""The JAX implementation behind the evaluation interface (EVAL): NumPy arrays in and out.

What is compiled depends on the configuration and on shapes alone. Arrays of free length are padded
to a power of two, stores to what their configuration can fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from revrnn.config import Config
from revrnn.evaluation import Request, prepare
from revrnn.formats import Formats

from . import activations, quantise
from .accounting import storage
from .bptt import Bptt
from .buffer import LAYOUTS, Buffer, Store, empty_store, heads_of, make_buffer, store_of
from .groups import Groups
from .passing import CarryBack, Data, Settings, Undo
from .product import product, product_method
from .revmul import revmul, revmul_inverse
from .sequence import Stack, Steps, Trace, sequence_forward, sequence_reverse, status_of
from .state import State
from .status import check
from .x64 import join64_numpy, split64_numpy, with_x64

Results = dict[str, Any]
Numbers = npt.NDArray[Any]


class JaxImplementation:
    """Every operation, layouts ``stream`` and ``wordlist``, gradients in float32."""

    name = "jax"
    layouts: tuple[str, ...] = LAYOUTS

    def __init__(self, jit: bool = True) -> None:
        """Compile, or with ``jit=False`` run operation by operation: slow, for tests."""
        self.jit = jit

    @with_x64
    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts)
        function: Callable[[Request], Results] = globals()[f"_{operation}"]
        with nullcontext() if self.jit else jax.disable_jit():
            return function(request)


IMPLEMENTATION = JaxImplementation()


# --- elementary operations ------------------------------------------------------------------------


def _elementwise(function: Callable[..., jax.Array], v: Numbers, *settings: Any) -> Numbers:
    """Apply a compiled function to an array of any shape, padded to a power of two elements."""
    padded = np.zeros(_power_of_two(v.size), v.dtype)
    padded[: v.size] = v.reshape(-1)
    return np.asarray(function(jnp.asarray(padded), *settings))[: v.size].reshape(v.shape).copy()


def _power_of_two(length: int) -> int:
    return max(16, 1 << (length - 1).bit_length())


@partial(jax.jit, static_argnums=(1, 2))
def _quantised(x: jax.Array, kind: str, formats: Formats) -> jax.Array:
    return quantise.quantise(kind, x, formats)


_dequantised = jax.jit(quantise.dequantise, static_argnums=1)
_round_shifted = jax.jit(quantise.round_shift, static_argnums=1)
_viewed = jax.jit(lambda h, *bits: quantise.view(h, *bits).astype(jnp.int16), static_argnums=(1, 2))
_tanhs = jax.jit(lambda s, bits: activations.tanh(activations.saturate(s), bits), static_argnums=1)
_sigmoids = jax.jit(
    lambda s, bits: activations.sigmoid(activations.saturate(s), bits), static_argnums=1
)
_products = jax.jit(product, static_argnums=2)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _forget_gates(s: jax.Array, bits: int, limit: int | None, z_max: int) -> jax.Array:
    sigma = activations.sigmoid(activations.saturate(s), bits)
    return activations.forget_gate(sigma, limit, z_max).z


def _quantise(request: Request) -> Results:
    kind = request.settings["kind"]
    return {"q": _elementwise(_quantised, request.arrays["x"], kind, request.formats)}


def _dequantise(request: Request) -> Results:
    return {"x": _elementwise(_dequantised, request.arrays["q"], request.settings["bits"])}


def _round_shift(request: Request) -> Results:
    return {"v": _elementwise(_round_shifted, request.arrays["v"], request.settings["k"])}


def _product(request: Request) -> Results:
    arrays = request.arrays
    a, w = _on_device((arrays["a"], arrays["w"]))
    return {"s": np.array(_products(a, w, product_method()))}


def _tanh(request: Request) -> Results:
    return {"y": _elementwise(_tanhs, request.arrays["s"], request.settings["bits"])}


def _sigmoid(request: Request) -> Results:
    return {"y": _elementwise(_sigmoids, request.arrays["s"], request.settings["bits"])}


def _forget_gate(request: Request) -> Results:
    settings = request.settings
    names = ("bits", "max_forget_bits", "z_max")
    return {
        "z": _elementwise(_forget_gates, request.arrays["s"], *(settings[name] for name in names))
    }


def _view(request: Request) -> Results:
    bits = (request.settings["state_bits"], request.settings["view_bits"])
    return {"a": _elementwise(_viewed, request.arrays["h"], *bits)}


# --- buffer operations ----------------------------------------------------------------------------


class Multiplied(NamedTuple):
    """What the buffer operations deliver."""

    h: jax.Array
    heads: jax.Array
    store: Store | None
    status: jax.Array


@partial(jax.jit, static_argnames="slice_size")
def _multiply(
    h: jax.Array, z: jax.Array, rows: jax.Array, heads: jax.Array, store: Store, slice_size: int
) -> Multiplied:
    buffer, h = revmul(h, z, rows, slice_size, make_buffer(heads, store))
    return Multiplied(h, heads_of(buffer), store_of(buffer), buffer.faults())


@partial(jax.jit, static_argnames="slice_size")
def _multiply_inverse(
    h: jax.Array,
    z: jax.Array,
    rows: jax.Array,
    heads: jax.Array,
    store: Store,
    restore: jax.Array,
    slice_size: int,
) -> Multiplied:
    buffer, h = revmul_inverse(h, z, rows, slice_size, restore, make_buffer(heads, store))
    return Multiplied(h, heads_of(buffer), store_of(buffer), buffer.faults())


def _revmul(request: Request) -> Results:
    return _multiplied(request, _multiply)


def _revmul_inverse(request: Request) -> Results:
    return _multiplied(request, _multiply_inverse, request.arrays["restore"])


def _multiplied(request: Request, function: Callable[..., Multiplied], *more: Numbers) -> Results:
    arrays, layout = request.arrays, request.settings["layout"]
    # One operation pushes a word a unit, or a plane and a flag, at most.
    room = arrays["h"].size if layout == "stream" else 1
    capacity = _power_of_two(len(arrays["words"]) + room)
    store = _store_from(layout, arrays, capacity, _power_of_two(len(arrays["flags"]) + 1))
    names = ("h", "z", "mask")
    given = (*(arrays[name] for name in names), _heads_from(layout, arrays["heads"]), store)
    found = function(*_on_device((*given, *more)), slice_size=request.settings["slice_size"])
    check(found.status)
    return {"h": np.array(found.h), **_buffer_results(layout, found.heads, found.store)}


def _on_device(tree: Any) -> Any:
    """Return NumPy arrays as JAX arrays of the same types."""
    return jax.tree.map(jnp.asarray, tree)


def _heads_from(layout: str, heads: Numbers) -> Numbers:
    """Return heads as they cross the boundary of JAX (:class:`State`)."""
    return heads.astype(np.int32) if layout == "stream" else split64_numpy(heads)


def _store_from(
    layout: str, arrays: Mapping[str, Numbers], capacity: int, flags_capacity: int
) -> Store:
    """Return ``words`` and ``flags``, padded, as they cross the boundary of JAX."""
    words, count = arrays["words"], np.int32(len(arrays["words"]))
    padded = np.zeros((capacity, *words.shape[1:]), words.dtype)
    padded[:count] = words
    if layout == "stream":
        return Store(*_on_device((padded, count, None, None)))
    flags = np.zeros(flags_capacity, np.uint8)
    flags[: len(arrays["flags"])] = arrays["flags"]
    flags_length = np.int32(len(arrays["flags"]))
    return Store(*_on_device((split64_numpy(padded), count, flags, flags_length)))


def _buffer_results(layout: str, heads: jax.Array | None, store: Store | None) -> Results:
    """Return ``heads``, ``words`` and ``flags`` of EVAL-006."""
    if heads is None:
        return {}
    assert store is not None
    words = np.asarray(store.words)[: int(store.length)]
    if layout == "stream":
        found = np.asarray(heads).astype(np.int64)
        return {"heads": found, "words": words.copy(), "flags": np.zeros(0, np.uint8)}
    assert store.flags is not None
    assert store.flags_length is not None
    flags = np.asarray(store.flags)[: int(store.flags_length)].copy()
    wide = join64_numpy(np.asarray(heads))
    return {"heads": wide, "words": join64_numpy(words), "flags": flags}


# --- sequences ------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What the sequence programs deliver; what was not asked for is ``None``."""

    outputs: jax.Array | None
    state: State
    store: Store | None
    slices: jax.Array | None
    wraps: jax.Array | None
    words: jax.Array | None
    gate_counts: jax.Array | None
    trace: Trace | None
    status: jax.Array


Params = dict[str, Any]


@partial(jax.jit, static_argnames=("config", "method", "trace", "count_gates"))
def _run_forward(
    config: Config,
    method: str,
    params: Params,
    steps: Steps,
    state: State,
    store: Store | None,
    trace: bool,
    count_gates: bool,
) -> Run:
    run = sequence_forward(
        Stack(config, params, method),
        steps,
        Groups.cut(state.h, state.c),
        _buffer(state, store),
        trace=trace,
        count_gates=count_gates,
    )
    end, store = _end(run.groups, run.buffer)
    words = None if run.buffer is None else run.buffer.length
    return Run(
        run.outputs,
        end,
        store,
        run.slices,
        run.wraps,
        words,
        run.gate_counts,
        run.trace,
        run.status,
    )


@partial(jax.jit, static_argnames=("config", "method", "trace"))
def _run_reverse(
    config: Config,
    method: str,
    params: Params,
    steps: Steps,
    state: State,
    store: Store | None,
    slices: jax.Array,
    trace: bool,
) -> Run:
    run = sequence_reverse(
        Stack(config, params, method),
        steps,
        Groups.cut(state.h, state.c),
        _buffer(state, store),
        slices,
        trace=trace,
    )
    end, store = _end(run.groups, run.buffer)
    return Run(None, end, store, None, None, None, None, run.trace, status_of(run.buffer))


@partial(jax.jit, static_argnames=("config", "method", "states"))
def _run_gradient(
    config: Config,
    method: str,
    states: str,
    params: Params,
    steps: Steps,
    state: State,
    gradient: tuple[jax.Array, jax.Array, jax.Array | None],
) -> tuple[Any, ...]:
    grad_outputs, *grad_state = gradient
    length, rows = steps.mask.shape
    data = Data((steps.x, grad_outputs), steps.mask, steps.gains, None)
    settings = Settings(config, method, states=states, capacity=_planes(config, length))
    bptt = Bptt(settings, params, length, rows)

    def inputs(own: tuple[jax.Array, jax.Array]) -> jax.Array:
        return own[0]

    def chunk(
        extra: None, own: tuple[jax.Array, jax.Array], undo: Undo, carry_back: CarryBack
    ) -> tuple[None, jax.Array]:
        undo(own[0])
        return extra, carry_back(own[1])

    kept, _ = bptt.forward(state, jnp.int32(0), data, inputs)
    back, dx = bptt.backward(kept, state, data, inputs, chunk, None, (grad_state[0], grad_state[1]))
    dx = jnp.zeros(steps.x.shape, jnp.float32) if dx is None else dx
    return dx, back.grad_state, back.grads, back.status


def _buffer(state: State, store: Store | None) -> Buffer | None:
    return None if state.heads is None else make_buffer(state.heads, store)


def _end(groups: Groups, buffer: Buffer | None) -> tuple[State, Store | None]:
    if buffer is None:
        return State(*groups.arrays()), None
    return State(*groups.arrays(), heads_of(buffer)), store_of(buffer)


def _cell_forward(request: Request) -> Results:
    run = _forward(request, _one_step(request), _given_store(request, 1))
    return _state_results(request, run)


def _cell_reverse(request: Request) -> Results:
    return _state_results(request, _reverse(request, _one_step(request)))


def _one_step(request: Request) -> dict[str, Numbers]:
    x = request.arrays["x"][None]
    return {**request.arrays, "x": x, "mask": np.ones(x.shape[:2], np.bool_)}


def _sequence_forward(request: Request) -> Results:
    config, trace = request.stack, request.settings["trace"]
    run = _forward(request, request.arrays, _fresh_store(request), trace=trace)
    results = {
        "outputs": np.array(run.outputs),
        **_state_results(request, run),
        "wraps": int(run.wraps or 0),
    }
    if config.slice_size:
        results["slices"] = np.array(run.slices)
    return results | _trace_results(request, run.trace)


def _sequence_reverse(request: Request) -> Results:
    run = _reverse(request, request.arrays, trace=request.settings["trace"])
    return _state_results(request, run) | _trace_results(request, run.trace)


def _sequence_storage(request: Request) -> Results:
    run = _forward(request, request.arrays, None, count_gates=True)
    counts = np.zeros(1025, np.int64) if run.gate_counts is None else np.array(run.gate_counts)
    accounts = storage(request.stack, request.arrays["mask"], counts, int(run.words or 0))
    return {
        "gate_counts": accounts.gate_counts,
        "ideal_bits": np.float64(accounts.ideal_bits),
        "stored_bits": accounts.stored_bits,
        "plain_bits": accounts.plain_bits,
    }


def _sequence_gradient(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    gradient = (arrays["grad_outputs"], arrays["grad_h"], arrays.get("grad_c"))
    x, state, params, status = _run_gradient(
        config,
        product_method(),
        request.settings["states"],
        _params(request),
        _steps(request, arrays),
        _state(request),
        _on_device(gradient),
    )
    check(status)
    h, c = state
    results = {"grad_x": np.array(x), "grad_h": np.array(h)}
    if c is not None:
        results["grad_c"] = np.array(c)
    return results | {f"grad_{name}": np.array(grad) for name, grad in params.items()}


def _forward(
    request: Request,
    arrays: Mapping[str, Numbers],
    store: Store | None,
    trace: bool = False,
    count_gates: bool = False,
) -> Run:
    run: Run = _run_forward(
        request.stack,
        product_method(),
        _params(request),
        _steps(request, arrays),
        _state(request),
        store,
        trace=trace,
        count_gates=count_gates,
    )
    check(run.status)
    return run


def _reverse(request: Request, arrays: Mapping[str, Numbers], trace: bool = False) -> Run:
    steps, rows, _ = arrays["x"].shape
    slices = arrays.get("slices", np.zeros((steps + 1, rows, 0), np.int32))
    run: Run = _run_reverse(
        request.stack,
        product_method(),
        _params(request),
        _steps(request, arrays),
        _state(request),
        _given_store(request, steps),
        _on_device(slices),
        trace=trace,
    )
    check(run.status)
    return run


def _steps(request: Request, arrays: Mapping[str, Numbers]) -> Steps:
    given = arrays["x"], arrays["mask"], request.arrays.get("gains")
    return Steps(*_on_device(given))


def _params(request: Request) -> Params:
    names = request.stack.parameter_shapes()
    params: Params = _on_device({name: request.arrays[name] for name in names})
    return params


def _state(request: Request) -> State:
    config, arrays = request.stack, request.arrays
    heads = _heads_from(config.buffer, arrays["heads"]) if config.forgetting else None
    return State(*_on_device((arrays["h"], arrays.get("c"), heads)))


def _fresh_store(request: Request) -> Store | None:
    config = request.stack
    if not config.forgetting:
        return None
    steps, rows, _ = request.arrays["x"].shape
    return empty_store(config, steps, rows, _planes(config, steps))


def _planes(config: Config, steps: int) -> int | None:
    """Return room for one plane an operation, at least one (BUF-021).

    Rows are active at different times, and so are sliced units and others.
    """
    return max(1, steps * config.operations_per_step) if config.buffer == "wordlist" else None


def _given_store(request: Request, steps: int) -> Store | None:
    """Return the given store with room for what so many steps can push."""
    config, arrays = request.stack, request.arrays
    if not config.forgetting:
        return None
    most = _planes(config, steps) or config.words_bound(steps) * arrays["heads"].size
    capacity = _power_of_two(max(len(arrays["words"]), 1) + most)
    flags = _power_of_two(len(arrays["flags"]) + steps * config.operations_per_step)
    return _store_from(config.buffer, arrays, capacity, flags)


def _state_results(request: Request, run: Run) -> Results:
    results = {"h": np.array(run.state.h)}
    if run.state.c is not None:
        results["c"] = np.array(run.state.c)
    return results | _buffer_results(request.stack.buffer, run.state.heads, run.store)


def _trace_results(request: Request, trace: Trace | None) -> Results:
    if trace is None:
        return {}
    results = {"h_steps": np.array(trace.h)}
    if trace.c is not None:
        results["c_steps"] = np.array(trace.c)
    if trace.heads is not None:
        heads = np.asarray(trace.heads)
        stream = request.stack.buffer == "stream"
        results["heads_steps"] = heads.astype(np.int64) if stream else join64_numpy(heads)
        results["words_steps"] = np.asarray(trace.words).astype(np.int64)
    return results
