"""The handlers compiled and made known to XLA, and calls of them in JAX's terms.

A handler is compiled for a cell, with and without forgetting, when it is first needed. Under
``vmap`` it is called for one example after the other. A program that calls one belongs to this
process and to the CPU: whoever wants another gets an error that says what to do.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from revrnn.config import Config
from revrnn.errors import RevRNNError

from ...native.compiling import callback
from ...native.handlers import handler

# What XLA knows by name must live as long as the process; no name may be given twice.
_known: Final[dict[str, Any]] = {}
_lock: Final = Lock()


def target(kind: str, cell: str, forgetting: bool) -> str:
    """Return the name that XLA knows a handler by."""
    name = f"revrnn_{kind}_{cell}_{'forgetting' if forgetting else 'plain'}"
    with _lock:
        if name not in _known:
            made = callback(handler(kind, cell, forgetting))
            new = ctypes.pythonapi.PyCapsule_New
            new.restype, new.argtypes = (
                ctypes.py_object,
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
            )
            jax.ffi.register_ffi_target(name, new(made.address, None, None), platform="cpu")
            _known[name] = made
    return name


_here: Any = Primitive("revrnn_native")
"""Returns what it is given; refuses to be part of a program for elsewhere."""


def _lower(context: Any, value: Any) -> list[Any]:
    module = context.module_context
    exported = getattr(getattr(module, "lowering_parameters", None), "for_export", False)
    if exported or tuple(module.platforms) != ("cpu",):
        allowed = "set_engine('scan') before jax.export, and for other devices"
        raise RevRNNError("E_UNSUPPORTED", "engine", "'native'", allowed)
    return [value]


_here.def_impl(lambda value: value)
_here.def_abstract_eval(lambda value: value)
mlir.register_lowering(_here, _lower)
batching.primitive_batchers[_here] = lambda args, axes: (_here.bind(*args), axes[0])


def call(
    kind: str,
    config: Config,
    arguments: Sequence[Any],
    results: Sequence[Any],
    aliases: dict[int, int],
) -> list[jax.Array]:
    """Call a handler.

    Args:
        kind: ``"advance"``, ``"recover"`` or ``"pull"``.
        config: the stack.
        arguments: arrays.
        results: shapes and types, as pairs.
        aliases: which argument is changed in place to become which result.
    """
    name = target(kind, config.cell, config.forgetting)
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    called = jax.ffi.ffi_call(name, shapes, vmap_method="sequential", input_output_aliases=aliases)
    return list(called(_here.bind(arguments[0]), *arguments[1:]))
