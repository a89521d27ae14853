"""Two faults at a time: the first in the order of ERR-002 is reported, whatever is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from revrnn.config import Config

from .draft import Arguments, Draft, Evaluate, f32, i16, i32, i64
from .requests import pushed, rows_present, sequence, tiny, without, wrong


def cases(evaluate: Evaluate) -> Iterator[Draft]:
    """Give the requests."""
    for operation, args, error in (*_elementary(), *_buffers(), *_sequences(), *_cells()):
        yield wrong(operation, args, error, "error_order", "ERR-002")
    yield from _inactive()


Fault = tuple[str, Arguments, str]


def _elementary() -> Iterator[Fault]:
    """Give single values and arrays, names and formats, that are wrong together."""
    q, s = i32([6]), i64([6])
    yield "tanh", {"s": q, "bits": 7}, "E_ARGUMENT"
    yield "sigmoid", {"s": q, "bits": 27}, "E_ARGUMENT"
    yield "round_shift", {"v": q, "k": 32}, "E_ARGUMENT"
    yield "dequantise", {"q": s, "bits": 32}, "E_ARGUMENT"
    yield "view", {"h": s, "state_bits": 15, "view_bits": 12}, "E_FORMAT"
    gate: Arguments = {"s": q, "bits": 24, "max_forget_bits": 0, "z_max": 0}
    yield "forget_gate", gate, "E_FORGET_BITS"
    yield "forget_gate", gate | {"max_forget_bits": 3}, "E_FORMAT"
    formats = {"formats": {"state_bits": 99}}
    yield "quantise", {"kind": "state", "x": f32([1]), "zz": 1} | formats, "E_FORMAT"
    both = {"formats": {"state_bits": 99, "zz": 1}}
    yield "quantise", {"kind": "state", "x": f32([1])} | both, "E_ARGUMENT"
    yield "quantise", {"kind": "state", "x": f32([np.nan]).reshape(())}, "E_SHAPE"
    yield "product", {"a": i16([[32767]]), "w": i16(np.zeros((0, 1)))}, "E_SHAPE"


def _buffers() -> Iterator[Fault]:
    good = pushed("stream", [[1, 2]], 512, [[32768] * 2])
    yield "revmul", good | {"h": i64([[1, 2]]), "slice_size": 9}, "E_SLICE"
    yield "revmul", good | {"h": i32([]).reshape(1, 0), "slice_size": 1}, "E_SLICE"
    none: Arguments = {name: good[name][:0] for name in ("h", "z", "mask", "heads")}
    yield "revmul", good | none, "E_SHAPE"
    none = {name: good[name][:, :0] for name in ("h", "z", "heads")}
    yield "revmul", good | none, "E_SHAPE"
    # What is popped would be too wide, and there is no flag for it.
    wide = pushed("wordlist", [[1, 2]], 512, [[2**63 - 1] * 2], restore=i32([]).reshape(1, 0))
    yield "revmul_inverse", wide, "E_RANGE"
    # The batch of what is restored, where nothing is.
    short = good | {"restore": i32([]).reshape(2, 0), "words": np.ones(2, np.uint16)}
    yield "revmul_inverse", short, "E_SHAPE"


def _sequences() -> Iterator[Fault]:
    good = tiny()
    config: Arguments = good["config"]

    def configured(*missing: str, **changes: Any) -> Arguments:
        kept = {name: value for name, value in config.items() if name not in missing}
        return good | {"config": kept | changes}

    forward = "sequence_forward"
    bad = {"formats": {"state_bits": 99}}
    yield forward, configured(zz=1, **bad), "E_FORMAT"
    yield forward, configured("input_size", **bad), "E_FORMAT"
    yield forward, configured(hidden_size=3, buffer="list"), "E_ARGUMENT"
    yield forward, configured("cell", hidden_size=3), "E_ARGUMENT"
    # A gate p that there is not comes before a slice of the wrong size (FMT-007).
    yield forward, configured(cell="revgru", p_max=700, slice_size=9), "E_FORMAT"
    yield forward, configured(forgetting=False, p_max=700, slice_size=9), "E_FORMAT"
    yield forward, configured(num_layers=2**63, max_forget_bits=0), "E_ARGUMENT"
    yield forward, {"config": config | {"max_forget_bits": 0, "p_max": 511}}, "E_FORGET_BITS"
    flat = good["weight_ih_l0"].reshape(-1)
    yield forward, good | {"weight_ih_l0": flat, "x": i32([[[1]]])}, "E_DTYPE"
    yield forward, good | {"weight_ih_l0": flat, "x": i16([[[32600]]])}, "E_SHAPE"
    wide = configured(input_size=2**20 + 1)
    yield forward, wide | {"h": None}, "E_DTYPE"
    yield forward, without(wide, "h"), "E_ARGUMENT"
    loss = {name: f32([[[1, np.nan]]]) for name in ("grad_outputs", "grad_h", "grad_c")}
    gradient = good | loss | {"states": "reversed", "x": i16([[[32600]]])}
    yield "sequence_gradient", gradient, "E_NONFINITE"
    yield "sequence_gradient", gradient | {"states": "both"}, "E_ARGUMENT"
    yield "sequence_gradient", gradient | {"grad_outputs": f32([[1, 1]])}, "E_SHAPE"


def _cells() -> Iterator[Fault]:
    two = sequence("orders of cells", Config("revgru", 1, 2), [[1]])
    store: Arguments = {"words": np.zeros(0, np.uint16), "flags": np.zeros(0, np.uint8)}
    cell = without(two, "mask") | store | {"x": two["x"][0]}
    sliced = cell | {"config": cell["config"] | {"slice_size": 1}}
    yield "cell_forward", without(sliced, "h"), "E_ARGUMENT"
    yield "cell_forward", sliced | {"x": i32(cell["x"])}, "E_SLICE"
    layers = {"config": sliced["config"] | {"num_layers": 2}}
    for layer in ("weight_ih_l", "weight_hh_l", "bias_l"):
        layers[f"{layer}1"] = cell[f"{layer}0"]
    yield "cell_forward", cell | layers, "E_ARGUMENT"


def _inactive() -> Iterator[Draft]:
    """Give numbers out of range where a mask makes them mean nothing: ranges hold all the same."""
    array = "unchecked_array"
    none = pushed("stream", [[1, 2]], 512, [[32768] * 2], mask=rows_present(False))
    for bad in ({"z": i32([[0, 512]])}, {"heads": i64([[0, 32768]])}):
        yield wrong("revmul", none | bad, "E_RANGE", array, "ERR-002")
    plane = {"words": i64([[[1, 2], [-5, 4]]]), "flags": np.ones(1, np.uint8)}
    two = pushed("wordlist", [[1, 2], [3, 4]], 512, np.full((2, 2), 9), **plane)
    two |= {"mask": rows_present(True, False), "restore": np.zeros((2, 0), np.int32)}
    yield wrong("revmul_inverse", two, "E_RANGE", array, "ERR-002", "BUF-023")
    masked = tiny(mask=np.zeros((1, 1), np.bool_))
    weights = masked["weight_ih_l0"].copy()
    weights[0, 0] = 32513
    for changed in ({"x": i16([[[32600]]])}, {"weight_ih_l0": weights}):
        yield wrong("sequence_forward", masked | changed, "E_RANGE", array, "ERR-002")
