"""Translating a whole text with a trained model."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ..corpora import Vocabulary
from ..progress import bar
from .batches import evaluation_order, make_batch
from .corpus import Pair, as_text
from .search import beam, greedy
from .settings import NmtSettings
from .trainer import Trainer


def translate(
    trainer: Trainer,
    settings: NmtSettings,
    pairs: Sequence[Pair],
    vocabulary: Vocabulary,
    width: int,
    console: Console | None = None,
) -> list[str]:
    """Return the translations of the pairs' sources, words separated by spaces.

    Args:
        trainer: the model.
        settings: of the run.
        pairs: the text; targets are not looked at.
        vocabulary: of the language to translate to.
        width: of the beam; 1 is greedy search.
        console: where to show progress.
    """
    texts = [""] * len(pairs)
    order = evaluation_order(pairs, settings.batch_size)
    with bar(console) as progress:
        task = progress.add_task(
            "beam search" if width > 1 else "greedy search", total=len(order), note=""
        )
        for numbers in order:
            stepper, state = trainer.stepper(make_batch([pairs[i] for i in numbers]))
            longest, rows = settings.max_length, len(numbers)
            if width > 1:
                sentences = beam(stepper, state, rows, longest, width, settings.length_penalty)
            else:
                sentences = greedy(stepper, state, rows, longest)
            for number, words in zip(numbers, sentences, strict=True):
                texts[number] = as_text(vocabulary, words)
            progress.advance(task)
    return texts
