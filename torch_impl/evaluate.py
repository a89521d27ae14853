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
from .buffer import Buffer, make_buffer
from .eager import load
from .engine import Pass, Store, Work, choose, engine
from .product import product
from .revmul import active_units, revmul, revmul_inverse
from .sequence import CHUNK_SIZE, Schedule
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
        request = prepare(operation, arguments, self.layouts)
        config = request.config
        other = config is not None and config.forgetting and config.buffer != "stream"
        # Other layouts are the eager engine's.
        with torch.no_grad(), engine("eager" if other else self.engine):
            tensors = {name: self._tensor(a) for name, a in request.arrays.items()}
            found: Results = globals()[f"_{operation}"](request, tensors, self.chunk_size)
        return {name: _array(name, value) for name, value in found.items()}

    def _tensor(self, array: Any) -> Tensor:
        # Little use of 16-bit unsigned tensors is supported: words travel as bit patterns.
        plain = array.view(np.int16) if array.dtype == np.uint16 else array
        return torch.from_numpy(np.array(plain)).to(self.device)


IMPLEMENTATION = TorchImplementation()

_TYPES = {
    "a": np.int16,
    "z": np.int32,
    "y": np.int32,
    "h": np.int32,
    "heads": np.int64,
    "flags": np.uint8,
    "heads_steps": np.int64,
}


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
    return {"z": activations.forget_gate(sigma, limit, z_max).z}


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
    """Return a buffer with given heads whose first block is the given store."""
    buffer = make_buffer(config, _heads(config, tensors))
    assert buffer is not None
    load(buffer, _given_store(tensors))
    return buffer


def _heads(config: Config, tensors: Tensors) -> Tensor | None:
    heads = tensors.get("heads")
    return heads.to(torch.int32) if heads is not None and config.buffer == "stream" else heads


def _buffer_results(buffer: Buffer) -> Results:
    return {"heads": buffer.heads, "words": buffer.words(), "flags": buffer.flags()}


def _state(config: Config, tensors: Tensors) -> State:
    return State(tensors["h"], tensors.get("c"), _heads(config, tensors))


def _state_results(state: State) -> Results:
    return {"h": state.h} | ({} if state.c is None else {"c": state.c})


def _work(request: Request, tensors: Tensors, chunk_size: int) -> Work:
    """Return the chosen engine's work on a request's sequence."""
    config, settings = request.stack, Settings(chunk_size, in_order=True)
    params = {name: tensors[name] for name in config.parameter_shapes()}
    schedule = Schedule(tensors.get("mask"), gains=_gains(tensors))
    chosen = choose(config, tensors["h"].device, settings)
    return chosen.prepare(config, params, schedule, settings)


def _gains(tensors: Tensors) -> Gains | None:
    gains = tensors.get("gains")
    return None if gains is None else gains.__getitem__


def _given_store(tensors: Tensors) -> Store:
    """Return the store that a request begins with (EVAL-006)."""
    none = torch.zeros(0, dtype=torch.int16)
    words, flags = tensors.get("words", none), tensors.get("flags", none)
    return Store(words, flags, tensors.get("slices"))


def _pass_results(config: Config, going: Pass) -> Results:
    """Return state and store, with their names in the specification."""
    state, store = going.state(), going.store()
    results: Results = _state_results(state)
    if config.forgetting:
        results |= {"heads": state.heads, "words": store.words, "flags": store.flags}
    return results


def _cell_forward(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    config = request.stack
    # The store that is there does not take part: what is pushed comes on top of it.
    going = _work(request, tensors, 1).start(_state(config, tensors), keep=True, count=False)
    going.advance(tensors["x"][None], 0)
    results = _pass_results(config, going)
    for name in ("words", "flags"):
        if name in results:
            results[name] = torch.cat([tensors[name], results[name]])
    return results


def _cell_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return _reversed(request, tensors | {"x": tensors["x"][None]}, trace=False)


def _advanced(
    request: Request, tensors: Tensors, chunk_size: int, count: bool = False
) -> tuple[Pass, Tensor]:
    """Go over a sequence; return the pass and the outputs."""
    config, x = request.stack, tensors["x"]
    work = _work(request, tensors, chunk_size)
    going = work.start(_state(config, tensors), keep=True, count=count)
    outputs = x.new_empty((*x.shape[:2], config.hidden_size), dtype=torch.int32)
    for start in range(0, len(x), chunk_size):
        steps = slice(start, start + chunk_size)
        going.advance(x[steps], start, outputs[steps])
    return going, outputs


def _sequence_forward(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    config = request.stack
    going, outputs = _advanced(request, tensors, chunk_size)
    results = {
        "outputs": outputs,
        **_pass_results(config, going),
        "wraps": 0 if going.wraps is None else int(going.wraps),
    }
    if config.slice_size:
        results["slices"] = going.store().slices
        if not len(outputs):
            results["slices"] = tensors["h"][-1:, :, : config.slice_size]
    if request.settings["trace"]:
        one = _work(request, tensors, 1).start(_state(config, tensors), keep=True, count=False)
        after = []
        for t, x in enumerate(tensors["x"]):
            one.advance(x[None], t)
            after.append(_pass_results(config, one))
        results |= _trace(tensors, after)
    return results


def _trace(tensors: Tensors, after: list[Results]) -> Results:
    """Return what stood after each step (EVAL-009)."""
    results: Results = {}
    for name in ("h", "c", "heads"):
        if name in tensors:
            none = tensors[name].new_zeros((0, *tensors[name].shape))
            results[f"{name}_steps"] = torch.stack([r[name] for r in after]) if after else none
    if "heads" in tensors:
        counts = [len(r["words"]) for r in after]
        results["words_steps"] = torch.tensor(counts, dtype=torch.int64)
    return results


def _sequence_reverse(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    return _reversed(request, tensors, request.settings["trace"])


def _reversed(request: Request, tensors: Tensors, trace: bool) -> Results:
    """Undo a sequence whose store is given as one block, so in one chunk or by steps of it."""
    config, x = request.stack, tensors["x"]
    work = _work(request, tensors, max(len(x), 1))
    state, store = _state(config, tensors), _given_store(tensors)
    going = work.start(state, keep=True, count=False, store=store)
    after: list[Results] = []
    size = 1 if trace else max(len(x), 1)
    for first in reversed(range(0, len(x), size)):
        going.recover(x[first : first + size], first, finish=False)
        after.insert(0, _pass_results(config, going))
    going.check_underflow()
    results = _pass_results(config, going)
    return results | (_trace(tensors, after) if trace else {})


def _sequence_storage(request: Request, tensors: Tensors, chunk_size: int) -> Results:
    going, _ = _advanced(request, tensors, chunk_size, count=True)
    store, counts = going.store(), going.gate_counts
    assert counts is not None
    accounts = storage(request.stack, tensors["mask"], counts, len(store.words), len(store.flags))
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
