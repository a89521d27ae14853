"""Asking mutants of implementations in Python.

Of NumPy and of PyTorch's eager engine: each in a forked process that its faults cannot harm, its
text executed in the module. JAX's are asked by :mod:`.ask_jax`, those of the native kernels by
:mod:`.ask_native`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple

from revrnn.errors import RevRNNError
from revrnn.evaluation import Implementation

from .asking import AT_ONCE, LIMIT, PROFILES, Asking, ByMethod, in_a_process, prepare_questions
from .placing import Changed, place, source_of
from .reach import IMPORT, Functions, Request, function_at, functions_run

# In the order in which they import one another.
FILES: Final = {
    "numpy": (
        *("quantise", "product", "activations", "buffer", "revmul", "cells", "sequence"),
        *("accounting", "gradients"),
    ),
    "law": ("kinds", "formats", "config", "operations", "array_checks", "evaluation"),
    "naive": ("numbers", "buffer", "cells", "arrays", "sequences", "evaluate"),
    "torch": (
        *("quantise", "product", "activations", "blocks", "buffer", "revmul", "cells"),
        *("sequence", "walk"),
    ),
    "jax": (
        *("quantise", "product", "activations", "buffer", "revmul", "cells", "groups"),
        *("sequence", "walk"),
    ),
    "native": (
        *("processor", "tiles", "lanes", "vectors", "compiling", "records", "plan", "arithmetic"),
        *("amx", "byte_products", "float_parts", "float_tiles", "float_products", "packing"),
        *("products", "buffers", "copies", "rooms", "sums", "gru", "lstm_rows", "lstm", "sweeps"),
        *("parameter_gradients", "pullback", "frames", "own_rows", "frame_writer", "tasks"),
        *("chunk_shares", "gradient_shares", "handlers", "weights_handlers"),
    ),
}
# The kernels that no request comes to by PyTorch's engine, which is the one that is asked.
_SHARED: Final = "several threads, which requests do not have; test_native_threads.py"
LEFT_OUT: Final = {
    "conversions": "floats of modules, where requests have integers; test_native_conversions.py",
    "readout": "a module's loss, which no operation has; test_native_readout.py",
    "readout_tiles": "as readout",
    "readout_handler": "as readout; test_jax_native_readout.py",
    "atomics": _SHARED,
    "threads": _SHARED,
}
PACKAGES: Final = {
    "law": "revrnn",
    "numpy": "revrnn.numpy_ref",
    "naive": "revrnn.second_opinion",
    "torch": "revrnn.torch_impl",
    "jax": "revrnn.jax_impl",
    "native": "revrnn.native",
}
METHODS: Final = {"torch": ("int8", "float64"), "jax": ("int8",)}
_LOADED: Final = {"law": ("revrnn.numpy_ref.evaluate",)}
# What the requests run of a port's files.
_runs: dict[tuple[str, str, int], Functions] = {}


class Given(NamedTuple):
    """A port, one of its files, the file's changed text, and the line that was changed."""

    port: str
    file: str
    source: str
    line: int = 0


def text_of(port: str, file: str) -> str:
    """Return the text of a port's file."""
    return source_of(f"{PACKAGES[port]}.{file}")


def passes(port: str) -> bool:
    """Load everything, and say whether the port passes as it is."""
    file = FILES[port][0]
    return _load(port) and not verdict(Given(port, file, text_of(port, file)))


@cache
def _asking(port: str) -> Asking:
    """Return what the mutants of a port are asked."""
    return Asking(PROFILES, len(METHODS.get(port, ())))


@cache
def _load(port: str) -> bool:
    """Load what every mutant needs; say if answers are right."""
    prepare_questions(_asking(port).profiles)
    for name in _LOADED.get(port, (f"{PACKAGES[port]}.evaluate",)):
        import_module(name)
    if port in _LOADED:
        return True
    sources = {_path(port, file): text_of(port, file) for file in FILES[port]}

    def note(request: Request, ask: Callable[[], object]) -> None:
        _runs[port, *request] = functions_run(ask, sources)

    return _asking(port).learn(implementations(port), note)


def _path(port: str, file: str) -> str:
    """Return the name of a port's file as its code has it."""
    return str(sys.modules[f"{PACKAGES[port]}.{file}"].__file__)


def verdict(given: Given) -> str:
    """Return what notices a mutant: ``vectors``, ``random``, ``time`` (no end) or ``""``."""
    _load(given.port)
    return _forked(_renewed if given.port == "law" else _executed, given, LIMIT)


def _forked(asked: Callable[[Given], int], given: Given, limit: int) -> str:
    place = in_a_process(partial(asked, given), limit)
    return "time" if place is None else _asking(given.port).verdict(given.file, place)


def _executed(given: Given) -> int:
    """Ask a mutant whose text is executed in its module."""
    port, file, source, line = given
    try:
        place(f"{PACKAGES[port]}.{file}", source)
        asked = implementations(port)
    except Exception:
        return AT_ONCE
    function = function_at(text_of(port, file), line)
    changed = _path(port, file), function

    def sees(request: Request) -> bool:
        return function == IMPORT or changed in _runs[port, *request]

    return _asking(port).noticed(asked, file, sees)


def implementations(port: str) -> list[Implementation]:
    """Return what is asked: the port, then the port with each of its products."""
    package = PACKAGES[port]
    evaluate: Any = sys.modules[f"{package}.evaluate"]
    whole: Implementation = evaluate.IMPLEMENTATION
    if port == "jax":
        whole = evaluate.JaxImplementation(jit=False, engine="scan")
    product = sys.modules.get(f"{package}.product")
    return [whole, *(ByMethod(whole, product, method) for method in METHODS.get(port, ()))]


class _Renewed:
    """The oracle under a changed law, whose errors are those of the law as it was."""

    def __init__(self, whole: Implementation) -> None:
        self.name, self.layouts, self.whole = "renewed", whole.layouts, whole

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return self.whole.evaluate(operation, arguments)
        except Exception as error:
            code = getattr(error, "code", None)
            if code is None:
                raise
            raise RevRNNError(code, "", "", "") from error


def _renewed(given: Given) -> int:
    """Ask the oracle, imported once more on a law of which one file is changed."""
    _, file, source, _ = given
    changed = Changed(f"revrnn.{file}", source)
    for name in [name for name in sys.modules if name.partition(".")[0] == "revrnn"]:
        del sys.modules[name]
    try:
        sys.meta_path.insert(0, changed)
        whole: Implementation = import_module("revrnn.numpy_ref.evaluate").IMPLEMENTATION
    except Exception:
        return AT_ONCE
    return _asking("law").noticed([_Renewed(whole)], file)
