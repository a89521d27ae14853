"""The oracle behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.config import LAYOUTS
from revrnn.evaluation import Request, one_result, prepare

from . import activations, quantise
from .accounting import storage
from .buffer import Buffer, make_buffer
from .gradients import sequence_gradient
from .product import product
from .revmul import revmul, revmul_inverse
from .sequence import Forward, State, sequence_forward, sequence_reverse

Results = dict[str, Any]


class NumpyImplementation:
    """The oracle: every operation, every layout, gradients in float64."""

    name = "numpy"
    layouts: tuple[str, ...] = LAYOUTS

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts).as_sequence()
        # Integers of every kind are int64 within the oracle; unbounded ones stay as they are.
        wide = {
            name: array.astype(np.int64) if array.dtype.kind in "iu" else array
            for name, array in request.arrays.items()
        }
        return request.results(_OPERATIONS[operation](replace(request, arrays=wide)))


IMPLEMENTATION = NumpyImplementation()


def _forget_gate(*arguments: Any) -> npt.NDArray[np.int64]:
    return activations.forget_gate(*arguments).z


def _revmul(request: Request) -> Results:
    arrays, size = request.arrays, request.settings["slice_size"]
    buffer = make_buffer(request.layout, arrays["heads"], arrays)
    h = revmul(arrays["h"], arrays["z"], arrays["mask"], size, buffer)
    return {"h": h, **_buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    arrays, size = request.arrays, request.settings["slice_size"]
    buffer = make_buffer(request.layout, arrays["heads"], arrays)
    h, z, restore = arrays["h"], arrays["z"], arrays["restore"]
    h = revmul_inverse(h, z, arrays["mask"], size, restore, buffer)
    return {"h": h, **_buffer_results(buffer)}


def _sequence_forward(request: Request) -> Results:
    forward = _forward(request)
    return {
        "outputs": forward.outputs,
        "wraps": forward.wraps,
        "slices": forward.slices,
        **_state_results(forward.state),
        **_buffer_results(forward.buffer),
        **_trace(request, forward.states, forward.heads_steps, forward.words_steps),
    }


def _forward(request: Request) -> Forward:
    config, arrays, buffer = request.stack, request.arrays, _buffer(request)
    x, mask, gains = arrays["x"], arrays["mask"], arrays.get("gains")
    return sequence_forward(config, arrays, x, mask, _state(request), buffer, gains)


def _sequence_reverse(request: Request) -> Results:
    config, arrays, buffer = request.stack, request.arrays, _buffer(request)
    x, mask, gains = arrays["x"], arrays["mask"], arrays.get("gains")
    state = _state(request)
    slices = arrays.get("slices", np.zeros((len(x) + 1, x.shape[1], 0), np.int64))
    states: list[State] = []
    heads: list[Any] = []
    words: list[int] = []
    for before in sequence_reverse(config, arrays, x, mask, state, buffer, slices, gains):
        states.insert(0, before.copy())
        if buffer is not None:
            heads.insert(0, buffer.heads.copy())
            words.insert(0, buffer.words_count())
    return {
        **_state_results(states[0] if states else state),
        **_buffer_results(buffer),
        **_trace(request, states, heads, words),
    }


def _sequence_storage(request: Request) -> Results:
    return vars(storage(request.stack, request.arrays["mask"], _forward(request)))


def _sequence_gradient(request: Request) -> Results:
    arrays = request.arrays
    grads = sequence_gradient(
        request.stack,
        arrays,
        arrays["x"],
        arrays["mask"],
        _state(request),
        arrays.get("heads"),
        arrays["grad_outputs"],
        arrays["grad_h"],
        arrays.get("grad_c"),
        request.settings["states"],
        arrays.get("gains"),
    )
    params = {f"grad_{name}": grad for name, grad in grads.params.items()}
    return {"grad_x": grads.x, "grad_h": grads.h, "grad_c": grads.c, **params}


_OPERATIONS: Final[dict[str, Callable[[Request], Results]]] = {
    "quantise": one_result(quantise.quantise),
    "dequantise": one_result(quantise.dequantise),
    "round_shift": one_result(quantise.round_shift),
    "product": one_result(product),
    "tanh": one_result(activations.tanh),
    "sigmoid": one_result(activations.sigmoid),
    "forget_gate": one_result(_forget_gate),
    "view": one_result(quantise.view),
    "revmul": _revmul,
    "revmul_inverse": _revmul_inverse,
    "cell_forward": _sequence_forward,
    "cell_reverse": _sequence_reverse,
    "sequence_forward": _sequence_forward,
    "sequence_reverse": _sequence_reverse,
    "sequence_storage": _sequence_storage,
    "sequence_gradient": _sequence_gradient,
}


def _state(request: Request) -> State:
    return State(request.arrays["h"], request.arrays.get("c"))


def _buffer(request: Request) -> Buffer | None:
    """Return a buffer with the given heads, and the given store where there is one."""
    arrays = request.arrays
    return make_buffer(request.layout, arrays["heads"], arrays) if "heads" in arrays else None


def _state_results(state: State) -> Results:
    return {"h": state.h, "c": state.c}


def _buffer_results(buffer: Buffer | None) -> Results:
    return {} if buffer is None else {"heads": buffer.heads, **buffer.store()}


def _trace(request: Request, states: list[State], heads: list[Any], words: list[int]) -> Results:
    """Return what stood after each step (EVAL-009)."""
    if not request.settings.get("trace"):
        return {}
    results: Results = {"words_steps": words}
    steps = (("h", [s.h for s in states]), ("c", [s.c for s in states]), ("heads", heads))
    for name, values in steps:
        if name in request.arrays:
            given = request.arrays[name]
            stacked = np.array(values, given.dtype).reshape(len(values), *given.shape)
            results[f"{name}_steps"] = stacked
    return results
