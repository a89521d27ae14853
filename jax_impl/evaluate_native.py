"""JAX's native engine behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from revrnn.config import Config

from .engines import engine
from .evaluate import JaxImplementation


class NativeImplementation(JaxImplementation):
    """Sequences of the layout ``stream`` by compiled calls; the rest as the scan does it."""

    name = "jax-native"
    # The engine is chosen for the process, not for a thread.
    threads = 1

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one operation (EVAL-001)."""
        config = arguments.get("config")
        fields = config.as_dict() if isinstance(config, Config) else config
        other = isinstance(fields, Mapping) and fields.get("buffer", "stream") != "stream"
        with engine("scan" if other else "native"):
            return super().evaluate(operation, arguments)


IMPLEMENTATION = NativeImplementation()
