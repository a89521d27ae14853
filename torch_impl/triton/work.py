"""The Triton engine's work: a stack ready for passes over pieces of one sequence."""

from __future__ import annotations

from ..engine import Store
from ..state import State
from .passes import TritonPass
from .places import Prepared


class TritonWork(Prepared):
    """Weights in fixed point, and the start of passes."""

    def start(
        self, state: State, *, keep: bool, count: bool, store: Store | None = None
    ) -> TritonPass:
        """Return a pass that starts at a state."""
        return TritonPass(self, state, keep, store)
