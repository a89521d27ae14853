"""PyTorch behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from revrnn.config import Config
from revrnn.evaluation import Request, prepare

from . import activations, quantise
from .accounting import storage
from .autograd import Gains
from .bptt import Bptt, Settings
from .buffer import Buffer, StreamBuffer, WordlistBuffer, make_buffer
from .product import product
from .revmul import active_units, revmul, revmul_inverse
from .sequence import CHUNK_SIZE, Schedule, Stack, Trace, Walk
from .state import State

Results = dict[str, Any]


class TorchImplementation:
    """PyTorch on one device; arrays go there and come back."""

    name = "torch"
    layouts: tuple[str, ...] = ("stream", "wordlist")

    def __init__(self, device: str = "cpu", chunk_size: int = CHUNK_SIZE) -> None:
        """Compute on ``device``, so many steps at a time."""
        self.device = torch.device(device)
        self.chunk_size = chunk_size

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts)
        with torch.no_grad():
            tensors = {name: self._tensor(a) for name, a in request.arrays.items()}
            found: Results = globals()[f"_{operation}"](request, tensors, self.chunk_size)
        return {name: _array(name, value) for name, value in found.items()}

    def _tensor(self, array: Any) -> Tensor:
        # Little use of 16-bit unsigned tensors is supported: words travel as bit patterns.
        plain = array.view(np.int16) if array.dtype == np.uint16 else array
        return torch.from_numpy(np.array(plain)).to(self.device)


IMPLEMENTATION = TorchImplementation()

_TYPES = {
    "a": np.int16, "z": np.int32, "y": np.int32, "h": np.int32, "heads": np.int64,
    "flags": np.uint8, "heads_steps": np.int64,
}  # fmt: skip


def _array(name: str, value: Any) -> Any:
    """Return a result with the type that the specification gives it."""
    if not isinstance(value, Tensor):
        return value
    array = value.cpu().numpy()
    if name == "words" and array.dtype == np.int16:
        return array.view(np.uint16)
    return array.astype(_TYPES.get(name, array.dtype))


Tensors = dict[str, Tensor]


def _quantise(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"q": quantise.quantise(request.settings["kind"], tensors["x"], request.formats)}


def _dequantise(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"x": quantise.dequantise(tensors["q"], request.settings["bits"])}


def _round_shift(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"v": quantise.round_shift(tensors["v"], request.settings["k"])}


def _product(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"s": product(tensors["a"], tensors["w"])}


def _tanh(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"y": activations.tanh(tensors["s"], request.settings["bits"])}


def _sigmoid(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return {"y": activations.sigmoid(tensors["s"], request.settings["bits"])}


def _forget_gate(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    settings = request.settings
    sigma = activations.sigmoid(tensors["s"], settings["bits"])
    limit, z_max = settings["max_forget_bits"], settings["z_max"]
    return {"z": activations.forget_gate_of(sigma, limit, z_max).z}


def _view(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    settings = request.settings
    return {"a": quantise.view(tensors["h"], settings["state_bits"], settings["view_bits"])}


def _revmul(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    h, z, rows = tensors["h"], tensors["z"], tensors["mask"][:, None]
    buffer = _loaded(_one_operation(request), tensors)
    buffer.open_block(1)
    active = active_units(rows, h.shape[1], request.settings["slice_size"], h)
    h = torch.where(rows, revmul(h, z, active, buffer), h)
    buffer.close_block()
    return {"h": h, **_buffer_results(buffer)}


def _revmul_inverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    h, z, rows = tensors["h"], tensors["z"], tensors["mask"][:, None]
    size = request.settings["slice_size"]
    buffer = _loaded(_one_operation(request), tensors)
    buffer.reopen_block()
    active = active_units(rows, h.shape[1], size, h)
    old = revmul_inverse(h, z, active, buffer)
    old[:, :size] = tensors["restore"]
    buffer.check_underflow()
    buffer.close_block()
    return {"h": torch.where(rows, old, h), **_buffer_results(buffer)}


def _one_operation(request: Request) -> Config:
    units = request.arrays["h"].shape[1]
    return Config("revgru", 1, 2 * units, buffer=request.settings["layout"])


def _loaded(config: Config, tensors: Tensors) -> Buffer:
    """Return a buffer with given heads whose first block is the given store (EVAL-006)."""
    if config.buffer == "stream":
        stream = StreamBuffer(config, tensors["heads"].to(torch.int32))
        stream.blocks = [tensors["words"]]
        return stream
    listed = WordlistBuffer(config, tensors["heads"])
    listed.blocks = [(tensors["words"], tensors["flags"].to(torch.bool))]
    return listed


def _buffer_results(buffer: Buffer | None) -> Results:
    if buffer is None:
        return {}
    return {"heads": buffer.heads, "words": buffer.words(), "flags": buffer.flags()}


def _state(config: Config, tensors: Tensors) -> State:
    heads = tensors.get("heads")
    if heads is not None and config.buffer == "stream":
        heads = heads.to(torch.int32)
    return State(tensors["h"], tensors.get("c"), heads)


def _state_results(state: State) -> Results:
    return {"h": state.h} | ({} if state.c is None else {"c": state.c})


def _cell_forward(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    config = request.stack
    buffer = _loaded(config, tensors) if config.forgetting else None
    walk = Walk(Stack(config, tensors), _state(config, tensors), Schedule(), buffer, 1)
    walk.forward(tensors["x"][None], 0)
    return {**_state_results(walk.state()), **_buffer_results(buffer)}


def _cell_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return _reversed(request, tensors | {"x": tensors["x"][None]}, trace=False)


def _walked(
    request: Request, tensors: Tensors, chunk_size: int, **wanted: bool
) -> tuple[Walk, Tensor]:
    """Go over a sequence; return the walk and the outputs."""
    config, state, x = request.stack, _state(request.stack, tensors), tensors["x"]
    buffer = make_buffer(config, state.heads)
    schedule = Schedule(tensors["mask"], gains=_gains(tensors))
    walk = Walk(Stack(config, tensors), state, schedule, buffer, chunk_size, **wanted)
    outputs = x.new_empty((*x.shape[:2], config.hidden_size), dtype=torch.int32)
    for start in range(0, len(x), chunk_size):
        steps = slice(start, start + chunk_size)
        walk.forward(x[steps], start, outputs[steps])
    return walk, outputs


def _gains(tensors: Tensors) -> Gains | None:
    gains = tensors.get("gains")
    return None if gains is None else gains.__getitem__


def _sequence_forward(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    walk, outputs = _walked(request, tensors, chunk_size, trace=request.settings["trace"])
    results = {
        "outputs": outputs,
        **_state_results(walk.state()),
        **_buffer_results(walk.buffer),
        "wraps": 0 if walk.wraps is None else int(walk.wraps),
    }
    depth = request.stack.slice_size
    if depth:
        slices = [tensors["h"][-1:, :, :depth], outputs[:, :, :depth]]
        results["slices"] = torch.cat(slices)
    if walk.trace is not None:
        results |= _trace(tensors, walk.trace)
    return results


def _trace(tensors: Tensors, trace: Trace) -> Results:
    found = [running.state(None) for running in trace.states]
    shape = tensors["h"].shape
    results: Results = {"h_steps": _stacked([state.h for state in found], tensors["h"], shape)}
    if "c" in tensors:
        c = [state.c for state in found if state.c is not None]
        results["c_steps"] = _stacked(c, tensors["c"], shape)
    if "heads" in tensors:
        heads = _stacked(trace.heads, tensors["heads"], tensors["heads"].shape)
        results["heads_steps"] = heads
        none = torch.zeros(0, dtype=torch.int64)
        results["words_steps"] = torch.cat([*(top.cpu() for top in trace.tops), none])
    return results


def _stacked(steps: list[Tensor], like: Tensor, shape: torch.Size) -> Tensor:
    return torch.stack(steps) if steps else like.new_zeros((0, *shape))


def _sequence_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return _reversed(request, tensors, request.settings["trace"])


def _reversed(request: Request, tensors: Tensors, trace: bool) -> Results:
    """Undo a sequence whose store is given as one block, so in one chunk."""
    config, x, found = request.stack, tensors["x"], Trace()
    buffer = _loaded(config, tensors) if config.forgetting else None
    schedule = Schedule(tensors.get("mask"), gains=_gains(tensors))
    walk = Walk(Stack(config, tensors), _state(config, tensors), schedule, buffer, len(x))

    def note() -> None:  # the first step comes last
        found.states.insert(0, walk.running.copy())
        if buffer is not None:
            found.heads.insert(0, buffer.heads)
            found.tops.insert(0, buffer.top)

    if len(x):
        walk.slices = [tensors["slices"]] if "slices" in tensors else []
        walk.back(x, 0, after_step=note if trace else None, finish=False)
    if buffer is not None:
        buffer.check_underflow()
        buffer.close_block()
    results = {**_state_results(walk.state()), **_buffer_results(buffer)}
    return results | (_trace(tensors, found) if trace else {})


def _sequence_storage(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    walk, _ = _walked(request, tensors, chunk_size, count=True)
    accounts = storage(request.stack, tensors["mask"], walk)
    return {
        "gate_counts": accounts.gate_counts,
        "ideal_bits": np.float64(accounts.ideal_bits),
        "stored_bits": accounts.stored_bits,
        "plain_bits": accounts.plain_bits,
    }


def _sequence_gradient(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    config, x, grad_x = request.stack, tensors["x"], torch.zeros_like(tensors["x"]).float()
    params = {name: tensors[name] for name in config.parameter_shapes()}
    schedule = Schedule(tensors["mask"], gains=_gains(tensors))
    settings = Settings(chunk_size, request.settings["states"])
    bptt = Bptt(config, params, len(x), _state(config, tensors), schedule, settings)

    def inputs(first: int, stop: int) -> Tensor:
        return x[first:stop]

    def grad_outputs(first: int, outputs: Tensor) -> Tensor:
        return tensors["grad_outputs"][first : first + len(outputs)]

    def grad_inputs(first: int, dx: Tensor) -> None:
        grad_x[first : first + len(dx)] = dx

    bptt.forward(inputs)
    grad_state = (tensors["grad_h"], tensors.get("grad_c"))
    grads = bptt.backward(inputs, inputs, grad_state, grad_outputs, grad_inputs)
    results = {"grad_x": grad_x, "grad_h": grads.h}
    if grads.c is not None:
        results["grad_c"] = grads.c
    return results | {f"grad_{name}": grad for name, grad in grads.params.items()}
