"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from .. import update_memory
from ..update_memory import Updates
from .corpus import Ids
from .model import Floats
from .settings import LmSettings
from .trainer import Trainer


@dataclass(frozen=True)
class Memory:
    """What one update takes above the model, its optimiser and the libraries.

    Attributes:
        bytes: at the peak.
        steps: of the segment.
        rows: of the segment.
        counted: who counted.
    """

    bytes: int
    steps: int
    rows: int
    counted: str

    def as_dict(self) -> dict[str, int | str]:
        """Return everything, to log."""
        return asdict(self)


def measure(settings: LmSettings, log_frequencies: Floats, ids: Ids) -> Memory | None:
    """Return the memory of one update on the first segment of streams ``[N, B]``.

    ``None`` where none can tell. The model has its first values; steps are not compiled, since
    compiling takes memory of its own.
    """
    segment = ids[: settings.steps + 1]
    given = (replace(settings, compiled=False), log_frequencies, segment)
    peak = update_memory.measure(settings.framework, _updates, *given)
    if peak is None:
        return None
    return Memory(peak.bytes, len(segment) - 1, segment.shape[1], peak.counted)


def _updates(settings: LmSettings, log_frequencies: Floats, segment: Ids) -> Updates:
    trainer = Trainer(settings, log_frequencies)

    def update(ids: Ids, number: int) -> float:
        return trainer.step(ids[:-1], ids[1:], number, settings.learning_rate)

    return Updates(lambda: update(segment[:3], 0), lambda: update(segment, 1))
