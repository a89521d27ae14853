"""The oracle behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from revrnn.config import LAYOUTS, Config
from revrnn.evaluation import Request, prepare

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
        request = prepare(operation, arguments, self.layouts)
        function = globals()[f"_{operation}"]
        results: Results = function(request)
        return results


IMPLEMENTATION = NumpyImplementation()


def _quantise(request: Request) -> Results:
    kind = request.settings["kind"]
    return {"q": quantise.quantise(kind, request.arrays["x"], request.formats)}


def _dequantise(request: Request) -> Results:
    return {"x": quantise.dequantise(request.arrays["q"], request.settings["bits"])}


def _round_shift(request: Request) -> Results:
    return {"v": quantise.round_shift(request.arrays["v"], request.settings["k"])}


def _product(request: Request) -> Results:
    return {"s": product(request.arrays["a"], request.arrays["w"])}


def _tanh(request: Request) -> Results:
    return {"y": _i32(activations.tanh(request.arrays["s"], request.settings["bits"]))}


def _sigmoid(request: Request) -> Results:
    return {"y": _i32(activations.sigmoid(request.arrays["s"], request.settings["bits"]))}


def _forget_gate(request: Request) -> Results:
    settings = request.settings
    limit, z_max = settings["max_forget_bits"], settings["z_max"]
    return {
        "z": _i32(activations.forget_gate(request.arrays["s"], settings["bits"], limit, z_max).z)
    }


def _view(request: Request) -> Results:
    settings = request.settings
    h = request.arrays["h"].astype(np.int64)
    operand = quantise.view(h, settings["state_bits"], settings["view_bits"])
    return {"a": operand.astype(np.int16)}


def _revmul(request: Request) -> Results:
    h, z, rows, buffer = _revmul_arguments(request)
    h = revmul(h, z, rows, request.settings["slice_size"], buffer)
    return {"h": _i32(h), **_buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    h, z, rows, buffer = _revmul_arguments(request)
    restore = request.arrays["restore"].astype(np.int64)
    h = revmul_inverse(h, z, rows, request.settings["slice_size"], restore, buffer)
    return {"h": _i32(h), **_buffer_results(buffer)}


def _revmul_arguments(request: Request) -> tuple[Any, Any, Any, Buffer]:
    arrays = request.arrays
    buffer = make_buffer(request.settings["layout"], arrays["heads"], arrays)
    return arrays["h"].astype(np.int64), arrays["z"].astype(np.int64), arrays["mask"], buffer


def _cell_forward(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    x = arrays["x"].astype(np.int64)[None]
    rows = np.ones(x.shape[:2], np.bool_)
    buffer = _buffer(config, arrays)
    forward = sequence_forward(config, arrays, x, rows, _state(config, arrays), buffer)
    return {**_state_results(forward.state), **_buffer_results(buffer)}


def _cell_reverse(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    x = arrays["x"].astype(np.int64)[None]
    rows = np.ones(x.shape[:2], np.bool_)
    buffer = _buffer(config, arrays)
    slices = np.zeros((2, x.shape[1], 0), np.int64)
    (state,) = sequence_reverse(config, arrays, x, rows, _state(config, arrays), buffer, slices)
    return {**_state_results(state), **_buffer_results(buffer)}


def _forward(request: Request) -> Forward:
    config, arrays = request.stack, request.arrays
    heads = arrays.get("heads")
    buffer = None if heads is None else make_buffer(config.buffer, heads)
    x = arrays["x"].astype(np.int64)
    return sequence_forward(
        config, arrays, x, arrays["mask"], _state(config, arrays), buffer, _gains(arrays)
    )


def _sequence_forward(request: Request) -> Results:
    config, forward = request.stack, _forward(request)
    results = {
        "outputs": _i32(forward.outputs),
        **_state_results(forward.state),
        **_buffer_results(forward.buffer),
        "wraps": forward.wraps,
    }
    if config.slice_size:
        results["slices"] = _i32(forward.slices)
    if request.settings["trace"]:
        results |= _trace(request, forward.states, forward.heads_steps, forward.words_steps)
    return results


def _sequence_reverse(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    x = arrays["x"].astype(np.int64)
    state, buffer = _state(config, arrays), _buffer(config, arrays)
    slices = arrays.get("slices", np.zeros((len(x) + 1, x.shape[1], 0), np.int32)).astype(np.int64)
    states: list[State] = []
    heads: list[Any] = []
    words: list[int] = []
    gains = _gains(arrays)
    for before in sequence_reverse(config, arrays, x, arrays["mask"], state, buffer, slices, gains):
        states.insert(0, before.copy())
        if buffer is not None:
            heads.insert(0, buffer.heads.copy())
            words.insert(0, buffer.words_count())
    state = states[0] if states else state
    results = {**_state_results(state), **_buffer_results(buffer)}
    if request.settings["trace"]:
        results |= _trace(request, states, heads, words)
    return results


def _sequence_storage(request: Request) -> Results:
    accounts = storage(request.stack, request.arrays["mask"], _forward(request))
    return {
        "gate_counts": accounts.gate_counts,
        "ideal_bits": np.float64(accounts.ideal_bits),
        "stored_bits": accounts.stored_bits,
        "plain_bits": accounts.plain_bits,
    }


def _sequence_gradient(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    grads = sequence_gradient(
        config,
        arrays,
        arrays["x"].astype(np.int64),
        arrays["mask"],
        _state(config, arrays),
        arrays.get("heads"),
        arrays["grad_outputs"],
        arrays["grad_h"],
        arrays.get("grad_c"),
        request.settings["states"],
        _gains(arrays),
    )
    results = {"grad_x": grads.x, "grad_h": grads.h}
    if grads.c is not None:
        results["grad_c"] = grads.c
    return results | {f"grad_{name}": grad for name, grad in grads.params.items()}


def _gains(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    return arrays["gains"].astype(np.int64) if "gains" in arrays else None


def _state(config: Config, arrays: Mapping[str, npt.NDArray[Any]]) -> State:
    c = arrays["c"].astype(np.int64) if config.has_cell_state else None
    return State(arrays["h"].astype(np.int64), c)


def _buffer(config: Config, arrays: Mapping[str, npt.NDArray[Any]]) -> Buffer | None:
    return make_buffer(config.buffer, arrays["heads"], arrays) if config.forgetting else None


def _state_results(state: State) -> Results:
    return {"h": _i32(state.h)} | ({} if state.c is None else {"c": _i32(state.c)})


def _buffer_results(buffer: Buffer | None) -> Results:
    return {} if buffer is None else {"heads": buffer.heads.copy(), **buffer.store()}


def _trace(request: Request, states: list[State], heads: list[Any], words: list[int]) -> Results:
    config, shape = request.stack, (0, *request.arrays["h"].shape)
    results = {"h_steps": _i32(np.array([s.h for s in states]).reshape(len(states), *shape[1:]))}
    if config.has_cell_state:
        c = np.array([s.c for s in states]).reshape(len(states), *shape[1:])
        results["c_steps"] = _i32(c)
    if config.forgetting:
        given = request.arrays["heads"]
        results["heads_steps"] = np.array(heads, given.dtype).reshape(len(heads), *given.shape)
        results["words_steps"] = np.array(words, np.int64)
    return results


def _i32(v: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return exact integers as int32, refusing silently changed values."""
    out = v.astype(np.int32)
    assert np.array_equal(out, v), "an exact value left int32"
    return out
