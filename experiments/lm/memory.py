"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

from .. import update_memory
from ..update_memory import Peak, Updates
from .corpus import Ids
from .model import Floats
from .settings import LmSettings
from .trainer import Trainer


def measure(settings: LmSettings, log_frequencies: Floats, ids: Ids) -> Peak | None:
    """Return the memory of one update on the first segment of streams ``[N, B]``.

    ``None`` where none can tell. The model has its first values.
    """
    segment = ids[: settings.steps + 1]
    sizes = {"steps": len(segment) - 1, "rows": segment.shape[1]}
    return update_memory.measure(_updates, sizes, settings, log_frequencies, segment)


def _updates(settings: LmSettings, log_frequencies: Floats, segment: Ids) -> Updates:
    trainer = Trainer(settings, log_frequencies)

    def update(ids: Ids, number: int) -> float:
        return trainer.step(ids[:-1], ids[1:], number, settings.learning_rate)

    return Updates(lambda: update(segment[:3], 0), lambda: update(segment, 1))
