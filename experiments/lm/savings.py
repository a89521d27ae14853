"""How much memory reversal saves with a trained model: bits forgotten, bits stored, bytes taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from ..runs import Arrays
from ..settings import LAYOUTS
from .corpus import Ids
from .settings import LmSettings
from .trainer import Trainer

# Segments that are averaged over.
SEGMENTS = 8
# The paper's length: what a segment costs whatever its length weighs less in a longer one.
PAPER_STEPS = 70


@dataclass(frozen=True)
class Saving:
    """The account of some segments of training text.

    Attributes:
        layout: of the buffer.
        steps: of a segment.
        rows: of the batch.
        ideal: plain bits / bits forgotten (ACC-002, ACC-004).
        stored: plain bits / bits stored (ACC-003).
    """

    layout: str
    steps: int
    rows: int
    ideal: float
    stored: float

    @property
    def of_ideal(self) -> float:
        """How near the stored saving comes to the ideal one."""
        return self.stored / self.ideal

    def as_dict(self) -> dict[str, float | str]:
        """Return everything, to log."""
        return {**asdict(self), "of_ideal": self.of_ideal}


def savings(
    settings: LmSettings, vocabulary: int, parameters: Arrays, ids: Ids, steps: int
) -> list[Saving]:
    """Return the savings of a trained reversible model in both layouts.

    The bits do not depend on the framework that trained, so PyTorch counts them. State and buffer
    are carried from segment to segment or not, as in training; dropout is as in training.

    Args:
        settings: of the run.
        vocabulary: number of words.
        parameters: as :meth:`Trainer.parameters` gives them.
        ids: streams of text, ``[N, B]``.
        steps: of a segment.
    """
    measured = []
    for layout in LAYOUTS:
        changed = replace(settings, buffer=layout, framework="torch", batch_size=ids.shape[1])
        trainer = Trainer(changed, np.zeros(vocabulary, np.float32))
        trainer.set_parameters(parameters)
        account = partial(trainer.model.gradients, report=True)
        ideal, stored, plain = 0.0, 0, 0
        for number in range(min(SEGMENTS, (len(ids) - 1) // steps)):
            part = ids[number * steps : (number + 1) * steps + 1]
            if not settings.carry_state:
                trainer.start_anew()
            segment = trainer.segment(part[:-1], part[1:], steps)
            at = settings.seed, number
            _, trained = trainer.training.gradients(account, trainer.state, segment, at)
            trainer.state = trained.end
            ideal += trained.report.ideal_bits
            stored += trained.report.stored_bits
            plain += trained.report.plain_bits
        if plain:
            measured.append(Saving(layout, steps, ids.shape[1], plain / ideal, plain / stored))
    return measured
