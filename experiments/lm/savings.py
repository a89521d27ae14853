"""How much memory reversal saves with a trained model: bits forgotten, bits stored, bytes taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from revrnn.experiments.runs import Arrays
from revrnn.experiments.settings import LAYOUTS
from revrnn.experiments.torch_training import set_parameters
from revrnn.torch_impl import value_and_grad

from .corpus import Ids
from .settings import LmSettings
from .torch_model import TorchModel

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
    found = []
    for layout in LAYOUTS:
        changed = {**asdict(settings), "buffer": layout, "framework": "torch"}
        model = TorchModel(LmSettings(**changed), vocabulary)
        set_parameters(model, parameters)
        torch.manual_seed(settings.seed)
        state = model.initial_state(ids.shape[1])
        ideal, stored, plain = 0.0, 0, 0
        for number in range(min(SEGMENTS, (len(ids) - 1) // steps)):
            part = torch.from_numpy(ids[number * steps : (number + 1) * steps + 1]).long()
            if not settings.carry_state:
                state = model.initial_state(ids.shape[1])
            model.draw_words()
            step = value_and_grad(
                model.rnn,
                part[:-1],
                part[1:],
                model.read,
                embed=model.embed,
                state=state,
                report=True,
            )
            model.zero_grad()
            assert step.report is not None
            state = step.state
            ideal += step.report.ideal_bits
            stored += step.report.stored_bits
            plain += step.report.plain_bits
        if plain:
            found.append(Saving(layout, steps, ids.shape[1], plain / ideal, plain / stored))
    return found
