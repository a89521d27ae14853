"""How much memory an update takes, as the operating system counts it."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from .batches import Batch
from .settings import NmtSettings
from .trainer import make_trainer

_STATUS = Path("/proc/self/status")


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
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    except OSError:
        return None
    before = _entry("VmRSS")
    trainer.step(batch, 1, settings.learning_rate)
    return _memory(_entry("VmHWM") - before, batch, "Linux, resident memory")


def _memory(size: int, batch: Batch, counted: str) -> Memory:
    return Memory(size, len(batch.source), len(batch.targets), batch.source.shape[1], counted)


def _entry(name: str) -> int:
    """Return an entry of this process's memory status, bytes."""
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024
