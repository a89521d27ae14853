"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

from revrnn.experiments import process_memory

from .batches import Batch
from .settings import NmtSettings
from .trainer import make_trainer


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

    It runs in a process of its own, so that what this one has freed and kept does not show. The
    model has its first values.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measure, settings, source_words, target_words, batch).result()


def _measure(
    settings: NmtSettings, source_words: int, target_words: int, batch: Batch
) -> Memory | None:
    trainer = make_trainer(settings, source_words, target_words)
    short = Batch(*(getattr(batch, name)[:2] for name in batch.__dataclass_fields__))
    if settings.framework == "torch":
        import torch

        if torch.cuda.is_available():
            trainer.step(short, 0, settings.learning_rate)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            trainer.step(batch, 1, settings.learning_rate)
            return _memory(torch.cuda.max_memory_allocated() - before, batch, "CUDA's allocator")
        first = short
    else:
        import jax

        if jax.default_backend() != "cpu":
            return None
        first = batch  # compiling takes memory of its own
    trainer.step(first, 0, settings.learning_rate)
    if not process_memory.forget_peak():
        return None
    before = process_memory.status("VmRSS")
    trainer.step(batch, 1, settings.learning_rate)
    return _memory(process_memory.peak() - before, batch, "Linux, resident memory")


def _memory(size: int, batch: Batch, counted: str) -> Memory:
    return Memory(size, len(batch.source), len(batch.targets), batch.source.shape[1], counted)
