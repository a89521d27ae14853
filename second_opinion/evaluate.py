"""The operations of the second opinion: arguments taken apart, results put together.

NumPy does that, and no arithmetic. ``sequence_gradient`` is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from revrnn.config import LAYOUTS
from revrnn.errors import RevRNNError
from revrnn.evaluation import Request, prepare

from .arrays import Results, array_of, buffer_of, buffer_results, each
from .buffer import revmul, revmul_inverse
from .numbers import forget_gate, product, quantise, rs, sigmoid, tanh, view
from .sequences import (
    cell_forward,
    cell_reverse,
    sequence_forward,
    sequence_reverse,
    sequence_storage,
)


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


def _quantise(request: Request) -> Results:
    formats, kind = request.formats, request.settings["kind"]
    # QNT-002
    bits, lo, hi, dtype = {
        "operand": (formats.operand_bits, -32512, 32512, np.int16),
        "weight": (formats.weight_bits, -32512, 32512, np.int16),
        "bias": (formats.operand_bits + formats.weight_bits, -(2**31), 2**31 - 1, np.int32),
        "state": (formats.state_bits, -(2**31), 2**31 - 1, np.int32),
    }[kind]
    return {"q": each(request.arrays["x"], lambda x: quantise(x, bits, lo, hi), dtype)}


def _dequantise(request: Request) -> Results:
    bits = request.settings["bits"]
    # QNT-006: the scaled number is exact in binary64, so storing it rounds once.
    return {"x": each(request.arrays["q"], lambda q: math.ldexp(float(q), -bits), np.float32)}


def _round_shift(request: Request) -> Results:
    k = request.settings["k"]
    return {"v": each(request.arrays["v"], lambda v: rs(v, k), np.int64)}


def _product(request: Request) -> Results:
    a, w = request.arrays["a"], request.arrays["w"]
    return {"s": array_of(product(a.tolist(), w.tolist()), np.int64, (len(a), len(w)))}


def _tanh(request: Request) -> Results:
    bits = request.settings["bits"]
    return {"y": each(request.arrays["s"], lambda s: tanh(s, bits), np.int32)}


def _sigmoid(request: Request) -> Results:
    bits = request.settings["bits"]
    return {"y": each(request.arrays["s"], lambda s: sigmoid(s, bits), np.int32)}


def _forget_gate(request: Request) -> Results:
    names = ("bits", "max_forget_bits", "z_max")
    bits, limit, z_max = (request.settings[name] for name in names)
    gates = each(request.arrays["s"], lambda s: forget_gate(s, bits, limit, z_max), np.int32)
    return {"z": gates}


def _view(request: Request) -> Results:
    state_bits, view_bits = request.settings["state_bits"], request.settings["view_bits"]
    return {"a": each(request.arrays["h"], lambda h: view(h, state_bits, view_bits), np.int16)}


def _revmul(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = buffer_of(request, settings["layout"])
    h, z, mask = (a[name].tolist() for name in ("h", "z", "mask"))
    products = revmul(h, z, mask, settings["slice_size"], buffer)
    return {"h": array_of(products, np.int32, a["h"].shape), **buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = buffer_of(request, settings["layout"])
    p, z, mask, restore = (a[name].tolist() for name in ("h", "z", "mask", "restore"))
    h = revmul_inverse(p, z, mask, settings["slice_size"], buffer, restore)
    return {"h": array_of(h, np.int32, a["h"].shape), **buffer_results(buffer)}


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
    "cell_forward": cell_forward,
    "cell_reverse": cell_reverse,
    "sequence_forward": sequence_forward,
    "sequence_reverse": sequence_reverse,
    "sequence_storage": sequence_storage,
}


IMPLEMENTATION = NaiveImplementation()
