"""JAX behind the evaluation interface (EVAL): NumPy arrays in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Final

import jax
import numpy as np

from revrnn.accounting import storage
from revrnn.config import Config
from revrnn.evaluation import Request, one_result, prepare
from revrnn.formats import Formats

from . import activations, quantise
from .buffer import LAYOUTS, Store, empty_store
from .engines import Method, method_of
from .evaluate_programs import (
    Given,
    Numbers,
    Run,
    buffer_results,
    elementwise,
    heads_from,
    multiplied,
    numbers,
    on_device,
    planes,
    quick_jit,
    run_forward,
    run_gradient,
    run_reverse,
    store_from,
)
from .product import product, product_method
from .revmul import revmul, revmul_inverse
from .sequence import Steps
from .state import State
from .status import check
from .x64 import with_x64

Results = dict[str, Any]


class JaxImplementation:
    """Every operation, layouts ``stream`` and ``wordlist``, gradients in float32."""

    name = "jax"
    layouts: tuple[str, ...] = LAYOUTS
    # Compiling takes most of the time, and does not hold Python's lock.
    threads = 2

    def __init__(self, jit: bool = True, engine: str = "scan") -> None:
        """Compile, or with ``jit=False`` run operation by operation: slow, for tests.

        Sequences by the named engine; layouts that it does not have are the scan's.
        """
        self.jit, self.engine = jit, engine
        self.name = "jax" if engine == "scan" else f"jax-{engine}"

    @with_x64
    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts).as_sequence()
        if operation in _OPERATIONS:
            compute = _OPERATIONS[operation]
        else:
            of_sequence, method = _SEQUENCES[operation], self._method(request.stack)

            def compute(request: Request) -> Results:
                return of_sequence(request, method)

        with nullcontext() if self.jit else jax.disable_jit():
            return request.results(compute(request))

    def _method(self, config: Config) -> Method:
        other = config.forgetting and config.buffer != "stream"
        return method_of(config, "scan" if other else self.engine)


IMPLEMENTATION = JaxImplementation()

_product = quick_jit(product, static_argnums=2)


@elementwise
def _quantised(x: jax.Array, kind: str, formats: Formats) -> jax.Array:
    return quantise.quantise(kind, x, formats)


def _quantise(kind: str, x: Numbers, formats: Formats) -> Numbers:
    return _quantised(x, kind, formats)


def _products(a: Numbers, w: Numbers) -> jax.Array:
    s: jax.Array = _product(*on_device((a, w)), product_method())
    return s


@elementwise
def _tanh(s: jax.Array, bits: int) -> jax.Array:
    return activations.tanh(activations.saturate(s), bits)


@elementwise
def _sigmoid(s: jax.Array, bits: int) -> jax.Array:
    return activations.sigmoid(activations.saturate(s), bits)


@elementwise
def _forget_gate(s: jax.Array, bits: int, max_forget_bits: int | None, z_max: int) -> jax.Array:
    sigma = activations.sigmoid(activations.saturate(s), bits)
    return activations.forget_gate(sigma, max_forget_bits, z_max).z


def _revmul(request: Request) -> Results:
    return _multiplied(request, revmul)


def _revmul_inverse(request: Request) -> Results:
    return _multiplied(request, revmul_inverse, request.arrays["restore"])


def _multiplied(request: Request, function: Callable[..., Any], *restore: Numbers) -> Results:
    arrays, layout = request.arrays, request.layout
    # One operation pushes a word a unit, or a plane and a flag, at most.
    store = store_from(layout, arrays, arrays["h"].size if layout == "stream" else 1, 1)
    given = (arrays["h"], arrays["z"], arrays["mask"]), heads_from(layout, arrays["heads"]), store
    run = multiplied(function, request.settings["slice_size"], *on_device((*given, *restore)))
    check(run.status)
    return {"h": run.h, **buffer_results(run.heads, run.store)}


def _sequence_forward(request: Request, method: Method) -> Results:
    run = _forward(request, method, trace=request.settings.get("trace", False))
    return {**run.others, "wraps": run.others["wraps"] or 0, **_end_results(run)}


def _forward(
    request: Request, method: Method, trace: bool = False, count_gates: bool = False
) -> Run:
    given = _given(request)
    run: Run = run_forward(request.stack, method, given, trace=trace, count_gates=count_gates)
    check(run.status)
    return run


def _sequence_reverse(request: Request, method: Method) -> Results:
    steps, rows, _ = request.arrays["x"].shape
    slices = request.arrays.get("slices", np.zeros((steps + 1, rows, 0), np.int32))
    given, trace = _given(request), request.settings.get("trace", False)
    run: Run = run_reverse(request.stack, method, given, on_device(slices), trace=trace)
    check(run.status)
    return _end_results(run)


def _sequence_storage(request: Request, method: Method) -> Results:
    run = _forward(request, method, count_gates=True)
    counts = run.others["gate_counts"]
    counted = np.zeros(1025, np.int64) if counts is None else np.asarray(counts)
    store = buffer_results(run.state.heads, run.store)
    words, flags = (len(store.get(name, ())) for name in ("words", "flags"))
    return vars(storage(request.stack, request.arrays["mask"], counted, words, flags))


def _sequence_gradient(request: Request, method: Method) -> Results:
    arrays = request.arrays
    gradient = (arrays["grad_outputs"], arrays["grad_h"], arrays.get("grad_c"))
    given, states = _given(request), request.settings["states"]
    x, (h, c), params, status = run_gradient(
        request.stack, method, states, given, on_device(gradient)
    )
    check(status)
    grads = {f"grad_{name}": grad for name, grad in params.items()}
    return {"grad_x": x, "grad_h": h, "grad_c": c, **grads}


_OPERATIONS: Final[dict[str, Callable[[Request], Results]]] = {
    "quantise": one_result(_quantise),
    "dequantise": one_result(elementwise(quantise.dequantise)),
    "round_shift": one_result(elementwise(quantise.round_shift)),
    "product": one_result(_products),
    "tanh": one_result(_tanh),
    "sigmoid": one_result(_sigmoid),
    "forget_gate": one_result(_forget_gate),
    "view": one_result(elementwise(quantise.view)),
    "revmul": _revmul,
    "revmul_inverse": _revmul_inverse,
}

_SEQUENCES: Final[dict[str, Callable[[Request, Method], Results]]] = {
    "cell_forward": _sequence_forward,
    "cell_reverse": _sequence_reverse,
    "sequence_forward": _sequence_forward,
    "sequence_reverse": _sequence_reverse,
    "sequence_storage": _sequence_storage,
    "sequence_gradient": _sequence_gradient,
}


def _given(request: Request) -> Given:
    arrays = request.arrays
    params = {name: arrays[name] for name in request.stack.parameter_shapes()}
    steps = Steps(arrays["x"], arrays["mask"], arrays.get("gains"))
    heads: Any = heads_from(request.layout, arrays["heads"]) if "heads" in arrays else None
    state = State(arrays["h"], arrays.get("c"), heads)
    given: Given = on_device(Given(params, steps, state, _store(request)))
    return given


def _store(request: Request) -> Store | None:
    """Return the given store, or an empty one, with room for what the steps can push."""
    config, arrays = request.stack, request.arrays
    if not config.forgetting:
        return None
    steps, rows, _ = arrays["x"].shape
    if "words" not in arrays:
        return empty_store(config, steps, rows, planes(config, steps))
    most = planes(config, steps) or config.words_bound(steps) * arrays["heads"].size
    return store_from(config.buffer, arrays, most, steps * config.operations_per_step)


def _end_results(run: Run) -> Results:
    """Return state and store, and what stood after each step (EVAL-009)."""
    results = {"h": run.state.h, "c": run.state.c, **buffer_results(run.state.heads, run.store)}
    if run.trace is not None:
        for name, steps in run.trace._asdict().items():
            if steps is not None:
                results[f"{name}_steps"] = numbers(steps)
    return results
