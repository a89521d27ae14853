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
from .buffer import Buffer, StreamBuffer, WordlistBuffer, make_buffer
from .gradients import sequence_gradient
from .product import product
from .revmul import active_units, revmul, revmul_inverse
from .sequence import CHUNK_SIZE, Forward, Running, Stack, State, sequence_forward, sequence_reverse

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
    stack = Stack(config, tensors)
    forward = sequence_forward(stack, tensors["x"][None], None, _state(config, tensors), buffer)
    return {**_state_results(forward.state), **_buffer_results(buffer)}


def _cell_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return _reversed(request, tensors | {"x": tensors["x"][None]}, None, None)


def _forward(request: Request, tensors: Tensors, chunk_size: int, **wanted: bool) -> Forward:
    config, state = request.stack, _state(request.stack, tensors)
    return sequence_forward(
        Stack(config, tensors),
        tensors["x"],
        tensors["mask"],
        state,
        make_buffer(config, state.heads),
        chunk_size=chunk_size,
        **wanted,
    )


def _sequence_forward(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    trace = request.settings["trace"]
    forward = _forward(request, tensors, chunk_size, trace=trace, keep_states=trace)
    results = {
        "outputs": forward.outputs,
        **_state_results(forward.state),
        **_buffer_results(forward.buffer),
        "wraps": 0 if forward.wraps is None else int(forward.wraps),
    }
    if forward.slices is not None:
        results["slices"] = forward.slices
    if trace:
        results |= _trace(tensors, forward.states, forward.heads_steps, forward.tops)
    return results


def _trace(
    tensors: Tensors, states: list[Running], heads: list[Tensor], tops: list[Tensor]
) -> Results:
    found = [running.state(None) for running in states]
    shape = tensors["h"].shape
    results: Results = {"h_steps": _stacked([state.h for state in found], tensors["h"], shape)}
    if "c" in tensors:
        c = [state.c for state in found if state.c is not None]
        results["c_steps"] = _stacked(c, tensors["c"], shape)
    if "heads" in tensors:
        results["heads_steps"] = _stacked(heads, tensors["heads"], tensors["heads"].shape)
        none = torch.zeros(0, dtype=torch.int64)
        results["words_steps"] = torch.cat([*(top.cpu() for top in tops), none])
    return results


def _stacked(steps: list[Tensor], like: Tensor, shape: torch.Size) -> Tensor:
    return torch.stack(steps) if steps else like.new_zeros((0, *shape))


def _sequence_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    trace = _Trace() if request.settings["trace"] else None
    return _reversed(request, tensors, tensors["mask"], trace)


class _Trace:
    """States, heads and word counts after each undone step, first step first."""

    def __init__(self) -> None:
        self.states: list[Running] = []
        self.heads: list[Tensor] = []
        self.tops: list[Tensor] = []

    def add(self, running: Running, buffer: Buffer | None) -> None:
        self.states.insert(0, running.copy())
        if buffer is not None:
            self.heads.insert(0, buffer.heads)
            self.tops.insert(0, buffer.top)


def _reversed(
    request: Request, tensors: Tensors, mask: Tensor | None, trace: _Trace | None
) -> Results:
    """Undo a sequence whose store is given as one block, so in one chunk."""
    config, x = request.stack, tensors["x"]
    buffer = _loaded(config, tensors) if config.forgetting else None
    running = Running.of(_state(config, tensors))
    after = None if trace is None else lambda t: trace.add(running, buffer)
    if len(x):
        sequence_reverse(
            Stack(config, tensors), x, mask, running, buffer, tensors.get("slices"),
            chunk_size=len(x), after_step=after, finish=False,
        )  # fmt: skip
    if buffer is not None:
        buffer.check_underflow()
        buffer.close_block()
    results = {**_state_results(running.state(buffer)), **_buffer_results(buffer)}
    if trace is not None:
        results |= _trace(tensors, trace.states, trace.heads, trace.tops)
    return results


def _sequence_storage(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    forward = _forward(request, tensors, chunk_size, count_gates=True)
    accounts = storage(request.stack, tensors["mask"], forward)
    return {
        "gate_counts": accounts.gate_counts,
        "ideal_bits": np.float64(accounts.ideal_bits),
        "stored_bits": accounts.stored_bits,
        "plain_bits": accounts.plain_bits,
    }


def _sequence_gradient(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    config, states = request.stack, request.settings["states"]
    forward = _forward(request, tensors, chunk_size, keep_states=states == "stored")
    params = {name: tensors[name] for name in config.parameter_shapes()}
    grads = sequence_gradient(
        Stack(config, tensors), params, tensors["x"], tensors["mask"], _state(config, tensors),
        forward, tensors["grad_outputs"], tensors["grad_h"], tensors.get("grad_c"),
        states=states, chunk_size=chunk_size,
    )  # fmt: skip
    results = {"grad_x": grads.x, "grad_h": grads.h}
    if grads.c is not None:
        results["grad_c"] = grads.c
    return results | {f"grad_{name}": grad for name, grad in grads.params.items()}
