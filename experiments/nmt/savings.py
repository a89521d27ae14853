"""What reversal saves: bits forgotten and bits stored, of encoder and decoder apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ..runs import Arrays
from .batches import Batch
from .settings import NmtSettings
from .trainer import Trainer


@dataclass(frozen=True)
class Saving:
    """The account of one part of the model over some batches; padding counts nothing.

    Attributes:
        part: ``"encoder"`` or ``"decoder"``.
        layout: of the buffer.
        batches: how many were averaged over.
        plain_bits: bits of all states (ACC-004).
        ideal_bits: bits forgotten by units that are not sliced (ACC-002).
        stored_bits: bits stored: buffer, heads, slices (ACC-003).
        slice_bits: bits of the slices, which every layout stores.
        attended_bits: bits that are kept beside these because attention sees all states; 0 for
            slices, which are stored bits.
        embedding_bits: bits that are kept beside these because attention sees embeddings.
        bytes_kept: bytes of buffer and slices that were in fact held for the way back, padding
            included, heads not.
    """

    part: str
    layout: str
    batches: int
    plain_bits: int
    ideal_bits: float
    stored_bits: int
    slice_bits: int
    attended_bits: int
    embedding_bits: int
    bytes_kept: int

    @property
    def ideal(self) -> float | None:
        """Plain bits / bits forgotten (ACC-005); ``None`` if none were."""
        return self.plain_bits / self.ideal_bits if self.ideal_bits else None

    @property
    def ideal_with_slices(self) -> float | None:
        """Plain bits / bits forgotten and bits of slices: what no layout can exceed."""
        bits = self.ideal_bits + self.slice_bits
        return self.plain_bits / bits if bits else None

    @property
    def stored(self) -> float:
        """Plain bits / bits stored (ACC-005)."""
        return self.plain_bits / self.stored_bits

    @property
    def with_context(self) -> float:
        """Plain bits / bits stored and all that attention sees."""
        return self.plain_bits / (self.stored_bits + self.attended_bits + self.embedding_bits)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, to log."""
        names = ("ideal", "ideal_with_slices", "stored", "with_context")
        return asdict(self) | {name: getattr(self, name) for name in names}


def savings(
    settings: NmtSettings, parameters: Arrays, batches: Sequence[Batch], layout: str
) -> list[Saving]:
    """Return what encoder and decoder of a reversible model save in training.

    The bits do not depend on the framework that trained, so PyTorch counts them. Dropout is as in
    training, drawn from the run's seed.

    Args:
        settings: of the run.
        parameters: as :meth:`Trainer.parameters` gives them.
        batches: to average over.
        layout: of the buffer.
    """
    words = (len(parameters["source_embedding"]), len(parameters["target_embedding"]))
    trainer = Trainer(replace(settings, framework="torch", buffer=layout), *words)
    trainer.set_parameters(parameters)
    functions: dict[str, Any] = {
        "encoder": trainer.model.account_of_encoder,
        "decoder": partial(trainer.model.gradients, report=True),
    }
    reports: dict[str, list[Any]] = {"encoder": [], "decoder": []}
    source_steps, rows = 0, 0
    for number, batch in enumerate(batches):
        sentences, at = trainer.sentences(batch, 0), (settings.seed, number)
        for part, function in functions.items():
            _, trained = trainer.training.gradients(function, None, sentences, at)
            reports[part].append(trained.report)
        source_steps += int(batch.source_mask.sum())
        rows += batch.source.shape[1]
    return [_saving(settings, part, layout, r, source_steps, rows) for part, r in reports.items()]


def _saving(
    settings: NmtSettings, part: str, layout: str, reports: list[Any], source_steps: int, rows: int
) -> Saving:
    seen, words = settings.attended, 32 * source_steps
    encoder = part == "encoder"
    return Saving(
        part,
        layout,
        len(reports),
        plain_bits=sum(r.plain_bits for r in reports),
        ideal_bits=sum(r.ideal_bits for r in reports),
        stored_bits=sum(r.stored_bits for r in reports),
        # The first state's slices too (SEQ-007).
        slice_bits=32 * (seen.units or 0) * (source_steps + rows) if encoder else 0,
        attended_bits=words * settings.hidden_size if encoder and seen.units is None else 0,
        embedding_bits=words * settings.embedding_size if encoder and seen.embeddings else 0,
        bytes_kept=sum(r.bytes_kept for r in reports),
    )
