"""The operations of the second opinion: arguments taken apart, results put together.

NumPy does that, and no arithmetic. ``sequence_gradient`` is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from revrnn.config import LAYOUTS
from revrnn.errors import RevRNNError
from revrnn.evaluation import Request, prepare

from .cells import (
    Buffer,
    Grid,
    Layer,
    Stack,
    forget_gate,
    product,
    quantise,
    revmul,
    revmul_inverse,
    rs,
    sigmoid,
    tanh,
    view,
)

Results = dict[str, Any]
Array = npt.NDArray[Any]

_WORD_TYPES: Final = {"stream": np.uint16, "wordlist": np.int64, "bigint": np.uint16}


class NaiveImplementation:
    """All operations of EVAL-004 to EVAL-009 but ``sequence_gradient``."""

    name = "naive"
    layouts: tuple[str, ...] = LAYOUTS
    profiles = ("gates", "buffer", "cell", "sequence")  # CONF-001

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts)
        if operation not in _OPERATIONS:
            raise RevRNNError("E_UNSUPPORTED", "operation", operation, ", ".join(_OPERATIONS))
        return _OPERATIONS[operation](request)


def _each(values: Array, function: Callable[[Any], Any], dtype: type) -> Array:
    """Apply a function to every element."""
    return _array([function(value) for value in values.flatten().tolist()], dtype, values.shape)


def _array(values: list[Any], dtype: type, shape: tuple[int, ...]) -> Array:
    """Build an array; the shape is needed where the list is empty."""
    return np.array(values, dtype).reshape(shape)


def _quantise(request: Request) -> Results:
    formats, kind = request.formats, request.settings["kind"]
    # QNT-002
    bits, lo, hi, dtype = {
        "operand": (formats.operand_bits, -32512, 32512, np.int16),
        "weight": (formats.weight_bits, -32512, 32512, np.int16),
        "bias": (formats.operand_bits + formats.weight_bits, -(2**31), 2**31 - 1, np.int32),
        "state": (formats.state_bits, -(2**31), 2**31 - 1, np.int32),
    }[kind]
    return {"q": _each(request.arrays["x"], lambda x: quantise(x, bits, lo, hi), dtype)}


def _dequantise(request: Request) -> Results:
    bits = request.settings["bits"]
    # QNT-006: the scaled number is exact in binary64, so storing it rounds once.
    return {"x": _each(request.arrays["q"], lambda q: math.ldexp(float(q), -bits), np.float32)}


def _round_shift(request: Request) -> Results:
    k = request.settings["k"]
    return {"v": _each(request.arrays["v"], lambda v: rs(v, k), np.int64)}


def _product(request: Request) -> Results:
    a, w = request.arrays["a"], request.arrays["w"]
    return {"s": _array(product(a.tolist(), w.tolist()), np.int64, (len(a), len(w)))}


def _tanh(request: Request) -> Results:
    bits = request.settings["bits"]
    return {"y": _each(request.arrays["s"], lambda s: tanh(s, bits), np.int32)}


def _sigmoid(request: Request) -> Results:
    bits = request.settings["bits"]
    return {"y": _each(request.arrays["s"], lambda s: sigmoid(s, bits), np.int32)}


def _forget_gate(request: Request) -> Results:
    names = ("bits", "max_forget_bits", "z_max")
    bits, limit, z_max = (request.settings[name] for name in names)
    gates = _each(request.arrays["s"], lambda s: forget_gate(s, bits, limit, z_max), np.int32)
    return {"z": gates}


def _view(request: Request) -> Results:
    state_bits, view_bits = request.settings["state_bits"], request.settings["view_bits"]
    return {"a": _each(request.arrays["h"], lambda h: view(h, state_bits, view_bits), np.int16)}


def _buffer(request: Request, layout: str) -> Buffer:
    """Take the heads and, where one is given, the store."""
    heads = [[int(head) for head in row] for row in request.arrays["heads"].tolist()]
    stored = [request.arrays[name].tolist() if name in request.arrays else [] for name in _STORE]
    return Buffer(layout, heads, *stored)


_STORE: Final = ("words", "flags")


def _buffer_results(buffer: Buffer) -> Results:
    shape = (len(buffer.heads), len(buffer.heads[0]))
    number = len(buffer.words)
    words = (number, *shape) if buffer.layout == "wordlist" else (number,)
    return {  # EVAL-006
        "heads": _heads(buffer, buffer.heads, shape),
        "words": _array(buffer.words, _WORD_TYPES[buffer.layout], words),
        "flags": _array(buffer.flags, np.uint8, (len(buffer.flags),)),
    }


def _heads(buffer: Buffer, values: list[Any], shape: tuple[int, ...]) -> Array:
    return _array(values, object if buffer.layout == "bigint" else np.int64, shape)


def _revmul(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = _buffer(request, settings["layout"])
    h, z, mask = (a[name].tolist() for name in ("h", "z", "mask"))
    products = revmul(h, z, mask, settings["slice_size"], buffer)
    return {"h": _array(products, np.int32, a["h"].shape), **_buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = _buffer(request, settings["layout"])
    p, z, mask, restore = (a[name].tolist() for name in ("h", "z", "mask", "restore"))
    h = revmul_inverse(p, z, mask, settings["slice_size"], buffer, restore)
    return {"h": _array(h, np.int32, a["h"].shape), **_buffer_results(buffer)}


def _stack(request: Request) -> Stack:
    config, a = request.stack, request.arrays
    layers = []
    for k in range(config.num_layers):
        weights = [a[f"{name}_l{k}"].tolist() for name in ("weight_ih", "weight_hh", "bias")]
        state = [_groups(a[name][k].tolist()) if name in a else [] for name in ("h", "c")]
        layers.append(Layer(*weights, *state))
    return Stack(config, layers, _buffer(request, config.buffer) if config.forgetting else None)


def _groups(rows: Grid) -> list[Grid]:
    """Cut ``[h1 | h2]`` in its groups."""
    half = len(rows[0]) // 2
    return [[row[:half] for row in rows], [row[half:] for row in rows]]


def _joined(groups: list[Grid]) -> Grid:
    return [left + right for left, right in zip(*groups, strict=True)]


def _state(stack: Stack, name: str) -> list[Grid]:
    """Return h or c of all layers, ``[L][B][H]``."""
    return [_joined(getattr(layer, name)) for layer in stack.layers]


def _results(request: Request, stack: Stack) -> Results:
    """Return state and store as they stand."""
    a = request.arrays
    results = {n: _array(_state(stack, n), np.int32, a[n].shape) for n in ("h", "c") if n in a}
    return results | (_buffer_results(stack.buffer) if stack.buffer else {})


def _cell_forward(request: Request) -> Results:
    stack, x = _stack(request), request.arrays["x"].tolist()
    stack.forward(x, [True] * len(x), [])
    return _results(request, stack)


def _cell_reverse(request: Request) -> Results:
    stack, x = _stack(request), request.arrays["x"].tolist()
    stack.reverse(x, [True] * len(x), [], [])
    return _results(request, stack)


class _Trace:
    """What EVAL-009 asks for, step by step."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.steps: list[Results] = [{} for _ in request.arrays["x"]]

    def note(self, t: int, stack: Stack) -> None:
        entry: Results = {n: _state(stack, n) for n in ("h", "c") if n in self.request.arrays}
        if stack.buffer:
            entry["heads"] = [list(row) for row in stack.buffer.heads]
            entry["words"] = len(stack.buffer.words)
        self.steps[t] = entry

    def results(self, stack: Stack) -> Results:
        if not self.request.settings["trace"]:
            return {}
        a, steps = self.request.arrays, len(self.steps)
        results = {}
        for name in ("h", "c"):
            if name in a:
                values = [entry[name] for entry in self.steps]
                results[f"{name}_steps"] = _array(values, np.int32, (steps, *a[name].shape))
        if stack.buffer:
            heads = [entry["heads"] for entry in self.steps]
            results["heads_steps"] = _heads(stack.buffer, heads, (steps, *a["heads"].shape))
            words = [entry["words"] for entry in self.steps]
            results["words_steps"] = _array(words, np.int64, (steps,))
        return results


