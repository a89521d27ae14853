"""PyTorch behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from revrnn.accounting import storage
from revrnn.config import Config
from revrnn.evaluation import Request, one_result, prepare
from revrnn.plan import CHUNK_SIZE

from . import activations, quantise
from .bptt import Bptt
from .buffer import Buffer, make_buffer
from .eager import load
from .engine import Pass, Settings, Store, Work
from .engines import choose, engine
from .product import product
from .revmul import active_units, revmul, revmul_inverse
from .sequence import Schedule
from .state import State

Results = dict[str, Any]


class TorchImplementation:
    """PyTorch on one device, by one engine; arrays go there and come back."""

    name = "torch"
    layouts: tuple[str, ...] = ("stream", "wordlist")

    def __init__(
        self, device: str = "cpu", chunk_size: int = CHUNK_SIZE, engine: str = "eager"
    ) -> None:
        """Compute on ``device``, so many steps at a time, sequences by the named engine."""
        self.device = torch.device(device)
        self.chunk_size = chunk_size
        self.engine = engine
        if engine != "eager":
            self.name, self.layouts = f"torch-{engine}", ("stream",)

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts).as_sequence()
        config = request.config
        other = config is not None and config.forgetting and config.buffer != "stream"
        tensors = {name: self._tensor(array) for name, array in request.arrays.items()}
        settings = request.settings | {"chunk_size": self.chunk_size}
        # Other layouts are the eager engine's.
        with torch.no_grad(), engine("eager" if other else self.engine):
            request = replace(request, arrays=tensors, settings=settings)
            computed = _OPERATIONS[operation](request)
        return request.results({name: _array(name, value) for name, value in computed.items()})

    def _tensor(self, array: Any) -> Tensor:
        # Little use of 16-bit unsigned tensors is supported: words travel as bit patterns.
        plain = array.view(np.int16) if array.dtype == np.uint16 else array
        return torch.from_numpy(np.array(plain)).to(self.device)


IMPLEMENTATION = TorchImplementation()


def _array(name: str, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    array = value.cpu().numpy()
    return array.view(np.uint16) if name == "words" and array.dtype == np.int16 else array


def _forget_gate(s: Tensor, bits: int, max_forget_bits: int | None, z_max: int) -> Tensor:
    sigma = activations.sigmoid(s, bits)
    return activations.forget_gate(sigma, max_forget_bits, z_max).z


def _revmul(request: Request) -> Results:
    arrays, size = request.arrays, request.settings["slice_size"]
    h, z, rows = arrays["h"], arrays["z"], arrays["mask"][:, None]
    buffer = _loaded(request)
    buffer.open_block(1)
    active = active_units(rows, h.shape[1], size, h)
    h = torch.where(rows, revmul(h, z, active, buffer), h)
    buffer.close_block()
    return {"h": h, **_buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    arrays, size = request.arrays, request.settings["slice_size"]
    h, z, rows = arrays["h"], arrays["z"], arrays["mask"][:, None]
    buffer = _loaded(request)
    buffer.reopen_block()
    active = active_units(rows, h.shape[1], size, h)
    old = revmul_inverse(h, z, active, buffer)
    old[:, :size] = arrays["restore"]
    buffer.check_underflow()
    buffer.close_block()
    return {"h": torch.where(rows, old, h), **_buffer_results(buffer)}


def _sequence_forward(request: Request) -> Results:
    """Go over a sequence; what is pushed comes on top of the store that a cell is given."""
    config, arrays = request.stack, request.arrays
    going, outputs = _advanced(request)
    end = _pass_results(config, going)
    for name in ("words", "flags"):
        if name in arrays:
            end[name] = torch.cat([arrays[name], end[name]])
    start = arrays["h"][-1:, :, : config.slice_size]
    results = {
        "outputs": outputs,
        "wraps": 0 if going.wraps is None else int(going.wraps),
        "slices": going.store().slices if len(outputs) else start,
        **end,
    }
    if request.settings.get("trace"):
        one = _work(request, 1).start(_state(request), keep=True, count=False)
        after = []
        for t, x in enumerate(arrays["x"]):
            one.advance(x[None], t)
            after.append(_pass_results(config, one))
        results |= _trace(request, after)
    return results


def _advanced(request: Request, count: bool = False) -> tuple[Pass, Tensor]:
    """Go over a sequence; return the pass and the outputs."""
    x, size = request.arrays["x"], request.settings["chunk_size"]
    going = _work(request, size).start(_state(request), keep=True, count=count)
    outputs = x.new_empty((*x.shape[:2], request.stack.hidden_size), dtype=torch.int32)
    for start in range(0, len(x), size):
        steps = slice(start, start + size)
        going.advance(x[steps], start, outputs[steps])
    return going, outputs


def _sequence_reverse(request: Request) -> Results:
    """Undo a sequence whose store is given as one block, so in one chunk or by steps of it."""
    config, x, trace = request.stack, request.arrays["x"], request.settings.get("trace")
    whole = max(len(x), 1)
    work, store = _work(request, whole), _given_store(request)
    going = work.start(_state(request), keep=True, count=False, store=store)
    after: list[Results] = []
    size = 1 if trace else whole
    for first in reversed(range(0, len(x), size)):
        going.recover(x[first : first + size], first, finish=False)
        after.insert(0, _pass_results(config, going))
    going.check_underflow()
    return _pass_results(config, going) | (_trace(request, after) if trace else {})


def _sequence_storage(request: Request) -> Results:
    going, _ = _advanced(request, count=True)
    store, counts = going.store(), going.gate_counts
    assert counts is not None
    mask, total = request.arrays["mask"].cpu().numpy(), counts.sum(0).cpu().numpy()
    return vars(storage(request.stack, mask, total, len(store.words), len(store.flags)))


def _sequence_gradient(request: Request) -> Results:
    config, arrays = request.stack, request.arrays
    x: Tensor = arrays["x"]
    grad_x = torch.zeros_like(x).float()
    settings = Settings(request.settings["chunk_size"], request.settings["states"])
    bptt = Bptt(config, _params(request), len(x), _state(request), _schedule(request), settings)

    def inputs(first: int, stop: int) -> Tensor:
        return x[first:stop]

    def grad_outputs(first: int, outputs: Tensor) -> Tensor:
        grad: Tensor = arrays["grad_outputs"][first : first + len(outputs)]
        return grad

    def grad_inputs(first: int, dx: Tensor) -> None:
        grad_x[first : first + len(dx)] = dx

    bptt.forward(inputs)
    grad_state = (arrays["grad_h"], arrays.get("grad_c"))
    grads = bptt.backward(inputs, inputs, grad_state, grad_outputs, grad_inputs)
    params = {f"grad_{name}": grad for name, grad in grads.params.items()}
    return {"grad_x": grad_x, "grad_h": grads.h, "grad_c": grads.c, **params}


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


def _params(request: Request) -> dict[str, Tensor]:
    return {name: request.arrays[name] for name in request.stack.parameter_shapes()}


def _schedule(request: Request) -> Schedule:
    gains: Tensor | None = request.arrays.get("gains")
    at = None if gains is None else gains.__getitem__
    return Schedule(request.arrays["mask"], gains=at)


def _work(request: Request, chunk_size: int) -> Work:
    """Return the chosen engine's work on a request's sequence."""
    config, settings = request.stack, Settings(chunk_size, in_order=True)
    chosen = choose(config, request.arrays["h"].device, settings)
    return chosen.prepare(config, _params(request), _schedule(request), settings)


def _state(request: Request) -> State:
    return State(request.arrays["h"], request.arrays.get("c"), _heads(request))


def _heads(request: Request) -> Tensor | None:
    heads: Tensor | None = request.arrays.get("heads")
    return heads.to(torch.int32) if heads is not None and request.layout == "stream" else heads


def _loaded(request: Request) -> Buffer:
    """Return a buffer with given heads whose first block is the given store."""
    config = Config("revgru", 1, 2 * request.arrays["h"].shape[1], buffer=request.layout)
    buffer = make_buffer(config, _heads(request))
    assert buffer is not None
    load(buffer, _given_store(request))
    return buffer


def _given_store(request: Request) -> Store:
    """Return the store that a request begins with (EVAL-006)."""
    none = torch.zeros(0, dtype=torch.int16)
    words, flags = (request.arrays.get(name, none) for name in ("words", "flags"))
    return Store(words, flags, request.arrays.get("slices"))


def _buffer_results(buffer: Buffer) -> Results:
    return {"heads": buffer.heads, "words": buffer.words(), "flags": buffer.flags()}


def _pass_results(config: Config, going: Pass) -> Results:
    """Return state and store, with their names in the specification."""
    state, store = going.state(), going.store()
    results: Results = {"h": state.h, "c": state.c}
    if config.forgetting:
        results |= {"heads": state.heads, "words": store.words, "flags": store.flags}
    return results


def _trace(request: Request, after: list[Results]) -> Results:
    """Return what stood after each step (EVAL-009)."""
    results: Results = {"words_steps": [len(step.get("words", ())) for step in after]}
    for name in ("h", "c", "heads"):
        if name in request.arrays:
            given = request.arrays[name]
            steps = [step[name] for step in after]
            results[f"{name}_steps"] = torch.stack(steps) if steps else given[None][:0]
    return results
