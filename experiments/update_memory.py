"""How much memory one update takes, measured in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from . import process_memory
from .processes import Processes
from .settings import TextSettings

BY_SYSTEM: Final = "Linux, resident memory"
BY_CUDA: Final = "CUDA's allocator"


@dataclass(frozen=True)
class Updates:
    """Two updates of a model.

    Attributes:
        short: makes the optimiser's state and whatever else a first update makes; few steps.
        whole: is measured.
    """

    short: Callable[[], object]
    whole: Callable[[], object]


@dataclass(frozen=True)
class Peak:
    """What one update takes above the model, its optimiser and the libraries.

    Attributes:
        bytes: at the peak.
        counted: who counted.
        sizes: of the batch: steps, rows.
    """

    bytes: int
    counted: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int | str]:
        """Return everything, to log."""
        return {"bytes": self.bytes, **self.sizes, "counted": self.counted}


def measure(
    make: Callable[..., Updates], sizes: Mapping[str, int], settings: TextSettings, *given: Any
) -> Peak | None:
    """Return the peak of one update, or ``None`` where none can tell.

    It runs in a process of its own, so that what this one has freed and kept does not show. Steps
    are not compiled, since compiling takes memory of its own.

    Args:
        make: makes a model with its first values; a function of a module.
        sizes: of the batch, to be told with the peak.
        settings: the first argument of ``make``.
        given: its others, which go from process to process.
    """
    plain = replace(settings, compiled=False)
    with Processes(1) as pool:
        measured = pool.submit(_measure, settings.framework, make, (plain, *given)).result()
    return None if measured is None else replace(measured, sizes=sizes)


def _measure(framework: str, make: Callable[..., Updates], given: tuple[Any, ...]) -> Peak | None:
    updates = make(*given)
    if framework == "torch":
        import torch

        updates.short()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            updates.whole()
            return Peak(torch.cuda.max_memory_allocated() - before, BY_CUDA)
    else:
        import jax

        if jax.default_backend() != "cpu":
            return None
        updates.whole()  # compiling takes memory of its own
    if not process_memory.forget_peak():
        return None
    before = process_memory.status("VmRSS")
    updates.whole()
    return Peak(process_memory.peak() - before, BY_SYSTEM)
