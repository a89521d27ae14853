"""A process that was forked from one in which JAX had begun.

A child process has none of its parent's threads, and what JAX compiles or computes waits for XLA's
without end.
"""

from __future__ import annotations

import os
import sys

from revrnn.errors import RevRNNError

# Whether XLA's threads were there when this process forked last, and whether they were in one that
# it comes from.
_begun = False
_inherited = False


def _note() -> None:
    global _begun
    bridge = sys.modules.get("jax._src.xla_bridge")  # jax itself has no name for it
    _begun = getattr(bridge, "backends_are_initialized", bool)()


def _remember() -> None:
    global _inherited
    _inherited = _inherited or _begun


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note, after_in_child=_remember)


def check_process() -> None:
    """Raise ``E_UNSUPPORTED`` where JAX would wait for threads that did not come along."""
    if _inherited:
        given = "one that was forked after JAX had begun, whose threads it would wait for"
        allowed = "one that is started by 'spawn' or 'forkserver', or forked before"
        raise RevRNNError("E_UNSUPPORTED", "process", given, allowed)