def _gains(request: Request, t: int) -> list[Grid]:
    gains = request.arrays.get("gains")
    found: list[Grid] = [] if gains is None else gains[t].tolist()
    return found


def _sliced_units(stack: Stack) -> Grid:
    return [row[: stack.config.slice_size] for row in stack.layers[-1].h[0]]


def _sequence_forward(request: Request) -> Results:
    stack, trace, a = _stack(request), _Trace(request), request.arrays
    outputs, slices = [], [_sliced_units(stack)]
    for t in range(len(a["x"])):
        stack.forward(a["x"][t].tolist(), a["mask"][t].tolist(), _gains(request, t))
        outputs.append(_joined(stack.layers[-1].h))  # SEQ-005
        slices.append(_sliced_units(stack))  # SEQ-007
        trace.note(t, stack)
    shape = (len(outputs), *a["h"].shape[1:])
    results = {"outputs": _array(outputs, np.int32, shape), **_results(request, stack)}
    results["wraps"] = stack.wraps
    if stack.config.slice_size:
        shape = (len(slices), shape[1], stack.config.slice_size)
        results["slices"] = _array(slices, np.int32, shape)
    return results | trace.results(stack)


def _sequence_reverse(request: Request) -> Results:
    stack, trace, a = _stack(request), _Trace(request), request.arrays
    for t in reversed(range(len(a["x"]))):
        restore = a["slices"][t].tolist() if "slices" in a else []
        gains = _gains(request, t)
        stack.reverse(a["x"][t].tolist(), a["mask"][t].tolist(), restore, gains)
        trace.note(t, stack)
    return _results(request, stack) | trace.results(stack)


