"""The operations of the second opinion: arguments taken apart, results put together.

NumPy does that, and no arithmetic. ``sequence_gradient`` is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from revrnn.config import LAYOUTS
from revrnn.errors import RevRNNError
from revrnn.evaluation import Request, one_result, prepare

from .arrays import Results, array_of, buffer_of, buffer_results, each
from .buffer import revmul, revmul_inverse
from .numbers import forget_gate, product, quantise, rs, sigmoid, tanh, view
from .sequences import sequence_forward, sequence_reverse, sequence_storage


class NaiveImplementation:
    """All operations of EVAL-004 to EVAL-009 but ``sequence_gradient``."""

    name = "naive"
    layouts: tuple[str, ...] = LAYOUTS
    profiles = ("gates", "buffer", "cell", "sequence")  # CONF-001

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> Results:
        """Compute one operation (EVAL-001)."""
        request = prepare(operation, arguments, self.layouts).as_sequence()
        if operation not in _OPERATIONS:
            raise RevRNNError("E_UNSUPPORTED", "operation", operation, ", ".join(_OPERATIONS))
        return request.results(_OPERATIONS[operation](request))


def _quantise(request: Request) -> Results:
    formats, kind = request.formats, request.settings["kind"]
    # QNT-002
    bits, lo, hi = {
        "operand": (formats.operand_bits, -32512, 32512),
        "weight": (formats.weight_bits, -32512, 32512),
        "bias": (formats.operand_bits + formats.weight_bits, -(2**31), 2**31 - 1),
        "state": (formats.state_bits, -(2**31), 2**31 - 1),
    }[kind]
    return {"q": each(request.arrays["x"], lambda x: quantise(x, bits, lo, hi))}


def _mapped(function: Callable[..., Any]) -> Callable[[Request], Results]:
    """Make an operation of a function of one element and the settings."""
    return one_result(lambda v, *settings: each(v, lambda one: function(one, *settings)))


def _dequantised(q: int, bits: int) -> float:
    # QNT-006: the scaled number is exact in binary64, so storing it rounds once.
    return math.ldexp(float(q), -bits)


def _product(request: Request) -> Results:
    a, w = request.arrays["a"], request.arrays["w"]
    return {"s": array_of(product(a.tolist(), w.tolist()), (len(a), len(w)))}


def _revmul(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = buffer_of(request, settings["layout"])
    h, z, mask = (a[name].tolist() for name in ("h", "z", "mask"))
    products = revmul(h, z, mask, settings["slice_size"], buffer)
    return {"h": array_of(products, a["h"].shape), **buffer_results(buffer)}


def _revmul_inverse(request: Request) -> Results:
    a, settings = request.arrays, request.settings
    buffer = buffer_of(request, settings["layout"])
    p, z, mask, restore = (a[name].tolist() for name in ("h", "z", "mask", "restore"))
    h = revmul_inverse(p, z, mask, settings["slice_size"], buffer, restore)
    return {"h": array_of(h, a["h"].shape), **buffer_results(buffer)}


_OPERATIONS: Final[dict[str, Callable[[Request], Results]]] = {
    "quantise": _quantise,
    "dequantise": _mapped(_dequantised),
    "round_shift": _mapped(rs),
    "product": _product,
    "tanh": _mapped(tanh),
    "sigmoid": _mapped(sigmoid),
    "forget_gate": _mapped(forget_gate),
    "view": _mapped(view),
    "revmul": _revmul,
    "revmul_inverse": _revmul_inverse,
    "cell_forward": sequence_forward,
    "cell_reverse": sequence_reverse,
    "sequence_forward": sequence_forward,
    "sequence_reverse": sequence_reverse,
    "sequence_storage": sequence_storage,
}


IMPLEMENTATION = NaiveImplementation()
