"""JAX's native engine behind the evaluation interface (EVAL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .engines import engine
from .evaluate import JaxImplementation


class NativeImplementation(JaxImplementation):
    """Sequences of the layout ``stream`` by compiled calls; the rest as the scan does it."""

    layouts = ("stream",)

    def evaluate(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one operation (EVAL-001)."""
        with engine("native"):
            return super().evaluate(operation, arguments)


IMPLEMENTATION = NativeImplementation()