def _sequence_storage(request: Request) -> Results:
    stack, a, config = _stack(request), request.arrays, request.stack
    for t, (x, mask) in enumerate(zip(a["x"].tolist(), a["mask"].tolist(), strict=True)):
        stack.forward(x, mask, _gains(request, t))
    present = sum(sum(row) for row in a["mask"].tolist())
    ideal = 0.0
    for value, count in enumerate(stack.gate_counts):
        if count:
            ideal += count * math.log2(1024 / value)  # ACC-002
    arrays = 2 if config.cell == "revlstm" else 1
    return {
        "gate_counts": _array(stack.gate_counts, np.int64, (1025,)),
        "ideal_bits": ideal,
        "stored_bits": _stored_bits(stack, present),
        "plain_bits": 32 * config.num_layers * config.hidden_size * arrays * present,  # ACC-004
    }


def _stored_bits(stack: Stack, present: int) -> int:
    """Return what must be kept after ``present`` (step, row) that were not masked out."""
    buffer = stack.buffer
    if buffer is None:
        return 0
    # ACC-003
    heads = [head for row in buffer.heads for head in row]
    bits = 32 * stack.config.slice_size * (len(buffer.heads) + present)
    if buffer.layout == "stream":
        return bits + 16 * len(buffer.words) + 32 * len(heads)
    if buffer.layout == "wordlist":
        planes = 64 * len(buffer.words) * len(heads)
        return bits + planes + 64 * len(heads) + len(buffer.flags)
    return bits + sum(head.bit_length() for head in heads)


_OPERATIONS: Final[dict[str, Callable[[Request], Results]]] = {
    "quantise": _quantise,
    "dequantise": _dequantise,
    "round_shift": _round_shift,
    "product": _product,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "forget_gate": _forget_gate,
    "view": _view,
    "revmul": _revmul,
    "revmul_inverse": _revmul_inverse,
    "cell_forward": _cell_forward,
    "cell_reverse": _cell_reverse,
    "sequence_forward": _sequence_forward,
    "sequence_reverse": _sequence_reverse,
    "sequence_storage": _sequence_storage,
}

IMPLEMENTATION = NaiveImplementation()
