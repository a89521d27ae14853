"""The handlers compiled and made known to XLA, and calls of them in JAX's terms.

A handler is compiled for a cell, with and without forgetting, when it is first traced. Under
``vmap`` it is called for one example after the other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import jax

from revrnn.config import Config

from ...native.compiling import callback
from ...native.handlers import HANDLERS


@cache
def _target(kind: str, cell: str, forgetting: bool) -> tuple[str, Any]:
    """Return the name that XLA knows a handler by, and what must live as long as it is used."""
    made = callback(HANDLERS[kind, cell, forgetting])
    name = f"revrnn_{kind}_{cell}_{'forgetting' if forgetting else 'plain'}"
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    jax.ffi.register_ffi_target(name, new(made.address, None, None), platform="cpu")
    return name, made


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
    name, _ = _target(kind, config.cell, config.forgetting)
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    called = jax.ffi.ffi_call(name, shapes, vmap_method="sequential", input_output_aliases=aliases)
    return list(called(*arguments))
