"""Asking mutants of implementations in Python, each in a process that its faults cannot harm.

A changed file is executed in its module, and so are the files that import from it. PyTorch's exact
product and its walk over a sequence are left out: their mutants are mostly of how work is cut into
chunks. JAX is left out: each of its mutants would be compiled anew for most of a minute.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from revrnn.comparison import differences
from revrnn.conformance.adapters import Question
from revrnn.conformance.checking import left_out
from revrnn.evaluation import Implementation, outcome

from .questions import Asked, operations_of, random_requests, vectors

# In the order in which they import one another.
FILES: Final = {
    "numpy": ("quantise", "product", "activations", "buffer", "revmul", "cells", "sequence"),
    "torch": ("quantise", "activations", "blocks", "buffer", "revmul", "cells"),
}
PACKAGES: Final = {"numpy": "revrnn.numpy_ref", "torch": "revrnn.torch_impl"}
PROFILES: Final = ("gates", "buffer", "cell", "sequence")
# Seconds after which a mutant that does not end is a noticed one.
LIMIT: Final = 60

# What asks a file most directly comes first.
_FIRST: Final = {
    "quantise": ("quantise", "dequantise", "round_shift", "view"),
    "product": ("product",),
    "activations": ("tanh", "sigmoid", "forget_gate"),
    "buffer": ("revmul", "revmul_inverse"),
    "revmul": ("revmul", "revmul_inverse"),
    "cells": ("cell_forward", "cell_reverse"),
}


def source_of(port: str, file: str) -> str:
    """Return the text of a port's file."""
    module = import_module(f"{PACKAGES[port]}.{file}")
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def check(port: str) -> None:
    """Load everything, and see that the port passes as it is.

    Raises:
        SystemExit: if it does not.
    """
    random_of = [random_requests(operation) for operation in operations_of(PROFILES)]
    assert all(random_of)
    file = FILES[port][0]
    if _asked_here(port, file, source_of(port, file)):
        raise SystemExit(f"{port} gives a wrong answer as it is")


def verdict(given: tuple[str, str, str]) -> str:
    """Return what notices a mutant: ``vectors``, ``random`` or ``""``; a fault counts as noticed.

    Args:
        given: the port, the file, and its changed text.
    """
    port, file, source = given
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(LIMIT, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
        os._exit({"": 7, "random": 8}.get(_asked_here(port, file, source), 0))
    _, status = os.waitpid(child, 0)
    return {7: "", 8: "random"}.get(os.waitstatus_to_exitcode(status), "vectors")


def _asked_here(port: str, file: str, source: str) -> str:
    try:
        implementation = _place(port, file, source)
    except Exception:
        return "vectors"
    first = _FIRST.get(file, ())
    order = sorted(operations_of(PROFILES), key=lambda operation: operation not in first)
    for kind, asked_of in (("vectors", vectors), ("random", random_requests)):
        for operation in order:
            if any(_is_wrong(implementation, asked) for asked in asked_of(operation)):
                return kind
    return ""


def _is_wrong(implementation: Implementation, asked: Asked) -> bool:
    try:
        answer = outcome(implementation, asked.operation, asked.args)
        question = Question(asked.operation, asked.args)
        return not left_out(question, answer) and bool(differences(asked.expected, answer))
    except Exception:
        return True


def _place(port: str, file: str, source: str) -> Implementation:
    """Execute a file's text in its module, and again whatever imports from it."""
    package = PACKAGES[port]
    loaded = {name: import_module(f"{package}.{name}") for name in FILES[port]}
    evaluate: Any = import_module(f"{package}.evaluate")
    changed = loaded[file]
    _execute(changed, source)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{package}.") and module is not changed and _imports(module, file):
            _execute(module, Path(str(module.__file__)).read_text(encoding="utf-8"))
    _execute(evaluate, Path(str(evaluate.__file__)).read_text(encoding="utf-8"))
    implementation: Implementation = evaluate.IMPLEMENTATION
    return implementation


def _execute(module: ModuleType, source: str) -> None:
    exec(compile(source, str(module.__file__), "exec"), module.__dict__)


def _imports(module: ModuleType, file: str) -> bool:
    source = getattr(module, "__file__", None)
    if not source:
        return False
    return f"from .{file} import" in Path(source).read_text(encoding="utf-8")
