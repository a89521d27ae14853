"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

from .. import update_memory
from ..update_memory import Peak, Updates
from .batches import Batch
from .settings import NmtSettings
from .trainer import Trainer


def measure(
    settings: NmtSettings, source_words: int, target_words: int, batch: Batch
) -> Peak | None:
    """Return the memory of one update on a batch, or ``None`` where none can tell.

    The model has its first values.
    """
    sizes = {"source_steps": len(batch.source), "target_steps": len(batch.targets)}
    sizes["rows"] = batch.source.shape[1]
    return update_memory.measure(_updates, sizes, settings, source_words, target_words, batch)


def _updates(settings: NmtSettings, source_words: int, target_words: int, batch: Batch) -> Updates:
    trainer = Trainer(settings, source_words, target_words)
    short = Batch(*(getattr(batch, name)[:2] for name in batch.__dataclass_fields__))
    rate = settings.learning_rate
    return Updates(lambda: trainer.step(short, 0, rate), lambda: trainer.step(batch, 1, rate))
