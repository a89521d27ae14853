"""The operations of the second opinion on cells and sequences."""

from __future__ import annotations

import math

from revrnn.evaluation import Request

from .arrays import Results, array_of, buffer_of, buffer_results
from .cells import Layer, Stack
from .numbers import Grid


def _stack(request: Request) -> Stack:
    config, a = request.stack, request.arrays
    layers = []
    for k in range(config.num_layers):
        weights = [a[f"{name}_l{k}"].tolist() for name in ("weight_ih", "weight_hh", "bias")]
        state = [_groups(a[name][k].tolist()) if name in a else [] for name in ("h", "c")]
        layers.append(Layer(*weights, *state))
    return Stack(config, layers, buffer_of(request, config.buffer) if config.forgetting else None)


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
    results = {n: array_of(_state(stack, n), a[n].shape) for n in ("h", "c") if n in a}
    return results | (buffer_results(stack.buffer) if stack.buffer else {})


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
        if not self.request.settings.get("trace"):
            return {}
        a, steps = self.request.arrays, len(self.steps)
        results = {}
        for name in ("h", "c"):
            if name in a:
                values = [entry[name] for entry in self.steps]
                results[f"{name}_steps"] = array_of(values, (steps, *a[name].shape))
        if stack.buffer:
            heads = [entry["heads"] for entry in self.steps]
            results["heads_steps"] = array_of(heads, (steps, *a["heads"].shape))
            words = [entry["words"] for entry in self.steps]
            results["words_steps"] = array_of(words, (steps,))
        return results


def _gains(request: Request, t: int) -> list[Grid]:
    gains = request.arrays.get("gains")
    grids: list[Grid] = [] if gains is None else gains[t].tolist()
    return grids


def _sliced_units(stack: Stack) -> Grid:
    return [row[: stack.config.slice_size] for row in stack.layers[-1].h[0]]


def sequence_forward(request: Request) -> Results:
    """Return a sequence (EVAL-008)."""
    stack, trace, a = _stack(request), _Trace(request), request.arrays
    outputs, slices = [], [_sliced_units(stack)]
    for t in range(len(a["x"])):
        stack.forward(a["x"][t].tolist(), a["mask"][t].tolist(), _gains(request, t))
        outputs.append(_joined(stack.layers[-1].h))  # SEQ-005
        slices.append(_sliced_units(stack))  # SEQ-007
        trace.note(t, stack)
    shape = (len(outputs), *a["h"].shape[1:])
    results = {"outputs": array_of(outputs, shape), **_results(request, stack)}
    results["wraps"] = stack.wraps
    results["slices"] = array_of(slices, (len(slices), shape[1], stack.config.slice_size))
    return results | trace.results(stack)


def sequence_reverse(request: Request) -> Results:
    """Return a sequence undone (EVAL-008)."""
    stack, trace, a = _stack(request), _Trace(request), request.arrays
    for t in reversed(range(len(a["x"]))):
        restore = a["slices"][t].tolist() if "slices" in a else []
        gains = _gains(request, t)
        stack.reverse(a["x"][t].tolist(), a["mask"][t].tolist(), restore, gains)
        trace.note(t, stack)
    return _results(request, stack) | trace.results(stack)


def sequence_storage(request: Request) -> Results:
    """Return what a sequence stores (ACC)."""
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
        "gate_counts": array_of(stack.gate_counts, (1025,)),
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
