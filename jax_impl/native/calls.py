"""The handlers compiled and made known to XLA, and calls of them in JAX's terms.

A handler is compiled, for a cell with and without forgetting, when it is first needed. Under
``vmap`` it is called for one example after the other. A program that calls one belongs to a process
on whose CPU the same handlers are known (:mod:`revrnn.jax_impl.lowered`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final

import jax

from revrnn.config import Config

from ...native.compiling import SOURCES, callback
from ...native.handlers import handler, share
from ...native.products import KIND
from ...native.tiles import PANEL
from ..scans import vary_together

# Executables may outlive the process (JAX's persistent cache, serialised ones), where names alone
# say what they call: of other sources, or packed for other vectors, must not be found.
_KIND: Final = f"{KIND}_{PANEL}_{SOURCES[:16]}"
# What XLA knows by name must live as long as the process; no name may be given twice.
_known: Final[dict[str, Any]] = {}
_lock: Final = Lock()


def target(kind: str, compiled: Callable[[], Any]) -> str:
    """Return the name that XLA knows a handler by.

    Args:
        kind: which handler.
        compiled: compiles it, the first time.
    """
    name = f"revrnn_{kind}_{_KIND}"
    with _lock:
        if name not in _known:
            made = compiled()
            new = ctypes.pythonapi.PyCapsule_New
            new.restype, new.argtypes = (
                ctypes.py_object,
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
            )
            jax.ffi.register_ffi_target(name, new(made.address, None, None), platform="cpu")
            _known[name] = made
    return name


def target_of_chunk(kind: str, cell: str, forgetting: bool) -> str:
    """Return the name of a handler of chunks of steps: ``"advance"``, ``"recover"``, ``"pull"``."""

    def compiled() -> Any:
        share(kind, cell, forgetting)  # which the handler calls
        return callback(handler(kind, cell, forgetting))

    return target(f"{kind}_{cell}_{'forgetting' if forgetting else 'plain'}", compiled)


def call(
    kind: str,
    config: Config,
    arguments: Sequence[Any],
    results: Sequence[Any],
    aliases: dict[int, int],
) -> list[jax.Array]:
    """Call a handler of chunks of steps; its arguments are those of :func:`call_target`."""
    name = target_of_chunk(kind, config.cell, config.forgetting)
    return call_target(name, arguments, results, aliases)


def call_target(
    name: str, arguments: Sequence[Any], results: Sequence[Any], aliases: dict[int, int]
) -> list[jax.Array]:
    """Call a handler.

    Args:
        name: what XLA knows it by.
        arguments: arrays.
        results: shapes and types, as pairs.
        aliases: which argument is changed in place to become which result.
    """
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    called = jax.ffi.ffi_call(name, shapes, vmap_method="sequential", input_output_aliases=aliases)
    # To shard_map nothing that a handler gives varies between devices.
    made: list[jax.Array] = vary_together((list(called(*arguments)), arguments))[0]
    return made
