"""What is here runs in ``nox -s gpu``: Triton is not among the dependencies of the other tests."""

from __future__ import annotations

import os
from importlib.util import find_spec

# Interpreted and compiled kernels cannot be had in one process.
INTERPRETED = ["test_faults.py", "test_guards.py", "test_interpreter.py"]
COMPILED = ["test_compiled.py", "test_launches.py"]

collect_ignore = COMPILED if os.environ.get("TRITON_INTERPRET") == "1" else INTERPRETED
if find_spec("triton") is None:
    collect_ignore = [*COMPILED, *INTERPRETED]
