"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from .. import update_memory
from ..update_memory import Updates
from .batches import Batch
from .settings import NmtSettings
from .trainer import Trainer


@dataclass(frozen=True)
class Memory:
    """What one update takes above the model, its optimiser and the libraries.

    Attributes:
        bytes: at the peak.
        source_steps: of the batch.
        target_steps: of the batch.
        rows: of the batch.
        counted: who counted.
    """

    bytes: int
    source_steps: int
    target_steps: int
    rows: int
    counted: str

    def as_dict(self) -> dict[str, int | str]:
        """Return everything, to log."""
        return asdict(self)


def measure(
    settings: NmtSettings, source_words: int, target_words: int, batch: Batch
) -> Memory | None:
    """Return the memory of one update on a batch, or ``None`` where none can tell.

    The model has its first values; steps are not compiled, since compiling takes memory of its own.
    """
    given = (replace(settings, compiled=False), source_words, target_words, batch)
    peak = update_memory.measure(settings.framework, _updates, *given)
    if peak is None:
        return None
    sizes = len(batch.source), len(batch.targets), batch.source.shape[1]
    return Memory(peak.bytes, *sizes, peak.counted)


def _updates(settings: NmtSettings, source_words: int, target_words: int, batch: Batch) -> Updates:
    trainer = Trainer(settings, source_words, target_words)
    short = Batch(*(getattr(batch, name)[:2] for name in batch.__dataclass_fields__))
    rate = settings.learning_rate
    return Updates(lambda: trainer.step(short, 0, rate), lambda: trainer.step(batch, 1, rate))
